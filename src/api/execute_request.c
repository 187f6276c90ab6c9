#include "api/execute_request.h"

#include "base/hash.h"
#include "base/strbuf.h"
#include "base/utf8.h"
#include "os/os.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>

typedef enum { FIELD_STR, FIELD_U64, FIELD_F64, FIELD_STRS } FieldType;

// Where a rule's upper bound comes from.
typedef enum { MOST_FIXED, MOST_TOKENS_OUT, MOST_VOCAB } MostSource;

typedef struct {
    const char *name;
    FieldType type;
    size_t offset; // in ExecuteRequest
    bool required;
    double least, most;   // bytes or characters of strings, values of numbers, elements of arrays
    MostSource most_from; // another upper bound than `most`
    bool above_least;     // the least value itself is refused
    bool characters;      // strings are measured in characters, not bytes
    double fallback;      // of numbers
} FieldRule;

#define AT(field) offsetof(ExecuteRequest, field)
#define U64_MOST 18446744073709551615.0
// Dividing by less would make infinities of logits; more than this already makes one token certain.
static const float PENALTY_LEAST = 1e-20f;

static const FieldRule rules[] = {
    {"job_id", FIELD_STR, AT(job_id), .required = true, .least = 1, .most = JOB_ID_BYTES_MAX},
    {"prompt", FIELD_STR, AT(prompt), .required = true, .least = 1, .most = PROMPT_CHARACTERS_MAX,
     .characters = true},
    {"max_tokens", FIELD_U64, AT(max_tokens), .least = 1, .most_from = MOST_TOKENS_OUT},
    {"temperature", FIELD_F64, AT(temperature), .most = 2, .fallback = 1},
    {"top_p", FIELD_F64, AT(top_p), .most = 1, .fallback = 1},
    {"top_k", FIELD_U64, AT(top_k), .most_from = MOST_VOCAB},
    {"min_p", FIELD_F64, AT(min_p), .most = 1},
    {"repetition_penalty", FIELD_F64, AT(repetition_penalty), .most = 2, .above_least = true, .fallback = 1},
    {"stop", FIELD_STRS, AT(stop), .most = STOP_STRINGS_MAX},
    {"seed", FIELD_U64, AT(seed), .most = U64_MOST},
};

static bool refuse(Error *err, const char *field, const char *message) {
    error_fill(err, ERR_INVALID_REQUEST, ERROR_NO_POSITION, "%s: %s", field, message);
    snprintf(err->field, sizeof err->field, "%.*s", (int)strcspn(field, "["), field);
    return false;
}

static bool refuse_type(Error *err, const char *field, const char *wanted, const JsonNode *found) {
    char message[96];
    snprintf(message, sizeof message, "must be %s, found %s", wanted, json_type_name(found));
    return refuse(err, field, message);
}

static double rule_most(const FieldRule *rule, const ExecuteLimits *limits) {
    switch (rule->most_from) {
    case MOST_TOKENS_OUT: return (double)limits->max_tokens_out;
    case MOST_VOCAB: return (double)limits->vocab_size;
    case MOST_FIXED: break;
    }
    return rule->most;
}

// With as many digits as tell it from a limit next to it.
static void put_number(StrBuf *b, double value) {
    char text[32];
    double read;
    snprintf(text, sizeof text, "%.15g", value);
    if (!str_parse_f64(str_from_c(text), &read) || read != value) snprintf(text, sizeof text, "%.17g", value);
    strbuf_put(b, str_from_c(text));
}

static bool refuse_value(const FieldRule *rule, double value, double most, const char *what, Error *err) {
    char message[160];
    StrBuf b = STRBUF(message);
    put_number(&b, value);
    strbuf_printf(&b, " %s; allowed is ", what);
    if (rule->above_least) {
        strbuf_printf(&b, "more than %.15g and at most %.15g", rule->least, most);
    } else if (most == U64_MOST) {
        strbuf_printf(&b, "%.15g to 18446744073709551615", rule->least);
    } else {
        strbuf_printf(&b, "%.15g to %.15g", rule->least, most);
    }
    return refuse(err, rule->name, message);
}

