// Which experts a block of the experts' products multiplies with what. Comes after the product's body and
// (few rows) expert_choice.cuh.
//
// Few rows: every block makes the choice itself, which is cheaper than to be told. Many rows: it is in the
// table of tiles (group_experts.cuh).
//
// Defines: experts_units.cuh's.

#if defined(EXPERTS_EIGHTS)
// Of the block's tiles: in shared memory.
struct TouchedTile {
    u32 expert, rows;
};
struct TouchedExperts {
    const TouchedTile *tile;
    u32 first, n_tiles;
    DEVICE u32 units() const {
        return n_tiles * EXPERT_UNITS;
    }
    DEVICE u32 expert(u32 number) const {
        return tile[number - first].expert;
    }
    DEVICE u32 rows(u32 number) const {
        return tile[number - first].rows;
    }
};

enum : u32 { TOUCHED_BYTES = INPUTS * sizeof(TouchedTile) };

// All warps; the block must meet before tiles are asked for. Tile k has the slots from 8 k on.
DEVICE TouchedExperts touched_tiles(const ExpertTile *tiles, const u32 *n_tiles, u32 block, u8 *shared) {
    TouchedExperts t = {(TouchedTile *)shared, 0, load_shared_data(n_tiles)};
    t.first = block_units(block, t.units()).first / EXPERT_UNITS;
    u32 i = thread_index();
    if (i < INPUTS && t.first + i < t.n_tiles) {
        uint4 v = load_shared_data((const uint4 *)(tiles + t.first + i)); // ExpertTile
        ((TouchedTile *)shared)[i] = {v.x, MIN(v.z - v.y, 8u)};
    }
    return t;
}
#elif defined(EXPERTS_MANY)
// Units are all experts' bands.
struct TouchedExperts {
    const ExpertTile *tiles;
    const u32 *n_tiles;
    DEVICE u32 units() const {
        return UNITS;
    }
    DEVICE u32 expert(u32 touched) const {
        return touched;
    }
};
#elif MAX_ROWS == 1
// A row's chosen experts, in their order.
struct TouchedExperts {
    const ExpertChoice *chosen;
    DEVICE u32 units() const {
        return UNITS;
    }
    DEVICE u32 n() const {
        return ROW_EXPERTS;
    }
    DEVICE u32 expert(u32 touched) const {
        return chosen[touched].expert;
    }
    // Which of the row's choices the touched expert is; N_USED and more: none.
    DEVICE u32 choice(u32 touched, u32) const {
        return touched;
    }
    DEVICE float weight(u32, u32 i) const {
        return chosen[i].weight;
    }
};

struct TouchedShared {
#if HAS_BULK
    BulkBarrier is_there;
#endif
    ExpertChoice chosen[N_USED];
};
enum : u32 { TOUCHED_BYTES = sizeof(TouchedShared) };

// Before the others; the block meets in between.
DEVICE void touched_clear(u8 *shared) {
#if HAS_BULK
    if (thread_index() > 0) return;
    bulk_barrier_init(&((TouchedShared *)shared)->is_there, 1);
    bulk_barrier_init_fence();
#endif
    (void)shared;
}

// The warp FETCHER tells the block what it has chosen.
DEVICE void touched_tell(const ExpertChoice &c, u8 *shared) {
    TouchedShared *t = (TouchedShared *)shared;
    if (warp_index() != FETCHER) return;
    if (lane_index() < N_USED) t->chosen[lane_index()] = c;
#if HAS_BULK
    warp_sync();
    if (lane_index() == 0) bulk_barrier_arrive(&t->is_there);
#endif
}
DEVICE TouchedExperts touched_told(u8 *shared) {
    TouchedShared *t = (TouchedShared *)shared;
#if HAS_BULK
    bulk_barrier_wait(&t->is_there, 0);
#else
    block_sync();
#endif
    return {t->chosen};
}

// All warps of the block; one chooses for all.
DEVICE TouchedExperts touched_experts(const RouterLogits &logits, u32, u8 *shared) {
    if (warp_index() == FETCHER) touched_tell(choose_experts_of(logits), shared);
    return touched_told(shared);
}
#else
struct TouchedShared {
    u8 choice[N_EXPERTS][8]; // of each row: 1 + which of its choices the expert is; 0: none
    float weight[MAX_ROWS][N_USED];
    u32 expert[TOUCHED_MAX];
};

struct TouchedExperts {
    const TouchedShared *shared;
    u32 count;
    DEVICE u32 units() const {
        return count * EXPERT_UNITS;
    }
    DEVICE u32 n() const {
        return count;
    }
    DEVICE u32 expert(u32 touched) const {
        return shared->expert[touched];
    }
    DEVICE u32 choice(u32 touched, u32 row) const {
        return shared->choice[expert(touched)][row] - 1u;
    }
    DEVICE float weight(u32 row, u32 i) const {
        return shared->weight[row][i];
    }
};

enum : u32 { TOUCHED_BYTES = sizeof(TouchedShared) };

// Before touched_experts; the block meets in between.
DEVICE void touched_clear(u8 *shared) {
    u64 *choice = (u64 *)((TouchedShared *)shared)->choice;
    for (u32 e = thread_index(); e < N_EXPERTS; e += PRODUCT_THREADS) {
        choice[e] = 0;
    }
}

