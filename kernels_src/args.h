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

enum { ARGS_STREAMS_MAX = 8 }; // STREAMS_MAX of src/base/limits.h

// ---- what a step works on ----

// Tokens of a sequence that are drawn before the host has fetched the first of them.
enum { TOKEN_RING = 4 };

// ---- what draws keep ----

// The best logit of some rows; logits that are not numbers count as such in n_bad.
typedef struct {
    float value;
    int token; // -1 where there is none above -infinity
    unsigned n_bad;
    unsigned reserved;
} HeadBest;

enum { SAMPLE_BIAS_MAX = 300, SAMPLE_LOGPROBS_MAX = 20 }; // LOGIT_BIAS_MAX, LOGPROBS_MAX of src/base/limits.h

typedef struct {
    int token;
    float bias;
} SampleBias;

// What a sequence asks for besides SlotState's parameters; written by the host when it begins.
typedef struct {
    float repetition_penalty, presence_penalty, frequency_penalty;
    unsigned n_bias;
    unsigned n_logprobs;
    unsigned reserved[3];
    SampleBias bias[SAMPLE_BIAS_MAX]; // tokens ascend
} SampleRules;

// Of a token drawn: TokenLogprobs of src/backend/sampler.h.
typedef struct {
    float logprob;
    unsigned n_best;
    struct {
        int token;
        float logprob;
    } best[SAMPLE_LOGPROBS_MAX];
} SampleLogprobs;

// tile_repack.cuh: a piece of whole rows of one matrix
typedef struct {
    DEVICE_PTR(const unsigned char) in; // the piece's blocks as a file has them; aligned to 16
    DEVICE_PTR(unsigned char) out;      // the whole matrix (layout.h, "Weights in tiles")
    unsigned n_rows;                    // of the matrix
    unsigned n_cols;
    unsigned first_row;  // of the piece: a multiple of 16
    unsigned piece_rows; // a multiple of 16, or up to the matrix's last row
} TileRepackArgs;

// Of a multiprocessor, at a moment.
typedef struct {
    unsigned long long cycles; // that its clock has counted
    unsigned long long ns;     // the GPU's time; 0: there is no reading
} ClockReading;

// read_clocks.cuh
enum { READ_CLOCKS_MAX = 1024 };
typedef struct {
    DEVICE_PTR(ClockReading) out; // [READ_CLOCKS_MAX] by multiprocessor; zeros before
} ReadClocksArgs;

// ---- stages of batches: rows of any sequences that go through the layers together ----
//
// MAX_ROWS is the capacity of a batch's class. Rows past the last are computed and dropped, or not computed.

// Of stages that go row by row: 8 a multiprocessor. A prompt's class is for 2,048 rows, and starting a block
// for each part of each of them takes longer than what a short prompt has for them to do (8B's heads, 128
// rows: 12,288 blocks, 16 µs).
#define ROW_BLOCKS_MAX 1056u

// Rows of a prompts' class are cut into stretches in so many ways, since layers' heads may differ.
enum { STRETCH_CUTS = 2 };

// 32 bytes.
typedef struct {
    unsigned n_rows;   // 1 … MAX_ROWS
    unsigned n_logits; // rows whose logits are wanted
    unsigned n_runs;   // where layers keep a state
    unsigned reserved;
    // Of a prompts' class, of each way: entries of its table of stretches; stretches that are several
    // entries, of which the first ones are the first parts.
    unsigned n_stretches[STRETCH_CUTS], n_divided[STRETCH_CUTS];
} Batch;

// BatchRow.token: the one that the row's sequence drew last.
enum { ROW_TOKEN_DRAWN = -1 };

// A token at a position of a sequence: 24 bytes.
typedef struct {
    int token; // or ROW_TOKEN_DRAWN
    unsigned position;
    unsigned slot; // of the sequence
    // Where layers keep a state: the number of the row's RowRun; and, of a prompt's row that ends a page, the
    // checkpoint's place that gets the state behind it, counted on from the slots; 0: none.
    unsigned short run, keep;
    // The slot's row of the page table: its lists, one after the other; the pages of `position` are there.
    DEVICE_PTR(const unsigned) pages;
} BatchRow;

