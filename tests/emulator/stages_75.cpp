// The variants as compiled for sm_75.
#define SM_ARCH 75
#include "prelude.h"

#include "stages.h"

#define VARIANT qkv_ring
#include "run.h"
#define VARIANT output_q4_k
#include "run.h"
#define VARIANT attention_7x64
#include "run.h"

const EmulatedStage emulated_stages_75[] = {
    qkv_ring::describe(),
    output_q4_k::describe(),
    attention_7x64::describe(),
};
const unsigned n_emulated_stages_75 = sizeof emulated_stages_75 / sizeof emulated_stages_75[0];
