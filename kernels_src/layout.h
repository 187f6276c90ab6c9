// How weights and the KV cache lie in device memory. C17 (the host plans with it) and CUDA C++ (the kernels
// read it).
//
// Weights. A matrix of M rows and K columns is
//     [ceil(M / 64) quads][ceil(K / TILE_COLS) tiles][4 bands] tile
//     factor f32 [M rounded up to 64]
// A band is 16 rows, a tile is a band's layout_tile_cols(format) columns: 256 where a file's block has 256
// weights, else 128. The four tiles of a quad, and any neighbours of them, are one contiguous piece. Rows
// past M and columns past K are zeros (all bytes). Matrices of experts follow each other, each with its
// factors.
//     weight = factor[row] * (f16 value of the tile)
// factor[row] is a power of two, 2^E, found when the matrix is repacked: the smallest with which the row's
// scales fit their places (below), which puts the largest near the top of f16's range. F32 and BF16 matrices
// become F16 tiles; their row's largest weight is in [2^14, 2^15] then, and each is rounded once. F16: E = 0.
//
// A tile is in the lane order of mma.m16n8k16, where the k positions are given to columns so that a lane
// owns whole blocks: of each 128 columns (a half: a tile of 256 has two), lane 4 g + c has the block c of 32
// columns of the rows g and g + 8. Step t (0 … 7) of a half has
//     k 2c, 2c + 1          the block's columns 4t, 4t + 1
//     k 8 + 2c, 8 + 2c + 1  the block's columns 4t + 2, 4t + 3
// Activations are in the same order (rows.cuh).
//
// Codes. A code of B bits (16: an f16 value) makes B words of a row's block, 2 B of a lane's half:
//     words 0 … B - 1 of row g, then those of row g + 8
//     B = 3, 5: words 0 … B - 2 of row g, those of row g + 8, word B - 1 of row g, of row g + 8
//     B = 16: word i (a pair of columns) of row g (+ 8) is number i / 2 * 4 + i % 2 * 2 (+ 1)
// They lie in planes: [2 B / 4][lane][4 words], then, for B = 3 and 5, [lane][2 words]. So the codes of a
// half are 256 B bytes, read in pieces of 16 (and 8) bytes a lane.
//
// Pair i (0 … 15) of a block is its columns 2i, in the low 16 bits of a word, and 2i + 1, in the high 16.
// Places below are bits of the low half, and a code's bits rise from the one that is named. They are chosen
// so that a masked code is an f16 subnormal: q * 2^-24 where it begins at bit 0, at most 10 bits in all.
//   B = 1   Q1_0: bit 15 - i
//   B = 2   word i / 8, bit 2 (i % 8)
//   B = 3   i < 15: word i / 5, bit 3 (i % 5)
//           pair 15: its bits 0, 1, 2 are bit 15 of the words 2, 0, 1
//   B = 4   word i / 4, bit 4 (i % 4)
//           IQ4_NL, IQ4_XS: columns 8w … 8w + 7 are the nibbles 0, 2, 1, 3, 4, 6, 5, 7 of word w
//           MXFP4, NVFP4: word i / 4, the code's sign at bit 15, 7, 8, 0, its bits 0-2 from bit 9, 1, 12, 4
//           for i % 4 = 0, 1, 2, 3: bytes of an f16 whose low byte is 0
//   B = 5   i < 15: word i / 3, bit 5 (i % 3)
//           pair 15: its bits 0 … 4 are bit 15 of the words 4, 2, 0, 1, 3
//   B = 6   e = i / 8, p = i % 8 < 6: word 3e + p / 2, bit 10 (p % 2)
//           p = 6, 7: bits 0-1 from bit 6, 8 of word 3e + 2; bits 2-5 from bit 6 of word 3e, 3e + 1
//   B = 8   word i / 2, bit 8 (i % 2)
// Codes are those of the file; Q8_0's are q + 128.
//
// TQ1_0 has five digits to base 3 in a byte, which is a fraction as in the file. B = 1: the word's bytes 0
// and 2 have the low (even) and high (odd) columns of the pairs 0-4, its bytes 1 and 3 those of 5-9. Then,
// behind the codes, [half][lane] a word: bytes 0 and 2 the pairs 10-14 of row g, bytes 1 and 3 of row g + 8.
// Then [lane] 16 bits: pair 15 of half h, row g + 8 up, from bit 4 h + 2 up (even column) and from bit
// 8 + 4 h + 2 up (odd column) on.
//
// Codebooks. Entries' numbers and signs lie where codes do. Group l is columns 8l … 8l + 7 of a block.
//   IQ1     B = 1: byte l is the low byte of group l's number
//   IQ2     B = 2: word 0 as IQ1. Word 1: signs; bit 8 n + 3 - l is of column 8l + n, n < 4, bit
//           8 n + 7 - l of column 8l + 4 + n. IQ2_XXS, IQ2_XS: bits 28-31 are not signs (the eighth sign is
//           that with which an even number of the group's are set), but the block's scale; bit 28 + l
//           group l's ninth bit of the number.
//   IQ3     B = 3: byte i of words 0 and 1 is the low byte of the number for the columns 4i … 4i + 3.
//           Word 2: signs as IQ2's. IQ3_XXS: bits 28-31 are not signs, but the block's scale.
//
// Scales, behind the codes. d and m are f16; a stored d is the file's times 2^(24 - E), a stored m the file's
// times 2^-E. "{a, b}" is a word with a in its low half. e: columns 0-15 (0) or 16-31 (1) of a block.
//   Q4_0 Q5_0 Q8_0 IQ4_NL
//           [lane]{d of row g, d of row g + 8}, |d| < 2^16
//   Q4_1 Q5_1
//           [lane][row g, g + 8]{d, m}, |d| and |m| < 2^16
//   MXFP4   [lane][row g, g + 8] a byte: the high one of the f16 2^(x - 127 + 14 - E), x the file's exponent;
//           0 where that is no normal f16 (2^-30 of the row's largest scale, or less)
//   Q2_K    [lane][row g, g + 8] a word: 16 bits for each e, from bit 0 on the scale and min of the first
//           half, scale and min of the second; then D
//   Q3_K    SIX of {scale of e 0, of e 1}; then [g]{d of row g, of row g + 8}, |d| < 2^11
//   Q4_K Q5_K
//           SIX of {scale, min}; then D
//   Q6_K    [lane][row g, g + 8][half][e] a byte: scale + 128; then [g]{d, d}, |d| < 2^9
//   NVFP4   [lane][row g, g + 8][e] a byte: an E4M3 float; E = 7
//   TQ1_0   TQ2_0
//           [g]{d of row g, of row g + 8}, |d| < 2^16
//   Q1_0    the same, d itself: E = 0
//   Q2_0    [g][c / 2]{d, d}, |d| < 2^16
//   IQ1_S   [lane][row g, g + 8] a word, 16 bits a half: from bit 3 l on three high bits of group l's number,
//           from bit 12 on the scale, bit 15: an eighth less, not more; then [g]{d, d}, |d| < 2^12
//   IQ1_M   the same, with a nibble a group: three high bits of its number, then that bit; then 24 bits of a
//           lane as in IQ4_XS, [half][row g, g + 8][e] 3 bits of scale; then [g]{d, d}, |d| < 2^12
//   IQ2_XXS [g]{d, d}, |d| < 2^12
//   IQ2_XS  [lane] a word: from bit 16 e + 8 h + 4 up on the scale of half h, row g + 8 up; then d as above
//   IQ2_S   the same; between them [lane] a word: from bit 8 l + 4 h + 2 up on two high bits of group l's
//           number of half h, row g + 8 up
//   IQ3_XXS [g]{d, d}, |d| < 2^11
//   IQ3_S   [lane] a word: bit 8 (i % 4) + 4 h + 2 up + i / 4 is the ninth bit of number i of half h, row
//           g + 8 up; then [lane] 16 bits, [half][row g, g + 8] 4 bits of scale; then [g]{d, d}, |d| < 2^9
//   IQ4_XS  24 bits of a lane, [half][row g, g + 8] 6 bits of scale: [lane] the low 16, then [lane] the high
//           8; then [g]{d, d}, |d| < 2^11
// D: [g][row g, g + 8]{d, m}, |d| < 2^10; m is -2^10 dmin (dmin times 2^-E), |m| < 2^16.
// SIX: pairs {a, b} of 6 bits. [lane] a word w: bits 4-9 a, 20-25 b of row g, half 0; bits 10-15 and 26-31 of
// row g + 8. With [lane] 16 bits v, w << 4 & 0x00F000F0 | bytes {0, v0, 0, v1} is the word of half 1.
//
// So bits are moved, and scales multiplied by a power of two, which rounds only where it makes a scale
// subnormal: in rows whose largest d is so large that E > 24 (Q2_K Q4_K Q5_K: 2^10 and more, Q3_K IQ4_XS
// 2^11, Q6_K and IQ3_S 2^9, IQ3_XXS 2^11, other IQ 2^12), and an m that is smaller than 2^-5, a dmin that is
// smaller than 2^-9 of the row's largest d, or either smaller than 2^-29 of the row's largest m or dmin. That
// changes a weight by at most factor[row] * 2^-25, what f16 has below its normal numbers. Rows of zeros have
// E = 0. A scale that is infinite or not a number does not count for E and stays what it is: its weights are
// infinite or not numbers, and so is every sum that has them.
//
// KV cache, one region a layer: [page][kv_head][keys, values] a piece. So a page's keys and values of a head
// are contiguous (one or two bulk copies). A piece is [8 tokens of KV_PAGE][sheet] rows a token, of 128, 64,
// 32 or 16 bytes, the most that divide what a token's head takes: so in pieces side by side, eights of tokens
// follow each other at one distance. Units of 16 bytes are swizzled against bank conflicts, as the tensor
// cores' descriptors of 128, 64 and 32 bytes are: layout_kv_unit_at.
// - f16: a unit is 8 dims (layout_kv_at).
// - Q8 (KV_Q8): a unit is 16 dims, a byte each: code + 128. Its bytes lie so that mma.m16n8k16 finds its B in
//   the registers of an ldmatrix (layout_kv_code_at):
//       keys     byte 4 c + 2 h + i is dim 8 h + 2 c + i    (c 0 … 3; h, i 0, 1)
//       values   byte 2 g + h is dim 8 h + g                (g 0 … 7), for ldmatrix.trans
//   Behind the rows there are KV_PAGE scales, f16, and room for as many again where a head has more than 256
//   dims (so that heads of 512 take twice what heads of 256 do).
//
// Activations, f16, inputs of a matrix product: rows.cuh.
#ifndef KERNELS_LAYOUT_H
#define KERNELS_LAYOUT_H

