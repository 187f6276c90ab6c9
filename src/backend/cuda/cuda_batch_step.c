// Steps of batches: what is sent, what is launched.
#include "backend/cuda/cuda_batch.h"

#include "../kernels_src/layout.h"
#include "backend/cuda/cuda_batch_table.h"
#include "backend/cuda/cuda_step.h"
#include "backend/cuda/library_products.h"

enum { TWO_ALONE_SPLITS = 7 }; // of a multiprocessor, with which two blocks are faster than one

Launch cuda_batch_launch_of(const CudaBackend *b, uint32_t class_index, uint32_t stage, StageArgs *args) {
    const CudaBatches *t = b->batches;
    const CudaClass *c = &t->classes[class_index];
    const BatchStage *s = &t->lowered.classes[class_index].stages[stage];
    Launch launch = {.kernel = &t->kernels[s->program], .args = args};
    batch_bind(s, &c->buffers, args);
    if (s->is_given) launch.ahead = library_run, launch.context = &c->given[stage];
    return launch;
}

uint32_t cuda_batch_launches(CudaBackend *b, uint32_t class_index, BatchSpread spread, uint32_t tail,
                             StageArgs *args, Launch *launches, const BatchStage **stages) {
    CudaBatches *t = b->batches;
    const BatchClass *c = &t->lowered.classes[class_index];
    const BatchStage *two_ways = t->classes[class_index].two_ways;
    uint32_t n = 0;
    for (uint32_t i = 0; i < (tail == TAIL_COUNT ? c->n_layers_stages : c->n_stages); i++) {
        const BatchStage *s = &c->stages[i];
        if (batch_draws(s->type) && !(s->type->needed_for & batch_tail_needs(tail))) continue;
        if ((s->type->folds_parts || s->type->folds_groups) && spread != SPREAD_DIVIDED) continue;
        launches[n] = cuda_batch_launch_of(b, class_index, i, &args[n]);
        // Attention of shorter windows stays in clusters, which have all of its groups.
        bool is_alone = spread != SPREAD_CLUSTERS && two_ways && s->program == two_ways->program;
        launches[n].alone = !is_alone ? 0 : spread == SPREAD_ALONE ? 1 : 2;
        stages[n++] = s;
    }
    return n;
}

static bool has_two_groups(const uint32_t *positions, uint32_t n_rows) {
    bool found = false;
    for (uint32_t i = 0; i < n_rows; i++)
        found = found || positions[i] >= ATTENTION_GROUP_KEYS;
    return found;
}

// Clusters are slower where each row has one split, so that their blocks have nothing to share (8B, one row
// of 128 keys: 2.55 µs, not 2.29), and where there are more groups than clusters (16,384 keys: 29.0 µs, not
// 22.7). Two blocks a multiprocessor hide each other's waits, but take the next stage's place and have more
// to fold (8B, one row: 23.6 µs there; of 32,768 keys 38.2, not 44.3).
BatchSpread cuda_batch_spread(const CudaBackend *b, uint32_t class_index, const uint32_t *positions,
                              uint32_t n_rows) {
    const BatchStage *s = b->batches->classes[class_index].two_ways;
    if (b->batches->classes[class_index].folds_groups)
        return has_two_groups(positions, n_rows) ? SPREAD_DIVIDED : SPREAD_WHOLE;
    if (!s) return SPREAD_CLUSTERS;
    const Op *op = s->attention;
    const StageInfo *info = &b->batches->kernels[s->program].info;
    // Parts of wide heads' values (VALUE_PARTS) are not counted: where with them there are more groups than
    // clusters, the kernel shares the list out all the same.
    uint32_t lists = layout_attention_lists(op->attention.n_heads, op->attention.n_kv_heads);
    uint32_t split_keys = ATTENTION_GROUP_KEYS / ATTENTION_GROUP_SPLITS, n_groups = 0, n_splits = 0;
    bool one_split = true;
    for (uint32_t i = 0; i < n_rows; i++) {
        uint32_t last = positions[i], first = op_first_seen(op, last);
        n_groups += lists * (last / ATTENTION_GROUP_KEYS + 1 - first / ATTENTION_GROUP_KEYS);
        n_splits += lists * (last / split_keys + 1 - first / split_keys);
        one_split = one_split && last / split_keys == first / split_keys;
    }
    if (!one_split && n_groups <= info->grid[0] / info->cluster) return SPREAD_CLUSTERS;
    return n_splits > TWO_ALONE_SPLITS * info->blocks_alone ? SPREAD_TWO_ALONE : SPREAD_ALONE;
}

