// What the stages that draw share: a row's rules, its weights, and the token that becomes the sequence's
// next. (sampler_draw of src/backend/sampler.c.)
//
// A logit's weight is e^(logit - best) after penalty and temperature, an integer in units of 2^-40. So sums
// come out the same in any order, in any number of blocks. (Where all logits may be drawn, a weight is by the
// best of its chunk, and the chunk's sum by the best of all: then logits are read once.) A logit and its
// token are one number, their rank: the larger rank comes first, and no two are equal. What top-k and top-p
// keep is a beginning of the ranking, described by its last rank. A logit whose weight is 0 is never drawn;
// whether it is kept makes no difference.
//
// Needs logits.cuh. Defines: HEAD_BLOCKS (parts of HeadBest a row); N_VOCAB but for greedy draws; WARPS.
#ifndef HEAD_BLOCKS
#error "HEAD_BLOCKS"
#endif
#ifndef WARPS
#define WARPS 16
#endif
#define THREADS (WARPS * 32)
#ifndef HISTOGRAM_LOGITS // fewer in tests
#define HISTOGRAM_LOGITS (1u << 18)
#endif
#ifndef CANDIDATES_MAX // fewer in tests
#define CANDIDATES_MAX DRAW_CANDIDATES
#endif

// The row of the batch that has row `index` of the logits, if there is one and its slot's draws, of those in
// `mask`, are those of `wanted`; else NULL.
DEVICE BatchRow *draw_row(const DrawArgs &a, u32 index, u32 mask, u32 wanted) {
    u32 n = load_shared_data(&a.batch->n_logits), at = load_shared_data(a.logits_rows + index);
    if (index >= n) return 0;
    BatchRow *row = a.rows + at;
    return (a.slots[row->slot].draws & mask) == wanted ? row : 0;
}

DEVICE const HeadBest *draw_best(const DrawArgs &a, u32 index, u32 draws) {
    return (draws & DRAW_ADJUSTED ? a.adjusted_best : a.best) + (u64)index * HEAD_BLOCKS;
}

// Whether a row of DRAW_ADJUSTED has a mask and nothing else. (Counts are there for all other rules.)
DEVICE bool is_masked_alone(const SlotState *slot) {
    return slot->counts == 0;
}

DEVICE bool is_allowed(const u32 *mask, u32 token) {
    return mask == 0 || (mask[token / 32] >> token % 32 & 1u);
}

// Where a drawn token goes to.
struct DrawTarget {
    BatchRow *row;
    SlotState *slot;
    u32 position, step, draws;
    u32 *seen;
    u16 *counts;
    i32 *drawn;
};
DEVICE DrawTarget draw_target(BatchRow *row, SlotState *slot) {
    return {row, slot, row->position, slot->step, slot->draws, slot->seen, slot->counts, slot->drawn};
}

// The drawn token becomes the next step's input. An invalid one is reported, and the step that may be
// enqueued already is given token 0: its result is dropped. The host fetches a token while the next one is
// drawn.
DEVICE void draw_advance(const DrawTarget &to, i32 token) {
    u32 t = token < 0 ? 0u : (u32)token;
    to.drawn[to.step % TOKEN_RING] = token;
    if (to.seen != 0) to.seen[t / 32] |= 1u << t % 32;
    if (to.counts != 0 && to.counts[t] < 0xFFFFu) to.counts[t]++;
    to.row->token = (i32)t;
    to.row->position = to.position + 1;
    to.slot->step = to.step + 1;
}

#ifdef N_VOCAB
enum : u32 {
    LANE_LOADS = MIN(CEIL_DIV(N_VOCAB, 512u * WARP), 16u), // of a lane, under way at once
    CHUNK = LANE_LOADS * WARP,                             // logits that a warp sums at once
    N_CHUNKS = CEIL_DIV(N_VOCAB, CHUNK),
    BINS_PER_THREAD = CEIL_DIV((u32)DRAW_BINS, (u32)THREADS),
};
static_assert(N_CHUNKS <= (u32)DRAW_CHUNKS, "DrawScratch has them all");

enum DrawKind : u32 {
    DRAWS_BEST,   // so cold that only the best has weight, or nothing can be drawn
    DRAWS_ANY,    // of all logits
    DRAWS_LIKELY, // of what min-p alone leaves
    DRAWS_FEW,    // of the top_k best, which are no more than HEAD_BLOCKS
    DRAWS_RANKED, // of what other top-k and top-p leave
};

