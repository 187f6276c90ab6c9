// The residual stream of a batch's tokens.
//
//     x[row] = W_embed[token of row] * EMBED_SCALE, LEARNED_POSITIONS: + learned[position of row]
//
// The token is the row's, or (ROW_TOKEN_DRAWN) the one that its sequence drew last; one that the draw could
// not tell counts as 0: its sequence has ended.
//
// Operations: EMBED, ADD_POSITION. Grid: EMBED_COLS columns of a row a block; rows past the batch's have
// nothing to do. Defines: D_MODEL, N_VOCAB, EMBED_FORMAT, EMBED_SCALE, MAX_ROWS; LEARNED_POSITIONS.
#if !defined(D_MODEL) || !defined(N_VOCAB) || !defined(EMBED_FORMAT) || !defined(EMBED_SCALE) || \
    !defined(MAX_ROWS)
#error "D_MODEL, N_VOCAB, EMBED_FORMAT, EMBED_SCALE, MAX_ROWS"
#endif

enum : u32 {
    EMBED_THREADS = 128,
    // Few rows: a column a thread.
    EMBED_COLS = MAX_ROWS <= 8     ? 128
                 : MAX_ROWS <= 128 ? 256
                                   : 1024
};

DEVICE void embed_run(const EmbedArgs &a, u32 row, u32 first_col) {
    // Asked for at once: each takes as long as all.
    u32 n_rows = load_shared_data(&a.batch->n_rows), slot = load_shared_data(&a.rows[row].slot);
    i32 token = load_shared_data(&a.rows[row].token);
    if (row >= n_rows) return;
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
}

EXPORTED StageInfo embed_info = {EMBED_THREADS, {CEIL_DIV(D_MODEL, EMBED_COLS), MAX_ROWS}, 0};

KERNEL(EMBED_THREADS, 1) embed(EmbedArgs a) {
    stage_launch_next();
    stage_wait();
    embed_run(a, block_index_y(), block_index() * EMBED_COLS);
}