// ---- a text begins ----

static uint32_t draws_of(const Slot *slot) {
    bool wants_bests = slot->masked && !slot->uncut; // of what the mask allows
    return (slot->adjusted || wants_bests ? DRAW_ADJUSTED : 0u) | (slot->greedy ? 0u : DRAW_SAMPLED) |
           (slot->has_logprobs ? DRAW_LOGPROBS : 0u) | (slot->uncut ? DRAW_UNCUT : 0u);
}

bool cuda_batch_begin(CudaBackend *b, Cell *cell, uint32_t slot_index, const SamplerParams *p, Error *err) {
    const Slot *slot = &b->slots[slot_index];
    uint32_t draws = draws_of(slot);
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
                       .mask = slot->masked ? slot->mask : 0,
                       .draws = draws};
    CUdeviceptr to = b->batches->classes[BATCH_CLASS_PROMPT].buffers.slots + slot_index * sizeof state;
    return cuda_cell_send(b, cell, to, &state, sizeof state, err);
}

// ---- tables ----

// A class's table, made in the cell.
typedef struct {
    const BatchClass *class;
    Batch *batch; // where the table begins
    uint32_t *logits_rows;
    RowStretch *stretches[STRETCH_CUTS];
    RowRun *runs;
    BatchRow *rows;
} Table;

// An empty one, for up to n_rows rows.
static Table table_begin(Cell *cell, const BatchClass *c, uint32_t n_rows) {
    cell->used = align_up(cell->used, 16);
    uint8_t *bytes = cuda_cell_room(cell, align_up(batch_table_bytes(c, n_rows), 16));
    Table t = {.class = c,
               .batch = (Batch *)(void *)bytes,
               .logits_rows = (uint32_t *)(void *)(bytes + sizeof(Batch)),
               .runs = (RowRun *)(void *)(bytes + batch_runs_at(c)),
               .rows = (BatchRow *)(void *)(bytes + batch_rows_at(c))};
    *t.batch = (Batch){0};
    for (uint32_t i = 0; i < STRETCH_CUTS; i++)
        t.stretches[i] = (RowStretch *)(void *)(bytes + batch_stretches_at(c, i));
    return t;
}

// Rows of q from its first-th on, and where a prompt's states behind them are kept.
static void table_add(const CudaBackend *b, Table *t, const StepSequence *q, uint32_t first,
                      uint32_t n_rows) {
    BatchRow *rows = t->rows + t->batch->n_rows;
    for (uint32_t i = first; i < first + n_rows; i++) {
        t->rows[t->batch->n_rows++] = (BatchRow){.token = q->tokens ? q->tokens[i] : ROW_TOKEN_DRAWN,
                                                 .position = q->position + i,
                                                 .slot = q->slot,
                                                 .pages = b->slots[q->slot].pages};
    }
    for (uint32_t i = 0; i < q->n_keeps && q->mode == STEP_PROMPT; i++) {
        uint32_t at = q->keeps[i].n_rows - 1;
        bool is_here = at >= first && at - first < n_rows;
        if (is_here) rows[at - first].keep = (uint16_t)(b->options.n_slots + q->keeps[i].place);
    }
}

// The logits of the last n rows are wanted.
static void table_want(Table *t, uint32_t n) {
    for (uint32_t i = 0; i < n; i++)
        t->logits_rows[t->batch->n_logits++] = t->batch->n_rows - n + i;
}

// Rows of one sequence, up to position `last`, of which the first n are in no stretch yet. The last of these
// sees n_keys keys.
typedef struct {
    uint32_t first, last, n, n_keys;
} Uncut;

