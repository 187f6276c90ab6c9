// The norm before the experts, and the router, of a batch's rows.
//
//     normed[row] = norm of x[row]                     as of norm_rows.cuh, to the same bits
//     logits[row] = W norm(x[row]) + b
//     choice[row] = the N_USED chosen and their weights (expert_choice.cuh): many rows alone
//
// ROUTE_OTHER_NORM: `normed` is the norm by other weights.
// POST_INPUT (one row): x is first x_out = x + norm(post), times *post_scale with POST_SCALE, as in
// product_few.cuh.
// ROUTE_SHARE: share[row] = sigmoid(w norm(x[row])), of a shared expert: one row more behind the router's.
//
// Operations: RMS_NORM, MATMUL (of the router), ROUTE. Float32 throughout, since a rounded logit could choose
// another expert. A block has a run of ROUTE_ROWS rows and a part of the experts: the fewer rows there are,
// the more blocks share the experts, about ROUTE_SPREAD in all. A warp has 512 columns of all the block's
// rows; the experts go past it in groups, the first of which is fetched before the wait. Of prompts groups
// may come through a ring in shared memory, a few ahead. (A lane reads what it has copied itself, so nobody
// meets.) Each block stores a part of its rows' norms. The last block of a run of rows to have its logits
// chooses.
//
// Order of the sums, whatever the grid: a lane's 16 of 512 columns, ascending, of (x w_norm) w; lanes 16
// apart, 8, 4, 2, 1; the runs of 512 columns in their order. Then fma(sum, the norm's factor, bias).
// Defines: D_MODEL, MAX_ROWS, NORM_EPS (rows.cuh), N_EXPERTS, N_USED (expert_choice.cuh), ROUTE_ROWS (1, 2, 4
// or 8), ROUTE_GROUP (experts at once: 1, 2 or 4; 200 registers a thread with 8 rows and 2, with 4 and 4),
// ROUTE_SPREAD; ROUTE_SLOTS (of the ring, 2 or more; none: groups come to registers), ROUTE_CHOOSES,
// ROUTE_OTHER_NORM, ROUTE_SHARE, POST_INPUT with POST_EPS, POST_SCALE.
#if !defined(D_MODEL) || !defined(MAX_ROWS) || !defined(NORM_EPS) || !defined(ROUTE_ROWS) || \
    !defined(ROUTE_GROUP) || !defined(ROUTE_SPREAD) || D_MODEL % 4
#error "D_MODEL, MAX_ROWS, NORM_EPS, ROUTE_ROWS, ROUTE_GROUP, ROUTE_SPREAD"
#endif

#ifndef ROUTE_SLOTS
#define ROUTE_SLOTS 0
#endif

#ifdef ROUTE_SHARE
#define ROUTE_OUTPUTS (N_EXPERTS + 1u) // rows of weights; below they all count as experts
#else
#define ROUTE_OUTPUTS N_EXPERTS
#endif

// Of a block where there are so many runs of rows: whole groups.
DEVICE constexpr u32 route_experts(u32 runs) {
    return ROUND_UP(CEIL_DIV(ROUTE_OUTPUTS, MAX(ROUTE_SPREAD / runs, 1u)), (u32)ROUTE_GROUP);
}

