// The stages of batches: rows of any sequences that go through the layers together. A plan is blocks, runs
// of operations that belong together (BatchBlock), and a block becomes stages, one kernel each (BatchType),
// which ones depends on the class: the capacity of the batch. The rows of both are in batch_stage_*.c.
//
// The classes are 1 and 8 rows ("few"), 16, 32 and 64 rows ("many"), and prompts', of few or many. A row's
// values are the same bits in all of them. The norm before a product is a stage, but of one row, where the
// product takes it by itself.
//
// Nothing asks what kind a stage is: who needs to know something of a stage asks its row.
#pragma once

#include "backend/cuda/stages.h"

typedef struct BatchBlock BatchBlock;
typedef struct BatchType BatchType;
typedef struct BatchStage BatchStage;
typedef struct BatchBuffers BatchBuffers;
typedef struct BatchLowering BatchLowering; // batch_lower_internal.h

// Bits, so that a row can name several.
enum {
    BODY_ONE = 1,
    BODY_EIGHT = 2,
    BODY_MANY = 4,
    BODY_PROMPT = 8,
    BODY_FEW = BODY_ONE | BODY_EIGHT,
    BODY_TOGETHER = BODY_MANY | BODY_PROMPT,
    BODY_NORMED = BODY_EIGHT | BODY_TOGETHER, // whose norms are stages
    BODY_ANY = BODY_FEW | BODY_TOGETHER,
};

// All operations of a block, as BatchType.reads has them.
enum { READS_ALL = (1 << STAGE_OPS_MAX) - 1 };

enum { BATCH_FEW_ROWS_MAX = 8, BATCH_ROWS_MAX = 128, BATCH_CLASSES_MAX = 10, BATCH_PARTS_MAX = 12 };

// Classes of their own for so few rows of prompts and of those that decode beside them, BATCH_SHORT_ROWS,
// half as many, and so on down to BATCH_SHORTEST_ROWS: one tile, whose columns are spread over the GPU, and
// experts' tiles for the rows that they have then. Other prompts' classes have a multiple of
// BATCH_SHORT_ROWS.
enum { BATCH_SHORT_ROWS = 128, BATCH_SHORTEST_ROWS = 32 };

// Where stretches are divided: parts that each multiprocessor gets, about; and what their triples may take.
enum { STRETCH_PARTS = 4, DIVIDED_BYTES_MAX = 144 << 20 };

// How prompts' rows are cut into stretches (RowStretch) for attention, which has several ways where layers'
// heads differ.
typedef struct {
    uint32_t rows;      // of a stretch, at most
    uint32_t half_rows; // steps of up to as many are cut into stretches of half as many; 0: none
    uint32_t at_once;   // stretches with which each multiprocessor has a task; 0: they stay whole
    uint64_t floats;    // of a place of triples (span_parts.cuh), at most
} StretchCut;

// What a batch's class is specialised by.
typedef struct {
    uint32_t max_rows;
    uint32_t body; // BODY_ONE, BODY_EIGHT, BODY_MANY or BODY_PROMPT
    // Of prompts: their products have tiles of 64 rows alone, which compile in two thirds of the time; else
    // of 128, and of 64 where these leave multiprocessors without work (NARROW_TILES of product_many.cuh).
    bool is_small;
} BatchSize;

// What rows need of the stages that draw, a bit each.
enum {
    NEED_GREEDY = 1,
    NEED_SAMPLED = 2,
    NEED_ADJUSTED = 4, // mask, biases, penalties
    NEED_LOGPROBS = 8,
    NEED_ANY = NEED_GREEDY | NEED_SAMPLED | NEED_ADJUSTED | NEED_LOGPROBS,
};

// A class's graphs, by what is in them behind the layers.
typedef enum {
    TAIL_GREEDY, // the head, and draws where all rows are greedy
    TAIL_SAMPLED,
    TAIL_ANY,  // … with biases, penalties and log-probabilities, each as its sequence asks
    TAIL_HEAD, // the head alone: the draws come later
    TAIL_COUNT,
} BatchTail;

