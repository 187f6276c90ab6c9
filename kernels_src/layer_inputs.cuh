// What each layer is given of a row's token besides the residual stream (Gemma 4, "per-layer embeddings").
//
//     n = v / sqrt(mean(v^2) + eps) * w           v = inputs[row][layer], as a product has left it
//     inputs[row][layer] = (n + W_embed[token of row][layer] * EMBED_SCALE) * SCALE
//
// The token is the row's, or the one that its sequence drew last (embed.cuh). Sums of squares: a lane's
// values, 32 apart, in their order; then lanes 16 apart, 8, 4, 2, 1.
//
// Operations: EMBED, RMS_NORM, ADD, SCALE. Grid: a warp a layer of a row, INPUTS_WARPS a block, which take
// several in turn where there are many; those past the last one cost nothing. Needs tiles.cuh. Defines:
// MAX_ROWS, N_LAYERS, D_LAYER (a multiple of 32), N_VOCAB, EMBED_FORMAT, EMBED_SCALE, NORM_EPS, SCALE.
#if !defined(MAX_ROWS) || !defined(N_LAYERS) || !defined(D_LAYER) || !defined(N_VOCAB) || \
    !defined(EMBED_FORMAT) || !defined(EMBED_SCALE) || !defined(NORM_EPS) || !defined(SCALE) || D_LAYER % 32
#error "MAX_ROWS, N_LAYERS, D_LAYER, N_VOCAB, EMBED_FORMAT, EMBED_SCALE, NORM_EPS, SCALE"
#endif

enum : u32 {
    INPUTS_WARPS = 4,
    INPUTS_BLOCKS = MIN(CEIL_DIV(MAX_ROWS * N_LAYERS, INPUTS_WARPS), ROW_BLOCKS_MAX),
    LANE_VALUES = D_LAYER / WARP,
};

DEVICE u32 token_of(const LayerInputsArgs &a, u32 row) {
    i32 token = load_shared_data(&a.rows[row].token);
    if (token == ROW_TOKEN_DRAWN) {
        const SlotState *s = a.slots + load_shared_data(&a.rows[row].slot);
        token = load_shared_data(s->drawn + (load_shared_data(&s->step) - 1) % TOKEN_RING);
    }
    return token < 0 ? 0 : (u32)token;
}

DEVICE void layer_inputs_run(const LayerInputsArgs &a, u32 row, u32 layer) {
    float *inputs = a.inputs + ((u64)row * N_LAYERS + layer) * D_LAYER, v[LANE_VALUES], squares = 0;
    u32 token = token_of(a, row);
#pragma unroll
    for (u32 i = 0; i < LANE_VALUES; i++) {
        v[i] = load_shared_data(inputs + i * WARP + lane_index());
        squares = fma_f32(v[i], v[i], squares);
    }
#pragma unroll
    for (u32 m = 16; m > 0; m /= 2) {
        squares += shuffle_xor(squares, m);
    }
    float factor = reciprocal_sqrt_fast(fma_f32(squares, 1.0f / D_LAYER, NORM_EPS));
#pragma unroll
    for (u32 i = 0; i < LANE_VALUES; i++) {
        u32 col = i * WARP + lane_index();
        float of_token =
            tile_value<EMBED_FORMAT>(a.embed, N_VOCAB, N_LAYERS * D_LAYER, token, layer * D_LAYER + col);
        inputs[col] = fma_f32(of_token, EMBED_SCALE, v[i] * factor * a.norm[col]) * SCALE;
    }
}

EXPORTED StageInfo layer_inputs_info = {INPUTS_WARPS * 32, {INPUTS_BLOCKS, 1}, 0};

KERNEL(INPUTS_WARPS * 32, 1) layer_inputs(LayerInputsArgs a) {
    stage_launch_next();
    stage_wait();
    u32 n = a.batch->n_rows * N_LAYERS;
    for (u32 i = block_index() * INPUTS_WARPS + warp_index(); i < n; i += INPUTS_BLOCKS * INPUTS_WARPS) {
        layer_inputs_run(a, i / N_LAYERS, i % N_LAYERS);
    }
}
