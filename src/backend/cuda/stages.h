// The stages of a step: a stage is one row, a StageType, which says what it is made of, what its kernel is
// specialised by, what it is given and what it leaves behind. The rows are in stage_*.c, those of a token
// (decode_*.cuh, sample_*.cuh) beside those of a prompt's rows (prefill_*.cuh).
//
// Nothing asks what kind a stage is: who needs to know something of a stage asks its row. To add a stage,
// write its row and name it in STAGE_TYPES.
#pragma once

#include "../kernels_src/args.h"
#include "backend/cuda/jit.h"
#include "backend/cuda/placement.h"

typedef struct StageType StageType;
typedef struct Stage Stage;
typedef struct StageBuffers StageBuffers;
typedef struct Lowering Lowering; // lower_internal.h

// How a row of a step ends.
typedef enum {
    END_LAYERS, // no logits are wanted: a prompt's row
    END_HEAD,   // logits alone
    END_GREEDY,
    END_SAMPLE,
    END_GRAPHS, // rows that end so are a graph each
    // With a bias or a presence or frequency penalty: END_HEAD's graph, then the stages behind the head.
    END_GREEDY_ADJUSTED = END_GRAPHS,
    END_SAMPLE_ADJUSTED,
    END_LOGPROBS, // what follows a token whose log-probabilities are wanted
} RowEnd;

// The rows that a stage is run for: a bit for each end.
enum {
    ROWS_ADJUSTED = 1 << END_GREEDY_ADJUSTED | 1 << END_SAMPLE_ADJUSTED,
    ROWS_GREEDY = 1 << END_GREEDY | 1 << END_GREEDY_ADJUSTED,
    ROWS_SAMPLED = 1 << END_SAMPLE | 1 << END_SAMPLE_ADJUSTED,
    ROWS_LOGPROBS = 1 << END_LOGPROBS,
    ROWS_WITH_LOGITS = 1 << END_HEAD | ROWS_GREEDY | ROWS_SAMPLED,
    ROWS_ALL = 1 << END_LAYERS | ROWS_WITH_LOGITS,
    ROWS_OF_PROMPTS = 0, // a chunk's, which go through the layers together
};

// ---- what a stage is made of ----

// Where the operations of a stage are in Stage.ops. Those that the plan does not have are NULL: a GLU without
// a gate is an activation.
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
enum { STAGE_OPS_MAX = 9, STAGE_FILES_MAX = 12, STAGE_PATTERNS_MAX = 2, STAGE_PARTS_MAX = 4 };

// One stage of a model.
struct Stage {
    const StageType *type;
    uint32_t layer;
    uint32_t program;         // in Lowered.programs
    uint32_t first_op, n_ops; // of the plan; none for those that draw a token
    bool is_raw; // leaves its products as they are for the stage that follows: HEADS or POST_NORM
    const Op *ops[STAGE_OPS_MAX];
    // The stages of a token whose operations or results it needs; NULL where it needs none.
    const Stage
        *attention;        // QKV, HEADS: the one that takes its queries; OUTPUT: the one whose splits it adds
    const Stage *products; // HEADS, POST_NORM: the one that left its products raw
    const Stage *router;   // EXPERTS_GLU, EXPERTS_DOWN: the one that chose the experts
    const Stage *head;     // those behind it: the one that left the logits
    uint32_t splits_max;   // ATTENTION
    uint64_t weight_bytes; // that it reads, of matrices
};

// An operation that may be part of a stage.
typedef struct {
    OpKind kind;
    Act out;
    Act in[2];
    bool optional;
    bool is_norm; // LAYER_NORM will do, too
} StageOp;

// A run of operations that a stage computes; ops[i] becomes Stage.ops[i].
typedef struct {
    uint32_t n_ops; // 0: no pattern
    bool is_raw;
    StageOp ops[STAGE_OPS_MAX];
} StagePattern;

// A stage that a prompt's rows go through where a token goes through one of decoding: left out where
// operation `of` is not there.
typedef struct {
    const StageType *type; // NULL: the end
    uint8_t of;
    bool alone; // it has that operation only, as its first
} StagePart;

// ---- what a stage is given ----