#ifdef __cplusplus
#define LAYOUT_FN LAYOUT_INLINE constexpr
#ifdef __CUDACC__
#define LAYOUT_INLINE __host__ __device__ inline
#else
#define LAYOUT_INLINE inline
#endif
#else
#define LAYOUT_FN static inline
#endif

// clang-format off
#define CEIL_DIV(a, b) (((a) + (b)-1) / (b))
// clang-format on
#define ROUND_UP(a, b) (CEIL_DIV(a, b) * (b))
#define MIN(a, b) ((a) < (b) ? (a) : (b))
#define MAX(a, b) ((a) > (b) ? (a) : (b))

// Values of the enumeration Dtype (src/model/dtype.h), as macros because stages are specialised by #if.
#define FORMAT_F32 0
#define FORMAT_F16 1
#define FORMAT_BF16 2
#define FORMAT_Q4_0 3
#define FORMAT_Q4_1 4
#define FORMAT_Q5_0 5
#define FORMAT_Q5_1 6
#define FORMAT_Q8_0 7
#define FORMAT_Q2_K 8
#define FORMAT_Q3_K 9
#define FORMAT_Q4_K 10
#define FORMAT_Q5_K 11
#define FORMAT_Q6_K 12
#define FORMAT_IQ4_NL 13
#define FORMAT_IQ4_XS 14
#define FORMAT_MXFP4 15
#define FORMAT_NVFP4 16
#define FORMAT_TQ1_0 17
#define FORMAT_TQ2_0 18
#define FORMAT_Q1_0 19
#define FORMAT_Q2_0 20
#define FORMAT_IQ1_S 21
#define FORMAT_IQ1_M 22
#define FORMAT_IQ2_XXS 23
#define FORMAT_IQ2_XS 24
#define FORMAT_IQ2_S 25
#define FORMAT_IQ3_XXS 26
#define FORMAT_IQ3_S 27

