// Looking into the CUDA backend: every stage's values, and its time.
#include "backend/cuda/cuda_inspect.h"

#include "../kernels_src/layout.h"
#include "backend/cuda/cuda_batch_inspect.h"
#include "backend/cuda/cuda_step.h"
#include "base/f16.h"

#include <math.h>
#include <stdlib.h>

void cuda_observe(CudaBackend *b, CudaObserver *observer, void *context, CudaRunPart *run_part) {
    b->observer = observer;
    b->observer_context = context;
    b->run_part = observer ? run_part : cuda_run_part;
}

bool cuda_backend_check_residency(Backend *backend, Error *err) {
    CudaBackend *b = cuda_self(backend);
    CUresult r = b->cuda.context_use(b->context);
    return cuda_ok(&b->cuda, r, "asking where memory is", err) && device_memory_is_resident(&b->memory, err);
}

// ---- values ----

void *cuda_fetch(CudaBackend *b, CUdeviceptr from, size_t size, Arena *scratch, Error *err) {
    void *to = arena_alloc(scratch, 1, size, 64);
    if (!to) {
        error_fill(err, ERR_NO_MEMORY, ERROR_NO_POSITION, "the values of a stage do not fit their memory");
        return NULL;
    }
    CUresult r = b->cuda.copy_to_host(to, from, size, b->stream);
    if (r == CUDA_SUCCESS) r = b->cuda.stream_synchronize(b->stream);
    return cuda_ok(&b->cuda, r, "fetching a stage's values", err) ? to : NULL;
}

static bool show(CudaBackend *b, const Op *op, uint32_t position, float *values, uint32_t width) {
    return b->observer(b->observer_context, (uint32_t)(op - b->plan->ops), position, values, width);
}

static bool show_floats(CudaBackend *b, const Op *op, uint32_t position, CUdeviceptr from, uint32_t width,
                        Arena scratch, Error *err) {
    float *values = cuda_fetch(b, from, width * sizeof(float), &scratch, err);
    if (!values || !show(b, op, position, values, width)) return values != NULL;
    CUresult r = b->cuda.copy_to_device(from, values, width * sizeof(float), b->stream);
    if (r == CUDA_SUCCESS) r = b->cuda.stream_synchronize(b->stream);
    return cuda_ok(&b->cuda, r, "changing a stage's values", err);
}

// Queries come back without the factor that the kernels put in.
static bool show_queries(CudaBackend *b, const StageResult *r, uint32_t position, Arena scratch, Error *err) {
    const uint16_t *halves = cuda_fetch(b, r->from, r->width * sizeof *halves, &scratch, err);
    float *values = arena_new(&scratch, float, r->width);
    if (!halves || !values) return false;
    for (uint32_t i = 0; i < r->width; i++)
        values[i] = f32_from_f16(halves[i]) / r->divisor;
    show(b, r->op, position, values, r->width);
    return true;
}

// The cache's entry of a position: keys or values.
static bool show_cached(CudaBackend *b, uint32_t slot, const StageResult *r, const Op *attention,
                        uint32_t position, Arena scratch, Error *err) {
    uint32_t n_heads = attention->attention.n_kv_heads, dim = attention->attention.key_dim;
    uint64_t page_bytes = layout_kv_page_bytes(FORMAT_F16, n_heads, dim, dim);
    CUdeviceptr page = r->from + b->slots[slot].sent_pages[position / KV_PAGE] * page_bytes;
    const uint16_t *tiles = cuda_fetch(b, page, page_bytes, &scratch, err);
    float *values = arena_new(&scratch, float, r->width);
    if (!tiles || !values) return false;
    for (uint32_t i = 0; i < r->width; i++)
        values[i] = f32_from_f16(tiles[cuda_cached_at(dim, i, position, r->form)]);
    show(b, r->op, position, values, r->width);
    return true;
}

// How many splits there are, as attention_splits.cuh counts them.
static uint32_t split_count(const Stage *s, uint32_t position) {
    uint32_t window = s->ops[ATTENTION_ATTENTION]->attention.window;
    uint32_t first = window && position + 1 > window ? (position + 1 - window) / KV_PAGE : 0;
    uint32_t n_pages = position / KV_PAGE + 1 - first;
    uint32_t split_pages = (uint32_t)max_u64(div_up(n_pages, s->splits_max), LOWER_SPLIT_PAGES_MIN);
    return (uint32_t)div_up(n_pages, split_pages);
}

