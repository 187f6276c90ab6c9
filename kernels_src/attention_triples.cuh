// Of attention.cuh: what teams give each other, and how it is folded.

// ---- triples in memory ----

// Calls f(i, head, j, dim) for what the lane has: row i of its two, group j of 8 dims. n / 2 pairs of groups,
// from `first` on.
template <u32 n, class F> DEVICE void for_each_pair(u32 first, F f) {
#pragma unroll
    for (u32 i = 0; i < 2; i++) {
        u32 head = lane_index() / 4 + i * 8;
        if (i * 8 >= LIST_HEADS || head >= LIST_HEADS) continue;
#pragma unroll
        for (u32 j = 0; j < n; j++) {
            u32 pair = first + j / 2 * TEAM_WARPS;
            if (VALUE_PAIRS % TEAM_WARPS && pair >= VALUE_PAIRS) continue;
            f(i, head, j, pair * 16 + j % 2 * 8 + lane_index() % 4 * 2);
        }
    }
}

// with_tops: of this warp's copy of the largest scores and sums.
template <u32 n> DEVICE void store_triple(float *to, const Triple<n> &t, u32 first, bool with_tops) {
    for_each_pair<n>(first, [&](u32 i, u32 head, u32 j, u32 dim) {
        *(float2 *)(to + head * VALUE_DIM + dim) = {t.out[j][2 * i], t.out[j][2 * i + 1]};
    });
    float2 *tops = (float2 *)(to + LIST_HEADS * VALUE_DIM);
    if (!with_tops || lane_index() % 4 > 0) return;
#pragma unroll
    for (u32 i = 0; i < 2; i++) {
        u32 head = lane_index() / 4 + i * 8;
        if (head < LIST_HEADS) tops[head] = {t.top[i], t.sum[i]};
    }
}

// in_ring: of shared memory.
template <u32 n, bool in_ring = false> DEVICE void load_triple(const float *from, Triple<n> *t, u32 first) {
    auto load = [](const float2 *p) { return in_ring ? *p : load_shared_data(p); };
    triple_clear(t);
    for_each_pair<n>(first, [&](u32 i, u32 head, u32 j, u32 dim) {
        float2 v = load((const float2 *)(from + head * VALUE_DIM + dim));
        t->out[j][2 * i] = v.x, t->out[j][2 * i + 1] = v.y;
    });
    const float2 *tops = (const float2 *)(from + LIST_HEADS * VALUE_DIM);
#pragma unroll
    for (u32 i = 0; i < 2; i++) {
        u32 head = lane_index() / 4 + i * 8;
        if (head >= LIST_HEADS) continue;
        float2 v = load(tops + head);
        t->top[i] = v.x, t->sum[i] = v.y;
    }
}

// Triples that a team gathers in its shared memory, so that its registers are the tile's: each warp its dims
// and a copy of largest scores and sums.
DEVICE float *accumulator(u8 *shared, u32 at) {
    return (float *)(shared + at);
}
DEVICE float2 *accumulator_tops(float *to) {
    return (float2 *)(to + LIST_HEADS * VALUE_DIM) + team_warp() * LIST_HEADS;
}
// begins: the triple takes the place of what is there.
DEVICE void accumulate(float *to, const WarpTriple &t, bool begins) {
    FoldFactors f[2];
    float2 *tops = accumulator_tops(to), top[2];
#pragma unroll
    for (u32 i = 0; i < 2; i++) {
        u32 head = lane_index() / 4 + i * 8;
        top[i] = {t.top[i], t.sum[i]};
        f[i] = {0, 1};
        if (i * 8 >= LIST_HEADS || head >= LIST_HEADS || begins) continue;
        float2 before = tops[head];
        f[i] = fold_factors(&before.x, t.top[i]);
        top[i] = {before.x, fma_f32(before.y, f[i].keep, t.sum[i] * f[i].add)};
    }
    warp_sync();
#pragma unroll
    for (u32 i = 0; i < 2; i++) {
        u32 head = lane_index() / 4 + i * 8;
        if (i * 8 < LIST_HEADS && head < LIST_HEADS && lane_index() % 4 == 0) tops[head] = top[i];
    }
    for_each_pair<WARP_DIMS>(team_warp(), [&](u32 i, u32 head, u32 j, u32 dim) {
        float2 *at = (float2 *)(to + head * VALUE_DIM + dim), v = {t.out[j][2 * i], t.out[j][2 * i + 1]};
        if (!begins) {
            float2 o = *at;
            v = {fma_f32(o.x, f[i].keep, v.x * f[i].add), fma_f32(o.y, f[i].keep, v.y * f[i].add)};
        }
        *at = v;
    });
    warp_sync();
}
DEVICE void load_accumulator(float *from, WarpTriple *t) {
    const float2 *tops = accumulator_tops(from);
    triple_clear(t);
    for_each_pair<WARP_DIMS>(team_warp(), [&](u32 i, u32 head, u32 j, u32 dim) {
        float2 v = *(const float2 *)(from + head * VALUE_DIM + dim);
        t->out[j][2 * i] = v.x, t->out[j][2 * i + 1] = v.y;
    });
#pragma unroll
    for (u32 i = 0; i < 2; i++) {
        u32 head = lane_index() / 4 + i * 8;
        if (i * 8 >= LIST_HEADS || head >= LIST_HEADS) continue;
        t->top[i] = tops[head].x, t->sum[i] = tops[head].y;
    }
}

