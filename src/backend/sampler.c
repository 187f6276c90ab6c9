#include "backend/sampler.h"

#include "base/base.h"
#include "base/rng.h"

#include <math.h>

// ---- parameters ----

bool sampler_add_bias(SamplerParams *p, int32_t token, float bias) {
    LogitBias *list = p->logit_bias;
    uint32_t at = p->n_logit_bias;
    while (at > 0 && list[at - 1].token >= token)
        at--;
    bool known = at < p->n_logit_bias && list[at].token == token;
    if (!known) {
        if (p->n_logit_bias == LOGIT_BIAS_MAX) return false;
        memmove(&list[at + 1], &list[at], (p->n_logit_bias++ - at) * sizeof *list);
    }
    list[at] = (LogitBias){token, bias};
    return true;
}

static const float SUPPRESSED = -1e6f; // far below what any other token can have

bool sampler_suppress(SamplerParams *p, const int32_t *tokens, uint32_t n, Error *err) {
    uint32_t n_own = p->n_logit_bias;
    for (uint32_t i = 0; i < n; i++) {
        if (!sampler_add_bias(p, tokens[i], SUPPRESSED)) {
            return error_set(err, ERR_INVALID_REQUEST,
                             "logit_bias has %u tokens; with %u that the model suppresses, %d are allowed",
                             n_own, n, LOGIT_BIAS_MAX);
        }
    }
    return true;
}

static bool within(float v, float limit) {
    return v >= -limit && v <= limit; // not for NaN
}

static bool check_bias(const SamplerParams *p, uint32_t n_vocab, Error *err) {
    if (p->n_logit_bias > LOGIT_BIAS_MAX) {
        return error_set(err, ERR_INVALID_REQUEST, "logit_bias has %u tokens; %d are allowed",
                         p->n_logit_bias, LOGIT_BIAS_MAX);
    }
    for (uint32_t i = 0; i < p->n_logit_bias; i++) {
        LogitBias b = p->logit_bias[i];
        if (b.token < 0 || (uint32_t)b.token >= n_vocab) {
            return error_set(err, ERR_INVALID_REQUEST, "logit_bias names token %d; the vocabulary has %u",
                             b.token, n_vocab);
        }
        if (!within(b.bias, 100) && b.bias != SUPPRESSED) {
            return error_set(err, ERR_INVALID_REQUEST,
                             "logit_bias of token %d is %g; it must be between -100 and 100", b.token,
                             (double)b.bias);
        }
        if (i > 0 && p->logit_bias[i - 1].token >= b.token)
            return error_set(err, ERR_INTERNAL, "the list of logit_bias is not in the order of its tokens");
    }
    return true;
}

bool sampler_check(const SamplerParams *p, uint32_t n_vocab, Error *err) {
    if (p->n_logprobs > LOGPROBS_MAX) {
        return error_set(err, ERR_INVALID_REQUEST, "%u candidates with each token; %d are allowed",
                         p->n_logprobs, LOGPROBS_MAX);
    }
    if (!within(p->presence_penalty, 2) || !within(p->frequency_penalty, 2)) {
        return error_set(err, ERR_INVALID_REQUEST,
                         "presence_penalty is %g and frequency_penalty %g; both must be between -2 and 2",
                         (double)p->presence_penalty, (double)p->frequency_penalty);
    }
    return check_bias(p, n_vocab, err);
}

bool sampler_is_uncut(const SamplerParams *p, uint32_t n_vocab) {
    bool cuts_by_rank = (p->top_k > 0 && p->top_k < n_vocab) || !(p->top_p >= 1);
    return !cuts_by_rank && !(p->min_p >= 0x1p-40f); // a device's weights are in units of 2^-40
}

// ---- history ----

void sampler_history_begin(SamplerHistory h, uint32_t n_vocab, const int32_t *tokens, uint32_t n_tokens,
                           uint32_t n_drawn) {
    if (h.seen) memset(h.seen, 0, token_set_words(n_vocab) * sizeof *h.seen);
    if (h.counts) memset(h.counts, 0, n_vocab * sizeof *h.counts);
    uint32_t n_prompt = n_tokens - (uint32_t)min_u64(n_drawn, n_tokens);
    for (uint32_t i = 0; h.seen && i < n_prompt; i++)
        token_set_add(h.seen, tokens[i]);
    for (uint32_t i = n_prompt; i < n_tokens; i++)
        sampler_history_add(h, tokens[i]);
}

