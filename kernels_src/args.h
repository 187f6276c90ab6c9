// What the host passes to each stage. C17 (the host fills these and passes them as the kernel's one
// parameter) and CUDA C++.
//
// Device pointers are plain numbers for the host. Every array is float32 and 16-byte aligned where nothing
// else is said.
#ifndef KERNELS_ARGS_H
#define KERNELS_ARGS_H

#ifdef __cplusplus
#define DEVICE_PTR(type) type *
#else
#define DEVICE_PTR(type) unsigned long long // CUdeviceptr
#endif

// ---- what a step works on ----

// Tokens of a sequence that are drawn before the host has fetched the first of them.
enum { TOKEN_RING = 4 };

// StepRow.token: the one that the row's sequence drew last.
enum { ROW_TOKEN_DRAWN = -1 };

// A token at a position of a sequence, and how the next one is drawn: 80 bytes. The stages of decoding work
// on one row, at a fixed place. The host writes it when the row is not what the stage that draws has left
// there: it makes the row its sequence's next one, so that one sequence decodes without a copy from the host.
typedef struct {
    int token;         // or ROW_TOKEN_DRAWN
    unsigned position; // of the token
    unsigned step;     // tokens that the sequence has drawn: the counter of the random numbers
    unsigned slot;     // of the sequence
    // SamplerParams of src/backend/sampler.h
    unsigned top_k;
    float temperature, top_p, min_p;
    float repetition_penalty; // 1 where sample_adjust takes it off
    unsigned reserved;
    unsigned long long seed;
    DEVICE_PTR(unsigned) seen;         // a bit a token id: prompt and output
    DEVICE_PTR(unsigned short) counts; // [vocabulary] how often each was drawn, or NULL: nobody asks
    DEVICE_PTR(int) drawn;             // [TOKEN_RING] the sequence's tokens, or -1, each at step % TOKEN_RING
    DEVICE_PTR(const unsigned)
    pages; // the slot's row of the page table; the page of `position` is there already
} StepRow;

// Rows of one prompt that go through the layers together: 32 bytes.
typedef struct {
    unsigned n_rows;
    unsigned position; // of the first row
    unsigned slot;
    unsigned reserved;
    DEVICE_PTR(const int) tokens;     // [n_rows]
    DEVICE_PTR(const unsigned) pages; // the slot's row of the page table; the rows' pages are there already
} StepSpan;

// ---- stages of decoding ----

// decode_qkv.cuh
typedef struct {
    DEVICE_PTR(const StepRow) row;
    DEVICE_PTR(float) x;                   // [D_MODEL] the residual stream; written where FIRST, else read
    DEVICE_PTR(const unsigned char) embed; // FIRST: the embedding's matrix
    DEVICE_PTR(const float) learned;       // FIRST with LEARNED_POSITIONS: [positions][D_MODEL]
    DEVICE_PTR(const float) norm;          // [D_MODEL]
    DEVICE_PTR(const float) norm_bias;     // [D_MODEL], LAYER_NORM
    DEVICE_PTR(const unsigned char) weight[3]; // query, key, value matrices
    DEVICE_PTR(const float) bias[3];           // or NULL
    DEVICE_PTR(const float) inv_freq;          // [ROPE_DIMS / 2]
    DEVICE_PTR(unsigned short) q;              // out [N_HEADS][HEAD_DIM] f16, times SCORE_SCALE * log2(e)
    DEVICE_PTR(unsigned short) kv;             // the layer's cache
    DEVICE_PTR(float) raw; // RAW: out [N_HEADS + 2 N_KV_HEADS][HEAD_DIM] instead, as the matrices give them
} QkvArgs;

// decode_heads.cuh
typedef struct {
    DEVICE_PTR(const StepRow) row;
    DEVICE_PTR(const float) raw;      // [N_HEADS + 2 N_KV_HEADS][HEAD_DIM] of decode_qkv
    DEVICE_PTR(const float) norm[2];  // [HEAD_DIM] of queries, of keys
    DEVICE_PTR(const float) inv_freq; // [ROPE_DIMS / 2]
    DEVICE_PTR(unsigned short) q;     // out as of decode_qkv
    DEVICE_PTR(unsigned short) kv;    // the layer's cache
} HeadsArgs;

