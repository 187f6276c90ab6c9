// Steps of batches: what is sent, what is launched.
#include "backend/cuda/cuda_batch.h"

#include "../kernels_src/layout.h"
#include "backend/cuda/cuda_batch_table.h"
#include "backend/cuda/cuda_step.h"

uint32_t cuda_batch_launches(CudaBackend *b, uint32_t class_index, BatchSpread spread, uint32_t tail,
                             StageArgs *args, Launch *launches, const BatchStage **stages) {
    CudaBatches *t = b->batches;
    const BatchClass *c = &t->lowered.classes[class_index];
    const BatchStage *two_ways = t->classes[class_index].two_ways;
    uint32_t n = 0;
    for (uint32_t i = 0; i < (tail == TAIL_COUNT ? c->n_layers_stages : c->n_stages); i++) {
        const BatchStage *s = &c->stages[i];
        if (batch_draws(s->type) && !(s->type->tails & 1u << tail)) continue;
        batch_bind(s, &t->classes[class_index].buffers, &args[n]);
        launches[n] = (Launch){.kernel = &t->kernels[s->program], .args = &args[n]};
        // Attention of shorter windows stays in clusters, which have all of its groups.
        launches[n].alone = spread == SPREAD_ALONE && s->program == two_ways->program;
        stages[n++] = s;
    }
    return n;
}

// Clusters are slower where each row has one split, so that their blocks have nothing to share (8B, one row
// of 128 keys: 2.55 µs, not 2.29), and where there are more groups than clusters (16,384 keys: 29.0 µs, not
// 22.7).
BatchSpread cuda_batch_spread(const CudaBackend *b, uint32_t class_index, const uint32_t *positions,
                              uint32_t n_rows) {
    const BatchStage *s = b->batches->classes[class_index].two_ways;
    if (!s) return SPREAD_CLUSTERS;
    const Op *op = s->attention;
    const StageInfo *info = &b->batches->kernels[s->program].info;
    uint32_t lists = layout_attention_lists(op->attention.n_heads, op->attention.n_kv_heads);
    uint32_t split_keys = ATTENTION_GROUP_KEYS / ATTENTION_GROUP_SPLITS, n_groups = 0;
    bool one_split = true;
    for (uint32_t i = 0; i < n_rows; i++) {
        uint32_t window = op->attention.window, last = positions[i];
        uint32_t first = window && last + 1 > window ? last + 1 - window : 0;
        n_groups += lists * (last / ATTENTION_GROUP_KEYS + 1 - first / ATTENTION_GROUP_KEYS);
        one_split = one_split && last / split_keys == first / split_keys;
    }
    return one_split || n_groups > info->grid[0] / info->cluster ? SPREAD_ALONE : SPREAD_CLUSTERS;
}

// ---- a text begins ----

static uint32_t draws_of(const Slot *slot) {
    return (slot->adjusted ? DRAW_ADJUSTED : 0u) | (slot->greedy ? 0u : DRAW_SAMPLED) |
           (slot->has_logprobs ? DRAW_LOGPROBS : 0u);
}

bool cuda_batch_begin(CudaBackend *b, Cell *cell, uint32_t slot_index, const SamplerParams *p, Error *err) {
    const Slot *slot = &b->slots[slot_index];
    SlotState state = {.step = slot->n_draws,
                       .top_k = p->top_k,
                       .temperature = p->temperature,
                       .top_p = p->top_p,
                       .min_p = p->min_p,
                       .repetition_penalty = slot->adjusted ? 1 : p->repetition_penalty,
                       .seed = p->seed,
                       .seen = slot->seen,
                       .counts = slot->adjusted ? slot->counts : 0,
                       .drawn = slot->tokens,
                       .rules = slot->rules,
                       .logprobs = slot->logprobs,
                       .draws = draws_of(slot)};
    CUdeviceptr to = b->batches->classes[BATCH_CLASS_PROMPT].buffers.slots + slot_index * sizeof state;
    return cuda_cell_send(b, cell, to, &state, sizeof state, err);
}

// ---- tables ----

// Sends a class's table; the caller fills in rows and logits_rows of what is returned, in the cell, before.
typedef struct {
    uint8_t *bytes;
    uint32_t *logits_rows;
    BatchRow *rows;
    uint64_t size;
} Table;

