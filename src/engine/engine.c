#include "engine/engine.h"

#include "os/os.h"

enum { PIPELINE_DEPTH_MAX = 4 };

// A cancellation waits for the steps that are under way, so where they take longer than the target, a
// prompt's chunks go through the layers in parts, a step each, or, where the backend has no parts, are made
// smaller: large ones are faster (a 70B model on an H100: 3,800 tokens a second in chunks of 512, 2,000 in
// those of 128). How a prompt is cut does not change the result, to the bit. A processor's steps vary with
// what else runs there, so they aim lower. Steps longer than STEP_AHEAD_NS are not sent ahead: two under way
// would take twice the time, and what is lost between them is little.
enum {
    STEP_TARGET_GPU_NS = 80 * 1000 * 1000,
    STEP_TARGET_CPU_NS = 40 * 1000 * 1000,
    STEP_AHEAD_NS = 10 * 1000 * 1000,
    CHUNK_TOKENS_MIN = 8,
    CHUNK_PARTS_FIRST = 16, // so that the first long prompt of the largest models can be cancelled, too
};

typedef struct {
    bool used;
    uint32_t generation; // goes up with each sequence in this slot
    int32_t *prompt;     // [n_context]
    uint32_t *pages;     // [pages of a whole context]
    uint32_t n_pages;
    uint32_t n_prompt;
    uint32_t n_prompt_sent; // in steps enqueued so far
    uint32_t n_drawn_sent;  // draws in steps enqueued so far
    uint32_t n_drawn_read;
    uint32_t max_tokens;
} Sequence;

// What a step in flight will bring for one slot.
typedef struct {
    uint32_t slot;
    uint32_t generation;
    uint32_t n_prompt_done;
    bool draws;
} Pending;

typedef struct {
    Pending pending[JOBS_MAX];
    uint32_t n_pending;
    uint32_t chunk_tokens; // of a prompt; 0 for a decode step
    uint32_t chunk_parts;
    uint64_t sent_ns;
} Flight;

// Rows of a prompt, parts of which are still to be sent where part < n_parts. No other prompt's may begin
// meanwhile, unless this sequence has ended.
typedef struct {
    uint32_t slot;
    uint32_t generation;
    uint32_t n_tokens;
    uint32_t n_parts, part;
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
    uint32_t chunk_tokens; // what chunks have at most, and in how many parts such a one is computed
    uint32_t chunk_tokens_max;
    uint32_t chunk_parts;
    uint32_t chunk_parts_max;
    bool chunks_are_long; // the last step of one took longer than STEP_AHEAD_NS
    uint64_t step_target_ns;
    uint32_t next_prefill; // slot to look at first, so that prompts take turns
    bool last_was_prefill;
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
    e->chunk_parts_max = (uint32_t)max_u64(info->chunk_parts, 1);
    e->chunk_parts = (uint32_t)min_u64(CHUNK_PARTS_FIRST, e->chunk_parts_max);
    e->sequences = arena_new(arena, Sequence, n_slots);
    e->free_pages = arena_new(arena, uint32_t, e->n_pages);
    bool ok = e->sequences && e->free_pages;
    for (uint32_t i = 0; ok && i < n_slots; i++) {
        Sequence *s = &e->sequences[i];
        s->prompt = arena_new(arena, int32_t, e->context_length);
        s->pages = arena_new(arena, uint32_t, div_up(e->context_length, KV_PAGE_TOKENS));
        ok = s->prompt && s->pages;
    }
    if (!ok) return error_set(err, ERR_NO_MEMORY, "the engine's tables do not fit its memory");
    for (uint32_t i = 0; i < e->n_pages; i++)
        e->free_pages[i] = e->n_pages - 1 - i;
    *out = e;
    return true;
}

