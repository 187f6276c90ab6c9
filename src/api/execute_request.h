// The body of POST /execute: JSON to a checked request, and from there to a job.
//
// The rules of the fields are one table (execute_request.c). Errors are ERR_INVALID_REQUEST; err->field has
// the field's name, and the message names field, value and what is allowed, never a prompt or a stop string.
#pragma once

#include "jobs/bridge.h"
#include "json/json_reader.h"
#include "text/tokenizer.h"

typedef struct {
    Str job_id;
    Str prompt;
    uint64_t max_tokens; // 0: not given
    double temperature;
    double top_p;
    uint64_t top_k;
    double min_p;
    double repetition_penalty;
    Str stop[STOP_STRINGS_MAX];
    uint32_t n_stop;
    uint64_t seed;
    bool has_seed;
} ExecuteRequest;

typedef struct {
    uint64_t max_tokens_in;  // tokens of a prompt
    uint64_t max_tokens_out; // the largest max_tokens, and its default
    uint64_t vocab_size;     // the largest top_k
    uint64_t context_length; // prompt and max_tokens together
} ExecuteLimits;

// Memory for the JSON of the largest body.
enum { EXECUTE_JSON_BYTES = JSON_NODES_MAX * 32 + 4096 };

// Strings of *out point into `body` or `arena`.
MUST_CHECK bool execute_request_parse(Str body, const ExecuteLimits *limits, Arena *arena,
                                      ExecuteRequest *out, Error *err);

// Encodes the prompt and fills the job's id, tokens, max_tokens, sampler and stop strings, copied to its
// arena. Special tokens' text in the prompt becomes those tokens, so that a caller can apply a chat template.
// Where max_tokens was not given it is the limit, or less where the context has no room for that many. A
// missing seed is drawn.
MUST_CHECK bool execute_request_encode(const ExecuteRequest *request, const ExecuteLimits *limits,
                                       const Tokenizer *tokenizer, Arena scratch, Job *job, Error *err);

// What a job's arena and `scratch` above must hold.
uint64_t execute_job_arena_bytes(const Tokenizer *tokenizer);
uint64_t execute_scratch_bytes(const Tokenizer *tokenizer);
