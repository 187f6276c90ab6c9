#include "engine_sim.h"

#include "base/rng.h"
#include "engine/engine_internal.h"
#include "engine_invariants.h"
#include "os/os.h"

#include <stdarg.h>
#include <stdio.h>

enum {
    CONTEXT = 160,
    VOCAB = 50,
    SALTS = 3,
    TOPICS = 12, // beginnings that texts have in common
    QUEUE = 4,
    FAULT_AFTER_STEPS = 500,
    // Steps that a sequence may be left out of, beside those in which others have their turns.
    PATIENCE = 6,
    DRAWS_BASE_NS = 2000000,
    DRAW_NS = 10000,
    ROW_NS = 40000,
};

// What is known of a slot's job on both sides: its text, and what it must draw.
typedef struct {
    bool used;
    uint8_t salt;
    uint32_t n_prompt, n_drawn, max_tokens;
    uint64_t progress; // the step that brought something last, or since when it may
    int32_t text[CONTEXT];
} Job;

// The executor's side of a slot.
typedef struct {
    uint32_t n; // tokens of the text
    uint8_t salt;
    int32_t text[CONTEXT];
} Script;

// What a slot keeps besides pages.
typedef struct {
    uint32_t n; // rows
    uint64_t hash;
} SlotState;

// A position of a page.
typedef struct {
    int32_t token;
    uint8_t salt_and_1; // 0: nothing was written
} Cell;

typedef struct {
    Backend backend; // first: the functions below get a pointer to it
    EngineSimConfig config;
    EngineSimReport *report;
    uint64_t draws; // of random numbers
    Plan plan;
    Engine *engine;
    Job *jobs;                     // [n_slots]
    Script *scripts;               // [n_slots]
    Cell (*cells)[KV_PAGE_TOKENS]; // [n_pages]
    SlotState *states;             // [n_slots]
    SlotState *checkpoints;        // [n_checkpoints]
    StepResult *queue;             // [QUEUE]
    uint64_t queue_ns[QUEUE];
    uint32_t n_queued;
    uint32_t jobs_begun;
    uint8_t next_salt; // of the job that is admitted
    bool fault_done;
} Sim;

static uint64_t virtual_ns; // of the simulation that runs

static uint64_t sim_now_ns(void) {
    return virtual_ns;
}

static uint32_t roll(Sim *s, uint32_t below) {
    return rng_philox(s->config.seed, s->draws++).word[0] % below;
}

PRINTF_LIKE(2, 3) static bool wrong(Sim *s, const char *format, ...) {
    if (s->report->problem[0]) return false; // the first counts
    char text[96];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    snprintf(s->report->problem, sizeof s->report->problem, "seed %llu, step %llu: %s",
             (unsigned long long)s->config.seed, (unsigned long long)s->report->steps, text);
    return false;
}

static bool is_due(Sim *s, EngineFault fault) {
    return s->config.fault == fault && !s->fault_done && s->report->steps > FAULT_AFTER_STEPS;
}

// What follows a text.
static int32_t next_of(const int32_t *text, uint32_t n) {
    uint32_t h = n;
    for (uint32_t i = n > 6 ? n - 6 : 0; i < n; i++)
        h = h * 31 + (uint32_t)text[i];
    return (int32_t)(h * 2654435761u >> 16) % VOCAB;
}

// ---- the executor ----

static bool script_begin(Backend *b, uint32_t slot, const SequenceStart *start, Error *err) {
    (void)err;
    Sim *s = (Sim *)b;
    Script *x = &s->scripts[slot];
    x->n = start->n_prompt + start->n_drawn;
    bool is_new = !s->jobs[slot].used;
    x->salt = is_new ? s->next_salt : s->jobs[slot].salt;
    s->report->set_aside += !is_new;
    memcpy(x->text, start->tokens, x->n * sizeof *x->text);
    return true;
}

static bool script_copy_page(Backend *b, uint32_t from, uint32_t to, Error *err) {
    (void)err;
    Sim *s = (Sim *)b;
    s->report->copies++;
    if (is_due(s, ENGINE_FAULT_LOST_COPY)) s->fault_done = true;
    else memcpy(s->cells[to], s->cells[from], sizeof s->cells[to]);
    return true;
}