static bool check_request(const Engine *e, const EngineRequest *r, Error *err) {
    uint64_t total = (uint64_t)r->n_tokens + r->max_tokens;
    if (r->n_tokens == 0 || r->max_tokens == 0) {
        return error_set(err, ERR_INVALID_REQUEST,
                         "a request needs at least one prompt token and one token to draw");
    }
    if (total > e->context_length) {
        return error_set(err, ERR_INVALID_REQUEST,
                         "%u prompt token%s and %u to generate exceed the context length of %u", r->n_tokens,
                         plural_s(r->n_tokens), r->max_tokens, e->context_length);
    }
    for (uint32_t i = 0; i < r->n_tokens; i++) {
        if (r->tokens[i] >= 0 && (uint32_t)r->tokens[i] < e->n_vocab) continue;
        return error_set(err, ERR_INVALID_REQUEST, "prompt token %u is %d; the vocabulary has %u", i,
                         r->tokens[i], e->n_vocab);
    }
    return true;
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
        (uint32_t)div_up((uint64_t)request->n_tokens + request->max_tokens - 1, KV_PAGE_TOKENS);
    if (n_pages > e->n_free_pages) {
        return error_set(err, ERR_VRAM_OOM,
                         "the request needs %u of the KV cache's %u pages of %d tokens; %u of them are free",
                         n_pages, e->n_pages, KV_PAGE_TOKENS, e->n_free_pages);
    }
    if (!e->backend->begin(e->backend, *slot, &request->sampler, request->tokens, request->n_tokens, err))
        return false;
    s->used = true;
    s->n_prompt = request->n_tokens;
    s->max_tokens = request->max_tokens;
    s->n_prompt_sent = s->n_drawn_sent = s->n_drawn_read = 0;
    memcpy(s->prompt, request->tokens, request->n_tokens * sizeof *s->prompt);
    for (s->n_pages = 0; s->n_pages < n_pages; s->n_pages++)
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

// Adds one sequence's part to a step and to what is expected of it.
static void put_sequence(Engine *e, uint32_t slot, const Chunk *chunk, StepSequence *out, Flight *flight) {
    Sequence *s = &e->sequences[slot];
    *out = (StepSequence){.slot = slot,
                          .position = s->n_prompt_sent + s->n_drawn_sent - (chunk ? 0 : 1),
                          .n_tokens = chunk ? chunk->n_tokens : 1,
                          .tokens = chunk ? s->prompt + s->n_prompt_sent : NULL,
                          .pages = s->pages,
                          .n_parts = chunk ? chunk->n_parts : 0,
                          .part = chunk ? chunk->part : 0};
    if (chunk && step_is_whole(out)) s->n_prompt_sent += chunk->n_tokens;
    out->sample = s->n_prompt_sent == s->n_prompt;
    s->n_drawn_sent += out->sample;
    flight->pending[flight->n_pending++] = (Pending){
        .slot = slot, .generation = s->generation, .n_prompt_done = s->n_prompt_sent, .draws = out->sample};
}

static bool wants_prefill(const Sequence *s) {
    return s->used && s->n_prompt_sent < s->n_prompt;
}

static bool wants_decode(const Sequence *s) {
    return s->used && s->n_prompt_sent == s->n_prompt && s->n_drawn_sent < s->max_tokens;
}

static bool chunk_goes_on(const Engine *e) {
    const Sequence *s = &e->sequences[e->chunk.slot];
    return e->chunk.part < e->chunk.n_parts && s->used && s->generation == e->chunk.generation;
}

// The next rows of the prompt whose turn it is; false where there is none.
static bool begin_chunk(Engine *e) {
    for (uint32_t i = 0; i < e->n_slots; i++) {
        uint32_t slot = (e->next_prefill + i) % e->n_slots;
        const Sequence *s = &e->sequences[slot];
        if (!wants_prefill(s)) continue;
        uint64_t n_tokens = min_u64(e->chunk_tokens, s->n_prompt - s->n_prompt_sent);
        uint64_t n_parts = max_u64(n_tokens * e->chunk_parts / e->chunk_tokens, 1);
        e->chunk = (Chunk){.slot = slot,
                           .generation = s->generation,
                           .n_tokens = (uint32_t)n_tokens,
                           .n_parts = (uint32_t)n_parts};
        e->next_prefill = (slot + 1) % e->n_slots;
        return true;
    }
    return false;
}

static uint32_t put_prefill(Engine *e, StepSequence *sequences, Flight *flight) {
    if (!chunk_goes_on(e) && !begin_chunk(e)) return 0;
    flight->chunk_tokens = e->chunk.n_tokens;
    flight->chunk_parts = e->chunk.n_parts;
    put_sequence(e, e->chunk.slot, &e->chunk, sequences, flight);
    e->chunk.part++;
    return 1;
}

static uint32_t put_decode(Engine *e, StepSequence *sequences, Flight *flight) {
    uint32_t n = 0;
    for (uint32_t slot = 0; slot < e->n_slots; slot++) {
        if (wants_decode(&e->sequences[slot])) put_sequence(e, slot, NULL, &sequences[n++], flight);
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
    bool is_usual = flight->chunk_tokens == e->chunk_tokens && flight->chunk_parts == e->chunk_parts;
    e->chunks_are_long = took_ns > STEP_AHEAD_NS;
    if (is_usual && took_ns > e->step_target_ns) {
        uint64_t least = min_u64(CHUNK_TOKENS_MIN, e->chunk_tokens_max);
        if (e->chunk_parts < e->chunk_parts_max)
            e->chunk_parts = (uint32_t)min_u64((uint64_t)e->chunk_parts * 2, e->chunk_parts_max);
        else e->chunk_tokens = (uint32_t)max_u64(e->chunk_tokens / 2, least);
    } else if (is_usual && took_ns < e->step_target_ns / 3 && e->chunk_tokens < e->chunk_tokens_max) {
        e->chunk_tokens = (uint32_t)min_u64((uint64_t)e->chunk_tokens * 2, e->chunk_tokens_max);
    } else if (e->chunk_parts > 1) {
        // What a usual step would take at most: a shorter chunk's rows take longer each.
        uint64_t usual_ns = took_ns * e->chunk_tokens / flight->chunk_tokens;
        usual_ns = usual_ns * flight->chunk_parts / e->chunk_parts;
        if (usual_ns < e->step_target_ns / 16 * 7) e->chunk_parts /= 2;
    }
}

// Turns a finished step into outputs; what it brought for sequences that have ended since is dropped.
static bool take_outputs(Engine *e, const Flight *flight, const StepResult *result, EngineOutput *outputs,
                         uint32_t *n_outputs, uint32_t *failed_slot, Error *err) {
    uint32_t n_drawn = 0;
    bool ok = true;
    for (uint32_t i = 0; i < flight->n_pending; i++) {
        const Pending *p = &flight->pending[i];
        int32_t token = p->draws ? result->tokens[n_drawn++] : -1;
        Sequence *s = &e->sequences[p->slot];
        if (!s->used || s->generation != p->generation) continue;
        if (p->draws && token == TOKEN_INVALID) {
            *failed_slot = p->slot;
            const char *where = result->first_invalid;
            ok = error_set(err, ERR_INTERNAL,
                           "the model computed logits that are not numbers (token %u of the output%s%s)",
                           s->n_drawn_read, where ? "; the first such values: " : "", where ? where : "");
            continue;
        }
        s->n_drawn_read += p->draws;
        outputs[(*n_outputs)++] = (EngineOutput){.slot = p->slot,
                                                 .token = token,
                                                 .last = s->n_drawn_read == s->max_tokens,
                                                 .n_prompt_done = p->n_prompt_done};
    }
    return ok;
}

bool engine_step(Engine *e, EngineOutput *outputs, uint32_t *n_outputs, uint32_t *failed_slot, Error *err) {
    *n_outputs = 0;
    *failed_slot = UINT32_MAX;
    bool sent = true;
    while (sent && e->n_flights < e->depth) {
        if (e->n_flights && e->last_was_prefill && e->chunks_are_long) break;
        if (!send_step(e, &sent, err)) return false;
    }
    if (e->n_flights == 0) return true;
    StepResult result = {0};
    const Flight *flight = &e->flights[e->first_flight];
    if (!e->backend->read(e->backend, &result, err)) return false;
    e->first_flight = (e->first_flight + 1) % PIPELINE_DEPTH_MAX;
    e->n_flights--;
    if (flight->chunk_tokens) adapt_chunk(e, flight);
    return take_outputs(e, flight, &result, outputs, n_outputs, failed_slot, err);
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
