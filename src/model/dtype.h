// The formats that a tensor's elements come in: one table row each.
//
// Every format is made of blocks: a fixed number of consecutive elements of one row, in a fixed number of
// bytes. A row of a tensor is a whole number of blocks, and blocks follow each other without padding. Layouts
// are those of the GGML project's block structures (dtype_blocks.h has them), values as its `gguf` package
// (Q1_0 and Q2_0, which that lacks: its library) dequantises them, to the bit. Any bytes are a block: every
// index of a codebook that a file can hold has an entry.
//
// Everything here is const or pure; any thread may call it.
#pragma once

#include "base/base.h"

// The float values of `n_blocks` consecutive blocks. `blocks` needs no alignment; `out` holds n_blocks *
// block_elements floats and does not overlap it. Reads and writes exactly that much.
typedef void DequantizeFn(const uint8_t *blocks, float *out, size_t n_blocks);

// name, id in a file (ggml_type), elements a block, bytes a block, dequantiser
#define DTYPES(ROW)                               \
    ROW(F32, 0, 1, 4, dequantize_f32)             \
    ROW(F16, 1, 1, 2, dequantize_f16)             \
    ROW(BF16, 30, 1, 2, dequantize_bf16)          \
    ROW(Q4_0, 2, 32, 18, dequantize_q4_0)         \
    ROW(Q4_1, 3, 32, 20, dequantize_q4_1)         \
    ROW(Q5_0, 6, 32, 22, dequantize_q5_0)         \
    ROW(Q5_1, 7, 32, 24, dequantize_q5_1)         \
    ROW(Q8_0, 8, 32, 34, dequantize_q8_0)         \
    ROW(Q2_K, 10, 256, 84, dequantize_q2_k)       \
    ROW(Q3_K, 11, 256, 110, dequantize_q3_k)      \
    ROW(Q4_K, 12, 256, 144, dequantize_q4_k)      \
    ROW(Q5_K, 13, 256, 176, dequantize_q5_k)      \
    ROW(Q6_K, 14, 256, 210, dequantize_q6_k)      \
    ROW(IQ4_NL, 20, 32, 18, dequantize_iq4_nl)    \
    ROW(IQ4_XS, 23, 256, 136, dequantize_iq4_xs)  \
    ROW(MXFP4, 39, 32, 17, dequantize_mxfp4)      \
    ROW(NVFP4, 40, 64, 36, dequantize_nvfp4)      \
    ROW(TQ1_0, 34, 256, 54, dequantize_tq1_0)     \
    ROW(TQ2_0, 35, 256, 66, dequantize_tq2_0)     \
    ROW(Q1_0, 41, 128, 18, dequantize_q1_0)       \
    ROW(Q2_0, 42, 64, 18, dequantize_q2_0)        \
    ROW(IQ1_S, 19, 256, 50, dequantize_iq1_s)     \
    ROW(IQ1_M, 29, 256, 56, dequantize_iq1_m)     \
    ROW(IQ2_XXS, 16, 256, 66, dequantize_iq2_xxs) \
    ROW(IQ2_XS, 17, 256, 74, dequantize_iq2_xs)   \
    ROW(IQ2_S, 22, 256, 82, dequantize_iq2_s)     \
    ROW(IQ3_XXS, 18, 256, 98, dequantize_iq3_xxs) \
    ROW(IQ3_S, 21, 256, 110, dequantize_iq3_s)

typedef enum {
#define DTYPE_ENUM(name, ggml_id, block_elements, block_bytes, dequantizer) DTYPE_##name,
    DTYPES(DTYPE_ENUM)
#undef DTYPE_ENUM
        DTYPE_COUNT
} Dtype;

enum { DTYPE_BLOCK_ELEMENTS_MAX = 256 };

typedef struct {
    const char *name; // "Q4_K"
    uint32_t ggml_id;
    uint32_t block_elements;
    uint32_t block_bytes;
    DequantizeFn *dequantize;
} DtypeInfo;

// `dtype` is one of the enumeration's values.
const DtypeInfo *dtype_info(Dtype dtype);

// False for an id that is not one of the formats above; *out is then untouched.
MUST_CHECK bool dtype_from_ggml_id(uint32_t ggml_id, Dtype *out);

// "Q8_1" for an id that GGML gave a meaning, whether or not it is supported here; NULL for any other
// number.
const char *dtype_ggml_name(uint32_t ggml_id);

// Bytes of a row of `n_elements`, which is a multiple of block_elements.
static inline uint64_t dtype_row_bytes(Dtype dtype, uint64_t n_elements) {
    const DtypeInfo *info = dtype_info(dtype);
    return n_elements / info->block_elements * info->block_bytes;
}
