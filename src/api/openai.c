#include "api/openai.h"

#include "base/hash.h"
#include "base/version.h"
#include "http/sse.h"

#include <math.h>
#include <stdio.h>

// ---- requests ----

bool openai_check_model(const Api *api, const GenerateRequest *g, Error *err) {
    if (!api->config.strict_model_name || !g->model.len || str_eq(g->model, api->config.served_model))
        return true;
    error_fill(err, ERR_NOT_FOUND, ERROR_NO_POSITION, "model: this worker serves \"%.*s\" alone",
               STR_ARG(api->config.served_model));
    snprintf(err->field, sizeof err->field, "model");
    return false;
}

bool openai_read_stream_options(const JsonNode *root, GenerateRequest *g, Error *err) {
    const JsonNode *options = json_get(root, STR("stream_options"));
    if (!options || json_is(options, JSON_NULL)) return true;
    if (!json_is(options, JSON_OBJECT)) return field_refuse_type(err, "stream_options", "an object", options);
    const JsonNode *wanted = json_get(options, STR("include_usage"));
    if (!wanted || json_is(wanted, JSON_NULL) || json_read_bool(wanted, &g->include_usage)) return true;
    return field_refuse_type(err, "stream_options.include_usage", "a boolean", wanted);
}

// ---- answers ----

static const char *finish_reason(const ApiAnswer *a) {
    if (a->reason == STOP_LENGTH) return "length";
    return answer_parser_calls(a->parser) ? "tool_calls" : "stop";
}

void openai_put_finish(JsonWriter *w, const ApiRequest *r, const ApiAnswer *a) {
    const FieldIds *ids = &r->fields.generate.stop_token_ids;
    json_member_str(w, "finish_reason", str_from_c(finish_reason(a)));
    json_key(w, "stop_reason");
    for (uint32_t i = 0; a->reason == STOP_STRING && i < ids->count; i++) {
        if (ids->ids[i] != a->stop_token) continue;
        json_put_u64(w, (uint64_t)a->stop_token);
        return;
    }
    if (a->reason == STOP_STRING) json_put_str(w, a->stop);
    else json_put_null(w);
}

void openai_make_call_id(const ApiRequest *r, uint32_t choice, uint32_t call, char out[CALL_ID_BYTES]) {
    static const char digits[] = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
    Sha256 hash;
    uint8_t digest[32];
    uint64_t number;
    uint32_t place[] = {choice, call};
    sha256_begin(&hash);
    sha256_add(&hash, r->id, strlen(r->id)); // random
    sha256_add(&hash, place, sizeof place);
    sha256_end(&hash, digest);
    memcpy(&number, digest, sizeof number);
    for (int i = 0; i + 1 < CALL_ID_BYTES; i++, number /= 62)
        out[i] = digits[number % 62];
    out[CALL_ID_BYTES - 1] = 0;
}

static void put_hyphened(StrBuf *b, const char *words) {
    strbuf_put_char(b, '-');
    for (; *words; words++)
        strbuf_put_char(b, *words == ' ' ? '-' : *words);
}

// Equal ones, and equal requests, give equal answers: it names the program, the model's file, what keys and
// values are kept as, and the device; and the library that multiplies prompts' rows, with which they may not.
static Str openai_fingerprint(Api *api) {
    const BackendInfo *info = &api->config.bridge->status.info; // answers come after WORKER_READY
    if (api->fingerprint[0]) return str_from_c(api->fingerprint);
    StrBuf b = STRBUF(api->fingerprint);
    strbuf_printf(&b, "orcd-%s-%016llx-%.*s", version_text, (unsigned long long)api->config.content_hash,
                  STR_ARG(api->config.kv_cache_type));
    if (info->bits_vary) put_hyphened(&b, backend_products(info));
    put_hyphened(&b, info->device_name ? info->device_name : "");
    return strbuf_str(&b);
}

void openai_put_head(JsonWriter *w, Api *api, const ApiRequest *r, const char *object) {
    json_member_str(w, "id", str_from_c(r->id));
    json_member_str(w, "object", str_from_c(object));
    json_member_u64(w, "created", r->accepted_unix_ms / 1000);
    json_member_str(w, "model", api->config.served_model);
    json_member_str(w, "system_fingerprint", openai_fingerprint(api));
}

