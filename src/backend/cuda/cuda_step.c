#include "backend/cuda/cuda_step.h"

#include "backend/cuda/cuda_batch.h"

// ---- launches ----

// What the stages of a slot's row are given.
static StageRow stage_row(const CudaBackend *b, const Slot *slot, RowEnd end) {
    return (StageRow){.x = b->buffers.x,
                      .rules = slot->rules,
                      .logprobs = slot->logprobs,
                      .adjusted = end == END_GREEDY_ADJUSTED || end == END_SAMPLE_ADJUSTED};
}

uint32_t cuda_row_launches(CudaBackend *b, RowEnd end, StageArgs *args, Launch *launches,
                           const Stage **stages) {
    uint32_t n = 0;
    StageRow row = {.x = b->buffers.x}; // the same for all slots
    for (uint32_t i = 0; i < b->lowered.n_stages; i++) {
        const Stage *s = &b->lowered.stages[i];
        if (!stage_is_for(s, end)) continue;
        stage_bind(s, &b->buffers, &row, &args[n]);
        launches[n] = (Launch){.kernel = &b->kernels[s->program], .args = &args[n]};
        stages[n++] = s;
    }
    return n;
}

Launch cuda_span_launch(CudaBackend *b, uint32_t index, StageArgs *args) {
    const Stage *s = &b->lowered.prefill_stages[index];
    stage_bind(s, &b->buffers, NULL, args);
    return (Launch){.kernel = &b->kernels[s->program], .args = args};
}

// ---- what is sent ----

bool cuda_cell_take(CudaBackend *b, Cell **out, Error *err) {
    Cell *cell = &b->cells[b->next_cell];
    b->next_cell = (b->next_cell + 1) % CELLS;
    cell->used = 0;
    *out = cell;
    return cuda_ok(&b->cuda, b->cuda.event_synchronize(cell->sent), "waiting for the GPU", err);
}

void *cuda_cell_room(Cell *cell, size_t size) {
    uint8_t *room = cell->bytes + cell->used;
    cell->used += size;
    return room;
}

bool cuda_cell_send(CudaBackend *b, Cell *cell, CUdeviceptr to, const void *data, size_t size, Error *err) {
    void *from = cuda_cell_room(cell, size);
    memcpy(from, data, size);
    return cuda_ok(&b->cuda, b->cuda.copy_to_device(to, from, size, b->stream), "sending to the GPU", err);
}

bool cuda_cell_done(CudaBackend *b, Cell *cell, Error *err) {
    return cuda_ok(&b->cuda, b->cuda.event_record(cell->sent, b->stream), "sending to the GPU", err);
}

// The rules that StepRow does not have.
static bool send_rules(CudaBackend *b, Cell *cell, const Slot *slot, const SamplerParams *p, Error *err) {
    SampleRules rules = {.repetition_penalty = p->repetition_penalty,
                         .presence_penalty = p->presence_penalty,
                         .frequency_penalty = p->frequency_penalty,
                         .n_bias = p->n_logit_bias,
                         .n_logprobs = p->n_logprobs};
    for (uint32_t i = 0; i < p->n_logit_bias; i++)
        rules.bias[i] = (SampleBias){p->logit_bias[i].token, p->logit_bias[i].bias};
    return cuda_cell_send(b, cell, slot->rules, &rules, sizeof rules, err);
}

// The tokens seen and, where somebody asks, how often each was drawn.
static bool send_history(CudaBackend *b, Cell *cell, const Slot *slot, const SequenceStart *start,
                         Error *err) {
    uint32_t n_vocab = b->plan->n_vocab;
    size_t seen_bytes = b->n_seen_words * sizeof(uint32_t), counts_bytes = n_vocab * sizeof(uint16_t);
    SamplerHistory h = {.seen = cuda_cell_room(cell, seen_bytes)};
    if (slot->adjusted) h.counts = cuda_cell_room(cell, counts_bytes);
    sampler_history_begin(h, n_vocab, start->tokens, start->n_prompt + start->n_drawn, start->n_drawn);
    CUresult r = b->cuda.copy_to_device(slot->seen, h.seen, seen_bytes, b->stream);
    if (r == CUDA_SUCCESS && h.counts)
        r = b->cuda.copy_to_device(slot->counts, h.counts, counts_bytes, b->stream);
    return cuda_ok(&b->cuda, r, "sending to the GPU", err);
}

