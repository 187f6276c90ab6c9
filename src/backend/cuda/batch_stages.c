#include "backend/cuda/batch_stages.h"

#define ROW_POINTER(row) &batch_block_##row,
static const BatchBlock *const blocks[] = {BATCH_BLOCKS(ROW_POINTER)};
#undef ROW_POINTER
#define ROW_POINTER(row) &batch_##row,
static const BatchType *const types[] = {BATCH_TYPES(ROW_POINTER)};
#undef ROW_POINTER

const BatchBlock *batch_block_at(uint32_t index) {
    return index < COUNT_OF(blocks) ? blocks[index] : NULL;
}

const BatchType *batch_type_at(uint32_t index) {
    return index < COUNT_OF(types) ? types[index] : NULL;
}

// The buffers as the stage sees them: `x` is where the residual stream is behind it.
static BatchBuffers buffers_of(const BatchStage *s, const BatchBuffers *b) {
    BatchBuffers of = *b;
    if (s->x_is_other) of.x = b->x_other, of.x_other = b->x;
    return of;
}

void batch_bind(const BatchStage *s, const BatchBuffers *b, StageArgs *out) {
    BatchBuffers of = buffers_of(s, b);
    *out = (StageArgs){0};
    s->type->bind(s, &of, out);
}

uint32_t batch_results(const BatchStage *s, const BatchBuffers *b, StageResult out[STAGE_RESULTS_MAX]) {
    BatchBuffers of = buffers_of(s, b);
    uint32_t n = s->post ? batch_post_norm.results(s->post, &of, out) : 0;
    return n + s->type->results(s, &of, out + n);
}
