// How long stages take: all of a kind one after the other as a graph, right after a whole step.
#include "backend/cuda/cuda_backend.h"

#include "backend/cuda/cuda_batch.h"
#include "backend/cuda/cuda_clock.h"
#include "backend/cuda/cuda_step.h"
#include "backend/cuda/cuda_yardstick.h"
#include "base/rng.h"
#include "os/os.h"

#include <stdlib.h>

// A stage of a step, and what is said of it.
typedef struct {
    const void *type; // stages of one have the same
    const char *name;
    Launch launch;
    uint64_t bytes;
    double flops;
    ProductShape shape;
} Timed;

// Of one step.
typedef struct {
    Timed *stages;
    StageArgs *args;
    Launch *launches;     // room for as many
    ProductShape *shapes; // likewise
    uint32_t n, n_rows;
    uint32_t whole_rows; // of a prompt that takes several such steps, or n_rows
    Yardstick yardstick;
    Arena scratch; // what is left
} TimedStep;

static bool step_make(Arena *scratch, uint32_t n, TimedStep *out, Error *err) {
    *out = (TimedStep){.whole_rows = out->whole_rows,
                       .stages = arena_new(scratch, Timed, n),
                       .args = arena_new(scratch, StageArgs, n),
                       .launches = arena_new(scratch, Launch, n),
                       .shapes = arena_new(scratch, ProductShape, n)};
    return (out->stages && out->args && out->launches && out->shapes) ||
           error_set(err, ERR_NO_MEMORY, "a step does not fit its memory");
}

// ---- what a stage reads and computes ----

// Bytes of the cache that a row at a position reads; of a state, that it reads and writes.
static uint64_t cache_bytes(const Plan *plan, const BatchStage *s, uint32_t position) {
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < STAGE_OPS_MAX; i++) {
        const Op *op = batch_op_read(s, i);
        if (op && (op->kind == OP_DELTA || op->kind == OP_SSM))
            bytes += 2ull * op->state.n_heads * op->state.key_dim * op->state.value_dim * sizeof(float);
        if (!op || op->kind != OP_ATTENTION) continue;
        uint64_t seen = position + 1 - op_first_seen(op, position);
        bytes += seen * plan->caches[op->attention.cache].page_bytes / KV_PAGE_TOKENS;
    }
    return bytes;
}