// Rows of a batch that are of one sequence, at positions one after the other, as many as a block of
// span_attention.cuh takes; or a part of such a stretch, which goes through some of their keys: 32 bytes.
typedef struct {
    DEVICE_PTR(const unsigned) pages; // as of the rows
    unsigned row, n_rows;             // the first one; how many
    unsigned position;                // of the first one
    unsigned last;                    // of the sequence's last row in the batch
    // Groups of ATTENTION_GROUP_KEYS keys. Each part of a stretch has n_groups of them, the last one perhaps
    // fewer; a stretch that is not divided has all.
    unsigned short first_group, n_groups;
    unsigned place; // in BatchAttentionArgs.partial (span_parts.cuh); the same in all parts
} RowStretch;

// All rows of a batch that are of one sequence, at positions one after the other: 8 bytes.
typedef struct {
    unsigned row, n_rows; // the first one; how many
} RowRun;

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
    DEVICE_PTR(const unsigned) mask;     // a bit a token id: it may be drawn; NULL: all may
    unsigned draws;                      // DRAW_…: what its rows go through behind the head
    unsigned reserved;
} SlotState;

// DRAW_UNCUT: sampled of all logits that the mask allows; there is no top-k, top-p or min-p.
enum { DRAW_ADJUSTED = 1, DRAW_SAMPLED = 2, DRAW_LOGPROBS = 4, DRAW_UNCUT = 8 };

// A rotary embedding's table (rope.cuh).
typedef struct {
    DEVICE_PTR(const float) inv_freq; // [n_values]
    DEVICE_PTR(float) rope;           // out [MAX_ROWS][n_values]{cosine, sine}, times scale
    unsigned n_values;                // half of the dimensions that are turned
    float scale;
} RopeTable;

enum { ROPE_TABLES_MAX = 4 };

// embed.cuh
typedef struct {
    DEVICE_PTR(const Batch) batch;
    DEVICE_PTR(const BatchRow) rows;
    DEVICE_PTR(const SlotState) slots;
    DEVICE_PTR(const unsigned char) embed; // the embedding's matrix, in tiles
    DEVICE_PTR(const float) learned;       // LEARNED_POSITIONS: [positions][D_MODEL]
    DEVICE_PTR(float) x;                   // out [MAX_ROWS][D_MODEL] the residual stream
    RopeTable tables[ROPE_TABLES_MAX];     // of ROPE_VALUES values together
} EmbedArgs;

// norm_rows.cuh
typedef struct {
    DEVICE_PTR(const Batch) batch;
    DEVICE_PTR(const unsigned) logits_rows; // OF_LOGITS: [n_logits] rows of x, in this order; else all
    DEVICE_PTR(const float) x;              // [MAX_ROWS][D_MODEL]
    DEVICE_PTR(const float) norm;           // [D_MODEL]
    DEVICE_PTR(const float) bias;           // [D_MODEL] or NULL, LAYER_NORM
    DEVICE_PTR(unsigned short) out;         // activations of D_MODEL columns (layout.h)
} NormArgs;

// embed_norm.cuh
typedef struct {
    DEVICE_PTR(const Batch) batch;
    DEVICE_PTR(float) x; // [MAX_ROWS][D_MODEL] becomes its norm
} EmbedNormArgs;

// post_norm.cuh
typedef struct {
    DEVICE_PTR(const Batch) batch;
    DEVICE_PTR(float) t;           // [MAX_ROWS][D_MODEL] of output.cuh; NORM_BESIDE: becomes the norms' sum
    DEVICE_PTR(const float) norm;  // [D_MODEL]
    DEVICE_PTR(float) x;           // [MAX_ROWS][D_MODEL] += the norm of each row of t
    DEVICE_PTR(const float) scale; // one value: LAYER_SCALE
    // NORM_BESIDE: rows beside those of t, their norm, and that of both norms' sum.
    DEVICE_PTR(const float) beside; // [MAX_ROWS][D_MODEL]; ADD_BESIDE: added to x
    DEVICE_PTR(const float) beside_norm;
    DEVICE_PTR(const float) joined_norm;
    DEVICE_PTR(const unsigned short) in; // FROM_INPUT: activations of D_MODEL columns, in place of x before
} BatchPostNormArgs;

