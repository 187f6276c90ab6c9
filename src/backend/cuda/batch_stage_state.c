// Stages of batches of layers that keep a state: what they make of their input, short convolutions, states of
// heads, norms and gates. (Their output: batch_stage_products.c.)
#include "backend/cuda/batch_lower_internal.h"

#include <math.h>

// ---- INPUTS: what is convolved, the gate, and what else there is, as the matrices give them ----

// Rows are read four values at a time.
enum { INPUTS_MULTIPLE = 4 };

static BatchMatrices matrices_of(const BatchStage *s) {
    BatchMatrices m = {.n = 0};
    for (uint32_t i = INPUTS_CONV; i <= INPUTS_TIMES; i++)
        if (s->ops[i]) batch_matrices_add(&m, s->ops[i], INPUTS_MULTIPLE);
    return m;
}

// Where a row of `raw` has the products of an operation.
static uint32_t place_of(const BatchMatrices *m, const Op *op) {
    uint32_t i = 0;
    while (i + 1 < m->n && m->of[i] != op)
        i++;
    return m->at[i];
}

static bool link_inputs(BatchStage *s, const BatchStage *before, const BatchStage *after, Error *err) {
    (void)before;
    return (after && after->block == &batch_block_state) || batch_refuse(err, s);
}

static bool check_inputs(const BatchLowering *l, const BatchStage *s, Error *err) {
    BatchMatrices m = {.n = 0};
    (void)l;
    if (!s->ops[INPUTS_DT] == !s->ops[INPUTS_TIMES] || (s->ops[INPUTS_BETA] && !s->ops[INPUTS_DT]))
        return batch_refuse(err, s);
    m = matrices_of(s);
    return batch_check_matrices(&m, err);
}

static void define_inputs(StrBuf *b, const BatchLowering *l, const BatchStage *s) {
    BatchMatrices m = matrices_of(s);
    batch_define_matrices(b, l, s, &m, s->ops[INPUTS_NORM]);
}

static void bind_inputs(const BatchStage *s, const BatchBuffers *b, StageArgs *out) {
    BatchMatrices m = matrices_of(s);
    batch_bind_matrices(s, b, &m, s->ops[INPUTS_NORM], out);
}

static uint32_t inputs_results(const BatchStage *s, const BatchBuffers *b,
                               StageResult out[STAGE_RESULTS_MAX]) {
    BatchMatrices m = matrices_of(s);
    for (uint32_t i = 0; i < m.n; i++) {
        CUdeviceptr at = b->raw + m.at[i] * sizeof(float);
        out[i] = (StageResult){m.of[i], RESULT_ROWS, at, m.of[i]->out_width, 1, m.cols};
    }
    return m.n;
}

const BatchType batch_inputs = {
    .kernel = "qkv",
    .name = "inputs of a state",
    .files = {FILES_FEW, "qkv.cuh"},
    .cost = 60,
    .reads = READS_ALL,
    .define = define_inputs,
    .bind = bind_inputs,
    .results = inputs_results,
};

const BatchType batch_inputs_many = {
    .kernel = "qkv",
    .name = "inputs of a state of many",
    .files = {FILES_MANY, "qkv.cuh"},
    .given_files = {FILES_GIVEN, "qkv.cuh"},
    .cost = 80,
    .reads = READS_ALL,
    .define = define_inputs,
    .bind = bind_inputs,
    .results = inputs_results,
};

// clang-format off
const BatchBlock batch_block_inputs = {
    .patterns = {
        {6, false, {
            [INPUTS_NORM]  = {OP_RMS_NORM, ACT_H,  {ACT_X}, .is_norm = true},
            [INPUTS_CONV]  = {OP_MATMUL,   ACT_C,  {ACT_H}},
            [INPUTS_GATE]  = {OP_MATMUL,   ACT_Z,  {ACT_H}},
            [INPUTS_DT]    = {OP_MATMUL,   ACT_SD, {ACT_H}, .optional = true},
            [INPUTS_BETA]  = {OP_MATMUL,   ACT_SB, {ACT_H}, .optional = true},
            [INPUTS_TIMES] = {OP_MATMUL,   ACT_D,  {ACT_H}, .optional = true}}}},
    .parts = {
        {&batch_norm, INPUTS_NORM, BODY_NORMED, true},
        {&batch_inputs, INPUTS_CONV, BODY_FEW, false},
        {&batch_inputs_many, INPUTS_CONV, BODY_TOGETHER, false}},
    .link = link_inputs,
    .check = check_inputs,
};
// clang-format on

// ---- STATE: the convolution, the states of heads, the norm and the gate ----

