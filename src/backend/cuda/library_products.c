#include "backend/cuda/library_products.h"

#include "../kernels_src/library_args.h"
#include "backend/cuda/batch_lower_internal.h"

// ---- memory ----

void library_lay_out(CudaBackend *b, DeviceLayout *l, BatchBuffers *s) {
    const BatchLowered *lowered = &b->batches->lowered;
    uint64_t rows = lowered->classes[BATCH_CLASS_PROMPT].size.max_rows;
    if (!b->options.products) return;
    s->plain = device_layout_take(l, rows * lowered->given_in * sizeof(uint16_t));
    s->given = device_layout_take(l, rows * lowered->given_cols * sizeof(float));
    s->dequantised = device_layout_take(l, min_u64(lowered->given_bytes, LIBRARY_PIECE_BYTES));
    s->workspace = device_layout_take(l, LIBRARY_WORKSPACE_BYTES);
}

// ---- kernels ----

static bool make_program(StrBuf *b, const char *name, const char *const *files, Arena *arena, JitProgram *out,
                         Error *err) {
    bool truncated = b->truncated;
    *out = (JitProgram){
        .name = name, .files = files, .defines = strbuf_end_in_arena(b, arena), .cost = COST_USUAL};
    return !truncated || error_set(err, ERR_NO_MEMORY, "the kernels' defines do not fit their memory");
}

bool library_programs(const LowerTarget *target, uint32_t max_rows, const Dtype *formats, uint32_t n_formats,
                      Arena *arena, JitProgram out[LIBRARY_PROGRAMS_MAX], Error *err) {
    static const char *const tiles[] = {FILES_COMMON, "library_args.h", FILES_TILES, "dequantise.cuh", NULL};
    static const char *const rows[] = {FILES_COMMON, "library_args.h", "rows.cuh", "plain_rows.cuh", NULL};
    uint32_t n_blocks = 8 * target->multiprocessors; // of 8 warps: as many as there is room for
    for (uint32_t i = 0; i <= n_formats; i++) {
        StrBuf text = strbuf_begin_in_arena(arena);
        define(&text, "BLOCKS", n_blocks);
        if (i < n_formats) strbuf_printf(&text, "#define FORMAT FORMAT_%s\n", dtype_info(formats[i])->name);
        else define(&text, "MAX_ROWS", max_rows);
        bool ok = i < n_formats ? make_program(&text, "dequantise", tiles, arena, &out[i], err)
                                : make_program(&text, "plain_rows", rows, arena, &out[i], err);
        if (!ok) return false;
    }
    return true;
}

bool library_load(CudaBackend *b, Jit *jit, uint32_t first, const Dtype *formats, uint32_t n_formats,
                  Error *err) {
    if (!b->options.products) return true;
    LibraryProducts *p = b->batches->library = arena_new(b->arena, LibraryProducts, 1);
    if (!p) return error_set(err, ERR_NO_MEMORY, "the library's kernels do not fit their memory");
    for (uint32_t i = 0; i <= n_formats; i++) {
        JitImage image;
        Kernel *kernel = i < n_formats ? &p->dequantise[formats[i]] : &p->plain_rows;
        const char *name = i < n_formats ? "dequantise" : "plain_rows";
        if (!jit_wait(jit, first + i, &image, err) ||
            !kernel_load(&b->cuda, &b->device, name, &image, b->stream, kernel, err))
            return false;
    }
    CUdeviceptr workspace = b->batches->classes[BATCH_CLASS_PROMPT].buffers.workspace;
    return b->options.products->open(b->arena, workspace, LIBRARY_WORKSPACE_BYTES, &p->handle, err);
}

void library_unload(CudaBackend *b) {
    LibraryProducts *p = b->batches->library;
    if (!p) return;
    if (p->handle) b->options.products->close(p->handle);
    for (uint32_t i = 0; i < DTYPE_COUNT; i++)
        kernel_unload(&b->cuda, &p->dequantise[i]);
    kernel_unload(&b->cuda, &p->plain_rows);
    b->batches->library = NULL;
}

// ---- a stage ----

// The operation whose matrix is at an address that the stage's kernel is given.
static const Op *op_of_matrix(const GivenProduct *g, CUdeviceptr address) {
    for (uint32_t i = 0; i < STAGE_OPS_MAX; i++) {
        const Op *op = g->stage->ops[i];
        if (op && op->kind == OP_MATMUL && batch_weight_of(g->buffers, op) == address) return op;
    }
    return NULL;
}

static bool launch(const GivenProduct *g, const Kernel *kernel, void *args, CUstream stream, Error *err) {
    return kernel_launch(&g->b->cuda, &(Launch){.kernel = kernel, .args = args}, false, stream, err);
}

// y: where a row's products by this matrix begin, y_stride apart.
static bool multiply_matrix(const GivenProduct *g, const Op *op, CUdeviceptr y, uint32_t y_stride,
                            CUstream stream, Error *err) {
    const LibraryProducts *p = g->b->batches->library;
    uint32_t n_in = (uint32_t)op->weight->n_cols, n_out = op->out_width;
    uint64_t fit = min_u64(g->b->batches->lowered.given_bytes, LIBRARY_PIECE_BYTES) / sizeof(uint16_t) / n_in;
    uint32_t piece = (uint32_t)(fit / QUAD_ROWS * QUAD_ROWS);
    for (uint32_t at = 0, n; at < n_out; at += n) {
        n = (uint32_t)min_u64(n_out - at, piece);
        DequantiseArgs args = {.matrix = batch_weight_of(g->buffers, op),
                               .out = g->buffers->dequantised,
                               .n_rows = n_out,
                               .n_cols = n_in,
                               .first_row = at,
                               .piece_rows = n};
        LibraryProduct product = {.w = g->buffers->dequantised,
                                  .x = g->buffers->plain,
                                  .y = y + at * sizeof(float),
                                  .n_rows = g->b->batches->n_pass_rows,
                                  .n_in = n_in,
                                  .n_out = n,
                                  .y_stride = y_stride};
        if (!launch(g, &p->dequantise[op->weight->dtype], &args, stream, err) ||
            !g->b->options.products->multiply(p->handle, &product, 0, stream, err))
            return false;
    }
    return true;
}

bool library_run(const void *context, CUstream stream, Error *err) {
    const GivenProduct *g = context;
    StageArgs args;
    const Op *ops[COUNT_OF(args.product.weight)];
    uint32_t n = 0, y_stride = 0;
    batch_bind(g->stage, g->buffers, &args);
    for (uint32_t i = 0; i < COUNT_OF(ops) && args.product.weight[i]; i++) {
        ops[n] = op_of_matrix(g, args.product.weight[i]);
        if (!ops[n]) return error_set(err, ERR_INTERNAL, "a matrix of no operation");
        y_stride += (uint32_t)align_up(ops[n++]->out_width, BAND_ROWS);
    }
    PlainRowsArgs rows = {.batch = g->buffers->batch,
                          .in = args.product.in,
                          .out = g->buffers->plain,
                          .n_cols = (uint32_t)ops[0]->weight->n_cols};
    if (!launch(g, &g->b->batches->library->plain_rows, &rows, stream, err)) return false;
    CUdeviceptr y = g->buffers->given;
    for (uint32_t i = 0; i < n; i++) {
        if (!multiply_matrix(g, ops[i], y, y_stride, stream, err)) return false;
        y += align_up(ops[i]->out_width, BAND_ROWS) * sizeof(float);
    }
    return true;
}
