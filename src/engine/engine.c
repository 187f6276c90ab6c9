#include "engine/engine.h"

#include "os/os.h"

#include <assert.h>

enum { PIPELINE_DEPTH_MAX = 4 };

// A cancellation waits for the steps that are under way, so where they take longer than the target, a
// prompt's chunks go through the layers in slices, a step each, or, where the backend has no slices, are made
// smaller: large ones are faster (a 70B model on an H100: 3,800 tokens a second in chunks of 512, 2,000 in
// those of 128). How a prompt is cut does not change the result, to the bit. A processor's steps vary with
// what else runs there, so they aim lower. Steps longer than STEP_AHEAD_NS are not sent ahead: two under way
// would take twice the time, and what is lost between them is little.
enum {
    STEP_TARGET_GPU_NS = 80 * 1000 * 1000,
    STEP_TARGET_CPU_NS = 40 * 1000 * 1000,
    STEP_AHEAD_NS = 10 * 1000 * 1000,
    CHUNK_TOKENS_MIN = 8,
    CHUNK_SLICES_FIRST = 16, // so that the first long prompt of the largest models can be cancelled, too
};

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

// What a step in flight will bring for one slot.
typedef struct {
    uint32_t slot;
    uint32_t generation;
    uint32_t n_prompt_done;
    uint32_t n_draws;
} Pending;

typedef struct {
    Pending pending[JOBS_MAX];
    uint32_t n_pending;
    uint32_t chunk_tokens; // of a prompt; 0 for a decode step
    uint32_t chunk_slices;
    uint64_t sent_ns;
} Flight;

// Rows of a prompt, slices of which are still to be sent where slice < n_slices. No other prompt's may begin
// meanwhile, unless this sequence has ended.
typedef struct {
    uint32_t slot;
    uint32_t generation;
    uint32_t n_tokens;
    uint32_t n_slices, slice;
} Chunk;

struct Engine {
    Backend *backend;
    uint32_t n_slots;
    uint32_t n_vocab;
    uint32_t context_length;
    Sequence *sequences;
    uint32_t *free_pages; // stack
    uint32_t n_free_pages;
    uint32_t n_pages;
    Flight flights[PIPELINE_DEPTH_MAX]; // ring
    uint32_t first_flight;
    uint32_t n_flights;
    uint32_t depth;
    Chunk chunk;
    uint32_t chunk_tokens; // what chunks have at most, and in how many slices such a one is computed
    uint32_t chunk_tokens_max;
    uint32_t chunk_slices;
    uint32_t chunk_slices_max;
    bool chunks_are_long; // the last step of one took longer than STEP_AHEAD_NS
    uint64_t step_target_ns;
    uint32_t next_prefill; // slot to look at first, so that prompts take turns
    uint32_t next_decode;  // the same for draws, where not all fit a step
    bool last_was_prefill;
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
    e->n_vocab = plan->config.n_vocab;
    e->context_length = (uint32_t)min_u64(plan->config.n_context, cache_tokens);
    e->n_pages = e->n_free_pages = info->n_kv_pages;
    e->depth = (uint32_t)min_u64(info->pipeline_depth, PIPELINE_DEPTH_MAX);
    e->chunk_tokens_max = (uint32_t)min_u64(PREFILL_CHUNK_TOKENS, info->max_rows);
    e->step_target_ns = e->depth > 1 ? STEP_TARGET_GPU_NS : STEP_TARGET_CPU_NS;
    uint32_t first = info->chunk_tokens ? info->chunk_tokens : e->chunk_tokens_max;
    e->chunk_tokens = (uint32_t)min_u64(first, e->chunk_tokens_max);
    e->chunk_slices_max = (uint32_t)max_u64(info->chunk_slices, 1);
    e->chunk_slices = (uint32_t)min_u64(CHUNK_SLICES_FIRST, e->chunk_slices_max);
    e->sequences = arena_new(arena, Sequence, n_slots);
    e->free_pages = arena_new(arena, uint32_t, e->n_pages);
    bool ok = e->sequences && e->free_pages;
    for (uint32_t i = 0; ok && i < n_slots; i++) {
        Sequence *s = &e->sequences[i];
        s->tokens = arena_new(arena, int32_t, e->context_length);
        s->pages = arena_new(arena, uint32_t, div_up(e->context_length, KV_PAGE_TOKENS));
        ok = s->tokens && s->pages;
    }
    if (!ok) return error_set(err, ERR_NO_MEMORY, "the engine's tables do not fit its memory");
    for (uint32_t i = 0; i < e->n_pages; i++)
        e->free_pages[i] = e->n_pages - 1 - i;
    *out = e;
    return true;
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
    if (n_pages > e->n_free_pages) {
        return error_set(err, ERR_VRAM_OOM,
                         "the request needs %u of the KV cache's %u pages of %d tokens; %u of them are free",
                         n_pages, e->n_pages, KV_PAGE_TOKENS, e->n_free_pages);
    }
    SequenceStart start = {.params = request->sampler,
                           .tokens = request->tokens,
                           .n_prompt = request->n_prompt,
                           .n_drawn = request->n_drawn};
    if (!e->backend->begin(e->backend, *slot, &start, err)) return false;
    uint32_t n_known = request->n_prompt + request->n_drawn;
    *s = (Sequence){.used = true,
                    .generation = s->generation,
                    .sampler = request->sampler,
                    .tokens = s->tokens,
                    .pages = s->pages,
                    .n_prompt = request->n_prompt,
                    .n_known = n_known,
                    .n_drawn_sent = request->n_drawn,
                    .n_drawn_read = request->n_drawn,
                    .max_tokens = request->max_tokens};
    memcpy(s->tokens, request->tokens, n_known * sizeof *s->tokens);
    for (; s->n_pages < n_pages; s->n_pages++)
        s->pages[s->n_pages] = e->free_pages[--e->n_free_pages];
    return true;
}