bool cuda_begin(Backend *backend, uint32_t slot_index, const SequenceStart *start, Error *err) {
    CudaBackend *b = cuda_self(backend);
    const SamplerParams *p = &start->params;
    Slot *slot = &b->slots[slot_index];
    Cell *cell;
    if (!cuda_cell_take(b, &cell, err)) return false;
    slot->greedy = p->temperature == 0;
    slot->adjusted = sampler_adjusts(p);
    slot->has_logprobs = p->logprobs;
    slot->n_sent_pages = 0;
    slot->n_draws = start->n_drawn;
    slot->generation++;
    slot->row = (StepRow){.slot = slot_index,
                          .top_k = p->top_k,
                          .temperature = p->temperature,
                          .top_p = p->top_p,
                          .min_p = p->min_p,
                          .repetition_penalty = slot->adjusted ? 1 : p->repetition_penalty,
                          .seed = p->seed,
                          .seen = slot->seen,
                          .counts = slot->adjusted ? slot->counts : 0,
                          .drawn = slot->tokens,
                          .pages = slot->pages};
    bool has_rules = slot->adjusted || slot->has_logprobs;
    if (b->batches && !cuda_batch_begin(b, cell, slot_index, p, err)) return false;
    return (!has_rules || send_rules(b, cell, slot, p, err)) && send_history(b, cell, slot, start, err) &&
           cuda_cell_done(b, cell, err);
}

// Sends the part of a sequence's page list that the device does not have yet.
static bool send_pages(CudaBackend *b, Cell *cell, Slot *slot, const StepSequence *q, Error *err) {
    uint32_t n = (uint32_t)div_up((uint64_t)q->position + q->n_rows, KV_PAGE_TOKENS), same = 0;
    uint32_t known = (uint32_t)min_u64(n, slot->n_sent_pages);
    while (same < known && slot->sent_pages[same] == q->pages[same])
        same++;
    if (same == n) return true;
    memcpy(slot->sent_pages + same, q->pages + same, (n - same) * sizeof *q->pages);
    slot->n_sent_pages = n;
    CUdeviceptr to = slot->pages + same * sizeof *q->pages;
    return cuda_cell_send(b, cell, to, q->pages + same, (n - same) * sizeof *q->pages, err);
}

bool cuda_place_row(CudaBackend *b, Cell *cell, uint32_t slot_index, int32_t token, uint32_t position,
                    Error *err) {
    Slot *slot = &b->slots[slot_index];
    PlacedRow place = {slot_index + 1, slot->generation, position, slot->n_draws}, *placed = &b->placed;
    bool is_there = placed->slot_and_1 == place.slot_and_1 && placed->generation == place.generation &&
                    placed->position == place.position && placed->step == place.step;
    if (token == ROW_TOKEN_DRAWN && is_there) return true;
    *placed = place;
    slot->row.token = token;
    slot->row.position = position;
    slot->row.step = slot->n_draws;
    return cuda_cell_send(b, cell, b->buffers.row, &slot->row, sizeof slot->row, err);
}

// The stages from the first-th on of a row that ends so, one by one.
static bool run_stages(CudaBackend *b, const StageRow *row, uint32_t first, RowEnd end, Error *err) {
    for (uint32_t i = first; i < b->lowered.n_stages; i++) {
        const Stage *s = &b->lowered.stages[i];
        if (!stage_is_for(s, end)) continue;
        StageArgs args;
        stage_bind(s, &b->buffers, row, &args);
        Launch launch = {.kernel = &b->kernels[s->program], .args = &args};
        if (!kernel_launch(&b->cuda, &launch, false, b->stream, err)) return false;
    }
    return true;
}

// Those behind the head.
static bool run_tail(CudaBackend *b, const Slot *slot, RowEnd end, Error *err) {
    StageRow row = stage_row(b, slot, end);
    return run_stages(b, &row, b->lowered.n_layers_stages + 1, end, err);
}

static bool run_row(CudaBackend *b, const Slot *slot, RowEnd end, Error *err) {
    RowEnd graph = end < END_GRAPHS ? end : END_HEAD;
    CUresult r = b->cuda.graph_launch(b->rows[graph], b->stream);
    return cuda_ok(&b->cuda, r, "launching a step", err) && (graph == end || run_tail(b, slot, end, err));
}

static bool fetch_logits(CudaBackend *b, Flight *flight, Error *err) {
    uint64_t n_vocab = b->plan->n_vocab;
    float *to = b->logits + flight->n_logits++ * n_vocab;
    CUresult r = b->cuda.copy_to_host(to, b->buffers.logits, n_vocab * sizeof(float), b->stream);
    return cuda_ok(&b->cuda, r, "fetching logits", err);
}

RowEnd cuda_end_of_row(const CudaBackend *b, const StepSequence *q, uint32_t row) {
    const Slot *slot = &b->slots[q->slot];
    static const RowEnd draws[2][2] = {{END_SAMPLE, END_SAMPLE_ADJUSTED}, {END_GREEDY, END_GREEDY_ADJUSTED}};
    if (q->n_draws && row + 1 == q->n_rows) return draws[slot->greedy][slot->adjusted];
    return row + q->n_logits >= q->n_rows ? END_HEAD : END_LAYERS;
}

