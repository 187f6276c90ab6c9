// The norm of a block's output, before it joins the residual stream.
//
//     x[row] += t[row] * factor * w                    rows.cuh: factor, order of sums
// LAYER_SCALE: x[row] = (x[row] + t[row] * factor * w) * scale
// ADD_BESIDE: x[row] = (x[row] + t[row] * factor * w + beside[row]) * ADD_BESIDE
// FROM_INPUT: x[row] = in[row] + t[row] * factor * w       of activations: another buffer than the stream
// N_STREAMS: x[row][i] += t[row] * factor * w              of each stream but the first (streams.cuh)
// NORM_BESIDE: t[row] is first put together of two blocks' outputs, each by its norm: norm(t[row]) +
//              norm(beside[row])
//
// Operations: RMS_NORM, ADD, SCALE; N_STREAMS: RMS_NORM, STREAMS_ADD. Grid: a block a row; those past the
// batch's have nothing to do. Defines: D_MODEL, NORM_EPS, MAX_ROWS; LAYER_SCALE, ADD_BESIDE, FROM_INPUT,
// N_STREAMS, NORM_BESIDE.
#if !defined(D_MODEL) || !defined(NORM_EPS) || !defined(MAX_ROWS) || D_MODEL % 4
#error "D_MODEL, NORM_EPS, MAX_ROWS"
#endif
#ifdef LAYER_NORM
#error "RMS norms alone"
#endif

typedef RowNorms<D_MODEL, 1, NORM_STAGE_WARPS(D_MODEL)> Norm;

#ifdef NORM_BESIDE
// A thread reads only what it wrote by itself. It ends when all have used `sums`.
DEVICE void join_norms(const BatchPostNormArgs &a, const Norm &norm, const Norm &beside, u32 row,
                       float *sums) {
    u64 at = (u64)row * D_MODEL;
    NormPiece y[Norm::TURNS];
    beside.each(
        a.beside + at, 1, sums, warp_index(), [] { block_sync(); },
        [&](u32, u32 turn, u32 i, u32, float4 v, float factor) {
            y[turn].v[i] = norm_value(v, factor, beside.w[turn].v[i], {0, 0, 0, 0});
        });
    block_sync();
    norm.each((const float *)a.t + at, 1, sums, warp_index(), [] { block_sync(); },
              [&](u32, u32 turn, u32 i, u32 col, float4 v, float factor) {
                  float4 w = norm.w[turn].v[i], o = y[turn].v[i];
                  *(float4 *)(a.t + at +
                              col) = {fma_f32(v.x * factor, w.x, o.x), fma_f32(v.y * factor, w.y, o.y),
                                      fma_f32(v.z * factor, w.z, o.z), fma_f32(v.w * factor, w.w, o.w)};
              });
    block_sync();
}
#endif

// The row's values of the residual stream are fetched beside those of t.
DEVICE void post_norm_run(const BatchPostNormArgs &a, const Norm &norm, u32 row, float *sums) {
    if (row >= load_shared_data(&a.batch->n_rows)) return;
    u64 at = (u64)row * D_MODEL;
#if !defined(FROM_INPUT) && !defined(N_STREAMS)
    NormPiece x[Norm::TURNS];
#pragma unroll
    for (u32 t = 0; t < Norm::TURNS; t++) {
        x[t] = norm_load<D_MODEL>(a.x + at, Norm::piece_of(warp_index(), t));
    }
#endif
    norm.each((const float *)a.t + at, 1, sums, warp_index(), [] { block_sync(); },
              [&](u32, u32 turn, u32 i, u32 col, float4 v, float factor) {
                  float4 w = norm.w[turn].v[i];
#ifdef N_STREAMS
#pragma unroll
                  for (u32 s = 1; s < N_STREAMS; s++) {
                      float4 *stream = (float4 *)(a.x + ((u64)row * N_STREAMS + s) * D_MODEL + col);
                      *stream = norm_add(load_shared_data(stream), v, factor, w);
                  }
#else
#ifdef FROM_INPUT
                  float2 first = activation_load_2(a.in, row, col),
                         second = activation_load_2(a.in, row, col + 2);
                  float4 y = {first.x, first.y, second.x, second.y};
#else
                  float4 y = x[turn].v[i];
#endif
                  float4 sum = norm_add(y, v, factor, w);
#ifdef ADD_BESIDE
                  float4 o = load_shared_data((const float4 *)(a.beside + at + col));
                  const float by = ADD_BESIDE;
                  sum = {(sum.x + o.x) * by, (sum.y + o.y) * by, (sum.z + o.z) * by, (sum.w + o.w) * by};
#endif
#ifdef LAYER_SCALE
                  float scale = *a.scale;
                  sum = {sum.x * scale, sum.y * scale, sum.z * scale, sum.w * scale};
#endif
                  *(float4 *)(a.x + at + col) = sum;
#endif
              });
}

EXPORTED StageInfo post_norm_info = {NORM_STAGE_WARPS(D_MODEL) * 32, {MAX_ROWS, 1}, Norm::SHARED_FLOATS * 4};

KERNEL(NORM_STAGE_WARPS(D_MODEL) * 32, 1) post_norm(BatchPostNormArgs a) {
    Norm norm;
    stage_launch_next();
    norm.prepare(a.norm, 0, warp_index());
#ifdef NORM_BESIDE
    Norm beside, joined;
    beside.prepare(a.beside_norm, 0, warp_index());
    joined.prepare(a.joined_norm, 0, warp_index());
    stage_wait();
    if (block_index() < load_shared_data(&a.batch->n_rows))
        join_norms(a, norm, beside, block_index(), (float *)shared_memory());
    norm = joined;
#else
    stage_wait();
#endif
    post_norm_run(a, norm, block_index(), (float *)shared_memory());
}
