// Draws the rows whose slots sample, by the whole of the sampler's rules.
//
//     repetition penalty, temperature, top-k, top-p, min-p, draw in the order of ids (sampler_draw of
//     src/backend/sampler.c)
//
// Each block goes through its part of the row's logits once. What is kept for sure gives its chunks' sums;
// what may be the last that is kept becomes a candidate. The block that comes last ranks the candidates,
// finds the last one kept, draws among the chunks and then within the chunk.
//
//     DRAWS_ANY     all logits are kept; no best is needed before, so none of draw_adjust
//     DRAWS_LIKELY  all logits of enough weight are kept for sure
//     DRAWS_FEW     candidates are those that reach the top_k-th of the bests of the head's blocks
//     DRAWS_RANKED  candidates are those in the bins of draw_rank where top-k and top-p may end; the bins
//                   before are kept for sure
//
// Where there are more candidates than CANDIDATES_MAX (nearly all logits are equal, or the temperature is
// very high), the last block finds the last rank kept alone, digit by digit.
//
// Grid: DRAW_BLOCKS blocks a row. No block waits for another. Defines: N_VOCAB, HEAD_BLOCKS, MAX_ROWS
// (capacity of the logits), DRAW_BLOCKS.
#if !defined(N_VOCAB) || !defined(MAX_ROWS) || !defined(DRAW_BLOCKS)
#error "N_VOCAB, MAX_ROWS, DRAW_BLOCKS"
#endif

enum : u32 {
    CHUNKS_PER_THREAD = CEIL_DIV(N_CHUNKS, (u32)THREADS),
    CANDIDATES_PER_THREAD = CEIL_DIV((u32)CANDIDATES_MAX, (u32)THREADS),

    // Shared memory. Candidates or a histogram; then each chunk's sum.
    SUMS_AT = MAX((u32)HISTOGRAM_BYTES, (u32)CANDIDATES_BYTES), // [N_CHUNKS] u64
    SCAN_AT = SUMS_AT + ROUND_UP(N_CHUNKS * 8, 16),
    FOUND_AT = SCAN_AT + SCAN_BYTES,
    CUT_AT = FOUND_AT + 64, // Cut
    BOUND_AT = CUT_AT + 64, // DRAWS_FEW: the least key of a candidate
    DRAW_SHARED_BYTES = BOUND_AT + 16,
};

// ---- which logits are candidates ----

// Bins and masses of a search that draw_rank prepared. Bins before `sure` are kept. In shared memory: the
// same for all threads, and registers are few.
struct Cut {
    u32 k_bin;           // in which the top_k-th is; DRAW_BINS: top-k takes nothing off
    u32 p_first, p_last; // in which the last of top-p's is, whatever top-k leaves of its bin
    u32 sure;
    u64 k_count_before, k_mass_before; // of k_bin
    u64 p_mass_before;                 // of p_first
    u64 mass;                          // of all logits
};

DEVICE void cut_of_bins(const Draw &d, u8 *shared, Cut *cut) {
    FoundBin *found = (FoundBin *)(shared + FOUND_AT);
    Bins bins;
    load_bins(d, SCAN_AT, &bins);
    Cut c = {DRAW_BINS, DRAW_BINS, DRAW_BINS, DRAW_BINS, 0, 0, 0, bins.mass_all};
    u64 least = bins.mass_all, most = bins.mass_all; // that top-k leaves
    if (d.top_k > 0) {
        FoundBin k = find_bin(bins, found, false, d.top_k);
        if (k.bin < DRAW_BINS) {
            c.k_bin = c.sure = k.bin;
            c.k_count_before = k.count_before;
            c.k_mass_before = k.mass_before;
            least = k.mass_before;
            most = k.mass_before + k.mass;
        }
    }
    if (d.top_p < 1.0f) {
        FoundBin p = find_bin(bins, found, true, mass_share(least, d.top_p));
        c.p_first = c.sure = p.bin;
        c.p_mass_before = p.mass_before;
        c.p_last = find_bin(bins, found, true, mass_share(most, d.top_p)).bin;
    }
    if (thread_index() == 0) *cut = c;
}

