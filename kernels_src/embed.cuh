// The residual stream of a batch's tokens, and the rope tables of their positions (rope.cuh).
//
//     x[row] = W_embed[token of row] * EMBED_SCALE, LEARNED_POSITIONS: + learned[position of row]
//
// The token is the row's, or (ROW_TOKEN_DRAWN) the one that its sequence drew last; one that the draw could
// not tell counts as 0: its sequence has ended.
//
// Operations: EMBED, ADD_POSITION. Grid: ROPE_BLOCKS that make the tables, then blocks of EMBED_COLS columns
// of a row each; where a prompt has many rows, they take several in turn, and those past the last one cost
// nothing. Needs tiles.cuh, rope.cuh. Defines: D_MODEL, N_VOCAB, EMBED_FORMAT, EMBED_SCALE, MAX_ROWS;
// LEARNED_POSITIONS.
#if !defined(D_MODEL) || !defined(N_VOCAB) || !defined(EMBED_FORMAT) || !defined(EMBED_SCALE) || \
    !defined(MAX_ROWS)
#error "D_MODEL, N_VOCAB, EMBED_FORMAT, EMBED_SCALE, MAX_ROWS"
#endif

enum : u32 {
    EMBED_THREADS = ROPE_THREADS,
    // Few rows: a column a thread.
    EMBED_COLS = MAX_ROWS <= 8     ? 128
                 : MAX_ROWS <= 128 ? 256
                                   : 1024,
    EMBED_ROW_PARTS = CEIL_DIV(D_MODEL, EMBED_COLS),
    EMBED_BLOCKS = MIN(MAX_ROWS * EMBED_ROW_PARTS, ROW_BLOCKS_MAX),
};

// Part i of all rows. Returns false past the batch's last row.
DEVICE bool embed_part(const EmbedArgs &a, u32 i) {
    u32 row = i / EMBED_ROW_PARTS, first_col = i % EMBED_ROW_PARTS * EMBED_COLS;
    // Asked for at once: each takes as long as all.
    u32 n_rows = load_shared_data(&a.batch->n_rows), slot = load_shared_data(&a.rows[row].slot);
    i32 token = load_shared_data(&a.rows[row].token);
    if (row >= n_rows) return false;
    if (token == ROW_TOKEN_DRAWN) {
        const SlotState *s = a.slots + slot;
        token = load_shared_data(s->drawn + (load_shared_data(&s->step) - 1) % TOKEN_RING);
    }
    if (token < 0) token = 0;
#ifdef LEARNED_POSITIONS
    const float *learned = a.learned + (u64)load_shared_data(&a.rows[row].position) * D_MODEL;
#endif
    for (u32 col = first_col + thread_index(); col < MIN(first_col + EMBED_COLS, D_MODEL);
         col += EMBED_THREADS) {
        float v = tile_value<EMBED_FORMAT>(a.embed, N_VOCAB, D_MODEL, (u32)token, col) * EMBED_SCALE;
#ifdef LEARNED_POSITIONS
        v += learned[col];
#endif
        a.x[(u64)row * D_MODEL + col] = v;
    }
    return true;
}

DEVICE void embed_run(const EmbedArgs &a, u32 block) {
    for (u32 i = block; i < MAX_ROWS * EMBED_ROW_PARTS && embed_part(a, i); i += EMBED_BLOCKS) {
    }
}

EXPORTED StageInfo embed_info = {EMBED_THREADS, {ROPE_BLOCKS + EMBED_BLOCKS, 1}, 0};

KERNEL(EMBED_THREADS, 1) embed(EmbedArgs a) {
    stage_launch_next();
    stage_wait();
#if ROPE_VALUES > 0
    if (block_index() < ROPE_BLOCKS) {
        rope_tables_run(a, block_index());
        return;
    }
#endif
    embed_run(a, block_index() - ROPE_BLOCKS);
}