// Device addresses of everything that stages read and write.
struct StageBuffers {
    const Placement *placement;
    CUdeviceptr weights; // the region
    CUdeviceptr kv;      // [layers][pages] of KV_PAGE_HALVES
    uint64_t kv_layer_bytes;
    CUdeviceptr x;           // [d_model]
    CUdeviceptr q;           // [heads][head_dim] f16
    CUdeviceptr raw;         // [heads + 2 kv_heads][head_dim]
    CUdeviceptr t;           // [d_model]
    CUdeviceptr part;        // [splits_max][heads][head_dim] f16
    CUdeviceptr part_weight; // [splits_max][heads][2]
    CUdeviceptr f;           // [d_ff], or [experts used][d_ff of an expert]
    CUdeviceptr route;       // [experts] the router's logits
    CUdeviceptr logits;      // [n_vocab]
    CUdeviceptr best;        // [head_blocks] HeadBest
    CUdeviceptr sample_scratch;
    CUdeviceptr adjusted;      // [n_vocab] logits after sample_adjust
    CUdeviceptr adjusted_best; // [head_blocks] HeadBest
    CUdeviceptr logprobs_scratch;
    CUdeviceptr row; // StepRow: the one that the stages of decoding work on
    // Of a prompt's rows, [max_rows] each (kernels_src/args.h).
    CUdeviceptr span; // StepSpan
    CUdeviceptr rows_x;
    CUdeviceptr rows_h;
    CUdeviceptr rows_q;
    CUdeviceptr rows_raw;
    CUdeviceptr rows_t;
    CUdeviceptr rows_a;
    CUdeviceptr rows_f;
    CUdeviceptr rows_rope[PLACED_ROPES_MAX];
    // Of a mixture of experts: [max_rows], and [slots] of them in the order of their experts.
    CUdeviceptr rows_choice; // [experts used] ExpertRowChoice
    CUdeviceptr rows_slot;   // [experts used]
    CUdeviceptr rows_factor;
    CUdeviceptr tiles; // [tiles] ExpertTile
    CUdeviceptr slots_h;
    CUdeviceptr slots_f;
    CUdeviceptr slots_out;
};

// What a stage of decoding is given besides StepRow; all 0 for a prompt's stages.
typedef struct {
    CUdeviceptr x;        // [d_model] the residual stream that the head reads
    CUdeviceptr rules;    // SampleRules
    CUdeviceptr logprobs; // [TOKEN_RING] SampleLogprobs
    bool adjusted;        // the token is drawn from sample_adjust's logits instead of the head's
} StageRow;

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
    SampleAdjustArgs sample_adjust;
    SampleLogprobsArgs sample_logprobs;
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
    // Of batches (batch_stages.h).
    EmbedArgs embed;
    RopeArgs rope;
    NormArgs norm;
    BatchPostNormArgs batch_post_norm;
    ProductArgs product;
    RopeHeadsArgs rope_heads;
    BatchAttentionArgs batch_attention;
    DrawArgs draw;
    RouteRowsArgs route_rows;
    GroupExpertsArgs group_experts;
    ExpertsArgs experts;
    ExpertsSumArgs experts_sum;
} StageArgs;

// ---- what a stage leaves behind ----

typedef enum {
    RESULT_ROWS,        // f32 [rows][width], which an observer may change
    RESULT_QUERIES,     // f16 [rows][width], as they go to attention: with the factor of its scores in them
    RESULT_KEYS,        // f16 of the layer's cache
    RESULT_VALUES,      // likewise
    RESULT_SPLITS,      // of one row, in StageBuffers.part: attention_splits.cuh adds them up
    RESULT_ACTIVATIONS, // f16 of a prompt's rows (layout.h), divided by `divisor`
} ResultForm;

// An operation's result that a stage leaves in memory, as the CPU reference has it after that operation.
typedef struct {
    const Op *op;
    ResultForm form;
    CUdeviceptr from;
    uint32_t width; // values a row
    float divisor;  // QUERIES, ACTIVATIONS: of the values in memory, to come to the operation's
} StageResult;

enum { STAGE_RESULTS_MAX = 3 };

// ---- the rows ----

// How a stage that multiplies one vector shares a multiprocessor with its neighbours (lower_shapes.c).
typedef struct {
    bool most; // of its shared memory
    uint8_t warps_resident;
    uint8_t warps_streaming;
    uint8_t unit_rows_least; // rows of weights that a warp has at once, at least
} MatvecShare;

