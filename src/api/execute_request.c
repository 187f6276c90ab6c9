#include "api/execute_request.h"

#include "base/hash.h"
#include "os/os.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>

#define AT(field) .offset = offsetof(ExecuteRequest, field)
#define GIVEN(field) .given = 1 + offsetof(ExecuteRequest, field)
// Dividing by less would make infinities of logits; more than this already makes one token certain.
static const float PENALTY_LEAST = 1e-20f;

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
    {"stop", FIELD_TEXTS, AT(stop), .most = STOP_STRINGS_MAX},
    {"seed", FIELD_U64, AT(seed), GIVEN(has_seed), .most = FIELD_U64_MOST},
    {"logprobs", FIELD_U64, AT(logprobs), GIVEN(has_logprobs), .most = LOGPROBS_MAX},
    {"return_tokens", FIELD_BOOL, AT(return_tokens)},
    {"special_tokens", FIELD_BOOL, AT(special_tokens)},
    {"ignore_eos", FIELD_BOOL, AT(ignore_eos)},
};

static const FieldTable table = {rules, COUNT_OF(rules), .null_is_absent = false};

bool execute_request_parse(Str body, uint32_t nodes_max, const RequestLimits *limits, Arena *arena,
                           ExecuteRequest *out, Error *err) {
    *out = (ExecuteRequest){0};
    const JsonNode *root = fields_parse_body(body, nodes_max, arena, err);
    if (!root || !fields_read(&table, root, limits, arena, out, err)) return false;
    bool has_text = out->prompt.len > 0, has_ids = out->prompt_tokens.count > 0;
    if (!has_text && !has_ids) return field_refuse(err, "prompt", "is required, or prompt_tokens");
    if (has_text && has_ids)
        return field_refuse(err, "prompt_tokens", "goes without prompt; both were given");
    return true;
}

// ---- encoding ----

static bool refuse_tokens(Error *err, const char *field, size_t count, uint64_t most) {
    char message[96];
    snprintf(message, sizeof message, "%zu tokens; at most %" PRIu64 " are allowed", count, most);
    return field_refuse(err, field, message);
}

// A stop string that is exactly one control token is that token, since control tokens give no text.
static bool encode_stop(const ExecuteRequest *r, const Tokenizer *t, Arena scratch, Job *job, Error *err) {
    for (uint32_t i = 0; i < r->stop.count; i++) {
        Str text = r->stop.texts[i];
        int32_t id = tokenizer_token_by_text(t, text);
        if (id != TOKEN_NONE && tokenizer_is_special(t, id)) {
            job->stop_tokens[job->n_stop_tokens++] = id;
            continue;
        }
        Arena ids_arena = scratch; // the ids are counted and dropped
        TokenIds ids;
        char field[ERROR_FIELD_BYTES];
        uint64_t ids_bytes = tokenizer_encode_ids_bytes(t, text.len);
        if (!arena_split(&scratch, ids_bytes, &ids_arena))
            return error_set(err, ERR_NO_MEMORY, "no memory for a stop string");
        if (!tokenizer_encode(t, text, 0, &ids_arena, scratch, &ids, err)) return false;
        snprintf(field, sizeof field, "stop[%u]", i);
        if (ids.count > STOP_STRING_TOKENS_MAX)
            return refuse_tokens(err, field, ids.count, STOP_STRING_TOKENS_MAX);
        Str *kept = &job->stop[job->n_stop++];
        *kept = arena_copy_str(&job->arena, text);
        if (!kept->ptr) return error_set(err, ERR_NO_MEMORY, "no memory for a stop string");
    }
    return true;
}

static bool check_lengths(const ExecuteRequest *r, const RequestLimits *limits, size_t n_tokens, Job *job,
                          Error *err) {
    char message[160];
    const char *prompt = r->prompt.len ? "prompt" : "prompt_tokens";
    uint64_t n = n_tokens, context = limits->context_length;
    if (n == 0) return field_refuse(err, prompt, "gives no tokens");
    if (n > limits->max_tokens_in) return refuse_tokens(err, prompt, n_tokens, limits->max_tokens_in);
    uint64_t wanted = r->max_tokens;
    if (!wanted) wanted = n < context ? min_u64(limits->max_tokens_out, context - n) : 1;
    snprintf(message, sizeof message,
             "%" PRIu64 " after a prompt of %" PRIu64 " token%s makes %" PRIu64
             "; the context holds %" PRIu64,
             wanted, n, plural_s(n), n + wanted, context);
    if (n + wanted > context) return field_refuse(err, "max_tokens", message);
    job->max_tokens = (uint32_t)wanted;
    return true;
}

