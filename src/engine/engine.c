#include "engine/engine_internal.h"

#include "os/os.h"

#include <assert.h>

bool engine_create(Backend *backend, const Plan *plan, uint32_t n_slots, Arena *arena, Engine **out,
                   Error *err) {
    Engine *e = arena_new(arena, Engine, 1);
    if (!e) return error_set(err, ERR_NO_MEMORY, "the engine does not fit its memory");
    const BackendInfo *info = &backend->info;
    e->backend = backend;
    e->n_slots = n_slots;
    e->n_vocab = plan->n_vocab;
    e->suppressed = plan->suppressed;
    e->n_suppressed = plan->n_suppressed;
    e->has_states = plan->slot_bytes > 0;
    e->shares_pages = !info->bits_vary && (!e->has_states || info->n_checkpoints > 0);
    e->checkpoint_tokens_min = CHECKPOINT_TOKENS_MIN;
    e->model_context = plan->n_context;
    e->context_length = backend_context(info, plan);
    e->list_pages = (uint32_t)kv_pages_of(e->context_length);
    e->depth = (uint32_t)min_u64(info->pipeline_depth, PIPELINE_DEPTH_MAX);
    e->policy = step_policy_for(info);
    e->now_ns = os_monotonic_ns;
    uint64_t seed;
    os_random(&seed, sizeof seed);
    uint32_t n_nodes = kv_pages_nodes(&plan->kv, info->n_kv_pages, n_slots, e->context_length);
    uint32_t n_checkpoints = e->has_states ? info->n_checkpoints : 0;
    if (!kv_pages_init(&e->pages, &plan->kv, info->n_kv_pages, n_nodes, seed, arena, err) ||
        !kv_checkpoints_init(&e->pages.checkpoints, n_checkpoints, n_nodes, arena, err))
        return false;
    e->sequences = arena_new(arena, Sequence, n_slots);
    e->found = arena_new(arena, uint32_t, e->list_pages);
    bool ok = e->sequences && e->found;
    for (uint32_t i = 0; ok && i < n_slots; i++) {
        Sequence *s = &e->sequences[i];
        s->tokens = arena_new(arena, int32_t, e->context_length);
        s->nodes = arena_new(arena, uint32_t, e->list_pages);
        s->pages = arena_new(arena, uint32_t, (uint64_t)plan->kv.n_lists * e->list_pages);
        ok = s->tokens && s->nodes && s->pages;
    }
    *out = e;
    return ok || error_set(err, ERR_NO_MEMORY, "the engine's tables do not fit its memory");
}

void engine_set_clock(Engine *e, uint64_t (*now_ns)(void)) {
    e->now_ns = now_ns;
}

// ---- sequences come and go ----

static bool check_request(const Engine *e, const EngineRequest *r, Error *err) {
    uint64_t total = (uint64_t)r->n_prompt + r->max_tokens;
    if (r->n_prompt == 0 || r->max_tokens == 0) {
        return error_set(err, ERR_INVALID_REQUEST,
                         "a request needs at least one prompt token and one token to draw");
    }
    if (total > e->model_context) {
        return error_set(err, ERR_INVALID_REQUEST,
                         "%u prompt token%s and %u to generate exceed the context length of %u", r->n_prompt,
                         plural_s(r->n_prompt), r->max_tokens, e->model_context);
    }
    if (total > e->context_length) {
        return error_set(err, ERR_VRAM_OOM,
                         "%u prompt token%s and %u to generate exceed the KV cache of %u tokens", r->n_prompt,
                         plural_s(r->n_prompt), r->max_tokens, e->context_length);
    }
    for (uint32_t i = 0; i < r->n_prompt; i++) {
        if (r->tokens[i] >= 0 && (uint32_t)r->tokens[i] < e->n_vocab) continue;
        return error_set(err, ERR_INVALID_REQUEST, "prompt token %u is %d; the vocabulary has %u", i,
                         r->tokens[i], e->n_vocab);
    }
    return sampler_check(&r->sampler, e->n_vocab, err);
}

static Sequence *find_free_slot(Engine *e, uint32_t *slot) {
    *slot = 0;
    while (*slot < e->n_slots && e->sequences[*slot].used)
        ++*slot;
    return *slot < e->n_slots ? &e->sequences[*slot] : NULL;
}

