// Looking into the CUDA backend: every stage's values, and its time.
#include "backend/cuda/cuda_inspect.h"

#include "../kernels_src/layout.h"
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
    cuda_observe(cuda_self(backend), observer, context, run_watched);
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

bool cuda_explain_invalid(CudaBackend *b, const Flight *flight, const Draw *draw, const char **out,
                          Error *err) {
    Slot *slot = &b->slots[draw->slot];
    const int32_t *drawn = flight->tokens + draw->slot * TOKEN_RING;
    int32_t token = draw->token;
    if (token == TOKEN_INVALID) token = drawn[(draw->place + TOKEN_RING - 1) % TOKEN_RING];
    // Steps that were enqueued behind a wrong one are wrong, too; those of a slot's next sequence are its
    // own.
    if (b->observer || slot->generation != draw->generation || token == TOKEN_INVALID) return true;
    StepRow row = slot->row;
    row.token = token;
    row.position = draw->position;
    b->placed = (PlacedRow){0};
    CUresult r = b->cuda.context_synchronize();
    if (r == CUDA_SUCCESS) r = b->cuda.copy_to_device(b->buffers.row, &row, sizeof row, b->stream);
    if (r == CUDA_SUCCESS) r = b->cuda.stream_synchronize(b->stream);
    if (!cuda_ok(&b->cuda, r, "running a step once more", err)) return false;
    uint32_t first = UINT32_MAX;
    cuda_observe(b, note_invalid, &first, run_watched);
    bool ok = show_row(b, draw->slot, END_HEAD, draw->position, err);
    cuda_observe(b, NULL, NULL, NULL);
    if (!ok || first == UINT32_MAX) return ok;
    StrBuf text = STRBUF(slot->invalid_text);
    plan_name_op(&b->plan->ops[first], &text);
    *out = slot->invalid_text;
    return true;
}

// ---- times ----

