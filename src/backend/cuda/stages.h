// What the stages of a step are made of: patterns of operations, arguments, results. The stages themselves
// are rows of batch_stages.h.
#pragma once

#include "../kernels_src/args.h"
#include "backend/cuda/jit.h"
#include "backend/cuda/placement.h"

// Where the operations of a stage are in BatchStage.ops. Those that the plan does not have are NULL: a GLU
// without a gate is an activation.
enum { OUTPUT_MATMUL, OUTPUT_ADD };
enum { GLU_NORM, GLU_GATE, GLU_UP, GLU_GLU };
// JOIN, JOINED: where experts are beside the feed-forward, the sum with theirs, and its norm.
// LAUREL: a low rank's output, added behind what has the norm.
enum {
    POST_NORM_NORM,
    POST_NORM_JOIN,
    POST_NORM_JOINED,
    POST_NORM_ADD,
    POST_NORM_LAUREL,
    POST_NORM_SCALE,
};
enum { HEAD_NORM, HEAD_HEAD };
enum { LINEAR_NORM, LINEAR_MATMUL, LINEAR_ADD };
enum {
    LAYER_INPUTS_EMBED,
    LAYER_INPUTS_COPY,
    LAYER_INPUTS_MATMUL,
    LAYER_INPUTS_NORM,
    LAYER_INPUTS_ADD,
    LAYER_INPUTS_SCALE
};
enum { GATE_COPY, GATE_MATMUL, GATE_SLICE, GATE_GLU };
enum { SHARE_SHARE };
enum { STAGE_OPS_MAX = 16, STAGE_OPS_OWN_MAX = 12, STAGE_FILES_MAX = 16, STAGE_PATTERNS_MAX = 4 };

// An operation that may be part of a stage.
typedef struct {
    OpKind kind;
    Act out;
    Act in[OP_INPUTS_MAX];
    bool optional;
    bool is_norm; // LAYER_NORM and COPY will do, too
} StageOp;

// A run of operations that a stage computes; ops[i] becomes BatchStage.ops[i].
typedef struct {
    uint32_t n_ops; // 0: no pattern
    bool is_raw;
    StageOp ops[STAGE_OPS_OWN_MAX];
} StagePattern;

typedef union {
    EmbedArgs embed;
    EmbedNormArgs embed_norm;
    NormArgs norm;
    BatchPostNormArgs batch_post_norm;
    ProductArgs product;
    RopeHeadsArgs rope_heads;
    MlaQueriesArgs mla_queries;
    MlaValuesArgs mla_values;
    MlaAttentionArgs mla_attention;
    QkNormArgs qk_norm;
    LayerInputsArgs layer_inputs;
    StreamsArgs streams;
    SparseGluArgs sparse_glu;
    BatchAttentionArgs batch_attention;
    DrawArgs draw;
    RouteRowsArgs route_rows;
    GroupExpertsArgs group_experts;
    ExpertsArgs experts;
    ExpertsSumArgs experts_sum;
    StateConvArgs state_conv;
    StateHeadsArgs state_heads;
    StateGateArgs state_gate;
    StateFewArgs state_few;
    AttentionGateArgs attention_gate;
} StageArgs;

// ---- what a stage leaves behind ----

typedef enum {
    RESULT_ROWS,        // f32 [rows][width], which an observer may change
    RESULT_QUERIES,     // f16 [rows][width], as they go to attention: with the factor of its scores in them
    RESULT_KEYS,        // f16 of the layer's cache
    RESULT_VALUES,      // likewise
    RESULT_ACTIVATIONS, // f16 of the rows (layout.h), divided by `divisor`
} ResultForm;

// An operation's result that a stage leaves in memory, as the CPU reference has it after that operation.
typedef struct {
    const Op *op;
    ResultForm form;
    CUdeviceptr from;
    uint32_t width;  // values a row
    float divisor;   // QUERIES, ACTIVATIONS: of the values in memory, to come to the operation's
    uint32_t stride; // ROWS: values from one row to the next; 0: width
} StageResult;

enum { STAGE_RESULTS_MAX = 5 };
