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
// the fine bytes, [B] {scale, sum}, all that where a format of integers needs it; then [N_COLS] floats where
// a float format does. Planes of halves, because lane i reads 16 bytes of block i: neighbours, no bank
// conflicts.
// Mapping: four threads make a block, each four values of its first half and four of its second.
// Needs formats.cuh (X_FINE, BlockX, sums of bytes) and format_runs.cuh (FORMAT_0 … FORMAT_2, those of the
// stage's weights). Defines: N_COLS, WARPS (of a block).
#if !defined(N_COLS) || !defined(WARPS) || !defined(FORMAT_0)
#error "N_COLS, WARPS, FORMAT_0"
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
    X_FLOAT = X_INTEGERS ? ROUND_UP(X_META + X_BLOCKS * 8, 16) : 0,
    X_BYTES = ROUND_UP(X_FLOAT + (X_FLOATS ? N_COLS * 4 : 0), 16),
    X_GROUPS = N_COLS / 4,                       // of 4 values
    X_TURNS = 2 * CEIL_DIV(N_COLS / 8, THREADS), // groups a thread
    X_SPANS = CEIL_DIV(N_COLS, 256),             // of columns: what a warp has in two turns
};

// The group that this thread takes in a turn; X_GROUPS or more for none. Turns 2i and 2i + 1 are words of the
// two halves of one block, so that four threads make a block.
DEVICE u32 x_group(u32 turn) {
    u32 pair = turn / 2 * THREADS + thread_index();
    return pair / 4 * 8 + turn % 2 * 4 + pair % 4;
}

// Four quantised values.
struct XWord {
    u32 coarse, fine;
};

// Rounding adds 1.5 * 2^23, whose last place is 1: the sum's low bits are the integer. (Conversions are four
// times slower, and this is all that a block does while its memory is idle.)
DEVICE XWord quantise_4(float4 v, float inverse) {
    const float rounder = X_FINE ? 12582912.0f + 8.0f : 12582912.0f; // q + 8 = 16 coarse + (fine + 8)
    u32 first = permute_bytes(bits_of(fma_f32(v.x, inverse, rounder)),
                              bits_of(fma_f32(v.y, inverse, rounder)), 0x5410u),
        second =
            permute_bytes(bits_of(fma_f32(v.z, inverse, rounder)), bits_of(fma_f32(v.w, inverse, rounder)),
                          0x5410u); // 16 bits each
    u32 low_bytes = permute_bytes(first, second, 0x6420u);
    if (!X_FINE) return {low_bytes, 0};
    // 0 … 15 in each byte, less 8 in each byte: 0x78 more does not carry.
    u32 fine = ((low_bytes & 0x0F0F0F0Fu) + 0x78787878u) ^ 0x80808080u;
    return {permute_bytes(first >> 4, second >> 4, 0x6420u), fine};
}

DEVICE float largest_of_4(float4 v) {
    return max_nan_f32(max_nan_f32(abs_f32(v.x), abs_f32(v.y)), max_nan_f32(abs_f32(v.z), abs_f32(v.w)));
}

