// Drawing one token from a row of logits, and the log-probabilities of that row.
//
// The draw is a pure function of (logits, history, parameters, seed, step). This is the reference that the
// kernels are tested against. Order and formulas, v being the logits as the model gives them, a float32
// result after each line and each (1 / …):
//
//     0. mask                v[i] = -infinity                               tokens that are not allowed
//     1. logit bias          v[i] = v[i] + bias[i]                          tokens of the list
//     2. repetition penalty  v[i] = v[i] (v[i] > 0 ? 1 / r : r)             tokens of prompt and output
//     3. frequency penalty   v[i] = v[i] - f n[i]                           tokens drawn n[i] > 0 times; fma
//     4. presence penalty    v[i] = v[i] - p                                the same tokens
//     5. temperature 0: the largest v, the lowest id among equals, ends here
//     6. temperature         v[i] = v[i] (1 / t)
//     7. top-k               the k largest v, lower ids first among equals
//     8. top-p               of those the fewest from the top whose probabilities add up to top_p
//     9. min-p               of those the ones with at least min_p times the probability of the best
//    10. draw                in the order of ids, by the step-th number of the seed's generator (base/rng.h)
//
// Sources. Bias: OpenAI's reference of chat completions: added to the logits before sampling. Frequency and
// presence: OpenAI's guide, "Frequency and presence penalties": mu[j] - c[j] alpha_frequency -
// (c[j] > 0) alpha_presence, c[j] being how often token j was drawn. Repetition: Keskar and others, CTRL
// (arXiv:1909.05858), section 4.1, with the sign rule of Hugging Face's transformers. Bias comes before the
// penalties as in vLLM's documentation of vllm.v1.sample.sampler (steps 5 and 6), which also has the order of
// the three penalties. OpenAI does not say; for 3 and 4 it makes no difference. So a repetition penalty also
// divides or multiplies a bias. min-p comes last, as the worker's interface says (vLLM has it before
// top-k).
//
// A mask comes before everything else, so the other rules see only tokens that are allowed: the k largest are
// the k largest of these, and no bias brings another one back. Without a mask line 0 does nothing.
//
// Log-probabilities are those of the model: log-softmax of the logits before line 0, whatever the parameters
// (vLLM's default, logprobs_mode "raw_logprobs").
#pragma once

#include "base/arena.h"
#include "base/error.h"
#include "base/limits.h"

typedef struct {
    int32_t token;
    float bias; // -100 … 100
} LogitBias;

typedef struct {
    float temperature;        // 0: the largest logit, ties to the lower id
    float top_p;              // 1: off
    float min_p;              // 0: off
    float repetition_penalty; // 1: off
    float presence_penalty;   // 0: off; -2 … 2
    float frequency_penalty;  // 0: off; -2 … 2
    uint32_t top_k;           // 0: off
    bool logprobs;            // log-probabilities are wanted, of the token drawn and of the
    uint32_t n_logprobs;      // n_logprobs most probable ones: 0 … LOGPROBS_MAX
    uint32_t n_logit_bias;    // of logit_bias
    uint64_t seed;
    LogitBias logit_bias[LOGIT_BIAS_MAX]; // ids ascend, each once: sampler_add_bias
} SamplerParams;

#define SAMPLER_GREEDY ((SamplerParams){.top_p = 1, .repetition_penalty = 1})

// Adds a token to the list, or replaces its bias. False: the list is full.
bool sampler_add_bias(SamplerParams *params, int32_t token, float bias);

// Bars n tokens, whatever bias they had. Each counts as one of logit_bias: ERR_INVALID_REQUEST where there
// are too many together.
MUST_CHECK bool sampler_suppress(SamplerParams *params, const int32_t *tokens, uint32_t n, Error *err);

// Whether logits go through line 1, 3 or 4: the device then has a stage for all four penalties.
static inline bool sampler_adjusts(const SamplerParams *p) {
    return p->n_logit_bias > 0 || p->presence_penalty != 0 || p->frequency_penalty != 0;
}

// Whether neither line 7 nor 8 or 9 takes anything off.
bool sampler_is_uncut(const SamplerParams *p, uint32_t n_vocab);

// What backends rely on: the list's order, ids below n_vocab, numbers within their limits.
// ERR_INVALID_REQUEST.
MUST_CHECK bool sampler_check(const SamplerParams *params, uint32_t n_vocab, Error *err);

// ---- history ----

// A set of token ids, one bit each, in token_set_words(n_vocab) words.
static inline uint32_t token_set_words(uint32_t n_vocab) {
    return (n_vocab + 31) / 32;
}

static inline void token_set_add(uint32_t *set, int32_t token) {
    set[token >> 5] |= 1u << (token & 31);
}

static inline bool token_set_has(const uint32_t *set, int32_t token) {
    return set[token >> 5] >> (token & 31) & 1u;
}

// What the rules know of a sequence's tokens. Either may be NULL: nothing is seen, nothing was drawn.
typedef struct {
    uint32_t *seen;   // set of ids in prompt and output
    uint16_t *counts; // [n_vocab] how often each was drawn; stays at 65,535
} SamplerHistory;

// The state of a sequence with these tokens, the last n_drawn of which were drawn: the same as after adding
// them one by one to a history of the others.
void sampler_history_begin(SamplerHistory h, uint32_t n_vocab, const int32_t *tokens, uint32_t n_tokens,
                           uint32_t n_drawn);
// A token that was drawn.
void sampler_history_add(SamplerHistory h, int32_t token);

// ---- drawing ----

// Line 0: the tokens of the set `allowed` [token_set_words(n_vocab)] stay as they are; so do logits that are
// not numbers or infinite, which make the row unusable with and without a mask.
void sampler_mask(float *logits, uint32_t n_vocab, const uint32_t *allowed);

// `logits` [n_vocab] is changed in place (lines 1 to 9). `step` counts the tokens drawn for this request,
// from 0. `scratch` holds at least sampler_scratch_bytes(n_vocab). Returns the id, or -1 when a logit is not
// a number, the largest is infinite, or all are -infinity.
int32_t sampler_draw(const SamplerParams *params, float *logits, uint32_t n_vocab, SamplerHistory history,
                     uint64_t step, Arena scratch);

static inline size_t sampler_scratch_bytes(uint32_t n_vocab) {
    return (size_t)n_vocab * 8 + 64;
}

// ---- log-probabilities ----

// A drawn token's log-probability, and the most probable tokens by falling probability (ties to the lower
// id).
typedef struct {
    int32_t token;
    float logprob; // -infinity where the logit is, as in `best`
    uint32_t n_best;
    struct {
        int32_t id;
        float logprob;
    } best[LOGPROBS_MAX];
} TokenLogprobs;

// `logits` [n_vocab]: as the model gives them, none of which is NaN or +infinity and one of which is a
// number. `token` is the one that was drawn. n_best is at most LOGPROBS_MAX; fewer come back where the
// vocabulary is smaller. Sums are made in the order of ids.
void sampler_logprobs(const float *logits, uint32_t n_vocab, int32_t token, uint32_t n_best,
                      TokenLogprobs *out);
