// The last stage of a decode step: drawing a token by the whole of the sampler's rules.
//
//     repetition penalty, temperature, top-k, top-p, min-p, draw in the order of ids (sampler_draw of
//     src/backend/sampler.c)
//
// What top-k and top-p keep is a beginning of the ranking (larger logit first, then lower id), so it is
// described by the last logit kept and how many of its equals are. That logit is found digit by digit in
// three rounds: 11, 11 and 10 bits of its key (a logit's bits made to order as integers), each round by a
// histogram over all logits that share the digits so far. Weights e^(logit - best) are integers in units of
// 2^-40, so that sums come out the same in any order: no float is added atomically.
//
// Grid: SAMPLE_BLOCKS blocks, all on the GPU at once, each with its part of the logits. They meet once a
// round (grid_sync) and once before the draw; then the block that holds the drawn token ends the step alone.
// Defines: N_VOCAB, HEAD_BLOCKS (blocks of decode_head), SAMPLE_BLOCKS, LOGITS_HELD (1: shared memory holds
// the key and the weight of each of a block's logits; 0: there is no room, and both are made again of the
// logit wherever they are needed).
#if !defined(N_VOCAB) || !defined(HEAD_BLOCKS) || !defined(SAMPLE_BLOCKS) || !defined(LOGITS_HELD)
#error "N_VOCAB, HEAD_BLOCKS, SAMPLE_BLOCKS, LOGITS_HELD"
#endif
#ifndef WARPS
#define WARPS 16
#endif
#define THREADS (WARPS * 32)

enum : u32 {
    PART = CEIL_DIV(N_VOCAB, SAMPLE_BLOCKS), // logits a block
    PER_THREAD = CEIL_DIV(PART, THREADS),
    BINS_PER_THREAD = CEIL_DIV(SAMPLE_BINS, THREADS),
    // Logits that are added to a histogram before it is added to the grid's: a bin's sums stay below 2^32,
    // since a weight of 2^40, the largest, has 2^20 above its low 20 bits.
    RUN = MIN(PART, 4095),

    // Shared memory: the block's keys and weights, if held, its histogram, and what a scan needs.
    KEYS_AT = 0,
    WEIGHTS_AT = LOGITS_HELD * ROUND_UP(PART * 4, 16),
    COUNTS_AT = WEIGHTS_AT + LOGITS_HELD * ROUND_UP(PART * 8, 16),
    LOW_AT = COUNTS_AT + SAMPLE_BINS * 4, // sums of the weights' low 20 bits
    HIGH_AT = LOW_AT + SAMPLE_BINS * 4,   // and of the others
    SCAN_AT = HIGH_AT + SAMPLE_BINS * 4,  // [WARPS + 1] u64
    FOUND_AT = SCAN_AT + ROUND_UP((WARPS + 1) * 8, 16),
    SAMPLE_SHARED_BYTES = FOUND_AT + 64,
};
static_assert(THREADS >= SAMPLE_BLOCKS, "a thread for each block");
static_assert(SAMPLE_BLOCKS <= SAMPLE_BLOCKS_MAX, "each block has its place in the scratch");

// The beginning of the ranking that is kept: all keys above `key`, and the first `ties` equal to it.
struct Kept {
    u32 key;
    u64 ties;
    u64 tie_weight;
    u64 mass; // of all that is kept
};

struct SampleState {
    u32 first, n; // this block's logits
    LogitRules rules;
    float best;
    u32 *keys; // [n], as the weights: where they are held
    u64 *weights;
    u8 *shared;
    u32 half; // of the scratch
    u32 meeting;
};

// The least mass that is at least top_p of all of it, and one unit or more so that the best is always kept.
// (top_p in units of 2^-64: exact down to 2^-16, far below what a best token weighs.)
DEVICE u64 mass_share(u64 total, float top_p) {
    u64 units = (u64)(top_p * 1099511627776.0f) << 24;
    u64 share = multiply_high(total, units) + (total * units != 0); // rounded up
    return MAX(MIN(share, total), (u64)1);
}