// decode_attention.cuh
typedef struct {
    DEVICE_PTR(const StepRow) row;
    DEVICE_PTR(const unsigned short) q;
    DEVICE_PTR(const unsigned short) kv;
    DEVICE_PTR(unsigned short) part; // out [splits][N_HEADS][HEAD_DIM] f16, each split's softmax taken alone
    DEVICE_PTR(float) part_weight;   // out [splits][N_HEADS][2]: largest score, sum of 2^(score - largest)
} AttentionArgs;

// decode_output.cuh: attention output, and down
typedef struct {
    DEVICE_PTR(const StepRow) row;          // FROM_ATTENTION
    DEVICE_PTR(const unsigned short) part;  // FROM_ATTENTION
    DEVICE_PTR(const float) part_weight;    // FROM_ATTENTION
    DEVICE_PTR(const float) sinks;          // HAS_SINKS: [N_HEADS] a score each that has no value
    DEVICE_PTR(const float) in;             // [N_COLS], not FROM_ATTENTION
    DEVICE_PTR(const unsigned char) weight; // [N_ROWS][N_COLS]
    DEVICE_PTR(const float) bias;           // [N_ROWS] or NULL
    DEVICE_PTR(float) x;                    // [N_ROWS] += the product; RAW: = the product
} OutputArgs;

// decode_post_norm.cuh
typedef struct {
    DEVICE_PTR(const float) t;    // [D_MODEL] of decode_output
    DEVICE_PTR(const float) norm; // [D_MODEL]
    DEVICE_PTR(float) x;          // [D_MODEL] += the norm of t
} PostNormArgs;

// decode_glu.cuh
typedef struct {
    DEVICE_PTR(const float) x;                 // [D_MODEL]
    DEVICE_PTR(const float) norm;              // [D_MODEL]
    DEVICE_PTR(const float) norm_bias;         // [D_MODEL], LAYER_NORM
    DEVICE_PTR(const unsigned char) weight[2]; // gate, up: [D_FF][D_MODEL]; UNGATED: up alone, the first
    DEVICE_PTR(const float) bias[2];           // [D_FF] or NULL, HAS_BIAS
    DEVICE_PTR(float) out;                     // [D_FF]
} GluArgs;

// decode_route.cuh
typedef struct {
    DEVICE_PTR(const float) x;              // [D_MODEL]
    DEVICE_PTR(const float) norm;           // [D_MODEL]
    DEVICE_PTR(const unsigned char) weight; // the router: [N_EXPERTS][D_MODEL]
    DEVICE_PTR(const float) bias;           // [N_EXPERTS] or NULL
    DEVICE_PTR(float) logits;               // out [N_EXPERTS]
} RouteArgs;

// decode_experts_glu.cuh
typedef struct {
    DEVICE_PTR(const float) x;                 // [D_MODEL]
    DEVICE_PTR(const float) norm;              // [D_MODEL]
    DEVICE_PTR(const float) logits;            // [N_EXPERTS] the router's
    DEVICE_PTR(const unsigned char) weight[2]; // gate, up: [N_EXPERTS][D_FF][D_MODEL]
    DEVICE_PTR(const float) bias[2];           // [N_EXPERTS][D_FF] or NULL
    DEVICE_PTR(float) out;                     // [N_USED][D_FF]
} ExpertsGluArgs;

// decode_experts_down.cuh
typedef struct {
    DEVICE_PTR(const float) logits;         // [N_EXPERTS] the router's
    DEVICE_PTR(const float) in;             // [N_USED][D_FF]
    DEVICE_PTR(const unsigned char) weight; // [N_EXPERTS][D_MODEL][D_FF]
    DEVICE_PTR(const float) bias;           // [N_EXPERTS][D_MODEL] or NULL
    DEVICE_PTR(float) x;                    // [D_MODEL] += the sum
} ExpertsDownArgs;

// The best logit of some rows; logits that are not numbers count as such in n_bad.
typedef struct {
    float value;
    int token; // -1 where there is none above -infinity
    unsigned n_bad;
    unsigned reserved;
} HeadBest;

