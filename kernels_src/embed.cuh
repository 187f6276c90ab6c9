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
    EMBED_COLS = MAX_ROWS <= 128 ? 256 : 1024, // few rows: many blocks, so that no thread has much
};

DEVICE u32 embed_token(const EmbedArgs &a, u32 row) {
    i32 token = load_shared_data(&a.rows[row].token);
    if (token == ROW_TOKEN_DRAWN) {
        const SlotState *slot = a.slots + load_shared_data(&a.rows[row].slot);
        token = load_shared_data(slot->drawn + (load_shared_data(&slot->step) - 1) % TOKEN_RING);
    }
    return token < 0 ? 0u : (u32)token;
}

DEVICE void embed_run(const EmbedArgs &a, u32 row, u32 first_col) {
    if (row >= load_shared_data(&a.batch->n_rows)) return;
    u32 token = embed_token(a, row);
#ifdef LEARNED_POSITIONS
    const float *learned = a.learned + (u64)load_shared_data(&a.rows[row].position) * D_MODEL;
#endif
    for (u32 col = first_col + thread_index(); col < MIN(first_col + EMBED_COLS, D_MODEL);
         col += EMBED_THREADS) {
        float v = tile_value<EMBED_FORMAT>(a.embed, N_VOCAB, D_MODEL, token, col) * EMBED_SCALE;
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
