#include "crowd_checks.h"

#include "base/rng.h"
#include "engine/engine_internal.h"
#include "gguf_builder.h"
#include "grammar/grammar_text_formats.h"
#include "os/os.h"
#include "runner.h"

#include <stdio.h>

enum { PROMPT_MAX = 60, DRAWN_MAX = 24, STEPS_MAX = 20000, MASK_THREADS = 3, CROWD_GRAMMAR_BYTES = 16 << 10 };

// A text, and what it draws.
typedef struct {
    int32_t prompt[PROMPT_MAX];
    uint32_t n_prompt, n_drawn, max_tokens;
    SamplerParams sampler;
    uint32_t grammar; // its number, from 1 on; 0: none
    int32_t tokens[DRAWN_MAX];
    TokenLogprobs logprobs[DRAWN_MAX];
} Text;

typedef struct {
    bool used;
    uint32_t of; // which of the texts; CROWD_TEXTS for a companion
    Text text;
} Member;

typedef struct {
    const CrowdConfig *config;
    Backend *backend;
    const Plan *plan;
    Engine *engine;
    uint64_t draws; // of random numbers
    Text alone[CROWD_TEXTS];
    Member *members; // [crowd]
    Arena *grammars; // [crowd] memory of each member's own
    CrowdReport report;
} Crowd;

static uint64_t clock_draws;

// Says anything, but never goes back.
static uint64_t any_clock(void) {
    static uint64_t now_ns = 1;
    return now_ns += rng_philox(77, clock_draws++).word[0] % 60000000;
}

static uint32_t roll(Crowd *c, uint32_t below) {
    return rng_philox(c->config->seed, c->draws++).word[0] % below;
}

static void make_text(Crowd *c, Text *t, uint32_t topic, uint32_t own) {
    static const SamplerParams params[CROWD_TEXTS] = {
        {.top_p = 1, .repetition_penalty = 1, .logprobs = true, .n_logprobs = LOGPROBS_MAX},
        {.temperature = 0.8f,
         .top_p = 1,
         .repetition_penalty = 1.2f,
         .presence_penalty = 0.4f,
         .frequency_penalty = 0.3f,
         .seed = 5,
         .logprobs = true,
         .n_logprobs = 5},
        {.temperature = 0.8f, .top_p = 0.95f, .repetition_penalty = 1.3f, .top_k = 40, .seed = 9},
        {.top_p = 1, .repetition_penalty = 1},
    };
    uint32_t in_common = roll(c, PROMPT_MAX);
    *t = (Text){.n_prompt = 1 + roll(c, PROMPT_MAX), .max_tokens = 1 + roll(c, DRAWN_MAX)};
    t->sampler = params[own % CROWD_TEXTS];
    if (own % 2 == 0 && c->config->tokenizer) t->grammar = 1 + own / 2 % 2;
    for (uint32_t i = 0; i < t->n_prompt; i++)
        t->prompt[i] = (int32_t)(rng_philox(i < in_common ? topic : 100 + own, i).word[0] % c->plan->n_vocab);
}

// Every fourth token may begin a message, so that prompts leave checkpoints at any page.
static const uint32_t *make_marks(const Crowd *c, Arena *arena) {
    uint32_t *marks = arena_new(arena, uint32_t, token_set_words(c->plan->n_vocab));
    REQUIRE(marks != NULL);
    for (uint32_t i = 0; i < c->plan->n_vocab; i += 4)
        token_set_add(marks, (int32_t)i);
    return marks;
}

static void make_engine(Crowd *c, Arena *arena, uint32_t n_pages, uint32_t max_rows) {
    BackendInfo info = c->backend->info;
    Error err = {0};
    c->backend->info.n_kv_pages = n_pages;
    c->backend->info.max_rows = max_rows;
    bool ok = engine_create(c->backend, c->plan, c->config->crowd, arena, &c->engine, &err);
    if (!ok) FAIL("%s", err.message);
    REQUIRE(ok);
    engine_set_clock(c->engine, any_clock);
    c->engine->checkpoint_tokens_min = KV_PAGE_TOKENS; // texts are short
    c->engine->marks = make_marks(c, arena);
    c->backend->info = info;
    if (c->config->tokenizer)
        REQUIRE(engine_take_grammars(c->engine, c->config->tokenizer, MASK_THREADS, arena, &err));
}