// decode_head.cuh
typedef struct {
    DEVICE_PTR(const StepRow) row;
    DEVICE_PTR(const float) x;              // [D_MODEL]
    DEVICE_PTR(const float) norm;           // [D_MODEL]
    DEVICE_PTR(const float) norm_bias;      // [D_MODEL], LAYER_NORM
    DEVICE_PTR(const unsigned char) weight; // [N_VOCAB][D_MODEL]
    DEVICE_PTR(const float) bias;           // [N_VOCAB] or NULL
    DEVICE_PTR(float) logits;               // out [N_VOCAB], as the model gives them
    DEVICE_PTR(HeadBest) best;              // out [BLOCKS], after the repetition penalty
} HeadArgs;

enum {
    SAMPLE_BINS = 2048,
    SAMPLE_ROUNDS = 3,
    SAMPLE_BLOCKS_MAX = 256,
    SAMPLE_MEETINGS = 2 * SAMPLE_ROUNDS + 1
};

// What the blocks of sample_full tell each other. Launches take turns with the halves: each clears the
// other's.
typedef struct {
    unsigned launch; // of those before
    unsigned reserved[15];
    struct {
        unsigned long long mass[2][SAMPLE_ROUNDS][SAMPLE_BINS];
        unsigned count[2][SAMPLE_ROUNDS][SAMPLE_BINS];
        unsigned meetings[SAMPLE_MEETINGS + 1];
        struct {
            unsigned long long mass;
            unsigned long long ties;
        } block[SAMPLE_BLOCKS_MAX];
    } half[2];
} SampleScratch;

// sample_*.cuh
typedef struct {
    DEVICE_PTR(StepRow) row;
    DEVICE_PTR(const float) logits;    // [N_VOCAB]
    DEVICE_PTR(const HeadBest) best;   // [HEAD_BLOCKS]
    DEVICE_PTR(SampleScratch) scratch; // not for greedy; zeros before the first launch
} SampleArgs;

enum { SAMPLE_BIAS_MAX = 300, SAMPLE_LOGPROBS_MAX = 20 }; // LOGIT_BIAS_MAX, LOGPROBS_MAX of src/base/limits.h

typedef struct {
    int token;
    float bias;
} SampleBias;

// What a sequence asks for besides StepRow's rules; written by the host when it begins.
typedef struct {
    float repetition_penalty, presence_penalty, frequency_penalty;
    unsigned n_bias;
    unsigned n_logprobs;
    unsigned reserved[3];
    SampleBias bias[SAMPLE_BIAS_MAX]; // tokens ascend
} SampleRules;

// sample_adjust.cuh
typedef struct {
    DEVICE_PTR(const StepRow) row;
    DEVICE_PTR(const SampleRules) rules;
    DEVICE_PTR(const float) logits; // [N_VOCAB] of decode_head
    DEVICE_PTR(float) out;          // [N_VOCAB]
    DEVICE_PTR(HeadBest) best;      // out [HEAD_BLOCKS]
} SampleAdjustArgs;

// Of a token drawn: TokenLogprobs of src/backend/sampler.h.
typedef struct {
    float logprob;
    unsigned n_best;
    struct {
        int token;
        float logprob;
    } best[SAMPLE_LOGPROBS_MAX];
} SampleLogprobs;

// What a block of sample_logprobs found.
typedef struct {
    unsigned long long sum;
    unsigned long long best[SAMPLE_LOGPROBS_MAX];
} LogprobsPart;

typedef struct {
    unsigned arrived; // blocks; 0 between launches
    unsigned reserved[3];
    LogprobsPart part[SAMPLE_BLOCKS_MAX];
} LogprobsScratch;

// sample_logprobs.cuh
typedef struct {
    DEVICE_PTR(const StepRow) row; // as the draw left it
    DEVICE_PTR(const SampleRules) rules;
    DEVICE_PTR(const float) logits;      // [N_VOCAB] of decode_head
    DEVICE_PTR(LogprobsScratch) scratch; // zeros before the first launch
    DEVICE_PTR(SampleLogprobs) out;      // [TOKEN_RING] as StepRow.drawn
} SampleLogprobsArgs;

// repack.cuh
typedef struct {
    DEVICE_PTR(const unsigned char) in;
    DEVICE_PTR(unsigned char) out;
    unsigned n_rows;
    unsigned n_cols;
} RepackArgs;

// tile_repack.cuh: a piece of whole rows of one matrix
typedef struct {
    DEVICE_PTR(const unsigned char) in; // the piece's blocks as a file has them; aligned to 16
    DEVICE_PTR(unsigned char) out;      // the whole matrix (layout.h, "Weights in tiles")
    unsigned n_rows;                    // of the matrix
    unsigned n_cols;
    unsigned first_row;  // of the piece: a multiple of 16
    unsigned piece_rows; // a multiple of 16, or up to the matrix's last row
} TileRepackArgs;