// A sink of each head in powers of two, as the scores are: a split of weight 1 and no value. -infinity where
// there is none.
static float *fetch_sinks(CudaBackend *b, const Op *attention, Arena *scratch, Error *err) {
    uint32_t n_heads = attention->attention.n_heads;
    float *sinks = arena_new(scratch, float, n_heads);
    for (uint32_t i = 0; sinks && i < n_heads; i++)
        sinks[i] = -INFINITY;
    if (!sinks || !attention->weight) return sinks;
    CUdeviceptr from = b->buffers.weights + placement_offset(&b->placement, attention->weight);
    const float *values = cuda_fetch(b, from, n_heads * sizeof *values, scratch, err);
    for (uint32_t i = 0; values && i < n_heads; i++)
        sinks[i] = values[i] * (float)M_LOG2E;
    return values ? sinks : NULL;
}

// The splits of a STAGE_ATTENTION, added up.
static bool show_splits(CudaBackend *b, const Stage *s, const StageResult *r, uint32_t position,
                        Arena scratch, Error *err) {
    const Op *op = r->op;
    uint32_t n_heads = op->attention.n_heads, dim = op->attention.value_dim;
    uint32_t width = r->width, n_splits = split_count(s, position);
    const uint16_t *part = cuda_fetch(b, r->from, (size_t)n_splits * width * sizeof *part, &scratch, err);
    const float *weight =
        cuda_fetch(b, b->buffers.part_weight, (size_t)n_splits * n_heads * 2 * sizeof *weight, &scratch, err);
    float *out = arena_new(&scratch, float, width), *sinks = fetch_sinks(b, op, &scratch, err);
    if (!part || !weight || !out || !sinks) return false;
    for (uint32_t head = 0; head < n_heads; head++) {
        float top = sinks[head], sum = 0;
        for (uint32_t i = 0; i < n_splits; i++)
            top = fmaxf(top, weight[(i * n_heads + head) * 2]);
        sum += exp2f(sinks[head] - top);
        for (uint32_t i = 0; i < n_splits; i++) {
            const float *w = weight + (i * n_heads + head) * 2;
            float share = exp2f(w[0] - top) * w[1];
            sum += share;
            for (uint32_t d = head * dim; d < (head + 1) * dim; d++) {
                out[d] += share * f32_from_f16(part[i * width + d]);
            }
        }
        for (uint32_t d = head * dim; d < (head + 1) * dim; d++)
            out[d] /= sum;
    }
    show(b, op, position, out, width);
    return true;
}

static bool show_result(CudaBackend *b, uint32_t slot, const Stage *s, const StageResult *r,
                        uint32_t position, Error *err) {
    Arena scratch = *b->arena;
    switch (r->form) {
    case RESULT_ROWS: return show_floats(b, r->op, position, r->from, r->width, scratch, err);
    case RESULT_QUERIES: return show_queries(b, r, position, scratch, err);
    case RESULT_KEYS:
    case RESULT_VALUES:
        return show_cached(b, slot, r, s->attention->ops[ATTENTION_ATTENTION], position, scratch, err);
    case RESULT_SPLITS: return show_splits(b, s, r, position, scratch, err);
    case RESULT_ACTIVATIONS: break; // of a prompt's rows
    }
    return error_set(err, ERR_INTERNAL, "a stage of decoding left a prompt's activations");
}

static bool show_stage(CudaBackend *b, uint32_t slot, const Stage *s, uint32_t position, Error *err) {
    StageResult results[STAGE_RESULTS_MAX];
    uint32_t n = s->type->results(s, &b->buffers, results);
    bool ok = true;
    for (uint32_t i = 0; ok && i < n; i++)
        ok = show_result(b, slot, s, &results[i], position, err);
    return ok;
}

// ---- launches of a row ----

typedef struct {
    StageArgs *args;
    Launch *launches;
    const Stage **stages;
    uint32_t n;
} Row;

static bool row_make(CudaBackend *b, RowEnd end, Arena *scratch, Row *row, Error *err) {
    row->args = arena_new(scratch, StageArgs, b->lowered.n_stages);
    row->launches = arena_new(scratch, Launch, b->lowered.n_stages);
    row->stages = arena_new(scratch, const Stage *, b->lowered.n_stages);
    if (!row->args || !row->launches || !row->stages)
        return error_set(err, ERR_NO_MEMORY, "a step does not fit its memory");
    row->n = cuda_row_launches(b, end, row->args, row->launches, row->stages);
    return true;
}

