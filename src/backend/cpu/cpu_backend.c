#include "backend/cpu/cpu_backend.h"

#include "backend/cpu/cpu_ops.h"
#include "backend/cpu/matmul.h"
#include "base/f16.h"
#include "base/strbuf.h"
#include "os/os.h"

#include <math.h>

enum { CHUNK_TOKENS_FIRST = 64, INVALID_TEXT_BYTES = 160 };

// What the sampler needs of one sequence.
typedef struct {
    SamplerParams params;
    SamplerHistory history;
    uint64_t n_drawn;
    int32_t last_token;
    TokenLogprobs logprobs;                // of last_token, where they are wanted
    char invalid_text[INVALID_TEXT_BYTES]; // StepRun.first_invalid
} CpuSlot;

typedef struct {
    Backend api; // first, so that a Backend pointer is one to this
    BackendOptions options;
    Arena *arena;
    const Plan *plan;
    Pool *pool;
    void *memory; // one reservation for cache, activations and scratch
    uint64_t memory_bytes;
    CpuOp *ops;
    CpuSlot *slots;
    RowPlace *rows;
    uint32_t *wanted;
    float *sample_logits; // [n_vocab], a copy that the sampler may change
    Arena sampler_scratch;
    CpuStep step;
    StepResult result;
    bool has_result;
    CpuObserver *observer;
    void *observer_context;
} CpuBackend;

static CpuBackend *self(Backend *b) {
    return (CpuBackend *)b;
}

static const float *expand_small(const Weight *w, Arena *arena) {
    const DtypeInfo *info = dtype_info(w->dtype);
    uint64_t n = w->n_rows * w->n_cols;
    float *values = arena_new(arena, float, n);
    if (values) info->dequantize(w->data, values, n / info->block_elements);
    return values;
}

// Norms, biases, sinks and learned positions are read element by element: float32 copies of them are made.
static bool weight_is_small(const Op *op) {
    return op->kind == OP_RMS_NORM || op->kind == OP_LAYER_NORM || op->kind == OP_ATTENTION ||
           op->kind == OP_ADD_POSITION || op->kind == OP_ROUTE || op->kind == OP_SHARE ||
           op->kind == OP_SCALE || op->kind == OP_CONV || op->kind == OP_DELTA || op->kind == OP_SSM;
}

static bool make_ops(CpuBackend *cpu, Error *err) {
    const Plan *plan = cpu->plan;
    cpu->ops = arena_new(cpu->arena, CpuOp, plan->n_ops);
    bool ok = cpu->ops != NULL;
    for (uint32_t i = 0; ok && i < plan->n_ops; i++) {
        const Op *op = &plan->ops[i];
        CpuOp *out = &cpu->ops[i];
        out->op = op;
        if (op->weight && weight_is_small(op))
            ok = (out->weight_f32 = expand_small(op->weight, cpu->arena)) != NULL;
        if (ok && op->bias) ok = (out->bias_f32 = expand_small(op->bias, cpu->arena)) != NULL;
    }
    return ok || error_set(err, ERR_NO_MEMORY, "the model's norms and biases do not fit the process arena");
}

static uint32_t pages_wanted(const CpuBackend *cpu, uint64_t page_bytes) {
    uint64_t pages = backend_pages_of_use(&cpu->options, &cpu->plan->kv);
    if (cpu->options.kv_bytes) pages = min_u64(pages, cpu->options.kv_bytes / page_bytes);
    return (uint32_t)min_u64(pages, UINT32_MAX);
}

static uint64_t most_columns(const Plan *plan) {
    uint64_t most = 0;
    for (uint32_t i = 0; i < plan->n_weights; i++)
        most = max_u64(most, plan->weights[i].n_cols);
    return most;
}

