// Layers with a window: what the cache still has of a text that has left its windows behind, and what fits.
#include "engine/engine.h"
#include "os/os.h"
#include "runner.h"

enum { CONTEXT = 400, WINDOW = 40, CHUNK = 32, VOCAB = 1000 };

static const KvLayout layout = {.n_places = 1, .n_lists = 3, .n_full = 1, .window = WINDOW};

// Draws the number of its steps.
typedef struct {
    Backend api;
    StepResult result;
    int32_t n_steps;
} Script;

static bool script_begin(Backend *b, uint32_t slot, const SequenceStart *start, Error *err) {
    (void)b, (void)slot, (void)start, (void)err;
    return true;
}

static bool script_copy(Backend *b, uint32_t from, uint32_t to, Error *err) {
    (void)b, (void)err;
    return CHECK(from != to);
}

static bool script_step(Backend *b, const Step *step, Error *err) {
    Script *s = (Script *)b;
    (void)err;
    s->result.n_runs = 0;
    s->n_steps++;
    for (uint32_t i = 0; i < step->n_sequences; i++) {
        const StepSequence *q = &step->sequences[i];
        if (q->n_draws)
            s->result.runs[s->result.n_runs++] =
                (StepRun){.slot = q->slot, .n_tokens = 1, .tokens = {s->n_steps % VOCAB}};
    }
    return true;
}

static bool script_read(Backend *b, StepResult *out, Error *err) {
    (void)err;
    *out = ((Script *)b)->result;
    return true;
}

static Engine *make_engine(Script *script, uint32_t n_pages) {
    Plan *plan;
    Engine *e;
    Error err;
    Arena arena = os_arena(1 << 20);
    REQUIRE((plan = arena_new(&arena, Plan, 1)) != NULL);
    *plan = (Plan){.n_vocab = VOCAB, .n_context = CONTEXT, .kv = layout};
    *script = (Script){.api = {.begin = script_begin,
                               .copy_page = script_copy,
                               .step = script_step,
                               .read = script_read,
                               .info = {.n_kv_pages = n_pages, .max_rows = CHUNK, .pipeline_depth = 1}}};
    REQUIRE(engine_create(&script->api, plan, 2, &arena, &e, &err));
    return e;
}

typedef struct {
    int32_t tokens[CONTEXT];
    uint32_t n;
    uint32_t n_cached;
    CacheMiss miss;
    uint32_t most_pages;
} Text;

// `beginning` and then n tokens of its own kind.
static Text text_of(const Text *beginning, uint32_t n_common, uint32_t n, int32_t kind) {
    Text t = {.n = n_common + n};
    if (n_common) memcpy(t.tokens, beginning->tokens, n_common * sizeof *t.tokens);
    for (uint32_t i = n_common; i < t.n; i++)
        t.tokens[i] = kind + (int32_t)i;
    return t;
}

// Runs a job of the text to its end, and adds what it draws.
static void run(Engine *e, Text *t, uint32_t n_draws) {
    EngineRequest r = {
        .tokens = t->tokens, .n_prompt = t->n, .max_tokens = n_draws, .sampler = SAMPLER_GREEDY};
    uint32_t slot, n = 0;
    Error err = {0};
    bool last = false;
    REQUIRE(engine_admit(e, &r, &slot, &err));
    while (!last) {
        EngineOutput out[2];
        REQUIRE(engine_step(e, out, &n, &err) && n == 1);
        t->most_pages = (uint32_t)max_u64(t->most_pages, kv_pages_used(engine_pages(e)));
        for (uint32_t i = 0; i < out[0].n_tokens; i++)
            t->tokens[t->n++] = out[0].tokens[i];
        t->n_cached = out[0].n_cached;
        t->miss = out[0].cache_miss;
        last = out[0].last;
    }
    engine_release(e, slot);
}

// The next turn of a conversation is a hit, with the answer and without it; so is what two texts had in
// common, but not what one text had in its midst, where pages were needed since.
TEST(engine_windows_that_stay) {
    Script script;
    Engine *e = make_engine(&script, 110);
    Text first = text_of(NULL, 0, 150, 1);
    run(e, &first, 100);
    CHECK_INT_EQ(0, first.n_cached);
    Text other = text_of(NULL, 0, 200, 400); // takes what `first` has left behind
    run(e, &other, 100);
    Text turn = text_of(&first, first.n - 1, 20, 700);
    run(e, &turn, 1);
    CHECK_INT_EQ(first.n - 1, turn.n_cached);
    Text without_answer = text_of(&first, 150, 20, 500);
    run(e, &without_answer, 1);
    CHECK_INT_EQ(150, without_answer.n_cached);
    Text shorter = text_of(&first, 149 - KV_PAGE_TOKENS, 20, 500); // one that ends a little before it
    run(e, &shorter, 1);
    CHECK_INT_EQ(149 - KV_PAGE_TOKENS, shorter.n_cached);
    for (uint32_t i = 0; i < 3; i++) {
        Text in_common = text_of(&first, 64, 20, 600 + 50 * (int32_t)i);
        run(e, &in_common, 1);
        CHECK_INT_EQ(i == 0 ? 0 : 64, in_common.n_cached);
        CHECK_INT_EQ(i == 0 ? CACHE_MISS_EVICTED : CACHE_MISS_NEW, in_common.miss);
    }
    CHECK_INT_EQ(0, kv_pages_used(engine_pages(e)));
}