enum : u32 {
    ROUTE_PIECES = 2, // of the norm's 256 columns that a warp has
    ROUTE_WARPS = CEIL_DIV(D_MODEL, NORM_PIECE *ROUTE_PIECES),
    ROUTE_THREADS = ROUTE_WARPS * 32,
    ROUTE_SUMS = ROUTE_GROUP * ROUTE_ROWS,
    ROUTE_RUNS = CEIL_DIV(MAX_ROWS, ROUTE_ROWS), // of rows, at most
    ROUTE_EXPERTS = route_experts(ROUTE_RUNS),   // of a block, at most
    ROUTE_BLOCKS = MAX((u32)ROUTE_SPREAD, (u32)ROUTE_RUNS),
    // Shared memory: squares [ROUTE_ROWS][SQUARES_STRIDE], sums [ROUTE_WARPS][ROUTE_EXPERTS][ROUTE_ROWS]
    SQUARES = CEIL_DIV(D_MODEL, NORM_PIECE),
    SQUARES_STRIDE = SQUARES | 1, // against bank conflicts
    ROUTE_SUMS_AT = ROUTE_ROWS * SQUARES_STRIDE,
    ROUTE_LAST_AT = ROUTE_SUMS_AT + ROUTE_WARPS * ROUTE_EXPERTS * ROUTE_ROWS,
    // Groups on their way: [experts][units of a lane][thread]float4 each.
    ROUTE_UNITS = ROUTE_PIECES * 2,
    ROUTE_RING_AT = ROUND_UP((ROUTE_LAST_AT + 1) * 4, 16u),
    ROUTE_SLOT_BYTES = ROUTE_GROUP * ROUTE_UNITS * ROUTE_THREADS * 16,
    ROUTE_SHARED_BYTES = ROUTE_RING_AT + ROUTE_SLOTS * ROUTE_SLOT_BYTES,
    ROUTE_PER_SM = ROUTE_SLOTS > 0 ? 2 : 1, // with 168 registers a thread of up to 192
};
static_assert((ROUTE_ROWS & (ROUTE_ROWS - 1)) == 0 && ROUTE_ROWS <= 8, "sums_of_lanes takes powers of two");
static_assert((ROUTE_GROUP & (ROUTE_GROUP - 1)) == 0 && ROUTE_GROUP <= 4, "a group is 1, 2 or 4 experts");

// A lane's 16 columns of a row.
struct RouteLane {
    NormPiece piece[ROUTE_PIECES];
};

// What a block has.
struct RouteShare {
    u32 run, first_row, n_rows; // n_rows: of the batch
    u32 part, parts;            // of the experts; blocks of the run
    u32 first, n;               // experts, of which those past the last are not there
};
DEVICE RouteShare route_share(u32 block, u32 n_rows) {
    u32 runs = MAX_ROWS <= ROUTE_ROWS ? 1 : MAX(CEIL_DIV(n_rows, (u32)ROUTE_ROWS), 1u);
    u32 n = route_experts(runs), parts = CEIL_DIV(ROUTE_OUTPUTS, n), run = block / parts,
        part = block % parts;
    return {run, run * ROUTE_ROWS, n_rows, part, parts, part * n, n};
}

struct RouteState {
    RouteShare share;
    RouteLane norm, weight[ROUTE_GROUP]; // the norm's, and the first group's
    float bias;                          // of the logit that the thread stores
#ifdef POST_INPUT
    RouteLane post; // the other norm's
    float post_scale;
#endif
};

// The warp's sums of n values (a power of two, at most 32): lane i gets value i * n / 32. (By recursion: a
// loop was not unrolled for every n.)
template <u32 n, u32 distance = 16> DEVICE float sums_of_lanes(float *v) {
    if constexpr (n == 1) {
        v[0] += shuffle_xor(v[0], distance);
    } else {
        bool upper = lane_index() & distance;
#pragma unroll
        for (u32 i = 0; i < n / 2; i++) {
            float keep = upper ? v[i + n / 2] : v[i], give = upper ? v[i] : v[i + n / 2];
            v[i] = keep + shuffle_xor(give, distance);
        }
    }
    if constexpr (distance == 1) return v[0];
    else return sums_of_lanes<(n > 1 ? n / 2 : 1), distance / 2>(v);
}

DEVICE RouteLane route_load_weight(const float *row) {
    RouteLane l;
#pragma unroll
    for (u32 p = 0; p < ROUTE_PIECES; p++) {
        l.piece[p] = norm_load_weight<D_MODEL>(row, warp_index() * ROUTE_PIECES + p);
    }
    return l;
}