enum { STATE_TAPS_MAX = 8, STATE_SSM_KEYS_MAX = 256, STATE_LENGTHS_MAX = 128 };

// DELTA or SSM; NULL: a short convolution alone.
static const Op *heads_of(const BatchStage *s) {
    return s->ops[STATE_DELTA] ? s->ops[STATE_DELTA] : s->ops[STATE_SSM];
}

// The operation that gates the output.
static const Op *gate_of(const BatchStage *s) {
    return s->ops[STATE_GATE_CONV]   ? s->ops[STATE_GATE_CONV]
           : s->ops[STATE_GATE_LAST] ? s->ops[STATE_GATE_LAST]
                                     : s->ops[STATE_GATE_FIRST];
}

// Where a row of `mixed` has the values of heads, and then what they give.
static uint32_t values_at(const Op *heads) {
    return heads->kind == OP_DELTA ? 2 * heads->state.n_key_heads * heads->state.key_dim : 0;
}

static bool link_state(BatchStage *s, const BatchStage *before, const BatchStage *after, Error *err) {
    if (!before || before->block != &batch_block_inputs || !after ||
        after->block != &batch_block_state_output)
        return batch_refuse(err, s);
    s->inputs = before;
    return true;
}

// What all of it is made of, as one of the architectures' runs has it.
static bool is_complete(const BatchStage *s) {
    const Op *const *ops = s->ops, *const *inputs = s->inputs->ops;
    bool first = ops[STATE_GATE_FIRST] != NULL, last = ops[STATE_GATE_LAST] != NULL;
    if (ops[STATE_GATE_CONV]) {
        return ops[STATE_TIMES] && inputs[INPUTS_TIMES] && !heads_of(s) && !ops[STATE_NORM] && !first &&
               !last && ops[STATE_TIMES]->fn == FN_IDENTITY && ops[STATE_GATE_CONV]->fn == FN_IDENTITY;
    }
    bool inputs_fit = inputs[INPUTS_DT] && !inputs[INPUTS_BETA] == !ops[STATE_DELTA];
    return !ops[STATE_TIMES] && !ops[STATE_DELTA] != !ops[STATE_SSM] && inputs_fit && ops[STATE_NORM] &&
           first != last && gate_of(s)->fn == FN_SILU;
}

static bool check_heads(const Op *op, const Op *norm, Error *err) {
    uint32_t keys = op->state.key_dim, values = op->state.value_dim;
    bool keys_fit = op->kind == OP_DELTA ? keys % 16 == 0 && STATE_LENGTHS_MAX % keys == 0
                                         : keys % 16 == 0 && keys <= STATE_SSM_KEYS_MAX;
    if (!keys_fit || values % 8) {
        return error_set(err, ERR_UNSUPPORTED,
                         "layer %u: states of %u values by %u keys cannot be run on the GPU yet", op->layer,
                         values, keys);
    }
    uint64_t weights = norm->weight->n_rows * norm->weight->n_cols;
    bool norm_fits = norm->norm.group % 2 == 0 && norm->out_width % norm->norm.group == 0 &&
                     (norm->weight->n_rows == 1 || weights == norm->out_width);
    return norm_fits || lower_refuse_weight(err, norm->weight, "the norm is of another number of values");
}

static bool check_state(const BatchLowering *l, const BatchStage *s, Error *err) {
    const Op *conv = s->ops[STATE_CONV], *heads = heads_of(s);
    (void)l;
    if (!is_complete(s)) return batch_refuse(err, s);
    if (conv->conv.taps < 2 || conv->conv.taps > STATE_TAPS_MAX || conv->out_width % INPUTS_MULTIPLE)
        return lower_refuse_weight(err, conv->weight, "2 to 8 taps and a multiple of 4 channels are needed");
    return !heads || check_heads(heads, s->ops[STATE_NORM], err);
}

static void note_sizes(const BatchLowering *l, const BatchStage *s) {
    BatchLowered *out = l->out;
    const Op *heads = heads_of(s);
    out->conv_cols = (uint32_t)max_u64(out->conv_cols, s->ops[STATE_CONV]->out_width);
    out->state_cols = (uint32_t)max_u64(out->state_cols, gate_of(s)->out_width);
    if (heads) out->state_heads = (uint32_t)max_u64(out->state_heads, heads->state.n_heads);
}

// Runs of many rows.
static void define_prompts(StrBuf *b, const BatchLowering *l) {
    if (l->size.body == BODY_PROMPT) define(b, "LONG_RUNS", 1);
}