static Table table_begin(Cell *cell, const BatchClass *c, uint32_t n_rows, uint32_t n_logits) {
    uint64_t size = batch_table_bytes(c, n_rows);
    cell->used = align_up(cell->used, 16);
    Table t = {.bytes = cuda_cell_room(cell, align_up(size, 16)), .size = size};
    *(Batch *)(void *)t.bytes = (Batch){.n_rows = n_rows, .n_logits = n_logits};
    t.logits_rows = (uint32_t *)(void *)(t.bytes + sizeof(Batch));
    t.rows = (BatchRow *)(void *)(t.bytes + batch_rows_at(c));
    return t;
}

static bool table_send(CudaBackend *b, const Table *t, CUdeviceptr to, Error *err) {
    CUresult r = b->cuda.copy_to_device(to, t->bytes, t->size, b->stream);
    return cuda_ok(&b->cuda, r, "sending to the GPU", err);
}

bool cuda_batch_send_rows(CudaBackend *b, Cell *cell, uint32_t class_index, const StepSequence *q,
                          uint32_t first, uint32_t n_rows, uint32_t n_logits, Error *err) {
    CudaBatches *t = b->batches;
    const BatchClass *c = &t->lowered.classes[class_index];
    Table table = table_begin(cell, c, n_rows, n_logits);
    for (uint32_t i = 0; i < n_logits; i++)
        table.logits_rows[i] = n_rows - n_logits + i;
    for (uint32_t i = 0; i < n_rows; i++) {
        table.rows[i] = (BatchRow){.token = q->tokens ? q->tokens[first + i] : ROW_TOKEN_DRAWN,
                                   .position = q->position + first + i,
                                   .slot = q->slot,
                                   .pages = b->slots[q->slot].pages};
    }
    t->classes[class_index].n_placed = 0;
    return table_send(b, &table, t->classes[class_index].buffers.batch, err);
}

// ---- rows that decode ----

// Rows of as many sequences, each the token that its slot drew last.
typedef struct {
    const StepSequence *sequences[JOBS_MAX];
    uint32_t n;
} Rows;

static PlacedRow place_of(const CudaBackend *b, const StepSequence *q) {
    const Slot *slot = &b->slots[q->slot];
    return (PlacedRow){q->slot + 1, slot->generation, q->position, slot->n_draws};
}

static bool same_place(PlacedRow x, PlacedRow y) {
    return x.slot_and_1 == y.slot_and_1 && x.generation == y.generation && x.position == y.position &&
           x.step == y.step;
}

// Whether the class's table has these rows: the stage that drew left them there.
static bool is_placed(const CudaBackend *b, const CudaClass *c, const StepSequence *const *q, uint32_t n) {
    bool same = c->n_placed == n;
    for (uint32_t i = 0; same && i < n; i++)
        same = same_place(c->placed[i], place_of(b, q[i]));
    return same;
}

static bool place_rows(CudaBackend *b, Cell *cell, uint32_t class_index, const StepSequence *const *q,
                       uint32_t n, Error *err) {
    CudaClass *c = &b->batches->classes[class_index];
    if (is_placed(b, c, q, n)) return true;
    Table table = table_begin(cell, &b->batches->lowered.classes[class_index], n, n);
    for (uint32_t i = 0; i < n; i++) {
        table.logits_rows[i] = i;
        table.rows[i] = (BatchRow){.token = ROW_TOKEN_DRAWN,
                                   .position = q[i]->position,
                                   .slot = q[i]->slot,
                                   .pages = b->slots[q[i]->slot].pages};
        c->placed[i] = place_of(b, q[i]);
    }
    c->n_placed = n;
    return table_send(b, &table, c->buffers.batch, err);
}

// What the rows go through behind the head.
static BatchTail tail_of(const CudaBackend *b, const StepSequence *const *q, uint32_t n) {
    uint32_t all = 0, sampled = 0;
    for (uint32_t i = 0; i < n; i++) {
        uint32_t draws = draws_of(&b->slots[q[i]->slot]);
        all |= draws;
        sampled += (draws & DRAW_SAMPLED) != 0;
    }
    if (all == 0) return TAIL_GREEDY;
    return all == DRAW_SAMPLED && sampled == n ? TAIL_SAMPLED : TAIL_ANY;
}

