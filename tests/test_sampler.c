// The sampler against a second, slow description of the same steps, and against the distribution that it must
// follow.
#include "backend/sampler.h"
#include "base/rng.h"
#include "json/json_reader.h"
#include "os/os.h"
#include "runner.h"

#include <math.h>
#include <stdlib.h>

enum { VOCAB = 97 };

static const SamplerHistory nothing = {NULL, NULL};

static void random_logits(uint64_t key, float logits[VOCAB]) {
    // Coarse steps, so that ties happen.
    for (uint32_t i = 0; i < VOCAB; i++)
        logits[i] = floorf(rng_uniform_f32(key, i) * 24) / 2 - 4;
}

typedef struct {
    double logit;
    int id;
    bool kept;
} Entry;

static int by_rank(const void *a, const void *b) {
    const Entry *x = a, *y = b;
    if (x->logit != y->logit) return x->logit > y->logit ? -1 : 1;
    return x->id - y->id;
}

// Which tokens may be drawn, found by sorting everything at each step.
static void slow_kept(const SamplerParams *p, const float *logits, const uint32_t *seen, bool kept[VOCAB]) {
    Entry entries[VOCAB];
    for (int i = 0; i < VOCAB; i++) {
        float l = logits[i];
        if (seen && token_set_has(seen, i)) l = l > 0 ? l / p->repetition_penalty : l * p->repetition_penalty;
        entries[i] = (Entry){(double)(l / p->temperature), i, true};
    }
    qsort(entries, VOCAB, sizeof entries[0], by_rank);
    for (uint32_t i = 0; i < VOCAB; i++)
        entries[i].kept = p->top_k == 0 || i < p->top_k;
    double total = 0, reached = 0;
    for (int i = 0; i < VOCAB; i++)
        total += entries[i].kept ? exp(entries[i].logit - entries[0].logit) : 0;
    for (int i = 0; i < VOCAB; i++) {
        if (i > 0 && p->top_p < 1 && reached >= (double)p->top_p * total) entries[i].kept = false;
        reached += exp(entries[i].logit - entries[0].logit);
    }
    for (int i = 0; i < VOCAB; i++) {
        if (exp(entries[i].logit - entries[0].logit) < (double)p->min_p) entries[i].kept = false;
        kept[entries[i].id] = entries[i].kept;
    }
}

TEST(sampler_draws_from_the_kept_tokens_only) {
    static const struct {
        const char *name;
        SamplerParams params;
    } rows[] = {
        {"plain", {.temperature = 1, .top_p = 1, .repetition_penalty = 1}},
        {"top-k", {.temperature = 1, .top_p = 1, .repetition_penalty = 1, .top_k = 5}},
        {"top-k of one", {.temperature = 1, .top_p = 1, .repetition_penalty = 1, .top_k = 1}},
        {"top-p", {.temperature = 0.7f, .top_p = 0.8f, .repetition_penalty = 1}},
        {"top-p of zero", {.temperature = 1, .top_p = 0, .repetition_penalty = 1}},
        {"min-p", {.temperature = 1.5f, .top_p = 1, .min_p = 0.2f, .repetition_penalty = 1}},
        {"all",
         {.temperature = 0.9f, .top_p = 0.9f, .min_p = 0.05f, .repetition_penalty = 1.3f, .top_k = 20}},
    };
    uint8_t memory[VOCAB * 16];
    uint32_t seen[(VOCAB + 31) / 32] = {0x12345678, 0x0F0F0F0F, 0x80000001, 1};
    for (size_t r = 0; r < COUNT_OF(rows); r++) {
        for (uint64_t trial = 0; trial < 300; trial++) {
            TEST_CASE_LABEL("%s, trial %llu", rows[r].name, (unsigned long long)trial);
            float logits[VOCAB];
            bool kept[VOCAB];
            SamplerParams p = rows[r].params;
            p.seed = trial * 31;
            random_logits(trial / 10, logits);
            slow_kept(&p, logits, seen, kept);
            int32_t token = sampler_draw(&p, logits, VOCAB, (SamplerHistory){.seen = seen}, trial,
                                         arena_from_memory(memory, sizeof memory));
            CHECK(token >= 0 && token < VOCAB && kept[token]);
        }
    }
}