// streams.cuh; what a kind of it does not name is not set.
typedef struct {
    DEVICE_PTR(const Batch) batch;
    DEVICE_PTR(float) x;            // [MAX_ROWS][D_MODEL]
    DEVICE_PTR(float) xs;           // [MAX_ROWS][N_STREAMS][D_MODEL]
    DEVICE_PTR(float) xp;           // likewise: what a layer expects of them
    DEVICE_PTR(const float) norm;   // [D_MODEL]
    DEVICE_PTR(const float) router; // [N_STREAMS][D_MODEL]
    DEVICE_PTR(const float) mix;    // [N_STREAMS][N_STREAMS][N_STREAMS]; NEWS: [N_STREAMS][N_STREAMS]
    DEVICE_PTR(const float) scale;  // [D_MODEL]
    DEVICE_PTR(unsigned short) h;   // activations of D_MODEL columns
    DEVICE_PTR(unsigned short) rest[ARGS_STREAMS_MAX - 1];  // likewise
    DEVICE_PTR(const float) products[ARGS_STREAMS_MAX - 1]; // [MAX_ROWS][D_MODEL] each
} StreamsArgs;

// sparse_glu.cuh
typedef struct {
    DEVICE_PTR(const Batch) batch;
    DEVICE_PTR(const float) raw;    // [MAX_ROWS][2 * D_FF]: gate and up, as products gave them
    DEVICE_PTR(unsigned short) out; // activations of D_FF columns
} SparseGluArgs;

// qkv.cuh, output.cuh, glu.cuh, head.cuh
typedef struct {
    DEVICE_PTR(const Batch) batch;
    DEVICE_PTR(const BatchRow) rows;        // head
    DEVICE_PTR(const SlotState) slots;      // head
    DEVICE_PTR(const unsigned) logits_rows; // head: [n_logits] rows of the batch
    DEVICE_PTR(const float) x;              // NORM_INPUT: [MAX_ROWS][N_COLS], whose norm is multiplied
    DEVICE_PTR(const float) norm;           // NORM_INPUT: [N_COLS]
    DEVICE_PTR(const float) norm_bias;      // NORM_INPUT with LAYER_NORM: [N_COLS] or NULL
    // POST_INPUT: the output whose norm x does not have yet, its norm, one value (POST_SCALE), and x with it.
    DEVICE_PTR(const float) post;      // [MAX_ROWS][N_COLS] of output.cuh
    DEVICE_PTR(const float) post_norm; // [N_COLS]
    DEVICE_PTR(const float) post_scale;
    DEVICE_PTR(const float) beside; // POST_BESIDE: [MAX_ROWS][N_COLS], its norm, and that of both norms' sum
    DEVICE_PTR(const float) beside_norm;       // [N_COLS]
    DEVICE_PTR(const float) joined_norm;       // [N_COLS]
    DEVICE_PTR(float) x_out;                   // [MAX_ROWS][N_COLS], another buffer than x
    DEVICE_PTR(const unsigned short) in;       // else: activations of N_COLS columns
    DEVICE_PTR(const unsigned char) weight[4]; // matrices in tiles: those of qkv; gate, up; one
    DEVICE_PTR(const float) bias[4];           // or NULL
    DEVICE_PTR(float)
    out; // qkv: [MAX_ROWS][RAW_COLS] =; output: [MAX_ROWS][N_ROWS] += (RAW: =);
         // head: logits [MAX_ROWS][N_VOCAB] =
    DEVICE_PTR(unsigned short) out_activations; // glu: activations of D_FF columns, divided by GLU_DIVISOR
    DEVICE_PTR(HeadBest) best;                  // head: [MAX_ROWS][blocks], after the repetition penalty
    DEVICE_PTR(float) partial;                  // what blocks that share a band's columns give each other
    DEVICE_PTR(unsigned) meetings;              // their counters: zeros between launches
    DEVICE_PTR(const float) times;              // glu: [MAX_ROWS][TIMES_STRIDE], from the layer's part on
    DEVICE_PTR(const float) share;              // output, experts_down, HAS_SHARE: [MAX_ROWS] of route.cuh
} ProductArgs;

// layer_inputs.cuh
typedef struct {
    DEVICE_PTR(const Batch) batch;
    DEVICE_PTR(const BatchRow) rows;
    DEVICE_PTR(const SlotState) slots;
    DEVICE_PTR(const unsigned char) embed; // [N_VOCAB][N_LAYERS * D_LAYER] in tiles
    DEVICE_PTR(const float) norm;          // [D_LAYER]
    DEVICE_PTR(float) inputs;              // [MAX_ROWS][N_LAYERS][D_LAYER], in place
} LayerInputsArgs;

// qk_norm.cuh
typedef struct {
    DEVICE_PTR(const Batch) batch;
    DEVICE_PTR(float) raw;           // as of RopeHeadsArgs: its queries and keys become their norms
    DEVICE_PTR(const float) norm[2]; // [N_HEADS * HEAD_DIM] of queries, [N_KV_HEADS * HEAD_DIM] of keys
} QkNormArgs;