// Values of the enumeration ActFn (src/arch/arch.h).
#define ACTIVATION_SILU 0
#define ACTIVATION_GELU_TANH 1
#define ACTIVATION_GELU_ERF 2
#define ACTIVATION_SWIGLU_CLAMPED 3 // of gate and up together: gated()
#define ACTIVATION_RELU_SQUARED 4
#define ACTIVATION_IDENTITY 5
#define ACTIVATION_SIGMOID 6

#define FORMAT_IS_FLOAT(format) ((format) <= FORMAT_BF16)
#define FORMAT_IS_IQ1(format) ((format) == FORMAT_IQ1_S || (format) == FORMAT_IQ1_M)
#define FORMAT_IS_IQ2(format) ((format) >= FORMAT_IQ2_XXS && (format) <= FORMAT_IQ2_S)
#define FORMAT_IS_IQ3(format) ((format) >= FORMAT_IQ3_XXS)
#define FORMAT_HAS_CODEBOOK(format) ((format) >= FORMAT_IQ1_S)

enum {
    BLOCK_WEIGHTS = 32,
    KV_PAGE = 16,                // tokens; KV_PAGE_TOKENS of src/base/limits.h
    ATTENTION_GROUP_KEYS = 1024, // keys whose sums are put together before others join (attend.cuh)
    ATTENTION_GROUP_SPLITS = 8,
    ACTIVATION_COLS = 128, // an activation buffer's rows are a multiple of (rows.cuh)
    BAND_ROWS = 16,
    QUAD_BANDS = 4,
    QUAD_ROWS = 64,
    REPACK_COLS = 2048, // of a band, of which a block of tile_repack.cuh makes tiles
};