ApiFigures openai_add_up(const Api *api, const ApiRequest *r) {
    ApiFigures f = {0};
    uint32_t each = r->n_jobs / (r->fields.generate.n_prompts ? r->fields.generate.n_prompts : 1);
    for (uint32_t i = 0; i < r->n_jobs; i++) {
        const ApiJob *mine = &api->jobs[r->jobs[i]];
        const ApiAnswer *a = &mine->answer;
        if (i % each == 0) { // choices of one prompt share it, and the first of them computes it
            f.tokens_in += a->tokens_in;
            f.tokens_cached += a->tokens_cached;
        }
        f.tokens_out += a->tokens_out;
        f.reasoning += a->reasoning_tokens;
        f.prefill_ns = max_u64(f.prefill_ns, a->prefill_ns);
        f.decode_ns = max_u64(f.decode_ns, a->decode_ns);
        f.queued_ns = max_u64(f.queued_ns, api_queued_ns(api, mine));
        if (i == 0) f.first_token_ms = mine->first_token_ms;
    }
    return f;
}

void openai_put_usage(JsonWriter *w, const Api *api, const ApiRequest *r) {
    ApiFigures f = openai_add_up(api, r);
    json_key(w, "usage");
    json_open_object(w);
    json_member_u64(w, "prompt_tokens", f.tokens_in);
    json_member_u64(w, "completion_tokens", f.tokens_out);
    json_member_u64(w, "total_tokens", f.tokens_in + f.tokens_out);
    json_key(w, "prompt_tokens_details");
    json_open_object(w);
    json_member_u64(w, "cached_tokens", f.tokens_cached);
    json_close_object(w);
    json_key(w, "completion_tokens_details");
    json_open_object(w);
    json_member_u64(w, "reasoning_tokens", f.reasoning);
    json_close_object(w);
    json_close_object(w);
    openai_put_timings(w, api, r);
}

void openai_put_timings(JsonWriter *w, const Api *api, const ApiRequest *r) {
    ApiFigures f = openai_add_up(api, r);
    json_key(w, "timings");
    json_open_object(w);
    json_member_fixed(w, "queued_ms", (double)f.queued_ns / 1e6, 3);
    json_member_fixed(w, "prefill_ms", (double)f.prefill_ns / 1e6, 3);
    json_member_fixed(w, "decode_ms", (double)f.decode_ns / 1e6, 3);
    json_member_fixed(w, "first_token_ms", f.first_token_ms, 3);
    uint64_t after_first = f.tokens_out > r->n_jobs ? f.tokens_out - r->n_jobs : 0;
    json_member_fixed(w, "tokens_per_second",
                      f.decode_ns ? (double)after_first * 1e9 / (double)f.decode_ns : 0, 1);
    json_close_object(w);
}

void openai_put_logprob(JsonWriter *w, float value) {
    json_put_f32(w, isfinite(value) ? value + 0.0f : -9999.0f); // (-0 becomes 0)
}

static void put_token(JsonWriter *w, const Api *api, int32_t id, float logprob) {
    Str piece = tokenizer_piece(api->config.tokenizer, id, true);
    json_member_str(w, "token", piece);
    json_key(w, "logprob");
    openai_put_logprob(w, logprob);
    json_key(w, "bytes");
    json_open_array(w);
    for (size_t i = 0; i < piece.len; i++)
        json_put_u64(w, (uint8_t)piece.ptr[i]);
    json_close_array(w);
}

void openai_put_logprobs(JsonWriter *w, const Api *api, const TokenLogprobs *l) {
    json_open_object(w);
    put_token(w, api, l->token, l->logprob);
    json_key(w, "top_logprobs");
    json_open_array(w);
    for (uint32_t i = 0; i < l->n_best; i++) {
        json_open_object(w);
        put_token(w, api, l->best[i].id, l->best[i].logprob);
        json_close_object(w);
    }
    json_close_array(w);
    json_close_object(w);
}

void openai_send(const ApiRequest *r, StrBuf *text) {
    sse_event_end(text);
    (void)http_stream_send(r->exchange, strbuf_str(text)); // gone: on_closed says so
}

void openai_end_stream(Api *api, const ApiRequest *r) {
    StrBuf text = api_text(api);
    strbuf_put(&text, STR("data: [DONE]\n\n"));
    (void)http_stream_send(r->exchange, strbuf_str(&text));
    (void)http_stream_end(r->exchange);
}

void openai_error(Api *api, ApiRequest *r, const Error *err) {
    if (!r->is_answering) {
        api_reply_request_error(api, r, err);
        return;
    }
    StrBuf text = api_text(api);
    JsonWriter w = sse_event_begin(&text, NULL);
    api_put_error_body(&w, r->dialect->errors, err, str_from_c(r->correlation_id));
    openai_send(r, &text);
    openai_end_stream(api, r);
}