static inline uint32_t batch_tail_needs(uint32_t tail) {
    static const uint32_t needs[TAIL_COUNT] = {NEED_GREEDY, NEED_SAMPLED, NEED_ANY, 0};
    return needs[tail];
}

// ---- blocks ----

// Where the operations of a block are in BatchStage.ops. Those that the plan does not have are NULL.
enum { EMBED_EMBED, EMBED_POSITION, EMBED_NORM };
enum { PRODUCTS_NORM, PRODUCTS_Q, PRODUCTS_GATE, PRODUCTS_K, PRODUCTS_V };
enum { ATTENTION_ATTENTION, ATTENTION_GATE };
// Products that a layer with a state makes of its input: what is convolved, the gate, and what else there is.
enum { INPUTS_NORM, INPUTS_CONV, INPUTS_GATE, INPUTS_DT, INPUTS_BETA, INPUTS_TIMES };
enum {
    STATE_TIMES, // a short convolution alone: on what is convolved
    STATE_CONV,
    STATE_DELTA,
    STATE_SSM,
    STATE_GATE_FIRST, // before the norm
    STATE_NORM,
    STATE_GATE_LAST, // behind it
    STATE_GATE_CONV, // a short convolution alone
};
enum {
    MIXTURE_NORM,
    MIXTURE_ROUTER,
    MIXTURE_ROUTE,
    MIXTURE_INPUT,  // the experts' own norm, where they are beside a dense feed-forward
    MIXTURE_LATENT, // the product that makes their input, where it is narrower than the norm
    MIXTURE_GATE,
    MIXTURE_UP,
    MIXTURE_WEIGH, // gates, where the experts' inputs are weighted
    MIXTURE_GLU,
    MIXTURE_DOWN,
    MIXTURE_SUM,
    MIXTURE_ADD, // experts beside: the norm of their sum, which POST_NORM makes; not of narrower ones
    // Of a shared expert, where one row's stages compute it, too (BatchStage.ops).
    MIXTURE_SHARED_GATE = STAGE_OPS_OWN_MAX,
    MIXTURE_SHARED_UP,
    MIXTURE_SHARED_GLU,
    MIXTURE_SHARED_DOWN, // not where that has a stage of its own
};
enum {
    TURNS_NORM_Q,
    TURNS_NORM_K,
    TURNS_NORM_V,
    TURNS_ROPE_Q,
    TURNS_ROPE_K,
    TURNS_TURNED_Q, // norms behind the turn
    TURNS_TURNED_K,
    TURNS_KV_WRITE // not where the layer reads what an earlier one has written
};

// A stage that a block becomes in classes of `bodies`; left out where operation `of` is not there.
typedef struct {
    const BatchType *type; // NULL: the end
    uint8_t of;
    uint8_t bodies;
    bool alone; // it has that operation only, as its first
} BatchPart;

struct BatchBlock {
    StagePattern patterns[STAGE_PATTERNS_MAX];
    BatchPart parts[BATCH_PARTS_MAX];
    bool is_head; // what is behind it works on the rows whose logits are wanted
    // Finds its neighbours: the blocks before and after it, NULL at the ends. Errors: ERR_UNSUPPORTED.
    bool (*link)(BatchStage *s, const BatchStage *before, const BatchStage *after, Error *err);
    // What no kernel takes, beyond batch_lower.c's check of every operation. Errors: ERR_UNSUPPORTED.
    bool (*check)(const BatchLowering *l, const BatchStage *s, Error *err);
};

// ---- stages ----