// Cuts all rows into stretches, those that see most keys first: blocks take them in this order, and the last
// ones should not be what all wait for.
static void table_cut(Table *t, uint32_t cut, uint32_t stretch_rows) {
    Uncut all[JOBS_MAX];
    uint32_t n_all = 0, n_stretches = 0;
    for (uint32_t i = 0; i < t->batch->n_rows; i++) {
        if (i == 0 || t->rows[i].slot != t->rows[i - 1].slot) all[n_all++] = (Uncut){.first = i};
        Uncut *u = &all[n_all - 1];
        u->n++;
        u->last = t->rows[i].position;
        u->n_keys = u->last + 1;
    }
    for (uint32_t left = t->batch->n_rows, n; left > 0; left -= n) {
        Uncut *u = &all[0];
        for (uint32_t i = 1; i < n_all; i++) {
            if (all[i].n_keys > u->n_keys) u = &all[i];
        }
        uint32_t n_groups = (uint32_t)div_up(u->n_keys, ATTENTION_GROUP_KEYS), place = n_stretches++;
        n = (u->n - 1) % stretch_rows + 1;
        u->n -= n;
        u->n_keys = u->n > 0 ? u->n_keys - n : 0;
        const BatchRow *row = &t->rows[u->first + u->n];
        t->stretches[cut][place] = (RowStretch){.pages = row->pages,
                                                .row = u->first + u->n,
                                                .n_rows = n,
                                                .position = row->position,
                                                .last = u->last,
                                                .n_groups = (uint16_t)n_groups,
                                                .place = place};
    }
    t->batch->n_stretches[cut] = n_stretches;
}

static uint32_t table_groups(const Table *t, uint32_t cut) {
    uint32_t n = 0;
    for (uint32_t i = 0; i < t->batch->n_stretches[cut]; i++)
        n += t->stretches[cut][i].n_groups;
    return n;
}

// Divides stretches of more than n_most groups of keys into parts of up to as many, where all groups have a
// place. (They come first: they are sorted.) Their first parts stay, the others come behind these.
static void table_divide(Table *t, uint32_t cut, uint32_t n_most) {
    RowStretch *s = t->stretches[cut], *part;
    uint32_t n = t->batch->n_stretches[cut], n_divided = 0, n_more = 0, place = 0;
    if (table_groups(t, cut) > t->class->max_places[cut]) return;
    for (; n_divided < n && s[n_divided].n_groups > n_most; n_divided++)
        n_more += (uint32_t)div_up(s[n_divided].n_groups, n_most) - 1;
    part = s + n_divided;
    memmove(part + n_more, part, (n - n_divided) * sizeof *s);
    for (uint32_t i = 0; i < n_divided; i++) {
        uint32_t groups = s[i].n_groups, of_part = (uint32_t)div_up(groups, (uint32_t)div_up(groups, n_most));
        s[i].n_groups = (uint16_t)of_part;
        s[i].place = place;
        place += groups;
        for (uint32_t first = of_part; first < groups; first += of_part) {
            *part = s[i];
            part++->first_group = (uint16_t)first;
        }
    }
    for (uint32_t i = n_divided + n_more; i < n + n_more; i++)
        s[i].place = place++;
    t->batch->n_stretches[cut] = n + n_more;
    t->batch->n_divided[cut] = n_divided;
}

// Where few stretches have long texts, the longest one would be all that most multiprocessors wait for: then
// it is divided. A whole stretch of wgmma, which has two teams, takes 1.7 times as long as a half.
static void table_cut_and_divide(Table *t, uint32_t cut, const StretchCut *by) {
    bool halves = t->batch->n_rows <= by->half_rows;
    table_cut(t, cut, by->rows);
    uint32_t n_groups = table_groups(t, cut), longest = t->stretches[cut][0].n_groups;
    bool divides = 2ull * longest * by->at_once >= 5ull * n_groups && longest > 1 &&
                   n_groups <= t->class->max_places[cut];
    if (halves && (!divides || 2 * n_groups <= by->at_once)) table_cut(t, cut, by->rows / 2);
    if (divides) table_divide(t, cut, (uint32_t)div_up(table_groups(t, cut), STRETCH_PARTS * by->at_once));
}

// Rows of one slot are a run.
static void table_number_runs(Table *t) {
    for (uint32_t i = 0; i < t->batch->n_rows; i++) {
        if (i == 0 || t->rows[i].slot != t->rows[i - 1].slot) t->runs[t->batch->n_runs++] = (RowRun){i, 0};
        t->rows[i].run = (uint16_t)(t->batch->n_runs - 1);
        t->runs[t->rows[i].run].n_rows++;
    }
}

