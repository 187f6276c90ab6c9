#include "engine/step_policy.h"

StepPolicy step_policy_for(const BackendInfo *info) {
    bool is_gpu = info->pipeline_depth > 1;
    uint64_t most = min_u64(PREFILL_CHUNK_TOKENS, info->max_rows);
    uint64_t slices_max = max_u64(info->chunk_slices, 1);
    return (StepPolicy){
        .max_rows = info->max_rows,
        .rows_tile = (uint32_t)max_u64(info->rows_tile, 1),
        .chunk_tokens = (uint32_t)min_u64(info->chunk_tokens ? info->chunk_tokens : most, most),
        .chunk_tokens_max = (uint32_t)most,
        .chunk_slices = (uint32_t)min_u64(CHUNK_SLICES_FIRST, slices_max),
        .chunk_slices_max = (uint32_t)slices_max,
        .beside_tokens_min = (uint32_t)min_u64(CHUNK_TOKENS_MIN, max_u64(most / 2, 1)),
        .target_ns = is_gpu ? STEP_TARGET_GPU_NS : STEP_TARGET_CPU_NS,
    };
}

// ---- sizes of steps ----

// The first power of two that holds so many rows; the last one for more.
static uint32_t size_of(uint64_t rows, uint32_t n_sizes) {
    uint32_t size = 0;
    while (1u << size < rows && size + 1 < n_sizes)
        size++;
    return size;
}

// What so many draws alone take: of the next smaller size that is known, or else the next larger; 0: none.
static uint64_t draws_take_ns(const StepPolicy *p, uint32_t n_draws) {
    uint32_t size = size_of(n_draws, STEP_DRAWS_SIZES);
    for (uint32_t i = size + 1; i-- > 0;) {
        if (p->draws_ns[i]) return p->draws_ns[i];
    }
    while (size + 1 < STEP_DRAWS_SIZES && p->draws_ns[size] == 0)
        size++;
    return p->draws_ns[size];
}

// ---- what is next ----

// What a step may take beside tokens that take draws_ns alone (0: that is not known): somewhat less than
// twice that, since steps vary.
static uint64_t beside_may_take_ns(uint64_t draws_ns) {
    if (draws_ns == 0) return STEP_BESIDE_NS / 4;
    return draws_ns + min_u64(draws_ns / 8 * 7, STEP_BESIDE_NS - min_u64(draws_ns, STEP_BESIDE_NS));
}

// Prompts' rows beside draws: the largest size of a step for which there is time, but at least half as
// many as draw (where those who wait get less, more and more wait: 64 clients of 8B had 9,270 tokens a
// second then, not 10,960). Where that alone takes too long already (rows of a long text wait for its
// keys, and many wait hardly longer than a few), sizes that add up to half as much again are better. The
// first size that is not known is tried where a quarter more than what the one below it adds to a step
// would fit.
static uint32_t rows_beside(const StepPolicy *p, uint32_t n_draws, uint64_t most) {
    uint64_t draws_ns = draws_take_ns(p, n_draws), may_add_ns = beside_may_take_ns(draws_ns) - draws_ns;
    uint64_t least = n_draws + max_u64(p->beside_tokens_min, n_draws / 2), adds_ns = 0, best = 0;
    for (uint32_t size = size_of(max_u64(least, p->rows_tile), STEP_ROWS_SIZES);
         size < STEP_ROWS_SIZES && best < most; size++) {
        uint64_t known_ns = p->beside_ns[size];
        adds_ns = known_ns ? known_ns - min_u64(known_ns, draws_ns) : adds_ns / 4 * 5;
        if (adds_ns > may_add_ns) {
            if (best) break;
            may_add_ns = adds_ns / 2 * 3;
        }
        best = (1u << size) - n_draws;
        if (!known_ns) break;
    }
    return (uint32_t)min_u64(best, most);
}