// A block (type NULL), or a stage that it becomes.
struct BatchStage {
    const BatchBlock *block;
    const BatchType *type;
    uint32_t layer;
    uint32_t turn;            // of a stage that a block has several times: which
    uint32_t program;         // in BatchLowered.programs
    uint32_t first_op, n_ops; // of the plan; none for those that draw a token
    bool is_raw;              // OUTPUT, DOWN, EXPERTS: leaves its product (sum) for POST_NORM
    bool is_given;            // a library multiplies, and the kernel finishes (library_products.h)
    // From STAGE_OPS_OWN_MAX on: those of blocks around it that it computes, too, of one row.
    const Op *ops[STAGE_OPS_MAX];
    const BatchStage *turns;  // ATTENTION: the block before it
    const BatchStage *inputs; // STATE: the block before it
    bool has_gates;           // PRODUCTS, TURNS, ATTENTION: of heads
    const Op *attention;      // PRODUCTS, TURNS, ATTENTION: the operation that takes its queries
    const Op *values;         // TURNS: the one that left the values; NULL: they are an earlier layer's
    const Op *queries;        // of a compressed cache, PRODUCTS and TURNS: the one that made the queries
    const Op *low_rank;       // likewise: the one before it, or NULL
    const Op *share;          // EXPERTS, DOWN: what says how much a shared expert between them counts
    bool joins_experts;       // GLU, DOWN: of a shared expert, which of one row the experts' stages compute
    const Op *shared_add;     // EXPERTS: which then adds it
    // One row's PRODUCTS, GLU, LAYER_GATE, EXPERTS: the POST_NORM before it, whose norm it makes itself.
    const BatchStage *post;
    bool x_is_other;       // the residual stream is in x_other, or (post) goes there
    uint32_t cut;          // of prompts' attention: in BatchLowered.cuts
    const Op *beside;      // POST_NORM: the norm of what experts beside the feed-forward gave, or NULL
    const Op *head;        // those that draw: the operation that left the logits
    uint64_t weight_bytes; // of the matrices that it reads
};

// Device addresses of what the stages of one class read and write.
struct BatchBuffers {
    const Placement *placement;
    CUdeviceptr weights;     // the region
    CUdeviceptr kv;          // [places][pages] of KvLayout.place_bytes; KvLayout.is_mixed: [pages][places]
    uint64_t kv_place_bytes; // from a place to the next
    const Cache *caches;     // the plan's
    uint32_t pages_max;      // of a list, in a slot's row of the page table
    uint32_t max_rows;       // that `raw` has room for; short prompts use that of long ones
    CUdeviceptr states;      // [slots][slot_floats] what layers with a state keep (cache_slot_at)
    uint64_t slot_floats;
    CUdeviceptr slots; // [slots] SlotState
    // The table of the class: side by side, so that one copy sends it.
    CUdeviceptr batch;                   // Batch
    CUdeviceptr logits_rows;             // [max_rows]
    CUdeviceptr stretches[STRETCH_CUTS]; // of prompts: [max_stretches] RowStretch
    CUdeviceptr runs;                    // where layers keep a state: [max_runs] RowRun
    CUdeviceptr rows;                    // [max_rows] BatchRow
    // [max_rows] each; activations as in layout.h.
    CUdeviceptr x;       // [d_model]
    CUdeviceptr x_other; // [d_model] of one row, where stages make a new x of it that all their blocks read
    CUdeviceptr h;       // activations of d_model
    CUdeviceptr raw;     // [raw_cols] of the products of one input
    CUdeviceptr q;       // of prompts, or of a compressed cache: [heads][head_dim] f16
    CUdeviceptr a;       // activations of heads * head_dim
    CUdeviceptr t;       // [d_model]
    CUdeviceptr m;       // [sum_cols] of what is not added to x at once: experts' sum, a low rank's output
    CUdeviceptr latent;  // activations of few columns: of narrower experts, of a low rank; 0: there are none
    CUdeviceptr f;       // activations of d_ff, and of a layer's embedding behind its gate
    CUdeviceptr layer_inputs; // [layers][d_per_layer]
    CUdeviceptr rope[PLACED_ROPES_MAX];
    // Of models with several streams.
    CUdeviceptr xs, xp;                     // [streams][d_model]; what a layer expects of them
    CUdeviceptr rest[ARGS_STREAMS_MAX - 1]; // activations of d_model: streams but the first
    // Of layers with a state.
    CUdeviceptr mixed;   // [conv_cols]
    CUdeviceptr factors; // [state_heads][4]
    CUdeviceptr y;       // activations of state_cols
    // Of a mixture of experts; those of many rows are 0 for few.
    CUdeviceptr route;     // [experts] the router's logits
    CUdeviceptr share;     // [max_rows] how much a shared expert counts
    CUdeviceptr choice;    // many: [experts used] ExpertRowChoice
    CUdeviceptr slot;      // many: [experts used]
    CUdeviceptr weights_h; // many, where the experts' inputs are weighted: [slots]
    CUdeviceptr tiles;     // many: [tiles] ExpertTile
    CUdeviceptr n_tiles;   // many: their number
    CUdeviceptr slots_h;   // activations of the experts' input, a row a slot; few: h or latent
    CUdeviceptr slots_f;   // activations of an expert's d_ff
    CUdeviceptr slots_out; // [slots][d_model]
    CUdeviceptr arrivals;  // few: counters
    // Of all classes, which do not run at once.
    CUdeviceptr partial, meetings;
    // Of prompts whose products a library computes: rows and a piece of a matrix as plain f16, what it has
    // multiplied (f32), and its workspace.
    CUdeviceptr plain, dequantised, given, workspace;
    CUdeviceptr logits; // [rows][n_vocab], of the largest class
    CUdeviceptr best;   // [rows][head_blocks] HeadBest
    CUdeviceptr adjusted, adjusted_best;
    CUdeviceptr scratch; // [rows] DrawScratch
};

