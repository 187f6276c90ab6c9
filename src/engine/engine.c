#include "engine/engine.h"

#include "engine/step_policy.h"
#include "os/os.h"

#include <assert.h>

enum { PIPELINE_DEPTH_MAX = 4 };

typedef struct {
    bool used;
    bool failed;         // nothing more is sent for it
    uint32_t generation; // goes up with each sequence in this slot
    SamplerParams sampler;
    int32_t *tokens; // [n_context] the request's, then what was drawn and read
    uint32_t *pages; // [pages of a whole context]
    uint32_t n_pages;
    uint32_t n_prompt;     // of the text, without what a request that goes on has drawn before
    uint32_t n_known;      // tokens that are fed as a prompt is: all of the request's
    uint32_t n_known_sent; // in steps enqueued so far
    uint32_t n_drawn_sent; // draws of the text, with those in steps enqueued so far
    uint32_t n_drawn_read;
    uint32_t max_tokens;
} Sequence;

// A step under way, and what it will bring for the sequence of each of its parts.
typedef struct {
    StepChoice choice;
    struct {
        uint32_t generation; // of the slot when the step was sent
        uint32_t n_prompt_done;
        uint32_t n_draws;
    } expected[JOBS_MAX]; // by part
    uint64_t sent_ns;
} Flight;

struct Engine {
    Backend *backend;
    uint32_t n_slots;
    uint32_t n_vocab;
    uint32_t context_length;
    Sequence *sequences;
    KvPages pages;
    StepPolicy policy;
    Flight flights[PIPELINE_DEPTH_MAX]; // ring
    uint32_t first_flight;
    uint32_t n_flights;
    uint32_t depth;
    uint32_t rows_read;       // of the step below
    StepResult result;        // of the step that was read last
    Error failures[JOBS_MAX]; // by slot; of sequences that failed
};

bool engine_create(Backend *backend, const Plan *plan, uint32_t n_slots, Arena *arena, Engine **out,
                   Error *err) {
    Engine *e = arena_new(arena, Engine, 1);
    if (!e) return error_set(err, ERR_NO_MEMORY, "the engine does not fit its memory");
    const BackendInfo *info = &backend->info;
    uint64_t cache_tokens = (uint64_t)info->n_kv_pages * KV_PAGE_TOKENS;
    e->backend = backend;
    e->n_slots = n_slots;
    e->n_vocab = plan->n_vocab;
    e->context_length = (uint32_t)min_u64(plan->n_context, cache_tokens);
    e->depth = (uint32_t)min_u64(info->pipeline_depth, PIPELINE_DEPTH_MAX);
    e->policy = step_policy_for(info);
    if (!kv_pages_init(&e->pages, info->n_kv_pages, arena, err)) return false;
    e->sequences = arena_new(arena, Sequence, n_slots);
    bool ok = e->sequences != NULL;
    for (uint32_t i = 0; ok && i < n_slots; i++) {
        Sequence *s = &e->sequences[i];
        s->tokens = arena_new(arena, int32_t, e->context_length);
        s->pages = arena_new(arena, uint32_t, div_up(e->context_length, KV_PAGE_TOKENS));
        ok = s->tokens && s->pages;
    }
    *out = e;
    return ok || error_set(err, ERR_NO_MEMORY, "the engine's tables do not fit its memory");
}

static bool check_request(const Engine *e, const EngineRequest *r, Error *err) {
    uint64_t total = (uint64_t)r->n_prompt + r->max_tokens;
    if (r->n_prompt == 0 || r->max_tokens <= r->n_drawn) {
        return error_set(err, ERR_INVALID_REQUEST,
                         "a request needs at least one prompt token and one token to draw");
    }
    if (total > e->context_length) {
        return error_set(err, ERR_INVALID_REQUEST,
                         "%u prompt token%s and %u to generate exceed the context length of %u", r->n_prompt,
                         plural_s(r->n_prompt), r->max_tokens, e->context_length);
    }
    for (uint32_t i = 0; i < r->n_prompt + r->n_drawn; i++) {
        if (r->tokens[i] >= 0 && (uint32_t)r->tokens[i] < e->n_vocab) continue;
        return error_set(err, ERR_INVALID_REQUEST, "prompt token %u is %d; the vocabulary has %u", i,
                         r->tokens[i], e->n_vocab);
    }
    return sampler_check(&r->sampler, e->n_vocab, err);
}