// ---- prefill: MAX_ROWS rows of one sequence at most (README.md) ----

// prefill_embed.cuh
typedef struct {
    DEVICE_PTR(const StepSpan) span;
    DEVICE_PTR(const unsigned char) embed; // the embedding's matrix
    DEVICE_PTR(const float) learned;       // LEARNED_POSITIONS: [positions][D_MODEL]
    DEVICE_PTR(float) x;                   // out [MAX_ROWS][D_MODEL] the residual stream
} PrefillEmbedArgs;

// prefill_rope.cuh
typedef struct {
    DEVICE_PTR(const StepSpan) span;
    DEVICE_PTR(const float) inv_freq; // [ROPE_DIMS / 2]
    DEVICE_PTR(float) rope;           // out [MAX_ROWS][ROPE_DIMS / 2]{cosine, sine}, times ROPE_SCALE
} PrefillRopeArgs;

// prefill_norm.cuh
typedef struct {
    DEVICE_PTR(const StepSpan) span;
    DEVICE_PTR(const float) x;      // [MAX_ROWS][D_MODEL]
    DEVICE_PTR(const float) norm;   // [D_MODEL]
    DEVICE_PTR(const float) bias;   // [D_MODEL], LAYER_NORM
    DEVICE_PTR(unsigned short) out; // activations of D_MODEL columns (layout.h)
} PrefillNormArgs;

// prefill_qkv.cuh
typedef struct {
    DEVICE_PTR(const StepSpan) span;
    DEVICE_PTR(const unsigned short) in;       // activations of D_MODEL columns
    DEVICE_PTR(const unsigned char) weight[3]; // query, key, value matrices
    DEVICE_PTR(const float) bias[3];           // or NULL
    DEVICE_PTR(const float) rope;              // of prefill_rope
    DEVICE_PTR(unsigned short) q;  // out [MAX_ROWS][N_HEADS][HEAD_DIM] f16, times SCORE_SCALE * log2(e)
    DEVICE_PTR(unsigned short) kv; // the layer's cache
    DEVICE_PTR(float) raw;         // RAW: out [MAX_ROWS][N_HEADS + 2 N_KV_HEADS][HEAD_DIM] instead
} PrefillQkvArgs;

// prefill_heads.cuh
typedef struct {
    DEVICE_PTR(const StepSpan) span;
    DEVICE_PTR(const float) raw;     // [MAX_ROWS][N_HEADS + 2 N_KV_HEADS][HEAD_DIM] of prefill_qkv
    DEVICE_PTR(const float) norm[2]; // [HEAD_DIM] of queries, of keys
    DEVICE_PTR(const float) rope;    // of prefill_rope
    DEVICE_PTR(unsigned short) q;    // out as of prefill_qkv
    DEVICE_PTR(unsigned short) kv;   // the layer's cache
} PrefillHeadsArgs;

// prefill_attention.cuh
typedef struct {
    DEVICE_PTR(const StepSpan) span;
    DEVICE_PTR(const unsigned short) q;
    DEVICE_PTR(const unsigned short) kv;
    DEVICE_PTR(const float) sinks;  // HAS_SINKS: [N_HEADS] a score each that has no value
    DEVICE_PTR(unsigned short) out; // activations of N_HEADS * HEAD_DIM columns
} PrefillAttentionArgs;

// prefill_output.cuh: attention output, and down
typedef struct {
    DEVICE_PTR(const StepSpan) span;
    DEVICE_PTR(const unsigned short) in;    // activations of N_COLS columns
    DEVICE_PTR(const unsigned char) weight; // [N_ROWS][N_COLS]
    DEVICE_PTR(const float) bias;           // [N_ROWS] or NULL
    DEVICE_PTR(float) x;                    // [MAX_ROWS][N_ROWS] += the product; RAW: = the product
} PrefillOutputArgs;

// prefill_post_norm.cuh
typedef struct {
    DEVICE_PTR(const StepSpan) span;
    DEVICE_PTR(const float) t;    // [MAX_ROWS][D_MODEL] of prefill_output
    DEVICE_PTR(const float) norm; // [D_MODEL]
    DEVICE_PTR(float) x;          // [MAX_ROWS][D_MODEL] += the norm of each row of t
} PrefillPostNormArgs;

