#include "backend/cuda/cuda_yardstick.h"

#include "backend/cuda/batch_stages.h"
#include "base/f16.h"
#include "base/rng.h"

enum {
    ALIGNMENT = 256,
    RING_BYTES_LEAST = 512 << 20, // ten times the L2 cache of an H200
    SPARE_BYTES = 512 << 20,      // is left to the driver and the library's kernels
    RANDOM_HALVES = 1 << 22,
    TRIES = 5, // of each way, of which the best counts
};

ProductShape yardstick_shape(const BatchStage *s) {
    ProductShape shape = {0, 0};
    for (uint32_t i = 0; i < STAGE_OPS_MAX; i++) {
        const Op *op = batch_op_read(s, i);
        if (op && op->kind == OP_EXPERT_MATMUL) return (ProductShape){0, 0};
        if (!op || (op->kind != OP_MATMUL && op->kind != OP_HEAD)) continue;
        if (shape.n_out && shape.n_in != op->weight->n_cols) return (ProductShape){0, 0};
        shape.n_in = (uint32_t)op->weight->n_cols;
        shape.n_out += (uint32_t)op->weight->n_rows;
    }
    return shape;
}

// ---- memory ----

static uint64_t weight_bytes(ProductShape s) {
    return align_up((uint64_t)s.n_in * s.n_out * sizeof(uint16_t), ALIGNMENT);
}

static uint32_t y_stride_of(ProductShape s) {
    return (uint32_t)align_up(s.n_out, 16);
}

// Random halves of [-1, 1) all over it.
static bool fill(CudaBackend *b, CUdeviceptr to, uint64_t bytes, Arena scratch, Error *err) {
    uint64_t piece = RANDOM_HALVES * sizeof(uint16_t);
    uint16_t *halves = arena_new(&scratch, uint16_t, RANDOM_HALVES);
    if (!halves) return error_set(err, ERR_NO_MEMORY, "the yardstick's values do not fit their memory");
    for (uint32_t i = 0; i < RANDOM_HALVES; i++) {
        uint32_t bits = rng_philox(1, i / 8).word[i / 2 % 4] >> i % 2 * 16 & 0xFFFF;
        halves[i] = f16_from_f32((float)bits * 0x1p-15f - 1);
    }
    CUresult r = b->cuda.copy_to_device(to, halves, min_u64(piece, bytes), b->stream);
    for (uint64_t at = piece; at < bytes && r == CUDA_SUCCESS; at += piece)
        r = b->cuda.copy_on_device(to + at, to, min_u64(piece, bytes - at), b->stream);
    if (r == CUDA_SUCCESS) r = b->cuda.stream_synchronize(b->stream);
    return cuda_ok(&b->cuda, r, "filling the yardstick's memory", err);
}

bool yardstick_open(CudaBackend *b, const ProductShape *shapes, uint32_t n, uint32_t n_rows, Arena *arena,
                    Yardstick *out, Error *err) {
    uint64_t x_bytes = 0, y_bytes = 0, largest = 0, available = 0;
    *out = (Yardstick){.b = b};
    for (uint32_t i = 0; i < n; i++) {
        if (shapes[i].n_out == 0) continue;
        x_bytes = max_u64(x_bytes, align_up((uint64_t)n_rows * shapes[i].n_in * sizeof(uint16_t), ALIGNMENT));
        y_bytes = max_u64(y_bytes, align_up(n_rows * sizeof(float) * y_stride_of(shapes[i]), ALIGNMENT));
        largest = max_u64(largest, weight_bytes(shapes[i]));
    }
    if (!product_library || largest == 0) return true;
    size_t left = 0, total = 0;
    if (!cuda_ok(&b->cuda, b->cuda.memory_info(&left, &total), "asking for free memory", err)) return false;
    available = left > SPARE_BYTES ? left - SPARE_BYTES : 0;
    out->ring_bytes = max_u64(2 * largest, RING_BYTES_LEAST);
    uint64_t bytes = LIBRARY_WORKSPACE_BYTES + x_bytes + y_bytes + out->ring_bytes;
    if (bytes > available || b->cuda.memory_allocate(&out->memory, bytes) != CUDA_SUCCESS) return true;
    out->workspace = out->memory;
    out->x = out->workspace + LIBRARY_WORKSPACE_BYTES;
    out->y = out->x + x_bytes;
    out->ring = out->y + y_bytes;
    return fill(b, out->x, x_bytes, *arena, err) && fill(b, out->ring, out->ring_bytes, *arena, err) &&
           product_library->open(arena, out->workspace, LIBRARY_WORKSPACE_BYTES, &out->handle, err);
}