// Chi-square over the kept tokens: 20,000 draws against the exact probabilities.
TEST(sampler_follows_the_distribution) {
    uint8_t memory[VOCAB * 16];
    SamplerParams p = {
        .temperature = 1.3f, .top_p = 0.9f, .min_p = 0.02f, .repetition_penalty = 1, .seed = 99};
    float logits[VOCAB], copy[VOCAB];
    bool kept[VOCAB];
    uint32_t drawn[VOCAB] = {0};
    enum { DRAWS = 20000 };
    random_logits(5, logits);
    slow_kept(&p, logits, NULL, kept);
    for (uint64_t step = 0; step < DRAWS; step++) {
        memcpy(copy, logits, sizeof copy);
        int32_t token =
            sampler_draw(&p, copy, VOCAB, nothing, step, arena_from_memory(memory, sizeof memory));
        REQUIRE(token >= 0);
        drawn[token]++;
    }
    double total = 0, chi_square = 0;
    uint32_t n_kept = 0;
    for (int i = 0; i < VOCAB; i++)
        total += kept[i] ? exp((double)(logits[i] / p.temperature)) : 0;
    for (int i = 0; i < VOCAB; i++) {
        if (!kept[i]) continue;
        double expected = exp((double)(logits[i] / p.temperature)) / total * DRAWS;
        chi_square += (drawn[i] - expected) * (drawn[i] - expected) / expected;
        n_kept++;
    }
    REQUIRE(n_kept > 5);
    // Five standard deviations of a chi-square with n_kept - 1 degrees of freedom.
    CHECK(chi_square < n_kept - 1 + 5 * sqrt(2.0 * (n_kept - 1)));
}

TEST(sampler_greedy_and_edges) {
    uint8_t memory[256];
    Arena scratch = arena_from_memory(memory, sizeof memory);
    SamplerParams greedy = SAMPLER_GREEDY, warm = {.temperature = 1, .top_p = 1, .repetition_penalty = 1};
    CHECK_INT_EQ(
        1, sampler_draw(&greedy, (float[]){1, 3, 3, 2}, 4, nothing, 0, scratch)); // ties go to the lower id
    CHECK_INT_EQ(-1, sampler_draw(&greedy, (float[]){1, NAN}, 2, nothing, 0, scratch));
    CHECK_INT_EQ(-1, sampler_draw(&warm, (float[]){1, INFINITY}, 2, nothing, 0, scratch));
    CHECK_INT_EQ(-1, sampler_draw(&warm, (float[]){-INFINITY, -INFINITY}, 2, nothing, 0, scratch));
    CHECK_INT_EQ(1, sampler_draw(&warm, (float[]){-INFINITY, 5}, 2, nothing, 0, scratch));
    warm.temperature = 1e-38f; // division overflows
    CHECK_INT_EQ(0, sampler_draw(&warm, (float[]){90, 80}, 2, nothing, 0, scratch));
    // The penalty lowers seen tokens, whatever their sign.
    SamplerParams penal = {.temperature = 0, .top_p = 1, .repetition_penalty = 2};
    uint32_t seen = 1;
    CHECK_INT_EQ(1, sampler_draw(&penal, (float[]){3, 2}, 2, (SamplerHistory){.seen = &seen}, 0, scratch));
    CHECK_INT_EQ(1,
                 sampler_draw(&penal, (float[]){-1, -1.5f}, 2, (SamplerHistory){.seen = &seen}, 0, scratch));
}

TEST(sampler_is_a_pure_function) {
    uint8_t memory[VOCAB * 16];
    SamplerParams p = {.temperature = 1, .top_p = 0.95f, .repetition_penalty = 1, .seed = 1};
    uint32_t differ_by_seed = 0, differ_by_step = 0;
    for (uint64_t step = 0; step < 50; step++) {
        float a[VOCAB], b[VOCAB], c[VOCAB], d[VOCAB];
        random_logits(1, a);
        random_logits(1, b);
        random_logits(1, c);
        random_logits(1, d);
        SamplerParams other = p;
        other.seed = UINT64_MAX - 1;
        Arena scratch = arena_from_memory(memory, sizeof memory);
        int32_t token = sampler_draw(&p, a, VOCAB, nothing, step, scratch);
        CHECK_INT_EQ(token, sampler_draw(&p, b, VOCAB, nothing, step, scratch));
        differ_by_seed += token != sampler_draw(&other, c, VOCAB, nothing, step, scratch);
        differ_by_step += token != sampler_draw(&p, d, VOCAB, nothing, step + 1, scratch);
    }
    CHECK(differ_by_seed > 5 && differ_by_step > 5);
}