// Rows that prompts may have beside n_draws draws.
static uint32_t rows_for_prompts(const StepPolicy *p, uint32_t n_draws) {
    if (n_draws == 0) return p->chunk_tokens;
    if (p->max_rows == 1) return p->last_has_prompts ? 0 : 1; // they take turns
    uint64_t left = p->max_rows - min_u64(n_draws, p->max_rows);
    uint64_t a_slice = p->chunk_slices > 1 ? 2ull * p->chunk_tokens / p->chunk_slices - 1 : UINT64_MAX;
    uint64_t most = max_u64(min_u64(left, a_slice), p->beside_tokens_min);
    return rows_beside(p, n_draws, min_u64(most, p->chunk_tokens_max));
}

// The prompt with the fewest rows left, the oldest of equal ones, where that is not the oldest of all; n:
// none is.
static uint32_t shortest_behind(const SlotWork *work, uint32_t n) {
    uint32_t shortest = n, oldest = n;
    for (uint32_t i = 0; i < n; i++) {
        if (work[i].prompt_rows == 0) continue;
        if (oldest == n) oldest = i;
        if (shortest == n || work[i].prompt_rows < work[shortest].prompt_rows) shortest = i;
    }
    return shortest == oldest ? n : shortest;
}

// Chunks of prompts, or the next slice of the one under way. Returns their rows. The oldest prompt comes
// first; of the rows that it could fill the shortest one gets half, so that a question does not wait for all
// long texts in front of it, and these go on all the same. (Not where chunks take so long that they go in
// slices: those are of one prompt.)
static uint32_t choose_prompts(StepPolicy *p, const SlotWork *work, uint32_t n, uint32_t room,
                               StepChoice *out) {
    uint32_t rows = 0;
    if (p->chunk.slice < p->chunk.n_slices) {
        out->parts[out->n_parts++] = p->chunk;
        p->chunk.slice++;
        return p->chunk.prompt_rows;
    }
    uint32_t shortest = shortest_behind(work, n), kept = 0;
    if (shortest < n && p->chunk_slices == 1) kept = (uint32_t)min_u64(work[shortest].prompt_rows, room / 2);
    for (uint32_t i = 0; i < n && rows < room; i++) {
        if (i == shortest) kept = 0;
        uint32_t some = (uint32_t)min_u64(work[i].prompt_rows, room - rows - kept);
        if (some == 0) continue;
        out->parts[out->n_parts++] = (StepPart){.slot = work[i].slot, .prompt_rows = some, .n_slices = 1};
        rows += some;
    }
    if (rows == 0) return 0;
    StepPart *first = &out->parts[0];
    if ((uint64_t)rows * p->chunk_slices >= 2ull * p->chunk_tokens) { // more than a slice's work: in slices
        out->n_parts = 1;
        rows = first->prompt_rows;
        first->n_slices = (uint32_t)max_u64((uint64_t)rows * p->chunk_slices / p->chunk_tokens, 1);
    }
    p->chunk = *first;
    p->chunk.slice = 1;
    return rows;
}

// As many as there is room for; those who had to wait are first in the next step.
static void choose_draws(StepPolicy *p, const SlotWork *work, uint32_t n, uint32_t room, StepChoice *out) {
    uint32_t first = 0, taken = 0;
    while (first < n && work[first].slot != p->next_decode)
        first++;
    for (uint32_t i = 0; i < n; i++) {
        const SlotWork *w = &work[(first + i) % n];
        if (w->prompt_rows || !w->decodes) continue;
        if (taken++ == room) {
            p->next_decode = w->slot;
            return;
        }
        out->parts[out->n_parts++] = (StepPart){.slot = w->slot};
    }
    p->next_decode = UINT32_MAX;
}

void step_policy_next(StepPolicy *p, const SlotWork *work, uint32_t n, StepChoice *out) {
    uint32_t n_draws = 0;
    out->n_parts = 0;
    for (uint32_t i = 0; i < n; i++)
        n_draws += work[i].prompt_rows == 0 && work[i].decodes;
    uint32_t rows = choose_prompts(p, work, n, rows_for_prompts(p, n_draws), out);
    choose_draws(p, work, n, p->max_rows - rows, out);
    if (out->n_parts) p->last_has_prompts = rows > 0;
}

bool step_policy_sends_ahead(const StepPolicy *p) {
    return !(p->last_has_prompts && p->chunks_are_long);
}