// ---- a block's part ----

// From which distance from the best on, in bins, a bin's logits are; infinity where there is no such bin, and
// behind the last one, which has no end.
DEVICE float bin_begin(u32 bin) {
    return bin < DRAW_BINS ? (float)bin : INFINITY_F32;
}

// DRAWS_ANY: a chunk's sum is by the best of the chunk, which is left with it: draw_in_chunk finds the same
// weights. Where a mask allows nothing, none is worked out.
DEVICE void sum_all(const Draw &d, u32 first, u32 end) {
    float best;
    u64 sum = 0;
    for_logits(
        d, first, end,
        [&](u32, const float(&v)[LANE_LOADS]) {
            best = v[0];
#pragma unroll
            for (u32 i = 1; i < LANE_LOADS; i++)
                best = max_f32(best, v[i]);
            best = warp_max(best);
            if (best == -INFINITY_F32) return;
#pragma unroll
            for (u32 i = 0; i < LANE_LOADS; i++)
                sum += weight_by(best, v[i]);
        },
        [&](u32 chunk) {
            give_chunk(d, chunk, &sum);
            if (lane_index() == 0) d.scratch->chunk_best[chunk] = best;
        });
}

// DRAWS_FEW: logits from `bound` on are candidates, and no weight is worked out. DRAWS_RANKED: those in some
// bins. DRAWS_LIKELY: none, since all are in bins that are kept for sure. No branch but for candidates: about
// 35 instructions a logit, where one with a branch for each case had 105.
DEVICE void choose(const Draw &d, const Cut &c, float bound, u32 first, u32 end) {
    float sure = bin_begin(c.sure), k_begin = bin_begin(c.k_bin), k_end = bin_begin(c.k_bin + 1),
          p_begin = bin_begin(c.p_first), p_end = bin_begin(c.p_last + 1);
    u64 sum = 0;
    for_logits(
        d, first, end,
        [&](u32 token, const float(&v)[LANE_LOADS]) {
            u32 which = 0;
            if (d.kind == DRAWS_FEW) {
#pragma unroll
                for (u32 i = 0; i < LANE_LOADS; i++)
                    which |= (u32)(v[i] >= bound) << i;
            } else {
#pragma unroll
                for (u32 i = 0; i < LANE_LOADS; i++) {
                    float at = distance_of(d, v[i]);
                    bool is_sure = at < sure;
                    u64 weight = draw_weight(d, v[i]);
                    bool is_candidate = !is_sure && weight > 0 &&
                                        ((at >= k_begin && at < k_end) || (at >= p_begin && at < p_end));
                    sum += is_sure && weight >= d.least ? weight : 0;
                    which |= (u32)is_candidate << i;
                }
            }
            take_candidates(d, FOUND_AT, which, token);
        },
        [&](u32 chunk) { give_chunk(d, chunk, &sum); });
}

// ---- the last block: which rank is the last that is kept ----

struct FoundRank {
    u64 rank;
    u64 mass; // up to it
    u64 before;
};