static bool check_range(const FieldRule *rule, double value, double most, Error *err) {
    if (value <= most && (rule->above_least ? value > rule->least : value >= rule->least)) return true;
    return refuse_value(rule, value, most, "is out of range", err);
}

static bool check_text(const char *field, Str text, double most, bool in_characters, Error *err) {
    if (text.len == 0) return refuse(err, field, "must not be empty");
    size_t size = in_characters ? utf8_count(text) : text.len;
    if ((double)size <= most) return true;
    char message[96];
    snprintf(message, sizeof message, "%zu %s; at most %.0f are allowed", size,
             in_characters ? "characters" : "bytes", most);
    return refuse(err, field, message);
}

static bool read_stop(const JsonNode *node, ExecuteRequest *out, Error *err) {
    if (!json_is(node, JSON_ARRAY)) return refuse_type(err, "stop", "an array of strings", node);
    char message[64];
    snprintf(message, sizeof message, "%u strings; at most %d are allowed", node->length, STOP_STRINGS_MAX);
    if (node->length > STOP_STRINGS_MAX) return refuse(err, "stop", message);
    for (const JsonNode *e = json_first(node); e != json_end(node); e = json_next(e)) {
        char field[24];
        snprintf(field, sizeof field, "stop[%u]", out->n_stop);
        Str *text = &out->stop[out->n_stop++];
        if (!json_read_str(e, text)) return refuse_type(err, field, "a string", e);
        if (!check_text(field, *text, STOP_STRING_BYTES_MAX, false, err)) return false;
    }
    return true;
}

static bool read_field(const FieldRule *rule, const JsonNode *node, const ExecuteLimits *limits,
                       ExecuteRequest *out, Error *err) {
    void *at = (char *)out + rule->offset;
    double most = rule_most(rule, limits);
    switch (rule->type) {
    case FIELD_STR:
        if (!json_read_str(node, at)) return refuse_type(err, rule->name, "a string", node);
        return check_text(rule->name, *(Str *)at, most, rule->characters, err);
    case FIELD_U64: {
        uint64_t *value = at;
        double number; // of a wrong one, for the message: negative, 2^64 or more, or with a fraction
        if (json_read_u64(node, value)) return check_range(rule, (double)*value, most, err);
        if (!json_read_f64(node, &number)) return refuse_type(err, rule->name, "a whole number", node);
        if (number >= U64_MOST) return refuse_value(rule, number, most, "is out of range", err);
        if (!check_range(rule, number, most, err)) return false;
        return refuse_value(rule, number, most, "is no whole number in digits", err);
    }
    case FIELD_F64:
        if (!json_read_f64(node, at)) return refuse_type(err, rule->name, "a number", node);
        return check_range(rule, *(double *)at, most, err);
    case FIELD_STRS: break;
    }
    return read_stop(node, out, err);
}

bool execute_request_parse(Str body, const ExecuteLimits *limits, Arena *arena, ExecuteRequest *out,
                           Error *err) {
    *out = (ExecuteRequest){0};
    const JsonNode *root = json_parse(body, arena, &(JsonLimits){.nodes_max = JSON_NODES_MAX}, err);
    if (!root) return error_prefix(err, "the body");
    if (!json_is(root, JSON_OBJECT)) {
        return error_set(err, ERR_INVALID_REQUEST, "the body must be a JSON object, found %s",
                         json_type_name(root));
    }
    for (size_t i = 0; i < COUNT_OF(rules); i++) {
        const FieldRule *rule = &rules[i];
        const JsonNode *node = json_get(root, str_from_c(rule->name));
        if (rule->type == FIELD_F64) {
            memcpy((char *)out + rule->offset, &rule->fallback, sizeof rule->fallback);
        }
        if (node && !read_field(rule, node, limits, out, err)) return false;
        if (!node && rule->required) return refuse(err, rule->name, "is required");
        if (node && rule->offset == AT(seed)) out->has_seed = true;
    }
    return true;
}

// ---- encoding ----