// STATE_DELTA or STATE_SSM, and the dimensions of the heads.
static void define_state_heads(StrBuf *b, const Op *heads) {
    define(b, heads->kind == OP_DELTA ? "STATE_DELTA" : "STATE_SSM", 1);
    define(b, "STATE_HEADS", heads->state.n_heads);
    define(b, "KEY_HEADS", heads->state.n_key_heads);
    define(b, "KEY_DIM", heads->state.key_dim);
}

// What the convolution is of.
static void define_convolved(StrBuf *b, const BatchStage *s) {
    const Op *conv = s->ops[STATE_CONV], *heads = heads_of(s), *const *inputs = s->inputs->ops;
    BatchMatrices m = matrices_of(s->inputs);
    define(b, "CONV_COLS", conv->out_width);
    define(b, "TAPS", conv->conv.taps);
    define(b, "RAW_COLS", m.cols);
    define_activation(b, conv->conv.fn);
    if (heads) {
        define_state_heads(b, heads);
        define(b, "DT_AT", place_of(&m, inputs[INPUTS_DT]));
    } else {
        define(b, "GATED_ROWS", 1);
        define(b, "GATE_AT", place_of(&m, inputs[INPUTS_GATE]));
        define(b, "TIMES_AT", place_of(&m, inputs[INPUTS_TIMES]));
    }
    if (!s->ops[STATE_DELTA]) return;
    define(b, "BETA_AT", place_of(&m, inputs[INPUTS_BETA]));
    define_float(b, "QUERY_SCALE", 1 / sqrtf((float)heads->state.key_dim));
}

// ---- few rows: the three stages as one (state_few.cuh) ----

enum { FEW_THREADS_MAX = 512, FEW_COLS_MAX = 64, FEW_CLUSTER_MAX = 8, FEW_NORM_MAX = 512 };

// The columns of a block: as few as leave the heads of a key head at most 8 blocks. 0: the stages are three,
// where rows are many, there are no clusters, or a norm is of more than a cluster has.
static uint32_t few_head_cols(const BatchLowering *l, const BatchStage *s) {
    const Op *heads = heads_of(s);
    if (!(l->size.body & BODY_FEW) || l->target->sm < 90 || !heads) return 0;
    uint32_t values = heads->state.value_dim, keys = heads->state.key_dim,
             norm = s->ops[STATE_NORM]->norm.group;
    uint32_t of_key_head = heads->state.n_heads / heads->state.n_key_heads;
    uint32_t lanes = keys % 64 == 0 ? 16 : keys % 32 == 0 ? 8 : 4, own = lanes > 4 ? 2 : 1;
    if (s->ops[STATE_CONV]->conv.fn != gate_of(s)->fn || norm > FEW_NORM_MAX) return 0;
    uint32_t least = values % 32 == 0 ? 32 : values % 16 == 0 ? 16 : 8; // state_heads.cuh's
    for (uint32_t cols = least; cols <= FEW_COLS_MAX && values % cols == 0; cols *= 2) {
        uint32_t threads = cols / own * lanes, blocks = of_key_head * (values / cols);
        if (blocks > FEW_CLUSTER_MAX || blocks < 2) continue;
        bool norm_fits = norm % cols == 0 && blocks % (norm / cols) == 0 &&
                         (norm == values || (!heads->state.tiled && norm >= values));
        bool threads_fit = threads <= FEW_THREADS_MAX && (2 * keys + cols) / 4 <= threads;
        if (norm_fits && threads_fit) return cols;
    }
    return 0;
}

static bool has_few(const BatchLowering *l, const BatchStage *s) {
    return few_head_cols(l, s) > 0;
}

static bool has_conv_alone(const BatchLowering *l, const BatchStage *s) {
    return few_head_cols(l, s) == 0;
}

static void define_conv(StrBuf *b, const BatchLowering *l, const BatchStage *s) {
    note_sizes(l, s);
    define(b, "STAGE_STATE_CONV", 1);
    define_prompts(b, l);
    define_convolved(b, s);
}

static void bind_conv(const BatchStage *s, const BatchBuffers *b, StageArgs *out) {
    const Op *conv = s->ops[STATE_CONV];
    out->state_conv = (StateConvArgs){.batch = b->batch,
                                      .rows = b->rows,
                                      .runs = b->runs,
                                      .raw = b->raw,
                                      .weight = batch_weight_of(b, conv),
                                      .bias = batch_bias_of(b, conv),
                                      .decay = batch_weight_of(b, heads_of(s)),
                                      .kept = batch_state_of(b, conv->conv.cache),
                                      .slot_floats = b->slot_floats,
                                      .mixed = b->mixed,
                                      .factors = b->factors,
                                      .out = b->y};
}