// prefill_glu.cuh
typedef struct {
    DEVICE_PTR(const StepSpan) span;
    DEVICE_PTR(const unsigned short) in;       // activations of D_MODEL columns
    DEVICE_PTR(const unsigned char) weight[2]; // gate, up: [D_FF][D_MODEL]; UNGATED: up alone, the first
    DEVICE_PTR(const float) bias[2];           // [D_FF] or NULL, HAS_BIAS
    DEVICE_PTR(unsigned short) out;            // activations of D_FF columns, divided by PREFILL_GLU_DIVISOR
} PrefillGluArgs;

// A row's choice of an expert.
typedef struct {
    unsigned expert;
    float weight;
} ExpertRowChoice;

// Slots of one expert that are multiplied together (prefill_group.cuh): 16 bytes.
typedef struct {
    unsigned expert;
    unsigned slot; // the first one
    unsigned end;  // of the expert's; not above `slot`: no tile
    unsigned reserved;
} ExpertTile;

// prefill_route.cuh
typedef struct {
    DEVICE_PTR(const StepSpan) span;
    DEVICE_PTR(const float) x;              // [MAX_ROWS][D_MODEL]
    DEVICE_PTR(const float) norm;           // [D_MODEL]
    DEVICE_PTR(const unsigned char) weight; // the router: [N_EXPERTS][D_MODEL]
    DEVICE_PTR(const float) bias;           // [N_EXPERTS] or NULL
    DEVICE_PTR(ExpertRowChoice) choice;     // out [MAX_ROWS][N_USED]
    DEVICE_PTR(float) factor;               // out [MAX_ROWS]
} PrefillRouteArgs;

// prefill_group.cuh
typedef struct {
    DEVICE_PTR(const StepSpan) span;
    DEVICE_PTR(const ExpertRowChoice) choice; // [MAX_ROWS][N_USED]
    DEVICE_PTR(unsigned) slot;                // out [MAX_ROWS][N_USED]
    DEVICE_PTR(ExpertTile) tiles;             // out [EXPERT_TILES]
} PrefillGroupArgs;

// prefill_gather.cuh
typedef struct {
    DEVICE_PTR(const StepSpan) span;
    DEVICE_PTR(const float) x;       // [MAX_ROWS][D_MODEL]
    DEVICE_PTR(const float) norm;    // [D_MODEL]
    DEVICE_PTR(const float) factor;  // [MAX_ROWS]
    DEVICE_PTR(const unsigned) slot; // [MAX_ROWS][N_USED]
    DEVICE_PTR(unsigned short) out;  // activations of D_MODEL columns, a row a slot
} PrefillGatherArgs;

// prefill_experts_glu.cuh
typedef struct {
    DEVICE_PTR(const ExpertTile) tiles;        // [EXPERT_TILES]
    DEVICE_PTR(const unsigned short) in;       // activations of D_MODEL columns, a row a slot
    DEVICE_PTR(const unsigned char) weight[2]; // gate, up: [N_EXPERTS][D_FF][D_MODEL]
    DEVICE_PTR(const float) bias[2];           // [N_EXPERTS][D_FF] or NULL
    DEVICE_PTR(unsigned short) out;            // the same of D_FF columns, divided by PREFILL_GLU_DIVISOR
} PrefillExpertsGluArgs;

// prefill_experts_down.cuh
typedef struct {
    DEVICE_PTR(const ExpertTile) tiles;     // [EXPERT_TILES]
    DEVICE_PTR(const unsigned short) in;    // activations of N_COLS columns, a row a slot
    DEVICE_PTR(const unsigned char) weight; // [N_EXPERTS][N_ROWS][N_COLS]
    DEVICE_PTR(const float) bias;           // [N_EXPERTS][N_ROWS] or NULL
    DEVICE_PTR(float) out;                  // [slots][N_ROWS]
} PrefillExpertsDownArgs;

// prefill_experts_sum.cuh
typedef struct {
    DEVICE_PTR(const StepSpan) span;
    DEVICE_PTR(const ExpertRowChoice) choice; // [MAX_ROWS][N_USED]
    DEVICE_PTR(const unsigned) slot;          // [MAX_ROWS][N_USED]
    DEVICE_PTR(const float) in;               // [slots][D_MODEL]
    DEVICE_PTR(float) x;                      // [MAX_ROWS][D_MODEL] += the sum
} PrefillExpertsSumArgs;