bool engine_admit(Engine *e, const EngineRequest *request, uint32_t *slot, Error *err) {
    SamplerParams sampler = request->sampler;
    if (!check_request(e, request, err) || !sampler_suppress(&sampler, e->suppressed, e->n_suppressed, err))
        return false;
    Sequence *s = find_free_slot(e, slot);
    if (!s) return error_set(err, ERR_BUSY, "all %u slots are taken", e->n_slots);
    SequenceStart start = {.params = sampler,
                           .tokens = request->tokens,
                           .n_prompt = request->n_prompt,
                           .masked = request->grammar != NULL};
    if (!e->backend->begin(e->backend, *slot, &start, err)) return false;
    *s = (Sequence){.used = true,
                    .begun = true,
                    .generation = s->generation,
                    .sampler = sampler,
                    .tokens = s->tokens,
                    .nodes = s->nodes,
                    .pages = s->pages,
                    .n_prompt = request->n_prompt,
                    .n_known = request->n_prompt,
                    .miss = CACHE_MISS_NEW,
                    .max_tokens = request->max_tokens};
    memcpy(s->tokens, request->tokens, request->n_prompt * sizeof *s->tokens);
    sequence_find_borders(e, s);
    memcpy(s->salt, request->cache_salt, sizeof s->salt);
    if (request->grammar && !sequence_hold(e, *slot, request, err)) {
        s->used = false;
        return false;
    }
    e->order[e->n_order++] = *slot;
    return true;
}

// Nothing more is sent for it.
static void end(Engine *e, uint32_t slot) {
    e->sequences[slot].running = false;
    e->sequences[slot].ended = true;
    step_policy_forget(&e->policy, slot);
}

void engine_release(Engine *e, uint32_t slot) {
    Sequence *s = &e->sequences[slot];
    uint32_t at = 0;
    if (!s->used) return;
    if (s->running) sequence_give_back(e, s);
    end(e, slot);
    sequence_let_go(e, slot);
    s->used = false;
    s->generation++;
    while (e->order[at] != slot)
        at++;
    memmove(e->order + at, e->order + at + 1, (--e->n_order - at) * sizeof *e->order);
    e->start_is_blocked = false;
}

// ---- sending ----

// What a sequence may draw is known when its last draw has been read. The step behind that draw's is sent
// ahead all the same where the backend takes masks later: it is given them when the one before it is read,
// while its layers run.
static bool waits_for_mask(const Engine *e, uint32_t slot) {
    bool may_come_later = e->backend->info.late_masks && e->n_flights == 1;
    return !may_come_later && !sequence_knows_mask(e, slot);
}

// What is left to be sent of each sequence, in their order. What the cache has of a prompt is taken first.
static bool find_work(Engine *e, SlotWork *work, Error *err) {
    uint64_t rows_before = 0;
    bool more;
    for (uint32_t i = 0; i < e->n_order; i++) {
        uint32_t slot = e->order[i];
        Sequence *s = &e->sequences[slot];
        work[i] = (SlotWork){.slot = slot};
        s->n_asked = 0; // those behind it that follow ask again
        if (sequence_in_prompt(s) && !step_policy_is_inside(&e->policy, slot)) {
            if (!sequence_attach(e, s, &more, err)) return false;
            if (engine_follows(e, slot)) continue;
            bool is_near = rows_before < e->policy.chunk_tokens_max; // it may be in this step
            if (is_near && !sequence_attach_border(e, s, err)) return false;
        }
        if (sequence_in_prompt(s)) rows_before += work[i].prompt_rows = s->n_known - s->n_sent;
        else work[i].decodes = s->running && s->n_drawn_sent < s->max_tokens && !waits_for_mask(e, slot);
    }
    return true;
}

// Gives each part of a step its pages, the oldest first. Parts of sequences that had to make room are taken
// out.
static void find_pages(Engine *e, StepChoice *choice) {
    const StepPart *part_of[JOBS_MAX] = {0};
    uint32_t n = 0;
    for (uint32_t i = 0; i < choice->n_parts; i++)
        part_of[choice->parts[i].slot] = &choice->parts[i];
    for (uint32_t i = 0; i < e->n_order; i++) {
        const StepPart *part = part_of[e->order[i]];
        if (!part || !e->sequences[part->slot].running) continue;
        (void)!engine_grow(e, part->slot, (uint32_t)max_u64(part->prompt_rows, 1));
    }
    for (uint32_t i = 0; i < choice->n_parts; i++) {
        if (e->sequences[choice->parts[i].slot].running) choice->parts[n++] = choice->parts[i];
    }
    choice->n_parts = n;
}

// Makes a part of a step, but for its mask. It counts as sent then, and what is expected of it is noted.
static void make_part(Engine *e, Flight *flight, uint32_t index, StepSequence *out) {
    const StepPart *part = &flight->choice.parts[index];
    Sequence *s = &e->sequences[part->slot];
    *out = (StepSequence){.slot = part->slot,
                          .position = s->n_sent,
                          .n_rows = 1,
                          .pages = s->pages,
                          .list_pages = e->list_pages};
    if (part->prompt_rows) {
        out->mode = STEP_PROMPT;
        out->n_rows = part->prompt_rows;
        out->tokens = s->tokens + s->n_sent;
        out->n_slices = part->n_slices;
        out->slice = part->slice;
        out->n_draws = step_is_last_slice(out) && s->n_sent + part->prompt_rows == s->n_known;
    } else {
        out->mode = STEP_DECODE;
        out->n_draws = 1;
    }
    sequence_keep_states(e, out);
    if (step_is_last_slice(out)) s->n_sent += out->n_rows;
    s->n_drawn_sent += out->n_draws;
    flight->expected[index].generation = s->generation;
    flight->expected[index].n_prompt_done = (uint32_t)min_u64(s->n_sent, s->n_known);
    flight->expected[index].n_draws = out->n_draws;
}