// Lays the step's buffers out from `base` on; run twice, the first time only to learn the size.
static void lay_out(CpuBackend *cpu, uint8_t *base, uint64_t *size) {
    const Plan *plan = cpu->plan;
    CpuStep *s = &cpu->step;
    uint64_t at = 0, rows = cpu->options.max_rows, threads = pool_thread_count(cpu->pool);
#define TAKE(pointer, count) \
    ((pointer) = (void *)(base + at), at = align_up(at + (count) * sizeof *(pointer), 64))
    TAKE(s->kv.data, s->kv.n_pages * s->kv.page_floats);
    TAKE(s->states.data, 2 * cpu->options.n_slots * s->states.slot_values);
    TAKE(s->states.checkpoints, cpu->api.info.n_checkpoints * s->states.slot_values);
    for (uint32_t i = 0; i < ACT_COUNT; i++)
        TAKE(s->act[i], rows * plan->act_width[i]);
    TAKE(s->head_in, rows * plan->d_model);
    TAKE(s->logits, rows * plan->n_vocab);
    TAKE(s->scores, threads * s->scores_stride);
    TAKE(s->scratch, threads * s->scratch_stride);
    TAKE(s->expert_rows, rows);
    TAKE(cpu->sample_logits, (uint64_t)plan->n_vocab);
    uint8_t *sampler;
    TAKE(sampler, sampler_scratch_bytes(plan->n_vocab));
#undef TAKE
    cpu->sampler_scratch = (Arena){.next = sampler, .end = base + at};
    *size = at;
}

static void size_cache(CpuBackend *cpu) {
    const Plan *plan = cpu->plan;
    KvCache *kv = &cpu->step.kv;
    // A place's values are float32 here. (Of Q8 a value has a byte there, and scales come on top.)
    uint64_t value_bytes = plan->kv_type == KV_TYPE_Q8 ? sizeof(int8_t) : sizeof(uint16_t);
    *kv = (KvCache){.caches = plan->caches, .place_floats = plan->kv.place_bytes / value_bytes};
    kv->page_floats = plan->kv.n_places * kv->place_floats;
    kv->n_pages = pages_wanted(cpu, max_u64(kv->page_floats * sizeof(float), 1));
    cpu->options.n_slots = backend_slots_held(&cpu->options, &plan->kv, kv->n_pages);
}

// Where each cache begins in a slot's state.
static bool size_states(CpuBackend *cpu, Error *err) {
    const Plan *plan = cpu->plan;
    CpuStates *states = &cpu->step.states;
    uint64_t *first = arena_new(cpu->arena, uint64_t, plan->n_caches);
    *states = (CpuStates){.first = first, .current = arena_new(cpu->arena, uint8_t, cpu->options.n_slots)};
    if (!first || !states->current)
        return error_set(err, ERR_NO_MEMORY, "the list of states does not fit its memory");
    for (uint32_t i = 0; i < plan->n_caches; i++) {
        first[i] = states->slot_values;
        states->slot_values += align_up(cache_slot_values(&plan->caches[i]), 16);
    }
    cpu->api.info.checkpoint_bytes = states->slot_values * sizeof *states->data;
    cpu->api.info.n_checkpoints = backend_checkpoints(&cpu->options, cpu->api.info.checkpoint_bytes);
    return true;
}

static bool make_memory(CpuBackend *cpu, Error *err) {
    CpuStep *s = &cpu->step;
    s->pool = cpu->pool;
    s->scores_stride = align_up(cpu->plan->n_context, 16);
    s->scratch_stride = matmul_scratch_floats(most_columns(cpu->plan));
    size_cache(cpu);
    if (!size_states(cpu, err)) return false;
    lay_out(cpu, (uint8_t *)4096, &cpu->memory_bytes);
    cpu->memory = os_reserve(cpu->memory_bytes);
    if (!cpu->memory) {
        return error_set(err, ERR_NO_MEMORY, "%llu bytes for cache and activations cannot be reserved",
                         (unsigned long long)cpu->memory_bytes);
    }
    lay_out(cpu, cpu->memory, &cpu->memory_bytes);
    uint32_t n_vocab = cpu->plan->n_vocab;
    cpu->slots = arena_new(cpu->arena, CpuSlot, cpu->options.n_slots);
    cpu->rows = arena_new(cpu->arena, RowPlace, cpu->options.max_rows);
    cpu->wanted = arena_new(cpu->arena, uint32_t, cpu->options.max_rows);
    bool ok = cpu->slots && cpu->rows && cpu->wanted;
    for (uint32_t i = 0; ok && i < cpu->options.n_slots; i++) {
        SamplerHistory *h = &cpu->slots[i].history;
        h->seen = arena_new(cpu->arena, uint32_t, token_set_words(n_vocab));
        h->counts = arena_new(cpu->arena, uint16_t, n_vocab);
        ok = h->seen && h->counts;
    }
    return ok || error_set(err, ERR_NO_MEMORY, "the sequences' state does not fit the process arena");
}

