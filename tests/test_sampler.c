// The sampler against a second, slow description of the same steps, and against the distribution that it must
// follow.
#include "backend/sampler.h"
#include "base/rng.h"
#include "os/os.h"
#include "runner.h"

#include <math.h>
#include <stdlib.h>

enum { VOCAB = 97 };

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
            int32_t token =
                sampler_draw(&p, logits, VOCAB, seen, trial, arena_from_memory(memory, sizeof memory));
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
        int32_t token = sampler_draw(&p, copy, VOCAB, NULL, step, arena_from_memory(memory, sizeof memory));
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
        1, sampler_draw(&greedy, (float[]){1, 3, 3, 2}, 4, NULL, 0, scratch)); // ties go to the lower id
    CHECK_INT_EQ(-1, sampler_draw(&greedy, (float[]){1, NAN}, 2, NULL, 0, scratch));
    CHECK_INT_EQ(-1, sampler_draw(&warm, (float[]){1, INFINITY}, 2, NULL, 0, scratch));
    CHECK_INT_EQ(-1, sampler_draw(&warm, (float[]){-INFINITY, -INFINITY}, 2, NULL, 0, scratch));
    CHECK_INT_EQ(1, sampler_draw(&warm, (float[]){-INFINITY, 5}, 2, NULL, 0, scratch));
    warm.temperature = 1e-38f; // division overflows
    CHECK_INT_EQ(0, sampler_draw(&warm, (float[]){90, 80}, 2, NULL, 0, scratch));
    // The penalty lowers seen tokens, whatever their sign.
    SamplerParams penal = {.temperature = 0, .top_p = 1, .repetition_penalty = 2};
    uint32_t seen = 1;
    CHECK_INT_EQ(1, sampler_draw(&penal, (float[]){3, 2}, 2, &seen, 0, scratch));
    CHECK_INT_EQ(1, sampler_draw(&penal, (float[]){-1, -1.5f}, 2, &seen, 0, scratch));
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
        int32_t token = sampler_draw(&p, a, VOCAB, NULL, step, scratch);
        CHECK_INT_EQ(token, sampler_draw(&p, b, VOCAB, NULL, step, scratch));
        differ_by_seed += token != sampler_draw(&other, c, VOCAB, NULL, step, scratch);
        differ_by_step += token != sampler_draw(&p, d, VOCAB, NULL, step + 1, scratch);
    }
    CHECK(differ_by_seed > 5 && differ_by_step > 5);
}
