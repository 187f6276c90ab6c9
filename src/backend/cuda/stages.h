// The stages of a decode step: what each one is made of, and what it is given. Kernels:
// kernels_src/decode_*.cuh.
#pragma once

#include "../kernels_src/args.h"
#include "plan/plan.h"

#include <cuda.h>

// STAGE(id, kernel, name for people)
#define STAGES(STAGE)                                           \
    STAGE(QKV, "decode_qkv", "norm, q k v, rope")               \
    STAGE(ATTENTION, "decode_attention", "attention")           \
    STAGE(OUTPUT, "decode_output", "attention output")          \
    STAGE(GLU, "decode_glu", "norm, gate up")                   \
    STAGE(DOWN, "decode_output", "down")                        \
    STAGE(HEAD, "decode_head", "norm, head")                    \
    STAGE(GREEDY, "sample_greedy", "greedy")                    \
    STAGE(SAMPLE, "sample_full", "sampling")                    \
    STAGE(PREFILL_EMBED, "prefill_embed", "embedding")          \
    STAGE(PREFILL_ROPE, "prefill_rope", "turns")                \
    STAGE(PREFILL_NORM, "prefill_norm", "norm")                 \
    STAGE(PREFILL_QKV, "prefill_qkv", "q k v, rope")            \
    STAGE(PREFILL_ATTENTION, "prefill_attention", "attention")  \
    STAGE(PREFILL_OUTPUT, "prefill_output", "attention output") \
    STAGE(PREFILL_GLU, "prefill_glu", "gate up")                \
    STAGE(PREFILL_DOWN, "prefill_output", "down")

typedef enum {
#define STAGE_ENUM(id, kernel, name) STAGE_##id,
    STAGES(STAGE_ENUM)
#undef STAGE_ENUM
        STAGE_KIND_COUNT
} StageKind;

// Where the operations of a stage are in Stage.ops. Those that the plan does not have are NULL.
enum { QKV_EMBED, QKV_NORM, QKV_Q, QKV_K, QKV_V, QKV_ROPE_Q, QKV_ROPE_K, QKV_KV_WRITE };
enum { ATTENTION_ATTENTION };
enum { OUTPUT_MATMUL, OUTPUT_ADD };
enum { GLU_NORM, GLU_GATE, GLU_UP, GLU_GLU };
enum { HEAD_NORM, HEAD_HEAD };
enum { STAGE_OPS_MAX = 8 };

typedef struct {
    StageKind kind;
    uint32_t layer;
    uint32_t program;         // in Lowered.programs
    uint32_t first_op, n_ops; // of the plan; none for those that sample
    const Op *ops[STAGE_OPS_MAX];
    uint64_t weight_bytes; // that it reads, of matrices
} Stage;

typedef union {
    QkvArgs qkv;
    AttentionArgs attention;
    OutputArgs output;
    GluArgs glu;
    HeadArgs head;
    SampleArgs sample;
    PrefillEmbedArgs prefill_embed;
    PrefillRopeArgs prefill_rope;
    PrefillNormArgs prefill_norm;
    PrefillQkvArgs prefill_qkv;
    PrefillAttentionArgs prefill_attention;
    PrefillOutputArgs prefill_output;
    PrefillGluArgs prefill_glu;
} StageArgs;

const char *stage_kernel(StageKind kind);
const char *stage_name(StageKind kind);
// The files of its program, for JitProgram.
const char *const *stage_files(StageKind kind);
