// Filling a job with what a request says, whatever API it came through. Encoder thread.
//
// Texts and ids are copied to the job's arena. Errors are ERR_INVALID_REQUEST and ERR_TOO_LONG, with the
// field in err->field, or ERR_NO_MEMORY.
#pragma once

#include "api/fields.h"
#include "jobs/bridge.h"
#include "text/tokenizer.h"

// A stop string that is exactly one control token is that token, since control tokens give no text. `scratch`
// holds what encoding STOP_STRING_BYTES_MAX bytes needs.
MUST_CHECK bool job_set_stops(Job *job, const Str *texts, uint32_t n_texts, const Tokenizer *t, Arena scratch,
                              Error *err);
// A token that ends the text.
MUST_CHECK bool job_add_stop_token(Job *job, int32_t token, Error *err);

// `text` is what the ids were made of, or empty; `field` is the prompt's, for errors. ERR_TOO_LONG: more than
// the context or --max-tokens-in allow.
MUST_CHECK bool job_set_prompt(Job *job, TokenIds ids, Str text, const char *field,
                               const RequestLimits *limits, Error *err);

// After the prompt. `wanted` 0: the limit, or less where the context has no room for that many. More than the
// context holds is an error.
MUST_CHECK bool job_set_length(Job *job, uint64_t wanted, const RequestLimits *limits, Error *err);
// The same, but what is too much is cut.
MUST_CHECK bool job_set_length_at_most(Job *job, uint64_t wanted, const RequestLimits *limits, Error *err);

// After job.sampler is filled: the biases, a seed where none was given, and bounds that keep the numbers
// finite.
MUST_CHECK bool job_finish_sampler(Job *job, const FieldBiases *biases, bool has_seed, Error *err);

// Whose cached beginnings the job shares: those of jobs with the same salt, empty for none.
void job_set_cache_salt(Job *job, Str salt);

// Another job with the same prompt, sampler, stops and grammar, and the next seed.
MUST_CHECK bool job_copy(Job *job, const Job *from, uint32_t seeds_after, Error *err);

// What a job's arena must hold.
uint64_t job_arena_bytes(uint64_t context_length);