// The weights stay in the mapped file. They are read once, so that the first prompt does not wait for the
// disk.
static void read_weights(const Plan *plan, BackendProgressFn *progress, void *context) {
    uint64_t done = 0;
    volatile uint8_t sink = 0;
    for (uint32_t i = 0; i < plan->n_weights; i++) {
        const Weight *w = &plan->weights[i];
        for (uint64_t at = 0; at < w->size_bytes; at += 4096)
            sink = (uint8_t)(sink ^ w->data[at]);
        done += w->size_bytes;
        if (progress)
            progress(context, (uint32_t)min_u64(1000, done * 1000 / max_u64(plan->weight_bytes, 1)));
    }
}

static bool cpu_load(Backend *b, const Plan *plan, BackendProgressFn *progress, void *context, Error *err) {
    CpuBackend *cpu = self(b);
    uint64_t begin_ns = os_monotonic_ns();
    cpu->plan = plan;
    if (!make_ops(cpu, err) || !make_memory(cpu, err)) return false;
    read_weights(plan, progress, context);
    b->info.n_slots = cpu->options.n_slots;
    b->info.n_kv_pages = cpu->step.kv.n_pages;
    b->info.vram_bytes_used = cpu->memory_bytes;
    b->info.load_seconds = (double)(os_monotonic_ns() - begin_ns) * 1e-9;
    return true;
}

static bool cpu_begin(Backend *b, uint32_t slot, const SequenceStart *start, Error *err) {
    (void)err;
    CpuBackend *cpu = self(b);
    CpuSlot *s = &cpu->slots[slot];
    s->params = start->params;
    s->n_drawn = start->n_drawn;
    sampler_history_begin(s->history, cpu->plan->n_vocab, start->tokens, start->n_prompt + start->n_drawn,
                          start->n_drawn);
    return true;
}

// Rows whose logits are computed: the last ones.
static uint32_t rows_wanted(const StepSequence *q) {
    return (uint32_t)max_u64(q->n_logits, q->n_draws);
}

// Spreads the sequences into rows, and notes whose logits are wanted.
static void place_rows(CpuBackend *cpu, const Step *step) {
    CpuStep *s = &cpu->step;
    s->n_rows = s->n_wanted = 0;
    for (uint32_t i = 0; i < step->n_sequences; i++) {
        const StepSequence *q = &step->sequences[i];
        s->first_rows[i] = s->n_rows;
        for (uint32_t t = 0; t < q->n_rows; t++, s->n_rows++) {
            int32_t token = q->mode == STEP_DECODE ? cpu->slots[q->slot].last_token : q->tokens[t];
            cpu->rows[s->n_rows] = (RowPlace){.token = token, .position = q->position + t, .sequence = i};
            if (t + rows_wanted(q) >= q->n_rows) cpu->wanted[s->n_wanted++] = s->n_rows;
        }
    }
    s->rows = cpu->rows;
    s->wanted = cpu->wanted;
    s->step = step;
}

static void observe(const CpuBackend *cpu, uint32_t op_index) {
    const Op *op = cpu->ops[op_index].op;
    const CpuStep *s = &cpu->step;
    if (op->kind == OP_HEAD) {
        cpu->observer(cpu->observer_context, op_index, s->logits, s->n_wanted, cpu->plan->n_vocab);
    } else {
        bool has_out = op->kind != OP_KV_WRITE;
        cpu->observer(cpu->observer_context, op_index, s->act[has_out ? op->out : op->in[0]], s->n_rows,
                      has_out ? op->out_width : op->in_width[0]);
    }
}