struct BatchType {
    const char *kernel;
    const char *name;                       // for people
    const char *files[STAGE_FILES_MAX + 1]; // of its program, for JitProgram; NULL behind the last
    // The same of one that finishes what a library has multiplied; none where the stage multiplies always.
    const char *given_files[STAGE_FILES_MAX + 1];
    uint32_t cost;       // of its program, for JitProgram
    uint32_t needed_for; // NEED_…, of those that draw; 0 for all others
    uint32_t reads; // bits: those of its block's operations whose matrices, cache or state it computes with
    bool defines_rows; // its define() writes MAX_ROWS, too
    bool folds_parts;  // it is left out where all stretches are whole
    bool folds_groups; // of rows that decode: it is left out where none has more than a group of keys
    // Of prompts' attention: how it wants rows cut. NULL: of all others.
    StretchCut (*stretches)(const BatchLowering *l, const BatchStage *s);
    // Whether it has something to do that no stage before it has done; NULL: always.
    bool (*is_needed)(const BatchLowering *l, const BatchStage *s);
    // How many times a block has it, one after the other; NULL: once.
    uint32_t (*turns)(const BatchStage *s);
    // Writes its #defines.
    void (*define)(StrBuf *b, const BatchLowering *l, const BatchStage *s);
    // Fills the arguments, which are zero.
    void (*bind)(const BatchStage *s, const BatchBuffers *b, StageArgs *out);
    // Fills `out` and returns how many results an observer can see.
    uint32_t (*results)(const BatchStage *s, const BatchBuffers *b, StageResult out[STAGE_RESULTS_MAX]);
};

// clang-format off
// A run of operations becomes the first block whose pattern fits.
#define BATCH_BLOCKS(BLOCK) \
    BLOCK(embed)            \
    BLOCK(layer_inputs)     \
    BLOCK(mla_products)     \
    BLOCK(mla_turns)        \
    BLOCK(products)         \
    BLOCK(turns)            \
    BLOCK(mla_attention)    \
    BLOCK(attention)        \
    BLOCK(inputs)           \
    BLOCK(state)            \
    BLOCK(state_output)     \
    BLOCK(output)           \
    BLOCK(linear)           \
    BLOCK(glu)              \
    BLOCK(down)             \
    BLOCK(layer_gate)       \
    BLOCK(layer_out)        \
    BLOCK(spread)           \
    BLOCK(mix)              \
    BLOCK(laurel)           \
    BLOCK(sparse)           \
    BLOCK(news)             \
    BLOCK(streams_join)     \
    BLOCK(mean)             \
    BLOCK(experts)          \
    BLOCK(latent_out)       \
    BLOCK(share)            \
    BLOCK(post_norm)        \
    BLOCK(head)

