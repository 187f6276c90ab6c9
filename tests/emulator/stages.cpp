// See stages.h.
#include "stages.h"

static const EmulatedStage *first;

void emulated_stage_register(EmulatedStage *stage) {
    stage->next = first;
    first = stage;
}

const EmulatedStage *emulated_stages(void) {
    return first;
}