// An expert's weights; those of the last one for experts past it.
DEVICE const float *route_weight_of(const RouteRowsArgs &a, u32 expert) {
#ifdef ROUTE_SHARE
    if (expert >= N_EXPERTS) return a.share_weight;
#endif
    return a.weight + (u64)MIN(expert, N_EXPERTS - 1u) * D_MODEL;
}

// Rows past the batch's are zeros.
DEVICE void route_load_rows(const RouteRowsArgs &a, u32 first_row, u32 n_rows, RouteLane x[ROUTE_ROWS]) {
#pragma unroll
    for (u32 r = 0; r < ROUTE_ROWS; r++) {
#pragma unroll
        for (u32 p = 0; p < ROUTE_PIECES; p++) {
            x[r].piece[p] = {};
            if (first_row + r >= n_rows) continue;
            x[r].piece[p] =
                norm_load<D_MODEL>(a.x + (u64)(first_row + r) * D_MODEL, warp_index() * ROUTE_PIECES + p);
        }
    }
}

// Each piece's squares into shared memory.
DEVICE void route_square(const RouteLane x[ROUTE_ROWS], float *shared) {
    float squares[ROUTE_ROWS * ROUTE_PIECES];
#pragma unroll
    for (u32 i = 0; i < ROUTE_ROWS * ROUTE_PIECES; i++) {
        squares[i] = norm_lane_squares(x[i / ROUTE_PIECES].piece[i % ROUTE_PIECES]);
    }
    float sum = sums_of_lanes<ROUTE_ROWS * ROUTE_PIECES>(squares);
    const u32 lanes = WARP / (ROUTE_ROWS * ROUTE_PIECES); // that have the same value
    u32 i = lane_index() / lanes, piece = warp_index() * ROUTE_PIECES + i % ROUTE_PIECES;
    if (lane_index() % lanes == 0 && piece < SQUARES) {
        shared[i / ROUTE_PIECES * SQUARES_STRIDE + piece] = sum;
    }
}

// The products of the group that begins at the block's expert `first`, of the warp's columns, into shared
// memory. `x` is times the norm's weights; weight(e, i): the lane's unit i of expert e.
template <class Weight>
DEVICE void route_multiply(const RouteLane x[ROUTE_ROWS], u32 first, float *shared, Weight weight) {
    float sums[ROUTE_SUMS] = {};
#pragma unroll
    for (u32 i = 0; i < ROUTE_UNITS; i++) {
#pragma unroll
        for (u32 k = 0; k < ROUTE_SUMS; k++) {
            float4 w = weight(k / ROUTE_ROWS, i);
            float4 v = x[k % ROUTE_ROWS].piece[i / 2].v[i % 2];
            sums[k] = fma_f32(v.w, w.w, fma_f32(v.z, w.z, fma_f32(v.y, w.y, fma_f32(v.x, w.x, sums[k]))));
        }
    }
    float sum = sums_of_lanes<ROUTE_SUMS>(sums);
    const u32 lanes = WARP / ROUTE_SUMS;
    float *to = shared + ROUTE_SUMS_AT + (warp_index() * ROUTE_EXPERTS + first) * ROUTE_ROWS;
    if (lane_index() % lanes == 0) to[lane_index() / lanes] = sum;
}

DEVICE float4 multiply_4(float4 a, float4 b) {
    return {a.x * b.x, a.y * b.y, a.z * b.z, a.w * b.w};
}

// `scaled`: x times the norm's weights.
DEVICE void route_scale(const RouteLane x[ROUTE_ROWS], const RouteLane &norm, RouteLane scaled[ROUTE_ROWS]) {
#pragma unroll
    for (u32 i = 0; i < ROUTE_ROWS * ROUTE_PIECES * 2; i++) {
        u32 r = i / (ROUTE_PIECES * 2), p = i / 2 % ROUTE_PIECES;
        scaled[r].piece[p].v[i % 2] = multiply_4(x[r].piece[p].v[i % 2], norm.piece[p].v[i % 2]);
    }
}

