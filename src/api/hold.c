// What answers are held to: each request with a schema, a grammar or calls takes an entry of the cache; the
// first one with that entry compiles it, in an encoder lane for that alone, and the others wait for it.
//
//     encoded ── entry is ready ───────────────────────────────→ queue
//        ├────── entry is being made ── waits ── entry is made ──→ queue, or the error
//        └────── no entry ── LANE_GRAMMAR ── too much work ── LANE_SLOW ──┘
#include "api/api_internal.h"

#include "os/os.h"

#include <stdio.h>

// ---- encoder threads ----

bool api_hold_answer(Api *api, ApiRequest *r, const StructuredAnswer *a, const AnswerGrammar *chat,
                     const Job *job, Error *err) {
    const BackendInfo *info = &api->config.bridge->status.info;
    char message[128];
    if (a->kind == STRUCTURED_NONE) return true;
    if (job->ignores_eos) return field_refuse(err, "ignore_eos", "does not go with a schema or grammar");
    snprintf(message, sizeof message,
             "is not supported by the %s backend, which cannot hold answers to grammars yet", info->kind);
    if (!info->masks) return field_refuse(err, a->field, message);
    r->held_to = a;
    r->has_frame = chat != NULL;
    if (chat) r->frame = *chat;
    structured_key(a, chat, r->held_key);
    return true;
}

// Whether nobody waits for any of its jobs any more.
static bool is_over(const Api *api, const ApiRequest *r) {
    const Bridge *bridge = api->config.bridge;
    for (uint32_t i = 0; i < r->n_jobs; i++) {
        const Job *job = &bridge->jobs[r->jobs[i]];
        if (atomic_load(&job->cancel) != CANCEL_NONE || bridge->now_ns() >= job->expires_ns) return true;
    }
    return false;
}

typedef struct {
    const Api *api;
    const ApiRequest *request;
} Maker;

static bool maker_is_over(const void *context) {
    const Maker *maker = context;
    return is_over(maker->api, maker->request);
}

bool api_compile_held(Api *api, ApiRequest *r, bool is_slow) {
    HeldGrammar *g = r->held;
    Maker maker = {api, r};
    LangStop stop = {maker_is_over, &maker};
    Arena memory = api->lanes[is_slow ? LANE_SLOW : LANE_GRAMMAR].compiling;
    uint64_t work_max = is_slow ? SCHEMA_WORK_MAX : STRUCTURED_QUICK_WORK;
    bool too_large;
    r->must_slow = false;
    r->gave_up = is_over(api, r);
    if (r->gave_up) return false;
    if (!is_slow) memory.end = memory.next + STRUCTURED_QUICK_BYTES;
    bool ok = structured_compile(r->held_to, r->has_frame ? &r->frame : NULL, api->config.tokenizer, work_max,
                                 &stop, memory, &g->arena, &g->grammar, &too_large, &g->error);
    os_discard(memory.next, arena_left(&memory));
    r->gave_up = !ok && is_over(api, r);
    r->must_slow = !ok && too_large && !is_slow;
    return ok;
}

// ---- I/O thread ----

static void compile_in(Api *api, ApiRequest *r, bool is_slow) {
    r->is_slow = is_slow;
    api->slow_grammars += is_slow;
    api_push_encoder(api, r, is_slow ? LANE_SLOW : LANE_GRAMMAR, ENCODER_COMPILE);
}

// The entry is made, or r is over: the jobs go on.
static void settle(Api *api, ApiRequest *r) {
    HeldGrammar *g = r->held;
    r->waits_for_grammar = false;
    for (uint32_t i = 0; i < r->n_jobs; i++) {
        Job *job = &api->config.bridge->jobs[r->jobs[i]];
        job->grammar = g->state == HELD_READY ? g->grammar : NULL;
        job->grammar_field = r->held_to->field;
    }
    if (g->state == HELD_REFUSED) r->error = g->error;
    api_take_encoded(api, r, g->state != HELD_REFUSED);
}

void api_take_grammar(Api *api, ApiRequest *r) {
    HeldGrammar *g = r->held = grammar_cache_take(&api->grammars, r->held_key);
    switch (g->state) {
    case HELD_FREE:
        g->state = HELD_COMPILING;
        compile_in(api, r, false);
        return;
    case HELD_COMPILING:
        r->waits_for_grammar = true;
        r->pushed_ns = api->config.bridge->now_ns();
        return;
    case HELD_READY:
    case HELD_REFUSED: settle(api, r); return;
    }
}

static ApiRequest *next_waiting(Api *api, const HeldGrammar *g) {
    for (uint32_t i = 0; i < api->n_requests; i++) {
        ApiRequest *r = &api->requests[i];
        if (r->state == REQUEST_ENCODES && r->waits_for_grammar && r->held == g) return r;
    }
    return NULL;
}

static void settle_all(Api *api, ApiRequest *r, HeldGrammar *g) {
    settle(api, r);
    while ((r = next_waiting(api, g))) {
        r->waited_ns += api->config.bridge->now_ns() - r->pushed_ns;
        settle(api, r);
    }
}

// Whoever made the entry is gone: another one that waits for it goes on.
static void hand_over(Api *api, HeldGrammar *g, bool is_slow) {
    ApiRequest *r = next_waiting(api, g);
    if (!r) {
        g->state = HELD_FREE;
        return;
    }
    r->waited_ns += api->config.bridge->now_ns() - r->pushed_ns;
    r->waits_for_grammar = false;
    compile_in(api, r, is_slow);
}

void api_take_compiled(Api *api, ApiRequest *r, bool ok) {
    HeldGrammar *g = r->held;
    bool was_slow = r->is_slow;
    api->slow_grammars -= was_slow;
    r->is_slow = false;
    if (!ok && r->must_slow && api->slow_grammars < SLOW_GRAMMARS_MAX) {
        compile_in(api, r, true);
        return;
    }
    if (r->gave_up) {
        hand_over(api, g, was_slow);
        settle(api, r);
        return;
    }
    if (!ok && r->must_slow) // another time it may do: nothing is remembered
        (void)error_set(&g->error, ERR_BUSY, "%d schemas or grammars that take long are being read already",
                        SLOW_GRAMMARS_MAX);
    g->state = ok ? HELD_READY : HELD_REFUSED;
    settle_all(api, r, g);
}

void api_expire_held(Api *api) {
    for (uint32_t i = 0; i < api->n_requests; i++) {
        ApiRequest *r = &api->requests[i];
        if (r->state != REQUEST_ENCODES || !r->waits_for_grammar || !is_over(api, r)) continue;
        r->waited_ns += api->config.bridge->now_ns() - r->pushed_ns;
        settle(api, r);
    }
}

void api_release_grammar(Api *api, ApiRequest *r) {
    HeldGrammar *g = r->held;
    r->held = NULL;
    if (!g) return;
    bool is_busy = g->state == HELD_REFUSED && g->error.code == ERR_BUSY;
    grammar_cache_release(&api->grammars, g, g->state == HELD_FREE || is_busy);
}