// Queries and keys of a delta net are of length 1 already.
static uint32_t conv_results(const BatchStage *s, const BatchBuffers *b, StageResult out[STAGE_RESULTS_MAX]) {
    const Op *conv = s->ops[STATE_CONV], *gate = gate_of(s);
    if (s->ops[STATE_DELTA]) return 0;
    if (s->ops[STATE_SSM]) out[0] = (StageResult){conv, RESULT_ROWS, b->mixed, conv->out_width, 1, 0};
    else out[0] = (StageResult){gate, RESULT_ACTIVATIONS, b->y, gate->out_width, 1 / GLU_DIVIDED_BY, 0};
    return 1;
}

const BatchType batch_state_conv = {
    .kernel = "state_conv",
    .name = "short convolution",
    .files = {FILES_ROWS, "activate.cuh", "state_conv.cuh"},
    .cost = COST_USUAL,
    .is_needed = has_conv_alone,
    .define = define_conv,
    .bind = bind_conv,
    .results = conv_results,
};

static bool has_heads_alone(const BatchLowering *l, const BatchStage *s) {
    return heads_of(s) != NULL && few_head_cols(l, s) == 0;
}

// Columns that a multiprocessor has of a run's, at most, where blocks have so many.
static uint32_t heads_busiest(const BatchLowering *l, const Op *heads, uint32_t cols) {
    uint64_t blocks = (uint64_t)heads->state.n_heads * heads->state.value_dim / cols;
    return (uint32_t)div_up(blocks, l->target->multiprocessors) * cols;
}

// In a prompt all wait for the multiprocessor that has most columns. Two blocks of 32 are more than three of
// 16 (Qwen3.5-27B, 48 heads of 128 on 132 multiprocessors).
static bool has_narrow_heads(const BatchLowering *l, const Op *heads) {
    uint32_t narrow = heads_busiest(l, heads, 16);
    bool can = heads->state.value_dim % 32 == 0 && heads->state.key_dim % 32 == 0 && narrow <= 3 * 16;
    return can && l->size.body == BODY_PROMPT && narrow < heads_busiest(l, heads, 32);
}

static void define_heads_stage(StrBuf *b, const BatchLowering *l, const BatchStage *s) {
    const Op *heads = heads_of(s);
    define(b, "STAGE_STATE_HEADS", 1);
    define_prompts(b, l);
    define(b, "CONV_COLS", s->ops[STATE_CONV]->out_width);
    define_state_heads(b, heads);
    define(b, "VALUE_DIM", heads->state.value_dim);
    if (has_narrow_heads(l, heads)) define(b, "HEAD_COLS", 16);
    if (heads->state.tiled) define(b, "HEADS_TILED", 1);
}

static void bind_heads(const BatchStage *s, const BatchBuffers *b, StageArgs *out) {
    const Op *heads = heads_of(s);
    out->state_heads = (StateHeadsArgs){.batch = b->batch,
                                        .rows = b->rows,
                                        .runs = b->runs,
                                        .mixed = b->mixed,
                                        .factors = b->factors,
                                        .skip = batch_bias_of(b, heads),
                                        .states = batch_state_of(b, heads->state.cache),
                                        .slot_floats = b->slot_floats};
}

static uint32_t heads_results(const BatchStage *s, const BatchBuffers *b,
                              StageResult out[STAGE_RESULTS_MAX]) {
    const Op *heads = heads_of(s);
    CUdeviceptr at = b->mixed + values_at(heads) * sizeof(float);
    out[0] = (StageResult){heads, RESULT_ROWS, at, heads->out_width, 1, s->ops[STATE_CONV]->out_width};
    return 1;
}

const BatchType batch_state_heads = {
    .kernel = "state_heads",
    .name = "states of heads",
    .files = {FILES_COMMON, "state_heads.cuh"},
    .cost = COST_USUAL,
    .reads = 1 << STATE_DELTA | 1 << STATE_SSM,
    .is_needed = has_heads_alone,
    .define = define_heads_stage,
    .bind = bind_heads,
    .results = heads_results,
};

// The norm and the gate.
static void define_gated(StrBuf *b, const BatchStage *s) {
    const Op *norm = s->ops[STATE_NORM];
    BatchMatrices m = matrices_of(s->inputs);
    define(b, "GATE_AT", place_of(&m, s->inputs->ops[INPUTS_GATE]));
    define(b, "STATE_COLS", norm->out_width);
    define(b, "NORM_COLS", norm->norm.group);
    define(b, "NORM_WEIGHTS", norm->weight->n_rows);
    define_norm(b, norm);
    if (s->ops[STATE_GATE_LAST]) define(b, "NORM_FIRST", 1);
}

