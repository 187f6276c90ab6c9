// The fields that the OpenAI and Anthropic routes have in common: what a text is sampled with, where it ends,
// and how its answer is given.
//
// Each route has its own table of names (chat_completions.c, completions.c, responses.c, messages.c); all
// fill this struct. Optional fields may be null, and unknown ones are ignored. What would change the answer
// and is not supported is refused by name (generate_refuse). Errors are ERR_INVALID_REQUEST, as in fields.h.
#pragma once

#include "api/fields.h"
#include "api/structured.h"
#include "chat/answer_parser.h"
#include "jobs/bridge.h"
#include "text/tokenizer.h"

#include <math.h>

// What a model's file says of sampling (general.sampling.*), as far as a request could say it. NaN: nothing.
typedef struct {
    double temperature, top_p, min_p, repetition_penalty, presence_penalty, frequency_penalty;
    double top_k;
} SamplingDefaults;

#define SAMPLING_DEFAULTS_NONE ((SamplingDefaults){NAN, NAN, NAN, NAN, NAN, NAN, NAN})

typedef struct {
    Str model; // as the client names it
    // sampling; NaN where it is not given
    double temperature, top_p, min_p, repetition_penalty, presence_penalty, frequency_penalty;
    int64_t top_k; // 0 and -1 are off
    bool has_top_k;
    FieldBiases logit_bias;
    int64_t seed; // negative ones are seeds, too
    bool has_seed;
    // length and end
    int64_t max_tokens;            // 0 and -1: as many as fit
    int64_t max_completion_tokens; // the same under its newer name, which wins
    FieldTexts stop;
    FieldIds stop_token_ids;
    bool ignore_eos;
    Str cache_salt; // empty: none
    // the answer
    uint64_t n; // 0: 1
    bool stream, include_usage;
    bool logprobs; // wanted, with the n_logprobs best of each step
    bool has_n_logprobs;
    uint64_t n_logprobs;
    bool echo;                // completions: the prompt is a part of the text
    bool skip_special_tokens; // control tokens give no text, unless it is given and false
    bool has_skip_special_tokens;
    bool hides_reasoning;      // include_reasoning false
    bool reasoning_is_content; // separate_reasoning false
    bool add_special_tokens;   // completions: BOS before the prompt, unless it is given and false
    bool has_add_special_tokens;
    // calls
    const JsonNode *root; // the body, until the text is encoded
    const JsonNode *tools, *tool_choice;
    bool one_call; // parallel_tool_calls false
    // what the answer is held to
    const JsonNode *structured_fields[STRUCTURED_FIELDS];
    StructuredAnswer structured;
    // completions: the prompts, each a text or ids
    const JsonNode *prompt;
    uint32_t n_prompts;
    bool prompt_is_ids;  // one prompt, an array of ids
    bool prompt_is_list; // of prompts
    // made while encoding, kept until the answer is complete
    Str echoed[REQUEST_JOBS_MAX]; // by prompt, where `echo`
    const AnswerTools *answer_tools;
    AnswerOpening opening;
    Str members;     // Responses: what each of its objects says again of the request, as JSON members
    uint64_t n_text; // where tokens are only counted: how many
} GenerateRequest;

// A field that changes the answer, and the values with which it does not: null, false, 0, "", [] and {}
// always, and the number or the text of the row.
typedef struct {
    const char *name;
    double number; // a harmless one beside 0
    const char *text;
    const char *why; // "use … instead", or NULL
} RefusalRule;
MUST_CHECK bool generate_refuse(const RefusalRule *rules, uint32_t n_rules, const JsonNode *root, Error *err);
// Those that no route has.
extern const RefusalRule generate_refused[];
extern const uint32_t n_generate_refused;

// Fills a job's sampler, stops and length, after its prompt. What the request does not say comes from
// `defaults`, then from the API's usual values. `scratch` as for job_set_stops. Encoder thread.
MUST_CHECK bool generate_fill_job(const GenerateRequest *r, const SamplingDefaults *defaults,
                                  const RequestLimits *limits, const Tokenizer *t, Arena scratch, Job *job,
                                  Error *err);
// What the encoder's scratch must hold for a body's text and what a template makes of it.
uint64_t generate_scratch_bytes(const Tokenizer *t);

#define GENERATE_AT(field) .offset = offsetof(GenerateRequest, field)
#define GENERATE_GIVEN(field) .given = 1 + offsetof(GenerateRequest, field)
// The rows that chat completions and completions share.
#define GENERATE_RULES                                                                                       \
    {"model", FIELD_STR, GENERATE_AT(model), .most = 1024},                                                  \
        {"temperature", FIELD_F64, GENERATE_AT(temperature), .most = 2, .fallback = NAN},                    \
        {"top_p", FIELD_F64, GENERATE_AT(top_p), .most = 1, .fallback = NAN}, {"top_k",                      \
                                                                               FIELD_I64,                    \
                                                                               GENERATE_AT(top_k),           \
                                                                               GENERATE_GIVEN(has_top_k),    \
                                                                               .least = -1,                  \
                                                                               .most_from = MOST_VOCAB},     \
        {"min_p", FIELD_F64, GENERATE_AT(min_p), .most = 1, .fallback = NAN},                                \
        {"repetition_penalty", FIELD_F64,      GENERATE_AT(repetition_penalty), .most = 2,                   \
         .above_least = true,  .fallback = NAN},                                                             \
        {"presence_penalty", FIELD_F64, GENERATE_AT(presence_penalty),                                       \
         .least = -2,        .most = 2, .fallback = NAN},                                                    \
        {"frequency_penalty", FIELD_F64, GENERATE_AT(frequency_penalty),                                     \
         .least = -2,         .most = 2, .fallback = NAN},                                                   \
        {"logit_bias", FIELD_BIASES, GENERATE_AT(logit_bias), .least = -100, .most = 100},                   \
        {"seed",                                                                                             \
         FIELD_I64,                                                                                          \
         GENERATE_AT(seed),                                                                                  \
         GENERATE_GIVEN(has_seed),                                                                           \
         .least = -FIELD_I64_MOST,                                                                           \
         .most = FIELD_I64_MOST},                                                                            \
        {"max_tokens",           FIELD_I64,       GENERATE_AT(max_tokens), .least = -1,                      \
         .most = FIELD_I64_MOST, .not_zero = true},                                                          \
        {"stop", FIELD_TEXTS, GENERATE_AT(stop), .most = STOP_STRINGS_MAX, .one_or_more = true},             \
        {"stop_token_ids", FIELD_IDS, GENERATE_AT(stop_token_ids), .most = STOP_STRINGS_MAX,                 \
         .may_be_empty = true},                                                                              \
        {"ignore_eos", FIELD_BOOL, GENERATE_AT(ignore_eos)},                                                 \
        {"cache_salt", FIELD_STR, GENERATE_AT(cache_salt), .most = HTTP_BODY_BYTES_MAX},                     \
        {"n", FIELD_U64, GENERATE_AT(n), .least = 1, .most = CHOICES_MAX},                                   \
        {"stream", FIELD_BOOL, GENERATE_AT(stream)}, STRUCTURED_RULES(GenerateRequest, structured_fields), { \
        "skip_special_tokens", FIELD_BOOL, GENERATE_AT(skip_special_tokens),                                 \
            GENERATE_GIVEN(has_skip_special_tokens)                                                          \
    }