void sampler_history_add(SamplerHistory h, int32_t token) {
    if (h.seen) token_set_add(h.seen, token);
    if (h.counts && h.counts[token] < UINT16_MAX) h.counts[token]++;
}

// ---- ranking ----

// Every step that drops tokens leaves a prefix of their ranking, so what is kept is described by its last
// member.
typedef struct {
    float logit;
    int32_t id;
} Candidate;

// Higher logit first, then lower id.
static bool ranks_before(Candidate a, Candidate b) {
    return a.logit > b.logit || (a.logit == b.logit && a.id < b.id);
}

static void heap_sift_down(Candidate *heap, uint32_t n, uint32_t at) {
    Candidate moving = heap[at];
    for (;;) {
        uint32_t child = 2 * at + 1;
        if (child >= n) break;
        if (child + 1 < n && ranks_before(heap[child + 1], heap[child])) child++;
        if (!ranks_before(heap[child], moving)) break;
        heap[at] = heap[child];
        at = child;
    }
    heap[at] = moving;
}

static void heap_build(Candidate *heap, uint32_t n) {
    for (uint32_t i = n / 2; i > 0; i--)
        heap_sift_down(heap, n, i - 1);
}

static Candidate heap_pop(Candidate *heap, uint32_t *n) {
    Candidate top = heap[0];
    heap[0] = heap[--*n];
    heap_sift_down(heap, *n, 0);
    return top;
}

void sampler_mask(float *logits, uint32_t n_vocab, const uint32_t *allowed) {
    for (uint32_t i = 0; i < n_vocab; i++) {
        if (!token_set_has(allowed, (int32_t)i) && logits[i] < INFINITY) logits[i] = -INFINITY;
    }
}

static void apply_bias(const SamplerParams *p, float *logits) {
    for (uint32_t i = 0; i < p->n_logit_bias; i++)
        logits[p->logit_bias[i].token] += p->logit_bias[i].bias;
}

static void apply_repetition(float penalty, float *logits, uint32_t n_vocab, const uint32_t *seen) {
    if (penalty == 1 || !seen) return;
    float weaker = 1 / penalty;
    for (uint32_t i = 0; i < n_vocab; i++) {
        if (!token_set_has(seen, (int32_t)i)) continue;
        logits[i] *= logits[i] > 0 ? weaker : penalty;
    }
}

static void apply_counts(const SamplerParams *p, float *logits, uint32_t n_vocab, const uint16_t *counts) {
    if ((p->frequency_penalty == 0 && p->presence_penalty == 0) || !counts) return;
    for (uint32_t i = 0; i < n_vocab; i++) {
        if (counts[i] == 0) continue;
        logits[i] = fmaf(-p->frequency_penalty, counts[i], logits[i]) - p->presence_penalty;
    }
}

// The largest logit, ties to the lower id; id -1 when the row is unusable.
static Candidate find_best(const float *logits, uint32_t n_vocab) {
    Candidate best = {-INFINITY, -1};
    for (uint32_t i = 0; i < n_vocab; i++) {
        if (isnan(logits[i])) return (Candidate){0, -1};
        if (logits[i] > best.logit) best = (Candidate){logits[i], (int32_t)i};
    }
    return isinf(best.logit) ? (Candidate){0, -1} : best;
}

static double weight_of(float logit, float best) {
    return (double)expf(logit - best);
}