// ---- weights ----

LAYOUT_FN unsigned layout_tile_cols(int format) {
    return (format >= FORMAT_Q2_K && format <= FORMAT_Q6_K) || format == FORMAT_IQ4_XS ||
                   format == FORMAT_TQ1_0 || format == FORMAT_TQ2_0 || FORMAT_HAS_CODEBOOK(format)
               ? 256
               : 128;
}

// Bits of a code, B: words of a row's block.
LAYOUT_FN unsigned layout_code_bits(int format) {
    return FORMAT_IS_FLOAT(format)                           ? 16
           : format == FORMAT_Q1_0 || format == FORMAT_TQ1_0 ? 1
           : FORMAT_IS_IQ1(format)                           ? 1
           : format == FORMAT_Q2_K || format == FORMAT_Q2_0  ? 2
           : format == FORMAT_TQ2_0 || FORMAT_IS_IQ2(format) ? 2
           : format == FORMAT_Q3_K || FORMAT_IS_IQ3(format)  ? 3
           : format >= FORMAT_Q5_0 && format <= FORMAT_Q5_1  ? 5
           : format == FORMAT_Q5_K                           ? 5
           : format == FORMAT_Q6_K                           ? 6
           : format == FORMAT_Q8_0                           ? 8
                                                             : 4;
}

// Where a tile's scales begin: bytes of its codes.
LAYOUT_FN unsigned layout_tile_scales_at(int format) {
    return BAND_ROWS / 8 * layout_tile_cols(format) * layout_code_bits(format);
}

// Bytes of a tile: a multiple of 16; as many as the file's blocks have.
LAYOUT_FN unsigned layout_tile_bytes16(int format) {
    return layout_tile_scales_at(format) + (FORMAT_IS_FLOAT(format)                           ? 0
                                            : format == FORMAT_Q4_1 || format == FORMAT_Q5_1  ? 256
                                            : format == FORMAT_MXFP4                          ? 64
                                            : format == FORMAT_Q2_K                           ? 256 + 64
                                            : format == FORMAT_Q3_K                           ? 192 + 32
                                            : format == FORMAT_Q4_K || format == FORMAT_Q5_K  ? 192 + 64
                                            : format == FORMAT_Q6_K                           ? 256 + 32
                                            : format == FORMAT_IQ4_XS                         ? 96 + 32
                                            : format == FORMAT_TQ1_0                          ? 256 + 64 + 32
                                            : format == FORMAT_TQ2_0 || format == FORMAT_Q1_0 ? 32
                                            : format == FORMAT_Q2_0                           ? 64
                                            : format == FORMAT_IQ1_S                          ? 256 + 32
                                            : format == FORMAT_IQ1_M                          ? 256 + 96 + 32
                                            : format == FORMAT_IQ2_XXS                        ? 32
                                            : format == FORMAT_IQ2_XS                         ? 128 + 32
                                            : format == FORMAT_IQ2_S                          ? 256 + 32
                                            : format == FORMAT_IQ3_XXS                        ? 32
                                            : format == FORMAT_IQ3_S                          ? 128 + 64 + 32
                                                                                              : 128);
}

