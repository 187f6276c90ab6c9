#include "backend/cuda/stages.h"

static const StageType *const types[] = {
#define STAGE_POINTER(row) &stage_##row,
    STAGE_TYPES(STAGE_POINTER)
#undef STAGE_POINTER
};

const StageType *stage_type_at(uint32_t index) {
    return index < COUNT_OF(types) ? types[index] : NULL;
}

void stage_bind(const Stage *s, const StageBuffers *b, const StageRow *row, StageArgs *out) {
    static const StageRow none = {0};
    *out = (StageArgs){0};
    s->type->bind(s, b, row ? row : &none, out);
}