// The shortest prefix of the ranking that top-k and top-p allow; returns its last member. `heap` has room for
// n_vocab.
static Candidate last_of_top_k_top_p(const SamplerParams *p, const float *logits, uint32_t n_vocab,
                                     float best, Candidate *heap) {
    uint32_t limit = p->top_k && p->top_k < n_vocab ? p->top_k : n_vocab;
    double total = 0;
    for (uint32_t i = 0; i < n_vocab; i++) {
        heap[i] = (Candidate){logits[i], (int32_t)i};
        total += weight_of(logits[i], best);
    }
    heap_build(heap, n_vocab);
    if (limit <
        n_vocab) { // the nucleus is taken of the k best alone: they sort themselves to the array's end
        total = 0;
        for (uint32_t n = n_vocab; n > n_vocab - limit;) {
            Candidate next = heap_pop(heap, &n);
            heap[n] = next;
            total += weight_of(next.logit, best);
        }
    }
    Candidate last = {-INFINITY, INT32_MAX};
    double reached = 0;
    uint32_t left = n_vocab;
    for (uint32_t taken = 0;
         taken < limit && (taken == 0 || p->top_p >= 1 || reached < (double)p->top_p * total); taken++) {
        last = limit < n_vocab ? heap[n_vocab - 1 - taken] : heap_pop(heap, &left);
        reached += weight_of(last.logit, best);
    }
    return last;
}

int32_t sampler_draw(const SamplerParams *p, float *logits, uint32_t n_vocab, SamplerHistory history,
                     uint64_t step, Arena scratch) {
    apply_bias(p, logits);
    apply_repetition(p->repetition_penalty, logits, n_vocab, history.seen);
    apply_counts(p, logits, n_vocab, history.counts);
    Candidate best = find_best(logits, n_vocab);
    if (best.id < 0 || p->temperature == 0) return best.id;
    float colder = 1 / p->temperature;
    for (uint32_t i = 0; i < n_vocab; i++)
        logits[i] *= colder;
    best.logit = logits[best.id];
    if (!isfinite(best.logit)) return best.id; // so cold that only the best has weight

    Candidate last = {-INFINITY, INT32_MAX};
    if ((p->top_k && p->top_k < n_vocab) || p->top_p < 1) {
        Candidate *heap = arena_new(&scratch, Candidate, n_vocab);
        if (!heap) return -1;
        last = last_of_top_k_top_p(p, logits, n_vocab, best.logit, heap);
    }
    double least = p->min_p > 0 ? (double)p->min_p : 0; // of the best's weight, which is 1
    double total = 0;
    for (uint32_t i = 0; i < n_vocab; i++) {
        Candidate c = {logits[i], (int32_t)i};
        double weight = weight_of(c.logit, best.logit);
        if (ranks_before(last, c) || weight < least) logits[i] = -INFINITY;
        else total += weight;
    }
    double target = (double)rng_uniform_f32(p->seed, step) * total, reached = 0;
    int32_t drawn = best.id;
    for (uint32_t i = 0; i < n_vocab; i++) {
        double weight = weight_of(logits[i], best.logit);
        if (weight == 0) continue;
        drawn = (int32_t)i;
        reached += weight;
        if (reached > target) break;
    }
    return drawn;
}

// ---- log-probabilities ----

// The n best of the logits, best first; returns how many there are.
static uint32_t find_n_best(const float *logits, uint32_t n_vocab, uint32_t n, Candidate *best) {
    uint32_t found = 0;
    for (uint32_t i = 0; n > 0 && i < n_vocab; i++) {
        Candidate c = {logits[i], (int32_t)i};
        if (found == n && !ranks_before(c, best[n - 1])) continue;
        uint32_t at = found < n ? found++ : n - 1;
        for (; at > 0 && ranks_before(c, best[at - 1]); at--)
            best[at] = best[at - 1];
        best[at] = c;
    }
    return found;
}

void sampler_logprobs(const float *logits, uint32_t n_vocab, int32_t token, uint32_t n_best,
                      TokenLogprobs *out) {
    Candidate best[LOGPROBS_MAX];
    float top = find_best(logits, n_vocab).logit;
    double sum = 0;
    for (uint32_t i = 0; i < n_vocab; i++)
        sum += exp((double)logits[i] - (double)top);
    double log_sum = (double)top + log(sum);
    *out = (TokenLogprobs){.token = token, .logprob = (float)((double)logits[token] - log_sum)};
    out->n_best = find_n_best(logits, n_vocab, (uint32_t)min_u64(n_best, LOGPROBS_MAX), best);
    for (uint32_t i = 0; i < out->n_best; i++) {
        out->best[i].id = best[i].id;
        out->best[i].logprob = (float)((double)best[i].logit - log_sum);
    }
}