// ---- stages of batches: rows of any sequences that go through the layers together ----
//
// MAX_ROWS is the capacity of a batch's class. Rows past the last are computed and dropped, or not computed.

// 16 bytes.
typedef struct {
    unsigned n_rows;   // 1 … MAX_ROWS
    unsigned n_logits; // rows whose logits are wanted
    unsigned reserved[2];
} Batch;

// A token at a position of a sequence: 24 bytes.
typedef struct {
    int token; // or ROW_TOKEN_DRAWN
    unsigned position;
    unsigned slot; // of the sequence
    unsigned reserved;
    DEVICE_PTR(const unsigned) pages; // the slot's row of the page table; the page of `position` is there
} BatchRow;

// How a sequence draws, and what it has drawn: one a slot, written by the host when the sequence begins or
// goes on, and by the stage that draws.
typedef struct {
    unsigned step; // tokens that the sequence has drawn: the counter of the random numbers
    // SamplerParams of src/backend/sampler.h
    unsigned top_k;
    float temperature, top_p, min_p;
    float repetition_penalty; // 1 where draw_adjust takes it off
    unsigned long long seed;
    DEVICE_PTR(unsigned) seen;         // a bit a token id: prompt and output
    DEVICE_PTR(unsigned short) counts; // [vocabulary] how often each was drawn, or NULL: nobody asks
    DEVICE_PTR(int) drawn;             // [TOKEN_RING] the sequence's tokens, or -1, each at step % TOKEN_RING
    DEVICE_PTR(const SampleRules) rules;
    DEVICE_PTR(SampleLogprobs) logprobs; // [TOKEN_RING] as `drawn`
    unsigned draws;                      // DRAW_…: what its rows go through behind the head
    unsigned reserved;
} SlotState;

enum { DRAW_ADJUSTED = 1, DRAW_SAMPLED = 2, DRAW_LOGPROBS = 4 };

// embed.cuh
typedef struct {
    DEVICE_PTR(const Batch) batch;
    DEVICE_PTR(const BatchRow) rows;
    DEVICE_PTR(const SlotState) slots;
    DEVICE_PTR(const unsigned char) embed; // the embedding's matrix, in tiles
    DEVICE_PTR(const float) learned;       // LEARNED_POSITIONS: [positions][D_MODEL]
    DEVICE_PTR(float) x;                   // out [MAX_ROWS][D_MODEL] the residual stream
} EmbedArgs;

// rope.cuh
typedef struct {
    DEVICE_PTR(const Batch) batch;
    DEVICE_PTR(const BatchRow) rows;
    DEVICE_PTR(const float) inv_freq; // [ROPE_DIMS / 2]
    DEVICE_PTR(float) rope;           // out [MAX_ROWS][ROPE_DIMS / 2]{cosine, sine}, times ROPE_SCALE
} RopeArgs;

// norm_rows.cuh
typedef struct {
    DEVICE_PTR(const Batch) batch;
    DEVICE_PTR(const unsigned) logits_rows; // OF_LOGITS: [n_logits] rows of x, in this order; else all
    DEVICE_PTR(const float) x;              // [MAX_ROWS][D_MODEL]
    DEVICE_PTR(const float) norm;           // [D_MODEL]
    DEVICE_PTR(const float) bias;           // [D_MODEL], LAYER_NORM
    DEVICE_PTR(unsigned short) out;         // activations of D_MODEL columns (layout.h)
} NormArgs;

// post_norm.cuh
typedef struct {
    DEVICE_PTR(const Batch) batch;
    DEVICE_PTR(const float) t;    // [MAX_ROWS][D_MODEL] of output.cuh
    DEVICE_PTR(const float) norm; // [D_MODEL]
    DEVICE_PTR(float) x;          // [MAX_ROWS][D_MODEL] += the norm of each row of t
} BatchPostNormArgs;