static bool script_restore_state(Backend *b, uint32_t slot, uint32_t checkpoint, Error *err) {
    (void)err;
    Sim *s = (Sim *)b;
    s->report->restored++;
    s->states[slot] = s->checkpoints[checkpoint];
    return true;
}

static void state_add(SlotState *state, int32_t token) {
    state->n++;
    state->hash = state->hash * 1000003 + (uint32_t)token + 1;
}

// The checkpoints that a part leaves behind its first n_rows rows.
static void keep_state(Sim *s, const StepSequence *q, uint32_t n_rows) {
    for (uint32_t i = 0; i < q->n_keeps; i++) {
        if (q->keeps[i].n_rows != n_rows) continue;
        s->report->saved++;
        s->report->saved_within += n_rows < q->n_rows;
        if (!is_due(s, ENGINE_FAULT_LOST_SAVE)) s->checkpoints[q->keeps[i].place] = s->states[q->slot];
    }
}

// A part's rows change the slot's state, which then is that of the text so far.
static bool change_state(Sim *s, const StepSequence *q) {
    const Script *x = &s->scripts[q->slot];
    SlotState *state = &s->states[q->slot], whole = {0};
    if (q->position == 0) *state = (SlotState){0};
    if (state->n != q->position) return wrong(s, "slot %u goes on from a state of another place", q->slot);
    for (uint32_t i = 0; i < q->n_rows; i++) {
        state_add(state, q->mode == STEP_PROMPT ? q->tokens[i] : x->text[q->position + i]);
        keep_state(s, q, i + 1);
    }
    for (uint32_t i = 0; i < q->position + q->n_rows; i++)
        state_add(&whole, x->text[i]);
    return state->hash == whole.hash || wrong(s, "slot %u goes on from a state of another text", q->slot);
}

// Writes a part's rows to a list's pages, and reads all positions that they see, up to the last of them.
static bool write_and_read(Sim *s, const StepSequence *q, const uint32_t *pages, uint32_t window) {
    const Script *x = &s->scripts[q->slot];
    uint32_t end = q->position + q->n_rows, first = 0;
    if (window && q->position + 1 > window) first = q->position + 1 - window;
    for (uint32_t i = q->position; i < end; i++) {
        int32_t token = q->mode == STEP_PROMPT ? q->tokens[i - q->position] : x->text[i];
        s->cells[pages[i / KV_PAGE_TOKENS]][i % KV_PAGE_TOKENS] = (Cell){token, x->salt + 1};
    }
    if (window && first / KV_PAGE_TOKENS < s->engine->sequences[q->slot].first_window)
        return wrong(s, "slot %u reads a window that it has given back", q->slot);
    for (uint32_t i = first; i < end; i++) {
        Cell cell = s->cells[pages[i / KV_PAGE_TOKENS]][i % KV_PAGE_TOKENS];
        if (cell.token != x->text[i] || cell.salt_and_1 != x->salt + 1)
            return wrong(s, "slot %u reads something else than its own text", q->slot);
    }
    return true;
}

static bool run_part(Sim *s, const StepSequence *q) {
    const KvLayout *l = &s->plan.kv;
    if (q->position + q->n_rows > s->scripts[q->slot].n)
        return wrong(s, "slot %u: rows behind the end of its text", q->slot);
    for (uint32_t i = 0; i < l->n_lists; i++) {
        if (!write_and_read(s, q, q->pages + i * q->list_pages, i < l->n_full ? 0 : l->window)) return false;
    }
    s->report->rows_written += q->n_rows;
    return s->config.n_checkpoints == 0 || change_state(s, q);
}

