// Looking into a prompt's rows: the values that each stage of prefill left, row by row, as the CPU reference
// has them.
#include "backend/cuda/cuda_inspect.h"

#include "../kernels_src/layout.h"
#include "backend/cuda/cuda_batch_inspect.h"
#include "backend/cuda/cuda_step.h"
#include "base/f16.h"

#include <math.h>

typedef struct {
    CudaBackend *b;
    const StepSequence *q;
    Arena scratch; // as it is when a stage begins
} Span;

// Returns whether the observer wants any of the rows' values written back.
static bool show_rows(const Span *span, const Op *op, float *values, uint32_t width) {
    CudaBackend *b = span->b;
    bool changed = false;
    for (uint32_t row = 0; row < span->q->n_rows; row++) {
        changed |= b->observer(b->observer_context, (uint32_t)(op - b->plan->ops), span->q->position + row,
                               values + (uint64_t)row * width, width);
    }
    return changed;
}

// f32 rows, which the observer may change.
static bool show_floats(const Span *span, const StageResult *r, Error *err) {
    CudaBackend *b = span->b;
    Arena scratch = span->scratch;
    size_t size = (size_t)span->q->n_rows * r->width * sizeof(float);
    float *values = cuda_fetch(b, r->from, size, &scratch, err);
    if (!values || !show_rows(span, r->op, values, r->width)) return values != NULL;
    CUresult result = b->cuda.copy_to_device(r->from, values, size, b->stream);
    if (result == CUDA_SUCCESS) result = b->cuda.stream_synchronize(b->stream);
    return cuda_ok(&b->cuda, result, "changing a stage's values", err);
}

// Index of a value in an activation buffer (layout.h).
static size_t activation_at(uint32_t max_rows, uint32_t row, uint32_t col) {
    uint32_t c = col / 32 % 4, h = col / 16 % 2, w = col / 4 % 4, i = col / 2 % 2, t = col % 2;
    uint32_t place = 32 * w + 16 * h + 8 * t + 2 * c + i, unit = place % 64 / 8 ^ row % 8;
    return ((size_t)(col / PREFILL_COLS * 2 + place / 64) * max_rows + row) * 64 + unit * 8 + place % 8;
}

static bool show_activations(const Span *span, const StageResult *r, Error *err) {
    CudaBackend *b = span->b;
    Arena scratch = span->scratch;
    uint32_t max_rows = b->lowered.max_rows, n_rows = span->q->n_rows, width = r->width;
    const uint16_t *halves =
        cuda_fetch(b, r->from, PREFILL_HALVES(max_rows, width) * sizeof *halves, &scratch, err);
    float *values = arena_new(&scratch, float, (uint64_t)n_rows *width);
    if (!halves || !values) return false;
    for (uint32_t row = 0; row < n_rows; row++) {
        for (uint32_t col = 0; col < width; col++)
            values[(uint64_t)row * width + col] =
                f32_from_f16(halves[activation_at(max_rows, row, col)]) / r->divisor;
    }
    show_rows(span, r->op, values, width);
    return true;
}

// Queries come back without the factor that the kernels put in.
static bool show_queries(const Span *span, const StageResult *r, Error *err) {
    Arena scratch = span->scratch;
    uint64_t n = (uint64_t)span->q->n_rows * r->width;
    const uint16_t *halves = cuda_fetch(span->b, r->from, n * sizeof *halves, &scratch, err);
    float *values = arena_new(&scratch, float, n);
    if (!halves || !values) return false;
    for (uint64_t i = 0; i < n; i++)
        values[i] = f32_from_f16(halves[i]) / r->divisor;
    show_rows(span, r->op, values, r->width);
    return true;
}

size_t cuda_cached_at(uint32_t dim, uint32_t i, uint32_t position, ResultForm form) {
    uint32_t head = i / dim, d = i % dim, token = position % KV_PAGE;
    return form == RESULT_VALUES ? layout_value_at(dim, head, token, d) : layout_key_at(dim, head, token, d);
}

// The rows' keys or values in the cache.
static bool show_cached(const Span *span, const StageResult *r, const Op *attention, Error *err) {
    CudaBackend *b = span->b;
    Arena scratch = span->scratch;
    uint32_t dim = attention->attention.key_dim, n_rows = span->q->n_rows;
    uint64_t page_bytes = layout_kv_page_bytes(FORMAT_F16, attention->attention.n_kv_heads, dim, dim);
    float *values = arena_new(&scratch, float, (uint64_t)n_rows * r->width);
    if (!values) return false;
    for (uint32_t row = 0; row < n_rows; row++) {
        Arena page = scratch;
        uint32_t position = span->q->position + row;
        CUdeviceptr from = r->from + span->q->pages[position / KV_PAGE] * page_bytes;
        const uint16_t *tiles = cuda_fetch(b, from, page_bytes, &page, err);
        if (!tiles) return false;
        for (uint32_t i = 0; i < r->width; i++)
            values[(uint64_t)row * r->width + i] =
                f32_from_f16(tiles[cuda_cached_at(dim, i, position, r->form)]);
    }
    show_rows(span, r->op, values, r->width);
    return true;
}

static bool show_result(const Span *span, const Stage *s, const StageResult *r, Error *err) {
    switch (r->form) {
    case RESULT_ROWS: return show_floats(span, r, err);
    case RESULT_QUERIES: return show_queries(span, r, err);
    case RESULT_KEYS:
    case RESULT_VALUES: return show_cached(span, r, s->attention->ops[ATTENTION_ATTENTION], err);
    case RESULT_ACTIVATIONS: return show_activations(span, r, err);
    case RESULT_SPLITS: break; // of a token
    }
    return error_set(err, ERR_INTERNAL, "a stage of a prompt left a token's splits");
}

static bool show_stage(const Span *span, const Stage *s, Error *err) {
    StageResult results[STAGE_RESULTS_MAX];
    uint32_t n = s->type->results(s, &span->b->buffers, results);
    bool ok = true;
    for (uint32_t i = 0; ok && i < n; i++)
        ok = show_result(span, s, &results[i], err);
    return ok;
}

// A prompt's rows through the layers, stage by stage, each shown to the observer. Other parts of a step go as
// usual.
static bool run_watched(CudaBackend *b, Cell *cell, const StepSequence *q, Flight *flight, Error *err) {
    if (q->mode != STEP_PROMPT || q->n_slices > 1) return cuda_run_part(b, cell, q, flight, err);
    Span span = {.b = b, .q = q, .scratch = *b->arena};
    bool ok = cuda_send_span(b, cell, q, err);
    for (uint32_t i = 0; ok && i < b->lowered.n_prefill_stages; i++) {
        StageArgs args;
        Launch launch = cuda_span_launch(b, i, &args);
        ok = kernel_launch(&b->cuda, &launch, false, b->stream, err) &&
             show_stage(&span, &b->lowered.prefill_stages[i], err);
    }
    return ok && cuda_run_heads(b, cell, q, flight, err);
}

void cuda_backend_observe_prompts(Backend *backend, CudaObserver *observer, void *context) {
    CudaBackend *b = cuda_self(backend);
    cuda_observe(b, observer, context, b->batches ? cuda_batch_watch_prompts : run_watched);
}
