#include "backend/cuda/placement.h"

#include "../kernels_src/layout.h"

#define FORMAT_IS_DTYPE(name) \
    static_assert((int)FORMAT_##name == (int)DTYPE_##name, "layout.h numbers formats as dtype.h does")
FORMAT_IS_DTYPE(F32);
FORMAT_IS_DTYPE(F16);
FORMAT_IS_DTYPE(BF16);
FORMAT_IS_DTYPE(Q4_0);
FORMAT_IS_DTYPE(Q4_1);
FORMAT_IS_DTYPE(Q5_0);
FORMAT_IS_DTYPE(Q5_1);
FORMAT_IS_DTYPE(Q8_0);
FORMAT_IS_DTYPE(Q2_K);
FORMAT_IS_DTYPE(Q3_K);
FORMAT_IS_DTYPE(Q4_K);
FORMAT_IS_DTYPE(Q5_K);
FORMAT_IS_DTYPE(Q6_K);
FORMAT_IS_DTYPE(IQ4_NL);
FORMAT_IS_DTYPE(IQ4_XS);
FORMAT_IS_DTYPE(MXFP4);
FORMAT_IS_DTYPE(NVFP4);
FORMAT_IS_DTYPE(TQ1_0);
FORMAT_IS_DTYPE(TQ2_0);
FORMAT_IS_DTYPE(Q1_0);
FORMAT_IS_DTYPE(Q2_0);
FORMAT_IS_DTYPE(IQ1_S);
FORMAT_IS_DTYPE(IQ1_M);
FORMAT_IS_DTYPE(IQ2_XXS);
FORMAT_IS_DTYPE(IQ2_XS);
FORMAT_IS_DTYPE(IQ2_S);
FORMAT_IS_DTYPE(IQ3_XXS);
FORMAT_IS_DTYPE(IQ3_S);
static_assert((int)FORMAT_IQ3_S + 1 == (int)DTYPE_COUNT, "every format has a layout");
static_assert((int)KV_PAGE == (int)KV_PAGE_TOKENS, "layout.h has the engine's pages");

static void mark(Placement *p, const Weight *weight, PlacedAs as) {
    if (weight) p->weights[weight - p->plan->weights].as = as;
}

static bool mark_rope(Placement *p, const Rope *rope) {
    for (uint32_t i = 0; i < p->n_ropes; i++) {
        if (p->ropes[i] == rope) return true;
    }
    if (p->n_ropes == PLACED_ROPES_MAX) return false;
    p->ropes[p->n_ropes++] = rope;
    return true;
}

static bool mark_used(Placement *p) {
    bool ok = true;
    for (uint32_t i = 0; i < p->plan->n_ops; i++) {
        const Op *op = &p->plan->ops[i];
        bool is_matrix = op->kind == OP_MATMUL || op->kind == OP_HEAD || op->kind == OP_EMBED ||
                         op->kind == OP_EXPERT_MATMUL || op->kind == OP_HEAD_MATMUL;
        mark(p, op->weight, is_matrix && !placement_reads_floats(op) ? PLACED_MATRIX : PLACED_VECTOR);
        mark(p, op->bias, PLACED_VECTOR);
        if (op->kind == OP_ROPE) ok = mark_rope(p, op->rope.rope) && ok;
    }
    return ok;
}

static uint64_t matrix_bytes(const Weight *w) {
    return layout_matrix_bytes((int)w->dtype, (unsigned)w->n_rows, (unsigned)w->n_cols);
}

static void place(PlacedWeight *w, uint64_t size, uint64_t *at) {
    w->offset = *at;
    w->size = size;
    *at += align_up(size, DEVICE_ALIGNMENT);
}

bool placement_make(const Plan *plan, Arena *arena, Placement *out, Error *err) {
    *out = (Placement){.plan = plan, .weights = arena_new(arena, PlacedWeight, plan->n_weights)};
    if (!out->weights) return error_set(err, ERR_NO_MEMORY, "the table of weights does not fit its memory");
    if (!mark_used(out)) {
        return error_set(err, ERR_UNSUPPORTED, "the model has more than %d different rotary embeddings",
                         PLACED_ROPES_MAX);
    }
    uint64_t at = 0;
    for (uint32_t i = 0; i < plan->n_weights; i++) {
        const Weight *w = &plan->weights[i];
        if (out->weights[i].as != PLACED_MATRIX) continue;
        place(&out->weights[i], matrix_bytes(w) * w->n_matrices, &at);
    }
    out->vectors_offset = at;
    for (uint32_t i = 0; i < plan->n_weights; i++) {
        if (out->weights[i].as != PLACED_VECTOR) continue;
        place(&out->weights[i], plan->weights[i].n_rows * plan->weights[i].n_cols * sizeof(float), &at);
    }
    for (uint32_t i = 0; i < out->n_ropes; i++) {
        out->rope_offsets[i] = at;
        at += align_up(out->ropes[i]->dims / 2 * sizeof(float), DEVICE_ALIGNMENT);
    }
    out->vectors_size = at - out->vectors_offset;
    out->size = at;
    return true;
}