static void define_gate(StrBuf *b, const BatchLowering *l, const BatchStage *s) {
    BatchMatrices m = matrices_of(s->inputs);
    (void)l;
    define(b, "STAGE_STATE_GATE", 1);
    define(b, "CONV_COLS", s->ops[STATE_CONV]->out_width);
    define(b, "VALUE_AT", values_at(heads_of(s)));
    define(b, "RAW_COLS", m.cols);
    define_gated(b, s);
    define_activation(b, gate_of(s)->fn);
}

static void bind_gate(const BatchStage *s, const BatchBuffers *b, StageArgs *out) {
    out->state_gate = (StateGateArgs){.batch = b->batch,
                                      .raw = b->raw,
                                      .mixed = b->mixed,
                                      .norm = batch_weight_of(b, s->ops[STATE_NORM]),
                                      .out = b->y};
}

static uint32_t gate_results(const BatchStage *s, const BatchBuffers *b, StageResult out[STAGE_RESULTS_MAX]) {
    const Op *last = s->ops[STATE_GATE_LAST] ? s->ops[STATE_GATE_LAST] : s->ops[STATE_NORM];
    out[0] = (StageResult){last, RESULT_ACTIVATIONS, b->y, last->out_width, 1 / GLU_DIVIDED_BY, 0};
    return 1;
}

const BatchType batch_state_gate = {
    .kernel = "state_gate",
    .name = "norm and gate of heads",
    .files = {FILES_ROWS, "activate.cuh", "state_gate.cuh"},
    .cost = COST_USUAL,
    .is_needed = has_heads_alone,
    .define = define_gate,
    .bind = bind_gate,
    .results = gate_results,
};

static void define_few(StrBuf *b, const BatchLowering *l, const BatchStage *s) {
    const Op *heads = heads_of(s);
    note_sizes(l, s);
    define(b, "STAGE_STATE_FEW", 1);
    define_convolved(b, s);
    define(b, "VALUE_DIM", heads->state.value_dim);
    if (heads->state.tiled) define(b, "HEADS_TILED", 1);
    define(b, "HEAD_COLS", few_head_cols(l, s));
    define_gated(b, s);
}

static void bind_few(const BatchStage *s, const BatchBuffers *b, StageArgs *out) {
    StageArgs conv, heads, gate;
    bind_conv(s, b, &conv);
    bind_heads(s, b, &heads);
    bind_gate(s, b, &gate);
    out->state_few = (StateFewArgs){conv.state_conv, heads.state_heads, gate.state_gate};
}

const BatchType batch_state_few = {
    .kernel = "state_few",
    .name = "states of heads of few",
    .files = {FILES_ROWS, "activate.cuh", "state_conv.cuh", "state_heads.cuh", "state_gate.cuh",
              "state_few.cuh"},
    .cost = COST_USUAL,
    .reads = 1 << STATE_DELTA | 1 << STATE_SSM,
    .is_needed = has_few,
    .define = define_few,
    .bind = bind_few,
    .results = gate_results,
};

// clang-format off
const BatchBlock batch_block_state = {
    .patterns = {
        {8, false, {
            [STATE_TIMES]      = {OP_GLU,      ACT_C, {ACT_D, ACT_C}, .optional = true},
            [STATE_CONV]       = {OP_CONV,     ACT_D, {ACT_C}},
            [STATE_DELTA]      = {OP_DELTA,    ACT_Y, {ACT_D, ACT_SD, ACT_SB}, .optional = true},
            [STATE_SSM]        = {OP_SSM,      ACT_Y, {ACT_D, ACT_SD}, .optional = true},
            [STATE_GATE_FIRST] = {OP_GLU,      ACT_Y, {ACT_Z, ACT_Y}, .optional = true},
            [STATE_NORM]       = {OP_RMS_NORM, ACT_Y, {ACT_Y}, .optional = true},
            [STATE_GATE_LAST]  = {OP_GLU,      ACT_Y, {ACT_Z, ACT_Y}, .optional = true},
            [STATE_GATE_CONV]  = {OP_GLU,      ACT_Y, {ACT_Z, ACT_D}, .optional = true}}}},
    .parts = {
        {&batch_state_conv, STATE_CONV, BODY_ANY, false},
        {&batch_state_heads, STATE_CONV, BODY_ANY, false},
        {&batch_state_gate, STATE_NORM, BODY_ANY, false},
        {&batch_state_few, STATE_CONV, BODY_FEW, false}},
    .link = link_state,
    .check = check_state,
};
// clang-format on
