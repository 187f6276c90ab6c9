#include "api/execute_request.h"

#include "api/job_fill.h"

#define AT(field) .offset = offsetof(ExecuteRequest, field)
#define GIVEN(field) .given = 1 + offsetof(ExecuteRequest, field)

static const FieldRule rules[] = {
    {"job_id", FIELD_STR, AT(job_id), .required = true, .most = JOB_ID_BYTES_MAX},
    {"prompt", FIELD_STR, AT(prompt), .most_from = MOST_PROMPT_CHARS, .characters = true},
    {"prompt_tokens", FIELD_IDS, AT(prompt_tokens), .most_from = MOST_TOKENS_IN},
    {"max_tokens", FIELD_U64, AT(max_tokens), .least = 1, .most_from = MOST_TOKENS_OUT},
    {"temperature", FIELD_F64, AT(temperature), .most = 2, .fallback = 1},
    {"top_p", FIELD_F64, AT(top_p), .most = 1, .fallback = 1},
    {"top_k", FIELD_U64, AT(top_k), .most_from = MOST_VOCAB},
    {"min_p", FIELD_F64, AT(min_p), .most = 1},
    {"repetition_penalty", FIELD_F64, AT(repetition_penalty), .most = 2, .above_least = true, .fallback = 1},
    {"presence_penalty", FIELD_F64, AT(presence_penalty), .least = -2, .most = 2},
    {"frequency_penalty", FIELD_F64, AT(frequency_penalty), .least = -2, .most = 2},
    {"logit_bias", FIELD_BIASES, AT(logit_bias), .least = -100, .most = 100},
    {"stop", FIELD_TEXTS, AT(stop), .most = EXECUTE_STOP_STRINGS_MAX},
    {"seed", FIELD_U64, AT(seed), GIVEN(has_seed), .most = FIELD_U64_MOST},
    {"logprobs", FIELD_U64, AT(logprobs), GIVEN(has_logprobs), .most = LOGPROBS_MAX},
    {"return_tokens", FIELD_BOOL, AT(return_tokens)},
    {"special_tokens", FIELD_BOOL, AT(special_tokens)},
    {"ignore_eos", FIELD_BOOL, AT(ignore_eos)},
    {"cache_salt", FIELD_STR, AT(cache_salt), .most = HTTP_BODY_BYTES_MAX},
    {"schema", FIELD_NODE, AT(schema)},
    {"grammar", FIELD_NODE, AT(grammar)},
};

const FieldTable execute_fields = {rules, COUNT_OF(rules), .null_is_absent = false};

bool execute_request_parse(Str body, uint32_t nodes_max, const RequestLimits *limits, Arena *arena,
                           ExecuteRequest *out, Error *err) {
    *out = (ExecuteRequest){0};
    const JsonNode *root = fields_parse_body(body, nodes_max, arena, err);
    if (!root || !fields_read(&execute_fields, root, limits, arena, out, err)) return false;
    bool has_text = out->prompt.len > 0, has_ids = out->prompt_tokens.count > 0;
    if (!has_text && !has_ids) return field_refuse(err, "prompt", "is required, or prompt_tokens");
    if (has_text && has_ids)
        return field_refuse(err, "prompt_tokens", "goes without prompt; both were given");
    if (json_is(out->schema, JSON_NULL))
        return field_refuse_type(err, "schema", "a JSON schema", out->schema);
    if (json_is(out->grammar, JSON_NULL)) return field_refuse_type(err, "grammar", "a string", out->grammar);
    return structured_read_one(STRUCTURED_SCHEMA, "schema", out->schema, &out->structured, err) &&
           structured_read_one(STRUCTURED_GRAMMAR, "grammar", out->grammar, &out->structured, err);
}

// ---- encoding ----

bool execute_request_encode(const ExecuteRequest *r, const RequestLimits *limits, const Tokenizer *t,
                            Arena scratch, Job *job, Error *err) {
    const char *prompt = r->prompt.len ? "prompt" : "prompt_tokens";
    TokenIds ids = {r->prompt_tokens.ids, r->prompt_tokens.count};
    if (!job_set_stops(job, r->stop.texts, r->stop.count, t, scratch, err)) return false;
    if (r->prompt.len) {
        Arena ids_arena;
        uint32_t flags = TOKENIZER_PROMPT;
        if (!arena_split(&scratch, tokenizer_encode_ids_bytes(t, r->prompt.len), &ids_arena))
            return error_set(err, ERR_NO_MEMORY, "no memory for the prompt's tokens");
        if (!tokenizer_encode(t, r->prompt, flags, &ids_arena, scratch, &ids, err)) return false;
    }
    if (!job_set_prompt(job, ids, r->prompt, prompt, limits, err) ||
        !job_set_length(job, r->max_tokens, limits, err))
        return false;
    job->sampler = (SamplerParams){
        .temperature = (float)r->temperature,
        .top_p = (float)r->top_p,
        .min_p = (float)r->min_p,
        .repetition_penalty = (float)r->repetition_penalty,
        .presence_penalty = (float)r->presence_penalty,
        .frequency_penalty = (float)r->frequency_penalty,
        .top_k = (uint32_t)r->top_k,
        .logprobs = r->has_logprobs,
        .n_logprobs = (uint32_t)r->logprobs,
        .seed = r->seed,
    };
    job->returns_tokens = r->return_tokens;
    job->shows_special = r->special_tokens;
    job->ignores_eos = r->ignore_eos;
    job_set_cache_salt(job, r->cache_salt);
    return job_finish_sampler(job, &r->logit_bias, r->has_seed, err);
}

uint64_t execute_job_arena_bytes(uint64_t context_length) {
    return job_arena_bytes(context_length);
}

uint64_t execute_scratch_bytes(const Tokenizer *t, uint64_t prompt_bytes) {
    uint64_t bytes = max_u64(prompt_bytes, STOP_STRING_BYTES_MAX);
    return tokenizer_encode_ids_bytes(t, bytes) + tokenizer_encode_scratch_bytes(t, bytes) + 4096;
}