bool openai_is_whole(const Api *api, const ApiRequest *r) {
    for (uint32_t i = 0; i < r->n_jobs; i++) {
        if (api->jobs[r->jobs[i]].answer.is_full) return false;
    }
    return true;
}

void openai_refuse_long(Error *err) {
    error_fill(err, ERR_INVALID_REQUEST, ERROR_NO_POSITION,
               "stream: the answer is longer than a whole one may be (%d MiB); ask for a stream",
               ANSWER_KEPT_BYTES_MAX >> 20);
    snprintf(err->field, sizeof err->field, "stream");
}

void openai_reply(Api *api, ApiRequest *r, const StrBuf *text) {
    Error err;
    if (!text->truncated && openai_is_whole(api, r)) {
        api_reply_request(api, r, 200, strbuf_str(text));
        return;
    }
    openai_refuse_long(&err);
    api_reply_request_error(api, r, &err);
}

// `put_choice` NULL: no choices.
static void put_answer(JsonWriter *w, Api *api, const ApiRequest *r, const char *object,
                       void (*put_choice)(JsonWriter *w, const Api *api, const ApiRequest *r,
                                          const ApiJob *mine)) {
    json_open_object(w);
    openai_put_head(w, api, r, object);
    json_key(w, "choices");
    json_open_array(w);
    for (uint32_t i = 0; put_choice && i < r->n_jobs; i++)
        put_choice(w, api, r, &api->jobs[r->jobs[i]]);
    json_close_array(w);
    openai_put_usage(w, api, r);
    json_close_object(w);
}

void openai_answer(Api *api, ApiRequest *r, const char *object, const char *chunk,
                   void (*put_choice)(JsonWriter *w, const Api *api, const ApiRequest *r,
                                      const ApiJob *mine)) {
    const GenerateRequest *g = &r->fields.generate;
    StrBuf text = api_text(api);
    JsonWriter w = g->stream ? sse_event_begin(&text, NULL) : json_writer_begin(&text);
    if (!g->stream) {
        put_answer(&w, api, r, object, put_choice);
        openai_reply(api, r, &text);
        return;
    }
    if (g->include_usage) {
        put_answer(&w, api, r, chunk, NULL);
        openai_send(r, &text);
    }
    openai_end_stream(api, r);
}

// ---- jobs' events ----

static void count_tokens(ApiAnswer *a, uint32_t tokens_out, bool reasoning) {
    if (reasoning) a->reasoning_tokens += tokens_out - a->tokens_seen;
    a->tokens_seen = tokens_out;
}

void openai_take_token(ApiJob *mine, const JobEvent *e, AnswerSink sink) {
    ApiAnswer *a = &mine->answer;
    bool was_reasoning = answer_parser_is_reasoning(a->parser);
    if (e->token.has_logprobs) answer_keep_token(a, &e->token.logprobs, was_reasoning);
    if (e->token.is_mark) answer_parser_push_mark(a->parser, e->token.id, sink);
    if (e->token.length) answer_parser_push(a->parser, (Str){e->token.text, e->token.length}, sink);
    count_tokens(a, e->tokens_out, was_reasoning);
}

// The stop sequence as the client wrote it: a control token is one, too.
static Str stop_text(const Api *api, const Job *job, const JobEvent *e) {
    if (e->end.reason != STOP_STRING) return (Str){0};
    if (e->end.token != TOKEN_INVALID) return tokenizer_piece(api->config.tokenizer, e->end.token, true);
    return e->end.stop < job->n_stop ? job->stop[e->end.stop] : (Str){0};
}

void openai_take_end(const Api *api, ApiJob *mine, const Job *job, const JobEvent *e, AnswerSink sink) {
    ApiAnswer *a = &mine->answer;
    count_tokens(a, e->tokens_out, answer_parser_is_reasoning(a->parser));
    answer_parser_end(a->parser, e->end.reason == STOP_LENGTH, sink);
    a->reason = e->end.reason;
    a->stop = stop_text(api, job, e);
    a->stop_token = e->end.token;
    a->tokens_in = job->n_tokens;
    a->tokens_cached = e->tokens_cached;
    a->tokens_out = e->tokens_out;
    a->prefill_ns = e->prefill_ns;
    a->decode_ns = e->decode_ns;
}