void engine_release(Engine *e, uint32_t slot) {
    Sequence *s = &e->sequences[slot];
    if (!s->used) return;
    s->used = false;
    s->generation++;
    while (s->n_pages)
        e->free_pages[e->n_free_pages++] = s->pages[--s->n_pages];
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

// Adds one sequence's part to a step and to what is expected of it.
static void put_sequence(Engine *e, uint32_t slot, const Chunk *chunk, StepSequence *out, Flight *flight) {
    Sequence *s = &e->sequences[slot];
    if (chunk) {
        *out = (StepSequence){.slot = slot,
                              .mode = STEP_PROMPT,
                              .position = s->n_known_sent,
                              .n_rows = chunk->n_tokens,
                              .tokens = s->tokens + s->n_known_sent,
                              .pages = s->pages,
                              .n_slices = chunk->n_slices,
                              .slice = chunk->slice};
        if (step_is_last_slice(out)) s->n_known_sent += chunk->n_tokens;
        out->n_draws = s->n_known_sent == s->n_known;
    } else {
        *out = (StepSequence){.slot = slot,
                              .mode = STEP_DECODE,
                              .position = s->n_prompt + s->n_drawn_sent - 1,
                              .n_rows = 1,
                              .pages = s->pages,
                              .n_draws = 1};
    }
    s->n_drawn_sent += out->n_draws;
    flight->pending[flight->n_pending++] = (Pending){
        .slot = slot, .generation = s->generation, .n_prompt_done = s->n_known_sent, .n_draws = out->n_draws};
}

static bool wants_prefill(const Sequence *s) {
    return s->used && !s->failed && s->n_known_sent < s->n_known;
}

static bool wants_decode(const Sequence *s) {
    return s->used && !s->failed && s->n_known_sent == s->n_known && s->n_drawn_sent < s->max_tokens;
}

static bool chunk_goes_on(const Engine *e) {
    const Sequence *s = &e->sequences[e->chunk.slot];
    return e->chunk.slice < e->chunk.n_slices && s->used && s->generation == e->chunk.generation;
}

// The next rows of the prompt whose turn it is; false where there is none.
static bool begin_chunk(Engine *e) {
    for (uint32_t i = 0; i < e->n_slots; i++) {
        uint32_t slot = (e->next_prefill + i) % e->n_slots;
        const Sequence *s = &e->sequences[slot];
        if (!wants_prefill(s)) continue;
        uint64_t n_tokens = min_u64(e->chunk_tokens, s->n_known - s->n_known_sent);
        uint64_t n_slices = max_u64(n_tokens * e->chunk_slices / e->chunk_tokens, 1);
        e->chunk = (Chunk){.slot = slot,
                           .generation = s->generation,
                           .n_tokens = (uint32_t)n_tokens,
                           .n_slices = (uint32_t)n_slices};
        e->next_prefill = (slot + 1) % e->n_slots;
        return true;
    }
    return false;
}

static uint32_t put_prefill(Engine *e, StepSequence *sequences, Flight *flight) {
    if (!chunk_goes_on(e) && !begin_chunk(e)) return 0;
    flight->chunk_tokens = e->chunk.n_tokens;
    flight->chunk_slices = e->chunk.n_slices;
    put_sequence(e, e->chunk.slot, &e->chunk, sequences, flight);
    e->chunk.slice++;
    return 1;
}

// As many as a step has rows; those who had to wait are first in the next one.
static uint32_t put_decode(Engine *e, StepSequence *sequences, Flight *flight) {
    uint32_t n = 0, first = e->next_decode;
    e->next_decode = 0;
    for (uint32_t i = 0; i < e->n_slots; i++) {
        uint32_t slot = (first + i) % e->n_slots;
        if (!wants_decode(&e->sequences[slot])) continue;
        if (n == e->backend->info.max_rows) {
            e->next_decode = slot;
            break;
        }
        put_sequence(e, slot, NULL, &sequences[n++], flight);
    }
    return n;
}

// Enqueues the next step; *sent is false when there is nothing to do.
static bool send_step(Engine *e, bool *sent, Error *err) {
    StepSequence sequences[JOBS_MAX];
    Flight *flight = &e->flights[(e->first_flight + e->n_flights) % PIPELINE_DEPTH_MAX];
    flight->n_pending = flight->chunk_tokens = 0;
    uint32_t n = 0;
    if (e->last_was_prefill) n = put_decode(e, sequences, flight);
    if (n == 0) n = put_prefill(e, sequences, flight);
    if (n == 0) n = put_decode(e, sequences, flight);
    *sent = n > 0;
    if (n == 0) return true;
    e->last_was_prefill = flight->chunk_tokens > 0;
    flight->sent_ns = os_monotonic_ns();
    e->n_flights++;
    return e->backend->step(e->backend, &(Step){.sequences = sequences, .n_sequences = n}, err);
}

static void adapt_chunk(Engine *e, const Flight *flight) {
    uint64_t took_ns = os_monotonic_ns() - flight->sent_ns;
    bool is_usual = flight->chunk_tokens == e->chunk_tokens && flight->chunk_slices == e->chunk_slices;
    e->chunks_are_long = took_ns > STEP_AHEAD_NS;
    if (is_usual && took_ns > e->step_target_ns) {
        uint64_t least = min_u64(CHUNK_TOKENS_MIN, e->chunk_tokens_max);
        if (e->chunk_slices < e->chunk_slices_max)
            e->chunk_slices = (uint32_t)min_u64((uint64_t)e->chunk_slices * 2, e->chunk_slices_max);
        else e->chunk_tokens = (uint32_t)max_u64(e->chunk_tokens / 2, least);
    } else if (is_usual && took_ns < e->step_target_ns / 3 && e->chunk_tokens < e->chunk_tokens_max) {
        e->chunk_tokens = (uint32_t)min_u64((uint64_t)e->chunk_tokens * 2, e->chunk_tokens_max);
    } else if (e->chunk_slices > 1) {
        // What a usual step would take at most: a shorter chunk's rows take longer each.
        uint64_t usual_ns = took_ns * e->chunk_tokens / flight->chunk_tokens;
        usual_ns = usual_ns * flight->chunk_slices / e->chunk_slices;
        if (usual_ns < e->step_target_ns / 16 * 7) e->chunk_slices /= 2;
    }
}

// Keeps what a run drew, up to the first token that is none, and says in *out what it brought.
static void take_run(Engine *e, const Pending *p, const StepRun *run, EngineOutput *out) {
    Sequence *s = &e->sequences[p->slot];
    *out = (EngineOutput){.slot = p->slot, .n_prompt_done = p->n_prompt_done};
    if (!run) return;
    assert(run->slot == p->slot && run->n_tokens == p->n_draws);
    out->tokens = run->tokens;
    out->logprobs = run->logprobs;
    while (out->n_tokens < run->n_tokens && run->tokens[out->n_tokens] != TOKEN_INVALID)
        s->tokens[s->n_prompt + s->n_drawn_read++] = run->tokens[out->n_tokens++];
    out->last = s->n_drawn_read == s->max_tokens;
    if (out->n_tokens == run->n_tokens) return;
    const char *where = run->first_invalid;
    Error *failure = &e->failures[p->slot];
    error_fill(failure, ERR_INTERNAL, ERROR_NO_POSITION,
               "the model computed logits that are not numbers (token %u of the output%s%s)", s->n_drawn_read,
               where ? "; the first such values: " : "", where ? where : "");
    s->failed = true;
    out->failure = failure;
}

// Turns a finished step into outputs; what it brought for sequences that have ended since is dropped.
static uint32_t take_outputs(Engine *e, const Flight *flight, EngineOutput *outputs) {
    uint32_t n_runs = 0, n_outputs = 0;
    for (uint32_t i = 0; i < flight->n_pending; i++) {
        const Pending *p = &flight->pending[i];
        const StepRun *run = p->n_draws ? &e->result.runs[n_runs++] : NULL;
        const Sequence *s = &e->sequences[p->slot];
        if (!s->used || s->failed || s->generation != p->generation) continue;
        take_run(e, p, run, &outputs[n_outputs++]);
    }
    assert(n_runs == e->result.n_runs);
    return n_outputs;
}

bool engine_step(Engine *e, EngineOutput *outputs, uint32_t *n_outputs, Error *err) {
    *n_outputs = 0;
    bool sent = true;
    while (sent && e->n_flights < e->depth) {
        if (e->n_flights && e->last_was_prefill && e->chunks_are_long) break;
        if (!send_step(e, &sent, err)) return false;
    }
    if (e->n_flights == 0) return true;
    const Flight *flight = &e->flights[e->first_flight];
    if (!e->backend->read(e->backend, &e->result, err)) return false;
    e->first_flight = (e->first_flight + 1) % PIPELINE_DEPTH_MAX;
    e->n_flights--;
    if (flight->chunk_tokens) adapt_chunk(e, flight);
    *n_outputs = take_outputs(e, flight, outputs);
    return true;
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

uint32_t engine_pages_used(const Engine *e) {
    return e->n_pages - e->n_free_pages;
}

uint32_t engine_pages_total(const Engine *e) {
    return e->n_pages;
}

uint32_t engine_context_length(const Engine *e) {
    return e->context_length;
}
