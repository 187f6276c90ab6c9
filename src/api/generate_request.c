#include "api/generate_request.h"

#include "api/job_fill.h"

#include <stdio.h>

// ---- fields that are refused ----

const RefusalRule generate_refused[] = {
    {"use_beam_search", 0, NULL, "texts are sampled"},
    {"length_penalty", 1, NULL, "it belongs to beam search"},
    {"best_of", 1, NULL, "ask for n answers and choose yourself"},
    {"min_tokens", 0, NULL, "use ignore_eos or logit_bias"},
    {"bad_words", 0, NULL, "use logit_bias"},
    {"allowed_token_ids", 0, NULL, "use logit_bias"},
    {"truncate_prompt_tokens", 0, NULL, "shorten the prompt yourself"},
    {"prompt_logprobs", 0, NULL, NULL},
    {"include_stop_str_in_output", 0, NULL, NULL},
    {"no_stop_trim", 0, NULL, NULL},
    {"typical_p", 1, NULL, NULL},
    {"mirostat", 0, NULL, NULL},
    {"dry_multiplier", 0, NULL, NULL},
    {"xtc_probability", 0, NULL, NULL},
    {"dynatemp_range", 0, NULL, NULL},
    {"lora", 0, NULL, "the worker has one model"},
    {"lora_path", 0, NULL, "the worker has one model"},
    {"logits_processors", 0, NULL, NULL},
    {"return_hidden_states", 0, NULL, NULL},
    {"thinking_token_budget", 0, NULL, NULL},
    {"structural_tag", 0, NULL, "use response_format, structured_outputs or strict tools"},
};
const uint32_t n_generate_refused = COUNT_OF(generate_refused);

static bool is_harmless(const RefusalRule *rule, const JsonNode *value) {
    double number;
    bool on = true;
    if (value->type == JSON_NULL) return true;
    if (json_read_bool(value, &on)) return !on;
    if (json_read_f64(value, &number)) return number == 0 || number == rule->number;
    if (value->length == 0) return true; // of a string, an array or an object
    Str text;
    return rule->text && json_read_str(value, &text) && str_eq(text, str_from_c(rule->text));
}

static bool refuse_field(const RefusalRule *rule, const JsonNode *value, Error *err) {
    char message[160];
    if (is_harmless(rule, value)) return true;
    snprintf(message, sizeof message, "is not supported%s%s", rule->why ? "; " : "",
             rule->why ? rule->why : "");
    return field_refuse(err, rule->name, message);
}

bool generate_refuse(const RefusalRule *rules, uint32_t n_rules, const JsonNode *root, Error *err) {
    for (const JsonNode *key = json_first(root), *value; key != json_end(root); key = json_next(value)) {
        Str name = {0};
        value = json_next(key);
        if (!json_read_str(key, &name)) continue;
        for (uint32_t i = 0; i < n_rules; i++) {
            if (str_eq(name, str_from_c(rules[i].name)) && !refuse_field(&rules[i], value, err)) return false;
        }
    }
    return true;
}

// ---- from fields to a job ----

// The request's value, else the file's, else the API's.
static float choose(double given, double by_file, double usual) {
    return (float)(!isnan(given) ? given : !isnan(by_file) ? by_file : usual);
}

static uint32_t choose_top_k(const GenerateRequest *r, const SamplingDefaults *defaults) {
    if (r->has_top_k) return r->top_k > 0 ? (uint32_t)r->top_k : 0;
    return defaults->top_k > 0 ? (uint32_t)defaults->top_k : 0; // (of NaN none)
}

static void fill_sampler(const GenerateRequest *r, const SamplingDefaults *d, SamplerParams *out) {
    *out = (SamplerParams){
        .temperature = choose(r->temperature, d->temperature, 1),
        .top_p = choose(r->top_p, d->top_p, 1),
        .min_p = choose(r->min_p, d->min_p, 0),
        .repetition_penalty = choose(r->repetition_penalty, d->repetition_penalty, 1),
        .presence_penalty = choose(r->presence_penalty, d->presence_penalty, 0),
        .frequency_penalty = choose(r->frequency_penalty, d->frequency_penalty, 0),
        .top_k = choose_top_k(r, d),
        .logprobs = r->logprobs,
        .n_logprobs = (uint32_t)r->n_logprobs,
        .seed = (uint64_t)r->seed,
    };
}

bool generate_fill_job(const GenerateRequest *r, const SamplingDefaults *defaults,
                       const RequestLimits *limits, const Tokenizer *t, Arena scratch, Job *job, Error *err) {
    int64_t most = r->max_completion_tokens > 0 ? r->max_completion_tokens : r->max_tokens;
    if (!job_set_stops(job, r->stop.texts, r->stop.count, t, scratch, err)) return false;
    for (uint32_t i = 0; i < r->stop_token_ids.count; i++) {
        if (!job_add_stop_token(job, r->stop_token_ids.ids[i], err)) return false;
    }
    if (!job_set_length_at_most(job, most > 0 ? (uint64_t)most : 0, limits, err)) return false;
    fill_sampler(r, defaults, &job->sampler);
    job->ignores_eos = r->ignore_eos;
    job_set_cache_salt(job, r->cache_salt);
    job->shows_special = r->has_skip_special_tokens && !r->skip_special_tokens;
    return job_finish_sampler(job, &r->logit_bias, r->has_seed, err);
}

uint64_t generate_scratch_bytes(const Tokenizer *t) {
    uint64_t bytes = RENDERED_BYTES_MAX;
    return tokenizer_encode_ids_bytes(t, bytes) +
           max_u64(tokenizer_encode_scratch_bytes(t, bytes),
                   tokenizer_encode_spans_scratch_bytes(t, bytes, RENDERED_SPANS_MAX)) +
           4096;
}