bool step_policy_is_inside(const StepPolicy *p, uint32_t slot) {
    return slot == p->chunk.slot && p->chunk.slice < p->chunk.n_slices;
}

void step_policy_forget(StepPolicy *p, uint32_t slot) {
    if (slot == p->chunk.slot) p->chunk.slice = p->chunk.n_slices;
}

// ---- how long steps take ----

static void learn_draws(StepPolicy *p, uint32_t n_draws, uint64_t took_ns) {
    uint64_t *known = &p->draws_ns[size_of(n_draws, STEP_DRAWS_SIZES)];
    *known = *known ? (*known * 7 + took_ns) / 8 : took_ns;
}

// Fewer slices, where a usual step then takes no longer than it may.
static void learn_slices(StepPolicy *p, uint32_t rows, uint32_t n_slices, uint64_t took_ns) {
    // What a usual step would take at most: a shorter chunk's rows take longer each.
    uint64_t usual_ns = took_ns * p->chunk_tokens / rows;
    usual_ns = usual_ns * n_slices / p->chunk_slices;
    if (p->chunk_slices > 1 && usual_ns < p->target_ns / 16 * 7) p->chunk_slices /= 2;
}

// Prompts' rows alone, in n_slices slices.
static void learn_chunk(StepPolicy *p, uint32_t rows, uint32_t n_slices, uint64_t took_ns) {
    bool is_usual = rows == p->chunk_tokens && n_slices == p->chunk_slices;
    if (is_usual && took_ns > p->target_ns) {
        uint64_t least = min_u64(CHUNK_TOKENS_MIN, p->chunk_tokens_max);
        if (p->chunk_slices < p->chunk_slices_max)
            p->chunk_slices = (uint32_t)min_u64((uint64_t)p->chunk_slices * 2, p->chunk_slices_max);
        else p->chunk_tokens = (uint32_t)max_u64(p->chunk_tokens / 2, least);
    } else if (is_usual && took_ns < p->target_ns / 3 && p->chunk_tokens < p->chunk_tokens_max) {
        p->chunk_tokens = (uint32_t)min_u64((uint64_t)p->chunk_tokens * 2, p->chunk_tokens_max);
    } else {
        learn_slices(p, rows, n_slices, took_ns);
    }
}

// A step of so many rows, some of prompts and some that draw. A longer time is believed sooner than a shorter
// one, up to twice as long, and with fewer rows than the size has it is what that takes at least; what larger
// sizes took is forgotten slowly, so that they are tried again.
static void learn_beside(StepPolicy *p, uint32_t n_rows, uint64_t took_ns) {
    uint32_t size = size_of(max_u64(n_rows, p->rows_tile), STEP_ROWS_SIZES);
    uint64_t *known = &p->beside_ns[size];
    bool is_full = n_rows <= p->rows_tile || n_rows >= (1u << size) / 8 * 7;
    if (*known == 0) *known = took_ns;
    else if (took_ns > *known) *known = (*known + min_u64(took_ns, *known * 2)) / 2;
    else if (is_full) *known = (*known * 7 + took_ns) / 8;
    while (++size < STEP_ROWS_SIZES)
        p->beside_ns[size] -= p->beside_ns[size] / 1024;
}

void step_policy_learn(StepPolicy *p, const StepChoice *step, uint64_t took_ns) {
    uint32_t rows = 0, n_draws = 0, n_slices = (uint32_t)max_u64(step->parts[0].n_slices, 1);
    for (uint32_t i = 0; i < step->n_parts; i++) {
        rows += step->parts[i].prompt_rows;
        n_draws += step->parts[i].prompt_rows == 0;
    }
    if (rows) p->chunks_are_long = took_ns > STEP_AHEAD_NS;
    if (rows == 0) learn_draws(p, n_draws, took_ns);
    else if (n_draws == 0) learn_chunk(p, rows, n_slices, took_ns);
    else if (n_slices == 1) learn_beside(p, rows + n_draws, took_ns);
    if (rows && n_draws) learn_slices(p, rows, n_slices, took_ns);
}
