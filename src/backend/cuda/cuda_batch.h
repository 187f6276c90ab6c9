// Batches on a GPU: rows of any sequences that go through the layers together (batch_stages.h).
//
// Each class of batches has a table on the device (Batch, the rows whose logits are wanted, the rows),
// buffers and graphs of its own. The stage that draws makes each row its sequence's next one, so where a
// step's rows are the same sequences as the class had before, one position further, nothing is sent. A step
// of n rows goes into the smallest class that holds them; where that one is not compiled yet, through a
// smaller one several times, to the same bits; before any is, through the prompts' class, which has a head
// and draws of one row.
//
// The rows of all prompts of a step go through the layers together, by stages of their own class, mostly with
// the rows that decode; then those that draw go through the head of a class that holds them.
#pragma once

#include "backend/cuda/batch_lower.h"
#include "backend/cuda/cuda_internal.h"

// How attention that has both ways is launched (StageInfo.blocks_alone): in clusters, or without, a block a
// multiprocessor or two. Of prompts: all stretches are whole, or some are divided, which takes a stage more.
// Of few rows with a compressed cache the same: none has more than a group of keys, or some have.
typedef enum {
    SPREAD_CLUSTERS,
    SPREAD_ALONE,
    SPREAD_TWO_ALONE,
    SPREAD_COUNT,
    SPREAD_WHOLE = SPREAD_CLUSTERS,
    SPREAD_DIVIDED = SPREAD_ALONE,
} BatchSpread;

// What one class has.
typedef struct {
    BatchBuffers buffers;
    BatchBuffers behind_prompts; // its head and draws, on rows of the prompts' class
    // Layers, and what the tail has; [TAIL_COUNT], of prompts: layers alone. SPREAD_ALONE and
    // SPREAD_TWO_ALONE: with `two_ways`; SPREAD_DIVIDED: of prompts, and with `folds_groups`.
    CUgraphExec graphs[SPREAD_COUNT][TAIL_COUNT + 1];
    const BatchStage *two_ways; // attention that has both ways, of the longest window; NULL: none
    bool folds_groups;          // a stage is left out where rows are short (BatchType); `two_ways` is NULL
    PlacedRow placed[BATCH_ROWS_MAX];
    uint32_t n_placed; // what the table holds now; 0: nothing that is known
    // [n_stages] where a library multiplies, and then the class has no graph; else NULL.
    struct GivenProduct *given;
    bool is_ready;
} CudaClass;

// Parts of a step that go through the layers together.
typedef struct {
    const StepSequence *of[JOBS_MAX];
    uint32_t n, n_rows;
} Parts;

struct CudaBatches {
    BatchLowered lowered;
    Kernel *kernels; // [lowered.n_programs]
    CudaClass classes[BATCH_CLASSES_MAX];
    uint32_t prompts; // the class that any number goes through: BATCH_CLASS_PROMPT, then the faster one
    BatchSpread pass_spread; // of prompts: as the table that was sent last wants it
    bool is_in_slices;       // a prompt is between two of its slices: its rows are in the class's buffers
    // Compiles the classes that come later; NULL when that has ended.
    Jit *later;
    uint32_t n_classes_tried; // with the first ones, and in order: the next one is under way
    uint32_t n_loaded;        // kernels, in the order of the programs
    uint32_t n_graphs;        // of the class under way
    // [stages of the largest class] of the graph that is made. Graphs are made between steps, too, when what
    // is free of the backend's arena may be in use as its owner's scratch.
    StageArgs *graph_args;
    Launch *graph_launches;
    const BatchStage **graph_stages;
    struct LibraryProducts *library; // library_products.h; NULL: all stages multiply themselves
    uint32_t n_pass_rows;            // in the table of prompts' rows
    uint32_t watched;                // the class that an observer of rows sees
    // The step that is being enqueued. What it points to has been sent by the time that it waits for masks.
    StepSequence sequences[JOBS_MAX];
    uint32_t n_sequences;
    Parts pass, rows; // through the prompts' class, and behind it through their own
    bool head_ran;    // the layers of `rows`, and the head, all in one class: what is left are the draws
};

// ---- loading (cuda_batch_load.c), called by cuda_load.c in this order ----

