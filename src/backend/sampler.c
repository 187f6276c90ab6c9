#include "backend/sampler.h"

#include "base/rng.h"

#include <math.h>

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

static void apply_penalty(const SamplerParams *p, float *logits, uint32_t n_vocab, const uint32_t *seen) {
    if (p->repetition_penalty == 1 || !seen) return;
    for (uint32_t i = 0; i < n_vocab; i++) {
        if (!token_set_has(seen, (int32_t)i)) continue;
        logits[i] = logits[i] > 0 ? logits[i] / p->repetition_penalty : logits[i] * p->repetition_penalty;
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

int32_t sampler_draw(const SamplerParams *p, float *logits, uint32_t n_vocab, const uint32_t *seen,
                     uint64_t step, Arena scratch) {
    apply_penalty(p, logits, n_vocab, seen);
    Candidate best = find_best(logits, n_vocab);
    if (best.id < 0 || p->temperature == 0) return best.id;
    for (uint32_t i = 0; i < n_vocab; i++)
        logits[i] /= p->temperature;
    best.logit = logits[best.id];
    if (isinf(best.logit)) return best.id; // so cold that only the best has weight

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