// A text takes its length of the lists without a window, and of the others the window and a chunk.
TEST(engine_windows_fit) {
    Script script;
    uint64_t n_pages = kv_layout_pages(&layout, CONTEXT, CHUNK);
    CHECK_U64_EQ(25 + 2 * (5 + 1 + KV_PAGES_BEHIND), n_pages);
    Engine *e = make_engine(&script, (uint32_t)n_pages);
    CHECK_INT_EQ(CONTEXT, engine_context_length(e));
    Text whole = text_of(NULL, 0, CONTEXT - 90, 1);
    run(e, &whole, 90);
    CHECK(whole.most_pages <= n_pages && whole.most_pages > n_pages - 10);
    e = make_engine(&script, (uint32_t)n_pages - 3);
    CHECK_INT_EQ(CONTEXT - 3 * KV_PAGE_TOKENS, engine_context_length(e));
}

TEST(engine_windows_layouts) {
    static const struct {
        const char *name;
        uint32_t n_layers, period, window,
            n_context;                            // all of every `period` layers but the last have a window
        uint32_t full_bytes, window_bytes;        // of a page
        uint32_t n_places, n_lists, n_full, last; // what comes of it; `last`: the last cache's place
        uint64_t place_bytes;
    } rows[] = {
        {"no windows", 32, 1, 0, 131072, 7, 7, 32, 1, 1, 31, 7},
        {"Gemma 3 27B", 62, 6, 1024, 131072, 7, 7, 10, 7, 1, 1, 7},
        {"Gemma 3 12B", 48, 6, 1024, 131072, 7, 7, 8, 6, 1, 7, 7},
        {"GPT-OSS 20B", 24, 2, 128, 131072, 7, 7, 12, 2, 1, 11, 7},
        {"windows everywhere", 32, 0, 2047, 4096, 7, 7, 32, 1, 0, 31, 7},
        {"as long as the context", 32, 0, 4096, 4096, 7, 7, 32, 1, 1, 31, 7},
        // Heads of two sizes: a cache without a window takes two places, or one with a window does.
        {"Gemma 4 E4B", 24, 6, 512, 131072, 8, 4, 4, 7, 2, 2, 4},
        {"Gemma 4 26B", 30, 6, 1024, 262144, 4, 8, 8, 8, 1, 4, 4},
        // Sizes that have little in common: places of the largest.
        {"odd sizes", 12, 6, 512, 131072, 64, 7, 2, 6, 1, 1, 64},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        TEST_CASE_LABEL("%s", rows[i].name);
        Cache caches[64] = {0};
        bool taken[KV_LISTS_MAX][64] = {0};
        for (uint32_t k = 0; k < rows[i].n_layers; k++) {
            bool windowed = rows[i].period == 0 || (k + 1) % rows[i].period != 0;
            caches[k] = (Cache){.layer = k,
                                .page_bytes = windowed ? rows[i].window_bytes : rows[i].full_bytes,
                                .window = windowed ? rows[i].window : 0};
        }
        KvLayout l = kv_layout_make(caches, rows[i].n_layers, rows[i].n_context);
        CHECK_INT_EQ(rows[i].n_places, l.n_places);
        CHECK_INT_EQ(rows[i].n_lists, l.n_lists);
        CHECK_INT_EQ(rows[i].n_full, l.n_full);
        CHECK_INT_EQ(rows[i].last, caches[rows[i].n_layers - 1].place);
        CHECK_INT_EQ(rows[i].place_bytes, l.place_bytes);
        CHECK_INT_EQ(rows[i].window < rows[i].n_context ? rows[i].window : 0, l.window);
        for (uint32_t k = 0; k < rows[i].n_layers; k++) {
            const Cache *c = &caches[k];
            uint64_t end = c->place + div_up(c->page_bytes, l.place_bytes);
            REQUIRE(c->list < l.n_lists && end <= l.n_places);
            for (uint64_t place = c->place; place < end; place++) {
                CHECK(!taken[c->list][place]);
                taken[c->list][place] = true;
            }
            CHECK((c->list >= l.n_full) == (c->window > 0 && c->window < rows[i].n_context));
        }
        uint32_t n = kv_layout_tokens(&l, 5000, 256, rows[i].n_context);
        CHECK(kv_layout_pages(&l, n, 256) <= 5000);
        CHECK(n == rows[i].n_context || kv_layout_pages(&l, n + KV_PAGE_TOKENS, 256) > 5000);
        uint64_t held = kv_layout_texts(&l, 5000, 2000, 256), each = kv_layout_pages(&l, 2000, 1);
        CHECK((held - 1) * each + kv_layout_pages(&l, 2000, 256) <= 5000 && (held + 1) * each > 5000);
    }
}