// Before the step counts as sent: gives the parts that draw their masks. Where one is not known yet, all come
// later.
static bool masks_are_known(const Engine *e, const StepChoice *choice) {
    bool known = true;
    for (uint32_t i = 0; known && i < choice->n_parts; i++)
        known = sequence_knows_mask(e, choice->parts[i].slot);
    return known;
}

// The parts of the next step, with their pages; none when there is nothing to do.
static bool choose_parts(Engine *e, StepChoice *choice, Error *err) {
    SlotWork work[JOBS_MAX];
    bool again;
    do {
        if (!engine_start_waiting(e, err) || !find_work(e, work, err)) return false;
        step_policy_next(&e->policy, work, e->n_order, choice);
        again = choice->n_parts > 0;
        find_pages(e, choice);
    } while (again && choice->n_parts == 0); // all of them had to make room
    return true;
}

// Enqueues the next step; *sent is false when there is nothing to do.
static bool send_step(Engine *e, bool *sent, Error *err) {
    StepSequence sequences[JOBS_MAX];
    Flight *flight = &e->flights[(e->first_flight + e->n_flights) % PIPELINE_DEPTH_MAX];
    if (!choose_parts(e, &flight->choice, err)) return false;
    uint32_t n = flight->choice.n_parts;
    *sent = n > 0;
    if (n == 0) return true;
    Step step = {.sequences = sequences, .n_sequences = n, .masks_come_later = false};
    step.masks_come_later = !masks_are_known(e, &flight->choice);
    for (uint32_t i = 0; i < n; i++) {
        make_part(e, flight, i, &sequences[i]);
        if (sequences[i].n_draws && !step.masks_come_later)
            sequences[i].mask = sequence_mask(e, sequences[i].slot);
    }
    flight->sent_ns = e->now_ns();
    e->n_flights++;
    if (!e->backend->step(e->backend, &step, err)) return false;
    e->masks_wait = step.masks_come_later;
    for (uint32_t i = 0; i < n; i++) { // the next step finds them in the cache
        Sequence *s = &e->sequences[sequences[i].slot];
        if (sequences[i].mode == STEP_PROMPT) sequence_publish(e, s, s->n_sent == s->n_known);
        sequence_keep_done(e, &sequences[i]);
        sequence_pass(e, s);
    }
    return true;
}

// ---- reading ----

// Keeps what a run drew, up to the first token that is none.
static void take_tokens(Engine *e, const StepRun *run, EngineOutput *out) {
    Sequence *s = &e->sequences[run->slot];
    out->tokens = run->tokens;
    out->logprobs = run->logprobs;
    while (out->n_tokens < run->n_tokens && run->tokens[out->n_tokens] != TOKEN_INVALID)
        s->tokens[s->n_prompt + s->n_drawn_read++] = run->tokens[out->n_tokens++];
}

// Says in *out what the tokens mean for the sequence. follow: NULL without a grammar.
static void end_run(Engine *e, const StepRun *run, const Follow *follow, EngineOutput *out) {
    Sequence *s = &e->sequences[run->slot];
    Error *failure = &e->failures[run->slot];
    if (out->n_tokens == run->n_tokens) {
        if (follow && !follow->goes_on) out->failure = failure;
        out->complete = follow && follow->complete;
        out->last = s->n_drawn_read == s->max_tokens || out->complete;
        if (out->last || out->failure) sequence_give_back(e, s), end(e, run->slot);
        else sequence_publish(e, s, false);
        return;
    }
    const char *where = run->first_invalid;
    error_fill(failure, ERR_INTERNAL, ERROR_NO_POSITION,
               "the model computed logits that are not numbers (token %u of the output%s%s)", s->n_drawn_read,
               where ? "; the first such values: " : "", where ? where : "");
    sequence_drop(e, s);
    end(e, run->slot);
    out->failure = failure;
}

static EngineOutput begin_output(const Engine *e, uint32_t slot, uint32_t n_prompt_done) {
    const Sequence *s = &e->sequences[slot];
    EngineOutput out = {.slot = slot, .n_prompt_done = n_prompt_done, .n_cached = s->n_cached};
    uint32_t most = s->n_prompt - 1; // the last token is always computed
    if (e->has_states) most -= most % KV_PAGE_TOKENS;
    if (s->n_cached < most) out.cache_miss = s->miss;
    return out;
}