static Sequence *find_free_slot(Engine *e, uint32_t *slot) {
    for (*slot = 0; *slot < e->n_slots; ++*slot) {
        if (!e->sequences[*slot].used) return &e->sequences[*slot];
    }
    return NULL;
}

bool engine_admit(Engine *e, const EngineRequest *request, uint32_t *slot, Error *err) {
    if (!check_request(e, request, err)) return false;
    Sequence *s = find_free_slot(e, slot);
    if (!s) return error_set(err, ERR_BUSY, "all %u slots are taken", e->n_slots);
    // The last token drawn is never fed back, so it needs no place in the cache.
    uint32_t n_pages =
        (uint32_t)div_up((uint64_t)request->n_prompt + request->max_tokens - 1, KV_PAGE_TOKENS);
    if (n_pages > e->pages.n_free) {
        return error_set(err, ERR_VRAM_OOM,
                         "the request needs %u of the KV cache's %u pages of %d tokens; %u of them are free",
                         n_pages, e->pages.n_pages, KV_PAGE_TOKENS, e->pages.n_free);
    }
    SequenceStart start = {.params = request->sampler,
                           .tokens = request->tokens,
                           .n_prompt = request->n_prompt,
                           .n_drawn = request->n_drawn};
    if (!e->backend->begin(e->backend, *slot, &start, err)) return false;
    bool taken = kv_pages_take(&e->pages, n_pages, s->pages);
    assert(taken); // they were counted above
    (void)taken;
    uint32_t n_known = request->n_prompt + request->n_drawn;
    *s = (Sequence){.used = true,
                    .generation = s->generation,
                    .sampler = request->sampler,
                    .tokens = s->tokens,
                    .pages = s->pages,
                    .n_pages = n_pages,
                    .n_prompt = request->n_prompt,
                    .n_known = n_known,
                    .n_drawn_sent = request->n_drawn,
                    .n_drawn_read = request->n_drawn,
                    .max_tokens = request->max_tokens};
    memcpy(s->tokens, request->tokens, n_known * sizeof *s->tokens);
    return true;
}

void engine_release(Engine *e, uint32_t slot) {
    Sequence *s = &e->sequences[slot];
    if (!s->used) return;
    s->used = false;
    s->generation++;
    kv_pages_give_back(&e->pages, s->pages, s->n_pages);
    step_policy_forget(&e->policy, slot);
}

void engine_set_aside(Engine *e, uint32_t slot, int32_t *tokens, EngineRequest *out) {
    const Sequence *s = &e->sequences[slot];
    assert(s->used && !s->failed);
    *out = (EngineRequest){.tokens = tokens,
                           .n_prompt = s->n_prompt,
                           .n_drawn = s->n_drawn_read,
                           .max_tokens = s->max_tokens,
                           .sampler = s->sampler};
    memcpy(tokens, s->tokens, (s->n_prompt + s->n_drawn_read) * sizeof *tokens);
    engine_release(e, slot);
}

// Makes a part of a step, which counts as sent then, and notes what is expected of it.
static void make_part(Engine *e, Flight *flight, uint32_t index, StepSequence *out) {
    const StepPart *part = &flight->choice.parts[index];
    Sequence *s = &e->sequences[part->slot];
    *out = (StepSequence){.slot = part->slot, .pages = s->pages};
    if (part->prompt_rows) {
        out->mode = STEP_PROMPT;
        out->position = s->n_known_sent;
        out->n_rows = part->prompt_rows;
        out->tokens = s->tokens + s->n_known_sent;
        out->n_slices = part->n_slices;
        out->slice = part->slice;
        if (step_is_last_slice(out)) s->n_known_sent += part->prompt_rows;
        out->n_draws = s->n_known_sent == s->n_known;
    } else {
        out->mode = STEP_DECODE;
        out->position = s->n_prompt + s->n_drawn_sent - 1;
        out->n_rows = 1;
        out->n_draws = 1;
    }
    s->n_drawn_sent += out->n_draws;
    flight->expected[index].generation = s->generation;
    flight->expected[index].n_prompt_done = s->n_known_sent;
    flight->expected[index].n_draws = out->n_draws;
}