// qkv.cuh, output.cuh, glu.cuh, head.cuh
typedef struct {
    DEVICE_PTR(const Batch) batch;
    DEVICE_PTR(const BatchRow) rows;           // head
    DEVICE_PTR(const SlotState) slots;         // head
    DEVICE_PTR(const unsigned) logits_rows;    // head: [n_logits] rows of the batch
    DEVICE_PTR(const float) x;                 // NORM_INPUT: [MAX_ROWS][N_COLS], whose norm is multiplied
    DEVICE_PTR(const float) norm;              // NORM_INPUT: [N_COLS]
    DEVICE_PTR(const float) norm_bias;         // NORM_INPUT with LAYER_NORM: [N_COLS]
    DEVICE_PTR(const unsigned short) in;       // else: activations of N_COLS columns
    DEVICE_PTR(const unsigned char) weight[3]; // matrices in tiles: query, key, value; gate, up; one
    DEVICE_PTR(const float) bias[3];           // or NULL
    DEVICE_PTR(float)
    out; // qkv: [MAX_ROWS][rows of the three] =; output: [MAX_ROWS][N_ROWS] += (RAW: =);
         // head: logits [MAX_ROWS][N_VOCAB] =
    DEVICE_PTR(unsigned short) out_activations; // glu: activations of D_FF columns, divided by GLU_DIVISOR
    DEVICE_PTR(HeadBest) best;                  // head: [MAX_ROWS][blocks], after the repetition penalty
    DEVICE_PTR(float) partial;                  // what blocks that share a band's columns give each other
    DEVICE_PTR(unsigned) meetings;              // their counters: zeros between launches
} ProductArgs;

// rope_heads.cuh
typedef struct {
    DEVICE_PTR(const Batch) batch;
    DEVICE_PTR(const BatchRow) rows;
    DEVICE_PTR(const float) raw;     // [MAX_ROWS][N_HEADS + 2 N_KV_HEADS][HEAD_DIM] of qkv
    DEVICE_PTR(const float) norm[2]; // [HEAD_DIM] of queries, of keys: HEAD_NORMS
    DEVICE_PTR(const float) rope;    // of rope.cuh; NULL where ROPE_DIMS is 0
    DEVICE_PTR(unsigned short) q;    // out [MAX_ROWS][N_HEADS][HEAD_DIM] f16, times SCORE_SCALE * log2(e)
    DEVICE_PTR(unsigned short) kv;   // the layer's cache
} RopeHeadsArgs;

// attention.cuh, span_attention.cuh
typedef struct {
    DEVICE_PTR(const Batch) batch;
    DEVICE_PTR(const BatchRow) rows; // span_attention: of one sequence, at positions one after the other
    DEVICE_PTR(const unsigned short) q;
    DEVICE_PTR(const unsigned short) kv;
    DEVICE_PTR(const float) sinks;  // HAS_SINKS: [N_HEADS] a score each that has no value
    DEVICE_PTR(unsigned short) out; // activations of N_HEADS * HEAD_DIM columns
    DEVICE_PTR(float) partial;      // what blocks that share a row's keys give each other
    DEVICE_PTR(unsigned) meetings;  // their counters: zeros between launches
} BatchAttentionArgs;

enum {
    DRAW_BINS = 2048,       // of the logits' distance from the best
    DRAW_CANDIDATES = 2048, // logits that are ranked one by one
    DRAW_CHUNKS = 512,      // of a row's logits
};

// What the blocks of draw_rank, draw_sample and draw_logprobs tell each other of one row. Zeros between
// stages (draw_rank and draw_sample are one) but for `candidates` and `chunk_mass`.
typedef struct {
    unsigned arrived; // blocks
    unsigned n_candidates;
    unsigned reserved[2];
    unsigned count[DRAW_BINS];
    unsigned long long mass[DRAW_BINS];
    unsigned long long chunk_mass[DRAW_CHUNKS];
    unsigned long long candidates[DRAW_CANDIDATES];
} DrawScratch;

// draw_*.cuh: for the n_logits rows of `logits_rows`, row i of `logits` each. Each stage has something to do
// for the rows whose slots ask for it, and ends at once for the others. Of a batch's rows one at most draws
// for a slot.
typedef struct {
    DEVICE_PTR(const Batch) batch;
    DEVICE_PTR(BatchRow) rows; // becomes its sequence's next one where a token is drawn
    DEVICE_PTR(SlotState) slots;
    DEVICE_PTR(const unsigned) logits_rows; // [MAX_ROWS]
    DEVICE_PTR(const float) logits;         // [MAX_ROWS][N_VOCAB] of the head
    DEVICE_PTR(const HeadBest) best;        // [MAX_ROWS][HEAD_BLOCKS]
    DEVICE_PTR(float) adjusted;         // [MAX_ROWS][N_VOCAB] of draw_adjust: what DRAW_ADJUSTED rows draw of
    DEVICE_PTR(HeadBest) adjusted_best; // [MAX_ROWS][HEAD_BLOCKS]
    DEVICE_PTR(DrawScratch) scratch;    // [MAX_ROWS]; zeros before the first launch
} DrawArgs;

