// The plan: a model as a flat array of operations with every number resolved and every weight bound and
// checked.
//
// It is the contract between the two backends: both run the same array. It is built once, from the header of
// the file, before anything is read of the weights (but for those that are made anew: weight_turn); it lives
// in the arena it was built in and points into the mapped file.
#pragma once

#include "arch/arch.h"
#include "base/strbuf.h"
#include "model/weights.h"
#include "plan/kv_layout.h"

// A rotary embedding: row at position p turns pair i of each head by the angle p * inv_freq[i].
typedef struct {
    const float *inv_freq; // [dims / 2]
    uint32_t dims;
    RopePairs pairs;
    float scale; // on cos and sin (an attention factor); 1 otherwise
} Rope;

// Dimensions are those of this operation: layers of one model may differ.
typedef struct {
    OpKind kind;
    uint32_t layer; // 0 for operations outside the layers
    Act out;        // ACT_NONE where the result is not an activation (KV_WRITE, HEAD)
    Act in[OP_INPUTS_MAX];
    uint32_t out_width; // values a row of the result: of `out`, or of HEAD the logits; 0 for KV_WRITE
    uint32_t in_width[OP_INPUTS_MAX]; // values a row of each input; 0 where there is none
    const Weight *weight;             // NULL for none; of EXPERT_MATMUL and HEAD_MATMUL a matrix for each
    const Weight *bias;               // NULL for none
    uint32_t n_used;                  // ROUTE, EXPERT_MATMUL, EXPERT_SUM: experts a row
    union {
        RouteConfig route;
        struct {
            float eps;
            uint32_t group; // values that share one mean: the whole row, or a head; values behind the
                            // last whole group of a row stay as they are
        } norm;
        struct {
            const Rope *rope;
            uint32_t n_heads;
            uint32_t head_dim;
            uint32_t first; // of each head's values that are turned; those before it stay as they are
        } rope;
        struct {
            uint32_t cache; // index into the plan's caches
            uint32_t n_kv_heads;
            uint32_t key_dim;
            uint32_t value_dim;
        } kv_write;
        struct {
            uint32_t cache; // index into the plan's caches: the one that a KV_WRITE before it fills
            uint32_t n_heads;
            uint32_t n_kv_heads; // divides n_heads
            uint32_t key_dim;    // of queries, too
            uint32_t value_dim;  // of a head's output, too
            uint32_t window;     // 0: all earlier positions
            bool is_chunked;     // from the last multiple of `window` on
            float scale;         // on the scores
            float cap;           // of the scaled scores; 0: none
            // On the scores of a row at position p: 1 + scale * ln(1 + floor((p + offset) / length))
            float temperature_scale; // 0: nothing
            uint32_t temperature_length;
            uint32_t temperature_offset;
        } attention;
        struct {
            uint32_t cache; // index into the plan's caches
            uint32_t taps;
            ActFn fn;
        } conv;
        struct {
            uint32_t cache;       // index into the plan's caches
            uint32_t n_heads;     // of values
            uint32_t n_key_heads; // divides n_heads
            uint32_t key_dim;     // of queries and keys (SSM: of c and b)
            uint32_t value_dim;   // of a head's values (SSM: of its x)
            bool tiled; // head h is of key head h % n_key_heads; else of h / (n_heads / n_key_heads)
        } state;        // DELTA, SSM
        struct {
            float scale; // on the logits
            float cap;   // of the scaled logits; 0: none
        } head;
        struct {
            float scale; // on in1
        } add;
        struct {
            float scale;
        } embed;
        struct {
            uint32_t n; // streams of a row
            uint32_t active;
        } streams;
        float scale;    // SCALE
        float sparsity; // SPARSIFY
        ActFn fn;       // GLU, ACTIVATION
    };
} Op;

// The first position that a row of an ATTENTION sees.
static inline uint32_t op_first_seen(const Op *op, uint32_t position) {
    uint32_t window = op->attention.window;
    if (window == 0) return 0;
    if (op->attention.is_chunked) return position - position % window;
    return position + 1 > window ? position + 1 - window : 0;
}

typedef struct {
    const Arch *arch;
    const Op *ops;
    uint32_t n_ops;
    const Weight *weights; // every weight that an operation uses, each once
    uint32_t n_weights;
    const Cache *caches;
    uint32_t n_caches;
    KvLayout kv; // of those that are paged
    uint32_t n_layers;
    uint32_t n_own_kv;         // the layers behind read keys and values of others
    uint32_t n_vocab;          // rows of the embedding and of the head
    const int32_t *suppressed; // [n_suppressed] tokens that are never drawn; the plan's
    uint32_t n_suppressed;
    uint32_t n_context;            // positions that the model was made for
    uint32_t d_model;              // values a row of the residual stream
    uint32_t act_width[ACT_COUNT]; // values a row, at most: an operation may use fewer
    uint64_t weight_bytes;         // in the file, each tensor that is used once (a tied head counts once)
    KvType kv_type;                // of all paged caches
    uint64_t kv_bytes_per_token;   // of all paged caches, while no window is full
    uint64_t slot_bytes;           // of all others: what a sequence keeps besides its pages
    // What the file has and this model does without, for people: empty where there is nothing.
    Str ignored_keys;    // with ignore_unknown_keys: "llama.attention.causal = no, …"
    Str skipped_tensors; // "vision: 439 tensors, …"
    uint32_t n_skipped_tensors;
} Plan;

typedef struct {
    bool ignore_unknown_keys; // keys that may change what the model computes are listed, not refused
    KvType kv_type;           // what keys and values are kept as
} PlanOptions;

// Errors: unknown architecture (with the supported list), missing or mistyped keys, values out of range or at
// odds with each other, tensors missing or of another shape or type, a cache of Q8 for a model whose cache is
// compressed. `arena` keeps the plan.
MUST_CHECK bool plan_build(const GgufFile *file, Arena *arena, Plan **out, Error *err);
MUST_CHECK bool plan_build_with(const GgufFile *file, const PlanOptions *options, Arena *arena, Plan **out,
                                Error *err);
// By the tables of `arch`, whatever the file's general.architecture says (its keys begin with that name of
// `arch`).
MUST_CHECK bool plan_build_as(const GgufFile *file, const Arch *arch, const PlanOptions *options,
                              Arena *arena, Plan **out, Error *err);

const char *plan_op_name(OpKind kind);
// "-" for ACT_NONE.
const char *plan_act_name(Act act);
uint32_t plan_op_inputs(OpKind kind); // how many of `in` it reads
// Where an operation is, for messages: "layer 3, MATMUL with blk.3.ffn_down.weight".
void plan_name_op(const Op *op, StrBuf *out);

// One line an operation, for people and for tests: "blk.0  MATMUL  Q = blk.0.attn_q.weight [576, 576] Q4_1 ·
// H".
Str plan_describe(const Plan *plan, Arena *arena);
