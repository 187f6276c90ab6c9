// Looking into a prompt's rows: the values that each stage of prefill left, row by row, as the CPU reference
// has them.
#include "backend/cuda/cuda_internal.h"

#include "../kernels_src/layout.h"
#include "base/f16.h"

#include <math.h>

// What the kernels divide a gate's outputs by (prefill_tiles.cuh).
static const float GLU_DIVISOR = 16;

typedef struct {
    CudaBackend *b;
    const StepSequence *q;
    Arena scratch; // as it is when a stage begins
} Chunk;

void cuda_backend_observe_prompts(Backend *backend, CudaObserver *observer, void *context) {
    cuda_self(backend)->prompt_observer = observer;
    cuda_self(backend)->prompt_observer_context = context;
}

// Returns whether the observer wants any of the rows' values written back.
static bool show_rows(const Chunk *chunk, const Op *op, float *values, uint32_t width) {
    CudaBackend *b = chunk->b;
    bool changed = false;
    for (uint32_t row = 0; row < chunk->q->n_rows; row++) {
        changed |= b->prompt_observer(b->prompt_observer_context, (uint32_t)(op - b->plan->ops),
                                      chunk->q->position + row, values + (uint64_t)row * width, width);
    }
    return changed;
}

static bool show_stream(const Chunk *chunk, const Op *op, Error *err) {
    CudaBackend *b = chunk->b;
    Arena scratch = chunk->scratch;
    uint32_t width = b->plan->config.d_model;
    size_t size = (size_t)chunk->q->n_rows * width * sizeof(float);
    float *values = cuda_fetch(b, b->buffers.rows_x, size, &scratch, err);
    if (!values || !show_rows(chunk, op, values, width)) return values != NULL;
    CUresult r = b->cuda.copy_to_device(b->buffers.rows_x, values, size, b->stream);
    if (r == CUDA_SUCCESS) r = b->cuda.stream_synchronize(b->stream);
    return cuda_ok(&b->cuda, r, "changing a stage's values", err);
}

// Index of a value in an activation buffer (layout.h).
static size_t activation_at(uint32_t max_rows, uint32_t row, uint32_t col) {
    uint32_t c = col / 32 % 4, h = col / 16 % 2, w = col / 4 % 4, i = col / 2 % 2, t = col % 2;
    uint32_t place = 32 * w + 16 * h + 8 * t + 2 * c + i, unit = place % 64 / 8 ^ row % 8;
    return ((size_t)(col / PREFILL_COLS * 2 + place / 64) * max_rows + row) * 64 + unit * 8 + place % 8;
}

static bool show_activations(const Chunk *chunk, const Op *op, CUdeviceptr from, uint32_t width, float factor,
                             Error *err) {
    CudaBackend *b = chunk->b;
    Arena scratch = chunk->scratch;
    uint32_t max_rows = b->lowered.max_rows, n_rows = chunk->q->n_rows;
    const uint16_t *halves =
        cuda_fetch(b, from, PREFILL_HALVES(max_rows, width) * sizeof *halves, &scratch, err);
    float *values = arena_new(&scratch, float, (uint64_t)n_rows *width);
    if (!halves || !values) return false;
    for (uint32_t row = 0; row < n_rows; row++) {
        for (uint32_t col = 0; col < width; col++)
            values[(uint64_t)row * width + col] =
                f32_from_f16(halves[activation_at(max_rows, row, col)]) * factor;
    }
    show_rows(chunk, op, values, width);
    return true;
}

// The last operation up to `op` that wrote an activation; it is one of the layer's.
static const Op *last_write(const Op *op, Act out) {
    while (op->out != out)
        op--;
    return op;
}

// Queries come back without the factor that the kernels put in.
static bool show_queries(const Chunk *chunk, const Op *write, Error *err) {
    CudaBackend *b = chunk->b;
    Arena scratch = chunk->scratch;
    uint32_t width = b->plan->config.n_heads * b->plan->config.head_dim;
    uint64_t n = (uint64_t)chunk->q->n_rows * width;
    const uint16_t *halves = cuda_fetch(b, b->buffers.rows_q, n * sizeof *halves, &scratch, err);
    float *values = arena_new(&scratch, float, n);
    if (!halves || !values) return false;
    const Op *attention = write;
    while (attention->kind != OP_ATTENTION)
        attention++;
    for (uint64_t i = 0; i < n; i++)
        values[i] = f32_from_f16(halves[i]) / (attention->attention.scale * (float)M_LOG2E);
    show_rows(chunk, last_write(write, ACT_Q), values, width);
    return true;
}