// ---- mixtures of experts of batches ----
//
// A batch of MAX_ROWS <= 8 is "few": every stage that needs the choice makes it from the router's logits, and
// what row r's i-th choice gives is slot r * N_USED + i. Else "many": the router chooses, and group_experts
// gives the choices slots in the order of their experts.

// route.cuh
typedef struct {
    DEVICE_PTR(const Batch) batch;
    DEVICE_PTR(const float) x;          // [MAX_ROWS][D_MODEL]
    DEVICE_PTR(const float) norm;       // [D_MODEL]
    DEVICE_PTR(const float) weight;     // the router: [N_EXPERTS][D_MODEL]
    DEVICE_PTR(const float) bias;       // [N_EXPERTS] or NULL
    DEVICE_PTR(unsigned short) normed;  // out activations of D_MODEL columns, as of norm_rows.cuh
    DEVICE_PTR(float) logits;           // out [MAX_ROWS][N_EXPERTS]
    DEVICE_PTR(ExpertRowChoice) choice; // many: out [MAX_ROWS][N_USED]
    DEVICE_PTR(unsigned) meetings;      // many: [MAX_ROWS], zeros between launches
} RouteRowsArgs;

// group_experts.cuh
typedef struct {
    DEVICE_PTR(const Batch) batch;
    DEVICE_PTR(const ExpertRowChoice) choice; // [MAX_ROWS][N_USED]
    DEVICE_PTR(const unsigned short) normed;  // activations of D_MODEL columns
    DEVICE_PTR(unsigned) slot;                // out [MAX_ROWS][N_USED]
    DEVICE_PTR(ExpertTile) tiles;             // out [EXPERT_TILES]
    DEVICE_PTR(unsigned) n_tiles;             // out: how many of them have slots
    DEVICE_PTR(unsigned short) out;           // activations of D_MODEL columns, a row a slot
} GroupExpertsArgs;

// experts_glu.cuh, experts_down.cuh
typedef struct {
    ProductArgs product; // weight: [N_EXPERTS] matrices in tiles; bias: [N_EXPERTS][rows of one] or NULL;
                         // in: glu: few: the norms of rows; many: of slots; down: what glu left
    // out_activations: glu: few: [experts that a batch touches, at most] buffers; many: a
    // row a slot; out: down: [slots][D_MODEL]
    DEVICE_PTR(const float) logits;     // few: [MAX_ROWS][N_EXPERTS] the router's
    DEVICE_PTR(const ExpertTile) tiles; // many: [EXPERT_TILES]
    DEVICE_PTR(const unsigned) n_tiles; // many
    DEVICE_PTR(float) x;                // down, few: [MAX_ROWS][D_MODEL] += the experts' sum
    DEVICE_PTR(unsigned) arrivals;      // down, few: [ceil(D_MODEL / 16)], zeros between launches
} ExpertsArgs;

// experts_sum.cuh
typedef struct {
    DEVICE_PTR(const Batch) batch;
    DEVICE_PTR(const ExpertRowChoice) choice; // [MAX_ROWS][N_USED]
    DEVICE_PTR(const unsigned) slot;          // many: [MAX_ROWS][N_USED]
    DEVICE_PTR(const float) in;               // [slots][D_MODEL]
    DEVICE_PTR(float) x;                      // [MAX_ROWS][D_MODEL] += the sum
} ExpertsSumArgs;

// ---- all stages ----

// What a compiled stage tells the host: `NAME_info` in its module.
typedef struct {
    unsigned threads; // of a block
    unsigned grid[2];
    unsigned shared_bytes; // dynamic
#ifdef __cplusplus
    unsigned cluster = 0; // blocks of a cluster, which the kernel itself says, too; 0: none
#else
    unsigned cluster;
#endif
} StageInfo;

#endif