static bool script_step(Backend *b, const Step *step, Error *err) {
    Sim *s = (Sim *)b;
    StepResult *r = &s->queue[s->n_queued];
    uint64_t rows = 0, n_draws = 0;
    if (!step_check(step, &b->info, err)) return false;
    r->n_runs = r->n_logits = 0;
    for (uint32_t i = 0; i < step->n_sequences; i++) {
        const StepSequence *q = &step->sequences[i];
        Script *x = &s->scripts[q->slot];
        if (q->mode == STEP_PROMPT) rows += q->n_rows / max_u64(q->n_slices, 1);
        else n_draws++;
        if (!step_is_last_slice(q)) continue;
        if (!run_part(s, q)) return error_set(err, ERR_INTERNAL, "see the report");
        if (!q->n_draws) continue;
        int32_t token = next_of(x->text, x->n);
        r->runs[r->n_runs++] = (StepRun){.slot = q->slot, .n_tokens = 1, .tokens = {token}};
        x->text[x->n++] = token;
    }
    s->queue_ns[s->n_queued++] = (n_draws ? DRAWS_BASE_NS : 0) + n_draws * DRAW_NS + rows * ROW_NS;
    return true;
}

static bool script_read(Backend *b, StepResult *out, Error *err) {
    (void)err;
    Sim *s = (Sim *)b;
    *out = s->queue[0];
    virtual_ns += s->queue_ns[0];
    s->n_queued--;
    for (uint32_t i = 0; i < s->n_queued; i++) {
        s->queue[i] = s->queue[i + 1];
        s->queue_ns[i] = s->queue_ns[i + 1];
    }
    return true;
}

// ---- jobs ----

// Most begin as others do.
static void make_text(Sim *s, Job *job) {
    uint32_t topic = roll(s, TOPICS), turn = roll(s, 4) ? 16 * roll(s, 5) + roll(s, 3) : 0;
    uint64_t own = s->jobs_begun % 7 ? s->jobs_begun : s->jobs_begun / 100; // some ask the same
    for (uint32_t i = 0; i < job->n_prompt; i++) {
        uint64_t of = i < turn ? topic : 1000 + own;
        job->text[i] = (int32_t)(rng_philox(of, i).word[0] % VOCAB);
    }
    for (uint32_t i = 0; i < job->max_tokens; i++)
        job->text[job->n_prompt + i] = next_of(job->text, job->n_prompt + i);
}

static bool submit(Sim *s) {
    Job job = {.used = true, .salt = (uint8_t)(roll(s, 6) ? 0 : roll(s, SALTS))};
    job.n_prompt = 1 + roll(s, roll(s, 8) ? 30 : 100);
    job.max_tokens = 1 + roll(s, roll(s, 8) ? 5 : CONTEXT - job.n_prompt);
    make_text(s, &job);
    EngineRequest request = {.tokens = job.text,
                             .n_prompt = job.n_prompt,
                             .max_tokens = job.max_tokens,
                             .sampler = SAMPLER_GREEDY};
    if (s->config.fault != ENGINE_FAULT_SHARED_SALTS) request.cache_salt[3] = job.salt;
    s->next_salt = job.salt;
    job.progress = s->report->steps;
    uint32_t slot;
    Error err;
    if (!engine_admit(s->engine, &request, &slot, &err))
        return wrong(s, "a job was refused: %s", err.message);
    s->jobs[slot] = job;
    s->jobs_begun++;
    s->report->tokens_prompts += job.n_prompt;
    return true;
}

static void end_job(Sim *s, uint32_t slot) {
    engine_release(s->engine, slot);
    s->jobs[slot].used = false;
}

static void take_output(Sim *s, const EngineOutput *o) {
    Job *job = &s->jobs[o->slot];
    job->progress = s->report->steps;
    for (uint32_t i = 0; i < o->n_tokens; i++) {
        if (o->tokens[i] != job->text[job->n_prompt + job->n_drawn++])
            wrong(s, "slot %u drew something else than it must", o->slot);
    }
    if (o->n_tokens && o->n_cached >= job->n_prompt) wrong(s, "slot %u found more than it may", o->slot);
    uint32_t most = job->n_prompt - 1;
    if (s->config.n_checkpoints) most -= most % KV_PAGE_TOKENS;
    bool has_all = job->n_drawn == 1 && o->n_cached == most;
    if (has_all != (job->n_drawn == 1 && o->cache_miss == CACHE_MISS_NONE))
        wrong(s, "the cache's miss is wrong");
    if (o->last != (job->n_drawn == job->max_tokens)) wrong(s, "slot %u ends at another token", o->slot);
    if (!o->last) return;
    s->report->tokens_cached += o->n_cached;
    s->report->ended++;
    end_job(s, o->slot);
}

