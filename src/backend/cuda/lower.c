#include "backend/cuda/lower_internal.h"

// ---- targets ----

LowerTarget lower_target_of_device(const CudaDevice *d) {
    return (LowerTarget){.sm = d->sm,
                         .multiprocessors = d->multiprocessors,
                         .shared_bytes_block = d->shared_bytes_block,
                         .shared_bytes_multiprocessor = d->shared_bytes_multiprocessor};
}

LowerTarget lower_target_of_sm(uint32_t sm) {
    static const LowerTarget usual[] = {
        {75, 40, 64 << 10, 64 << 10},    // T4
        {80, 108, 163 << 10, 164 << 10}, // A100
        {86, 84, 99 << 10, 100 << 10},   // A40
        {89, 142, 99 << 10, 100 << 10},  // L40
        {90, 132, 227 << 10, 228 << 10}, // H100
    };
    for (size_t i = 1; i < COUNT_OF(usual); i++) {
        if (usual[i].sm > sm) return usual[i - 1];
    }
    return usual[COUNT_OF(usual) - 1];
}

// ---- what the kernels take ----

bool lower_refuse_weight(Error *err, const Weight *w, const char *why) {
    return error_set(err, ERR_UNSUPPORTED, "tensor \"%.*s\" [%llu, %llu] %s cannot be run on the GPU yet: %s",
                     STR_ARG(w->name), (unsigned long long)w->n_rows, (unsigned long long)w->n_cols,
                     dtype_info(w->dtype)->name, why);
}

// ---- defines ----

void define_norm(StrBuf *b, const Op *norm) {
    define_float(b, "NORM_EPS", norm->kind == OP_COPY ? 0 : norm->norm.eps);
    if (norm->kind == OP_COPY) define(b, "NORM_NONE", 1);
    if (norm->kind == OP_LAYER_NORM) define(b, "LAYER_NORM", 1);
}

void define_heads(StrBuf *b, const Op *attention) {
    define(b, "N_HEADS", attention->attention.n_heads);
    define(b, "HEAD_DIM", attention->attention.key_dim);
}

void define_cap(StrBuf *b, float cap) {
    if (cap > 0) define_float(b, "SOFT_CAP", cap);
}

void define_activation(StrBuf *b, ActFn fn) {
    static const char *const names[] = {[FN_SILU] = "SILU",         [FN_GELU_TANH] = "GELU_TANH",
                                        [FN_GELU_ERF] = "GELU_ERF", [FN_SWIGLU_CLAMPED] = "SWIGLU_CLAMPED",
                                        [FN_SIGMOID] = "SIGMOID",   [FN_RELU_SQUARED] = "RELU_SQUARED",
                                        [FN_IDENTITY] = "IDENTITY"};
    strbuf_printf(b, "#define ACTIVATION ACTIVATION_%s\n", names[fn]);
}
