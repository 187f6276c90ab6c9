#include "engine/step_policy.h"

StepPolicy step_policy_for(const BackendInfo *info) {
    uint64_t most = min_u64(PREFILL_CHUNK_TOKENS, info->max_rows);
    uint64_t slices_max = max_u64(info->chunk_slices, 1);
    return (StepPolicy){
        .max_rows = info->max_rows,
        .chunk_tokens = (uint32_t)min_u64(info->chunk_tokens ? info->chunk_tokens : most, most),
        .chunk_tokens_max = (uint32_t)most,
        .chunk_slices = (uint32_t)min_u64(CHUNK_SLICES_FIRST, slices_max),
        .chunk_slices_max = (uint32_t)slices_max,
        .target_ns = info->pipeline_depth > 1 ? STEP_TARGET_GPU_NS : STEP_TARGET_CPU_NS,
    };
}

// The next rows of the prompt whose turn it is; false where there is none.
static bool begin_chunk(StepPolicy *p, const SlotWork *work, uint32_t n_slots) {
    for (uint32_t i = 0; i < n_slots; i++) {
        uint32_t slot = (p->next_prefill + i) % n_slots;
        if (work[slot].prompt_rows == 0) continue;
        uint64_t rows = min_u64(p->chunk_tokens, work[slot].prompt_rows);
        uint64_t n_slices = max_u64(rows * p->chunk_slices / p->chunk_tokens, 1);
        p->chunk = (StepPart){.slot = slot, .prompt_rows = (uint32_t)rows, .n_slices = (uint32_t)n_slices};
        p->next_prefill = (slot + 1) % n_slots;
        return true;
    }
    return false;
}

static void choose_chunk(StepPolicy *p, const SlotWork *work, uint32_t n_slots, StepChoice *out) {
    if (p->chunk.slice == p->chunk.n_slices && !begin_chunk(p, work, n_slots)) return;
    out->parts[out->n_parts++] = p->chunk;
    p->chunk.slice++;
}

// As many as a step has rows; those who had to wait are first in the next one.
static void choose_draws(StepPolicy *p, const SlotWork *work, uint32_t n_slots, StepChoice *out) {
    uint32_t first = p->next_decode;
    p->next_decode = 0;
    for (uint32_t i = 0; i < n_slots; i++) {
        uint32_t slot = (first + i) % n_slots;
        if (work[slot].prompt_rows || !work[slot].decodes) continue;
        if (out->n_parts == p->max_rows) {
            p->next_decode = slot;
            break;
        }
        out->parts[out->n_parts++] = (StepPart){.slot = slot};
    }
}

void step_policy_next(StepPolicy *p, const SlotWork *work, uint32_t n_slots, StepChoice *out) {
    out->n_parts = 0;
    if (p->last_was_chunk) choose_draws(p, work, n_slots, out);
    if (out->n_parts == 0) choose_chunk(p, work, n_slots, out);
    if (out->n_parts == 0) choose_draws(p, work, n_slots, out);
    if (out->n_parts) p->last_was_chunk = out->parts[0].prompt_rows > 0;
}

bool step_policy_sends_ahead(const StepPolicy *p) {
    return !(p->last_was_chunk && p->chunks_are_long);
}

void step_policy_forget(StepPolicy *p, uint32_t slot) {
    if (slot == p->chunk.slot) p->chunk.slice = p->chunk.n_slices;
}

void step_policy_learn(StepPolicy *p, const StepChoice *step, uint64_t took_ns) {
    const StepPart *chunk = &step->parts[0];
    if (chunk->prompt_rows == 0) return;
    bool is_usual = chunk->prompt_rows == p->chunk_tokens && chunk->n_slices == p->chunk_slices;
    p->chunks_are_long = took_ns > STEP_AHEAD_NS;
    if (is_usual && took_ns > p->target_ns) {
        uint64_t least = min_u64(CHUNK_TOKENS_MIN, p->chunk_tokens_max);
        if (p->chunk_slices < p->chunk_slices_max)
            p->chunk_slices = (uint32_t)min_u64((uint64_t)p->chunk_slices * 2, p->chunk_slices_max);
        else p->chunk_tokens = (uint32_t)max_u64(p->chunk_tokens / 2, least);
    } else if (is_usual && took_ns < p->target_ns / 3 && p->chunk_tokens < p->chunk_tokens_max) {
        p->chunk_tokens = (uint32_t)min_u64((uint64_t)p->chunk_tokens * 2, p->chunk_tokens_max);
    } else if (p->chunk_slices > 1) {
        // What a usual step would take at most: a shorter chunk's rows take longer each.
        uint64_t usual_ns = took_ns * p->chunk_tokens / chunk->prompt_rows;
        usual_ns = usual_ns * chunk->n_slices / p->chunk_slices;
        if (usual_ns < p->target_ns / 16 * 7) p->chunk_slices /= 2;
    }
}