// The last rank that top-k and top-p keep, of n candidates.
DEVICE u64 last_of_candidates(const Draw &d, const Cut &c, u8 *shared, u32 n) {
    const u64 *sorted = (const u64 *)(shared + CANDIDATES_AT);
    FoundRank *found = (FoundRank *)(shared + FOUND_AT);
    u32 from = thread_index() * CANDIDATES_PER_THREAD;
    u64 ranks[CANDIDATES_PER_THREAD], weights[CANDIDATES_PER_THREAD]; // this thread's
    u64 mass = 0, n_before_k = 0;
#pragma unroll
    for (u32 i = 0; i < CANDIDATES_PER_THREAD; i++) {
        bool is_there = from + i < n;
        ranks[i] = is_there ? sorted[from + i] : 0;
        float v = rank_logit(ranks[i]);
        weights[i] = is_there ? draw_weight(d, v) : 0;
        mass += weights[i];
        n_before_k += is_there && d.kind == DRAWS_RANKED && distance_bin(d, v) < c.k_bin;
    }
    u64 before = block_scan(SCAN_AT, mass).before;
    u64 first_of_k = block_scan(SCAN_AT, n_before_k).all;
    if (thread_index() == 0) *found = {0, c.mass, 0}; // everything
    block_sync();
    bool cut = d.top_k > 0 && c.k_bin < DRAW_BINS;
    if (cut) {
        u64 last = first_of_k + d.top_k - c.k_count_before - 1, sum = before;
#pragma unroll
        for (u32 i = 0; i < CANDIDATES_PER_THREAD; i++) {
            if (from + i == first_of_k) found->before = sum;
            sum += weights[i];
            if (from + i == last) found->rank = ranks[i], found->mass = sum;
        }
        block_sync();
    }
    FoundRank k = *found;
    block_sync();
    if (d.top_p >= 1.0f) return k.rank;
    u64 need = mass_share(cut ? c.k_mass_before + (k.mass - k.before) : c.mass, d.top_p);
    u64 sum = c.p_mass_before + before;
#pragma unroll
    for (u32 i = 0; i < CANDIDATES_PER_THREAD; i++) {
        if (sum < need && sum + weights[i] >= need) found->rank = ranks[i];
        sum += weights[i];
    }
    block_sync();
    return found->rank;
}

// Of a rank, from its highest bit: the bits that are found in each round. Token ids have 22 bits at most.
DEVICE u32 digit_shift(u32 round) {
    return round == 0 ? 53 : round == 1 ? 42 : round == 2 ? 32 : round == 3 ? 11 : 0;
}
static_assert(N_VOCAB <= 1 << 22, "two rounds find an id");

// The same of all of the row's logits, by this block alone. Rare, and compiled small.
DEVICE u64 last_of_all(const Draw &d, u8 *shared) {
    FoundBin *found = (FoundBin *)(shared + FOUND_AT);
    u64 last = 0, kept = 0; // everything
#pragma unroll 1
    for (u32 search = 0; search < 2; search++) {
        bool by_mass = search == 1;
        if (by_mass ? d.top_p >= 1.0f : d.top_k == 0) continue;
        u64 need = d.top_k, known = 0, mass = 0;
#pragma unroll 1 // compiled once
        for (u32 round = 0; round < 5; round++) {
            u32 shift = digit_shift(round), mask = round == 2 ? 1023 : 2047,
                above = round == 0   ? 63
                        : round == 3 ? 32
                                     : digit_shift(round - 1);
            clear_histogram(d);
            block_sync();
            add_to_histogram<1>(d, shared, 0, N_CHUNKS, [&](u32 token, float v) {
                u64 rank = rank_of(v, token);
                bool matches = round == 0 || (rank ^ known) >> above == 0;
                return matches ? mask - ((u32)(rank >> shift) & mask) : (u32)DRAW_BINS;
            });
            block_sync();
            Bins bins;
            load_bins(d, SCAN_AT, &bins);
            if (by_mass && round == 0) need = mass_share(kept > 0 ? kept : bins.mass_all, d.top_p);
            FoundBin f = find_bin(bins, found, by_mass, need);
            if (f.bin >= DRAW_BINS) break; // fewer logits than top_k have any weight
            need -= by_mass ? f.mass_before : f.count_before;
            known |= (u64)(mask - f.bin) << shift;
            if (round == 2) known |= 0xFFC00000u; // of an id's complement
            mass += f.mass_before + (round == 4 ? f.mass : 0);
            if (round == 4) last = known, kept = mass;
        }
    }
    return last;
}

// ---- the last block: the draw ----

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