// mla_queries.cuh, mla_keys.cuh
typedef struct {
    DEVICE_PTR(const Batch) batch;
    DEVICE_PTR(const BatchRow) rows;
    DEVICE_PTR(const float) raw;      // [MAX_ROWS][QUERY_COLS]: [N_HEADS][UNTURNED + TURNED] of a product
    DEVICE_PTR(const float) raw_keys; // [MAX_ROWS][KEY_COLS]: [KV_RANK + TURNED] of a product
    DEVICE_PTR(const float) norm;     // [KV_RANK]
    DEVICE_PTR(const float) rope;     // RopeTable.rope
    DEVICE_PTR(const unsigned char) weight; // a matrix a head, in tiles
    DEVICE_PTR(unsigned short) out;         // [MAX_ROWS][N_HEADS][KV_RANK + TURNED]
    DEVICE_PTR(unsigned short) kv;          // the layer's cache
    unsigned list_at;                       // as of RopeHeadsArgs
    unsigned reserved;
} MlaQueriesArgs;

// mla_values.cuh
typedef struct {
    DEVICE_PTR(const Batch) batch;
    DEVICE_PTR(const BatchRow) rows;         // of rows that decode
    DEVICE_PTR(const unsigned short) latent; // [MAX_ROWS][N_HEADS][KV_RANK] of mla_attention
    DEVICE_PTR(const float) partial;         // few rows: MlaAttentionArgs.partial
    DEVICE_PTR(const unsigned char) weight;  // a matrix a head, in tiles
    DEVICE_PTR(unsigned short) out;          // activations of N_HEADS * PRODUCT_ROWS columns
} MlaValuesArgs;

// mla_attention.cuh, mla_fold.cuh
typedef struct {
    DEVICE_PTR(const Batch) batch;
    DEVICE_PTR(const BatchRow) rows;        // of rows that decode
    DEVICE_PTR(const RowStretch) stretches; // of prompts: as of BatchAttentionArgs
    DEVICE_PTR(const unsigned short) q;     // of mla_queries
    DEVICE_PTR(const unsigned short) kv;    // the layer's cache
    DEVICE_PTR(unsigned short) out;         // [MAX_ROWS][N_HEADS][KV_RANK]
    DEVICE_PTR(float) partial;              // what blocks have of lists that are not theirs alone; totals
    unsigned list_at;                       // as of RopeHeadsArgs
    unsigned cut;                           // of prompts
} MlaAttentionArgs;

// state_conv.cuh
typedef struct {
    DEVICE_PTR(const Batch) batch;
    DEVICE_PTR(const BatchRow) rows;
    DEVICE_PTR(const RowRun) runs;
    DEVICE_PTR(const float) raw;    // [MAX_ROWS][RAW_COLS] of qkv
    DEVICE_PTR(const float) weight; // [CONV_COLS][TAPS], the oldest row's first
    DEVICE_PTR(const float) bias;   // [CONV_COLS] or NULL
    DEVICE_PTR(const float) decay;  // [STATE_HEADS]; GATED_ROWS: NULL
    DEVICE_PTR(float) kept; // of slot 0: [TAPS - 1][CONV_COLS] rows before the next one, the oldest first
    unsigned long long slot_floats; // from one slot's to the next one's
    DEVICE_PTR(float) mixed;        // out [MAX_ROWS][CONV_COLS]
    DEVICE_PTR(float) factors;      // out [MAX_ROWS][STATE_HEADS][4]: decay, and what the new row counts
    DEVICE_PTR(unsigned short) out; // GATED_ROWS: activations of CONV_COLS columns, divided by GLU_DIVISOR
} StateConvArgs;

// state_heads.cuh
typedef struct {
    DEVICE_PTR(const Batch) batch;
    DEVICE_PTR(const BatchRow) rows;
    DEVICE_PTR(const RowRun) runs;
    DEVICE_PTR(float) mixed;         // of state_conv: what a head's output is takes the place of its values
    DEVICE_PTR(const float) factors; // of state_conv
    DEVICE_PTR(const float) skip;    // [STATE_HEADS]; STATE_DELTA: NULL
    DEVICE_PTR(float) states;        // of slot 0: [STATE_HEADS][VALUE_DIM][KEY_DIM]
    unsigned long long slot_floats;  // from one slot's to the next one's
} StateHeadsArgs;