// For as many tokens as n_pages would have without windows, as far as one text fits.
static uint32_t crowd_pages(const Crowd *c) {
    const KvLayout *l = &c->plan->kv;
    uint64_t one = kv_layout_pages(l, CROWD_CONTEXT, c->config->max_rows);
    uint64_t each = kv_layout_pages(l, CROWD_CONTEXT, 1), pages = c->config->n_pages;
    return (uint32_t)max_u64(pages * each / kv_pages_of(CROWD_CONTEXT), one);
}

// Lists of at least eight of twelve words, which are all different.
static GrammarNode add_different(GrammarBuilder *b) {
    static const Str words[] = {STR("a"),  STR("b"),  STR("c"),  STR("aa"), STR("ab"), STR("ac"),
                                STR("ba"), STR("bb"), STR("bc"), STR("ca"), STR("cb"), STR("cc")};
    GrammarItems items = {.open = grammar_add_literal(b, STR("[")),
                          .comma = grammar_add_literal(b, STR(",")),
                          .close = grammar_add_literal(b, STR("]")),
                          .rest = {.other = grammar_add_texts(b, words, COUNT_OF(words))},
                          .min = 8,
                          .max = GRAMMAR_UNBOUNDED,
                          .contains_max = GRAMMAR_UNBOUNDED,
                          .unique = true};
    return grammar_add_items(b, &items);
}

// Lists of lists, which need never end, and words, which do, and whose letters come from two halves in turn;
// or lists of words that are all different.
static const Grammar *make_grammar(const Tokenizer *t, uint32_t number, Arena memory) {
    static const Str lists = STR("root ::= \"[\" (root (\",\" root)*)? \"]\" | ([a-m] [n-z]){1,5}");
    static Arena nodes, scratch, work;
    if (!nodes.next) nodes = os_arena(64 << 20), scratch = os_arena(64 << 20), work = os_arena(64 << 20);
    Arena own_nodes = nodes;
    LangMaker maker = {.keep = &memory, .scratch = work, .work_max = 1 << 24};
    GrammarBuilder *b = grammar_builder_new(&own_nodes);
    GrammarNode root = number == 2 ? add_different(b) : GRAMMAR_NEVER;
    const Grammar *g = NULL;
    Error err = {0};
    bool ok = (number == 2 || gbnf_read(lists, t, b, &maker, scratch, &root, &err)) &&
              grammar_compile(b, root, &memory, scratch, &g, &err);
    if (!ok) FAIL("%s", err.message);
    REQUIRE(ok);
    return g;
}

static void admit(Crowd *c, const Text *text, uint32_t of) {
    EngineRequest request = {.tokens = text->prompt,
                             .n_prompt = text->n_prompt,
                             .max_tokens = text->max_tokens,
                             .sampler = text->sampler};
    uint32_t slot, expected = 0;
    Error err = {0};
    while (c->members[expected].used)
        expected++;
    if (text->grammar)
        request.grammar = make_grammar(c->config->tokenizer, text->grammar, c->grammars[expected]);
    bool ok = engine_admit(c->engine, &request, &slot, &err);
    if (!ok) FAIL("%s", err.message);
    REQUIRE(ok && slot == expected);
    c->members[slot] = (Member){.used = true, .of = of, .text = *text};
    c->members[slot].text.n_drawn = 0;
}

// Its grammar is gone, too.
static void release(Crowd *c, uint32_t slot) {
    engine_release(c->engine, slot);
    c->members[slot].used = false;
    if (c->config->tokenizer) memset(c->grammars[slot].next, 0xA5, arena_left(&c->grammars[slot]));
}

static void keep(Text *t, int32_t token, const TokenLogprobs *from) {
    uint32_t at = t->n_drawn++;
    t->tokens[at] = token;
    memset(&t->logprobs[at], 0, sizeof t->logprobs[at]);
    if (!from) return;
    t->logprobs[at].token = from->token;
    t->logprobs[at].logprob = from->logprob;
    t->logprobs[at].n_best = from->n_best;
    for (uint32_t i = 0; i < from->n_best; i++)
        t->logprobs[at].best[i] = from->best[i];
}

static bool is_as_alone(const Text *a, const Text *b) {
    return a->n_drawn == b->n_drawn && memcmp(a->tokens, b->tokens, a->n_drawn * sizeof *a->tokens) == 0 &&
           memcmp(a->logprobs, b->logprobs, a->n_drawn * sizeof *a->logprobs) == 0;
}

