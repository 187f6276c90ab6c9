// The plan: a model as a flat array of operations with every number resolved and every weight bound and
// checked.
//
// It is the contract between the two backends: both run the same array. It is built once, from the header of
// the file, before anything is read of the weights; it lives in the arena it was built in and points into the
// mapped file.
#pragma once

#include "arch/arch.h"
#include "base/strbuf.h"
#include "model/weights.h"

// A rotary embedding: row at position p turns pair i of each head by the angle p * inv_freq[i].
typedef struct {
    const float *inv_freq; // [dims / 2]
    uint32_t dims;
    RopePairs pairs;
    float scale; // on cos and sin (an attention factor); 1 otherwise
} Rope;

typedef struct {
    OpKind kind;
    uint32_t layer; // 0 for operations outside the layers
    Act out;        // ACT_NONE where the result is not an activation (KV_WRITE, HEAD)
    Act in[2];
    const Weight *weight; // NULL for none
    const Weight *bias;   // NULL for none
    union {
        struct {
            float eps;
            uint32_t group; // values that share one mean: the whole row, or a head
        } norm;
        struct {
            const Rope *rope;
            uint32_t n_heads;
            uint32_t head_dim;
        } rope;
        struct {
            uint32_t window; // 0: all earlier positions
            float scale;     // on the scores
            float cap;       // of the scaled scores; 0: none
        } attention;
        struct {
            float cap; // of the logits; 0: none
        } head;
        struct {
            float scale;
        } embed;
        ActFn fn;        // GLU, ACTIVATION
        uint32_t n_used; // ROUTE, EXPERT_MATMUL, EXPERT_SUM: experts a row
    };
} Op;

typedef struct {
    const Arch *arch;
    ModelConfig config;
    const Op *ops;
    uint32_t n_ops;
    const Weight *weights; // every weight that an operation uses, each once
    uint32_t n_weights;
    uint32_t act_width[ACT_COUNT]; // values a row
    uint64_t weight_bytes;         // in the file, each tensor once (a tied head counts once)
    uint64_t kv_bytes_per_token;   // with the cache in f16: 2 * layers * kv_heads * head_dim * 2
} Plan;

// Errors: unknown architecture (with the supported list), missing or mistyped keys, values out of range or at
// odds with each other, tensors missing or of another shape or type. `arena` keeps the plan.
MUST_CHECK bool plan_build(const GgufFile *file, Arena *arena, Plan **out, Error *err);

const char *plan_op_name(OpKind kind);
// Where an operation is, for messages: "layer 3, MATMUL with blk.3.ffn_down.weight".
void plan_name_op(const Op *op, StrBuf *out);

// One line an operation, for people and for tests: "blk.0  MATMUL  Q = blk.0.attn_q.weight [576, 576] Q4_1 ·
// H".
Str plan_describe(const Plan *plan, Arena *arena);