static void describe_prompt(Job *job, const void *bytes, size_t size) {
    Sha256 hash;
    uint8_t digest[32];
    sha256_begin(&hash);
    sha256_add(&hash, bytes, size);
    sha256_end(&hash, digest);
    hex_from_bytes(digest, 8, job->prompt_sha256);
    job->prompt_bytes = size;
}

// The prompt's ids, checked, in the job's arena. Of a text there may be more than a context of them first, so
// they are made in `scratch`.
static bool encode_prompt(const ExecuteRequest *r, const RequestLimits *limits, const Tokenizer *t,
                          Arena scratch, Job *job, Error *err) {
    TokenIds ids = {r->prompt_tokens.ids, r->prompt_tokens.count};
    if (r->prompt.len) {
        Arena ids_arena;
        uint32_t flags = TOKENIZER_PROMPT;
        if (!arena_split(&scratch, tokenizer_encode_ids_bytes(t, r->prompt.len), &ids_arena))
            return error_set(err, ERR_NO_MEMORY, "no memory for the prompt's tokens");
        if (!tokenizer_encode(t, r->prompt, flags, &ids_arena, scratch, &ids, err)) return false;
    }
    if (!check_lengths(r, limits, ids.count, job, err)) return false;
    int32_t *tokens = arena_new(&job->arena, int32_t, ids.count);
    if (!tokens) return error_set(err, ERR_NO_MEMORY, "no memory for the prompt's tokens");
    memcpy(tokens, ids.ptr, ids.count * sizeof *tokens);
    job->tokens = tokens;
    job->n_tokens = (uint32_t)ids.count;
    if (r->prompt.len) describe_prompt(job, r->prompt.ptr, r->prompt.len);
    else describe_prompt(job, tokens, ids.count * sizeof *tokens);
    return true;
}

bool execute_request_encode(const ExecuteRequest *r, const RequestLimits *limits, const Tokenizer *t,
                            Arena scratch, Job *job, Error *err) {
    if (!encode_stop(r, t, scratch, job, err)) return false;
    if (!encode_prompt(r, limits, t, scratch, job, err)) return false;
    job->sampler = (SamplerParams){
        .temperature = (float)r->temperature,
        .top_p = (float)r->top_p,
        .min_p = (float)r->min_p,
        .repetition_penalty = fmaxf((float)r->repetition_penalty, PENALTY_LEAST),
        .presence_penalty = (float)r->presence_penalty,
        .frequency_penalty = (float)r->frequency_penalty,
        .top_k = (uint32_t)r->top_k,
        .logprobs = r->has_logprobs,
        .n_logprobs = (uint32_t)r->logprobs,
        .seed = r->seed,
    };
    for (uint32_t i = 0; i < r->logit_bias.count; i++) {
        LogitBias entry = r->logit_bias.entries[i];
        if (!sampler_add_bias(&job->sampler, entry.token, entry.bias))
            return error_set(err, ERR_INTERNAL, "logit_bias has more entries than were allowed");
    }
    job->returns_tokens = r->return_tokens;
    job->shows_special = r->special_tokens;
    job->ignores_eos = r->ignore_eos;
    if (!r->has_seed) {
        os_random(&job->sampler.seed, sizeof job->sampler.seed);
        job->sampler.seed >>= 11; // a double can hold it, and so can any client that repeats it
    }
    return true;
}

uint64_t execute_job_arena_bytes(uint64_t context_length) {
    uint64_t strings = STOP_STRINGS_MAX * (STOP_STRING_BYTES_MAX * 4 + 64);
    return strings + JOB_ID_BYTES_MAX + 64 + context_length * sizeof(int32_t) + 4096;
}

uint64_t execute_scratch_bytes(const Tokenizer *t, uint64_t prompt_bytes) {
    uint64_t bytes = max_u64(prompt_bytes, STOP_STRING_BYTES_MAX);
    return tokenizer_encode_ids_bytes(t, bytes) + tokenizer_encode_scratch_bytes(t, bytes) + 4096;
}