// Each chunk's mass of what is kept, to SUMS_AT; returns the last rank kept. n: the row's candidates.
DEVICE u64 sum_kept(const Draw &d, const Cut &c, u8 *shared, u32 n) {
    u64 *sums = (u64 *)(shared + SUMS_AT), *ranks = (u64 *)(shared + CANDIDATES_AT);
    if (n > CANDIDATES_MAX) {
        u64 last = last_of_all(d, shared);
#pragma unroll 1
        for (u32 i = thread_index(); i < N_CHUNKS; i += THREADS)
            sums[i] = 0;
        block_sync();
#pragma unroll 1
        for (u32 token = thread_index(); token < N_VOCAB; token += THREADS) {
            float v = draw_logit(d, token, load_logit(d, token));
            u64 weight = draw_weight(d, v);
            if (rank_of(v, token) >= last && weight >= d.least) atomic_add(&sums[token / CHUNK], weight);
        }
        return last;
    }
    for (u32 i = thread_index(); i < N_CHUNKS; i += THREADS)
        sums[i] = d.kind == DRAWS_FEW ? 0 : load_shared_data(&d.scratch->chunk_mass[i]);
    if (n == 0) return 0;
    for (u32 i = thread_index(); i < n; i += THREADS)
        ranks[i] = load_shared_data(&d.scratch->candidates[i]);
    sort_ranks(ranks, n);
    u64 last = last_of_candidates(d, c, shared, n);
#pragma unroll 1
    for (u32 i = thread_index(); i < n; i += THREADS) {
        u64 weight = draw_weight(d, rank_logit(ranks[i]));
        if (ranks[i] >= last && weight >= d.least) atomic_add(&sums[rank_token(ranks[i]) / CHUNK], weight);
    }
    return last;
}

// What a chunk's weights are by, and what makes them the row's.
struct ChunkUnits {
    float best;
    u64 factor;
};
DEVICE ChunkUnits units_of_chunk(const Draw &d, u32 chunk) {
    if (d.kind != DRAWS_ANY) return {d.best, 1ull << 63};
    float best = load_shared_data(&d.scratch->chunk_best[chunk]);
    return {best, factor_of_best(best, d.best)};
}

// Within the chunk that holds the mass `target`, counted from the chunk's first token on.
DEVICE void draw_in_chunk(const Draw &d, u32 chunk, u64 last, u64 target) {
    ChunkUnits units = units_of_chunk(d, chunk);
    u64 reached = 0;
    for (u32 from = 0; from < CHUNK; from += THREADS) {
        u32 at = from + thread_index(), token = chunk * CHUNK + at;
        u64 weight = 0;
        if (at < CHUNK && token < N_VOCAB) {
            float v = draw_logit(d, token, load_logit(d, token));
            weight = weight_by(units.best, v);
            if (rank_of(v, token) < last || weight < d.least) weight = 0;
        }
        Scan scan = block_scan(SCAN_AT, weight);
        u64 before = reached + scan.before;
        if (rescaled(before, units.factor) <= target && target < rescaled(before + weight, units.factor))
            draw_advance(draw_target(d.row, d.slot), (i32)token);
        reached += scan.all;
    }
}

// DRAWS_ANY: the best of the chunks', to d->best, and the chunks' masses by it, to SUMS_AT. False: the row
// cannot be drawn from; the head's bests say whether a logit is NaN or infinite.
DEVICE bool gather_chunks(Draw *d, u8 *shared) {
    u64 *sums = (u64 *)(shared + SUMS_AT);
    float *warps = (float *)(shared + SCAN_AT), most = -INFINITY_F32;
#pragma unroll 1
    for (u32 i = thread_index(); i < N_CHUNKS; i += THREADS)
        most = max_f32(most, load_shared_data(&d->scratch->chunk_best[i]));
    draw_begin(d); // its loads go along with these
    most = warp_max(most);
    if (lane_index() == 0) warps[warp_index()] = most;
    block_sync();
    d->best = warp_max(lane_index() < WARPS ? warps[lane_index()] : -INFINITY_F32);
    if (d->best_token < 0 || !is_number(d->best)) return false;
    d->kind = DRAWS_ANY;
#pragma unroll 1
    for (u32 i = thread_index(); i < N_CHUNKS; i += THREADS) {
        u64 mass = load_shared_data(&d->scratch->chunk_mass[i]);
        sums[i] = mass > 0 ? rescaled(mass, units_of_chunk(*d, i).factor) : 0;
    }
    return true;
}