struct Draw {
    DrawKind kind;
    BatchRow *row;
    SlotState *slot;
    const float *logits;
    const u32
        *mask; // of these logits; NULL: none, or the logits that it does not allow are -infinity already
    const HeadBest *bests;
    DrawScratch *scratch;
    LogitRules rules;
    float colder; // what logits are multiplied with: 1 / temperature
    i32 best_token;
    float best; // after penalty and temperature
    u32 top_k;  // 0: none
    float top_p;
    u64 least;       // weight, by min-p
    float bin_scale; // bins a unit of distance: distance_bin
};

// 2,047 bins are 32 units, beyond which no logit has any weight. Where the bests of the head's blocks lie
// close together (a high temperature, a flat distribution), they are 8 times the distance of these, so that
// no bin has very many logits.
DEVICE float scale_of_bins(const Draw &d) {
    float lowest = INFINITY_F32;
    for (u32 i = lane_index(); i < HEAD_BLOCKS; i += WARP) {
        float v = load_shared_data(&d.bests[i].value);
        lowest = is_number(v) && v < lowest ? v : lowest;
    }
    for (u32 m = 16; m > 0; m /= 2) {
        float other = shuffle_xor(lowest, m);
        lowest = other < lowest ? other : lowest;
    }
    float span = 8.0f * (d.best - lowest * d.colder);
    return divide_f32((float)(DRAW_BINS - 1), span > 0 && span < 32 ? max_f32(span, 1e-30f) : 32.0f);
}

// What no stage of the step writes before the draws: read before stage_wait, since these loads wait for each
// other. False: the row is for another stage.
DEVICE bool draw_find(const DrawArgs &a, u32 index, Draw *d) {
    BatchRow *row = draw_row(a, index, DRAW_SAMPLED, DRAW_SAMPLED);
    if (row == 0) return false;
    SlotState *slot = a.slots + row->slot;
    d->row = row;
    d->slot = slot;
    bool is_adjusted = (slot->draws & DRAW_ADJUSTED) != 0, takes_mask = is_masked_alone(slot);
    d->logits = (is_adjusted && !takes_mask ? a.adjusted : a.logits) + (u64)index * N_VOCAB;
    d->mask = takes_mask ? slot->mask : 0;
    d->bests = draw_best(a, index, slot->draws);
    d->scratch = a.scratch + index;
    d->rules = logit_rules(slot->repetition_penalty, slot->seen);
    d->colder = divide_f32(1, slot->temperature);
    d->top_k = slot->top_k < N_VOCAB ? slot->top_k : 0;
    d->top_p = slot->top_p;
    d->least = (u64)(slot->min_p * 1099511627776.0f); // 2^40
    d->kind = slot->draws & DRAW_UNCUT                  ? DRAWS_ANY
              : d->top_k > 0 && d->top_k <= HEAD_BLOCKS ? DRAWS_FEW
              : d->top_k > 0 || d->top_p < 1.0f         ? DRAWS_RANKED
                                                        : DRAWS_LIKELY;
    return true;
}

// The best one, by the whole block or by whole warps. A mask that draw_adjust has not looked at (DRAWS_ANY)
// may forbid it.
DEVICE void draw_begin(Draw *d) {
    HeadBest best = best_of_blocks<HEAD_BLOCKS>(d->bests);
    d->best_token = best.token;
    d->best = best.value * d->colder;
    if (best.token < 0 || !is_number(d->best)) d->kind = DRAWS_BEST;
    d->bin_scale = d->kind == DRAWS_RANKED ? scale_of_bins(*d) : 0;
}

// Penalty, then temperature.
DEVICE float draw_logit(const Draw &d, u32 token, float logit) {
    return penalise_logit(d.rules, token, logit) * d.colder;
}

DEVICE u64 weight_by(float best, float v) {
    return (u64)(exp_f32(v - best) * 1099511627776.0f); // 2^40
}
DEVICE u64 draw_weight(const Draw &d, float v) {
    return weight_by(d.best, v);
}

// Weights by one best as those by another. `factor`: the first one's weight by the other, in units of 2^-63.
DEVICE u64 rescaled(u64 weight, u64 factor) {
    return multiply_high(weight << 1, factor);
}
DEVICE u64 factor_of_best(float best, float by) {
    return (u64)(exp_f32(best - by) * 9223372036854775808.0f); // 2^63
}

DEVICE u64 rank_of(float v, u32 token) {
    return (u64)key_of(v) << 32 | (u32)~token;
}

DEVICE u32 rank_token(u64 rank) {
    return ~(u32)rank;
}

DEVICE float rank_logit(u64 rank) {
    return logit_of_key((u32)(rank >> 32));
}

