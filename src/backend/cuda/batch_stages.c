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

void batch_bind(const BatchStage *s, const BatchBuffers *b, StageArgs *out) {
    *out = (StageArgs){0};
    s->type->bind(s, b, out);
}