static bool table_send(CudaBackend *b, Table *t, uint32_t class_index, Error *err) {
    CUdeviceptr to = b->batches->classes[class_index].buffers.batch;
    if (t->class->size.body == BODY_PROMPT) b->batches->n_pass_rows = t->batch->n_rows;
    if (t->class->max_runs) table_number_runs(t);
    const BatchLowered *lowered = &b->batches->lowered;
    if (t->class->max_stretches[0]) b->batches->pass_spread = SPREAD_WHOLE;
    for (uint32_t i = 0; i < STRETCH_CUTS && t->class->max_stretches[i]; i++) {
        table_cut_and_divide(t, i, &lowered->cuts[i]);
        if (t->batch->n_divided[i]) b->batches->pass_spread = SPREAD_DIVIDED;
    }
    uint64_t size = batch_table_bytes(t->class, t->batch->n_rows);
    return cuda_ok(&b->cuda, b->cuda.copy_to_device(to, t->batch, size, b->stream), "sending to the GPU",
                   err);
}

bool cuda_batch_send_rows(CudaBackend *b, Cell *cell, uint32_t class_index, const StepSequence *q,
                          uint32_t first, uint32_t n_rows, uint32_t n_logits, Error *err) {
    Table t = table_begin(cell, &b->batches->lowered.classes[class_index], n_rows);
    table_add(b, &t, q, first, n_rows);
    table_want(&t, n_logits);
    b->batches->classes[class_index].n_placed = 0;
    return table_send(b, &t, class_index, err);
}

// ---- rows that decode ----

static void parts_add(Parts *p, const StepSequence *q) {
    p->of[p->n++] = q;
    p->n_rows += q->n_rows;
}

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
    Table table = table_begin(cell, &b->batches->lowered.classes[class_index], n);
    for (uint32_t i = 0; i < n; i++) {
        table_add(b, &table, q[i], 0, 1);
        table_want(&table, 1);
        c->placed[i] = place_of(b, q[i]);
    }
    c->n_placed = n;
    return table_send(b, &table, class_index, err);
}

// What the rows go through behind the head: NEED_….
static uint32_t needs_of(const CudaBackend *b, const StepSequence *const *q, uint32_t n) {
    uint32_t needs = 0;
    for (uint32_t i = 0; i < n; i++) {
        uint32_t draws = draws_of(&b->slots[q[i]->slot]);
        needs |= draws & DRAW_SAMPLED ? NEED_SAMPLED : NEED_GREEDY;
        needs |= (draws & DRAW_ADJUSTED ? NEED_ADJUSTED : 0u) | (draws & DRAW_LOGPROBS ? NEED_LOGPROBS : 0u);
    }
    return needs;
}

static BatchTail tail_of(const CudaBackend *b, const StepSequence *const *q, uint32_t n) {
    uint32_t needs = needs_of(b, q, n);
    return needs == NEED_GREEDY ? TAIL_GREEDY : needs == NEED_SAMPLED ? TAIL_SAMPLED : TAIL_ANY;
}

// The class's table holds the rows that come next, as the stage that draws leaves them.
static void note_drawn(CudaClass *c, uint32_t n) {
    for (uint32_t i = 0; i < n; i++) {
        c->placed[i].position++;
        c->placed[i].step++;
    }
}