// A logit's distance from the best, in bins, and its bin, nearest first.
DEVICE float distance_of(const Draw &d, float v) {
    return (d.best - v) * d.bin_scale;
}
DEVICE u32 distance_bin(const Draw &d, float v) {
    float at = distance_of(d, v);
    return at < (float)(DRAW_BINS - 1) ? (u32)at : DRAW_BINS - 1;
}

// Chunks of block b of n.
DEVICE u32 chunks_before(u32 b, u32 n) {
    return N_CHUNKS * b / n;
}

DEVICE float load_logit(const Draw &d, u32 token) {
    return is_allowed(d.mask, token) ? load_shared_data(d.logits + token) : -INFINITY_F32;
}

// A row's set of tokens, from token `from` on, a multiple of 32: a word a lane.
DEVICE u32 load_set(const u32 *set, u32 from) {
    u32 at = from / WARP + lane_index();
    return at < CEIL_DIV(N_VOCAB, (u32)WARP) ? set[at] : 0;
}
// Whether the lane's token of the i-th 32 is in it.
DEVICE bool is_in_set(u32 words, u32 i) {
    return shuffle(words, i) >> lane_index() & 1u;
}

// Calls take(token, v) for the logits of chunks first … end - 1, a chunk a warp: v[i], of `loads`, is the
// logit of token + i WARP after penalty and temperature, or -infinity behind the chunk's end; and done(chunk)
// after each chunk, in all lanes. Logits that a mask does not allow are loaded, too: so no load waits for the
// mask.
template <u32 loads = LANE_LOADS, class Take, class Done>
DEVICE void for_logits(const Draw &d, u32 first, u32 end, Take take, Done done) {
#pragma unroll 1
    for (u32 chunk = first + warp_index(); chunk < end; chunk += WARPS) {
        u32 chunk_end = MIN((u32)N_VOCAB, (chunk + 1) * CHUNK);
#pragma unroll 1
        for (u32 from = chunk * CHUNK; from < chunk_end; from += loads * WARP) {
            u32 token = from + lane_index();
            float v[loads];
#pragma unroll
            for (u32 i = 0; i < loads; i++)
                v[i] = token + i * WARP < chunk_end ? load_shared_data(d.logits + token + i * WARP)
                                                    : -INFINITY_F32;
            if (d.mask != 0) {
                u32 words = load_set(d.mask, from);
#pragma unroll
                for (u32 i = 0; i < loads; i++)
                    v[i] = is_in_set(words, i) ? v[i] : -INFINITY_F32;
            }
            if (d.rules.penalty != 1.0f) {
                u32 words = load_set(d.rules.seen, from);
#pragma unroll
                for (u32 i = 0; i < loads; i++)
                    v[i] = is_in_set(words, i) ? penalised(d.rules, v[i]) : v[i];
            }
#pragma unroll
            for (u32 i = 0; i < loads; i++)
                v[i] *= d.colder;
            take(token, v);
        }
        done(chunk);
    }
}

// The warp's sum in all lanes.
DEVICE u64 warp_sum(u64 v) {
    for (u32 m = 16; m > 0; m /= 2)
        v += shuffle_xor(v, m);
    return v;
}

DEVICE float warp_max(float v) {
    for (u32 m = 16; m > 0; m /= 2)
        v = max_f32(v, shuffle_xor(v, m));
    return v;
}

// ---- what a block finds together ----

enum : u32 { SCAN_BYTES = ROUND_UP((WARPS + 1) * 8, 16) };

struct Scan {
    u64 before, all; // sums of the values of all threads before this one, and of all
};

// The whole block calls it. [SCAN_BYTES] of shared memory are at scan_at.
DEVICE_CALLED Scan block_scan(u32 scan_at, u64 v) {
    u64 *warps = (u64 *)(shared_memory() + scan_at);
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
    return {before + sum - v, all};
}

// ---- histograms ----

enum : u32 {
    // A block's histogram in shared memory: counts, and sums of the weights' digits of 14, 13 and 14 bits.
    HISTOGRAM_BYTES = DRAW_BINS * 4 * 4,
    // Chunks that are added before it is added to the row's: a digit's sum stays below 2^32.
    HISTOGRAM_CHUNKS = HISTOGRAM_LOGITS / CHUNK,
};
static_assert(HISTOGRAM_CHUNKS > 0, "a chunk's sums fit");