// ---- bias, penalties and log-probabilities against other programs ----

enum { VECTOR_VALUES_MAX = 64 };

static uint32_t read_floats(const JsonNode *array, float out[VECTOR_VALUES_MAX]) {
    uint32_t n = 0;
    for (const JsonNode *e = json_first(array); e != json_end(array); e = json_next(e)) {
        double value = NAN;
        REQUIRE(n < VECTOR_VALUES_MAX && json_read_f64(e, &value));
        out[n++] = (float)value;
    }
    return n;
}

static uint32_t read_tokens(const JsonNode *array, int32_t out[VECTOR_VALUES_MAX]) {
    uint32_t n = 0;
    for (const JsonNode *e = json_first(array); e != json_end(array); e = json_next(e)) {
        int64_t id = -1;
        REQUIRE(n < VECTOR_VALUES_MAX && json_read_i64(e, &id));
        out[n++] = (int32_t)id;
    }
    return n;
}

static float read_float(const JsonNode *row, const char *key) {
    double value = NAN;
    REQUIRE(json_read_f64(json_get(row, str_from_c(key)), &value));
    return (float)value;
}

// A temperature of 1 and nothing that drops tokens leave the logits after the penalties.
static SamplerParams read_params(const JsonNode *row) {
    SamplerParams p = {.temperature = 1,
                       .top_p = 1,
                       .repetition_penalty = read_float(row, "repetition"),
                       .presence_penalty = read_float(row, "presence"),
                       .frequency_penalty = read_float(row, "frequency")};
    int32_t tokens[VECTOR_VALUES_MAX];
    float bias[VECTOR_VALUES_MAX];
    uint32_t n = read_tokens(json_get(row, STR("bias_tokens")), tokens);
    CHECK_INT_EQ(n, read_floats(json_get(row, STR("bias")), bias));
    for (uint32_t i = n; i-- > 0;)
        CHECK(sampler_add_bias(&p, tokens[i], bias[i]));
    return p;
}

static void check_adjusted(const JsonNode *row) {
    SamplerParams p = read_params(row);
    float logits[VECTOR_VALUES_MAX], expected[VECTOR_VALUES_MAX];
    int32_t tokens[2 * VECTOR_VALUES_MAX];
    uint32_t n_vocab = read_floats(json_get(row, STR("logits")), logits);
    CHECK_INT_EQ(n_vocab, read_floats(json_get(row, STR("adjusted")), expected));
    uint32_t n_prompt = read_tokens(json_get(row, STR("prompt")), tokens);
    uint32_t n_drawn = read_tokens(json_get(row, STR("drawn")), tokens + n_prompt);
    uint32_t seen[2];
    uint16_t counts[VECTOR_VALUES_MAX];
    SamplerHistory h = {seen, counts};
    sampler_history_begin(h, n_vocab, tokens, n_prompt + n_drawn, n_drawn);
    uint8_t memory[VECTOR_VALUES_MAX * 16];
    sampler_draw(&p, logits, n_vocab, h, n_drawn, arena_from_memory(memory, sizeof memory));
    for (uint32_t i = 0; i < n_vocab; i++)
        CHECK_NEAR(expected[i], logits[i], 2e-6 * (1 + fabs((double)expected[i])));
}