// Which of the lane's words of a half is word i of row g (up 0) or g + 8 (up 1), codes of `bits` bits.
LAYOUT_FN unsigned layout_lane_word(unsigned bits, unsigned up, unsigned i) {
    return bits == 16                  ? i / 2 * 4 + i % 2 * 2 + up
           : bits % 2 && i + 1 == bits ? 2 * bits - 2 + up
           : bits % 2                  ? up * (bits - 1) + i
                                       : up * bits + i;
}

// Bytes from the tile's begin to that word of a lane's half.
LAYOUT_FN unsigned layout_code_word_at(unsigned bits, unsigned half, unsigned up, unsigned lane, unsigned i) {
    return half * bits * 256 + layout_lane_word(bits, up, i) / 4 * 512 +
           (lane * (layout_lane_word(bits, up, i) / 4 < bits / 2 ? 4 : 2) +
            layout_lane_word(bits, up, i) % 4) *
               4;
}

// Bit b of the code of column k of a lane's block: 32 * word + bit, in the words of its row. Not for TQ1_0
// and formats with a codebook.
LAYOUT_FN unsigned layout_code_place(int format, unsigned k, unsigned b) {
    return k % 2 * (format == FORMAT_IQ4_NL || format == FORMAT_IQ4_XS ? 8 : 16) + // the odd columns
           (format == FORMAT_IQ4_NL || format == FORMAT_IQ4_XS
                ? k / 8 * 32 + (k % 8 / 4 * 4 + k / 2 % 2) * 4 + b
            : format == FORMAT_Q1_0 ? 15 - k / 2
            : format == FORMAT_MXFP4 || format == FORMAT_NVFP4
                ? k / 8 * 32 +
                      (b == 3 ? (0x087Fu >> k / 2 % 4 * 4 & 15) : (0x4C19u >> k / 2 % 4 * 4 & 15) + b)
            : layout_code_bits(format) == 3
                ? k < 30 ? k / 10 * 32 + k / 2 % 5 * 3 + b : (0x102u >> b * 4 & 15) * 32 + 15
            : layout_code_bits(format) == 5
                ? k < 30 ? k / 6 * 32 + k / 2 % 3 * 5 + b : (0x31024u >> b * 4 & 15) * 32 + 15
            : layout_code_bits(format) == 6
                ? k % 16 < 12 ? (k / 16 * 3 + k % 16 / 4) * 32 + k / 2 % 2 * 10 + b
                  : b < 2     ? (k / 16 * 3 + 2) * 32 + k / 2 % 2 * 2 + 6 + b
                              : (k / 16 * 3 + k / 2 % 2) * 32 + 4 + b
                : k / 2 * layout_code_bits(format) / 16 * 32 + k / 2 * layout_code_bits(format) % 16 + b);
}

// IQ2, IQ3: which bit of a block's signs is that of column n of group l.
LAYOUT_FN unsigned layout_sign_place(unsigned l, unsigned n) {
    return n < 4 ? 8 * n + 3 - l : 8 * (n - 4) + 7 - l;
}

// Bytes of a copy of a format's codebook as kernels have it in shared memory (tiles_codebooks.cuh).
LAYOUT_FN unsigned layout_codebook_bytes(int format) {
    return FORMAT_IS_IQ1(format)                                ? 4096
           : format == FORMAT_IQ3_XXS                           ? 1024
           : format == FORMAT_IQ2_XXS || format == FORMAT_IQ3_S ? 2048
           : format == FORMAT_IQ2_XS                            ? 4096
           : format == FORMAT_IQ2_S                             ? 8192
                                                                : 0;
}

