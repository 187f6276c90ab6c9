// Prefill: the residual stream of a step's tokens.
//
//     x[row] = W_embed[token of row] * EMBED_SCALE, LEARNED_POSITIONS: + learned[position of row]
//
// Operations: EMBED, ADD_POSITION. Grid: a block a row; those past the step's rows have nothing to do.
// Defines: D_MODEL, EMBED_FORMAT, EMBED_SCALE, MAX_ROWS; LEARNED_POSITIONS.
#if !defined(D_MODEL) || !defined(EMBED_FORMAT) || !defined(EMBED_SCALE) || !defined(MAX_ROWS)
#error "D_MODEL, EMBED_FORMAT, EMBED_SCALE, MAX_ROWS"
#endif

enum : u32 { EMBED_THREADS = 128 };

DEVICE void prefill_embed_run(const PrefillEmbedArgs &a, u32 row) {
    if (row >= a.span->n_rows) return;
    const u8 *from = a.embed + (u64)(u32)a.span->tokens[row] * layout_row_bytes(EMBED_FORMAT, D_MODEL);
    for (u32 col = thread_index(); col < D_MODEL; col += EMBED_THREADS) {
        float v = weight_value<EMBED_FORMAT>(from, D_MODEL, col) * EMBED_SCALE;
#ifdef LEARNED_POSITIONS
        v += a.learned[(u64)(a.span->position + row) * D_MODEL + col];
#endif
        a.x[(u64)row * D_MODEL + col] = v;
    }
}

EXPORTED StageInfo prefill_embed_info = {EMBED_THREADS, {MAX_ROWS, 1}, 0};

KERNEL(EMBED_THREADS, 1) prefill_embed(PrefillEmbedArgs a) {
    stage_launch_next();
    stage_wait();
    prefill_embed_run(a, block_index());
}