// The norms' factors: lane r has that of row r, lanes past the last row the last one's.
DEVICE float route_factor(const float *shared, float eps = NORM_EPS) {
    const float *squares = shared + MIN(lane_index(), ROUTE_ROWS - 1u) * SQUARES_STRIDE;
    float total = squares[0];
#pragma unroll
    for (u32 i = 1; i < SQUARES; i++) {
        total += squares[i];
    }
    return norm_factor<D_MODEL>(total, eps);
}

// The block's share of its rows' norms: every `parts`-th run of four columns.
DEVICE void route_store_norms(const RouteRowsArgs &a, const RouteShare &share, const RouteLane x[ROUTE_ROWS],
                              const RouteLane &norm, float factor) {
#pragma unroll
    for (u32 i = 0; i < ROUTE_PIECES * 2; i++) {
        u32 col = norm_col<D_MODEL>(warp_index() * ROUTE_PIECES + i / 2, i % 2);
        bool mine = col < D_MODEL && col / 4 % share.parts == share.part;
#pragma unroll
        for (u32 r = 0; r < ROUTE_ROWS; r++) {
            float f = shuffle(factor, r);
            if (!mine || share.first_row + r >= share.n_rows) continue;
            float4 v = norm_value(x[r].piece[i / 2].v[i % 2], f, norm.piece[i / 2].v[i % 2], {0, 0, 0, 0});
            activation_store_4(a.normed, share.first_row + r, col, v);
        }
    }
}

// The bias of the logit that is number i of the block's.
DEVICE float route_bias(const RouteRowsArgs &a, const RouteShare &share, u32 i) {
    u32 expert = share.first + i / ROUTE_ROWS;
    return a.bias != 0 && i < share.n * ROUTE_ROWS && expert < N_EXPERTS ? a.bias[expert] : 0.0f;
}

DEVICE void route_store_logits(const RouteRowsArgs &a, const RouteState &s, float factor,
                               const float *shared) {
    const RouteShare &share = s.share;
    u32 n = share.n * ROUTE_ROWS;
#pragma unroll 1
    for (u32 from = warp_index() * WARP; from < n; from += ROUTE_THREADS) { // whole warps, for the shuffle
        u32 i = MIN(from + lane_index(), n - 1), r = i % ROUTE_ROWS, expert = share.first + i / ROUTE_ROWS;
        u32 row = share.first_row + r;
        float f = shuffle(factor, r), sum = shared[ROUTE_SUMS_AT + i];
#pragma unroll
        for (u32 w = 1; w < ROUTE_WARPS; w++) {
            sum += shared[ROUTE_SUMS_AT + w * (ROUTE_ROWS * ROUTE_EXPERTS) + i];
        }
        if (from + lane_index() >= n || expert >= ROUTE_OUTPUTS || row >= share.n_rows) continue;
#ifdef ROUTE_SHARE
        if (expert == N_EXPERTS) {
            a.share[row] = reciprocal_fast(1.0f + exp2_fast(-1.44269504089f * (sum * f)));
            continue;
        }
#endif
        float bias = from < ROUTE_THREADS ? s.bias : route_bias(a, share, i);
        a.logits[row * N_EXPERTS + expert] = fma_f32(sum, f, bias);
    }
}

#ifdef ROUTE_CHOOSES
// The block that comes last chooses for the rows.
DEVICE void route_choose(const RouteRowsArgs &a, const RouteShare &share, float *shared) {
    if (share.parts > 1) {
        if (!is_last_arrival(a.meetings + share.run, 1, share.parts, (u32 *)shared + ROUTE_LAST_AT)) return;
    } else {
        block_sync();
    }
    for (u32 r = warp_index(); r < ROUTE_ROWS && share.first_row + r < share.n_rows; r += ROUTE_WARPS) {
        u32 row = share.first_row + r;
        ExpertChoice c = choose_experts_of({a.logits + row * N_EXPERTS, a.select, a.scales});
        if (lane_index() < N_USED) a.choice[row * N_USED + lane_index()] = {c.expert, c.weight};
    }
}
#endif