// The fold of `count` triples in memory, in their order. Several are loaded at once: one after the other,
// each would cost the way to the L2 (8 of them: 4 µs).
template <u32 n> DEVICE void fold_stored(const float *from, u32 count, Triple<n> *t, u32 first) {
    enum : u32 {
        HELD = n * CEIL_DIV(LIST_HEADS, 8), // four registers each
        AT_ONCE = HELD <= 4    ? 4
                  : HELD <= 16 ? 2
                               : 1
    };
    for (u32 begin = 0; begin < count; begin += AT_ONCE) {
        Triple<n> next[AT_ONCE];
#pragma unroll
        for (u32 k = 0; k < AT_ONCE; k++) {
            if (begin + k < count) load_triple(from + (u64)(begin + k) * TRIPLE_FLOATS, &next[k], first);
        }
#pragma unroll
        for (u32 k = 0; k < AT_ONCE; k++) {
            if (begin + k >= count) break;
            if (begin + k == 0) *t = next[0];
            else triple_fold(t, next[k]);
        }
    }
}

// ---- a fold of many triples, by way of the team's ring, which is empty ----
//
// All triples that fit come at once. What they are multiplied by depends on largest scores alone, so it is
// found for all of them first, a lane a triple. Then each thread runs through four values of all triples.

DEVICE float2 *triple_tops(float *triple) { // [heads]
    return (float2 *)(triple + LIST_HEADS * VALUE_DIM);
}

// Of a triple and a head: L = fma(L, keep, sum), O = fma(O, keep, o * add).
struct alignas(16) FoldStep {
    float keep, add, sum;
};
static_assert(sizeof(FoldStep) == FOLD_STEP_BYTES, "one load");
DEVICE FoldStep *fold_step(float *triples, u32 k, u32 head) {
    return (FoldStep *)(triples + FOLD_ROOM * TRIPLE_FLOATS) + k * LIST_HEADS + head;
}

// Of 32 numbers, a lane each: the largest of the lanes up to this one.
DEVICE float largest_up_to(float v) {
#pragma unroll
    for (u32 d = 1; d < WARP; d *= 2) {
        float below = float_of(shuffle_up(bits_of(v), d));
        if (lane_index() >= d) v = max_f32(v, below);
    }
    return v;
}

// A head's steps of the fold of n triples, by a warp. The first triple's largest score becomes that of all.
DEVICE void find_fold_steps(float *triples, u32 n, u32 head) {
    float before = -INFINITY_F32;
    for (u32 first = 0; first < n; first += WARP) {
        u32 k = first + lane_index();
        float2 own = {-INFINITY_F32, 0};
        if (k < n) own = triple_tops(triples + k * TRIPLE_FLOATS)[head];
        float up_to = max_f32(before, largest_up_to(own.x));
        float top = float_of(shuffle_up(bits_of(up_to), 1)); // of the triples before this one
        if (lane_index() == 0) top = before;
        FoldFactors f = fold_factors(&top, own.x);
        if (k < n) *fold_step(triples, k, head) = {f.keep, f.add, own.y * f.add};
        before = shuffle(up_to, WARP - 1);
    }
    if (lane_index() == 0) triple_tops(triples)[head].x = before;
}