struct StageType {
    const char *kernel;
    const char *name;                          // for people
    const char *files[STAGE_FILES_MAX + 1];    // of its program, for JitProgram; NULL behind the last
    uint32_t cost;                             // of its program, for JitProgram
    uint32_t rows;                             // ROWS_…
    StagePattern patterns[STAGE_PATTERNS_MAX]; // the first that fits is taken; none for those that draw or
                                               // take their operations from a stage of decoding
    StagePart prompt[STAGE_PARTS_MAX];         // of a stage of decoding
    MatvecShare matvec;                        // zero for those that do not multiply one vector by a matrix
    bool has_flops;                            // a prompt's: computes the products of its operations

    // Finds its neighbours: the stages before and after it in the plan, NULL at the ends. They are matched,
    // and those before it are linked. Errors: ERR_UNSUPPORTED.
    bool (*link)(const Lowering *l, Stage *s, const Stage *before, const Stage *after, Error *err);
    // What the kernel does not take, beyond lower.c's check of every operation. Errors: ERR_UNSUPPORTED.
    bool (*check)(const Lowering *l, const Stage *s, Error *err);
    // Whether a prompt's stage has something to do that none before it has done.
    bool (*is_needed)(const Lowering *l, const Stage *s);
    // Writes its #defines.
    void (*define)(StrBuf *b, const Lowering *l, const Stage *s);
    // Fills the arguments, which are zero.
    void (*bind)(const Stage *s, const StageBuffers *b, const StageRow *row, StageArgs *out);
    // Fills `out` and returns how many results an observer can see.
    uint32_t (*results)(const Stage *s, const StageBuffers *b, StageResult out[STAGE_RESULTS_MAX]);
};

// STAGE(row), in the order in which a token, and then a prompt's rows, go through them.
// clang-format off
#define STAGE_TYPES(STAGE)          \
    STAGE(qkv)                      \
    STAGE(heads)                    \
    STAGE(attention)                \
    STAGE(output)                   \
    STAGE(glu)                      \
    STAGE(down)                     \
    STAGE(post_norm)                \
    STAGE(route)                    \
    STAGE(experts_glu)              \
    STAGE(experts_down)             \
    STAGE(head)                     \
    STAGE(adjust)                   \
    STAGE(greedy)                   \
    STAGE(sample)                   \
    STAGE(logprobs)                 \
    STAGE(prefill_embed)            \
    STAGE(prefill_rope)             \
    STAGE(prefill_norm)             \
    STAGE(prefill_qkv)              \
    STAGE(prefill_heads)            \
    STAGE(prefill_attention)        \
    STAGE(prefill_output)           \
    STAGE(prefill_glu)              \
    STAGE(prefill_down)             \
    STAGE(prefill_post_norm)        \
    STAGE(prefill_route)            \
    STAGE(prefill_group)            \
    STAGE(prefill_gather)           \
    STAGE(prefill_experts_glu)      \
    STAGE(prefill_experts_down)     \
    STAGE(prefill_experts_sum)
// clang-format on

#define STAGE_DECLARE(row) extern const StageType stage_##row;
STAGE_TYPES(STAGE_DECLARE)
#undef STAGE_DECLARE

#define STAGE_ONE(row) +1
enum { STAGE_TYPES_COUNT = 0 STAGE_TYPES(STAGE_ONE) };
#undef STAGE_ONE

// All of them, in their order; NULL past the end.
const StageType *stage_type_at(uint32_t index);

// Whether it is run for a row of decoding that ends so.
static inline bool stage_is_for(const Stage *s, RowEnd end) {
    return (s->type->rows & 1u << end) != 0;
}

// Whether it comes behind the head, where a token is drawn and its sequence advanced.
static inline bool stage_draws(const StageType *type) {
    return type->rows != ROWS_OF_PROMPTS && !(type->rows & (1u << END_LAYERS | 1u << END_HEAD));
}

// The arguments of a stage for a row of decoding, or, with NULL, for a chunk.
void stage_bind(const Stage *s, const StageBuffers *b, const StageRow *row, StageArgs *out);
