// Looking into batches: the values that each stage left, row by row, as the CPU reference has them, and where
// a row went wrong.
#include "backend/cuda/cuda_batch_inspect.h"

#include "../kernels_src/layout.h"
#include "backend/cuda/cuda_step.h"
#include "base/f16.h"

#include <math.h>

// Rows of one sequence, one after the other, that go through a class's stages.
typedef struct {
    CudaBackend *b;
    const StepSequence *q;
    uint32_t class_index;
    uint32_t first, n_rows; // of q's rows
    uint32_t n_logits;      // the last of them
    Arena scratch;          // as it is when a stage begins
} Group;

static uint32_t max_rows_of(const Group *g) {
    return g->b->batches->lowered.classes[g->class_index].size.max_rows;
}

// Rows of `width` values, `stride` apart. Returns whether the observer wants any of them written back.
static bool show_rows_apart(const Group *g, const Op *op, float *values, uint32_t width, uint32_t stride) {
    CudaBackend *b = g->b;
    bool changed = false;
    uint32_t first = op->kind == OP_HEAD ? g->n_rows - g->n_logits : 0;
    for (uint32_t row = first; row < g->n_rows; row++) {
        changed |=
            b->observer(b->observer_context, (uint32_t)(op - b->plan->ops), g->q->position + g->first + row,
                        values + (uint64_t)(row - first) * stride, width);
    }
    return changed;
}

static bool show_rows(const Group *g, const Op *op, float *values, uint32_t width) {
    return show_rows_apart(g, op, values, width, width);
}

// f32 rows, which the observer may change.
static bool show_floats(const Group *g, const StageResult *r, Error *err) {
    CudaBackend *b = g->b;
    Arena scratch = g->scratch;
    uint32_t n = r->op->kind == OP_HEAD ? g->n_logits : g->n_rows, stride = r->stride ? r->stride : r->width;
    if (n == 0) return true;
    size_t size = ((size_t)(n - 1) * stride + r->width) * sizeof(float);
    float *values = cuda_fetch(b, r->from, size, &scratch, err);
    if (!values || !show_rows_apart(g, r->op, values, r->width, stride)) return values != NULL;
    CUresult result = b->cuda.copy_to_device(r->from, values, size, b->stream);
    if (result == CUDA_SUCCESS) result = b->cuda.stream_synchronize(b->stream);
    return cuda_ok(&b->cuda, result, "changing a stage's values", err);
}

// Index of a value in an activation buffer (kernels_src/rows.cuh).
static size_t activation_at(uint32_t max_rows, uint32_t row, uint32_t col) {
    if (max_rows == 1) return col / 128 * 128 + col / 8 % 4 * 32 + col / 32 % 4 * 8 + col % 8;
    uint32_t place = col / 4 % 8 * 16 + col / 2 % 2 * 8 + col / 32 % 4 * 2 + col % 2;
    uint32_t sheet = col / ACTIVATION_COLS * 2 + place / 64, unit = (place / 8 % 8) ^ (row % 8);
    return ((size_t)sheet * max_rows + row) * 64 + unit * 8 + place % 8;
}

static bool show_activations(const Group *g, const StageResult *r, Error *err) {
    Arena scratch = g->scratch;
    uint32_t max_rows = max_rows_of(g), width = r->width;
    const uint16_t *halves =
        cuda_fetch(g->b, r->from, ACTIVATION_HALVES(max_rows, width) * sizeof *halves, &scratch, err);
    float *values = arena_new(&scratch, float, (uint64_t)g->n_rows *width);
    if (!halves || !values) return false;
    for (uint32_t row = 0; row < g->n_rows; row++) {
        for (uint32_t col = 0; col < width; col++)
            values[(uint64_t)row * width + col] =
                f32_from_f16(halves[activation_at(max_rows, row, col)]) / r->divisor;
    }
    show_rows(g, r->op, values, width);
    return true;
}

