// The variants as compiled for sm_90: formats of weights.
#define SM_ARCH 90
#include "prelude.h"

#include "stages.h"

#define VARIANT repack_bf16
#include "run.h"
#define VARIANT repack_f16
#include "run.h"
#define VARIANT repack_f32
#include "run.h"
#define VARIANT repack_iq4_nl
#include "run.h"
#define VARIANT repack_iq4_xs
#include "run.h"
#define VARIANT repack_mxfp4
#include "run.h"
#define VARIANT repack_q2_k
#include "run.h"
#define VARIANT repack_q3_k
#include "run.h"
#define VARIANT repack_q4_0
#include "run.h"
#define VARIANT repack_q4_1
#include "run.h"
#define VARIANT repack_q4_k
#include "run.h"
#define VARIANT repack_q5_0
#include "run.h"
#define VARIANT repack_q5_1
#include "run.h"
#define VARIANT repack_q5_k
#include "run.h"
#define VARIANT repack_q6_k
#include "run.h"
#define VARIANT repack_q8_0
#include "run.h"

const EmulatedStage emulated_stages_90_weights[] = {
    repack_bf16::describe(),
    repack_f16::describe(),
    repack_f32::describe(),
    repack_iq4_nl::describe(),
    repack_iq4_xs::describe(),
    repack_mxfp4::describe(),
    repack_q2_k::describe(),
    repack_q3_k::describe(),
    repack_q4_0::describe(),
    repack_q4_1::describe(),
    repack_q4_k::describe(),
    repack_q5_0::describe(),
    repack_q5_1::describe(),
    repack_q5_k::describe(),
    repack_q6_k::describe(),
    repack_q8_0::describe(),
};
const unsigned n_emulated_stages_90_weights = sizeof emulated_stages_90_weights / sizeof emulated_stages_90_weights[0];