static bool run_group(CudaBackend *b, Cell *cell, uint32_t class_index, const StepSequence *const *q,
                      uint32_t n, Error *err) {
    CudaClass *c = &b->batches->classes[class_index];
    if (!place_rows(b, cell, class_index, q, n, err)) return false;
    uint32_t positions[JOBS_MAX];
    for (uint32_t i = 0; i < n; i++)
        positions[i] = q[i]->position;
    BatchSpread spread = cuda_batch_spread(b, class_index, positions, n);
    CUresult r = b->cuda.graph_launch(c->graphs[spread][tail_of(b, q, n)], b->stream);
    for (uint32_t i = 0; i < n; i++) { // as the stage that draws does
        c->placed[i].position++;
        c->placed[i].step++;
    }
    return cuda_ok(&b->cuda, r, "launching a step", err);
}

uint32_t cuda_batch_class_for(const CudaBatches *t, uint32_t n) {
    uint32_t best = BATCH_CLASS_PROMPT;
    for (uint32_t i = 0; i < t->lowered.n_classes; i++) {
        if (t->lowered.classes[i].size.body == BODY_PROMPT || !t->classes[i].is_ready) continue;
        uint32_t rows = t->lowered.classes[i].size.max_rows;
        uint32_t has = best == BATCH_CLASS_PROMPT ? 0 : t->lowered.classes[best].size.max_rows;
        if (has < n ? rows > has : rows >= n && rows < has) best = i;
    }
    return best;
}

static bool run_rows(CudaBackend *b, Cell *cell, const Rows *rows, Error *err) {
    for (uint32_t at = 0, n; at < rows->n; at += n) {
        // The prompts' class has its rows in its buffers. (In the first second after a start alone.)
        if (b->batches->is_in_slices) cuda_batch_wait_for_class(b, BATCH_CLASS_ONE);
        uint32_t c = cuda_batch_class_for(b->batches, rows->n - at);
        if (c == BATCH_CLASS_PROMPT && b->batches->is_in_slices)
            return error_set(err, ERR_INTERNAL, "the kernels of one row were not compiled");
        uint32_t most = c == BATCH_CLASS_PROMPT ? 1 : b->batches->lowered.classes[c].size.max_rows;
        n = (uint32_t)min_u64(rows->n - at, most);
        if (!run_group(b, cell, c, rows->sequences + at, n, err)) return false;
    }
    return true;
}

// ---- a prompt's rows ----

// A slice's stages, launched one by one: of what a long step takes that is nothing.
static bool run_slice(CudaBackend *b, const StepSequence *q, Error *err) {
    CudaBatches *t = b->batches;
    const BatchClass *c = &t->lowered.classes[t->prompts];
    uint64_t n = c->n_layers_stages;
    uint32_t begin = (uint32_t)(n * q->slice / q->n_slices),
             end = (uint32_t)(n * (q->slice + 1) / q->n_slices);
    for (uint32_t i = begin; i < end; i++) {
        StageArgs args;
        batch_bind(&c->stages[i], &t->classes[t->prompts].buffers, &args);
        Launch launch = {.kernel = &t->kernels[c->stages[i].program], .args = &args};
        if (!kernel_launch(&b->cuda, &launch, b->overlap && i > begin, b->stream, err)) return false;
    }
    return true;
}

// The stages behind the layers of a class: the head, and what a sequence draws by.
typedef enum { RUN_HEAD = 1, RUN_DRAWS = 2 } Behind;

static bool run_behind(CudaBackend *b, uint32_t class_index, const StepSequence *q, uint32_t what,
                       Error *err) {
    CudaBatches *t = b->batches;
    const BatchBuffers *buffers = &t->classes[class_index].buffers;
    const BatchClass *c = &t->lowered.classes[class_index];
    BatchTail tail = tail_of(b, &q, 1);
    bool is_first = true;
    for (uint32_t i = c->n_layers_stages; i < c->n_stages; i++) {
        const BatchStage *s = &c->stages[i];
        if (!(what & (batch_draws(s->type) ? RUN_DRAWS : RUN_HEAD))) continue;
        if (batch_draws(s->type) && !(s->type->tails & 1u << tail)) continue;
        StageArgs args;
        batch_bind(s, buffers, &args);
        Launch launch = {.kernel = &t->kernels[s->program], .args = &args};
        if (!kernel_launch(&b->cuda, &launch, b->overlap && !is_first, b->stream, err)) return false;
        is_first = false;
    }
    return true;
}