static void check_logprobs(const JsonNode *row) {
    float logits[VECTOR_VALUES_MAX], expected[VECTOR_VALUES_MAX];
    int32_t best[VECTOR_VALUES_MAX];
    uint32_t n_vocab = read_floats(json_get(row, STR("logits")), logits);
    CHECK_INT_EQ(n_vocab, read_floats(json_get(row, STR("logprobs")), expected));
    CHECK_INT_EQ(LOGPROBS_MAX, read_tokens(json_get(row, STR("best")), best));
    for (uint32_t token = 0; token < n_vocab; token++) {
        TokenLogprobs out;
        sampler_logprobs(logits, n_vocab, (int32_t)token, token % (LOGPROBS_MAX + 1), &out);
        CHECK_INT_EQ(token, out.token);
        CHECK_NEAR(expected[token], out.logprob, 1e-6);
        REQUIRE(out.n_best == token % (LOGPROBS_MAX + 1));
        for (uint32_t i = 0; i < out.n_best; i++) {
            CHECK_INT_EQ(best[i], out.best[i].id);
            CHECK_NEAR(expected[best[i]], out.best[i].logprob, 1e-6);
        }
    }
}

TEST(sampler_rules_as_transformers_llama_cpp_and_torch_compute_them) {
    Arena arena = os_arena(16 << 20);
    Str text;
    Error err = {0};
    REQUIRE(os_file_read(test_data_path("vectors/sampler.json"), 1 << 20, &arena, &text, &err));
    const JsonNode *rows = json_parse(text, &arena, &(JsonLimits){0}, &err);
    REQUIRE(json_is(rows, JSON_ARRAY) && rows->length == 11);
    for (const JsonNode *row = json_first(rows); row != json_end(rows); row = json_next(row)) {
        Str name;
        REQUIRE(json_read_str(json_get(row, STR("name")), &name));
        TEST_CASE_LABEL("%.*s", STR_ARG(name));
        check_adjusted(row);
        check_logprobs(row);
    }
}

TEST(sampler_logprobs_of_equals_and_of_minus_infinity) {
    TokenLogprobs out;
    // Lower ids first among equals; a logit of -infinity has no probability and comes last.
    float logits[] = {2, -INFINITY, 3, 2, 3, 2};
    sampler_logprobs(logits, 6, 1, LOGPROBS_MAX, &out);
    static const int32_t order[] = {2, 4, 0, 3, 5, 1};
    CHECK_INT_EQ(6, out.n_best); // as many as there are
    for (uint32_t i = 0; i < 6; i++)
        CHECK_INT_EQ(order[i], out.best[i].id);
    CHECK(isinf(out.logprob) && out.logprob < 0 && isinf(out.best[5].logprob));
    double sum = 0;
    for (uint32_t i = 0; i < 6; i++)
        sum += exp((double)out.best[i].logprob);
    CHECK_NEAR(1, sum, 1e-6);
    sampler_logprobs(logits, 6, 0, 3, &out);
    CHECK_INT_EQ(3, out.n_best);
    CHECK_INT_EQ(0, out.best[2].id);
    float lonely[] = {-INFINITY, 80, -INFINITY};
    sampler_logprobs(lonely, 3, 1, 0, &out);
    CHECK(out.logprob == 0 && out.n_best == 0);
}

// ---- what bias and penalties promise ----

static int32_t draw_once(const SamplerParams *p, uint64_t logits_key, SamplerHistory h, uint64_t step) {
    uint8_t memory[VOCAB * 16];
    float logits[VOCAB];
    random_logits(logits_key, logits);
    return sampler_draw(p, logits, VOCAB, h, step, arena_from_memory(memory, sizeof memory));
}

TEST(sampler_bias_of_100_decides) {
    for (uint64_t trial = 0; trial < 400; trial++) {
        int32_t token = (int32_t)(trial % VOCAB);
        SamplerParams always = {.temperature = trial % 2 ? 1.5f : 0, .top_p = 1, .repetition_penalty = 1};
        SamplerParams never = always;
        always.seed = never.seed = trial;
        CHECK(sampler_add_bias(&always, token, 100) && sampler_add_bias(&never, token, -100));
        CHECK_INT_EQ(token, draw_once(&always, trial, nothing, trial));
        CHECK(draw_once(&never, trial, nothing, trial) != token);
    }
}