// Jobs come in bursts; some end early, some are set aside without need, and the cache is emptied at times.
static void disturb(Sim *s) {
    uint32_t n_free = s->config.n_slots - engine_active(s->engine), n = roll(s, 4) ? 1 : roll(s, 6);
    if (roll(s, 5) == 0) n = 0;
    for (uint32_t i = 0; i < n && i < n_free && s->jobs_begun < s->config.jobs; i++)
        submit(s);
    uint32_t slot = roll(s, s->config.n_slots);
    if (roll(s, 60) == 0 && s->jobs[slot].used) {
        end_job(s, slot);
        s->report->cancelled++;
    }
    slot = roll(s, s->config.n_slots);
    // The youngest that runs alone may be: the others keep their places.
    uint32_t last = s->engine->n_order;
    while (last > 0 && !s->engine->sequences[s->engine->order[last - 1]].running)
        last--;
    if (roll(s, 100) == 0 && last > 0) engine_set_aside(s->engine, s->engine->order[last - 1]);
    if (roll(s, 5000) == 0) engine_drop_cache(s->engine);
}

static void break_something(Sim *s) {
    Engine *e = s->engine;
    if (is_due(s, ENGINE_FAULT_WRONG_TEXT)) {
        uint32_t node = e->pages.orders[KV_NODES].last;
        uint32_t page = node == KV_NO_NODE ? 0 : kv_pages_lists(&e->pages, node)[0];
        if (node != KV_NO_NODE) memset(s->cells[page], 0, sizeof s->cells[page]);
    } else if (is_due(s, ENGINE_FAULT_LOST_PAGE)) {
        s->fault_done = e->pages.n_free > 0;
        if (s->fault_done) e->pages.n_free--;
    } else if (is_due(s, ENGINE_FAULT_OVERTAKING) && e->start_is_blocked) {
        uint32_t *last = &e->order[e->n_order - 1], first = e->order[0]; // who waits, and who runs
        e->order[0] = *last;
        *last = first;
        s->fault_done = true;
    } else if (is_due(s, ENGINE_FAULT_STARVATION) && e->n_order) {
        e->sequences[e->order[0]].n_drawn_sent = UINT32_MAX / 2;
        s->fault_done = true;
    } else if (s->config.fault == ENGINE_FAULT_NO_BUDGET) {
        for (uint32_t i = 0; i < STEP_ROWS_SIZES; i++)
            e->policy.beside_ns[i] = 1;
    } else if (s->config.fault == ENGINE_FAULT_EARLY_PASS) {
        e->pages.layout.window = 1;
    } else if (is_due(s, ENGINE_FAULT_WRONG_STATE)) {
        memset(s->checkpoints, 0, s->config.n_checkpoints * sizeof *s->checkpoints);
    }
}

// ---- what must hold ----

static void check_progress(Sim *s) {
    const Engine *e = s->engine;
    uint64_t turns = 1 + div_up(s->config.n_slots, max_u64(s->config.max_rows / 2, 1));
    bool is_oldest = true;
    for (uint32_t i = 0; i < e->n_order; i++) {
        uint32_t slot = e->order[i];
        const Sequence *x = &e->sequences[slot];
        Job *job = &s->jobs[slot];
        bool decodes = x->running && x->n_sent >= x->n_known;
        s->report->passed += x->first_window > 0;
        // A prompt's chunk goes through its slices before there is news of it.
        uint64_t steps = s->report->steps - job->progress;
        if (!is_oldest && !decodes) job->progress = s->report->steps;
        else if (steps > turns * 2 + PATIENCE + s->config.slices) wrong(s, "slot %u is left out", slot);
        is_oldest = false;
    }
}

static void check_budget(Sim *s, uint64_t took_ns, uint32_t n_prompts, uint32_t n_draws) {
    if (n_prompts == 0 || n_draws == 0 || s->config.depth > 1) return; // what of several steps cannot be told
    uint64_t draws_ns = DRAWS_BASE_NS + n_draws * DRAW_NS;
    uint64_t least_ns = (uint64_t)s->engine->policy.beside_tokens_min * ROW_NS;
    s->report->beside++;
    s->report->beside_long += took_ns > draws_ns * 5 / 2 && took_ns > draws_ns + least_ns;
}