bool cuda_batch_draw(CudaBackend *b, uint32_t class_index, const StepSequence *q, Error *err) {
    return run_behind(b, class_index, q, RUN_DRAWS, err);
}

bool cuda_batch_fetch_logits(CudaBackend *b, uint32_t row, Flight *flight, Error *err) {
    uint64_t n_vocab = b->plan->n_vocab, bytes = n_vocab * sizeof(float);
    float *to = b->logits + flight->n_logits++ * n_vocab;
    CUresult r = b->cuda.copy_to_host(
        to, b->batches->classes[BATCH_CLASS_PROMPT].buffers.logits + row * bytes, bytes, b->stream);
    return cuda_ok(&b->cuda, r, "fetching logits", err);
}

bool cuda_batch_run_heads(CudaBackend *b, Cell *cell, const StepSequence *q, Flight *flight, Error *err) {
    uint32_t n_wanted = (uint32_t)max_u64(q->n_logits, q->n_draws);
    for (uint32_t row = q->n_rows - n_wanted; row < q->n_rows; row++) {
        CUdeviceptr to = b->batches->classes[BATCH_CLASS_PROMPT].buffers.logits_rows;
        bool is_there = n_wanted == 1; // it came with the table
        if (!is_there && !cuda_cell_send(b, cell, to, &row, sizeof row, err)) return false;
        uint32_t what = q->n_draws && row + 1 == q->n_rows ? RUN_HEAD | RUN_DRAWS : RUN_HEAD;
        if (!run_behind(b, BATCH_CLASS_PROMPT, q, what, err)) return false;
        if (row + q->n_logits >= q->n_rows && !cuda_batch_fetch_logits(b, 0, flight, err)) return false;
    }
    return true;
}

static bool run_prompt(CudaBackend *b, Cell *cell, const StepSequence *q, Flight *flight, Error *err) {
    CudaBatches *t = b->batches;
    CudaClass *c = &t->classes[t->prompts];
    t->is_in_slices = !step_is_last_slice(q);
    if (q->slice == 0 && !cuda_batch_send_rows(b, cell, BATCH_CLASS_PROMPT, q, 0, q->n_rows, 1, err))
        return false;
    if (q->n_slices > 1) {
        if (!run_slice(b, q, err)) return false;
    } else {
        CUresult r = b->cuda.graph_launch(c->graphs[SPREAD_CLUSTERS][TAIL_COUNT], b->stream);
        if (!cuda_ok(&b->cuda, r, "launching a prompt's rows", err)) return false;
    }
    return !step_is_last_slice(q) || cuda_batch_run_heads(b, cell, q, flight, err);
}

// ---- a step ----

void cuda_batch_note_draw(CudaBackend *b, const StepSequence *q, Flight *flight) {
    Slot *slot = &b->slots[q->slot];
    uint32_t last = q->n_rows - 1;
    flight->has_logprobs |= slot->has_logprobs;
    flight->draws[flight->n_drawing++] = (Draw){.slot = q->slot,
                                                .generation = slot->generation,
                                                .place = slot->n_draws++ % TOKEN_RING,
                                                .position = q->position + last,
                                                .token = q->tokens ? q->tokens[last] : TOKEN_INVALID,
                                                .logprobs = slot->has_logprobs};
}

bool cuda_batch_step(CudaBackend *b, Cell *cell, const Step *step, Flight *flight, Error *err) {
    Rows rows = {.n = 0};
    for (uint32_t i = 0; i < step->n_sequences; i++) {
        const StepSequence *q = &step->sequences[i];
        if (q->mode == STEP_DECODE) rows.sequences[rows.n++] = q;
        else if (!run_prompt(b, cell, q, flight, err)) return false;
    }
    if (!run_rows(b, cell, &rows, err)) return false;
    for (uint32_t i = 0; i < step->n_sequences; i++) {
        const StepSequence *q = &step->sequences[i];
        bool wants_logits = q->mode == STEP_DECODE && q->n_logits; // of a step of one sequence
        if (wants_logits && !cuda_batch_fetch_logits(b, 0, flight, err)) return false;
        if (q->n_draws) cuda_batch_note_draw(b, q, flight);
    }
    cuda_batch_look_for_more(b);
    return true;
}