// Draws for one sequence from the logits of its last row.
static StepRun draw(CpuBackend *cpu, const StepSequence *q, const float *logits) {
    CpuSlot *s = &cpu->slots[q->slot];
    uint32_t n_vocab = cpu->plan->n_vocab;
    memcpy(cpu->sample_logits, logits, n_vocab * sizeof *logits);
    if (q->mask) sampler_mask(cpu->sample_logits, n_vocab, q->mask);
    int32_t token =
        sampler_draw(&s->params, cpu->sample_logits, n_vocab, s->history, s->n_drawn++, cpu->sampler_scratch);
    StepRun run = {.slot = q->slot, .n_tokens = 1, .tokens = {token}};
    s->last_token = token < 0 ? 0 : token;
    sampler_history_add(s->history, s->last_token);
    if (token >= 0 && s->params.logprobs) {
        sampler_logprobs(logits, n_vocab, token, s->params.n_logprobs, &s->logprobs);
        run.logprobs = &s->logprobs;
    }
    return run;
}

static void collect(CpuBackend *cpu, const Step *step) {
    CpuStep *s = &cpu->step;
    uint32_t next_logits = 0, n_vocab = cpu->plan->n_vocab;
    StepResult *r = &cpu->result;
    r->n_runs = r->n_logits = 0;
    for (uint32_t i = 0; i < step->n_sequences; i++) {
        const StepSequence *q = &step->sequences[i];
        next_logits += rows_wanted(q);
        r->n_logits += q->n_logits;
        if (!q->n_draws) continue;
        const float *logits = s->logits + (uint64_t)(next_logits - 1) * n_vocab; // of the last row
        r->runs[r->n_runs++] = draw(cpu, q, logits);
    }
    r->logits = r->n_logits ? s->logits : NULL;
    cpu->has_result = true;
}

static bool is_stopped(const CpuBackend *cpu) {
    return cpu->options.stopped && cpu->options.stopped();
}

static void run_ops(CpuBackend *cpu) {
    for (uint32_t i = 0; i < cpu->plan->n_ops && !is_stopped(cpu); i++) {
        cpu_op_run(&cpu->ops[i], &cpu->step);
        if (cpu->observer) observe(cpu, i);
    }
}

// The operation that first computed something else than numbers, for each sequence of a step.
typedef struct {
    const CpuBackend *cpu;
    uint32_t first[JOBS_MAX]; // by sequence; UINT32_MAX: none
} Invalid;

// An observer that keeps these operations. HEAD shows the rows whose logits are wanted, the others show all.
static void note_invalid(void *context, uint32_t op_index, const float *values, uint32_t n_rows,
                         uint32_t width) {
    Invalid *invalid = context;
    const CpuStep *s = &invalid->cpu->step;
    bool is_head = invalid->cpu->plan->ops[op_index].kind == OP_HEAD;
    for (uint32_t row = 0; row < n_rows; row++) {
        uint32_t *first = &invalid->first[s->rows[is_head ? s->wanted[row] : row].sequence];
        for (uint32_t i = 0; *first == UINT32_MAX && i < width; i++) {
            if (!isfinite(values[(uint64_t)row * width + i])) *first = op_index;
        }
    }
}

// Runs the step once more, which writes the same values to the cache and the states, and looks at each
// operation's. Rows that an earlier step put into the cache spoiled show as the ATTENTION that reads them.
static void explain_invalid(CpuBackend *cpu, const Step *step) {
    Invalid invalid = {.cpu = cpu};
    CpuObserver *observer = cpu->observer;
    void *context = cpu->observer_context;
    memset(invalid.first, 0xFF, sizeof invalid.first);
    cpu_backend_observe(&cpu->api, note_invalid, &invalid);
    run_ops(cpu);
    cpu_backend_observe(&cpu->api, observer, context);
    for (uint32_t i = 0, run = 0; i < step->n_sequences; i++) {
        if (!step->sequences[i].n_draws) continue;
        StepRun *r = &cpu->result.runs[run++];
        if (r->tokens[0] != TOKEN_INVALID || invalid.first[i] == UINT32_MAX) continue;
        StrBuf text = STRBUF(cpu->slots[r->slot].invalid_text);
        plan_name_op(&cpu->plan->ops[invalid.first[i]], &text);
        r->first_invalid = cpu->slots[r->slot].invalid_text;
    }
}

