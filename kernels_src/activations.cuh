// A vector of N_COLS activations in shared memory, as the products of a stage want it.
//
// For quantised weights: 12-bit integers in blocks of 32 with a float scale, x[k] = scale * q[k], scale =
// max |x| / 2032, in two signed bytes q = 16 coarse + fine. (8 bits are the custom, and X_FINE 0 gives them.
// They make an error of 3% on average, 17% at worst, in the logits of a 135M model over 600 tokens of text,
// computed on the CPU; 12 bits leave a sixteenth.) For the formats with an offset or a minimum the block's
// sum is kept beside the scale (keep_sums), or made by those who read the block: that is sooner there, but
// costs each of them 8 or 16 products. For float weights: the floats themselves.
//
// Layout, B = N_COLS / 32 blocks: [B][16] coarse bytes of first halves, [B][16] of second halves, the same of
// the fine bytes, [B] {scale, sum}, then [N_COLS] floats where a float format needs them. Planes of halves,
// because lane i reads 16 bytes of block i: neighbours, no bank conflicts.
// Mapping: thread t takes the values 4 (t + i THREADS) …; eight threads make a block.
// Defines: N_COLS, WARPS (of a block), and the formats of the stage's weights: FORMAT_0, and FORMAT_1,
// FORMAT_2 where there are several; X_FINE (formats.cuh).
#if !defined(N_COLS) || !defined(WARPS) || !defined(FORMAT_0)
#error "N_COLS, WARPS, FORMAT_0"
#endif
#ifndef FORMAT_1
#define FORMAT_1 FORMAT_0
#endif
#ifndef FORMAT_2
#define FORMAT_2 FORMAT_0
#endif
#define THREADS (WARPS * 32)
#define X_INTEGERS (!FORMAT_IS_FLOAT(FORMAT_0) || !FORMAT_IS_FLOAT(FORMAT_1) || !FORMAT_IS_FLOAT(FORMAT_2))
#define X_FLOATS (FORMAT_IS_FLOAT(FORMAT_0) || FORMAT_IS_FLOAT(FORMAT_1) || FORMAT_IS_FLOAT(FORMAT_2))
#if N_COLS % 32
#error "N_COLS must be a multiple of 32"
#endif

enum : u32 {
    X_BLOCKS = N_COLS / BLOCK_WEIGHTS,
    X_META = X_BLOCKS * (X_FINE ? 64 : 32),
    X_FLOAT = ROUND_UP(X_META + X_BLOCKS * 8, 16),
    X_BYTES = ROUND_UP(X_FLOAT + (X_FLOATS ? N_COLS * 4 : 0), 16),
    X_GROUPS = N_COLS / 4,                   // of 4 values
    X_TURNS = CEIL_DIV(N_COLS / 4, THREADS), // groups a thread
};

// The group that this thread takes in a turn; X_GROUPS or more for none.
DEVICE u32 x_group(u32 turn) {
    return turn * THREADS + thread_index();
}

// Writes all of the thread's groups (zeros for those that it does not have); the whole warp calls it. Each
// step is taken for all groups before the next: the shuffles of one group wait for each other, those of
// several do not (14 groups a thread cost 3 us one after the other).
template <bool keep_sums> DEVICE void x_store(u8 *shared_x, const float4 v[X_TURNS]) {
    float largest[X_TURNS];
    u32 coarse[X_TURNS], fine[X_TURNS];
    i32 sum[X_TURNS];
    const float steps = X_FINE ? 2032.0f : 127.0f;
#pragma unroll
    for (u32 i = 0; i < X_TURNS; i++) {
        largest[i] = max_nan_f32(max_nan_f32(abs_f32(v[i].x), abs_f32(v[i].y)),
                                 max_nan_f32(abs_f32(v[i].z), abs_f32(v[i].w)));
        if (X_FLOATS && x_group(i) < X_GROUPS) ((float4 *)(shared_x + X_FLOAT))[x_group(i)] = v[i];
    }
    if (!X_INTEGERS) return;
#pragma unroll
    for (u32 m = 1; m < 8; m *= 2) {
#pragma unroll
        for (u32 i = 0; i < X_TURNS; i++) {
            largest[i] = max_nan_f32(largest[i], shuffle_xor(largest[i], m));
        }
    }
#pragma unroll
    for (u32 i = 0; i < X_TURNS; i++) {
        // Below 1e-30 a reciprocal could overflow: such a block counts as zeros.
        float inverse = largest[i] > 1e-30f ? steps * reciprocal_fast(largest[i]) : 0.0f;
        const float values[4] = {v[i].x, v[i].y, v[i].z, v[i].w};
        i32 whole[4], rest[4];
#pragma unroll
        for (u32 k = 0; k < 4; k++) {
            i32 q = round_to_i32(values[k] * inverse);
            whole[k] = X_FINE ? (q + 8) >> 4 : q;     // -127 … 127
            rest[k] = X_FINE ? q - 16 * whole[k] : 0; // -8 … 7
        }
        coarse[i] = pack_i8(whole[0], whole[1], whole[2], whole[3]);
        fine[i] = pack_i8(rest[0], rest[1], rest[2], rest[3]);
        Sums s = {0, 0};
        if (keep_sums) add_signed(&s, 0x01010101u, coarse[i], fine[i]);
        sum[i] = total_of(s);
    }
    if (keep_sums) {
#pragma unroll
        for (u32 m = 1; m < 8; m *= 2) {
#pragma unroll
            for (u32 i = 0; i < X_TURNS; i++) {
                sum[i] += shuffle_xor(sum[i], m);
            }
        }
    }
#pragma unroll
    for (u32 i = 0; i < X_TURNS; i++) {
        u32 group = x_group(i), block = group / 8, word = group % 8;
        if (group >= X_GROUPS) break;
        u32 at = word / 4 * X_BLOCKS * 4 + block * 4 + word % 4;
        ((u32 *)shared_x)[at] = coarse[i];
        if (X_FINE) ((u32 *)shared_x)[X_BLOCKS * 8 + at] = fine[i];
        // A value that is not a number makes the block so: an overflow upstream must not look like a result.
        float scale = largest[i] > 1e-30f || largest[i] != largest[i] ? largest[i] * (1.0f / steps) : 0.0f;
        if (word == 0) ((float2 *)(shared_x + X_META))[block] = {scale, scale * (float)sum[i]};
    }
}