bool cuda_finish_row(CudaBackend *b, const StepSequence *q, uint32_t row, RowEnd end, Flight *flight,
                     Error *err) {
    Slot *slot = &b->slots[q->slot];
    if (row + q->n_logits >= q->n_rows && !fetch_logits(b, flight, err)) return false;
    if (end < END_GREEDY) return true;
    if (slot->has_logprobs && !run_tail(b, slot, END_LOGPROBS, err)) return false;
    flight->has_logprobs |= slot->has_logprobs;
    b->placed.position++; // as the stage that draws does
    b->placed.step++;
    flight->draws[flight->n_drawing++] = (Draw){.slot = q->slot,
                                                .generation = slot->generation,
                                                .place = slot->n_draws++ % TOKEN_RING,
                                                .position = q->position + row,
                                                .token = q->tokens ? q->tokens[row] : TOKEN_INVALID,
                                                .logprobs = slot->has_logprobs};
    return true;
}

// The stages behind the layers for one row of a chunk, which decoding has too.
static bool run_head(CudaBackend *b, const StepSequence *q, uint32_t row, RowEnd end, Error *err) {
    StageRow at = stage_row(b, &b->slots[q->slot], end);
    at.x = b->buffers.rows_x + row * b->plan->d_model * sizeof(float);
    return run_stages(b, &at, b->lowered.n_layers_stages, end, err);
}

bool cuda_send_span(CudaBackend *b, Cell *cell, const StepSequence *q, Error *err) {
    size_t tokens_bytes = q->n_rows * sizeof *q->tokens, bytes = sizeof(StepSpan) + tokens_bytes;
    uint8_t *room = cuda_cell_room(cell, align_up(bytes, sizeof(uint64_t)));
    StepSpan span = {.n_rows = q->n_rows,
                     .position = q->position,
                     .slot = q->slot,
                     .tokens = b->buffers.span + sizeof(StepSpan),
                     .pages = b->slots[q->slot].pages};
    memcpy(room, &span, sizeof span);
    memcpy(room + sizeof span, q->tokens, tokens_bytes);
    CUresult r = b->cuda.copy_to_device(b->buffers.span, room, bytes, b->stream);
    return cuda_ok(&b->cuda, r, "sending to the GPU", err);
}

// A slice's stages, launched one by one: of what a long step takes that is nothing.
static bool run_slice(CudaBackend *b, const StepSequence *q, Error *err) {
    uint64_t n = b->lowered.n_prefill_stages;
    uint32_t begin = (uint32_t)(n * q->slice / q->n_slices),
             end = (uint32_t)(n * (q->slice + 1) / q->n_slices);
    for (uint32_t i = begin; i < end; i++) {
        StageArgs args;
        Launch launch = cuda_span_launch(b, i, &args);
        if (!kernel_launch(&b->cuda, &launch, b->overlap && i > begin, b->stream, err)) return false;
    }
    return true;
}

bool cuda_run_heads(CudaBackend *b, Cell *cell, const StepSequence *q, Flight *flight, Error *err) {
    for (uint32_t row = 0; row < q->n_rows; row++) {
        RowEnd end = cuda_end_of_row(b, q, row);
        if (end == END_LAYERS) continue;
        if (!cuda_place_row(b, cell, q->slot, q->tokens[row], q->position + row, err)) return false;
        if (!run_head(b, q, row, end, err) || !cuda_finish_row(b, q, row, end, flight, err)) return false;
    }
    return true;
}

// A prompt's rows together through the layers. Prompts always go this way, however they are cut, so that a
// row's bits depend on nothing but the rows before it.
static bool run_span(CudaBackend *b, Cell *cell, const StepSequence *q, Flight *flight, Error *err) {
    if (q->slice == 0 && !cuda_send_span(b, cell, q, err)) return false;
    if (q->n_slices > 1) {
        if (!run_slice(b, q, err)) return false;
    } else {
        CUresult r = b->cuda.graph_launch(b->prefill, b->stream);
        if (!cuda_ok(&b->cuda, r, "launching a prompt's rows", err)) return false;
    }
    return !step_is_last_slice(q) || cuda_run_heads(b, cell, q, flight, err);
}

// The token that the slot drew last. Where that was in the step before, and in no other sequence's row since,
// its row is there already.
static bool run_drawn(CudaBackend *b, Cell *cell, const StepSequence *q, Flight *flight, Error *err) {
    RowEnd end = cuda_end_of_row(b, q, 0);
    return cuda_place_row(b, cell, q->slot, ROW_TOKEN_DRAWN, q->position, err) &&
           run_row(b, &b->slots[q->slot], end, err) && cuda_finish_row(b, q, 0, end, flight, err);
}