static SlotWork work_of(const Sequence *s) {
    if (!s->used || s->failed) return (SlotWork){0};
    return (SlotWork){.prompt_rows = s->n_known - s->n_known_sent,
                      .decodes = s->n_drawn_sent < s->max_tokens};
}

// Enqueues the next step; *sent is false when there is nothing to do.
static bool send_step(Engine *e, bool *sent, Error *err) {
    StepSequence sequences[JOBS_MAX];
    SlotWork work[JOBS_MAX];
    Flight *flight = &e->flights[(e->first_flight + e->n_flights) % PIPELINE_DEPTH_MAX];
    for (uint32_t i = 0; i < e->n_slots; i++)
        work[i] = work_of(&e->sequences[i]);
    step_policy_next(&e->policy, work, e->n_slots, &flight->choice);
    uint32_t n = flight->choice.n_parts;
    *sent = n > 0;
    if (n == 0) return true;
    for (uint32_t i = 0; i < n; i++)
        make_part(e, flight, i, &sequences[i]);
    flight->sent_ns = os_monotonic_ns();
    e->n_flights++;
    return e->backend->step(e->backend, &(Step){.sequences = sequences, .n_sequences = n}, err);
}

// Keeps what a run drew, up to the first token that is none, and says in *out what it brought.
static void take_run(Engine *e, const StepRun *run, EngineOutput *out) {
    Sequence *s = &e->sequences[run->slot];
    out->tokens = run->tokens;
    out->logprobs = run->logprobs;
    while (out->n_tokens < run->n_tokens && run->tokens[out->n_tokens] != TOKEN_INVALID)
        s->tokens[s->n_prompt + s->n_drawn_read++] = run->tokens[out->n_tokens++];
    out->last = s->n_drawn_read == s->max_tokens;
    if (out->n_tokens == run->n_tokens) return;
    const char *where = run->first_invalid;
    Error *failure = &e->failures[run->slot];
    error_fill(failure, ERR_INTERNAL, ERROR_NO_POSITION,
               "the model computed logits that are not numbers (token %u of the output%s%s)", s->n_drawn_read,
               where ? "; the first such values: " : "", where ? where : "");
    s->failed = true;
    out->failure = failure;
}

// Turns a finished step into outputs; what it brought for sequences that have ended since is dropped.
static uint32_t take_outputs(Engine *e, const Flight *flight, EngineOutput *outputs) {
    uint32_t n_runs = 0, n_outputs = 0;
    for (uint32_t i = 0; i < flight->choice.n_parts; i++) {
        uint32_t slot = flight->choice.parts[i].slot, n_draws = flight->expected[i].n_draws;
        const StepRun *run = n_draws ? &e->result.runs[n_runs++] : NULL;
        assert(!run || (run->slot == slot && run->n_tokens == n_draws));
        const Sequence *s = &e->sequences[slot];
        if (!s->used || s->failed || s->generation != flight->expected[i].generation) continue;
        EngineOutput *out = &outputs[n_outputs++];
        *out = (EngineOutput){.slot = slot, .n_prompt_done = flight->expected[i].n_prompt_done};
        if (run) take_run(e, run, out);
    }
    assert(n_runs == e->result.n_runs);
    return n_outputs;
}

bool engine_step(Engine *e, EngineOutput *outputs, uint32_t *n_outputs, Error *err) {
    *n_outputs = 0;
    e->rows_read = 0;
    bool sent = true;
    while (sent && e->n_flights < e->depth) {
        if (e->n_flights && !step_policy_sends_ahead(&e->policy)) break;
        if (!send_step(e, &sent, err)) return false;
    }
    if (e->n_flights == 0) return true;
    const Flight *flight = &e->flights[e->first_flight];
    if (!e->backend->read(e->backend, &e->result, err)) return false;
    e->first_flight = (e->first_flight + 1) % PIPELINE_DEPTH_MAX;
    e->n_flights--;
    step_policy_learn(&e->policy, &flight->choice, os_monotonic_ns() - flight->sent_ns);
    *n_outputs = take_outputs(e, flight, outputs);
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

const KvPages *engine_pages(const Engine *e) {
    return &e->pages;
}

uint32_t engine_context_length(const Engine *e) {
    return e->context_length;
}