static bool sim_step(Sim *s) {
    EngineOutput outputs[JOBS_MAX];
    uint32_t n_outputs, n_prompts = 0;
    uint64_t begun_ns = virtual_ns;
    Error err;
    s->report->steps++;
    disturb(s);
    break_something(s);
    if (!engine_step(s->engine, outputs, &n_outputs, &err))
        return wrong(s, "the engine was lost: %s", err.message);
    for (uint32_t i = 0; i < n_outputs; i++) {
        const Job *job = &s->jobs[outputs[i].slot];
        n_prompts += job->n_drawn == 0;
        take_output(s, &outputs[i]);
    }
    check_budget(s, virtual_ns - begun_ns, n_prompts, n_outputs - n_prompts);
    check_progress(s);
    const char *problem = engine_problem(s->engine);
    return !problem || wrong(s, "%s", problem);
}

static bool sim_open(Sim *s, Arena *arena) {
    const EngineSimConfig *c = &s->config;
    Error err;
    s->plan = (Plan){.n_vocab = VOCAB, .n_context = CONTEXT};
    s->plan.kv = (KvLayout){.n_places = 1, .n_lists = c->n_full + c->n_windows, .n_full = c->n_full};
    if (s->plan.kv.n_lists == 0) s->plan.kv.n_lists = s->plan.kv.n_full = 1;
    s->plan.kv.window = c->window;
    s->plan.slot_bytes = c->n_checkpoints ? sizeof *s->states : 0;
    s->states = arena_new(arena, SlotState, c->n_slots);
    s->checkpoints = arena_new(arena, SlotState, c->n_checkpoints + 1);
    uint32_t *marks = arena_new(arena, uint32_t, token_set_words(VOCAB));
    s->jobs = arena_new(arena, Job, c->n_slots);
    s->scripts = arena_new(arena, Script, c->n_slots);
    s->cells = arena_alloc(arena, c->n_pages, sizeof *s->cells, 8);
    s->queue = arena_new(arena, StepResult, QUEUE);
    s->backend = (Backend){.begin = script_begin,
                           .copy_page = script_copy_page,
                           .restore_state = script_restore_state,
                           .step = script_step,
                           .read = script_read,
                           .info = {.kind = "script",
                                    .n_kv_pages = c->n_pages,
                                    .n_checkpoints = c->n_checkpoints,
                                    .max_rows = c->max_rows,
                                    .chunk_slices = c->slices,
                                    .pipeline_depth = c->depth}};
    bool ok = s->jobs && s->scripts && s->cells && s->queue && s->states && s->checkpoints && marks;
    if (!ok) return wrong(s, "no memory");
    if (!engine_create(&s->backend, &s->plan, c->n_slots, arena, &s->engine, &err))
        return wrong(s, "%s", err.message);
    engine_set_clock(s->engine, sim_now_ns);
    token_set_add(marks, 3);
    s->engine->marks = marks;
    s->engine->checkpoint_tokens_min = 20; // texts are short
    return true;
}

bool engine_sim_run(const EngineSimConfig *config, EngineSimReport *report) {
    Sim sim = {.config = *config, .report = report}, *s = &sim;
    Arena arena = os_arena(16 << 20);
    void *memory = arena.next;
    size_t size = arena_left(&arena);
    virtual_ns = 1000000000;
    *report = (EngineSimReport){0};
    bool ok = sim_open(s, &arena);
    while (ok && !report->problem[0] && (s->jobs_begun < config->jobs || engine_active(s->engine)))
        sim_step(s);
    if (ok && !report->problem[0]) {
        const KvPages *pages = engine_pages(s->engine);
        if (report->ended + report->cancelled != config->jobs) wrong(s, "jobs were lost");
        if (kv_pages_available(pages) != config->n_pages) wrong(s, "pages are held by nobody");
        engine_drop_cache(s->engine);
        if (pages->n_free != config->n_pages) wrong(s, "pages were lost");
        if (report->beside > 1000 && report->beside_long > report->beside / 50)
            wrong(s, "%u of %u steps took too long for who draws", report->beside_long, report->beside);
    }
    os_release(memory, size);
    return report->problem[0] == 0;
}