// Adds the logits of chunks first … end - 1 to the row's histogram. bin(token, v) is the bin; DRAW_BINS:
// none. Logits without weight are not counted. `loads`: as for_logits has it.
template <u32 loads = LANE_LOADS, class Bin>
DEVICE void add_to_histogram(const Draw &d, u8 *shared, u32 first, u32 end, Bin bin) {
    u32 *counts = (u32 *)shared, *low = counts + DRAW_BINS, *middle = low + DRAW_BINS,
        *high = middle + DRAW_BINS;
    for (u32 from = first; from < end; from += HISTOGRAM_CHUNKS) {
        for (u32 i = thread_index(); i < DRAW_BINS; i += THREADS) // a thread's own, after what it gave last
            counts[i] = low[i] = middle[i] = high[i] = 0;
        block_sync();
        for_logits<loads>(
            d, from, MIN(from + HISTOGRAM_CHUNKS, end),
            [&](u32 token, const float(&v)[loads]) {
#pragma unroll
                for (u32 i = 0; i < loads; i++) {
                    u64 weight = draw_weight(d, v[i]);
                    u32 b = bin(token + i * WARP, v[i]);
                    if (weight == 0 || b >= DRAW_BINS) continue;
                    atomic_add(&counts[b], 1u);
                    atomic_add(&low[b], (u32)weight & 0x3FFFu);
                    atomic_add(&middle[b], (u32)(weight >> 14) & 0x1FFFu);
                    atomic_add(&high[b], (u32)(weight >> 27));
                }
            },
            [](u32) {});
        block_sync();
        for (u32 i = thread_index(); i < DRAW_BINS; i += THREADS) {
            if (counts[i] == 0) continue;
            atomic_add(&d.scratch->count[i], counts[i]);
            atomic_add(&d.scratch->mass[i], ((u64)high[i] << 27) + ((u64)middle[i] << 14) + low[i]);
        }
    }
}

DEVICE void clear_histogram(const Draw &d) {
#pragma unroll 1
    for (u32 i = thread_index(); i < DRAW_BINS; i += THREADS) {
        d.scratch->count[i] = 0;
        d.scratch->mass[i] = 0;
    }
}

// The row's histogram, spread over the block's threads.
struct Bins {
    u32 count[BINS_PER_THREAD];
    u64 mass[BINS_PER_THREAD];
    u64 count_before, mass_before; // in the bins before this thread's
    u64 count_all, mass_all;
};

DEVICE void load_bins(const Draw &d, u32 scan_at, Bins *b) {
    u64 count = 0, mass = 0;
    for (u32 i = 0; i < BINS_PER_THREAD; i++) {
        u32 bin = thread_index() * BINS_PER_THREAD + i;
        b->count[i] = bin < DRAW_BINS ? load_shared_data(&d.scratch->count[bin]) : 0;
        b->mass[i] = bin < DRAW_BINS ? load_shared_data(&d.scratch->mass[bin]) : 0;
        count += b->count[i];
        mass += b->mass[i];
    }
    Scan counts = block_scan(scan_at, count), masses = block_scan(scan_at, mass);
    b->count_before = counts.before, b->count_all = counts.all;
    b->mass_before = masses.before, b->mass_all = masses.all;
}

struct FoundBin {
    u32 bin; // DRAW_BINS: none
    u32 reserved;
    u64 count_before, mass_before; // in the bins before it
    u64 mass;
};

// The first bin at which the bins hold `need` logits, or (by_mass) as much mass. `found` is in shared memory.
DEVICE_CALLED FoundBin find_bin(Bins b, FoundBin *found, bool by_mass, u64 need) {
    block_sync(); // the last one's readers are done
    if (thread_index() == 0) found->bin = DRAW_BINS;
    block_sync();
    u64 count = b.count_before, mass = b.mass_before;
    for (u32 i = 0; i < BINS_PER_THREAD; i++) {
        u64 before = by_mass ? mass : count, here = by_mass ? b.mass[i] : b.count[i];
        if (before < need && before + here >= need)
            *found = {thread_index() * BINS_PER_THREAD + i, 0, count, mass, b.mass[i]};
        count += b.count[i];
        mass += b.mass[i];
    }
    block_sync();
    return *found;
}

// The least mass that is at least top_p of all of it, and one unit or more so that the best is always kept.
// (top_p in units of 2^-64: exact down to 2^-16, far below what a best token weighs.)
DEVICE u64 mass_share(u64 total, float top_p) {
    u64 units = (u64)(top_p * 1099511627776.0f) << 24;
    u64 share = multiply_high(total, units) + (total * units != 0); // rounded up
    return MAX(MIN(share, total), (u64)1);
}

// ---- candidates ----