// Folds n triples of shared memory into the first, by the steps that were found.
DEVICE void fold_triples(float *triples, u32 n) {
    for (u32 at = team_thread() * 4; at < LIST_HEADS * VALUE_DIM; at += TEAM_THREADS * 4) {
        u32 head = at / VALUE_DIM;
        float4 v = *(const float4 *)(triples + at);
        float sum = fold_step(triples, 0, head)->sum;
#pragma unroll 4
        for (u32 k = 1; k < n; k++) {
            FoldStep f = *fold_step(triples, k, head);
            float4 o = *(const float4 *)(triples + k * TRIPLE_FLOATS + at);
            v = {fma_f32(v.x, f.keep, o.x * f.add), fma_f32(v.y, f.keep, o.y * f.add),
                 fma_f32(v.z, f.keep, o.z * f.add), fma_f32(v.w, f.keep, o.w * f.add)};
            sum = fma_f32(sum, f.keep, f.sum);
        }
        *(float4 *)(triples + at) = v;
        if (at % VALUE_DIM == 0) triple_tops(triples)[head].y = sum;
    }
    team_sync();
}

// Asks for bytes [first, first + size) of n triples in memory; all are multiples of 16.
DEVICE void fetch_of_triples(u8 *to, const u8 *from, u32 n, u32 first, u32 size) {
    for (u32 i = team_thread(); i < n * (size / 16); i += TEAM_THREADS) {
        u32 at = i / (size / 16) * (TRIPLE_FLOATS * 4) + first + i % (size / 16) * 16;
        copy_async_16(to + at, from + at);
    }
    copy_async_commit();
}

// The same as fold_stored, of all of the team's dims. Steps are found while the triples' values come.
DEVICE void fold_in_ring(u8 *shared, const float *from, u32 count, WarpTriple *t) {
    float *triples = (float *)shared;
    for (u32 done = 0; done < count;) {
        u32 kept = done > 0 ? 1 : 0; // the fold so far is the first
        u32 n = MIN(count - done, (u32)FOLD_ROOM - kept);
        const u8 *next = (const u8 *)(from + (u64)done * TRIPLE_FLOATS);
        u8 *to = shared + kept * TRIPLE_FLOATS * 4;
        fetch_of_triples(to, next, n, LIST_HEADS * VALUE_DIM * 4, LIST_HEADS * 8);
        fetch_of_triples(to, next, n, 0, LIST_HEADS * VALUE_DIM * 4);
        copy_async_wait<1>();
        team_sync();
        for (u32 head = team_warp(); head < LIST_HEADS; head += TEAM_WARPS) {
            find_fold_steps(triples, kept + n, head);
        }
        copy_async_wait<0>();
        team_sync();
        fold_triples(triples, kept + n);
        done += n;
    }
    load_triple<WARP_DIMS, true>(triples, t, team_warp());
}

#ifdef HEAD_GATES
// What a prompt's attention leaves attention_gate.cuh.
DEVICE float rounded_f16(float v) {
    return f16_to_f32(f32_to_f16(v));
}
#endif

// The row's result, of the dims that the lane has. HEAD_GATES: times the gates.
template <u32 n>
DEVICE void store_result(const BatchAttentionArgs &a, const ListPlace &p, Triple<n> *t, u32 first,
                         bool rehearses = false) {
    u32 first_head = not_before(list_first_head(p)), n_heads = list_n_heads(p);
    float inverse[2];
#pragma unroll
    for (u32 i = 0; i < 2; i++) {
#ifdef HAS_SINKS
        u32 head = lane_index() / 4 + i * 8;
        if (head < n_heads) triple_add_sink(t, i, a.sinks[first_head + head]);
#endif
        inverse[i] = reciprocal_fast(t->sum[i]);
    }
#ifdef HEAD_GATES
    // All at once, since each is as far away as all of them. raw: [row][heads, gates][HEAD_DIM]
    const float *gates = a.raw + ((u64)p.row * ROW_HEADS + TURNED_HEADS + first_head) * HEAD_DIM;
    float2 gate[2][n];
    for_each_pair<n>(first, [&](u32 i, u32 head, u32 j, u32 dim) {
        const float *from = gates + head * HEAD_DIM + value_part(p) * VALUE_DIM + dim;
        if (head < n_heads) gate[i][j] = load_shared_data((const float2 *)from);
    });
#endif
    for_each_pair<n>(first, [&](u32 i, u32 head, u32 j, u32 dim) {
        if (head >= n_heads || rehearses) return;
        float x = attended(t->out[j][2 * i], inverse[i]), y = attended(t->out[j][2 * i + 1], inverse[i]);
#ifdef HEAD_GATES
        x = gated(gate[i][j].x, rounded_f16(x)), y = gated(gate[i][j].y, rounded_f16(y));
#endif
        u32 col = (first_head + head) * HEAD_DIM + value_part(p) * VALUE_DIM + dim;
        activation_store_2(a.out, p.row, col, x, y);
    });
}