TEST(sampler_bias_keeps_invalid_logits_invalid) {
    static const struct {
        const char *name;
        float logits[3];
    } rows[] = {{"not a number", {1, NAN, 2}},
                {"infinite", {1, INFINITY, 2}},
                {"all minus infinity", {-INFINITY, -INFINITY, -INFINITY}}};
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        for (uint32_t k = 0; k < 6; k++) {
            TEST_CASE_LABEL("%s, %u", rows[i].name, k);
            uint8_t memory[256];
            float logits[3];
            uint16_t counts[3] = {1, 2, 3};
            memcpy(logits, rows[i].logits, sizeof logits);
            SamplerParams p = {.temperature = (float)(k % 2),
                               .top_p = 1,
                               .repetition_penalty = 1,
                               .presence_penalty = 1,
                               .frequency_penalty = 1};
            CHECK(sampler_add_bias(&p, (int32_t)(k / 2), k / 2 == 1 ? -100 : 100));
            CHECK_INT_EQ(-1, sampler_draw(&p, logits, 3, (SamplerHistory){.counts = counts}, 0,
                                          arena_from_memory(memory, sizeof memory)));
        }
    }
}

// Greedy with a frequency penalty takes each token until its logit is below another's.
TEST(sampler_frequency_counts_and_presence_does_not) {
    static const struct {
        const char *name;
        float presence, frequency;
        int32_t expected[8];
    } rows[] = {
        {"neither", 0, 0, {2, 2, 2, 2, 2, 2, 2, 2}},
        {"presence", 1.5f, 0, {2, 1, 2, 2, 2, 2, 2, 2}}, // 4, 3, 0 become 2.5, 1.5, 0
        {"frequency", 0, 1, {2, 1, 2, 1, 2, 1, 2, 0}},   // at equals the lower id
        {"negative", 0, -1, {2, 2, 2, 2, 2, 2, 2, 2}},
    };
    for (size_t r = 0; r < COUNT_OF(rows); r++) {
        TEST_CASE_LABEL("%s", rows[r].name);
        uint8_t memory[256];
        uint16_t counts[3] = {0};
        SamplerHistory h = {.counts = counts};
        SamplerParams p = SAMPLER_GREEDY;
        p.presence_penalty = rows[r].presence;
        p.frequency_penalty = rows[r].frequency;
        for (uint32_t step = 0; step < 8; step++) {
            float logits[] = {0, 3, 4};
            int32_t token = sampler_draw(&p, logits, 3, h, step, arena_from_memory(memory, sizeof memory));
            CHECK_INT_EQ(rows[r].expected[step], token);
            sampler_history_add(h, token);
        }
    }
}

// A prompt's tokens are seen, but not counted.
TEST(sampler_history_of_a_text_that_goes_on_is_that_of_one_that_never_stopped) {
    enum { N = 40, PROMPT = 13, WORDS = (VOCAB + 31) / 32 };
    int32_t tokens[N];
    uint32_t seen[2][WORDS];
    uint16_t counts[2][VOCAB];
    SamplerHistory h[2] = {{seen[0], counts[0]}, {seen[1], counts[1]}};
    for (uint32_t i = 0; i < N; i++)
        tokens[i] = (int32_t)(rng_uniform_f32(3, i) * 30);
    memset(seen, 0xFF, sizeof seen);
    memset(counts, 0xFF, sizeof counts);
    sampler_history_begin(h[0], VOCAB, tokens, PROMPT, 0);
    for (uint32_t n = PROMPT; n <= N; n++) {
        sampler_history_begin(h[1], VOCAB, tokens, n, n - PROMPT);
        CHECK_BYTES_EQ(seen[0], sizeof seen[0], seen[1], sizeof seen[1]);
        CHECK_BYTES_EQ(counts[0], sizeof counts[0], counts[1], sizeof counts[1]);
        uint32_t sum = 0;
        for (uint32_t i = 0; i < VOCAB; i++)
            sum += counts[1][i];
        CHECK_INT_EQ(n - PROMPT, sum);
        if (n < N) sampler_history_add(h[0], tokens[n]);
    }
    counts[0][5] = UINT16_MAX;
    sampler_history_add(h[0], 5);
    CHECK_INT_EQ(UINT16_MAX, counts[0][5]);
}