// One step; returns how many of the texts have ended in it.
static uint32_t step(Crowd *c) {
    EngineOutput outputs[JOBS_MAX];
    uint32_t n_outputs, n_ended = 0;
    Error err = {0};
    bool ok = engine_step(c->engine, outputs, &n_outputs, &err);
    if (!ok) FAIL("%s", err.message);
    REQUIRE(ok && ++c->report.steps < STEPS_MAX);
    for (uint32_t i = 0; i < n_outputs; i++) {
        const EngineOutput *o = &outputs[i];
        Member *m = &c->members[o->slot];
        if (o->failure) FAIL("%s", o->failure->message);
        REQUIRE(!o->failure);
        for (uint32_t t = 0; t < o->n_tokens; t++)
            keep(&m->text, o->tokens[t], o->logprobs ? &o->logprobs[t] : NULL);
        if (!o->last) continue;
        if (m->of < CROWD_TEXTS) {
            n_ended++;
            c->report.cached += o->n_cached;
            if (c->alone[m->of].n_drawn == 0) c->alone[m->of] = m->text;
            else c->report.differ += !is_as_alone(&c->alone[m->of], &m->text);
        }
        release(c, o->slot);
    }
    return n_ended;
}

// Reads what is still under way in the backend, for whoever uses it next.
static void drain(Crowd *c) {
    while (c->engine->n_flights)
        step(c);
}

static void draw_alone(Crowd *c) {
    for (uint32_t i = 0; i < c->config->n_texts; i++) {
        Text text;
        make_text(c, &text, 1, i);
        if (i < 2) text.n_prompt = PROMPT_MAX - 7 * i, text.max_tokens = DRAWN_MAX; // long ones, too
        for (uint32_t k = 0; k < text.n_prompt && i < 2; k++)
            text.prompt[k] = (int32_t)(rng_philox(k < 41 ? 1 : 100 + i, k).word[0] % c->plan->n_vocab);
        engine_drop_cache(c->engine);
        admit(c, &text, i);
        while (step(c) == 0) {
        }
    }
    drain(c);
    CHECK_INT_EQ(0, c->report.cached);
}

static void disturb(Crowd *c) {
    for (uint32_t i = 0; i < 1 + c->config->crowd / 8; i++) {
        uint32_t slot = roll(c, c->config->crowd);
        Member *m = &c->members[slot];
        if (m->used && m->of == CROWD_TEXTS && roll(c, 12) == 0) release(c, slot);
        if (!m->used || !c->engine->sequences[slot].running || roll(c, 8)) continue;
        c->report.set_aside += m->of < CROWD_TEXTS;
        engine_set_aside(c->engine, slot);
    }
    if (roll(c, 40) == 0) engine_drop_cache(c->engine);
}

static void write_over_cached(Crowd *c) {
    const KvPages *p = engine_pages(c->engine);
    Error err;
    for (uint32_t i = p->orders[KV_NODES].first; i != KV_NO_NODE; i = p->nodes[i].use.after) {
        uint32_t page = kv_pages_lists(p, i)[0];
        REQUIRE(c->backend->copy_page(c->backend, (page + 1) % p->n_pages, page, &err));
    }
}

static void draw_in_crowd(Crowd *c) {
    uint32_t n_begun = 0, n_ended = 0, n = 2 * c->config->n_texts;
    for (uint32_t round = 0; n_ended < n; round++) {
        uint32_t n_come = 1 + roll(c, 1 + c->config->crowd / 4);
        for (uint32_t i = 0; i < n_come && engine_active(c->engine) < c->config->crowd; i++) {
            Text companion;
            bool is_text = n_begun < n && roll(c, 3) == 0;
            if (is_text) {
                uint32_t of = n_begun++ % c->config->n_texts;
                admit(c, &c->alone[of], of);
                continue;
            }
            make_text(c, &companion, roll(c, 3), roll(c, 50));
            admit(c, &companion, CROWD_TEXTS);
            c->report.companions++;
        }
        n_ended += step(c);
        disturb(c);
        if (c->config->fault == CROWD_FAULT_WRITTEN_OVER) write_over_cached(c);
    }
    for (uint32_t slot = 0; slot < c->config->crowd; slot++)
        release(c, slot);
}

static bool no_copy(Backend *b, uint32_t from, uint32_t to, Error *err) {
    (void)b, (void)from, (void)to, (void)err;
    return true;
}

