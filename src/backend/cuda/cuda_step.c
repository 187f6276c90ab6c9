#include "backend/cuda/cuda_step.h"

#include "backend/cuda/cuda_batch.h"

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

// The rules that SlotState does not have.
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
    slot->uncut = !slot->greedy && sampler_is_uncut(p, b->plan->n_vocab);
    slot->masked = start->masked;
    slot->has_logprobs = p->logprobs;
    memset(slot->sent, 0, sizeof slot->sent);
    slot->n_draws = start->n_drawn;
    slot->generation++;
    bool has_rules = slot->adjusted || slot->masked || slot->has_logprobs;
    return cuda_batch_begin(b, cell, slot_index, p, err) &&
           (!has_rules || send_rules(b, cell, slot, p, err)) && send_history(b, cell, slot, start, err) &&
           cuda_cell_done(b, cell, err);
}

// A copy a place where a place's pages lie side by side: about 2 µs each. Else one.
bool cuda_copy_page(Backend *backend, uint32_t from, uint32_t to, Error *err) {
    CudaBackend *b = cuda_self(backend);
    uint64_t bytes = cuda_page_step(&b->plan->kv);
    uint32_t n = b->plan->kv.is_mixed ? 1 : b->plan->kv.n_places;
    CUresult r = CUDA_SUCCESS;
    for (uint32_t i = 0; r == CUDA_SUCCESS && i < n; i++) {
        CUdeviceptr place = b->kv + i * b->kv_place_bytes;
        r = b->cuda.copy_on_device(place + to * bytes, place + from * bytes, bytes, b->stream);
    }
    return cuda_ok(&b->cuda, r, "copying a page of the cache", err);
}

// Checkpoints are counted on from the slots.
static bool copy_state(CudaBackend *b, uint32_t from, uint32_t to, Error *err) {
    uint64_t bytes = cuda_state_bytes(b);
    CUresult r = b->cuda.copy_on_device(b->states + to * bytes, b->states + from * bytes, bytes, b->stream);
    return cuda_ok(&b->cuda, r, "copying a state", err);
}

bool cuda_restore_state(Backend *backend, uint32_t slot, uint32_t checkpoint, Error *err) {
    CudaBackend *b = cuda_self(backend);
    return copy_state(b, b->options.n_slots + checkpoint, slot, err);
}

// Of rows that decode, behind them. (Prompts' rows leave theirs on the way: BatchRow.keep.)
static bool keep_states(CudaBackend *b, const StepSequence *q, uint32_t n, Error *err) {
    for (uint32_t i = 0; i < n; i++) {
        if (q[i].mode != STEP_DECODE || q[i].n_keeps == 0) continue;
        if (!copy_state(b, q[i].slot, b->options.n_slots + q[i].keeps[0].place, err)) return false;
    }
    return true;
}

// Sends the part of a list of pages that the device does not have yet.
static bool send_list(CudaBackend *b, Cell *cell, Slot *slot, const StepSequence *q, uint32_t list,
                      Error *err) {
    const uint32_t *pages = q->pages + (uint64_t)list * q->list_pages;
    uint64_t row = (uint64_t)list * b->pages_max;
    SentList *sent = &slot->sent[list];
    uint32_t first = step_first_page(q, &b->plan->kv, list), end = step_end_page(q), same = first;
    while (same >= sent->first && same < sent->end && same < end &&
           slot->sent_pages[row + same] == pages[same])
        same++;
    if (same == end) return true;
    size_t size = (end - same) * sizeof *pages;
    memcpy(slot->sent_pages + row + same, pages + same, size);
    *sent = (SentList){first, end};
    return cuda_cell_send(b, cell, slot->pages + (row + same) * sizeof *pages, pages + same, size, err);
}

static bool send_pages(CudaBackend *b, Cell *cell, Slot *slot, const StepSequence *q, Error *err) {
    bool ok = true;
    for (uint32_t list = 0; ok && list < b->plan->kv.n_lists; list++)
        ok = send_list(b, cell, slot, q, list, err);
    return ok;
}

// Fetches what the step draws, beside the steps that follow it: between two steps of one stream a copy would
// cost 10 µs.
static bool fetch_tokens(CudaBackend *b, Flight *flight, Error *err) {
    const Cuda *cuda = &b->cuda;
    CUresult r = cuda->event_record(flight->ran, b->stream);
    if (r == CUDA_SUCCESS) r = cuda->stream_wait_event(b->copy_stream, flight->ran, 0);
    if (r == CUDA_SUCCESS && flight->n_drawing) {
        r = cuda->copy_to_host(flight->tokens, b->slots[0].tokens, cuda_tokens_bytes(b), b->copy_stream);
    }
    if (r == CUDA_SUCCESS && flight->has_logprobs) {
        r = cuda->copy_to_host(flight->logprobs, b->slots[0].logprobs, cuda_logprobs_bytes(b),
                               b->copy_stream);
    }
    if (r == CUDA_SUCCESS) r = cuda->event_record(flight->fetched, b->copy_stream);
    return cuda_ok(cuda, r, "fetching tokens", err);
}

// All of the step, with its n parts q, has been enqueued but for states that are kept.
static bool end_step(CudaBackend *b, Cell *cell, const StepSequence *q, uint32_t n, Flight *flight,
                     Error *err) {
    for (uint32_t i = 0; i < flight->n_drawing; i++)
        b->slots[flight->draws[i].slot].n_draws++;
    return cuda_cell_done(b, cell, err) && fetch_tokens(b, flight, err) && keep_states(b, q, n, err);
}

// ---- masks ----