// Operations of the products and scores of n_rows rows from position 0 on.
static double flops_of(const BatchStage *s, uint32_t n_rows) {
    double flops = 0;
    for (uint32_t i = 0; i < STAGE_OPS_MAX; i++) {
        const Op *op = batch_op_read(s, i);
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

// ---- the steps that are measured ----

static BatchSpread spread_at(const CudaBackend *b, uint32_t class_index, uint32_t position, uint32_t n_rows) {
    uint32_t positions[JOBS_MAX];
    for (uint32_t i = 0; i < n_rows; i++)
        positions[i] = position;
    return cuda_batch_spread(b, class_index, positions, n_rows);
}

// Draws are left out: they would advance the sequence.
static bool rows_of_class(CudaBackend *b, uint32_t class_index, uint32_t n_rows, uint32_t position,
                          Arena scratch, TimedStep *out, Error *err) {
    uint32_t n = b->batches->lowered.classes[class_index].n_stages;
    bool is_prompt = b->batches->lowered.classes[class_index].size.body == BODY_PROMPT;
    const BatchStage **stages = arena_new(&scratch, const BatchStage *, n);
    if (!stages || !step_make(&scratch, n, out, err))
        return error_set(err, ERR_NO_MEMORY, "a step does not fit its memory");
    BatchSpread spread = is_prompt ? b->batches->pass_spread : spread_at(b, class_index, position, n_rows);
    uint32_t tail = is_prompt ? TAIL_COUNT : TAIL_GREEDY;
    out->n_rows = n_rows;
    out->whole_rows = (uint32_t)max_u64(n_rows, out->whole_rows);
    n = cuda_batch_launches(b, class_index, spread, tail, out->args, out->launches, stages);
    for (uint32_t i = 0; i < n; i++) {
        const BatchStage *s = stages[i];
        if (batch_draws(s->type)) continue;
        Timed *t = &out->stages[out->n++];
        *t = (Timed){
            .type = s->type, .name = s->type->name, .launch = out->launches[i], .shape = yardstick_shape(s)};
        t->bytes = s->weight_bytes + (is_prompt ? 0 : n_rows * cache_bytes(b->plan, s, position));
        t->flops = is_prompt ? flops_of(s, n_rows) : 0;
    }
    out->scratch = scratch;
    return true;
}

// ---- the clock ----

static int compare_floats(const void *a, const void *b) {
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

bool stopwatch_time(Stopwatch *w, CUgraphExec before, CUgraphExec graph, double *out, Error *err) {
    const Cuda *cuda = &w->b->cuda;
    CUstream stream = w->b->stream;
    CUresult r = CUDA_SUCCESS;
    if (w->rest_ms) os_sleep_ms(w->rest_ms);
    if (!cuda_clock_begin(&w->b->api, err)) return false;
    for (uint32_t i = 0; i < w->n_runs && r == CUDA_SUCCESS; i++) {
        r = cuda->graph_launch(before, stream);
        if (r == CUDA_SUCCESS) r = cuda->event_record(w->begin, stream);
        if (r == CUDA_SUCCESS) r = cuda->graph_launch(graph, stream);
        if (r == CUDA_SUCCESS) r = cuda->event_record(w->end, stream);
        if (r == CUDA_SUCCESS) r = cuda->event_synchronize(w->end);
        if (r == CUDA_SUCCESS) r = cuda->event_elapsed(&w->runs[i], w->begin, w->end);
    }
    qsort(w->runs, w->n_runs, sizeof *w->runs, compare_floats);
    *out = (double)w->runs[w->n_runs / 2] * 1e3;
    if (!cuda_ok(cuda, r, "measuring stages", err) || !cuda_clock_end(&w->b->api, err)) return false;
    w->clock_mhz = cuda_clock_take(&w->b->api);
    return true;
}

// Mean time of greedy steps that follow each other without a pause, in microseconds.
static bool time_steps(Stopwatch *w, CUgraphExec step, double *out, Error *err) {
    const Cuda *cuda = &w->b->cuda;
    CUstream stream = w->b->stream;
    float ms = 0;
    CUresult r = cuda->event_record(w->begin, stream);
    for (uint32_t i = 0; i < w->n_runs && r == CUDA_SUCCESS; i++)
        r = cuda->graph_launch(step, stream);
    if (r == CUDA_SUCCESS) r = cuda->event_record(w->end, stream);
    if (r == CUDA_SUCCESS) r = cuda->event_synchronize(w->end);
    if (r == CUDA_SUCCESS) r = cuda->event_elapsed(&ms, w->begin, w->end);
    *out = (double)ms * 1e3 / w->n_runs;
    return cuda_ok(cuda, r, "measuring steps", err);
}

// The library's time for the products of n stages, and of each so many rows for more of them at once.
static bool time_library(Stopwatch *w, CUgraphExec whole, TimedStep *step, uint32_t n, StageTime *out,
                         Error *err) {
    Yardstick *y = &step->yardstick;
    ProductShape first = step->shapes[0];
    if (first.n_out == 0) return true;
    out->n_rows = step->n_rows, out->n_in = first.n_in, out->n_out = first.n_out;
    if (!yardstick_time(y, w, whole, step->shapes, n, step->n_rows, step->scratch, &out->library_us, err))
        return false;
    out->library_clock_mhz = w->clock_mhz;
    if (step->whole_rows == step->n_rows) return true;
    bool ok = yardstick_time(y, w, whole, step->shapes, n, step->whole_rows, step->scratch,
                             &out->library_whole_us, err);
    out->library_whole_us *= (double)step->n_rows / step->whole_rows;
    return ok;
}

static bool time_type(Stopwatch *w, CUgraphExec whole, TimedStep *step, const Timed *like, StageTime *out,
                      Error *err) {
    CudaBackend *b = w->b;
    *out = (StageTime){.name = like->name};
    for (uint32_t i = 0; i < step->n; i++) {
        const Timed *t = &step->stages[i];
        if (t->type != like->type) continue;
        step->shapes[out->count] = t->shape;
        step->launches[out->count++] = t->launch;
        out->bytes += t->bytes;
        out->flops += t->flops;
    }
    out->bytes /= out->count;
    out->flops /= out->count;
    CUgraphExec graph;
    if (!graph_make(&b->cuda, step->launches, out->count, b->overlap, b->stream, &graph, err)) return false;
    bool ok = stopwatch_time(w, whole, graph, &out->microseconds, err);
    b->cuda.graph_exec_destroy(graph);
    out->microseconds /= out->count;
    out->clock_mhz = w->clock_mhz;
    return ok && time_library(w, whole, step, out->count, out, err);
}

static bool open_yardstick(Stopwatch *w, TimedStep *step, Error *err) {
    for (uint32_t i = 0; i < step->n; i++)
        step->shapes[i] = step->stages[i].shape;
    return yardstick_open(w->b, step->shapes, step->n, step->whole_rows, &step->scratch, &step->yardstick,
                          err);
}

// Of each kind of stage; `whole_us`, unless it is NULL, is the time of all of them.
static bool time_types(Stopwatch *w, TimedStep *step, StageTime *out, uint32_t *n_out, double *whole_us,
                       Error *err) {
    CudaBackend *b = w->b;
    CUgraphExec whole;
    for (uint32_t i = 0; i < step->n; i++)
        step->launches[i] = step->stages[i].launch;
    if (!graph_make(&b->cuda, step->launches, step->n, b->overlap, b->stream, &whole, err)) return false;
    bool ok = (!whole_us || stopwatch_time(w, whole, whole, whole_us, err)) && open_yardstick(w, step, err);
    *n_out = 0;
    for (uint32_t i = 0; ok && i < step->n; i++) {
        bool is_first = true;
        for (uint32_t k = 0; k < i; k++)
            is_first = is_first && step->stages[k].type != step->stages[i].type;
        if (is_first) ok = time_type(w, whole, step, &step->stages[i], &out[(*n_out)++], err);
    }
    yardstick_close(&step->yardstick);
    b->cuda.graph_exec_destroy(whole);
    return ok;
}

// ---- rows to measure with ----

// Pages of a slot's own, for positions up to `end`, in *q. A step has up to n_rows of its rows.
static bool slot_pages(CudaBackend *b, uint32_t n_slots, uint32_t end, uint32_t n_rows, Arena *scratch,
                       StepSequence *q, Error *err) {
    const KvLayout *l = &b->plan->kv;
    uint64_t needed = kv_layout_pages(l, end, n_rows);
    if (needed * n_slots > b->n_pages)
        return error_set(err, ERR_VRAM_OOM, "the cache holds %u pages; %llu are needed", b->n_pages,
                         (unsigned long long)needed * n_slots);
    q->list_pages = (uint32_t)kv_pages_of(end);
    uint32_t *pages = arena_new(scratch, uint32_t, (uint64_t)l->n_lists * q->list_pages);
    if (!pages) return error_set(err, ERR_NO_MEMORY, "a sequence's pages do not fit their memory");
    kv_layout_spread(l, end, n_rows, (uint32_t)(q->slot * needed), pages);
    q->pages = pages;
    return true;
}

static bool run_one(CudaBackend *b, const Step *step, Error *err) {
    StepResult result;
    return b->api.step(&b->api, step, err) && b->api.read(&b->api, &result, err);
}

// Values as various as a real text's: what is multiplied decides how much power it takes.
static int32_t random_token(const CudaBackend *b, uint32_t i) {
    return (int32_t)(rng_philox(2, i).word[0] % b->plan->n_vocab);
}

// Rows of slot 0 from a position on; `end`: of the positions that will be written.
static bool place_slot(CudaBackend *b, uint32_t position, uint32_t n_rows, uint32_t end, Arena scratch,
                       Error *err) {
    int32_t *tokens = arena_new(&scratch, int32_t, n_rows);
    if (!tokens) return error_set(err, ERR_NO_MEMORY, "%u rows are too many", n_rows);
    for (uint32_t i = 0; i < n_rows; i++)
        tokens[i] = random_token(b, i);
    StepSequence q = {.position = position, .n_rows = n_rows, .tokens = tokens, .n_draws = 1};
    if (!slot_pages(b, 1, end, n_rows, &scratch, &q, err)) return false;
    SequenceStart start = {.params = SAMPLER_GREEDY, .tokens = tokens, .n_prompt = 1};
    return b->api.begin(&b->api, 0, &start, err) &&
           run_one(b, &(Step){.sequences = &q, .n_sequences = 1}, err);
}

// A row of each of n_rows slots that decodes at a position.
static bool place_rows(CudaBackend *b, uint32_t n_rows, uint32_t position, uint32_t end, Arena scratch,
                       Error *err) {
    StepSequence rows[JOBS_MAX];
    int32_t token;
    SequenceStart start = {.params = SAMPLER_GREEDY, .tokens = &token, .n_prompt = 1};
    for (uint32_t i = 0; i < n_rows; i++) {
        token = random_token(b, i);
        StepSequence first = {
            .slot = i, .position = position - 1, .n_rows = 1, .tokens = &token, .n_draws = 1};
        if (!slot_pages(b, n_rows, end, 1, &scratch, &first, err)) return false;
        rows[i] = first;
        rows[i].mode = STEP_DECODE;
        rows[i].position = position;
        rows[i].tokens = NULL;
        if (!b->api.begin(&b->api, i, &start, err) ||
            !run_one(b, &(Step){.sequences = &first, .n_sequences = 1}, err))
            return false;
    }
    return run_one(b, &(Step){.sequences = rows, .n_sequences = n_rows}, err);
}

static bool stopwatch_begin(CudaBackend *b, uint32_t runs, Arena *scratch, Stopwatch *w, Error *err) {
    *w = (Stopwatch){.b = b, .n_runs = runs, .runs = arena_new(scratch, float, runs)};
    if (!w->runs) return error_set(err, ERR_NO_MEMORY, "%u runs are too many", runs);
    CUresult r = b->cuda.event_create(&w->begin, CU_EVENT_DEFAULT);
    if (r == CUDA_SUCCESS) r = b->cuda.event_create(&w->end, CU_EVENT_DEFAULT);
    return cuda_ok(&b->cuda, r, "measuring stages", err);
}

static void stopwatch_end(Stopwatch *w) {
    CudaBackend *b = w->b;
    for (uint32_t i = 0; i < BATCH_CLASSES_MAX; i++)
        b->batches->classes[i].n_placed = 0; // the steps that were measured have moved the rows
    if (w->begin) b->cuda.event_destroy(w->begin);
    if (w->end) b->cuda.event_destroy(w->end);
}

// A prompt's, in slot 0.
static bool prompt_step(CudaBackend *b, uint32_t n_rows, Arena scratch, TimedStep *out, Error *err) {
    return place_slot(b, 0, n_rows, n_rows, scratch, err) &&
           rows_of_class(b, cuda_batch_prompts_for(b->batches, n_rows), n_rows, 0, scratch, out, err);
}

// ---- what is asked for ----

bool cuda_backend_time_rows(Backend *backend, uint32_t n_rows, uint32_t position, uint32_t runs,
                            StageTime out[STAGE_TIMES_MAX], uint32_t *n_out, double *step_us, Error *err) {
    CudaBackend *b = cuda_self(backend);
    Arena scratch = b->inspection;
    Stopwatch w;
    TimedStep step = {0};
    uint32_t end = position + 2 + runs;
    if (n_rows > b->options.n_slots)
        return error_set(err, ERR_UNSUPPORTED, "%u rows; there are %u slots", n_rows, b->options.n_slots);
    cuda_backend_wait_for_classes(backend);
    bool ok = stopwatch_begin(b, runs, &scratch, &w, err);
    if (ok) {
        uint32_t c = cuda_batch_class_for(b->batches, n_rows);
        BatchSpread spread = spread_at(b, c, position, n_rows);
        CUgraphExec whole = b->batches->classes[c].graphs[spread][TAIL_GREEDY];
        ok = place_rows(b, n_rows, (uint32_t)max_u64(position, 1), end, scratch, err) &&
             rows_of_class(b, c, n_rows, position, scratch, &step, err) &&
             time_types(&w, &step, out, n_out, NULL, err) && time_steps(&w, whole, step_us, err);
    }
    stopwatch_end(&w);
    return ok;
}

bool cuda_backend_time_prefill(Backend *backend, uint32_t n_tokens, uint32_t runs, uint32_t rest_ms,
                               StageTime out[STAGE_TIMES_MAX], uint32_t *n_out, double *step_us, Error *err) {
    CudaBackend *b = cuda_self(backend);
    Arena scratch = b->inspection;
    Stopwatch w;
    uint32_t n_rows = (uint32_t)min_u64(n_tokens, b->options.max_rows);
    TimedStep step = {.whole_rows = n_tokens};
    bool ok = stopwatch_begin(b, runs, &scratch, &w, err);
    w.rest_ms = rest_ms;
    ok = ok && prompt_step(b, n_rows, scratch, &step, err) && time_types(&w, &step, out, n_out, step_us, err);
    stopwatch_end(&w);
    return ok;
}

// ---- at the speed that the GPU keeps up ----

enum { SUSTAINED_TURNS = 2, GROUP_MS = 20, GROUP_MAX = 1024 };

// The mean time of a graph, back to back for so long, in microseconds. The host waits for a group of launches
// that takes GROUP_MS, so that the gaps between groups do not count.
static bool run_for(Stopwatch *w, CUgraphExec graph, double seconds, double *out, Error *err) {
    const Cuda *cuda = &w->b->cuda;
    CUresult r = CUDA_SUCCESS;
    uint64_t begin_ns = os_monotonic_ns();
    double n = 0, group = 1, ns = 0;
    while (ns < seconds * 1e9 && r == CUDA_SUCCESS) {
        for (double i = 0; i < group && r == CUDA_SUCCESS; i++)
            r = cuda->graph_launch(graph, w->b->stream);
        if (r == CUDA_SUCCESS) r = cuda->stream_synchronize(w->b->stream);
        n += group;
        ns = (double)(os_monotonic_ns() - begin_ns);
        group = (double)min_u64((uint64_t)(GROUP_MS * 1e6 * n / (ns + 1)) + 1, GROUP_MAX);
    }
    *out = ns * 1e-3 / n;
    return cuda_ok(cuda, r, "measuring products", err);
}

// Adds a turn's mean of SUSTAINED_TURNS.
static bool sustain(Stopwatch *w, CUgraphExec graph, double seconds, double *us, double *mhz, Error *err) {
    Backend *backend = &w->b->api;
    double settling_us, mean_us;
    if (!run_for(w, graph, seconds / 2, &settling_us, err) || !cuda_clock_begin(backend, err) ||
        !run_for(w, graph, seconds / 2, &mean_us, err) || !cuda_clock_end(backend, err))
        return false;
    *us += mean_us / SUSTAINED_TURNS;
    *mhz += cuda_clock_take(backend) / SUSTAINED_TURNS;
    return true;
}

static bool sustain_step(Stopwatch *w, TimedStep *step, double seconds, SustainedProducts *out, Error *err) {
    CudaBackend *b = w->b;
    CUgraphExec own = NULL, library = NULL;
    uint32_t n = 0;
    for (uint32_t i = 0; i < step->n; i++) {
        if (step->stages[i].shape.n_out == 0) continue;
        step->launches[n] = step->stages[i].launch;
        step->shapes[n++] = step->stages[i].shape;
    }
    if (n == 0) return true;
    bool ok =
        yardstick_open(b, step->shapes, n, step->n_rows, &step->scratch, &step->yardstick, err) &&
        yardstick_graph(&step->yardstick, w, step->shapes, n, step->n_rows, step->scratch, &library, err) &&
        graph_make(&b->cuda, step->launches, n, b->overlap, b->stream, &own, err);
    for (uint32_t i = 0; ok && i < SUSTAINED_TURNS; i++) {
        ok = sustain(w, own, seconds, &out->microseconds, &out->clock_mhz, err) &&
             (!library || sustain(w, library, seconds, &out->library_us, &out->library_clock_mhz, err));
    }
    out->microseconds /= b->plan->n_layers;
    out->library_us /= b->plan->n_layers;
    if (own) b->cuda.graph_exec_destroy(own);
    if (library) b->cuda.graph_exec_destroy(library);
    yardstick_close(&step->yardstick);
    return ok;
}

bool cuda_backend_sustain_products(Backend *backend, uint32_t n_tokens, double seconds,
                                   SustainedProducts *out, Error *err) {
    CudaBackend *b = cuda_self(backend);
    Arena scratch = b->inspection;
    Stopwatch w;
    uint32_t n_rows = (uint32_t)min_u64(n_tokens, b->options.max_rows);
    TimedStep step = {0};
    *out = (SustainedProducts){0};
    bool ok = stopwatch_begin(b, 1, &scratch, &w, err) && prompt_step(b, n_rows, scratch, &step, err) &&
              sustain_step(&w, &step, seconds, out, err);
    stopwatch_end(&w);
    return ok;
}