// Queries come back without the factor that the kernels put in.
static bool show_queries(const Group *g, const StageResult *r, Error *err) {
    Arena scratch = g->scratch;
    uint64_t n = (uint64_t)g->n_rows * r->width;
    const uint16_t *halves = cuda_fetch(g->b, r->from, n * sizeof *halves, &scratch, err);
    float *values = arena_new(&scratch, float, n);
    if (!halves || !values) return false;
    for (uint64_t i = 0; i < n; i++)
        values[i] = f32_from_f16(halves[i]) / r->divisor;
    show_rows(g, r->op, values, r->width);
    return true;
}

// Dimension `dim` of a token's key (value), in a cache's part of a page.
static float cached_value(const Cache *cache, const uint8_t *pieces, uint32_t head, bool is_value,
                          uint32_t token, uint32_t dim) {
    if (cache->type == KV_TYPE_F16)
        return f32_from_f16(
            ((const uint16_t *)pieces)[layout_kv_at(cache->key_dim, head, is_value, token, dim)]);
    const uint8_t *piece = pieces + (head * 2 + is_value) * layout_kv_piece_bytes(1, cache->key_dim);
    int code = piece[layout_kv_code_at(cache->key_dim, is_value, token, dim)] - 128;
    return (float)code * f32_from_f16(*(const uint16_t *)(piece + layout_kv_scale_at(cache->key_dim, token)));
}

// The rows' keys or values in the cache.
static bool show_cached(const Group *g, const StageResult *r, const Op *attention, Error *err) {
    CudaBackend *b = g->b;
    Arena scratch = g->scratch;
    uint32_t dim = attention->attention.key_dim;
    const Cache *cache = &b->plan->caches[attention->attention.cache];
    uint64_t list_at = (uint64_t)cache->list * b->pages_max;
    uint64_t step = cuda_page_step(&b->plan->kv);
    float *values = arena_new(&scratch, float, (uint64_t)g->n_rows * r->width);
    if (!values) return false;
    for (uint32_t row = 0; row < g->n_rows; row++) {
        Arena of_page = scratch;
        uint32_t position = g->q->position + g->first + row;
        uint32_t page = b->slots[g->q->slot].sent_pages[list_at + position / KV_PAGE];
        const uint8_t *pieces = cuda_fetch(b, r->from + page * step, cache->page_bytes, &of_page, err);
        if (!pieces) return false;
        for (uint32_t i = 0; i < r->width; i++)
            values[(uint64_t)row * r->width + i] =
                cached_value(cache, pieces, i / dim, r->form == RESULT_VALUES, position % KV_PAGE, i % dim);
    }
    show_rows(g, r->op, values, r->width);
    return true;
}

static bool show_result(const Group *g, const BatchStage *s, const StageResult *r, Error *err) {
    switch (r->form) {
    case RESULT_ROWS: return show_floats(g, r, err);
    case RESULT_QUERIES: return show_queries(g, r, err);
    case RESULT_KEYS:
    case RESULT_VALUES: return show_cached(g, r, s->attention, err);
    case RESULT_ACTIVATIONS: return show_activations(g, r, err);
    }
    return error_set(err, ERR_INTERNAL, "a stage left a result of no known form");
}

static bool show_stage(const Group *g, const BatchStage *s, const BatchBuffers *buffers, Error *err) {
    StageResult results[STAGE_RESULTS_MAX];
    uint32_t n = batch_results(s, buffers, results);
    bool ok = true;
    for (uint32_t i = 0; ok && i < n; i++)
        ok = show_result(g, s, &results[i], err);
    return ok;
}

// The stages from `first` to before `end`, one by one, but for those that draw; their results are shown.
static bool show_stages(const Group *g, uint32_t first, uint32_t end, Error *err) {
    CudaBatches *t = g->b->batches;
    const BatchClass *c = &t->lowered.classes[g->class_index];
    const BatchBuffers *buffers = &t->classes[g->class_index].buffers;
    for (uint32_t i = first; i < end; i++) {
        const BatchStage *s = &c->stages[i];
        StageArgs args;
        if (batch_draws(s->type)) continue;
        Launch launch = cuda_batch_launch_of(g->b, g->class_index, i, &args);
        if (!kernel_launch(&g->b->cuda, &launch, false, g->b->stream, err) || !show_stage(g, s, buffers, err))
            return false;
    }
    return true;
}