// state_gate.cuh
typedef struct {
    DEVICE_PTR(const Batch) batch;
    DEVICE_PTR(const float) raw;    // of qkv: the gates
    DEVICE_PTR(const float) mixed;  // of state_heads
    DEVICE_PTR(const float) norm;   // [NORM_WEIGHTS][NORM_COLS]
    DEVICE_PTR(unsigned short) out; // activations of STATE_COLS columns, divided by GLU_DIVISOR
} StateGateArgs;

// state_few.cuh: what its three parts have alone; mixed, factors: not used
typedef struct {
    StateConvArgs conv;
    StateHeadsArgs heads;
    StateGateArgs gate;
} StateFewArgs;

// attention_gate.cuh
typedef struct {
    DEVICE_PTR(const Batch) batch;
    DEVICE_PTR(const float) raw;  // of qkv: the gates behind queries, keys and values
    DEVICE_PTR(unsigned short) a; // activations of N_HEADS * HEAD_DIM columns *= the gates
} AttentionGateArgs;

// rope_heads.cuh
typedef struct {
    DEVICE_PTR(const Batch) batch;
    DEVICE_PTR(const BatchRow) rows;
    DEVICE_PTR(const float) raw;     // [MAX_ROWS][ROW_HEADS][HEAD_DIM] of qkv
    DEVICE_PTR(const float) norm[2]; // [HEAD_DIM] of queries, of keys: HEAD_NORMS
    DEVICE_PTR(const float) rope;    // RopeTable.rope; NULL where ROPE_DIMS is 0
    DEVICE_PTR(unsigned short) q;    // out [MAX_ROWS][N_HEADS][HEAD_DIM] f16, times SCORE_SCALE * log2(e)
    DEVICE_PTR(unsigned short) kv;   // the layer's cache
    unsigned list_at;                // in a row of the page table: where the list of its pages begins
    unsigned reserved;
} RopeHeadsArgs;

// attention.cuh: queries, keys and values as qkv left them; span_attention.cuh, span_fold.cuh: after
// rope_heads.
typedef struct {
    DEVICE_PTR(const Batch) batch;
    DEVICE_PTR(const BatchRow) rows;        // attention
    DEVICE_PTR(const RowStretch) stretches; // span_attention: all rows of the batch, as they are cut for it
    DEVICE_PTR(const float) raw;            // attention: as of RopeHeadsArgs, and so norm and rope
    DEVICE_PTR(const float) norm[2];        // attention
    DEVICE_PTR(const float) rope;           // attention
    DEVICE_PTR(const unsigned short) q;     // span_attention: of rope_heads
    DEVICE_PTR(unsigned short) kv;          // the layer's cache; attention writes the rows' own entries
    DEVICE_PTR(const float) sinks;          // HAS_SINKS: [N_HEADS] a score each that has no value
    DEVICE_PTR(unsigned short) out;         // activations of N_HEADS * HEAD_DIM columns
    DEVICE_PTR(float) partial;     // what teams that share a row's keys give each other; stretches' triples
    DEVICE_PTR(unsigned) meetings; // their counters: zeros between launches
    unsigned list_at;              // as of RopeHeadsArgs
    unsigned cut;                  // span_attention: of STRETCH_CUTS
} BatchAttentionArgs;

enum {
    DRAW_BINS = 2048,       // of the logits' distance from the best
    DRAW_CANDIDATES = 2048, // logits that are ranked one by one
    DRAW_CHUNKS = 8192,     // of a row's logits, at most
};