// Places the weights in tiles, and lowers. Errors: ERR_UNSUPPORTED where an operation has no stage.
MUST_CHECK bool cuda_batch_lower(CudaBackend *b, const LowerTarget *target, Error *err);
// Starts compiling in the background: programs of the classes that come later.
MUST_CHECK bool cuda_batch_start_later(CudaBackend *b, Error *err);
// Bytes that a step sends at most, without its sequences' pages.
uint64_t cuda_batch_step_bytes(const CudaBackend *b);
// Takes the buffers out of the working memory.
void cuda_batch_lay_out(CudaBackend *b, DeviceLayout *l);
// The classes that are there when load returns; their programs are compiled (or being compiled) by `jit`,
// from `first` on.
MUST_CHECK bool cuda_batch_load_first(CudaBackend *b, Jit *jit, uint32_t first, Error *err);
// Lets the compiler in the background begin.
void cuda_batch_loaded(CudaBackend *b);
void cuda_batch_unload(CudaBackend *b);

// Loads what has been compiled since: a kernel or a graph, so that a step is hardly longer for it.
void cuda_batch_look_for_more(CudaBackend *b);

// ---- steps (cuda_batch_step.c) ----

// A slot's state for a text that begins there.
MUST_CHECK bool cuda_batch_begin(CudaBackend *b, Cell *cell, uint32_t slot, const SamplerParams *params,
                                 Error *err);
// Sends and launches a step; the pages of its sequences are there. Notes in the flight what it draws. Where
// the flight waits for masks, what needs them is left to cuda_batch_finish, and mostly the draws alone.
MUST_CHECK bool cuda_batch_step(CudaBackend *b, Cell *cell, const Step *step, Flight *flight, Error *err);
// What is left of it.
MUST_CHECK bool cuda_batch_finish(CudaBackend *b, Cell *cell, Flight *flight, Error *err);

// Waits until a class is there, or turns out to be missing.
void cuda_batch_wait_for_class(CudaBackend *b, uint32_t class_index);

// The smallest class that holds n rows, or else the largest one that is compiled; before any is, that of
// prompts, which takes one row.
uint32_t cuda_batch_class_for(const CudaBatches *t, uint32_t n);

// The class that n_rows rows of prompts, and of those that decode beside them, go through: the smallest one.
uint32_t cuda_batch_prompts_for(const CudaBatches *t, uint32_t n_rows);

// ---- its pieces, for those who look at each stage, and for the graphs ----

// The launches of a class: layers, and for a tail below TAIL_COUNT the head and draws. `args`, `launches` and
// `stages` hold n_stages of the class each. Returns how many there are.
uint32_t cuda_batch_launches(CudaBackend *b, uint32_t class_index, BatchSpread spread, uint32_t tail,
                             StageArgs *args, Launch *launches, const BatchStage **stages);
// One of them: stage number `stage` of the class, and its arguments.
Launch cuda_batch_launch_of(const CudaBackend *b, uint32_t class_index, uint32_t stage, StageArgs *args);
// The faster way for rows at these positions.
BatchSpread cuda_batch_spread(const CudaBackend *b, uint32_t class_index, const uint32_t *positions,
                              uint32_t n_rows);

// Sends n_rows rows of q from its first-th on as the class's table; the logits of the last n_logits of them
// are wanted.
MUST_CHECK bool cuda_batch_send_rows(CudaBackend *b, Cell *cell, uint32_t class_index, const StepSequence *q,
                                     uint32_t first, uint32_t n_rows, uint32_t n_logits, Error *err);
// The head, and what q draws by, for those rows of a prompt that want logits.
MUST_CHECK bool cuda_batch_run_heads(CudaBackend *b, Cell *cell, const StepSequence *q, Flight *flight,
                                     Error *err);
// What q draws by, for the class's one row whose logits are there.
MUST_CHECK bool cuda_batch_draw(CudaBackend *b, uint32_t class_index, const StepSequence *q, Error *err);
// The logits of the i-th row that wanted them, to the host.
MUST_CHECK bool cuda_batch_fetch_logits(CudaBackend *b, uint32_t row, Flight *flight, Error *err);
// Notes that q draws a token in this step.
void cuda_batch_note_draw(CudaBackend *b, const StepSequence *q, Flight *flight);

// Runs one row stage by stage for the observer, without drawing a token.
MUST_CHECK bool cuda_batch_show_row(CudaBackend *b, uint32_t slot, int32_t token, uint32_t position,
                                    Error *err);
