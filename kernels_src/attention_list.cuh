// Batches: the work of attention.cuh as a list of splits: row by row, of a row list of heads by list
// (attend.cuh), of those split by split. Also counted in groups.
//
// VALUE_PARTS (1 where it is not defined): the values of wide heads are divided by their dims. A list of
// heads is there once for each part: all of its keys are scored, and the values of the part's dims added.
//
// Needs attend.cuh. Defines: attend.cuh's, MAX_ROWS, VALUE_PARTS.
#ifndef MAX_ROWS
#error "MAX_ROWS"
#endif
#ifndef VALUE_PARTS
#define VALUE_PARTS 1
#endif

enum : u32 {
    ROW_LISTS = LISTS * VALUE_PARTS,
    VALUE_DIM = HEAD_DIM / VALUE_PARTS, // of a part
    VALUE_PAIRS = VALUE_DIM / 16,       // of 8 dims each
};

DEVICE u32 first_split(const RowKeys &row) {
    return row.first / SPLIT_KEYS;
}
DEVICE u32 row_end_split(const RowKeys &row) {
    return row.position / SPLIT_KEYS + 1;
}
// Pieces of so many keys (splits, groups) of all lists of a row; 0 past the batch's rows.
template <u32 keys> DEVICE u32 row_pieces(const BatchAttentionArgs &a, u32 n_rows, u32 row) {
    if (row >= n_rows) return 0;
    RowKeys r = row_keys(a.rows[row].position);
    return (r.position / keys + 1 - r.first / keys) * ROW_LISTS;
}

template <u32 keys> DEVICE u32 count_pieces(const BatchAttentionArgs &a, u32 n_rows) {
    if (MAX_ROWS == 1) return row_pieces<keys>(a, 1, 0);
    return pieces_of_rows(n_rows, [&](u32 row) { return row_pieces<keys>(a, n_rows, row); });
}

// Where a team is in the list. All lanes have the same.
struct ListPlace {
    u32 row, list;
    u32 split, end; // of the list
    RowKeys keys;
    u32 base; // the list's first split, in the whole list
};
DEVICE void enter_row(const BatchAttentionArgs &a, ListPlace *p, u32 row) {
    p->row = row;
    p->keys = row_keys(a.rows[row].position);
    p->end = row_end_split(p->keys);
}
// The place of piece `at` of the whole list, in pieces; `at` is below the list's length.
template <u32 keys> DEVICE ListPlace find_place(const BatchAttentionArgs &a, u32 n_rows, u32 at) {
    ListPlace p;
    u32 before; // pieces
    enter_row(a, &p, row_of_piece(at, &before, [&](u32 row) { return row_pieces<keys>(a, n_rows, row); }));
    u32 first = p.keys.first / keys, n = p.keys.position / keys + 1 - first;
    p.end = first + n;
    p.list = (at - before) / n;
    p.base = before + p.list * n;
    p.split = first + at - p.base;
    return p;
}
// To the first split of the next list, of which there is one.
DEVICE void next_list(const BatchAttentionArgs &a, ListPlace *p) {
    p->base += p->end - first_split(p->keys);
    p->list++;
    if (MAX_ROWS > 1 && p->list == ROW_LISTS) {
        p->list = 0;
        enter_row(a, p, p->row + 1);
    }
    p->split = first_split(p->keys);
}

// Of a row's list, cut at groups into n parts: the splits of part i.
struct ListPart {
    u32 first, end;
};
DEVICE ListPart list_part(const RowKeys &row, u32 i, u32 n) {
    u32 first = row.first / ATTENTION_GROUP_KEYS, groups = row.position / ATTENTION_GROUP_KEYS + 1 - first;
    return {MAX((first + groups * i / n) * GROUP_SPLITS, first_split(row)),
            MIN((first + groups * (i + 1) / n) * GROUP_SPLITS, row_end_split(row))};
}
// The most splits of a part: where one part alone has a group more, it is the last.
DEVICE u32 longest_part(const RowKeys &row, u32 n) {
    u32 groups = row.position / ATTENTION_GROUP_KEYS + 1 - row.first / ATTENTION_GROUP_KEYS;
    ListPart last = list_part(row, n - 1, n);
    if (groups % n > 1) return (groups / n + 1) * GROUP_SPLITS;
    return MAX(groups / n * GROUP_SPLITS, last.end - last.first);
}

DEVICE u32 first_tile(const ListPlace &p) {
    return WINDOW > 0 ? MAX(p.split * SPLIT_TILES, p.keys.first / TILE_KEYS) : p.split * SPLIT_TILES;
}
DEVICE u32 end_tile(const ListPlace &p) {
    return MIN((p.split + 1) * SPLIT_TILES, p.keys.position / TILE_KEYS + 1);
}

DEVICE u32 list_kv_head(const ListPlace &p) {
    return list_kv_head(p.list / VALUE_PARTS);
}
DEVICE u32 value_part(const ListPlace &p) {
    return p.list % VALUE_PARTS;
}
// Whether the list is the one that writes the row's entry of its KV head to the cache.
DEVICE bool list_writes(const ListPlace &p) {
    return p.list % (LIST_PARTS * VALUE_PARTS) == 0;
}
DEVICE u32 list_first_head(const ListPlace &p) {
    return list_first_head(p.list / VALUE_PARTS);
}
DEVICE u32 list_n_heads(const ListPlace &p) {
    return list_n_heads(p.list / VALUE_PARTS);
}
