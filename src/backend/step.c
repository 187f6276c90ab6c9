#include "backend/backend.h"

static bool keeps_fit(const StepSequence *q, const BackendInfo *info) {
    bool fit = q->n_keeps <= STEP_KEEPS_MAX;
    for (uint32_t i = 0; fit && i < q->n_keeps; i++) {
        const StepKeep *k = &q->keeps[i];
        fit = k->n_rows > (i ? k[-1].n_rows : 0) && k->n_rows <= q->n_rows &&
              (q->position + k->n_rows) % KV_PAGE_TOKENS == 0 && k->place < info->n_checkpoints;
    }
    return fit;
}

static bool check_sequence(const StepSequence *q, const BackendInfo *info, Error *err) {
    uint64_t max_draws = max_u64(info->max_draws, 1);
    if (q->mode == STEP_VERIFY)
        return error_set(err, ERR_UNSUPPORTED, "the %s backend does not verify guessed tokens", info->kind);
    if (q->n_draws > (q->mode == STEP_PROMPT ? 1 : max_draws)) {
        return error_set(err, ERR_UNSUPPORTED, "%u draws of slot %u in one step; the %s backend makes %u",
                         q->n_draws, q->slot, info->kind, q->mode == STEP_PROMPT ? 1 : (uint32_t)max_draws);
    }
    if (q->mask && !info->masks)
        return error_set(err, ERR_UNSUPPORTED, "the %s backend cannot hold draws to a set of tokens",
                         info->kind);
    if (q->mask && q->n_draws != 1)
        return error_set(err, ERR_INTERNAL, "%u draws of slot %u with one mask", q->n_draws, q->slot);
    bool fits = q->n_rows > 0 && q->n_logits <= q->n_rows;
    if (q->mode == STEP_DECODE) fits = fits && q->n_rows == 1 && !q->tokens && q->n_draws && !q->n_slices;
    else fits = fits && q->tokens;
    fits = fits && keeps_fit(q, info);
    if (!step_is_last_slice(q)) fits = fits && !q->n_draws && !q->n_logits;
    return fits ||
           error_set(err, ERR_INTERNAL, "a step whose part of slot %u is not one of its mode", q->slot);
}

bool step_check(const Step *step, const BackendInfo *info, Error *err) {
    uint64_t rows = 0;
    bool in_use[JOBS_MAX] = {false};
    for (uint32_t i = 0; i < step->n_sequences; i++) {
        const StepSequence *q = &step->sequences[i];
        if (q->slot >= JOBS_MAX || in_use[q->slot])
            return error_set(err, ERR_INTERNAL, "a step with slot %u twice, or out of range", q->slot);
        in_use[q->slot] = true;
        rows += q->n_rows;
        if (q->n_logits && step->n_sequences > 1)
            return error_set(err, ERR_INTERNAL, "logits are asked of a step of %u sequences",
                             step->n_sequences);
        if (!check_sequence(q, info, err)) return false;
    }
    if (step->masks_come_later && !info->late_masks)
        return error_set(err, ERR_UNSUPPORTED, "the %s backend takes no masks after a step", info->kind);
    if (rows > info->max_rows) {
        return error_set(err, ERR_INTERNAL, "a step of %llu rows; the %s backend takes %u",
                         (unsigned long long)rows, info->kind, info->max_rows);
    }
    return true;
}
