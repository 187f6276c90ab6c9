// The stages of a decode step: what each one is made of, and what it is given. Kernels:
// kernels_src/decode_*.cuh.
#pragma once

#include "../kernels_src/args.h"
#include "plan/plan.h"

#include <cuda.h>

// STAGE(id, kernel, name for people)
#define STAGES(STAGE)                                                     \
    STAGE(QKV, "decode_qkv", "norm, q k v, rope")                         \
    STAGE(HEADS, "decode_heads", "norm of heads, rope")                   \
    STAGE(ATTENTION, "decode_attention", "attention")                     \
    STAGE(OUTPUT, "decode_output", "attention output")                    \
    STAGE(GLU, "decode_glu", "norm, gate up")                             \
    STAGE(DOWN, "decode_output", "down")                                  \
    STAGE(POST_NORM, "decode_post_norm", "norm of output")                \
    STAGE(ROUTE, "decode_route", "norm, router")                          \
    STAGE(EXPERTS_GLU, "decode_experts_glu", "experts' gate up")          \
    STAGE(EXPERTS_DOWN, "decode_experts_down", "experts' down")           \
    STAGE(HEAD, "decode_head", "norm, head")                              \
    STAGE(GREEDY, "sample_greedy", "greedy")                              \
    STAGE(SAMPLE, "sample_full", "sampling")                              \
    STAGE(PREFILL_EMBED, "prefill_embed", "embedding")                    \
    STAGE(PREFILL_ROPE, "prefill_rope", "turns")                          \
    STAGE(PREFILL_NORM, "prefill_norm", "norm")                           \
    STAGE(PREFILL_QKV, "prefill_qkv", "q k v, rope")                      \
    STAGE(PREFILL_HEADS, "prefill_heads", "norm of heads, rope")          \
    STAGE(PREFILL_ATTENTION, "prefill_attention", "attention")            \
    STAGE(PREFILL_OUTPUT, "prefill_output", "attention output")           \
    STAGE(PREFILL_GLU, "prefill_glu", "gate up")                          \
    STAGE(PREFILL_DOWN, "prefill_output", "down")                         \
    STAGE(PREFILL_POST_NORM, "prefill_post_norm", "norm of output")       \
    STAGE(PREFILL_ROUTE, "prefill_route", "router")                       \
    STAGE(PREFILL_GROUP, "prefill_group", "rows by expert")               \
    STAGE(PREFILL_GATHER, "prefill_gather", "experts' rows")              \
    STAGE(PREFILL_EXPERTS_GLU, "prefill_experts_glu", "experts' gate up") \
    STAGE(PREFILL_EXPERTS_DOWN, "prefill_experts_down", "experts' down")  \
    STAGE(PREFILL_EXPERTS_SUM, "prefill_experts_sum", "sum of experts")

typedef enum {
#define STAGE_ENUM(id, kernel, name) STAGE_##id,
    STAGES(STAGE_ENUM)
#undef STAGE_ENUM
        STAGE_KIND_COUNT
} StageKind;

// Where the operations of a stage are in Stage.ops. Those that the plan does not have are NULL:
// a QKV without a write to the cache leaves rows as the matrices give them, for HEADS; an OUTPUT or a DOWN
// without a sum, for POST_NORM; a GLU without a gate is an activation.
enum { QKV_EMBED, QKV_POSITION, QKV_NORM, QKV_Q, QKV_K, QKV_V, QKV_ROPE_Q, QKV_ROPE_K, QKV_KV_WRITE };
enum { HEADS_NORM_Q, HEADS_NORM_K, HEADS_ROPE_Q, HEADS_ROPE_K, HEADS_KV_WRITE };
enum { ATTENTION_ATTENTION };
enum { OUTPUT_MATMUL, OUTPUT_ADD };
enum { GLU_NORM, GLU_GATE, GLU_UP, GLU_GLU };
enum { POST_NORM_NORM, POST_NORM_ADD };
enum { ROUTE_NORM, ROUTE_MATMUL, ROUTE_ROUTE };
enum { EXPERTS_GATE, EXPERTS_UP, EXPERTS_GLU };
enum { EXPERTS_DOWN, EXPERTS_SUM, EXPERTS_ADD };
enum { HEAD_NORM, HEAD_HEAD };
enum { STAGE_OPS_MAX = 9 };

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
    HeadsArgs heads;
    AttentionArgs attention;
    OutputArgs output;
    PostNormArgs post_norm;
    GluArgs glu;
    RouteArgs route;
    ExpertsGluArgs experts_glu;
    ExpertsDownArgs experts_down;
    HeadArgs head;
    SampleArgs sample;
    PrefillEmbedArgs prefill_embed;
    PrefillRopeArgs prefill_rope;
    PrefillNormArgs prefill_norm;
    PrefillQkvArgs prefill_qkv;
    PrefillHeadsArgs prefill_heads;
    PrefillAttentionArgs prefill_attention;
    PrefillOutputArgs prefill_output;
    PrefillPostNormArgs prefill_post_norm;
    PrefillGluArgs prefill_glu;
    PrefillRouteArgs prefill_route;
    PrefillGroupArgs prefill_group;
    PrefillGatherArgs prefill_gather;
    PrefillExpertsGluArgs prefill_experts_glu;
    PrefillExpertsDownArgs prefill_experts_down;
    PrefillExpertsSumArgs prefill_experts_sum;
} StageArgs;

// Whether it leaves its product for a stage that follows, HEADS or POST_NORM.
bool stage_is_raw(const Stage *s);
// What turns its queries (or, with `of_keys`, its keys); NULL for none.
const Rope *stage_rope(const Stage *s, bool of_keys);
const char *stage_kernel(StageKind kind);
const char *stage_name(StageKind kind);
// Of its program, for JitProgram.
const char *const *stage_files(StageKind kind);
uint32_t stage_cost(StageKind kind);