// All warps of the block.
DEVICE TouchedExperts touched_experts(const RouterLogits &logits, u32 n_rows, u8 *shared) {
    TouchedShared *t = (TouchedShared *)shared;
    for (u32 row = warp_index(); row < n_rows; row += PRODUCT_THREADS / WARP) {
        ExpertChoice c = choose_experts_of(logits.row(row));
        if (lane_index() < N_USED) {
            t->choice[c.expert][row] = (u8)(lane_index() + 1);
            t->weight[row][lane_index()] = c.weight;
        }
    }
    block_sync();
    u32 count = 0; // every warp counts; the first one writes the list
#pragma unroll 1
    for (u32 first = 0; first < N_EXPERTS; first += WARP) {
        u32 e = first + lane_index();
        bool touched = e < N_EXPERTS && *(const u64 *)t->choice[e] != 0;
        u32 lanes = ballot_lanes(touched), before = count_ones(lanes & ((1u << lane_index()) - 1));
        if (touched && warp_index() == 0) t->expert[count + before] = e;
        count += count_ones(lanes);
    }
    block_sync();
    return {t, count};
}
#endif

// The bands of the touched experts' matrices, which lie one after the other.
template <class Touched> struct BandsOfExperts {
    const u8 *weight[UNIT_BANDS];
    Touched touched;
#ifdef SHARED_ROWS
    const u8 *shared[UNIT_BANDS];
#endif
    DEVICE u32 units() const {
        return touched.units();
    }
#ifdef TABLE_UNITS
    DEVICE u32 row_tiles() const {
        return load_shared_data(touched.n_tiles);
    }
    DEVICE RowTile row_tile(u32 number) const {
        uint4 v = load_shared_data((const uint4 *)(touched.tiles + number)); // ExpertTile
        return {v.x * EXPERT_UNITS, v.y, v.z - v.y};
    }
#endif
    DEVICE u32 format(u32, u32 b) const {
        return b;
    }
    template <int format> DEVICE const u8 *matrix(u32 unit, u32 b) const {
#ifdef SHARED_ROWS
        if (unit_is_shared(unit)) return shared[b];
#endif
        return weight[b] +
               touched.expert(unit / EXPERT_UNITS) * layout_matrix_bytes(format, EXPERT_ROWS, N_COLS);
    }
    // Of the unit's matrices.
    DEVICE static u32 rows_of(u32 unit) {
#ifdef SHARED_ROWS
        if (unit_is_shared(unit)) return SHARED_ROWS;
#endif
        (void)unit;
        return EXPERT_ROWS;
    }
    DEVICE const u8 *tiles(u32 unit, u32 b) const {
        if (b == 0) return band_tiles<FORMAT_0>(matrix<FORMAT_0>(unit, 0), unit_band(unit));
        return band_tiles<FORMAT_1>(matrix<FORMAT_1>(unit, UNIT_BANDS - 1), unit_band(unit));
    }
    DEVICE const float *factors(u32 unit, u32 b) const {
        if (b == 0) return band_factors<FORMAT_0>(matrix<FORMAT_0>(unit, 0), rows_of(unit), unit_band(unit));
        return band_factors<FORMAT_1>(matrix<FORMAT_1>(unit, UNIT_BANDS - 1), rows_of(unit), unit_band(unit));
    }
};
typedef BandsOfExperts<TouchedExperts> ExpertsBands;

template <class Touched>
DEVICE BandsOfExperts<Touched> bands_of_experts(const ExpertsArgs &a, const Touched &touched) {
    BandsOfExperts<Touched> bands;
    bands.touched = touched;
#pragma unroll
    for (u32 b = 0; b < UNIT_BANDS; b++) {
        bands.weight[b] = a.product.weight[b];
#ifdef SHARED_ROWS
        bands.shared[b] = a.shared[b];
#endif
    }
    return bands;
}

#if defined(STAGE_EXPERTS_GLU) && !defined(EXPERTS_MANY)
#if MAX_ROWS == 1
// Before the choice, in its place: the touched expert number i is expert i.
struct AssumedExperts {
    DEVICE u32 units() const {
        return UNITS;
    }
    DEVICE u32 expert(u32 touched) const {
        return touched;
    }
};

// What was planned with AssumedExperts, when the choice is there. Lane i has the i-th expert. (A shared
// expert's units, which were planned as they are, have no part in it.)
DEVICE void plan_of_chosen(u32 chosen, Product *p) {
#if HAS_BULK
    WarpBand w = warp_band(p->units, 0, lane_index());
    u32 touched = w.unit / EXPERT_UNITS, expert = shuffle(chosen, MIN(touched, N_USED - 1u));
    if (!w.any) return;
    u64 bytes = w.b == 0 ? layout_matrix_bytes(FORMAT_0, EXPERT_ROWS, N_COLS)
                         : layout_matrix_bytes(FORMAT_1, EXPERT_ROWS, N_COLS);
    p->first.from += expert * bytes - touched * bytes;
#else
    (void)chosen, (void)p;
#endif
}

// After the wait: each warp that fetches chooses for itself and has its plan then; the others hear of it.
DEVICE TouchedExperts touched_early(const RouterLogits &logits, u8 *shared, Product *p) {
    if (warp_index() >= FETCHER) {
        ExpertChoice c = choose_experts_of(logits);
        plan_of_chosen(c.expert, p);
        touched_tell(c, shared);
        if (PASSES == 1 && !product_multiplies()) return {}; // has all of its plan
    }
    return touched_told(shared);
}
#endif
#endif