static bool cpu_step(Backend *b, const Step *step, Error *err) {
    CpuBackend *cpu = self(b);
    if (!step_check(step, &b->info, err)) return false;
    place_rows(cpu, step);
    run_ops(cpu);
    if (is_stopped(cpu)) return error_set(err, ERR_CANCELLED, "stopped");
    if (os_file_was_cut()) return error_set(err, ERR_IO, "the model's file was cut while it was in use");
    collect(cpu, step);
    for (uint32_t i = 0; i < cpu->result.n_runs; i++) {
        if (cpu->result.runs[i].tokens[0] != TOKEN_INVALID) continue;
        explain_invalid(cpu, step);
        break;
    }
    for (uint32_t i = 0; i < step->n_sequences; i++)
        cpu->step.states.current[step->sequences[i].slot] ^= 1;
    return true;
}

static bool cpu_copy_page(Backend *b, uint32_t from, uint32_t to, Error *err) {
    (void)err;
    const KvCache *kv = &self(b)->step.kv;
    memcpy(kv->data + to * kv->page_floats, kv->data + from * kv->page_floats,
           kv->page_floats * sizeof *kv->data);
    return true;
}

static bool cpu_restore_state(Backend *b, uint32_t slot, uint32_t checkpoint, Error *err) {
    (void)err;
    const CpuStates *states = &self(b)->step.states;
    float *next = states->data + (2 * (uint64_t)slot + states->current[slot]) * states->slot_values;
    memcpy(next, states->checkpoints + checkpoint * states->slot_values, b->info.checkpoint_bytes);
    return true;
}

static bool cpu_read(Backend *b, StepResult *out, Error *err) {
    CpuBackend *cpu = self(b);
    if (!cpu->has_result) return error_set(err, ERR_INTERNAL, "no step to read");
    *out = cpu->result;
    cpu->has_result = false;
    return true;
}

static void cpu_close(Backend *b) {
    CpuBackend *cpu = self(b);
    pool_destroy(cpu->pool);
    os_release(cpu->memory, cpu->memory_bytes);
}

void cpu_backend_observe(Backend *backend, CpuObserver *observer, void *context) {
    self(backend)->observer = observer;
    self(backend)->observer_context = context;
}

bool cpu_backend_open(const BackendOptions *options, Arena *arena, Backend **out, Error *err) {
    CpuBackend *cpu = arena_new(arena, CpuBackend, 1);
    if (!cpu) return error_set(err, ERR_NO_MEMORY, "the CPU backend does not fit its memory");
    cpu->options = *options;
    cpu->arena = arena;
    uint32_t n_threads = options->n_threads ? options->n_threads : os_cpu_count();
    if (!pool_create(n_threads, "cpu-pool", arena, &cpu->pool, err)) return false;
    cpu->api = (Backend){.load = cpu_load,
                         .begin = cpu_begin,
                         .copy_page = cpu_copy_page,
                         .restore_state = cpu_restore_state,
                         .step = cpu_step,
                         .read = cpu_read,
                         .close = cpu_close,
                         .info = {.kind = "cpu",
                                  .device_name = "CPU reference",
                                  .runtime_version = "",
                                  .driver_version = "",
                                  .n_slots = options->n_slots,
                                  .max_rows = options->max_rows,
                                  .max_draws = 1,
                                  .chunk_tokens = CHUNK_TOKENS_FIRST,
                                  .masks = true,
                                  .pipeline_depth = 1}};
    *out = &cpu->api;
    return true;
}