static bool encode_stop(const ExecuteRequest *r, const Tokenizer *t, Arena scratch, Job *job, Error *err) {
    for (uint32_t i = 0; i < r->n_stop; i++) {
        Arena ids_arena = job->arena; // the ids are counted and dropped
        TokenIds ids;
        if (!tokenizer_encode(t, r->stop[i], 0, &ids_arena, scratch, &ids, err)) return false;
        char field[24], message[64];
        snprintf(field, sizeof field, "stop[%u]", i);
        snprintf(message, sizeof message, "%zu tokens; at most %d are allowed", ids.count,
                 STOP_STRING_TOKENS_MAX);
        if (ids.count > STOP_STRING_TOKENS_MAX) return refuse(err, field, message);
        job->stop[i] = arena_copy_str(&job->arena, r->stop[i]);
        if (!job->stop[i].ptr) return error_set(err, ERR_NO_MEMORY, "no memory for a stop string");
    }
    job->n_stop = r->n_stop;
    return true;
}

static bool check_lengths(const ExecuteRequest *r, const ExecuteLimits *limits, Job *job, Error *err) {
    char message[160];
    uint64_t n = job->n_tokens, context = limits->context_length;
    if (n == 0) return refuse(err, "prompt", "gives no tokens");
    snprintf(message, sizeof message, "%" PRIu64 " tokens; at most %" PRIu64 " are allowed", n,
             limits->max_tokens_in);
    if (n > limits->max_tokens_in) return refuse(err, "prompt", message);
    uint64_t wanted = r->max_tokens;
    if (!wanted) wanted = n < context ? min_u64(limits->max_tokens_out, context - n) : 1;
    snprintf(message, sizeof message,
             "%" PRIu64 " after a prompt of %" PRIu64 " token%s makes %" PRIu64
             "; the context holds %" PRIu64,
             wanted, n, plural_s(n), n + wanted, context);
    if (n + wanted > context) return refuse(err, "max_tokens", message);
    job->max_tokens = (uint32_t)wanted;
    return true;
}

static void describe_prompt(Job *job, Str bytes) {
    Sha256 hash;
    uint8_t digest[32];
    sha256_begin(&hash);
    sha256_add(&hash, bytes.ptr, bytes.len);
    sha256_end(&hash, digest);
    hex_from_bytes(digest, 8, job->prompt_sha256);
    job->prompt_bytes = bytes.len;
}

bool execute_request_encode(const ExecuteRequest *r, const ExecuteLimits *limits, const Tokenizer *t,
                            Arena scratch, Job *job, Error *err) {
    TokenIds ids;
    job->id = arena_copy_str(&job->arena, r->job_id);
    if (!job->id.ptr) return error_set(err, ERR_NO_MEMORY, "no memory for the job's id");
    if (!encode_stop(r, t, scratch, job, err)) return false;
    uint32_t flags = TOKENIZER_ADD_SPECIAL | TOKENIZER_PARSE_SPECIAL;
    if (!tokenizer_encode(t, r->prompt, flags, &job->arena, scratch, &ids, err)) return false;
    job->tokens = ids.ptr;
    job->n_tokens = (uint32_t)ids.count;
    if (!check_lengths(r, limits, job, err)) return false;
    describe_prompt(job, r->prompt);
    job->sampler = (SamplerParams){
        .temperature = (float)r->temperature,
        .top_p = (float)r->top_p,
        .min_p = (float)r->min_p,
        .repetition_penalty = fmaxf((float)r->repetition_penalty, PENALTY_LEAST),
        .top_k = (uint32_t)r->top_k,
        .seed = r->seed,
    };
    if (!r->has_seed) {
        os_random(&job->sampler.seed, sizeof job->sampler.seed);
        job->sampler.seed >>= 11; // a double can hold it, and so can any client that repeats it
    }
    return true;
}

uint64_t execute_job_arena_bytes(const Tokenizer *t) {
    uint64_t strings = STOP_STRINGS_MAX * (STOP_STRING_BYTES_MAX * 4 + 64) + JOB_ID_BYTES_MAX + 64;
    return strings + tokenizer_encode_ids_bytes(t, PROMPT_BYTES_MAX) + 4096;
}

uint64_t execute_scratch_bytes(const Tokenizer *t) {
    return tokenizer_encode_scratch_bytes(t, PROMPT_BYTES_MAX) + 4096;
}