#if ROUTE_SLOTS > 0
// The place of the lane's unit i of a slot's expert e.
DEVICE float4 *route_unit(float *shared, u32 slot, u32 e, u32 i) {
    u8 *ring = (u8 *)shared + ROUTE_RING_AT + slot * ROUTE_SLOT_BYTES;
    return (float4 *)ring + (e * ROUTE_UNITS + i) * ROUTE_THREADS + thread_index();
}

// Asks for the block's group number n, if there is one: a group of copies.
DEVICE void route_fetch_group(const RouteRowsArgs &a, const RouteShare &share, u32 n, float *shared) {
    if (n * ROUTE_GROUP < share.n) {
#pragma unroll
        for (u32 e = 0; e < ROUTE_GROUP; e++) {
            const float *of = route_weight_of(a, share.first + n * ROUTE_GROUP + e);
#pragma unroll
            for (u32 i = 0; i < ROUTE_UNITS; i++) {
                u32 col = norm_col<D_MODEL>(warp_index() * ROUTE_PIECES + i / 2, i % 2);
                float4 *to = route_unit(shared, n % ROUTE_SLOTS, e, i);
                if (col < D_MODEL) copy_async_16(to, of + col);
                else *to = {0, 0, 0, 0};
            }
        }
    }
    copy_async_commit();
}

DEVICE void route_fetch_first(const RouteRowsArgs &a, float *shared, RouteState *s) {
    if (s->share.first_row >= s->share.n_rows) return;
    for (u32 n = 0; n < ROUTE_SLOTS - 1; n++) {
        route_fetch_group(a, s->share, n, shared);
    }
}
// The products of all groups, of the warp's columns.
DEVICE void route_multiply_all(const RouteRowsArgs &a, const RouteState &s, const RouteLane x[ROUTE_ROWS],
                               float *shared) {
#pragma unroll 1
    for (u32 n = 0; n * ROUTE_GROUP < s.share.n; n++) {
        copy_async_wait<ROUTE_SLOTS - 2>();
        route_fetch_group(a, s.share, n + ROUTE_SLOTS - 1, shared); // to the slot of the one before
        route_multiply(x, n * ROUTE_GROUP, shared,
                       [&](u32 e, u32 i) { return *route_unit(shared, n % ROUTE_SLOTS, e, i); });
    }
}
#else
DEVICE void route_load_group(const RouteRowsArgs &a, u32 first, RouteLane weight[ROUTE_GROUP]) {
#pragma unroll
    for (u32 e = 0; e < ROUTE_GROUP; e++) {
        weight[e] = route_load_weight(route_weight_of(a, first + e));
    }
}
DEVICE void route_multiply_group(const RouteLane x[ROUTE_ROWS], u32 first, float *shared,
                                 const RouteLane weight[ROUTE_GROUP]) {
    route_multiply(x, first, shared, [&](u32 e, u32 i) { return weight[e].piece[i / 2].v[i % 2]; });
}

DEVICE void route_fetch_first(const RouteRowsArgs &a, float *, RouteState *s) {
    route_load_group(a, s->share.first, s->weight);
}
DEVICE void route_multiply_all(const RouteRowsArgs &a, const RouteState &s, const RouteLane x[ROUTE_ROWS],
                               float *shared) {
    route_multiply_group(x, 0, shared, s.weight);
#pragma unroll 1
    for (u32 first = ROUTE_GROUP; ROUTE_EXPERTS > ROUTE_GROUP && first < s.share.n; first += ROUTE_GROUP) {
        RouteLane weight[ROUTE_GROUP];
        route_load_group(a, s.share.first + first, weight);
        route_multiply_group(x, first, shared, weight);
    }
}
#endif