// Turns a finished step into outputs; what it brought for sequences that have ended since is dropped.
static uint32_t take_outputs(Engine *e, const Flight *flight, EngineOutput *outputs) {
    const StepRun *run_of[JOBS_MAX];
    const Follow *follow_of[JOBS_MAX];
    Follow follows[JOBS_MAX];
    uint32_t n_runs = 0, n_outputs = 0, n_follows = 0;
    for (uint32_t i = 0; i < flight->choice.n_parts; i++) {
        uint32_t slot = flight->choice.parts[i].slot, n_draws = flight->expected[i].n_draws;
        const StepRun *run = n_draws ? &e->result.runs[n_runs++] : NULL;
        assert(!run || (run->slot == slot && run->n_tokens == n_draws));
        const Sequence *s = &e->sequences[slot];
        if (!s->running || s->generation != flight->expected[i].generation) continue;
        EngineOutput *out = &outputs[n_outputs];
        *out = begin_output(e, slot, flight->expected[i].n_prompt_done);
        if (run) take_tokens(e, run, out);
        // (A sequence with a grammar draws one token a step.)
        bool follows_grammar = s->grammar && out->n_tokens;
        follow_of[n_outputs] = follows_grammar ? &follows[n_follows] : NULL;
        if (follows_grammar) follows[n_follows++] = (Follow){.slot = slot, .token = out->tokens[0]};
        run_of[n_outputs++] = run;
    }
    assert(n_runs == e->result.n_runs);
    engine_follow(e, follows, n_follows);
    for (uint32_t i = 0; i < n_outputs; i++) {
        if (run_of[i]) end_run(e, run_of[i], follow_of[i], &outputs[i]);
    }
    return n_outputs;
}

// The masks of the step sent last, now that what they depend on has been read. Of sequences that have ended
// since, nobody looks at what they draw.
static bool send_masks(Engine *e, Error *err) {
    const Flight *flight = &e->flights[(e->first_flight + e->n_flights - 1) % PIPELINE_DEPTH_MAX];
    const uint32_t *masks[JOBS_MAX];
    for (uint32_t i = 0; i < flight->choice.n_parts; i++) {
        uint32_t slot = flight->choice.parts[i].slot;
        const Sequence *s = &e->sequences[slot];
        bool draws = flight->expected[i].n_draws && s->running;
        masks[i] = draws ? sequence_mask(e, slot) : NULL;
    }
    e->masks_wait = false;
    return e->backend->draw(e->backend, masks, err);
}

bool engine_step(Engine *e, EngineOutput *outputs, uint32_t *n_outputs, Error *err) {
    *n_outputs = 0;
    e->rows_read = 0;
    bool sent = true;
    while (sent && !e->masks_wait && e->n_flights < e->depth) {
        if (e->n_flights && !step_policy_sends_ahead(&e->policy)) break;
        if (!send_step(e, &sent, err)) return false;
    }
    if (e->n_flights == 0) return true;
    const Flight *flight = &e->flights[e->first_flight];
    if (!e->backend->read(e->backend, &e->result, err)) return false;
    e->first_flight = (e->first_flight + 1) % PIPELINE_DEPTH_MAX;
    e->n_flights--;
    // A step that was sent ahead has begun when the one before it ended.
    uint64_t begun_ns = max_u64(flight->sent_ns, e->read_ns);
    e->read_ns = e->now_ns();
    step_policy_learn(&e->policy, &flight->choice, e->read_ns - begun_ns);
    *n_outputs = take_outputs(e, flight, outputs);
    if (e->masks_wait && !send_masks(e, err)) return false;
    for (uint32_t i = 0; i < flight->choice.n_parts; i++)
        e->rows_read += flight->choice.parts[i].prompt_rows ? flight->choice.parts[i].prompt_rows : 1;
    return true;
}

uint32_t engine_rows_read(const Engine *e) {
    return e->rows_read;
}

bool engine_check_residency(Engine *e, Error *err) {
    return !e->backend->check_residency || e->backend->check_residency(e->backend, err);
}

uint32_t engine_active(const Engine *e) {
    uint32_t n = 0;
    for (uint32_t i = 0; i < e->n_slots; i++)
        n += e->sequences[i].used;
    return n;
}

uint64_t engine_tokens_held(const Engine *e) {
    uint32_t rows = backend_chunk_rows(e->backend->info.max_rows);
    return kv_layout_tokens_in_all(&e->pages.layout, e->pages.n_pages, e->n_slots, rows, e->model_context);
}

const KvPages *engine_pages(const Engine *e) {
    return &e->pages;
}

void engine_drop_cache(Engine *e) {
    kv_pages_drop_cached(&e->pages);
}

uint32_t engine_context_length(const Engine *e) {
    return e->context_length;
}
