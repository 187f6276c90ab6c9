// The engine: sequences in slots, their KV pages, and the order of prefill and decode steps.
//
// One thread (the scheduler's) calls everything. The engine knows tokens, not text: detokenising, stop
// strings and events are above it. Nothing is allocated after engine_create.
#pragma once

#include "backend/backend.h"
#include "engine/kv_pages.h"

typedef struct Engine Engine;

// `arena` keeps the engine's tables. The backend is loaded already and outlives the engine.
MUST_CHECK bool engine_create(Backend *backend, const Plan *plan, uint32_t n_slots, Arena *arena,
                              Engine **out, Error *err);

typedef struct {
    // The prompt, at least one token; for a text that was set aside followed by what it had drawn. Copied.
    const int32_t *tokens; // [n_prompt + n_drawn]
    uint32_t n_prompt;
    uint32_t n_drawn; // 0 for a new text
    uint32_t
        max_tokens; // to draw in all, more than n_drawn; n_prompt + max_tokens is at most the context length
    SamplerParams sampler;
    uint8_t cache_salt[CACHE_SALT_BYTES]; // texts share pages with those of the same salt alone
} EngineRequest;

// Gives the request a free slot and all the pages it can need. ERR_BUSY when no slot is free, ERR_VRAM_OOM
// when the pages do not suffice now (message with both numbers), ERR_INVALID_REQUEST for tokens outside the
// vocabulary and for parameters that no sampler takes.
MUST_CHECK bool engine_admit(Engine *e, const EngineRequest *request, uint32_t *slot, Error *err);

// Ends a sequence at any time and frees its slot and pages. What steps in flight still bring for it is
// dropped.
void engine_release(Engine *e, uint32_t slot);

// Ends a sequence as engine_release does, and fills the request with which engine_admit goes on with it
// later, in any slot: the same parameters, the prompt, and the tokens that engine_step has brought so far.
// The text continues as if it had not been interrupted, as far as the backend computes prompts as it does
// draws (SequenceStart). `tokens` is the caller's, with room for engine_context_length(e); the request points
// to it.
void engine_set_aside(Engine *e, uint32_t slot, int32_t *tokens, EngineRequest *out);

// What one call of engine_step brought for one slot. All it points to is valid until the next call.
typedef struct {
    uint32_t slot;
    uint32_t n_tokens;             // drawn; 0: a part of the prompt was processed, no token yet
    const int32_t *tokens;         // [n_tokens]
    const TokenLogprobs *logprobs; // [n_tokens], or NULL where none were asked for
    bool last;                     // max_tokens reached: no more will come; release the slot
    uint32_t n_prompt_done;        // tokens of the request processed so far
    // Not NULL: the sequence cannot go on after these tokens, since its logits are not numbers. It takes part
    // in no further step; release the slot.
    const Error *failure;
} EngineOutput;

// Advances the work by one backend step: one chunk of a prompt, or one token for every sequence that is
// decoding (the two alternate while both are waiting). Fills at most n_slots outputs, at most one a slot.
// *n_outputs 0 and true: nothing to do. False means that the backend is lost.
MUST_CHECK bool engine_step(Engine *e, EngineOutput *outputs, uint32_t *n_outputs, Error *err);

// Rows of the step that the last engine_step read; 0: it read none.
uint32_t engine_rows_read(const Engine *e);

// Asks the backend whether the device's memory is where it should be; true where there is no device.
MUST_CHECK bool engine_check_residency(Engine *e, Error *err);

uint32_t engine_active(const Engine *e); // slots in use
const KvPages *engine_pages(const Engine *e);
uint32_t
engine_context_length(const Engine *e); // of one sequence: the model's, or less when the cache is smaller