void yardstick_close(Yardstick *y) {
    if (y->handle) product_library->close(y->handle);
    if (y->memory) y->b->cuda.memory_free(y->memory);
    *y = (Yardstick){0};
}

// ---- products ----

// A product of the step, and the way that it goes.
typedef struct {
    LibraryProduct product;
    LibraryHandle *handle;
    uint32_t proposal;
} TimedProduct;

static bool run_product(const void *context, CUstream stream, Error *err) {
    const TimedProduct *t = context;
    return product_library->multiply(t->handle, &t->product, t->proposal, stream, err);
}

// Time of a product in one way, with other weights each time, in milliseconds. The first run loads its
// kernels.
static bool try_proposal(Yardstick *y, Stopwatch *w, const TimedProduct *t, float *best, Error *err) {
    const Cuda *cuda = &y->b->cuda;
    CUstream stream = y->b->stream;
    *best = 0;
    if (!run_product(t, stream, err)) return false;
    for (uint32_t i = 0; i < TRIES; i++) {
        float ms = 0;
        CUresult r = cuda->event_record(w->begin, stream);
        if (!cuda_ok(cuda, r, "measuring a product", err) || !run_product(t, stream, err)) return false;
        r = cuda->event_record(w->end, stream);
        if (r == CUDA_SUCCESS) r = cuda->event_synchronize(w->end);
        if (r == CUDA_SUCCESS) r = cuda->event_elapsed(&ms, w->begin, w->end);
        if (!cuda_ok(cuda, r, "measuring a product", err)) return false;
        if (i == 0 || ms < *best) *best = ms;
    }
    return true;
}

// The fastest way. One that the library does not take after all is left out.
static bool choose_proposal(Yardstick *y, Stopwatch *w, TimedProduct *t, Error *err) {
    uint32_t n, chosen = UINT32_MAX;
    float least = 0;
    if (!product_library->proposals(y->handle, &t->product, &n, err)) return false;
    for (t->proposal = 0; t->proposal < n; t->proposal++) {
        float ms;
        bool ok = try_proposal(y, w, t, &ms, err);
        if (!ok || (chosen != UINT32_MAX && ms >= least)) continue;
        chosen = t->proposal;
        least = ms;
    }
    t->proposal = chosen;
    return chosen != UINT32_MAX;
}

// Products of a step, their weights one behind the other in the ring.
static bool make_products(Yardstick *y, Stopwatch *w, const ProductShape *shapes, uint32_t n, uint32_t n_rows,
                          TimedProduct *out, Error *err) {
    uint64_t at = 0;
    for (uint32_t i = 0; i < n; i++) {
        ProductShape s = shapes[i];
        if (at + weight_bytes(s) > y->ring_bytes) at = 0;
        out[i] = (TimedProduct){.handle = y->handle,
                                .product = {.w = y->ring + at,
                                            .x = y->x,
                                            .y = y->y,
                                            .n_rows = n_rows,
                                            .n_in = s.n_in,
                                            .n_out = s.n_out,
                                            .y_stride = y_stride_of(s)}};
        at += weight_bytes(s);
        uint32_t same = 0;
        while (shapes[same].n_in != s.n_in || shapes[same].n_out != s.n_out)
            same++;
        if (same < i) out[i].proposal = out[same].proposal;
        else if (!choose_proposal(y, w, &out[i], err)) return false;
    }
    return true;
}

bool yardstick_graph(Yardstick *y, Stopwatch *w, const ProductShape *shapes, uint32_t n, uint32_t n_rows,
                     Arena scratch, CUgraphExec *out, Error *err) {
    *out = NULL;
    if (!y->handle) return true;
    TimedProduct *products = arena_new(&scratch, TimedProduct, n);
    Launch *launches = arena_new(&scratch, Launch, n);
    if (!products || !launches)
        return error_set(err, ERR_NO_MEMORY, "the yardstick's products do not fit their memory");
    if (!make_products(y, w, shapes, n, n_rows, products, err)) return false;
    for (uint32_t i = 0; i < n; i++)
        launches[i] = (Launch){.ahead = run_product, .context = &products[i]};
    return graph_make(&y->b->cuda, launches, n, false, y->b->stream, out, err);
}

bool yardstick_time(Yardstick *y, Stopwatch *w, CUgraphExec before, const ProductShape *shapes, uint32_t n,
                    uint32_t n_rows, Arena scratch, double *out, Error *err) {
    CUgraphExec graph;
    *out = 0;
    if (!yardstick_graph(y, w, shapes, n, n_rows, scratch, &graph, err)) return false;
    if (!graph) return true;
    bool ok = stopwatch_time(w, before, graph, out, err);
    y->b->cuda.graph_exec_destroy(graph);
    *out /= n;
    return ok;
}