// The rows' entries in the cache: keys, then values.
static bool show_cache(const Chunk *chunk, const Op *write, Error *err) {
    CudaBackend *b = chunk->b;
    Arena scratch = chunk->scratch;
    uint32_t dim = b->plan->config.head_dim, n_heads = b->plan->config.n_kv_heads, width = n_heads * dim;
    uint32_t n_rows = chunk->q->n_rows;
    uint64_t page_bytes = KV_PAGE_HALVES((uint64_t)n_heads, dim) * sizeof(uint16_t);
    float *keys = arena_new(&scratch, float, (uint64_t)n_rows *width);
    float *values = arena_new(&scratch, float, (uint64_t)n_rows *width);
    if (!keys || !values) return false;
    for (uint32_t row = 0; row < n_rows; row++) {
        Arena page = scratch;
        uint32_t position = chunk->q->position + row, at = position % KV_PAGE;
        CUdeviceptr from = b->buffers.kv + write->layer * b->buffers.kv_layer_bytes +
                           chunk->q->pages[position / KV_PAGE] * page_bytes;
        const uint16_t *tiles = cuda_fetch(b, from, page_bytes, &page, err);
        if (!tiles) return false;
        for (uint32_t i = 0; i < width; i++) {
            const uint16_t *k = tiles + (uint64_t)(i / dim) * 2 * KV_TILE_HALVES(dim),
                           *v = k + KV_TILE_HALVES(dim);
            keys[(uint64_t)row * width + i] = f32_from_f16(k[at * dim + i % dim]);
            values[(uint64_t)row * width + i] = f32_from_f16(v[i % dim * KV_PAGE + at]);
        }
    }
    show_rows(chunk, last_write(write, ACT_K), keys, width);
    show_rows(chunk, last_write(write, ACT_V), values, width);
    return true;
}

// The operation whose result a stage left: the last of the embedding's, or of those that the stage and the
// ones before it share with it. NULL where a later one is to finish them.
static const Op *result_of(const CudaBackend *b, const Stage *s) {
    const Op *first = &b->plan->ops[s->first_op], *last = first + s->n_ops - 1;
    if (s->n_ops == 0) return NULL;
    if (s->kind == STAGE_PREFILL_EMBED) {
        while (first < last && first[1].out == ACT_X)
            first++;
        return first;
    }
    const Stage *end = b->lowered.prefill_stages + b->lowered.n_prefill_stages;
    for (const Stage *later = s + 1; later < end; later++) {
        if (later->first_op == s->first_op && later->n_ops == s->n_ops) return NULL;
    }
    return last;
}

static bool show_stage(const Chunk *chunk, const Stage *s, Error *err) {
    CudaBackend *b = chunk->b;
    const ModelConfig *c = &b->plan->config;
    const Op *op = result_of(b, s);
    if (!op) return true;
    if (op->kind == OP_KV_WRITE) return show_queries(chunk, op, err) && show_cache(chunk, op, err);
    switch (op->out) {
    case ACT_X: return show_stream(chunk, op, err);
    case ACT_A: return show_activations(chunk, op, b->buffers.rows_a, c->n_heads * c->head_dim, 1, err);
    case ACT_F: return show_activations(chunk, op, b->buffers.rows_f, c->d_ff, GLU_DIVISOR, err);
    default: return true; // it is not a stage's result in the form of the reference
    }
}

bool cuda_chunk_observed(CudaBackend *b, const StepSequence *q, Error *err) {
    Chunk chunk = {.b = b, .q = q, .scratch = *b->arena};
    bool ok = true;
    for (uint32_t i = 0; ok && i < b->lowered.n_prefill_stages; i++) {
        StageArgs args;
        Launch launch = cuda_chunk_launch(b, i, &args);
        ok = kernel_launch(&b->cuda, &launch, false, b->stream, err) &&
             show_stage(&chunk, &b->lowered.prefill_stages[i], err);
    }
    return ok;
}
