// The body of POST /execute: JSON to a checked request, and from there to a job.
//
// The fields are one table (execute_request.c) of fields.h. Errors are ERR_INVALID_REQUEST; err->field has
// the field's name, and the message names field, value and what is allowed, never a prompt or a stop string.
#pragma once

#include "api/fields.h"
#include "api/structured.h"
#include "jobs/bridge.h"
#include "text/tokenizer.h"

typedef struct {
    Str job_id;
    Str prompt;             // or
    FieldIds prompt_tokens; // taken as they are
    uint64_t max_tokens;    // 0: not given
    double temperature;
    double top_p;
    uint64_t top_k;
    double min_p;
    double repetition_penalty;
    double presence_penalty;
    double frequency_penalty;
    FieldBiases logit_bias;
    FieldTexts stop;
    uint64_t seed;
    bool has_seed;
    uint64_t logprobs; // the best of each step
    bool has_logprobs;
    bool return_tokens;
    bool special_tokens;
    bool ignore_eos;
    Str cache_salt; // empty: none
    const JsonNode *schema, *grammar;
    StructuredAnswer structured; // what these two say
} ExecuteRequest;

// Strings of *out point into `body` or `arena`.
MUST_CHECK bool execute_request_parse(Str body, uint32_t nodes_max, const RequestLimits *limits, Arena *arena,
                                      ExecuteRequest *out, Error *err);

// Encodes the prompt and fills all of the job that the request says but its id and its grammar, copied to
// its arena. Special
// tokens' text in the prompt becomes those tokens, so that a caller can apply a chat template. Where
// max_tokens was not given it is the limit, or less where the context has no room for that many. A missing
// seed is drawn. `scratch` holds execute_scratch_bytes.
MUST_CHECK bool execute_request_encode(const ExecuteRequest *request, const RequestLimits *limits,
                                       const Tokenizer *tokenizer, Arena scratch, Job *job, Error *err);

// What a job's arena must hold beside its id, and `scratch` above for a prompt of so many bytes.
uint64_t execute_job_arena_bytes(uint64_t context_length);
uint64_t execute_scratch_bytes(const Tokenizer *tokenizer, uint64_t prompt_bytes);