TEST(sampler_list_of_bias_is_in_order_and_bounded) {
    SamplerParams p = SAMPLER_GREEDY;
    for (uint32_t i = 0; i < LOGIT_BIAS_MAX; i++)
        CHECK(sampler_add_bias(&p, (int32_t)(i * 7919 % 1009), (float)i));
    CHECK_INT_EQ(LOGIT_BIAS_MAX, p.n_logit_bias);
    for (uint32_t i = 1; i < LOGIT_BIAS_MAX; i++)
        CHECK(p.logit_bias[i - 1].token < p.logit_bias[i].token);
    CHECK(sampler_add_bias(&p, 7919 % 1009, -1)); // there already
    CHECK_INT_EQ(LOGIT_BIAS_MAX, p.n_logit_bias);
    CHECK(!sampler_add_bias(&p, 2000, 1));
    bool replaced = false;
    for (uint32_t i = 0; i < LOGIT_BIAS_MAX; i++)
        replaced |= p.logit_bias[i].token == 7919 % 1009 && p.logit_bias[i].bias == -1;
    CHECK(replaced);
}

TEST(sampler_checks_what_backends_rely_on) {
    static const struct {
        const char *name;
        SamplerParams params;
        const char *message; // NULL: fine
    } rows[] = {
        {"greedy", {.top_p = 1, .repetition_penalty = 1}, NULL},
        {"limits",
         {.presence_penalty = -2,
          .frequency_penalty = 2,
          .n_logprobs = 20,
          .n_logit_bias = 2,
          .logit_bias = {{0, -100}, {96, 100}}},
         NULL},
        {"presence",
         {.presence_penalty = 2.5f},
         "presence_penalty is 2.5 and frequency_penalty 0; both must be between -2 and 2"},
        {"frequency",
         {.frequency_penalty = NAN},
         "presence_penalty is 0 and frequency_penalty nan; both must be between -2 and 2"},
        {"candidates", {.n_logprobs = 21}, "21 candidates with each token; 20 are allowed"},
        {"token",
         {.n_logit_bias = 1, .logit_bias = {{97, 1}}},
         "logit_bias names token 97; the vocabulary has 97"},
        {"negative token",
         {.n_logit_bias = 1, .logit_bias = {{-1, 1}}},
         "logit_bias names token -1; the vocabulary has 97"},
        {"bias",
         {.n_logit_bias = 1, .logit_bias = {{5, 101}}},
         "logit_bias of token 5 is 101; it must be between -100 and 100"},
        {"too many", {.n_logit_bias = 301}, "logit_bias has 301 tokens; 300 are allowed"},
        {"order",
         {.n_logit_bias = 2, .logit_bias = {{5, 1}, {5, 2}}},
         "the list of logit_bias is not in the order of its tokens"},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        TEST_CASE_LABEL("%s", rows[i].name);
        Error err = {0};
        CHECK_INT_EQ(rows[i].message == NULL, sampler_check(&rows[i].params, VOCAB, &err));
        CHECK_STR_EQ(rows[i].message, err.message);
    }
}

// ---- masks ----

TEST(sampler_masks) {
    enum { N = 40 };
    float logits[N];
    uint32_t allowed[2] = {0};
    static uint8_t memory[N * 8 + 64];
    Arena scratch = arena_from_memory(memory, sizeof memory);
    SamplerParams p = {.temperature = 1, .top_p = 0.9f, .top_k = 2, .repetition_penalty = 1};
    REQUIRE(sampler_add_bias(&p, 7, 100)); // of a token that is not allowed
    token_set_add(allowed, 3);
    token_set_add(allowed, 33);
    uint32_t drawn[N] = {0};
    for (uint64_t step = 0; step < 200; step++) {
        for (int i = 0; i < N; i++)
            logits[i] = i == 3 || i == 33 ? 1 : 5;
        sampler_mask(logits, N, allowed);
        int32_t token = sampler_draw(&p, logits, N, (SamplerHistory){0}, step, scratch);
        REQUIRE(token >= 0);
        drawn[token]++;
    }
    CHECK_INT_EQ(200, drawn[3] + drawn[33]);
    CHECK(drawn[3] > 50 && drawn[33] > 50);
    // What makes a row unusable does so where no mask would let it be drawn, too.
    static const float spoils[] = {NAN, INFINITY};
    for (size_t i = 0; i < COUNT_OF(spoils); i++) {
        for (int k = 0; k < N; k++)
            logits[k] = k == 5 ? spoils[i] : 1;
        sampler_mask(logits, N, allowed);
        CHECK_INT_EQ(-1, sampler_draw(&p, logits, N, (SamplerHistory){0}, 0, scratch));
    }
}