// The row that is placed, stage by stage, each shown to the observer.
static bool show_row(CudaBackend *b, uint32_t slot, RowEnd end, uint32_t position, Error *err) {
    Row row;
    Arena scratch = *b->arena;
    if (!row_make(b, end, &scratch, &row, err)) return false;
    Arena all = *b->arena;
    *b->arena = scratch; // the stages' values go behind the launches
    bool ok = true;
    for (uint32_t i = 0; ok && i < row.n; i++) {
        ok = kernel_launch(&b->cuda, &row.launches[i], false, b->stream, err) &&
             show_stage(b, slot, row.stages[i], position, err);
    }
    *b->arena = all;
    return ok;
}

// A sequence's part of a step, a row at a time through the stages of decoding, those of a prompt, too.
static bool run_watched(CudaBackend *b, Cell *cell, const StepSequence *q, Flight *flight, Error *err) {
    for (uint32_t row = 0; row < q->n_rows; row++) {
        int32_t token = q->mode == STEP_DECODE ? ROW_TOKEN_DRAWN : q->tokens[row];
        RowEnd end = cuda_end_of_row(b, q, row);
        if (!cuda_place_row(b, cell, q->slot, token, q->position + row, err) ||
            !show_row(b, q->slot, end, q->position + row, err) ||
            !cuda_finish_row(b, q, row, end, flight, err))
            return false;
    }
    return true;
}

void cuda_backend_observe(Backend *backend, CudaObserver *observer, void *context) {
    cuda_backend_observe_rows(backend, 1, observer, context);
}

void cuda_backend_observe_rows(Backend *backend, uint32_t n_rows, CudaObserver *observer, void *context) {
    CudaBackend *b = cuda_self(backend);
    if (b->batches) b->batches->watched = cuda_batch_class_for(b->batches, n_rows);
    cuda_observe(b, observer, context, b->batches ? cuda_batch_watch_rows : run_watched);
}

// ---- rows that went wrong ----

// An observer that keeps the first operation with a value that is no number.
static bool note_invalid(void *context, uint32_t op_index, uint32_t position, float *values, uint32_t width) {
    uint32_t *first = context;
    (void)position;
    for (uint32_t i = 0; *first == UINT32_MAX && i < width; i++) {
        if (!isfinite(values[i])) *first = op_index;
    }
    return false;
}

static bool show_again(CudaBackend *b, const Draw *draw, int32_t token, Error *err) {
    StepRow row = b->slots[draw->slot].row;
    row.token = token;
    row.position = draw->position;
    b->placed = (PlacedRow){0};
    CUresult r = b->cuda.copy_to_device(b->buffers.row, &row, sizeof row, b->stream);
    if (r == CUDA_SUCCESS) r = b->cuda.stream_synchronize(b->stream);
    return cuda_ok(&b->cuda, r, "running a step once more", err) &&
           show_row(b, draw->slot, END_HEAD, draw->position, err);
}

bool cuda_explain_invalid(CudaBackend *b, const Flight *flight, const Draw *draw, const char **out,
                          Error *err) {
    Slot *slot = &b->slots[draw->slot];
    const int32_t *drawn = flight->tokens + draw->slot * TOKEN_RING;
    int32_t token = draw->token;
    if (token == TOKEN_INVALID) token = drawn[(draw->place + TOKEN_RING - 1) % TOKEN_RING];
    // Steps that were enqueued behind a wrong one are wrong, too; those of a slot's next sequence are its
    // own.
    if (b->observer || slot->generation != draw->generation || token == TOKEN_INVALID) return true;
    CUresult r = b->cuda.context_synchronize();
    if (!cuda_ok(&b->cuda, r, "running a step once more", err)) return false;
    uint32_t first = UINT32_MAX;
    cuda_observe(b, note_invalid, &first, run_watched);
    bool ok = b->batches ? cuda_batch_show_row(b, draw->slot, token, draw->position, err)
                         : show_again(b, draw, token, err);
    cuda_observe(b, NULL, NULL, NULL);
    if (!ok || first == UINT32_MAX) return ok;
    StrBuf text = STRBUF(slot->invalid_text);
    plan_name_op(&b->plan->ops[first], &text);
    *out = slot->invalid_text;
    return true;
}
