// What the files of operations share.
#pragma once

#include "backend/cpu/cpu_ops.h"

typedef struct {
    const CpuOp *op;
    CpuStep *step;
} RowWork;

// Rows lie as close as the operation's widths allow; who writes a buffer and who reads it agree on them.
static inline float *in_row(const CpuStep *s, const Op *op, uint32_t input, uint32_t row) {
    return s->act[op->in[input]] + (uint64_t)row * op->in_width[input];
}

static inline float *out_row(const CpuStep *s, const Op *op, uint32_t row) {
    return s->act[op->out] + (uint64_t)row * op->out_width;
}

// out += weight * in
void add_scaled(float *restrict out, const float *restrict in, float weight, uint32_t n);

float activate(ActFn fn, float x);

// PoolFns of rows: SPARSIFY; STREAM, STREAMS and the others of several streams.
void sparsify_rows(void *context, uint32_t thread, uint32_t from, uint32_t to);
void stream_rows(void *context, uint32_t thread, uint32_t from, uint32_t to);

// A PoolFn of rows (CONV); DELTA and SSM.
void conv_rows(void *context, uint32_t thread, uint32_t from, uint32_t to);
void state_op(const CpuOp *op, CpuStep *s);