// What the blocks of draw_rank, draw_sample and draw_logprobs tell each other of one row. Zeros between
// stages (draw_rank and draw_sample are one) but for `candidates` and what chunks have.
typedef struct {
    unsigned arrived; // blocks
    unsigned n_candidates;
    unsigned reserved[2];
    unsigned count[DRAW_BINS];
    unsigned long long mass[DRAW_BINS];
    unsigned long long chunk_mass[DRAW_CHUNKS];
    float chunk_best[DRAW_CHUNKS]; // DRAW_UNCUT
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

// A row's choice of an expert.
typedef struct {
    unsigned expert;
    float weight;
} ExpertRowChoice;

// Slots of one expert that are multiplied together (group_experts.cuh): 16 bytes.
typedef struct {
    unsigned expert;
    unsigned slot; // the first one
    unsigned end;  // of the expert's; not above `slot`: no tile
    unsigned reserved;
} ExpertTile;

// route.cuh
typedef struct {
    DEVICE_PTR(const Batch) batch;
    DEVICE_PTR(const float) x; // [MAX_ROWS][D_MODEL]
    // POST_INPUT: as of ProductArgs
    DEVICE_PTR(const float) post;
    DEVICE_PTR(const float) post_norm;
    DEVICE_PTR(const float) post_scale;
    DEVICE_PTR(float) x_out;
    DEVICE_PTR(const float) norm;         // [D_MODEL]
    DEVICE_PTR(const float) other_norm;   // ROUTE_OTHER_NORM: [D_MODEL] of `normed` in its place
    DEVICE_PTR(const float) weight;       // the router: [N_EXPERTS][D_MODEL]
    DEVICE_PTR(const float) bias;         // [N_EXPERTS] or NULL
    DEVICE_PTR(const float) select;       // ROUTE_SELECTS: [N_EXPERTS]
    DEVICE_PTR(const float) scales;       // ROUTE_EXPERT_SCALES: [N_EXPERTS]
    DEVICE_PTR(const float) share_weight; // ROUTE_SHARE: [D_MODEL]
    DEVICE_PTR(float) share;              // ROUTE_SHARE: out [MAX_ROWS]
    DEVICE_PTR(unsigned short) normed;    // out activations of D_MODEL columns, as of norm_rows.cuh
    DEVICE_PTR(float) logits;             // out [MAX_ROWS][N_EXPERTS]
    DEVICE_PTR(ExpertRowChoice) choice;   // many: out [MAX_ROWS][N_USED]
    DEVICE_PTR(unsigned) meetings;        // many: [MAX_ROWS], zeros between launches
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
    DEVICE_PTR(float) weight;                 // EXPERTS_WEIGHED: out, of each slot
} GroupExpertsArgs;

// experts_glu.cuh, experts_down.cuh
typedef struct {
    ProductArgs product; // weight: [N_EXPERTS] matrices in tiles; bias: [N_EXPERTS][rows of one] or NULL;
                         // in: glu: few: the norms of rows; many: of slots; down: what glu left
    // out_activations: glu: few: [experts that a batch touches, at most] buffers; many: a
    // row a slot; out: down: [slots][D_MODEL]
    DEVICE_PTR(const float) logits;      // few: [MAX_ROWS][N_EXPERTS] the router's
    DEVICE_PTR(const float) select;      // few, ROUTE_SELECTS: [N_EXPERTS]
    DEVICE_PTR(const float) scales;      // few, ROUTE_EXPERT_SCALES: [N_EXPERTS]
    DEVICE_PTR(const ExpertTile) tiles;  // many: [EXPERT_TILES]
    DEVICE_PTR(const unsigned) n_tiles;  // many
    DEVICE_PTR(const float) slot_weight; // glu, many, EXPERTS_WEIGHED: of each slot
    // SHARED_ROWS: of the shared expert: matrices in tiles, as product.weight; glu: activations of
    // SHARED_ROWS columns; down, HAS_SHARE: product.share.
    DEVICE_PTR(const unsigned char) shared[2];
    DEVICE_PTR(unsigned short) shared_out;
    DEVICE_PTR(float) x;           // down, few: [MAX_ROWS][D_MODEL] += the experts' sum (SUM_ALONE: =)
    DEVICE_PTR(unsigned) arrivals; // down, few: [ceil(D_MODEL / 16)], zeros between launches
} ExpertsArgs;

// experts_sum.cuh
typedef struct {
    DEVICE_PTR(const Batch) batch;
    DEVICE_PTR(const ExpertRowChoice) choice; // [MAX_ROWS][N_USED]
    DEVICE_PTR(const unsigned) slot;          // many: [MAX_ROWS][N_USED]
    DEVICE_PTR(const float) in;               // [slots][D_MODEL]
    DEVICE_PTR(float) x;                      // [MAX_ROWS][D_MODEL] += the sum (SUM_ALONE: =)
} ExpertsSumArgs;

// ---- all stages ----

// What a compiled stage tells the host: `NAME_info` in its module.
typedef struct {
    unsigned threads; // of a block
    unsigned grid[2];
    unsigned shared_bytes; // dynamic
#ifdef __cplusplus
    unsigned cluster = 0; // blocks of a cluster; 0: none
    unsigned blocks_alone =
        0; // of a launch without clusters, where there may be one; 0: clusters are the kernel's own
#else
    unsigned cluster, blocks_alone;
#endif
} StageInfo;

#endif