DEVICE void draw_end(Draw &d, const Cut &c, u8 *shared) {
    struct Place {
        u64 reached;
        u32 chunk;
    };
    Place *place = (Place *)(shared + FOUND_AT);
    const u64 *sums = (const u64 *)(shared + SUMS_AT);
    u64 random = philox_word(d.slot->seed, d.slot->step) >> 8; // 24 bits, as rng_uniform_f32
    u32 n = 0;
    u64 last = 0, mass = 0;
    if (d.kind == DRAWS_ANY) {
        bool can_draw = gather_chunks(&d, shared);
        if (!can_draw && thread_index() == 0)
            draw_advance(draw_target(d.row, d.slot), d.mask != 0 ? -1 : d.best_token);
        if (!can_draw) return;
    } else {
        n = load_shared_data(&d.scratch->n_candidates);
        last = sum_kept(d, c, shared, n);
    }
    block_sync();
    u32 first = thread_index() * CHUNKS_PER_THREAD, end = MIN(first + CHUNKS_PER_THREAD, N_CHUNKS);
#pragma unroll 1
    for (u32 i = first; i < end; i++)
        mass += sums[i];
    Scan scan = block_scan(SCAN_AT, mass);
    u64 reached = scan.before;
    u64 target = multiply_high(scan.all, random << 40); // uniform in [0, total)
#pragma unroll 1
    for (u32 i = first; i < end; i++) {
        if (reached <= target && target < reached + sums[i]) *place = {reached, i};
        reached += sums[i];
    }
    block_sync();
    Place p = *place;
    draw_in_chunk(d, p.chunk, last, target - p.reached);
    if (thread_index() == 0) d.scratch->n_candidates = 0;
    if (d.kind == DRAWS_RANKED || n > CANDIDATES_MAX) clear_histogram(d);
}

DEVICE void draw_sample_run(const DrawArgs &a, u32 index, u32 block, u8 *shared) {
    Draw d;
    bool is_mine = draw_find(a, index, &d);
    stage_wait();
    if (!is_mine) return;
    u32 first = chunks_before(block, DRAW_BLOCKS), end = chunks_before(block + 1, DRAW_BLOCKS);
    u32 *n = (u32 *)(shared + FOUND_AT);
    Cut *c = (Cut *)(shared + CUT_AT);
    if (d.kind == DRAWS_ANY) {
        sum_all(d, first, end);
    } else {
        draw_begin(&d);
        if (d.kind == DRAWS_BEST) {
            if (block == 0 && thread_index() == 0) draw_advance(draw_target(d.row, d.slot), d.best_token);
            return;
        }
        // DRAWS_LIKELY: none is a candidate. DRAWS_FEW: all candidates are ranked, from the best on.
        u32 none = d.kind == DRAWS_LIKELY ? DRAW_BINS : 0;
        if (thread_index() == 0) *c = {none, none, none, none, 0, 0, 0, 0};
        if (d.kind == DRAWS_RANKED) cut_of_bins(d, shared, c);
        float bound = 0;
        if (d.kind == DRAWS_FEW) {
            keys_of_bests(d, shared);
            u32 key = bound_of_keys(shared, (u32 *)(shared + BOUND_AT), HEAD_BLOCKS, d.top_k);
            // (Where fewer than top_k are allowed, all others would be candidates.)
            bound = logit_of_key(MAX(key, key_of(-INFINITY_F32) + 1));
        }
        count_candidates(n);
        choose(d, *c, bound, first, end);
        give_candidates(d, shared, n);
    }
    if (is_last_block(&d.scratch->arrived, n)) draw_end(d, *c, shared);
}

EXPORTED StageInfo draw_sample_info = {THREADS, {DRAW_BLOCKS, MAX_ROWS}, DRAW_SHARED_BYTES};

KERNEL(THREADS, 2) draw_sample(DrawArgs a) {
    stage_launch_next();
    draw_sample_run(a, block_index_y(), block_index(), shared_memory());
}