static bool (*backend_step)(Backend *, const Step *, Error *);

static bool step_that_keeps_nothing(Backend *b, const Step *step, Error *err) {
    StepSequence sequences[JOBS_MAX];
    Step copy = *step;
    memcpy(sequences, step->sequences, step->n_sequences * sizeof *sequences);
    for (uint32_t i = 0; i < step->n_sequences; i++)
        sequences[i].n_keeps = 0;
    copy.sequences = sequences;
    return backend_step(b, &copy, err);
}

CrowdReport crowd_run(Backend *b, const Plan *plan, Arena arena, const CrowdConfig *config) {
    Crowd *c = arena_new(&arena, Crowd, 1);
    REQUIRE(c != NULL);
    *c = (Crowd){.config = config, .backend = b, .plan = plan};
    c->members = arena_new(&arena, Member, config->crowd);
    c->grammars = arena_new(&arena, Arena, config->crowd);
    REQUIRE(c->members && c->grammars);
    for (uint32_t i = 0; config->tokenizer && i < config->crowd; i++) {
        uint8_t *memory = arena_new(&arena, uint8_t, CROWD_GRAMMAR_BYTES);
        REQUIRE(memory != NULL);
        c->grammars[i] = arena_from_memory(memory, CROWD_GRAMMAR_BYTES);
    }
    clock_draws = config->seed;
    make_engine(c, &arena, b->info.n_kv_pages, b->info.max_rows);
    draw_alone(c);
    engine_end(c->engine);
    c->report.steps = 0;
    make_engine(c, &arena, crowd_pages(c), config->max_rows);
    bool (*copy_page)(Backend *, uint32_t, uint32_t, Error *) = b->copy_page;
    backend_step = b->step;
    if (config->fault == CROWD_FAULT_LOST_COPIES) b->copy_page = no_copy;
    if (config->fault == CROWD_FAULT_LOST_STATES) b->step = step_that_keeps_nothing;
    draw_in_crowd(c);
    drain(c);
    engine_end(c->engine);
    b->copy_page = copy_page;
    b->step = backend_step;
    CHECK_INT_EQ(0, kv_pages_used(engine_pages(c->engine)));
    return c->report;
}

// ---- a vocabulary ----

const Tokenizer *crowd_tokenizer(Arena *arena, uint32_t n) {
    static const char characters[] = "abcdefghijklmnopqrstuvwxyz[],.()0123456789ABCDEFGHIJKLMN";
    GgufBuilder b = gguf_builder_begin();
    Str *tokens = arena_new(arena, Str, n);
    int32_t *types = arena_new(arena, int32_t, n);
    const GgufFile *file;
    Tokenizer *t = NULL;
    Error err = {0};
    REQUIRE(tokens && types && n >= 50);
    for (uint32_t i = 0; i < n; i++) {
        char filler[32];
        int length = snprintf(filler, sizeof filler, i + 1 == n ? "<end>" : "<filler%u>", i);
        bool is_character = i + 1 < n && i < sizeof characters - 1;
        tokens[i] =
            arena_copy_str(arena, is_character ? (Str){characters + i, 1} : (Str){filler, (size_t)length});
        types[i] = is_character ? 1 : i + 1 == n ? 3 : 5; // normal, control, unused
    }
    gguf_builder_put_str(&b, "general.architecture", "llama");
    gguf_builder_put_str(&b, "tokenizer.ggml.model", "gpt2");
    gguf_builder_put_str(&b, "tokenizer.ggml.pre", "llama-bpe");
    gguf_builder_put_strs(&b, "tokenizer.ggml.tokens", tokens, n);
    gguf_builder_put_i32s(&b, "tokenizer.ggml.token_type", types, n);
    gguf_builder_put_strs(&b, "tokenizer.ggml.merges", NULL, 0);
    gguf_builder_put_u32(&b, "tokenizer.ggml.eos_token_id", n - 1);
    Str bytes = gguf_builder_end(&b);
    GgufPart part = {(const uint8_t *)bytes.ptr, bytes.len, "crowd"};
    bool ok = gguf_parse(&part, 1, arena, &file, &err) &&
              tokenizer_from_gguf(file, arena, os_arena(64 << 20), &t, &err);
    if (!ok) FAIL("%s", err.message);
    REQUIRE(ok);
    return t;
}