// Block `block` for a product with integer weights.
template <bool kept_sums> DEVICE BlockX x_load(const u8 *shared_x, u32 block) {
    const uint4 *planes = (const uint4 *)shared_x;
    float2 meta = ((const float2 *)(shared_x + X_META))[block];
    BlockX x;
    x.low = planes[block];
    x.high = planes[X_BLOCKS + block];
    x.low_fine = X_FINE ? planes[2 * X_BLOCKS + block] : uint4{0, 0, 0, 0};
    x.high_fine = X_FINE ? planes[3 * X_BLOCKS + block] : uint4{0, 0, 0, 0};
    x.scale = meta.x;
    x.sum = meta.y;
    if (!kept_sums) {
        const u32 ones[4] = {0x01010101u, 0x01010101u, 0x01010101u, 0x01010101u};
        x.sum = x.scale * (float)(dot_bytes(ones, x.low, x.low_fine) + dot_bytes(ones, x.high, x.high_fine));
    }
    return x;
}

DEVICE float4 x_load_floats(const u8 *shared_x, u32 element) {
    return ((const float4 *)(shared_x + X_FLOAT))[element / 4];
}

// x of the previous stage, four values at a time, all loads of a thread in flight together.
DEVICE void x_load_global(const float *x, float4 v[X_TURNS]) {
#pragma unroll
    for (u32 i = 0; i < X_TURNS; i++) {
        u32 g = x_group(i);
        v[i] = g < X_GROUPS ? load_shared_data((const float4 *)x + g) : float4{0, 0, 0, 0};
    }
}

// ---- RMS norm ----
//
// H = X / sqrt(mean(X^2) + eps) * W. The root is one number a row, so the product with a matrix can be
// multiplied by it afterwards: x * w is quantised at once, and the sum of squares is ready at the same
// barrier. (OP_RMS_NORM.)

// w may be loaded before the previous stage is done.
DEVICE void norm_load_weight(const float *w, float4 v[X_TURNS]) {
#pragma unroll
    for (u32 i = 0; i < X_TURNS; i++) {
        u32 g = x_group(i);
        v[i] = g < X_GROUPS ? ((const float4 *)w)[g] : float4{0, 0, 0, 0};
    }
}

// Quantises x * w into shared memory; warp_squares[warp] gets the sum of squares of the warp's values. A
// block_sync must follow before norm_factor and before anyone reads the activations.
template <bool keep_sums>
DEVICE void norm_store(u8 *shared_x, float *warp_squares, const float4 x[X_TURNS], const float4 w[X_TURNS]) {
    float squares = 0;
    float4 xw[X_TURNS];
#pragma unroll
    for (u32 i = 0; i < X_TURNS; i++) {
        float4 v = x[i];
        squares = fma_f32(v.x, v.x, fma_f32(v.y, v.y, fma_f32(v.z, v.z, fma_f32(v.w, v.w, squares))));
        xw[i] = {v.x * w[i].x, v.y * w[i].y, v.z * w[i].z, v.w * w[i].w};
    }
    x_store<keep_sums>(shared_x, xw);
#pragma unroll
    for (u32 m = 16; m > 0; m /= 2) {
        squares += shuffle_xor(squares, m);
    }
    if (lane_index() == 0) warp_squares[warp_index()] = squares;
}

DEVICE float norm_factor(const float *warp_squares, float eps) {
    float sum = 0;
#pragma unroll
    for (u32 w = 0; w < THREADS / WARP; w++) {
        sum += warp_squares[w];
    }
    return reciprocal_sqrt_fast(sum * (1.0f / N_COLS) + eps);
}