// Sends the masks of sequences' draws, those of one step in one copy, beside the layers; the draws wait for
// it. It comes behind the fetch of the step before, so behind the last draws that read masks. What the copy
// brings for slots between these is read by nobody: each draw has its own mask sent.
static bool send_masks(CudaBackend *b, Cell *cell, const StepSequence *q, uint32_t n,
                       const uint32_t *const *masks, const Flight *flight, Error *err) {
    size_t bytes = b->n_seen_words * sizeof(uint32_t);
    uint32_t first = b->options.n_slots, end = 0;
    for (uint32_t i = 0; i < n; i++) {
        if (!masks[i]) continue;
        first = (uint32_t)min_u64(first, q[i].slot);
        end = (uint32_t)max_u64(end, q[i].slot + 1ull);
    }
    if (end == 0) return true;
    uint8_t *room = cuda_cell_room(cell, (end - first) * bytes);
    for (uint32_t i = 0; i < n; i++) {
        if (masks[i]) memcpy(room + (q[i].slot - first) * bytes, masks[i], bytes);
    }
    CUresult r = b->cuda.copy_to_device(b->slots[first].mask, room, (end - first) * bytes, b->copy_stream);
    if (r == CUDA_SUCCESS) r = b->cuda.event_record(flight->masks_sent, b->copy_stream);
    if (r == CUDA_SUCCESS) r = b->cuda.stream_wait_event(b->stream, flight->masks_sent, 0);
    return cuda_ok(&b->cuda, r, "sending masks to the GPU", err);
}

// The masks that come with a step, and whether there is one. Slots that began with masks have one for each
// draw, and others never have.
static bool take_masks(const CudaBackend *b, const Step *step, const uint32_t *masks[JOBS_MAX],
                       bool *has_masks, Error *err) {
    *has_masks = false;
    for (uint32_t i = 0; i < step->n_sequences; i++) {
        const StepSequence *q = &step->sequences[i];
        bool has_one = q->mask || (step->masks_come_later && b->slots[q->slot].masked);
        if (q->n_draws && has_one != b->slots[q->slot].masked)
            return error_set(err, ERR_INTERNAL, "slot %u draws %s a mask, and did not begin so", q->slot,
                             q->mask ? "with" : "without");
        masks[i] = q->mask;
        *has_masks |= q->mask != NULL;
    }
    return true;
}

// ---- steps ----

// For who looks at each stage: one sequence after the other.
static bool run_parts(CudaBackend *b, Cell *cell, const Step *step, const uint32_t *const *masks,
                      Flight *flight, Error *err) {
    if (step->masks_come_later)
        return error_set(err, ERR_UNSUPPORTED, "a step that is watched takes no masks behind it");
    bool ok = send_masks(b, cell, step->sequences, step->n_sequences, masks, flight, err);
    for (uint32_t i = 0; ok && i < step->n_sequences; i++)
        ok = b->run_part(b, cell, &step->sequences[i], flight, err);
    return ok && end_step(b, cell, step->sequences, step->n_sequences, flight, err);
}

static Flight *newest_flight(CudaBackend *b) {
    return &b->flights[(b->first_flight + b->n_flights - 1) % FLIGHTS];
}

static bool check_waits(CudaBackend *b, bool wanted, Error *err) {
    bool waits = b->n_flights > 0 && newest_flight(b)->waits;
    if (waits == wanted) return true;
    return error_set(err, ERR_INTERNAL, wanted ? "no step waits for masks" : "a step waits for its masks");
}

bool cuda_step(Backend *backend, const Step *step, Error *err) {
    CudaBackend *b = cuda_self(backend);
    const uint32_t *masks[JOBS_MAX];
    bool has_masks;
    if (!step_check(step, &backend->info, err) || !take_masks(b, step, masks, &has_masks, err) ||
        !check_waits(b, false, err))
        return false;
    if (b->n_flights == FLIGHTS)
        return error_set(err, ERR_INTERNAL, "more than %d steps are under way", FLIGHTS);
    Flight *flight = &b->flights[(b->first_flight + b->n_flights) % FLIGHTS];
    flight->n_drawing = flight->n_logits = 0;
    flight->has_logprobs = flight->waits = false;
    Cell *cell;
    if (!cuda_cell_take(b, &cell, err)) return false;
    for (uint32_t i = 0; i < step->n_sequences; i++) {
        const StepSequence *q = &step->sequences[i];
        if (!send_pages(b, cell, &b->slots[q->slot], q, err)) return false;
    }
    b->n_flights++;
    if (b->run_part) return run_parts(b, cell, step, masks, flight, err);
    flight->waits = has_masks || step->masks_come_later;
    if (!cuda_batch_step(b, cell, step, flight, err)) return false;
    if (!flight->waits) return end_step(b, cell, step->sequences, step->n_sequences, flight, err);
    return cuda_cell_done(b, cell, err) && (step->masks_come_later || cuda_draw(backend, masks, err));
}

bool cuda_draw(Backend *backend, const uint32_t *const *masks, Error *err) {
    CudaBackend *b = cuda_self(backend);
    Cell *cell;
    if (!check_waits(b, true, err) || !cuda_cell_take(b, &cell, err)) return false;
    Flight *flight = newest_flight(b);
    const CudaBatches *t = b->batches;
    flight->waits = false;
    return send_masks(b, cell, t->sequences, t->n_sequences, masks, flight, err) &&
           cuda_batch_finish(b, cell, flight, err) &&
           end_step(b, cell, t->sequences, t->n_sequences, flight, err);
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
    if (flight->waits) return error_set(err, ERR_INTERNAL, "a step that waits for its masks is read");
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