static bool run_graph(CudaBackend *b, Cell *cell, uint32_t class_index, const StepSequence *const *q,
                      uint32_t n, BatchTail tail, Error *err) {
    CudaClass *c = &b->batches->classes[class_index];
    if (!place_rows(b, cell, class_index, q, n, err)) return false;
    uint32_t positions[JOBS_MAX];
    for (uint32_t i = 0; i < n; i++)
        positions[i] = q[i]->position;
    BatchSpread spread = cuda_batch_spread(b, class_index, positions, n);
    CUresult r = b->cuda.graph_launch(c->graphs[spread][tail], b->stream);
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

// The first of n_left rows that one class takes (layers, or head and draws): how many, and which class.
static uint32_t group_of(const CudaBackend *b, uint32_t n_left, uint32_t *class_index) {
    *class_index = cuda_batch_class_for(b->batches, n_left);
    if (*class_index == BATCH_CLASS_PROMPT) return 1;
    return (uint32_t)min_u64(n_left, b->batches->lowered.classes[*class_index].size.max_rows);
}

static bool run_rows(CudaBackend *b, Cell *cell, const Parts *rows, Error *err) {
    // (A prompt is in slices, in the first second after a start. Else such rows ride.)
    if (rows->n > 0) cuda_batch_wait_for_class(b, BATCH_CLASS_ONE);
    for (uint32_t at = 0, n, c; at < rows->n; at += n) {
        n = group_of(b, rows->n - at, &c);
        if (c == BATCH_CLASS_PROMPT)
            return error_set(err, ERR_INTERNAL, "the kernels of one row were not compiled");
        const StepSequence *const *group = rows->of + at;
        if (!run_graph(b, cell, c, group, n, tail_of(b, group, n), err)) return false;
        note_drawn(&b->batches->classes[c], n);
    }
    return true;
}

// Whether the rows go through one class, which is there.
static bool is_one_group(const CudaBackend *b, const Parts *rows, uint32_t *class_index) {
    return rows->n > 0 && group_of(b, rows->n, class_index) == rows->n && *class_index != BATCH_CLASS_PROMPT;
}

// ---- behind the layers of the prompts' class ----

// The head, and what sequences draw by.
typedef enum { RUN_HEAD = 1, RUN_DRAWS = 2 } Behind;

static bool run_behind(CudaBackend *b, uint32_t class_index, const BatchBuffers *buffers, uint32_t needs,
                       uint32_t what, Error *err) {
    CudaBatches *t = b->batches;
    const BatchClass *c = &t->lowered.classes[class_index];
    bool is_first = true;
    for (uint32_t i = c->n_layers_stages; i < c->n_stages; i++) {
        const BatchStage *s = &c->stages[i];
        if (!(what & (batch_draws(s->type) ? RUN_DRAWS : RUN_HEAD))) continue;
        if (batch_draws(s->type) && !(s->type->needed_for & needs)) continue;
        StageArgs args;
        batch_bind(s, buffers, &args);
        Launch launch = {.kernel = &t->kernels[s->program], .args = &args};
        if (!kernel_launch(&b->cuda, &launch, b->overlap && !is_first, b->stream, err)) return false;
        is_first = false;
    }
    return true;
}

bool cuda_batch_draw(CudaBackend *b, uint32_t class_index, const StepSequence *q, Error *err) {
    const BatchBuffers *buffers = &b->batches->classes[class_index].buffers;
    return run_behind(b, class_index, buffers, needs_of(b, &q, 1), RUN_DRAWS, err);
}

bool cuda_batch_fetch_logits(CudaBackend *b, uint32_t row, Flight *flight, Error *err) {
    uint64_t n_vocab = b->plan->n_vocab, bytes = n_vocab * sizeof(float);
    float *to = b->logits + flight->n_logits++ * n_vocab;
    CUdeviceptr from = b->batches->classes[BATCH_CLASS_PROMPT].buffers.logits + row * bytes;
    return cuda_ok(&b->cuda, b->cuda.copy_to_host(to, from, bytes, b->stream), "fetching logits", err);
}

// The numbers of the rows whose logits are wanted now.
static bool send_wanted(CudaBackend *b, Cell *cell, const uint32_t *rows, uint32_t n, Error *err) {
    const BatchBuffers *prompts = &b->batches->classes[BATCH_CLASS_PROMPT].buffers;
    return cuda_cell_send(b, cell, prompts->batch + offsetof(Batch, n_logits), &n, sizeof n, err) &&
           cuda_cell_send(b, cell, prompts->logits_rows, rows, n * sizeof *rows, err);
}

bool cuda_batch_run_heads(CudaBackend *b, Cell *cell, const StepSequence *q, Flight *flight, Error *err) {
    const BatchBuffers *buffers = &b->batches->classes[BATCH_CLASS_PROMPT].buffers;
    uint32_t n_wanted = (uint32_t)max_u64(q->n_logits, q->n_draws);
    for (uint32_t row = q->n_rows - n_wanted; row < q->n_rows; row++) {
        uint32_t what = q->n_draws && row + 1 == q->n_rows ? RUN_HEAD | RUN_DRAWS : RUN_HEAD;
        bool ok = send_wanted(b, cell, &row, 1, err) &&
                  run_behind(b, BATCH_CLASS_PROMPT, buffers, needs_of(b, &q, 1), what, err);
        if (ok && row + q->n_logits >= q->n_rows) ok = cuda_batch_fetch_logits(b, 0, flight, err);
        if (!ok) return false;
    }
    return true;
}

// The rows of a pass that draw.
typedef struct {
    const StepSequence *of[JOBS_MAX];
    uint32_t rows[JOBS_MAX];
    uint32_t n;
} Drawing;

static Drawing drawing_of(const Parts *parts) {
    Drawing d = {.n = 0};
    for (uint32_t i = 0, row = 0; i < parts->n; i++) {
        row += parts->of[i]->n_rows;
        if (!parts->of[i]->n_draws) continue;
        d.of[d.n] = parts->of[i];
        d.rows[d.n++] = row - 1;
    }
    return d;
}

// Head and draws of all of them, together as far as there is a class. Their numbers came with the table.
static bool run_drawing(CudaBackend *b, Cell *cell, const Drawing *d, Error *err) {
    for (uint32_t at = 0, n, c; at < d->n; at += n) {
        n = group_of(b, d->n - at, &c);
        if (n < d->n && !send_wanted(b, cell, d->rows + at, n, err)) return false;
        const BatchBuffers *buffers = &b->batches->classes[c].behind_prompts;
        if (!run_behind(b, c, buffers, needs_of(b, d->of + at, n), RUN_HEAD | RUN_DRAWS, err)) return false;
    }
    return true;
}

// ---- prompts' rows, and rows that decode beside them ----

// Stages of a class's layers, one by one: a slice's, or all. Of what a long step takes that is nothing.
static bool run_stages(CudaBackend *b, uint32_t class_index, uint32_t slice, uint32_t n_slices, Error *err) {
    uint64_t n = b->batches->lowered.classes[class_index].n_layers_stages;
    uint32_t begin = (uint32_t)(n * slice / n_slices), end = (uint32_t)(n * (slice + 1) / n_slices);
    for (uint32_t i = begin; i < end; i++) {
        StageArgs args;
        Launch launch = cuda_batch_launch_of(b, class_index, i, &args);
        if (!kernel_launch(&b->cuda, &launch, b->overlap && i > begin, b->stream, err)) return false;
    }
    return true;
}

// The table of a pass.
static bool send_parts(CudaBackend *b, Cell *cell, const Parts *parts, Error *err) {
    Table t = table_begin(cell, &b->batches->lowered.classes[BATCH_CLASS_PROMPT], parts->n_rows);
    for (uint32_t i = 0; i < parts->n; i++) {
        const StepSequence *q = parts->of[i];
        table_add(b, &t, q, 0, q->n_rows);
        // (The first slice of a prompt does not say whether its last one draws.)
        if (q->n_draws || q->n_slices > 1) table_want(&t, 1);
    }
    return table_send(b, &t, BATCH_CLASS_PROMPT, err);
}

uint32_t cuda_batch_prompts_for(const CudaBatches *t, uint32_t n_rows) {
    const BatchClass *classes = t->lowered.classes;
    uint32_t best = t->prompts;
    for (uint32_t i = 0; i < t->lowered.n_classes; i++) {
        uint32_t rows = classes[i].size.max_rows;
        if (classes[i].size.body != BODY_PROMPT || !t->classes[i].is_ready) continue;
        if (rows >= n_rows && rows < classes[best].size.max_rows) best = i;
    }
    return best;
}

// One pass through the layers for all parts; or a slice of a pass, of one part.
static bool run_pass(CudaBackend *b, Cell *cell, const Parts *parts, Error *err) {
    CudaBatches *t = b->batches;
    const StepSequence *first = parts->of[0];
    t->is_in_slices = !step_is_last_slice(first);
    if (first->slice == 0 && !send_parts(b, cell, parts, err)) return false;
    if (first->n_slices > 1) return run_stages(b, t->prompts, first->slice, first->n_slices, err);
    uint32_t class_index = cuda_batch_prompts_for(t, parts->n_rows);
    const CudaClass *c = &t->classes[class_index];
    if (c->given) return run_stages(b, class_index, 0, 1, err);
    CUresult r = b->cuda.graph_launch(c->graphs[t->pass_spread][TAIL_COUNT], b->stream);
    return cuda_ok(&b->cuda, r, "launching prompts' rows", err);
}

static bool run_behind_pass(CudaBackend *b, Cell *cell, const Parts *parts, Flight *flight, Error *err) {
    const StepSequence *first = parts->of[0];
    if (!step_is_last_slice(first)) return true;
    if (first->n_logits) return cuda_batch_run_heads(b, cell, first, flight, err);
    Drawing drawing = drawing_of(parts);
    return run_drawing(b, cell, &drawing, err);
}

// 64 conversations of up to 2,048 tokens with 8B: 9,700 tokens a second, not 6,790 as where only rows of up
// to 1,024 rode.
enum { RIDING_KEYS_MAX = 2 * ATTENTION_GROUP_KEYS };

// Whether the rows that decode go through the layers with the prompts', or before there is another class
// without them. In span_attention one block goes through all keys of a row; attention.cuh, in the rows' own
// classes, spreads them over several.
static bool rows_ride(const CudaBatches *t, const Parts *prompts, const Parts *rows) {
    bool in_slices = prompts->n > 0 ? prompts->of[0]->n_slices > 1 : t->is_in_slices;
    if (in_slices || !t->classes[BATCH_CLASS_ONE].is_ready) return !in_slices;
    bool ride = prompts->n > 0;
    for (uint32_t i = 0; ride && i < rows->n; i++)
        ride = rows->of[i]->position < RIDING_KEYS_MAX;
    return ride;
}

// ---- a step ----

void cuda_batch_note_draw(CudaBackend *b, const StepSequence *q, Flight *flight) {
    Slot *slot = &b->slots[q->slot];
    uint32_t last = q->n_rows - 1;
    flight->has_logprobs |= slot->has_logprobs;
    flight->draws[flight->n_drawing++] = (Draw){.slot = q->slot,
                                                .generation = slot->generation,
                                                .place = slot->n_draws % TOKEN_RING,
                                                .position = q->position + last,
                                                .token = q->tokens ? q->tokens[last] : TOKEN_INVALID,
                                                .logprobs = slot->has_logprobs};
}

// Which parts go which way.
static void sort_parts(CudaBatches *t, const Step *step) {
    t->n_sequences = step->n_sequences;
    t->pass = t->rows = (Parts){.n = 0};
    for (uint32_t i = 0; i < step->n_sequences; i++) {
        t->sequences[i] = step->sequences[i];
        const StepSequence *q = &t->sequences[i];
        parts_add(q->mode == STEP_DECODE ? &t->rows : &t->pass, q);
    }
    if (!rows_ride(t, &t->pass, &t->rows)) return;
    for (uint32_t i = 0; i < t->rows.n; i++)
        parts_add(&t->pass, t->rows.of[i]);
    t->rows.n = 0;
}

bool cuda_batch_step(CudaBackend *b, Cell *cell, const Step *step, Flight *flight, Error *err) {
    CudaBatches *t = b->batches;
    uint32_t c;
    sort_parts(t, step);
    t->head_ran = false;
    for (uint32_t i = 0; i < step->n_sequences; i++) {
        if (t->sequences[i].n_draws) cuda_batch_note_draw(b, &t->sequences[i], flight);
    }
    if (t->pass.n > 0 && !run_pass(b, cell, &t->pass, err)) return false;
    if (!flight->waits) return cuda_batch_finish(b, cell, flight, err);
    // Rows behind a pass keep their place: it takes long enough for the masks to come.
    if (t->pass.n > 0 || !is_one_group(b, &t->rows, &c)) return true;
    t->head_ran = true;
    return run_graph(b, cell, c, t->rows.of, t->rows.n, TAIL_HEAD, err);
}

// The draws of rows whose logits are there.
static bool run_draws(CudaBackend *b, const Parts *rows, Error *err) {
    uint32_t c, n = group_of(b, rows->n, &c);
    CudaClass *class = &b->batches->classes[c];
    note_drawn(class, n);
    return run_behind(b, c, &class->buffers, needs_of(b, rows->of, n), RUN_DRAWS, err);
}

bool cuda_batch_finish(CudaBackend *b, Cell *cell, Flight *flight, Error *err) {
    CudaBatches *t = b->batches;
    if (t->pass.n > 0 && !run_behind_pass(b, cell, &t->pass, flight, err)) return false;
    if (!(t->head_ran ? run_draws(b, &t->rows, err) : run_rows(b, cell, &t->rows, err))) return false;
    const StepSequence *only = &t->sequences[0]; // logits are wanted of a step of one sequence
    if (t->rows.n > 0 && only->n_logits && !cuda_batch_fetch_logits(b, 0, flight, err)) return false;
    cuda_batch_look_for_more(b);
    return true;
}