// Of a stage whose matrices have these formats (two may be the same). A multiple of 1,024.
LAYOUT_FN unsigned layout_codebooks_bytes(int first, int second, int third) {
    return layout_codebook_bytes(first) + (second == first ? 0 : layout_codebook_bytes(second)) +
           (third == first || third == second ? 0 : layout_codebook_bytes(third));
}

// Where in a matrix of n_cols columns the tile number `tile` of a band (16 rows) begins.
LAYOUT_FN unsigned long long layout_band_tile_at(int format, unsigned n_cols, unsigned band, unsigned tile) {
    return (((unsigned long long)(band / QUAD_BANDS) * CEIL_DIV(n_cols, layout_tile_cols(format)) + tile) *
                QUAD_BANDS +
            band % QUAD_BANDS) *
           layout_tile_bytes16(format);
}

LAYOUT_FN unsigned long long layout_factor_at(int format, unsigned n_rows, unsigned n_cols, unsigned row) {
    return layout_band_tile_at(format, n_cols, ROUND_UP(n_rows, (unsigned)QUAD_ROWS) / BAND_ROWS, 0) +
           row * 4ull;
}

// A multiple of 256.
LAYOUT_FN unsigned long long layout_matrix_bytes(int format, unsigned n_rows, unsigned n_cols) {
    return layout_factor_at(format, n_rows, n_cols, ROUND_UP(n_rows, (unsigned)QUAD_ROWS));
}

// Bands that tile_repack.cuh makes of the rows first_row … first_row + piece_rows - 1 of a matrix: the piece
// with the last row makes what is left of its quad.
LAYOUT_FN unsigned layout_piece_bands(unsigned n_rows, unsigned first_row, unsigned piece_rows) {
    return ((first_row + piece_rows < n_rows ? first_row + piece_rows
                                             : ROUND_UP(n_rows, (unsigned)QUAD_ROWS)) -
            first_row) /
           BAND_ROWS;
}

// ---- the cache ----

// Of f16: halves of one layer's part of one page, and of the keys (or values) of one head in it.
// clang-format off
#define KV_TILE_HALVES(head_dim) ((head_dim)*KV_PAGE)
#define KV_PAGE_HALVES(n_kv_heads, head_dim) ((n_kv_heads)*2 * KV_TILE_HALVES(head_dim))
// clang-format on

// Bytes of a piece: the keys (or values) of one head in one page.
LAYOUT_FN unsigned layout_kv_piece_bytes(unsigned is_q8, unsigned head_dim) {
    return is_q8 ? KV_PAGE * (head_dim + 2 * CEIL_DIV(head_dim, 256u)) : KV_PAGE * head_dim * 2;
}
// Bytes of shared memory for a head's keys and values of a page, so that each begins as far behind a multiple
// of 128 as it does in the cache. (They are a multiple of 64 bytes there.)
LAYOUT_FN unsigned layout_kv_page_room(unsigned is_q8, unsigned head_dim) {
    return ROUND_UP(2 * layout_kv_piece_bytes(is_q8, head_dim), 128u);
}
// In a piece whose tokens have row_bytes: bytes to unit `unit` of 16 bytes of a token.
LAYOUT_FN unsigned layout_kv_sheet_bytes(unsigned row_bytes) {
    return row_bytes % 128 == 0 ? 128 : row_bytes % 64 == 0 ? 64 : row_bytes % 32 == 0 ? 32 : 16;
}
LAYOUT_FN unsigned layout_kv_unit_at(unsigned row_bytes, unsigned token, unsigned unit) {
    unsigned sheet = layout_kv_sheet_bytes(row_bytes), units = sheet / 16;
    return token / 8 * 8 * row_bytes + (unit / units * 8 + token % 8) * sheet +
           ((unit % units) ^ (token * sheet / 128 % units)) * 16;
}
// Of Q8: bytes to a code, and to a token's scale.
LAYOUT_FN unsigned layout_kv_code_at(unsigned head_dim, unsigned is_value, unsigned token, unsigned dim) {
    return layout_kv_unit_at(head_dim, token, dim / 16) +
           (is_value ? dim % 8 * 2 + dim / 8 % 2 : dim % 8 / 2 * 4 + dim / 8 % 2 * 2 + dim % 2);
}
LAYOUT_FN unsigned layout_kv_scale_at(unsigned head_dim, unsigned token) {
    return KV_PAGE * head_dim + token * 2;
}

