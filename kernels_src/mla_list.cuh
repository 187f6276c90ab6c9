// Attention with a compressed cache, of rows that decode: which block has what, and what blocks leave each
// other. For mla_attention.cuh, mla_fold.cuh and mla_values.cuh.
//
// A row's heads are taken in chunks of MLA_QUERIES; a row's chunk is a list of splits (attend.cuh). All lists
// are one: row by row, of a row chunk by chunk, of a chunk split by split. Each block takes the same number
// of splits, one behind the other. Of a group, what the block has that begins it becomes one triple, and each
// split behind that one.
//
//     partial  [MLA_BLOCKS][GROUP_SPLITS] triples of the group that the block begins and does not end, each
//              in the place of its first split; then [MAX_ROWS][CHUNKS][GROUPS_MAX] of groups that are one
//              block's
//     triple   [CHUNK_HEADS][KV_RANK] values, [CHUNK_HEADS] largest scores, [CHUNK_HEADS] sums (layout.h)
//
// Needs attend.cuh. Defines: attend.cuh's, MAX_ROWS, KV_RANK; MLA_QUERIES (16 or 32); MLA_BLOCKS, those of
// the grid; GROUPS_MAX, of the longest text.
#if !defined(KV_RANK) || !defined(MAX_ROWS) || !defined(MLA_QUERIES) || !defined(MLA_BLOCKS) || \
    !defined(GROUPS_MAX) || MLA_QUERIES % 16
#error "KV_RANK, MAX_ROWS, MLA_QUERIES, MLA_BLOCKS, GROUPS_MAX"
#endif

enum : u32 {
    CHUNK_HEADS = MIN(N_HEADS, MLA_QUERIES),
    CHUNKS = CEIL_DIV(N_HEADS, MLA_QUERIES), // of a row
    TRIPLE_FLOATS = layout_mla_triple_floats(N_HEADS, KV_RANK, MLA_QUERIES),
};

struct MlaList {
    u32 row, chunk;
    u32 position; // of the row
    u32 n;        // splits
    u32 base;     // its first split, in the list of all
};
DEVICE MlaList mla_list(const BatchRow *rows, u32 row, u32 chunk, u32 base) {
    u32 position = rows[row].position;
    return {row, chunk, position, position / SPLIT_KEYS + 1, base};
}
DEVICE u32 list_heads(const MlaList &l) {
    return MIN(N_HEADS - l.chunk * MLA_QUERIES, (u32)CHUNK_HEADS);
}

// Splits of all lists of a row; 0 past the batch's rows.
DEVICE u32 row_splits(const BatchRow *rows, u32 n_rows, u32 row) {
    return row < n_rows ? (rows[row].position / SPLIT_KEYS + 1) * CHUNKS : 0;
}
// Of the rows before this one.
DEVICE u32 splits_before(const BatchRow *rows, u32 row) {
    return pieces_of_rows(row, [&](u32 r) { return row_splits(rows, row, r); });
}
// The list that has split `at` of all; `at` is below their number.
DEVICE MlaList find_list(const BatchRow *rows, u32 n_rows, u32 at) {
    u32 before; // splits
    u32 row = row_of_piece(at, &before, [&](u32 r) { return row_splits(rows, n_rows, r); });
    u32 n = rows[row].position / SPLIT_KEYS + 1, chunk = (at - before) / n;
    return mla_list(rows, row, chunk, before + chunk * n);
}
DEVICE MlaList next_list(const BatchRow *rows, const MlaList &l) {
    bool same_row = l.chunk + 1 < CHUNKS;
    return mla_list(rows, l.row + !same_row, same_row ? l.chunk + 1 : 0, l.base + l.n);
}

// Splits of a block.
DEVICE u32 splits_per_block(const BatchRow *rows, u32 n_rows) {
    return CEIL_DIV(splits_before(rows, n_rows), (u32)MLA_BLOCKS);
}

// A group of a list: its splits, and those of them that the block has which begins it.
struct MlaGroup {
    u32 first, end;
    u32 block, block_end;
    DEVICE bool is_whole() const {
        return block_end == end;
    }
};
DEVICE MlaGroup mla_group(const MlaList &l, u32 number, u32 per_block) {
    u32 first = number * GROUP_SPLITS, end = MIN(first + GROUP_SPLITS, l.n);
    u32 block = (l.base + first) / per_block;
    return {first, end, block, MIN(end, (block + 1) * per_block - l.base)};
}
DEVICE u32 group_count(const MlaList &l) {
    return CEIL_DIV(l.n, (u32)GROUP_SPLITS);
}
// Whether the list's one group is one block's: then it is the result.
DEVICE bool is_alone(const MlaList &l, u32 per_block) {
    return l.n <= GROUP_SPLITS && mla_group(l, 0, per_block).is_whole();
}

// Few rows: a list of one group is put together where it is wanted (mla_values.cuh), not by a stage.
DEVICE bool folds_at_once(const MlaList &l) {
    return MAX_ROWS <= 8 && l.n <= GROUP_SPLITS;
}

// Where triples are.
DEVICE float *split_triple(float *partial, const MlaGroup &g, u32 split) {
    return partial + (u64)(g.block * GROUP_SPLITS + split - g.first) * TRIPLE_FLOATS;
}
DEVICE float *group_triple(float *partial, const MlaList &l, u32 number) {
    u32 list = l.row * CHUNKS + l.chunk;
    return partial + ((u64)MLA_BLOCKS * GROUP_SPLITS + (u64)list * GROUPS_MAX + number) * TRIPLE_FLOATS;
}