enum : u32 {
    // Shared memory of a stage with candidates begins with them; then come the best keys of the row's parts,
    // and what the block's threads tell each other.
    CANDIDATES_AT = 0,                            // [CANDIDATES_MAX] u64
    KEYS_AT = CANDIDATES_AT + CANDIDATES_MAX * 8, // [PARTS_MAX] u32
    PARTS_MAX = MAX((u32)HEAD_BLOCKS, (u32)THREADS),
    CANDIDATES_BYTES = KEYS_AT + ROUND_UP(PARTS_MAX * 4, 16),
};

// Leaves the warp's sum as that of the chunk, and 0.
DEVICE void give_chunk(const Draw &d, u32 chunk, u64 *sum) {
    u64 all = warp_sum(*sum);
    if (lane_index() == 0) d.scratch->chunk_mass[chunk] = all;
    *sum = 0;
}

// The n-th of the keys at KEYS_AT, each of which is the best of some of the row's logits: so n logits reach
// it at least. `bound` is in shared memory.
DEVICE u32 bound_of_keys(u8 *shared, u32 *bound, u32 n_keys, u32 n) {
    const u32 *keys = (const u32 *)(shared + KEYS_AT);
    block_sync();
    for (u32 i = thread_index(); i < n_keys; i += THREADS) {
        u32 mine = keys[i], n_before = 0;
        for (u32 k = 0; k < n_keys; k++)
            n_before += keys[k] > mine || (keys[k] == mine && k < i);
        if (n_before + 1 == n) *bound = mine;
    }
    block_sync();
    return *bound;
}

// Keys of the bests of the head's blocks, after temperature.
DEVICE void keys_of_bests(const Draw &d, u8 *shared) {
    u32 *keys = (u32 *)(shared + KEYS_AT);
    for (u32 i = thread_index(); i < HEAD_BLOCKS; i += THREADS) {
        keys[i] = key_of(load_shared_data(&d.bests[i].value) * d.colder);
    }
}

// Adds the block's candidates to the row's. *n: how many the block has, of which CANDIDATES_MAX are there.
DEVICE void give_candidates(const Draw &d, u8 *shared, u32 *n) {
    const u64 *mine = (const u64 *)(shared + CANDIDATES_AT);
    u32 *first = n + 1;
    block_sync();
    if (thread_index() == 0) *first = *n > 0 ? atomic_take(&d.scratch->n_candidates, *n) : 0;
    block_sync();
#pragma unroll 1
    for (u32 i = thread_index(); i < MIN(*n, (u32)CANDIDATES_MAX); i += THREADS) {
        if (*first + i < CANDIDATES_MAX) d.scratch->candidates[*first + i] = mine[i];
    }
}

// `n`, of which there are two in shared memory, will count the block's candidates.
DEVICE void count_candidates(u32 *n) {
    block_sync(); // what was there has been read
    if (thread_index() == 0) *n = 0;
    block_sync();
}

// *n is at n_at of the shared memory.
DEVICE_CALLED void take_candidate(u32 n_at, u32 token, float v) {
    u8 *shared = shared_memory();
    u32 at = atomic_take((u32 *)(shared + n_at), 1);
    if (at < CANDIDATES_MAX) ((u64 *)(shared + CANDIDATES_AT))[at] = rank_of(v, token);
}

// Of what for_logits takes at once, the logits that are a bit of `which`: few, so they are read again.
DEVICE void take_candidates(const Draw &d, u32 n_at, u32 which, u32 token) {
#pragma unroll 1
    for (; which != 0; which &= which - 1) {
        u32 t = token + count_ones((which & (0u - which)) - 1) * WARP;
        take_candidate(n_at, t, draw_logit(d, t, load_logit(d, t)));
    }
}

// The largest first.
DEVICE_CALLED void sort_ranks(u64 *ranks, u32 n) {
    u32 size = 2;
    while (size < n)
        size *= 2;
    for (u32 i = n + thread_index(); i < size; i += THREADS)
        ranks[i] = 0;
    block_sync();
    for (u32 run = 2; run <= size; run *= 2) {
        for (u32 apart = run / 2; apart > 0; apart /= 2) {
            for (u32 i = thread_index(); i < size / 2; i += THREADS) {
                u32 low = 2 * i - (i & (apart - 1)), high = low + apart;
                u64 x = ranks[low], y = ranks[high];
                if ((x < y) != ((low & run) != 0)) {
                    ranks[low] = y;
                    ranks[high] = x;
                }
            }
            block_sync();
        }
    }
}

#endif
