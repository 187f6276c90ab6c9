#include "api/job_fill.h"

#include "api/structured.h"
#include "base/hash.h"
#include "os/os.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>

// Dividing by less would make infinities of logits; more than this already makes one token certain.
static const float PENALTY_LEAST = 1e-20f;

static bool refuse_tokens(Error *err, const char *field, size_t count, uint64_t most) {
    char message[96];
    snprintf(message, sizeof message, "%zu tokens; at most %" PRIu64 " are allowed", count, most);
    return field_refuse(err, field, message);
}

bool job_add_stop_token(Job *job, int32_t token, Error *err) {
    if (job->n_stop_tokens == COUNT_OF(job->stop_tokens))
        return field_refuse(err, "stop", "and stop_token_ids have too many entries together");
    job->stop_tokens[job->n_stop_tokens++] = token;
    return true;
}

bool job_set_stops(Job *job, const Str *texts, uint32_t n_texts, const Tokenizer *t, Arena scratch,
                   Error *err) {
    for (uint32_t i = 0; i < n_texts; i++) {
        Str text = texts[i];
        int32_t id = tokenizer_token_by_text(t, text);
        if (id != TOKEN_NONE && tokenizer_is_special(t, id)) {
            if (!job_add_stop_token(job, id, err)) return false;
            continue;
        }
        Arena rest = scratch, ids_arena; // the ids are counted and dropped
        TokenIds ids;
        char field[ERROR_FIELD_BYTES];
        if (!arena_split(&rest, tokenizer_encode_ids_bytes(t, text.len), &ids_arena))
            return error_set(err, ERR_NO_MEMORY, "no memory for a stop string");
        if (!tokenizer_encode(t, text, 0, &ids_arena, rest, &ids, err)) return false;
        snprintf(field, sizeof field, "stop[%u]", i);
        if (ids.count > STOP_STRING_TOKENS_MAX)
            return refuse_tokens(err, field, ids.count, STOP_STRING_TOKENS_MAX);
        Str *kept = &job->stop[job->n_stop++];
        *kept = arena_copy_str(&job->arena, text);
        if (!kept->ptr) return error_set(err, ERR_NO_MEMORY, "no memory for a stop string");
    }
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

// Clients tell this error from others: they may shorten what they send.
static bool refuse_long(Error *err, bool refused) {
    err->code = ERR_TOO_LONG;
    return refused;
}

bool job_set_prompt(Job *job, TokenIds ids, Str text, const char *field, const RequestLimits *limits,
                    Error *err) {
    uint64_t n = ids.count;
    if (n == 0) return field_refuse(err, field, "gives no tokens");
    if (n > limits->max_tokens_in)
        return refuse_long(err, refuse_tokens(err, field, n, limits->max_tokens_in));
    int32_t *tokens = arena_new(&job->arena, int32_t, ids.count);
    if (!tokens) return error_set(err, ERR_NO_MEMORY, "no memory for the prompt's tokens");
    memcpy(tokens, ids.ptr, ids.count * sizeof *tokens);
    job->tokens = tokens;
    job->n_tokens = (uint32_t)ids.count;
    if (text.len) describe_prompt(job, text.ptr, text.len);
    else describe_prompt(job, tokens, ids.count * sizeof *tokens);
    return true;
}

bool job_set_length(Job *job, uint64_t wanted, const RequestLimits *limits, Error *err) {
    char message[160];
    uint64_t n = job->n_tokens, context = limits->context_length;
    if (!wanted) wanted = n < context ? min_u64(limits->max_tokens_out, context - n) : 1;
    snprintf(message, sizeof message,
             "%" PRIu64 " after a prompt of %" PRIu64 " token%s makes %" PRIu64
             "; the context holds %" PRIu64,
             wanted, n, plural_s(n), n + wanted, context);
    if (n + wanted > context) return refuse_long(err, field_refuse(err, "max_tokens", message));
    job->max_tokens = (uint32_t)wanted;
    return true;
}

bool job_set_length_at_most(Job *job, uint64_t wanted, const RequestLimits *limits, Error *err) {
    uint64_t n = job->n_tokens, context = limits->context_length;
    if (wanted && n < context) wanted = min_u64(wanted, min_u64(limits->max_tokens_out, context - n));
    return job_set_length(job, wanted, limits, err);
}

bool job_finish_sampler(Job *job, const FieldBiases *biases, bool has_seed, Error *err) {
    job->sampler.repetition_penalty = fmaxf(job->sampler.repetition_penalty, PENALTY_LEAST);
    for (uint32_t i = 0; i < biases->count; i++) {
        LogitBias entry = biases->entries[i];
        if (!sampler_add_bias(&job->sampler, entry.token, entry.bias))
            return error_set(err, ERR_INTERNAL, "logit_bias has more entries than were allowed");
    }
    if (has_seed) return true;
    os_random(&job->sampler.seed, sizeof job->sampler.seed);
    job->sampler.seed >>= 11; // a double can hold it, and so can any client that repeats it
    return true;
}

void job_set_cache_salt(Job *job, Str salt) {
    Sha256 hash;
    uint8_t digest[32];
    static_assert(CACHE_SALT_BYTES <= sizeof digest, "a salt is the start of a digest");
    if (salt.len == 0) return;
    sha256_begin(&hash);
    sha256_add(&hash, salt.ptr, salt.len);
    sha256_end(&hash, digest);
    memcpy(job->cache_salt, digest, sizeof job->cache_salt);
}

bool job_copy(Job *job, const Job *from, uint32_t seeds_after, Error *err) {
    int32_t *tokens = arena_new(&job->arena, int32_t, from->n_tokens);
    if (!tokens) return error_set(err, ERR_NO_MEMORY, "no memory for the prompt's tokens");
    memcpy(tokens, from->tokens, from->n_tokens * sizeof *tokens);
    job->tokens = tokens;
    job->n_tokens = from->n_tokens;
    job->max_tokens = from->max_tokens;
    job->sampler = from->sampler;
    job->sampler.seed += seeds_after;
    for (job->n_stop = 0; job->n_stop < from->n_stop; job->n_stop++) {
        job->stop[job->n_stop] = arena_copy_str(&job->arena, from->stop[job->n_stop]);
        if (!job->stop[job->n_stop].ptr) return error_set(err, ERR_NO_MEMORY, "no memory for a stop string");
    }
    memcpy(job->stop_tokens, from->stop_tokens, sizeof job->stop_tokens);
    job->n_stop_tokens = from->n_stop_tokens;
    job->ignores_eos = from->ignores_eos;
    job->shows_special = from->shows_special;
    job->returns_tokens = from->returns_tokens;
    memcpy(job->cache_salt, from->cache_salt, sizeof job->cache_salt);
    job->marks = from->marks;
    job->n_marks = from->n_marks;
    job->prompt_bytes = from->prompt_bytes;
    memcpy(job->prompt_sha256, from->prompt_sha256, sizeof job->prompt_sha256);
    return true;
}

uint64_t job_arena_bytes(uint64_t context_length) {
    uint64_t strings = STOP_STRINGS_MAX * (STOP_STRING_BYTES_MAX * 4 + 64);
    return strings + JOB_ID_BYTES_MAX + 64 + context_length * sizeof(int32_t) + 4096 +
           STRUCTURED_TOOLS_BYTES_MAX;
}