static int compare_floats(const void *a, const void *b) {
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

typedef struct {
    CudaBackend *b;
    CUevent begin, end;
    float *runs; // [n_runs]
    uint32_t n_runs;
} Stopwatch;

// Median time of a graph in microseconds, each run right after a whole step.
static bool time_graph(Stopwatch *w, CUgraphExec step, CUgraphExec graph, double *out, Error *err) {
    const Cuda *cuda = &w->b->cuda;
    CUstream stream = w->b->stream;
    CUresult r = CUDA_SUCCESS;
    for (uint32_t i = 0; i < w->n_runs && r == CUDA_SUCCESS; i++) {
        r = cuda->graph_launch(step, stream);
        if (r == CUDA_SUCCESS) r = cuda->event_record(w->begin, stream);
        if (r == CUDA_SUCCESS) r = cuda->graph_launch(graph, stream);
        if (r == CUDA_SUCCESS) r = cuda->event_record(w->end, stream);
        if (r == CUDA_SUCCESS) r = cuda->event_synchronize(w->end);
        if (r == CUDA_SUCCESS) r = cuda->event_elapsed(&w->runs[i], w->begin, w->end);
    }
    qsort(w->runs, w->n_runs, sizeof *w->runs, compare_floats);
    *out = (double)w->runs[w->n_runs / 2] * 1e3;
    return cuda_ok(cuda, r, "measuring stages", err);
}

// Mean time of greedy steps that follow each other without a pause, in microseconds.
static bool time_steps(Stopwatch *w, double *out, Error *err) {
    const Cuda *cuda = &w->b->cuda;
    CUstream stream = w->b->stream;
    float ms = 0;
    CUresult r = cuda->event_record(w->begin, stream);
    for (uint32_t i = 0; i < w->n_runs && r == CUDA_SUCCESS; i++) {
        r = cuda->graph_launch(w->b->rows[END_GREEDY], stream);
    }
    if (r == CUDA_SUCCESS) r = cuda->event_record(w->end, stream);
    if (r == CUDA_SUCCESS) r = cuda->event_synchronize(w->end);
    if (r == CUDA_SUCCESS) r = cuda->event_elapsed(&ms, w->begin, w->end);
    *out = (double)ms * 1e3 / w->n_runs;
    return cuda_ok(cuda, r, "measuring steps", err);
}

// Bytes that a stage of decoding reads at a position: of matrices and of the cache.
static uint64_t stage_bytes(const Stage *s, uint32_t position) {
    uint64_t bytes = s->weight_bytes;
    for (uint32_t i = 0; i < STAGE_OPS_MAX; i++) {
        const Op *op = s->ops[i];
        if (!op || op->kind != OP_ATTENTION || s->type->rows == ROWS_OF_PROMPTS) continue;
        uint32_t window = op->attention.window;
        uint64_t seen = window && position + 1 > window ? window : position + 1;
        bytes += seen * op->attention.n_kv_heads * (op->attention.key_dim + op->attention.value_dim) *
                 sizeof(uint16_t);
    }
    return bytes;
}

// Operations of a stage of n_rows rows from position 0 on; 0 for one that multiplies no matrices.
static double stage_flops(const Stage *s, uint32_t n_rows) {
    double flops = 0;
    if (!s->type->has_flops) return 0;
    for (uint32_t i = 0; i < STAGE_OPS_MAX; i++) {
        const Op *op = s->ops[i];
        if (op && op->kind == OP_MATMUL)
            flops += 2.0 * (double)(op->weight->n_rows * op->weight->n_cols) * n_rows;
        if (op && op->kind == OP_EXPERT_MATMUL)
            flops += 2.0 * (double)(op->weight->n_rows * op->weight->n_cols) * n_rows * op->n_used;
        if (op &&
            op->kind == OP_ATTENTION) // of rows that see half of the others, on average; without windows
            flops += 2.0 * n_rows * n_rows * op->out_width;
    }
    return flops;
}

static bool time_type(Stopwatch *w, const Row *all, const StageType *type, uint32_t position, Arena scratch,
                      StageTime *out, Error *err) {
    CudaBackend *b = w->b;
    Launch *launches = arena_new(&scratch, Launch, all->n);
    if (!launches) return error_set(err, ERR_NO_MEMORY, "a step does not fit its memory");
    *out = (StageTime){.name = type->name};
    for (uint32_t i = 0; i < all->n; i++) {
        if (all->stages[i]->type != type) continue;
        launches[out->count++] = all->launches[i];
        out->bytes += stage_bytes(all->stages[i], position);
        out->flops += stage_flops(all->stages[i], position + 1);
    }
    if (out->count == 0) return true;
    out->bytes /= out->count;
    out->flops /= out->count;
    CUgraphExec graph;
    if (!graph_make(&b->cuda, launches, out->count, b->overlap, b->stream, &graph, err)) return false;
    bool ok = time_graph(w, b->rows[END_LAYERS], graph, &out->microseconds, err);
    b->cuda.graph_exec_destroy(graph);
    out->microseconds /= out->count;
    return ok;
}

// Runs rows of slot 0 from a position on, in pages 0, 1, 2, …
static bool place_slot(CudaBackend *b, uint32_t position, uint32_t n_rows, Arena scratch, Error *err) {
    uint32_t n_pages = (position + n_rows - 1) / KV_PAGE_TOKENS + 1;
    uint32_t *pages = arena_new(&scratch, uint32_t, n_pages);
    int32_t *tokens = arena_new(&scratch, int32_t, n_rows);
    if (!pages || !tokens || n_pages > b->n_pages)
        return error_set(err, ERR_VRAM_OOM, "the cache holds %u pages", b->n_pages);
    for (uint32_t i = 0; i < n_pages; i++)
        pages[i] = i;
    StepSequence q = {.position = position, .n_rows = n_rows, .tokens = tokens, .pages = pages, .n_draws = 1};
    SequenceStart start = {.params = SAMPLER_GREEDY, .tokens = tokens, .n_prompt = 1};
    StepResult result;
    return b->api.begin(&b->api, 0, &start, err) &&
           b->api.step(&b->api, &(Step){.sequences = &q, .n_sequences = 1}, err) &&
           b->api.read(&b->api, &result, err);
}

static bool stopwatch_begin(CudaBackend *b, uint32_t runs, Arena *scratch, Stopwatch *w, Error *err) {
    *w = (Stopwatch){.b = b, .n_runs = runs, .runs = arena_new(scratch, float, runs)};
    if (!w->runs) return error_set(err, ERR_NO_MEMORY, "%u runs are too many", runs);
    CUresult r = b->cuda.event_create(&w->begin, CU_EVENT_DEFAULT);
    if (r == CUDA_SUCCESS) r = b->cuda.event_create(&w->end, CU_EVENT_DEFAULT);
    return cuda_ok(&b->cuda, r, "measuring stages", err);
}

static void stopwatch_end(Stopwatch *w) {
    w->b->placed = (PlacedRow){0}; // the steps that were measured have moved it
    if (w->begin) w->b->cuda.event_destroy(w->begin);
    if (w->end) w->b->cuda.event_destroy(w->end);
}

static bool time_types(Stopwatch *w, const Row *row, uint32_t position, Arena scratch, StageTime *out,
                       uint32_t *n_out, Error *err) {
    *n_out = 0;
    for (uint32_t i = 0; stage_type_at(i); i++) {
        if (stage_draws(stage_type_at(i))) continue; // it would advance the sequence: see the whole step
        if (!time_type(w, row, stage_type_at(i), position, scratch, &out[*n_out], err)) return false;
        *n_out += out[*n_out].count > 0;
    }
    return true;
}

bool cuda_backend_time_stages(Backend *backend, uint32_t position, uint32_t runs,
                              StageTime out[STAGE_TIMES_MAX], uint32_t *n_out, double *step_us, Error *err) {
    CudaBackend *b = cuda_self(backend);
    Arena scratch = *b->arena;
    Row row;
    Stopwatch w;
    bool ok = stopwatch_begin(b, runs, &scratch, &w, err) && place_slot(b, position, 1, scratch, err) &&
              row_make(b, END_GREEDY, &scratch, &row, err) &&
              time_types(&w, &row, position, scratch, out, n_out, err) && time_steps(&w, step_us, err);
    stopwatch_end(&w);
    return ok;
}

bool cuda_backend_time_prefill(Backend *backend, uint32_t n_rows, uint32_t runs,
                               StageTime out[STAGE_TIMES_MAX], uint32_t *n_out, double *step_us, Error *err) {
    CudaBackend *b = cuda_self(backend);
    Arena scratch = *b->arena;
    Row row = {.n = b->lowered.n_prefill_stages};
    Stopwatch w;
    row.args = arena_new(&scratch, StageArgs, row.n);
    row.launches = arena_new(&scratch, Launch, row.n);
    row.stages = arena_new(&scratch, const Stage *, row.n);
    if (!row.args || !row.launches || !row.stages)
        return error_set(err, ERR_NO_MEMORY, "a step does not fit its memory");
    for (uint32_t i = 0; i < row.n; i++) {
        row.stages[i] = &b->lowered.prefill_stages[i];
        row.launches[i] = cuda_span_launch(b, i, &row.args[i]);
    }
    bool ok = stopwatch_begin(b, runs, &scratch, &w, err) && place_slot(b, 0, n_rows, scratch, err) &&
              time_graph(&w, b->rows[END_LAYERS], b->prefill, step_us, err) &&
              time_types(&w, &row, n_rows - 1, scratch, out, n_out, err);
    stopwatch_end(&w);
    return ok;
}
