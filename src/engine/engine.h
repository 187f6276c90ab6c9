// The engine: sequences in slots, the pages of the KV cache that they share, and what goes into each step.
//
// One thread (the scheduler's) calls everything. The engine knows tokens, not text: detokenising, stop
// strings and events are above it. Nothing is allocated after engine_create.
//
// What a sequence draws depends on its request alone, to the bit: not on what is cached, on how its prompt is
// cut, on who runs beside it, or on whether it was set aside. (Where BackendInfo.bits_vary, it does; then no
// two texts share pages.)
#pragma once

#include "backend/backend.h"
#include "engine/kv_pages.h"
#include "grammar/grammar_matcher.h"

typedef struct Engine Engine;

// `arena` keeps the engine's tables. The backend is loaded already and outlives the engine.
MUST_CHECK bool engine_create(Backend *backend, const Plan *plan, uint32_t n_slots, Arena *arena,
                              Engine **out, Error *err);

// Where the engine learns how long steps take: os_monotonic_ns, or a simulator's.
void engine_set_clock(Engine *e, uint64_t (*now_ns)(void));

// From now on the tokenizer's control tokens are taken for borders of messages. Of a model whose layers keep
// states, checkpoints are taken near the first and the last ones of a prompt, so that other texts go on from
// there. Does nothing of another model. `arena` keeps the set of these tokens.
MUST_CHECK bool engine_mark_messages(Engine *e, const Tokenizer *tokenizer, Arena *arena, Error *err);

// From now on requests may have a grammar. Makes the vocabulary's tree, reserves memory for the states and
// masks of as many grammars as there are slots (GRAMMAR_BYTES and 4 bytes a node of the tree for each; used
// as grammars need it), and starts threads that make masks beside the caller, n_threads with it (0: by the
// number of processors). What is drawn does not depend on them. Does nothing for a backend without masks.
enum { GRAMMAR_BYTES = 32 << 20 };
MUST_CHECK bool engine_take_grammars(Engine *e, const Tokenizer *tokenizer, uint32_t n_threads, Arena *arena,
                                     Error *err);
// Ends these threads. Nothing else may follow.
void engine_end(Engine *e);

typedef struct {
    const int32_t *tokens; // [n_prompt] at least one. Copied.
    uint32_t n_prompt;
    uint32_t max_tokens; // to draw, at least one; n_prompt + max_tokens is at most the context length
    SamplerParams sampler;
    uint8_t cache_salt[CACHE_SALT_BYTES]; // texts share pages with those of the same salt alone
    // What is drawn is a text of it: each draw is held to the tokens that may come next, end tokens where the
    // text may end. NULL: anything may be drawn. Outlives the sequence.
    const Grammar *grammar;
    const char *grammar_field; // of a request: what messages about the grammar begin with; NULL: nothing
} EngineRequest;

// Gives the request a free slot. It begins when there are pages for it, after all that were admitted before.
// ERR_BUSY when no slot is free, ERR_VRAM_OOM when it would not fit the cache if it were alone (message with
// both numbers), ERR_INVALID_REQUEST for tokens outside the vocabulary and for parameters that no sampler
// takes; with a grammar also ERR_UNSUPPORTED where engine_take_grammars has made no room for one,
// ERR_INVALID_REQUEST where no token can begin a text of it or its states do not fit.
MUST_CHECK bool engine_admit(Engine *e, const EngineRequest *request, uint32_t *slot, Error *err);

// Ends a sequence at any time and frees its slot and pages. What steps in flight still bring for it is
// dropped.
void engine_release(Engine *e, uint32_t slot);

// Takes a sequence's pages from it, as engine_step does with the youngest one when others need more pages
// than there are. It waits in its slot and begins again, before all that are younger, from its prompt and the
// tokens that engine_step has brought so far, to the same text. (For tests.)
void engine_set_aside(Engine *e, uint32_t slot);
// How often that happened to the slot's sequence.
uint32_t engine_times_set_aside(const Engine *e, uint32_t slot);

// What one call of engine_step brought for one slot. All it points to is valid until the next call.
typedef struct {
    uint32_t slot;
    uint32_t n_tokens;             // drawn; 0: a part of the prompt was processed, no token yet
    const int32_t *tokens;         // [n_tokens]
    const TokenLogprobs *logprobs; // [n_tokens], or NULL where none were asked for
    bool last;                     // no more will come (max_tokens, or complete); release the slot
    bool complete;                 // the grammar allows nothing behind these tokens
    uint32_t n_prompt_done;        // tokens of the request processed so far, or taken from the cache
    uint32_t n_cached;             // tokens of the prompt that were in the cache
    CacheMiss cache_miss;          // why no more of them were
    // Not NULL: the sequence cannot go on after these tokens, since its logits are not numbers, or its
    // grammar leads to more states than there is room for, or takes too much work. It takes part in no
    // further step; release the slot.
    const Error *failure;
} EngineOutput;

// Advances the work by one backend step: a token for every sequence that decodes, and rows of prompts as far
// as there is time. Fills at most n_slots outputs, at most one a slot. *n_outputs 0 and true: nothing to do.
// False means that the backend is lost.
MUST_CHECK bool engine_step(Engine *e, EngineOutput *outputs, uint32_t *n_outputs, Error *err);

// Rows of the step that the last engine_step read; 0: it read none.
uint32_t engine_rows_read(const Engine *e);

// Asks the backend whether the device's memory is where it should be; true where there is no device.
MUST_CHECK bool engine_check_residency(Engine *e, Error *err);

uint32_t engine_active(const Engine *e);      // slots in use
uint64_t engine_tokens_held(const Engine *e); // that the cache holds, of as many texts as there are slots
const KvPages *engine_pages(const Engine *e);
void engine_drop_cache(Engine *e); // pages that no sequence holds become free
uint32_t
engine_context_length(const Engine *e); // of one sequence: the model's, or less when the cache is smaller