bool cuda_batch_watch_prompts(CudaBackend *b, Cell *cell, const StepSequence *q, Flight *flight, Error *err) {
    if (q->mode != STEP_PROMPT || q->n_slices > 1)
        return error_set(err, ERR_INTERNAL, "a prompt in slices is watched");
    Group g = {.b = b,
               .q = q,
               .class_index = cuda_batch_prompts_for(b->batches, q->n_rows),
               .n_rows = q->n_rows,
               .scratch = b->inspection};
    bool ok = cuda_batch_send_rows(b, cell, BATCH_CLASS_PROMPT, q, 0, q->n_rows, 1, err) &&
              show_stages(&g, 0, b->batches->lowered.classes[g.class_index].n_layers_stages, err) &&
              cuda_batch_run_heads(b, cell, q, flight, err);
    if (ok && q->n_draws) cuda_batch_note_draw(b, q, flight);
    return ok;
}

// How many of a group's rows want logits: the last ones of q's rows do.
static uint32_t logits_in(const StepSequence *q, uint32_t first, uint32_t n_rows) {
    uint64_t wanted = max_u64(q->n_logits, q->n_draws), behind = q->n_rows - first - n_rows;
    return (uint32_t)min_u64(wanted > behind ? wanted - behind : 0, n_rows);
}

static bool watch_group(Group *g, Cell *cell, Flight *flight, Error *err) {
    CudaBackend *b = g->b;
    const StepSequence *q = g->q;
    const BatchClass *c = &b->batches->lowered.classes[g->class_index];
    g->n_logits = logits_in(q, g->first, g->n_rows);
    bool ok = cuda_batch_send_rows(b, cell, g->class_index, q, g->first, g->n_rows, g->n_logits, err) &&
              show_stages(g, 0, g->n_logits ? c->n_stages : c->n_layers_stages, err);
    for (uint32_t i = 0; ok && q->n_logits && i < g->n_logits; i++)
        ok = cuda_batch_fetch_logits(b, i, flight, err);
    bool draws = q->n_draws && g->first + g->n_rows == q->n_rows;
    if (!ok || !draws) return ok;
    if (g->n_logits > 1)
        return error_set(err, ERR_INTERNAL, "of rows that are watched together, one may draw alone");
    ok = cuda_batch_draw(b, g->class_index, q, err);
    if (ok) cuda_batch_note_draw(b, q, flight);
    return ok;
}

bool cuda_batch_watch_rows(CudaBackend *b, Cell *cell, const StepSequence *q, Flight *flight, Error *err) {
    Group g = {.b = b, .q = q, .class_index = b->batches->watched, .scratch = b->inspection};
    for (; g.first < q->n_rows; g.first += g.n_rows) {
        g.n_rows = (uint32_t)min_u64(q->n_rows - g.first, max_rows_of(&g));
        if (!watch_group(&g, cell, flight, err)) return false;
    }
    return true;
}

// ---- rows that went wrong ----

bool cuda_batch_show_row(CudaBackend *b, uint32_t slot, int32_t token, uint32_t position, Error *err) {
    StepSequence q = {
        .slot = slot, .position = position, .n_rows = 1, .tokens = &token, .pages = NULL, .n_logits = 1};
    Group g = {.b = b, .q = &q, .class_index = BATCH_CLASS_ONE, .n_rows = 1, .n_logits = 1};
    const BatchClass *c = &b->batches->lowered.classes[BATCH_CLASS_ONE];
    Cell *cell;
    g.scratch = b->inspection;
    cuda_batch_wait_for_class(b, BATCH_CLASS_ONE);
    return cuda_cell_take(b, &cell, err) &&
           cuda_batch_send_rows(b, cell, BATCH_CLASS_ONE, &q, 0, 1, 1, err) && cuda_cell_done(b, cell, err) &&
           show_stages(&g, 0, c->n_stages, err);
}