// Writes all of the thread's groups (zeros for those that it does not have); the whole warp calls it. Each
// step is taken for all groups before the next: the shuffles of one group wait for each other, those of
// several do not (14 groups a thread cost 3 us one after the other).
template <bool keep_sums> DEVICE void x_store(u8 *shared_x, const float4 v[X_TURNS]) {
    const float steps = X_FINE ? 2032.0f : 127.0f;
    float largest[X_TURNS / 2];
    XWord q[X_TURNS];
    i32 sum[X_TURNS / 2];
#pragma unroll
    for (u32 i = 0; i < X_TURNS; i++) {
        if (X_FLOATS && x_group(i) < X_GROUPS) ((float4 *)(shared_x + X_FLOAT))[x_group(i)] = v[i];
    }
    if (!X_INTEGERS) return;
#pragma unroll
    for (u32 i = 0; i < X_TURNS / 2; i++) {
        largest[i] = max_nan_f32(largest_of_4(v[2 * i]), largest_of_4(v[2 * i + 1]));
    }
#pragma unroll
    for (u32 m = 1; m < 4; m *= 2) {
#pragma unroll
        for (u32 i = 0; i < X_TURNS / 2; i++) {
            largest[i] = max_nan_f32(largest[i], shuffle_xor(largest[i], m));
        }
    }
#pragma unroll
    for (u32 i = 0; i < X_TURNS; i++) {
        // Below 1e-30 a reciprocal could overflow: such a block counts as zeros.
        float inverse = largest[i / 2] > 1e-30f ? steps * reciprocal_fast(largest[i / 2]) : 0.0f;
        q[i] = quantise_4(v[i], inverse);
    }
    if (keep_sums) {
#pragma unroll
        for (u32 i = 0; i < X_TURNS / 2; i++) {
            Sums s = {0, 0};
            add_signed(&s, 0x01010101u, q[2 * i].coarse, q[2 * i].fine);
            add_signed(&s, 0x01010101u, q[2 * i + 1].coarse, q[2 * i + 1].fine);
            sum[i] = total_of(s);
        }
#pragma unroll
        for (u32 m = 1; m < 4; m *= 2) {
#pragma unroll
            for (u32 i = 0; i < X_TURNS / 2; i++) {
                sum[i] += shuffle_xor(sum[i], m);
            }
        }
    }
#pragma unroll
    for (u32 i = 0; i < X_TURNS; i++) {
        u32 group = x_group(i), block = group / 8, half = i % 2,
            at = (half * X_BLOCKS + block) * 4 + group % 4;
        if (group >= X_GROUPS) break;
        ((u32 *)shared_x)[at] = q[i].coarse;
        if (X_FINE) ((u32 *)shared_x)[X_BLOCKS * 8 + at] = q[i].fine;
        if (half != 0 || group % 4 != 0) continue;
        // A value that is not a number makes the block so: an overflow upstream must not look like a result.
        float top = largest[i / 2], scale = top > 1e-30f || top != top ? top * (1.0f / steps) : 0.0f;
        ((float2 *)(shared_x + X_META))[block] = {scale, keep_sums ? scale * (float)sum[i / 2] : 0.0f};
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
        x.sum = x.scale * (float)(sum_bytes(x.low, x.low_fine) + sum_bytes(x.high, x.high_fine));
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
//
// Order of a norm's sums, which the number of columns alone decides: a thread's eight values of a span of 256
// columns, in their order from the last one on; then lanes 16 apart, 8, 4, 2, 1; then spans four apart, and
// the four sums of those.

// w may be loaded before the previous stage is done.
DEVICE void norm_load_weight(const float *w, float4 v[X_TURNS]) {
#pragma unroll
    for (u32 i = 0; i < X_TURNS; i++) {
        u32 g = x_group(i);
        v[i] = g < X_GROUPS ? ((const float4 *)w)[g] : float4{0, 0, 0, 0};
    }
}

DEVICE float add_squares(float4 v, float sum) {
    return fma_f32(v.x, v.x, fma_f32(v.y, v.y, fma_f32(v.z, v.z, fma_f32(v.w, v.w, sum))));
}

// `sum` has this lane's part of each of the warp's spans; spans [X_SPANS] gets their sums.
DEVICE void store_spans(float sum[X_TURNS / 2], float *spans) {
#pragma unroll
    for (u32 m = 16; m > 0; m /= 2) {
#pragma unroll
        for (u32 i = 0; i < X_TURNS / 2; i++) {
            sum[i] += shuffle_xor(sum[i], m);
        }
    }
    if (lane_index() > 0) return;
#pragma unroll
    for (u32 i = 0; i < X_TURNS / 2; i++) {
        u32 span = i * WARPS + warp_index();
        if (span < X_SPANS) spans[span] = sum[i];
    }
}

// After a block_sync: the sum of all spans.
DEVICE float sum_of_spans(const float *spans) {
    float4 sum = {0, 0, 0, 0}, last = {0, 0, 0, 0};
#pragma unroll
    for (u32 i = 0; i < X_SPANS / 4; i++) {
        float4 v = ((const float4 *)spans)[i]; // one load for four spans: every thread reads them all
        sum = {sum.x + v.x, sum.y + v.y, sum.z + v.z, sum.w + v.w};
    }
    if (X_SPANS % 4 > 0) last.x = spans[X_SPANS / 4 * 4];
    if (X_SPANS % 4 > 1) last.y = spans[X_SPANS / 4 * 4 + 1];
    if (X_SPANS % 4 > 2) last.z = spans[X_SPANS / 4 * 4 + 2];
    return (sum.x + last.x + (sum.y + last.y)) + (sum.z + last.z + (sum.w + last.w));
}

// Quantises x * w into shared memory, and the squares' sums into `spans`. A block_sync must follow before
// norm_factor and before anyone reads the activations.
template <bool keep_sums>
DEVICE void norm_store(u8 *shared_x, float *spans, const float4 x[X_TURNS], const float4 w[X_TURNS]) {
    float squares[X_TURNS / 2];
    float4 xw[X_TURNS];
#pragma unroll
    for (u32 i = 0; i < X_TURNS; i++) {
        squares[i / 2] = add_squares(x[i], i % 2 == 0 ? 0.0f : squares[i / 2]);
        xw[i] = {x[i].x * w[i].x, x[i].y * w[i].y, x[i].z * w[i].z, x[i].w * w[i].w};
    }
    x_store<keep_sums>(shared_x, xw);
    store_spans(squares, spans);
}

DEVICE float norm_factor(float squares, float eps) {
    return reciprocal_sqrt_fast(fma_f32(squares, 1.0f / N_COLS, eps));
}