// Of f16: which half of a page's part has dimension `dim` of the token's key (value).
LAYOUT_FN unsigned layout_kv_at(unsigned head_dim, unsigned head, unsigned is_value, unsigned token,
                                unsigned dim) {
    return (head * 2 + is_value) * KV_TILE_HALVES(head_dim) +
           layout_kv_unit_at(head_dim * 2, token, dim / 8) / 2 + dim % 8;
}

// What the teams of attention.cuh give each other (BatchAttentionArgs.partial, .meetings). Rows of the
// tensor cores: at most 16 heads that share a KV head.
LAYOUT_FN unsigned layout_attention_heads(unsigned n_heads, unsigned n_kv_heads) { // a team's at a time
    return MIN(n_heads / n_kv_heads, 16u);
}
LAYOUT_FN unsigned layout_attention_lists(unsigned n_heads, unsigned n_kv_heads) { // of a row
    return n_kv_heads * CEIL_DIV(n_heads / n_kv_heads, 16u);
}
LAYOUT_FN unsigned layout_attention_triple_floats(unsigned n_heads, unsigned n_kv_heads, unsigned head_dim) {
    return layout_attention_heads(n_heads, n_kv_heads) * (head_dim + 2);
}
// Rows of a block of span_attention.cuh, which has `queries` rows of the tensor cores.
LAYOUT_FN unsigned layout_stretch_rows(unsigned n_heads, unsigned n_kv_heads, unsigned queries) {
    return queries / layout_attention_heads(n_heads, n_kv_heads);
}
// Floats of a place of BatchAttentionArgs.partial (span_parts.cuh): a triple of each list of a stretch.
LAYOUT_FN unsigned long long layout_stretch_floats(unsigned n_heads, unsigned n_kv_heads, unsigned head_dim,
                                                   unsigned queries) {
    return (unsigned long long)layout_attention_lists(n_heads, n_kv_heads) * queries * (head_dim + 2);
}
// Lists of groups that several teams share; groups_max: of the longest sequence.
LAYOUT_FN unsigned layout_attention_shared_lists(unsigned n_heads, unsigned n_kv_heads, unsigned max_rows,
                                                 unsigned teams) {
    return MIN(max_rows * layout_attention_lists(n_heads, n_kv_heads), teams);
}
LAYOUT_FN unsigned long long layout_attention_partial_floats(unsigned n_heads, unsigned n_kv_heads,
                                                             unsigned head_dim, unsigned max_rows,
                                                             unsigned teams, unsigned groups_max) {
    return (teams * (unsigned long long)ATTENTION_GROUP_SPLITS +
            layout_attention_shared_lists(n_heads, n_kv_heads, max_rows, teams) *
                (unsigned long long)groups_max) *
           layout_attention_triple_floats(n_heads, n_kv_heads, head_dim);
}
// What the blocks of mla_attention.cuh leave mla_fold.cuh (MlaAttentionArgs.partial), whose queries' heads
// are taken in chunks of `queries`. Of a prompt's rows: their totals, of n_blocks blocks.
LAYOUT_FN unsigned layout_mla_triple_floats(unsigned n_heads, unsigned kv_rank, unsigned queries) {
    return ROUND_UP(MIN(n_heads, queries) * (kv_rank + 2), 4u);
}
LAYOUT_FN unsigned long long layout_mla_partial_floats(unsigned n_heads, unsigned kv_rank, unsigned queries,
                                                       unsigned max_rows, unsigned n_blocks,
                                                       unsigned groups_max) {
    return (n_blocks * (unsigned long long)ATTENTION_GROUP_SPLITS +
            max_rows * (unsigned long long)CEIL_DIV(n_heads, queries) * groups_max) *
           layout_mla_triple_floats(n_heads, kv_rank, queries);
}
LAYOUT_FN unsigned long long layout_mla_total_floats(unsigned kv_rank, unsigned queries, unsigned n_blocks) {
    return (unsigned long long)n_blocks * queries * kv_rank;
}
LAYOUT_FN unsigned layout_attention_meetings(unsigned teams) {
    return 2 * teams;
}

// Halves of an activation buffer.
#define ACTIVATION_HALVES(n_rows, n_cols) ((unsigned long long)(n_rows)*ROUND_UP(n_cols, ACTIVATION_COLS))

#endif