// Before the wait. How many rows there are is known: the host wrote it.
DEVICE void route_prepare(const RouteRowsArgs &a, float *shared, RouteState *s) {
    s->share = route_share(block_index(), MAX_ROWS == 1 ? 1 : load_shared_data(&a.batch->n_rows));
    s->norm = route_load_weight(a.norm);
    route_fetch_first(a, shared, s);
    s->bias = route_bias(a, s->share, thread_index());
#ifdef POST_INPUT
    s->post = route_load_weight(a.post_norm);
    s->post_scale = 1;
#ifdef POST_SCALE
    s->post_scale = *a.post_scale;
#endif
#endif
}

#ifdef POST_INPUT
static_assert(MAX_ROWS == 1, "the norm of one row's output");

// The row as it is with the norm of the output before.
DEVICE void route_post(const RouteRowsArgs &a, const RouteState &s, float *shared, RouteLane *x) {
    RouteLane post[1];
#pragma unroll
    for (u32 p = 0; p < ROUTE_PIECES; p++) {
        post[0].piece[p] = norm_load<D_MODEL>(a.post, warp_index() * ROUTE_PIECES + p);
    }
    route_square(post, shared);
    block_sync();
    float factor = route_factor(shared, POST_EPS);
    block_sync(); // all have read the squares
#pragma unroll
    for (u32 i = 0; i < ROUTE_PIECES * 2; i++) {
        u32 p = i / 2, k = i % 2, col = norm_col<D_MODEL>(warp_index() * ROUTE_PIECES + p, k);
        float4 v = norm_add(x->piece[p].v[k], post[0].piece[p].v[k], factor, s.post.piece[p].v[k]);
#ifdef POST_SCALE
        v = {v.x * s.post_scale, v.y * s.post_scale, v.z * s.post_scale, v.w * s.post_scale};
#endif
        x->piece[p].v[k] = v;
        if (s.share.part == 0 && col < D_MODEL) *(float4 *)(a.x_out + col) = v;
    }
}
#endif

DEVICE void route_run(const RouteRowsArgs &a, float *shared, const RouteState &s) {
    const RouteShare &share = s.share;
    if (share.first_row >= share.n_rows) return;
    RouteLane x[ROUTE_ROWS], scaled[ROUTE_ROWS];
    route_load_rows(a, share.first_row, share.n_rows, x);
#ifdef POST_INPUT
    route_post(a, s, shared, x);
    RouteLane kept = x[0]; // a.x does not have it yet
#endif
    route_square(x, shared);
    route_scale(x, s.norm, scaled);
    route_multiply_all(a, s, scaled, shared);
    block_sync();
    float factor = route_factor(shared);
    route_store_logits(a, s, factor, shared);
#ifdef POST_INPUT
    x[0] = kept;
#else
    // With one group the rows stay in registers; with more there is no room for both.
    if (ROUTE_EXPERTS > ROUTE_GROUP) route_load_rows(a, share.first_row, share.n_rows, x);
#endif
#ifdef ROUTE_OTHER_NORM
    route_store_norms(a, share, x, route_load_weight(a.other_norm), factor);
#else
    // (Beside many rows' products there are no registers for it.)
    route_store_norms(a, share, x, ROUTE_SLOTS > 0 ? route_load_weight(a.norm) : s.norm, factor);
#endif
#ifdef ROUTE_CHOOSES
    route_choose(a, share, shared);
#endif
}

EXPORTED StageInfo route_info = {ROUTE_THREADS, {ROUTE_BLOCKS, 1}, ROUTE_SHARED_BYTES};

KERNEL(ROUTE_THREADS, ROUTE_PER_SM) route(RouteRowsArgs a) {
    RouteState s;
    float *shared = (float *)shared_memory();
    stage_launch_next();
    route_prepare(a, shared, &s);
    stage_wait();
    route_run(a, shared, s);
}