// The first word of Philox4x32-10 (src/base/rng.h).
DEVICE u32 philox_word(u64 key, u64 counter) {
    u32 k0 = (u32)key, k1 = (u32)(key >> 32), c0 = (u32)counter, c1 = (u32)(counter >> 32), c2 = 0, c3 = 0;
    for (u32 round = 0; round < 10; round++) {
        u64 p0 = (u64)0xD2511F53u * c0, p1 = (u64)0xCD9E8D57u * c2;
        c0 = (u32)(p1 >> 32) ^ c1 ^ k0;
        c2 = (u32)(p0 >> 32) ^ c3 ^ k1;
        c1 = (u32)p1;
        c3 = (u32)p0;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    return c0;
}

DEVICE u64 weight_of(float v, float best) {
    return (u64)(exp_f32(v - best) * 1099511627776.0f); // 2^40
}

DEVICE float adjusted_logit(const SampleArgs &a, const SampleState *s, u32 i) {
    return adjust_logit(s->rules, s->first + i, load_shared_data(a.logits + s->first + i));
}

// Of the block's logit i.
DEVICE u32 key_at(const SampleArgs &a, const SampleState *s, u32 i) {
    return LOGITS_HELD ? s->keys[i] : key_of(adjusted_logit(a, s, i));
}

// `key`: its key.
DEVICE u64 weight_at(const SampleState *s, u32 i, u32 key) {
    return LOGITS_HELD ? s->weights[i] : weight_of(logit_of_key(key), s->best);
}

// The sum of the values of all threads before this one, and of all; the whole block calls it.
DEVICE u64 block_scan(u8 *shared, u64 v, u64 *total) {
    u64 *warps = (u64 *)(shared + SCAN_AT);
    u64 sum = v;
    for (u32 d = 1; d < WARP; d *= 2) {
        u64 before = shuffle_up(sum, d);
        if (lane_index() >= d) sum += before;
    }
    block_sync(); // the last scan's readers are done
    if (lane_index() == WARP - 1) warps[warp_index()] = sum;
    block_sync();
    u64 before = 0, all = 0;
    for (u32 w = 0; w < WARPS; w++) {
        if (w < warp_index()) before += warps[w];
        all += warps[w];
    }
    *total = all;
    return before + sum - v;
}

DEVICE void meet(const SampleArgs &a, SampleState *s) {
    grid_sync(&a.scratch->half[s->half].meetings[s->meeting++]);
}

// This block's part of what the launch before left.
DEVICE void clear_other_half(const SampleArgs &a, u32 block, u32 half) {
    u32 *words = (u32 *)&a.scratch->half[half ^ 1];
    u32 n = sizeof a.scratch->half[0] / 4;
    for (u32 i = block * THREADS + thread_index(); i < n; i += SAMPLE_BLOCKS * THREADS) {
        words[i] = 0;
    }
}

// Keys and weights of the block's logits.
DEVICE void hold_logits(const SampleArgs &a, SampleState *s) {
    for (u32 i = thread_index(); i < s->n; i += THREADS) {
        float v = adjusted_logit(a, s, i);
        s->keys[i] = key_of(v);
        s->weights[i] = weight_of(v, s->best);
    }
}

// Adds the block's logits from `from` to before `to`, at most RUN, whose digits so far are `prefix` to the
// round's histogram.
DEVICE void add_run_to_histogram(const SampleArgs &a, SampleState *s, u32 search, u32 round, u32 prefix,
                                 u32 from, u32 to) {
    u32 *counts = (u32 *)(s->shared + COUNTS_AT), *low = (u32 *)(s->shared + LOW_AT),
        *high = (u32 *)(s->shared + HIGH_AT);
    // A thread clears the bins that it added to the grid's after the run before.
    for (u32 i = thread_index(); i < SAMPLE_BINS; i += THREADS) {
        counts[i] = low[i] = high[i] = 0;
    }
    block_sync();
    u32 shift = round == 0 ? 21 : round == 1 ? 10 : 0, mask = round == 2 ? 1023 : 2047;
    for (u32 i = from + thread_index(); i < to; i += THREADS) {
        u32 key = key_at(a, s, i), above = round == 0 ? 0 : round == 1 ? key >> 21 : key >> 10;
        if (above != prefix) continue;
        u32 bin = key >> shift & mask;
        u64 weight = weight_at(s, i, key);
        atomic_add(&counts[bin], 1u);
        atomic_add(&low[bin], (u32)weight & 0xFFFFFu);
        atomic_add(&high[bin], (u32)(weight >> 20));
    }
    block_sync();
    for (u32 i = thread_index(); i < SAMPLE_BINS; i += THREADS) {
        if (counts[i] == 0) continue;
        atomic_add(&a.scratch->half[s->half].count[search][round][i], counts[i]);
        atomic_add(&a.scratch->half[s->half].mass[search][round][i], ((u64)high[i] << 20) + low[i]);
    }
}

// All of the block's logits.
DEVICE void add_to_histogram(const SampleArgs &a, SampleState *s, u32 search, u32 round, u32 prefix) {
#pragma unroll 1 // all blocks have as many runs, the last may be empty
    for (u32 from = 0; from < PART; from += RUN)
        add_run_to_histogram(a, s, search, round, prefix, from, MIN(from + RUN, s->n));
}

// Where a search ended in one round.
struct FoundBin {
    u32 bin;
    u32 count;       // in the bin
    u64 mass;        // in the bin
    u64 count_above; // in the bins above it
    u64 mass_above;
};

// The highest bin at which the bins from the top hold *need (logits, or mass; 0, if only mass is searched
// for: top_p of all the mass there is, which *need becomes); all blocks find the same.
DEVICE FoundBin find_bin(const SampleArgs &a, SampleState *s, u32 search, u32 round, bool by_mass,
                         float top_p, u64 *need) {
    FoundBin *found = (FoundBin *)(s->shared + FOUND_AT);
    const u32 *counts = a.scratch->half[s->half].count[search][round];
    const u64 *masses = a.scratch->half[s->half].mass[search][round];
    u64 count[BINS_PER_THREAD], mass[BINS_PER_THREAD], my_count = 0, my_mass = 0, n_all, mass_all;
    for (u32 i = 0; i < BINS_PER_THREAD; i++) {
        u32 bin = SAMPLE_BINS - 1 - (thread_index() * BINS_PER_THREAD + i); // from the top
        bool there = bin < SAMPLE_BINS;
        count[i] = there ? load_shared_data(counts + bin) : 0;
        mass[i] = there ? load_shared_data(masses + bin) : 0;
        my_count += count[i];
        my_mass += mass[i];
    }
    u64 count_above = block_scan(s->shared, my_count, &n_all),
        mass_above = block_scan(s->shared, my_mass, &mass_all);
    if (*need == 0) *need = mass_share(mass_all, top_p);
    u64 target = by_mass ? MIN(*need, mass_all) : *need;
    for (u32 i = 0; i < BINS_PER_THREAD; i++) {
        u64 before = by_mass ? mass_above : count_above, here = by_mass ? mass[i] : count[i];
        if (here > 0 && before < target && before + here >= target) {
            u32 bin = SAMPLE_BINS - 1 - (thread_index() * BINS_PER_THREAD + i);
            *found = {bin, (u32)count[i], mass[i], count_above, mass_above};
        }
        count_above += count[i];
        mass_above += mass[i];
    }
    block_sync();
    FoundBin f = *found;
    block_sync();
    return f;
}

// The shortest beginning of the ranking with `count` logits, or (count 0) with top_p of the mass `total` (0:
// of all there is).
DEVICE Kept search_ranking(const SampleArgs &a, SampleState *s, u32 search, u32 count, float top_p,
                           u64 total) {
    u32 prefix = 0;
    u64 need = count, mass_above = 0;
    bool by_mass = count == 0;
    if (by_mass && total > 0) need = mass_share(total, top_p);
    FoundBin f = {};
#pragma unroll 1 // compiled once, not six times
    for (u32 round = 0; round < SAMPLE_ROUNDS; round++) {
        add_to_histogram(a, s, search, round, prefix);
        meet(a, s);
        f = find_bin(a, s, search, round, by_mass, top_p, &need);
        need -= by_mass ? f.mass_above : f.count_above;
        mass_above += f.mass_above;
        prefix = round == 2 ? prefix << 10 | f.bin : prefix << 11 | f.bin;
    }
    // The last bin holds equals of one weight.
    u64 weight = f.mass / f.count, ties = by_mass ? (weight > 0 ? (need + weight - 1) / weight : 1) : need;
    ties = MIN(ties, (u64)f.count);
    return {prefix, ties, weight, mass_above + ties * weight};
}

// Draws from what is kept; the block that has the token ends the step. `rules`: the sequence as it was, since
// by then another block may have advanced it.
DEVICE void draw(const SampleArgs &a, SampleState *s, u32 block, const Kept &kept, const StepRow &rules) {
    u64 least = (u64)(rules.min_p * 1099511627776.0f), mass = 0, ties = 0, all;
    // A thread's logits lie side by side, so that sums over threads are in the order of ids.
    u32 from = thread_index() * PER_THREAD, to = MIN(from + PER_THREAD, s->n);
    for (u32 i = from; i < to; i++) {
        u32 key = key_at(a, s, i);
        u64 weight = weight_at(s, i, key);
        if (weight < least) continue;
        if (key > kept.key) mass += weight;
        else if (key == kept.key) ties++;
    }
    u64 block_mass, block_ties;
    u64 ties_before = block_scan(s->shared, ties, &block_ties);
    block_scan(s->shared, mass, &block_mass);
    if (thread_index() == 0) {
        a.scratch->half[s->half].block[block].mass = block_mass;
        a.scratch->half[s->half].block[block].ties = block_ties;
    }
    meet(a, s);

    // All blocks: how many of each block's ties are kept, the total, and where it starts in it.
    u32 t = thread_index();
    u64 its_mass = t < SAMPLE_BLOCKS ? load_shared_data(&a.scratch->half[s->half].block[t].mass) : 0;
    u64 its_ties = t < SAMPLE_BLOCKS ? load_shared_data(&a.scratch->half[s->half].block[t].ties) : 0;
    u64 before = block_scan(s->shared, its_ties, &all);
    u64 left = before < kept.ties ? kept.ties - before : 0;
    u64 total, start = block_scan(s->shared, its_mass + MIN(left, its_ties) * kept.tie_weight, &total);
    u64 *mine = (u64 *)(s->shared + FOUND_AT);
    if (t == block) {
        mine[0] = start;
        mine[1] = left;
    }
    block_sync();
    // Uniform in [0, total): 24 random bits, as rng_uniform_f32.
    u64 target = multiply_high(total, (u64)(philox_word(rules.seed, rules.step) >> 8) << 40);

    u64 kept_before = MIN(ties_before, mine[1]), kept_ties = MIN(ties_before + ties, mine[1]) - kept_before;
    u64 reached = mine[0] + block_scan(s->shared, mass + kept_ties * kept.tie_weight, &all);
    for (u32 i = from; i < to; i++) {
        u32 key = key_at(a, s, i);
        u64 whole = weight_at(s, i, key), weight = 0;
        if (whole < least) continue;
        if (key > kept.key) weight = whole;
        else if (key == kept.key && kept_ties > 0) kept_ties--, weight = kept.tie_weight;
        if (weight > 0 && reached <= target && reached + weight > target) {
            row_advance(a.row, (i32)(s->first + i));
            a.scratch->launch++;
        }
        reached += weight;
    }
}

DEVICE void sample_full_run(const SampleArgs &a, u32 block, u8 *shared) {
    StepRow rules = *a.row; // before anyone advances it
    u32 half = load_shared_data(&a.scratch->launch) % 2;
    HeadBest best = best_of_blocks(a.best, HEAD_BLOCKS);
    float top = rules.temperature > 0 ? divide_f32(best.value, rules.temperature) : best.value;
    if (best.token < 0 || rules.temperature == 0 ||
        !is_number(top)) { // greedy, or so cold that only the best has weight
        if (block == 0 && thread_index() == 0) row_advance(a.row, best.token);
        return;
    }
    clear_other_half(a, block, half);
    u32 first = (u32)((u64)N_VOCAB * block / SAMPLE_BLOCKS),
        end = (u32)((u64)N_VOCAB * (block + 1) / SAMPLE_BLOCKS);
    SampleState s = {first,
                     end - first,
                     logit_rules(&rules),
                     top,
                     (u32 *)(shared + KEYS_AT),
                     (u64 *)(shared + WEIGHTS_AT),
                     shared,
                     half,
                     0};
    if (LOGITS_HELD) hold_logits(a, &s);
    block_sync();
    Kept kept = {0, 0, 0, 0}; // everything
    u32 top_k = rules.top_k < N_VOCAB ? rules.top_k : 0;
#pragma unroll 1
    for (u32 search = 0; search < 2; search++) {
        u32 count = search == 0 ? top_k : 0;
        if (count > 0 || (search == 1 && rules.top_p < 1.0f))
            kept = search_ranking(a, &s, search, count, rules.top_p, kept.mass);
    }
    draw(a, &s, block, kept, rules);
}

EXPORTED StageInfo sample_full_info = {THREADS, {SAMPLE_BLOCKS, 1}, SAMPLE_SHARED_BYTES};

KERNEL(THREADS, 1) sample_full(SampleArgs a) {
    stage_launch_next();
    stage_wait();
    sample_full_run(a, block_index(), shared_memory());
}