// In the order in which rows go through them.
#define BATCH_TYPES(TYPE)   \
    TYPE(embed)             \
    TYPE(embed_norm)        \
    TYPE(copy)              \
    TYPE(layer_product)     \
    TYPE(layer_product_many) \
    TYPE(layer_inputs)      \
    TYPE(spread_copy)       \
    TYPE(streams_rest)      \
    TYPE(streams_product)   \
    TYPE(streams_product_many) \
    TYPE(spread)            \
    TYPE(mix)               \
    TYPE(latent_in)         \
    TYPE(latent_in_many)    \
    TYPE(laurel_out)        \
    TYPE(laurel_out_many)   \
    TYPE(laurel)            \
    TYPE(norm)              \
    TYPE(qkv)               \
    TYPE(qkv_many)          \
    TYPE(qk_norm)           \
    TYPE(rope_heads)        \
    TYPE(turn_queries)      \
    TYPE(attention)         \
    TYPE(span_attention)    \
    TYPE(span_wgmma)        \
    TYPE(span_wide)         \
    TYPE(span_fold)         \
    TYPE(mla_inputs)        \
    TYPE(mla_inputs_many)   \
    TYPE(mla_norm)          \
    TYPE(mla_product)       \
    TYPE(mla_product_many)  \
    TYPE(mla_queries)       \
    TYPE(mla_attention)     \
    TYPE(mla_fold)          \
    TYPE(mla_fold_many)     \
    TYPE(mla_stretches)     \
    TYPE(mla_stretches_wgmma) \
    TYPE(mla_values)        \
    TYPE(mla_values_many)   \
    TYPE(attention_gate)    \
    TYPE(inputs)            \
    TYPE(inputs_many)       \
    TYPE(state_conv)        \
    TYPE(state_heads)       \
    TYPE(state_gate)        \
    TYPE(state_few)         \
    TYPE(state_output)      \
    TYPE(state_output_many) \
    TYPE(output)            \
    TYPE(output_many)       \
    TYPE(linear)            \
    TYPE(linear_many)       \
    TYPE(post_norm)         \
    TYPE(glu)               \
    TYPE(glu_many)          \
    TYPE(sparse_products)   \
    TYPE(sparse_products_many) \
    TYPE(sparse_glu)        \
    TYPE(down)              \
    TYPE(down_many)         \
    TYPE(layer_gate)        \
    TYPE(layer_gate_many)   \
    TYPE(layer_out)         \
    TYPE(layer_out_many)    \
    TYPE(news)              \
    TYPE(streams_join)      \
    TYPE(mean)              \
    TYPE(route)             \
    TYPE(group)             \
    TYPE(experts_glu)       \
    TYPE(experts_glu_many)  \
    TYPE(experts_down)      \
    TYPE(experts_down_many) \
    TYPE(experts_sum)       \
    TYPE(latent_sum)        \
    TYPE(latent_out)        \
    TYPE(latent_out_many)   \
    TYPE(norm_of_logits)    \
    TYPE(head)              \
    TYPE(head_many)         \
    TYPE(adjust)            \
    TYPE(greedy)            \
    TYPE(rank)              \
    TYPE(sample)            \
    TYPE(logprobs)
// clang-format on

#define BATCH_DECLARE(row) extern const BatchBlock batch_block_##row;
BATCH_BLOCKS(BATCH_DECLARE)
#undef BATCH_DECLARE
#define BATCH_DECLARE(row) extern const BatchType batch_##row;
BATCH_TYPES(BATCH_DECLARE)
#undef BATCH_DECLARE

#define BATCH_ONE(row) +1
enum { BATCH_TYPES_COUNT = 0 BATCH_TYPES(BATCH_ONE) };
#undef BATCH_ONE

// All of them, in their order; NULL past the end.
const BatchBlock *batch_block_at(uint32_t index);
const BatchType *batch_type_at(uint32_t index);

// The arguments of a stage.
void batch_bind(const BatchStage *s, const BatchBuffers *b, StageArgs *out);

// Fills `out` and returns how many results of a stage an observer can see.
uint32_t batch_results(const BatchStage *s, const BatchBuffers *b, StageResult out[STAGE_RESULTS_MAX]);

// Operation i of the stage's block if the stage reads what that computes with; else NULL.
static inline const Op *batch_op_read(const BatchStage *s, uint32_t i) {
    return s->type->reads >> i & 1 ? s->ops[i] : NULL;
}

static inline bool batch_draws(const BatchType *type) {
    return type->needed_for != 0;
}
