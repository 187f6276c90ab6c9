// Attention with a compressed cache: a head's part of the latent vectors becomes its output.
//
//     out[row][head] = W[head] latent[row][head]    W [PRODUCT_ROWS][PRODUCT_COLS = KV_RANK]
//
// f16 in, f16 activations (rows.cuh) of N_HEADS * PRODUCT_ROWS columns out. FOLDS, of few rows: where several
// blocks of mla_attention.cuh have a list of one group, its latent vectors are put together here (a stage of
// its own: 2.1 us of one row, 4.4 of 8).
//
// Operation: HEAD_MATMUL. Grid, order of sums: head_product.cuh, and its defines. FOLDS needs
// mla_triples.cuh, with its defines.
#ifdef FOLDS
static_assert(MAX_ROWS <= 8 && KV_RANK % 128 == 0 && PRODUCT_COLS == KV_RANK, "a warp has 128 columns");

// A lane has the row of its number: the parts of its chunk with the head, 0 of them where the latent
// vector is finished. Known before the stage's wait.
struct RowParts {
    MlaParts of;
    u32 most; // of all rows
};
DEVICE RowParts row_parts(const MlaValuesArgs &a, u32 n_rows, u32 head) {
    RowParts p = {};
    u32 n = row_splits(a.rows, n_rows, lane_index()), up_to = sum_up_to(n);
    u32 per_block = CEIL_DIV(shuffle(up_to, WARP - 1), (u32)MLA_BLOCKS), chunk = head / MLA_QUERIES;
    if (n > 0) {
        MlaList l = mla_list(a.rows, lane_index(), chunk, up_to - n + n / CHUNKS * chunk);
        if (folds_at_once(l) && !is_alone(l, per_block)) p.of = mla_parts(mla_group(l, 0, per_block));
    }
    p.most = p.of.count;
#pragma unroll
    for (u32 m = 16; m > 0; m /= 2) {
        u32 other = shuffle_xor(p.most, m);
        p.most = MAX(p.most, other);
    }
    return p;
}

// Fills the inputs, AT_ONCE units of 128 columns of a row at a time; rows have `most` parts at most.
template <u32 most, u32 at_once>
DEVICE void load_latents(const MlaValuesArgs &a, const HeadTask &t, const RowParts &parts, u8 *shared) {
    enum : u32 { UNITS = KV_RANK / 128 }; // of a row
    for (u32 first = warp_index(); first < t.n * UNITS; first += at_once * HEAD_WARPS) {
        FoldTriple part[at_once][most];
        MlaParts p[at_once];
        uint2 latent[at_once];
#pragma unroll
        for (u32 i = 0; i < at_once; i++) {
            u32 unit = MIN(first + i * HEAD_WARPS, t.n * UNITS - 1), row = unit / UNITS;
            u32 col = unit % UNITS * 128 + lane_index() * 4;
            p[i] = {shuffle(parts.of.at, row), shuffle(parts.of.next, row), shuffle(parts.of.count, row)};
            if (p[i].count > 0) {
                load_parts(a.partial, p[i], t.head % MLA_QUERIES, col, part[i]);
            } else {
                latent[i] = load_shared_data(
                    (const uint2 *)(a.latent + ((u64)row * N_HEADS + t.head) * KV_RANK + col));
            }
        }
#pragma unroll
        for (u32 i = 0; i < at_once; i++) {
            u32 unit = first + i * HEAD_WARPS, row = unit / UNITS;
            u32 col = unit % UNITS * 128 + lane_index() * 4;
            if (unit >= t.n * UNITS) break;
            if (p[i].count > 0) latent[i] = fold_result(fold_parts(p[i], part[i]));
            *head_input(shared, row, col) = latent[i].x;
            *head_input(shared, row, col + 2) = latent[i].y;
        }
    }
}
#endif

DEVICE void mla_values_run(const MlaValuesArgs &a, const HeadTask &t, const BandFactors &ahead, u8 *shared) {
    head_product(a.weight, t, shared, ahead, [&](u32 token, u32 row, float v) {
        a.out[activation_at(t.first + token, t.head * PRODUCT_ROWS + row)] = f32_to_f16(v);
    });
}

EXPORTED StageInfo mla_values_info = {HEAD_THREADS, {HEAD_BLOCKS, 1}, HEAD_SHARED_BYTES};

KERNEL(HEAD_THREADS, 1) mla_values(MlaValuesArgs a) {
    stage_launch_next();
    u32 n_rows = MAX_ROWS == 1 ? 1 : load_shared_data(&a.batch->n_rows);
    u8 *shared = shared_memory();
    BandFactors ahead = head_prepare(a.weight, n_rows, shared);
#ifdef FOLDS
    HeadTask t = head_task(block_index(), n_rows);
    RowParts parts = row_parts(a, n_rows, t.head);
    stage_wait();
    if (block_index() >= head_task_count(n_rows)) return;
    if (parts.most <= 2) load_latents<2, MAX_ROWS == 1 ? 1 : 4>(a, t, parts, shared);
    else load_latents<GROUP_SPLITS, 1>(a, t, parts, shared);
    block_sync();
    mla_values_run(a, t, ahead, shared);
#else
    stage_wait();
    for (u32 i = block_index(); i < head_task_count(n_rows); i += HEAD_BLOCKS) {
        HeadTask t = head_task(i, n_rows);
        const f16 *latent = a.latent + ((u64)t.first * N_HEADS + t.head) * PRODUCT_COLS;
        load_head_inputs(shared, t.n, [&](u32 token, u32 col) {
            return load_shared_data((const u32 *)(latent + (u64)token * N_HEADS * PRODUCT_COLS + col));
        });
        block_sync();
        mla_values_run(a, t, ahead, shared);
        block_sync(); // the inputs have been used
    }
#endif
}