bool cuda_run_part(CudaBackend *b, Cell *cell, const StepSequence *q, Flight *flight, Error *err) {
    return q->mode == STEP_PROMPT ? run_span(b, cell, q, flight, err) : run_drawn(b, cell, q, flight, err);
}

// Fetches what the step draws, beside the steps that follow it: between two steps of one stream a copy would
// cost 10 µs.
static bool fetch_tokens(CudaBackend *b, Flight *flight, Error *err) {
    const Cuda *cuda = &b->cuda;
    CUresult r = cuda->event_record(flight->ran, b->stream);
    if (r == CUDA_SUCCESS) r = cuda->stream_wait_event(b->fetch_stream, flight->ran, 0);
    if (r == CUDA_SUCCESS && flight->n_drawing) {
        r = cuda->copy_to_host(flight->tokens, b->slots[0].tokens, cuda_tokens_bytes(b), b->fetch_stream);
    }
    if (r == CUDA_SUCCESS && flight->has_logprobs) {
        r = cuda->copy_to_host(flight->logprobs, b->slots[0].logprobs, cuda_logprobs_bytes(b),
                               b->fetch_stream);
    }
    if (r == CUDA_SUCCESS) r = cuda->event_record(flight->fetched, b->fetch_stream);
    return cuda_ok(cuda, r, "fetching tokens", err);
}

static bool run_parts(CudaBackend *b, Cell *cell, const Step *step, Flight *flight, Error *err) {
    if (b->batches && b->run_part == cuda_run_part) return cuda_batch_step(b, cell, step, flight, err);
    bool ok = true;
    for (uint32_t i = 0; ok && i < step->n_sequences; i++)
        ok = b->run_part(b, cell, &step->sequences[i], flight, err);
    return ok;
}

bool cuda_step(Backend *backend, const Step *step, Error *err) {
    CudaBackend *b = cuda_self(backend);
    if (!step_check(step, &backend->info, err)) return false;
    if (b->n_flights == FLIGHTS)
        return error_set(err, ERR_INTERNAL, "more than %d steps are under way", FLIGHTS);
    Flight *flight = &b->flights[(b->first_flight + b->n_flights) % FLIGHTS];
    flight->n_drawing = flight->n_logits = 0;
    flight->has_logprobs = false;
    Cell *cell;
    if (!cuda_cell_take(b, &cell, err)) return false;
    for (uint32_t i = 0; i < step->n_sequences; i++) {
        const StepSequence *q = &step->sequences[i];
        if (!send_pages(b, cell, &b->slots[q->slot], q, err)) return false;
    }
    if (!run_parts(b, cell, step, flight, err)) return false;
    if (!cuda_cell_done(b, cell, err)) return false;
    b->n_flights++;
    return fetch_tokens(b, flight, err);
}

static const TokenLogprobs *told_logprobs(CudaBackend *b, const Flight *flight, const Draw *draw,
                                          int32_t token) {
    const SampleLogprobs *from = &flight->logprobs[draw->slot * TOKEN_RING + draw->place];
    TokenLogprobs *told = &b->slots[draw->slot].told;
    *told = (TokenLogprobs){.token = token, .logprob = from->logprob};
    told->n_best = (uint32_t)min_u64(from->n_best, LOGPROBS_MAX);
    for (uint32_t i = 0; i < told->n_best; i++) {
        told->best[i].id = from->best[i].token;
        told->best[i].logprob = from->best[i].logprob;
    }
    return told;
}

bool cuda_read(Backend *backend, StepResult *out, Error *err) {
    CudaBackend *b = cuda_self(backend);
    if (b->n_flights == 0) return error_set(err, ERR_INTERNAL, "no step to read");
    Flight *flight = &b->flights[b->first_flight];
    if (!cuda_ok(&b->cuda, b->cuda.event_synchronize(flight->fetched), "running a step", err)) return false;
    b->first_flight = (b->first_flight + 1) % FLIGHTS;
    b->n_flights--;
    *out = (StepResult){.n_runs = flight->n_drawing,
                        .logits = flight->n_logits ? b->logits : NULL,
                        .n_logits = flight->n_logits};
    bool ok = true;
    for (uint32_t i = 0; i < flight->n_drawing; i++) {
        const Draw *draw = &flight->draws[i];
        StepRun *run = &out->runs[i];
        *run = (StepRun){.slot = draw->slot,
                         .n_tokens = 1,
                         .tokens = {flight->tokens[draw->slot * TOKEN_RING + draw->place]}};
        if (run->tokens[0] == TOKEN_INVALID)
            ok = ok && b->explain_invalid(b, flight, draw, &run->first_invalid, err);
        else if (draw->logprobs) run->logprobs = told_logprobs(b, flight, draw, run->tokens[0]);
    }
    return ok;
}
