#include "load/request.h"

#include "http/http_chars.h"
#include "http/http_client.h"
#include "json/json_writer.h"
#include "load/draws.h"
#include "load/words.h"

#include <math.h>

enum { TAIL_BYTES_MAX = 512, BODY_AT = LOAD_HEAD_BYTES_MAX };

// ---- the head ----

void request_put_path(StrBuf *out, const LoadConfig *config, Str path) {
    while (path.len && path.ptr[path.len - 1] == '/')
        path.len--;
    strbuf_put(out, path);
    if (config->api == LOAD_API_EXECUTE) {
        strbuf_put(out, STR("/execute"));
        return;
    }
    if (!str_ends_with(path, STR("/v1"))) strbuf_put(out, STR("/v1"));
    strbuf_put(out, config->api == LOAD_API_CHAT ? STR("/chat/completions") : STR("/completions"));
}

static bool is_header_value(Str text) {
    for (size_t i = 0; i < text.len; i++)
        if (!http_is_value_char((uint8_t)text.ptr[i])) return false;
    return true;
}

bool request_maker_begin(const LoadConfig *config, Str model, char *memory, RequestMaker *out, Error *err) {
    HttpUrl url;
    StrBuf head = strbuf_from_memory(memory, LOAD_HEAD_BYTES_MAX - TAIL_BYTES_MAX);
    if (!http_url_parse(config->server, &url, err)) return false;
    *out = (RequestMaker){.config = config,
                          .model = model,
                          .tokens_per_word = 1,
                          .words_key = draw_key(config->seed, DRAW_WORDS),
                          .prefix_key = draw_key(config->seed, DRAW_PREFIX_WORDS)};
    strbuf_put(&head, STR("POST "));
    request_put_path(&head, config, url.path);
    strbuf_printf(&head,
                  " HTTP/1.1\r\nHost: %.*s\r\nContent-Type: application/json\r\n"
                  "Accept: text/event-stream\r\nUser-Agent: worker-orcd-load\r\n",
                  STR_ARG(url.authority));
    if (config->bearer_token.len) {
        if (!is_header_value(config->bearer_token))
            return error_set(err, ERR_USAGE, "the bearer token has a character that no header may have");
        strbuf_printf(&head, "Authorization: Bearer %.*s\r\n", STR_ARG(config->bearer_token));
    }
    for (uint32_t i = 0; i < config->n_headers; i++)
        strbuf_printf(&head, "%.*s: %.*s\r\n", STR_ARG(config->headers[i].name),
                      STR_ARG(config->headers[i].value));
    strbuf_put(&head, STR("Content-Length: "));
    if (head.truncated)
        return error_set(err, ERR_USAGE, "the headers are longer than %d bytes", (int)head.cap);
    out->head = strbuf_str(&head);
    return true;
}

// ---- what a request is like ----

RequestPlan request_plan(const RequestMaker *m, uint32_t conversation, uint32_t turn) {
    const LoadConfig *c = m->config;
    uint64_t number = (uint64_t)conversation * c->turns + turn;
    RequestPlan plan = {
        .conversation = conversation,
        .turn = turn,
        .prompt_tokens = mix_draw(&c->prompts, draw_key(c->seed, DRAW_PROMPT_LENGTHS), number),
        .output_tokens = mix_draw(&c->outputs, draw_key(c->seed, DRAW_OUTPUT_LENGTHS), number),
    };
    if (!c->trace || turn > 0) return plan;
    const TraceRequest *row = &c->trace->requests[conversation % c->trace->count];
    plan.prompt = row->prompt;
    if (row->prompt_tokens) plan.prompt_tokens = row->prompt_tokens;
    if (row->output_tokens) plan.output_tokens = row->output_tokens;
    return plan;
}

// ---- the body ----

static StrBuf text_buffer(RequestText *t) {
    StrBuf b = {.ptr = t->memory + t->text_end, .cap = LOAD_REQUEST_BYTES_MAX - TAIL_BYTES_MAX - t->text_end};
    return b;
}

static void put_end(RequestText *t, const StrBuf *b) {
    t->text_end += b->len;
    t->is_full |= b->truncated;
}

static void put_text(RequestText *t, Str text) {
    StrBuf b = text_buffer(t);
    strbuf_put(&b, text);
    put_end(t, &b);
}

static void put_words(RequestText *t, uint64_t key, uint32_t number, uint32_t n_words) {
    size_t room = LOAD_REQUEST_BYTES_MAX - TAIL_BYTES_MAX - t->text_end;
    if ((uint64_t)n_words * (WORD_BYTES_MAX + 1) > room) t->is_full = true;
    else t->text_end += words_write(t->memory + t->text_end, key, number, n_words);
}

static void begin_body(const RequestMaker *m, RequestText *t) {
    const LoadConfig *c = m->config;
    t->text_end = BODY_AT;
    t->in_answer = t->is_full = false;
    StrBuf b = text_buffer(t);
    JsonWriter w = json_writer_begin(&b);
    json_open_object(&w);
    if (c->api != LOAD_API_EXECUTE) {
        json_member_str(&w, "model", m->model);
        json_member_bool(&w, "stream", true);
        json_key(&w, "stream_options");
        json_open_object(&w);
        json_member_bool(&w, "include_usage", true);
        json_close_object(&w);
    }
    json_member_f64(&w, "temperature", c->temperature);
    if (c->ignores_eos) json_member_bool(&w, "ignore_eos", true);
    strbuf_put(&b, c->api == LOAD_API_CHAT ? STR(",\"messages\":[{\"role\":\"user\",\"content\":\"")
                                           : STR(",\"prompt\":\""));
    put_end(t, &b);
}

static void begin_answer(const RequestMaker *m, RequestText *t) {
    t->in_answer = true;
    if (m->config->api == LOAD_API_CHAT) put_text(t, STR("\"},{\"role\":\"assistant\",\"content\":\""));
}

static void begin_turn(const RequestMaker *m, RequestText *t) {
    if (!t->in_answer) begin_answer(m, t);
    t->in_answer = false;
    put_text(t, m->config->api == LOAD_API_CHAT ? STR("\"},{\"role\":\"user\",\"content\":\"") : STR("\\n"));
}

void request_add_answer(const RequestMaker *m, RequestText *t, Str piece) {
    if (!t->in_answer) begin_answer(m, t);
    put_text(t, piece);
}

// Fields behind the text, and the head in front of the body.
static Str finish(const RequestMaker *m, RequestText *t, uint32_t output_tokens, uint64_t number) {
    const LoadConfig *c = m->config;
    char digits[32];
    StrBuf tail = {.ptr = t->memory + t->text_end, .cap = LOAD_REQUEST_BYTES_MAX - t->text_end};
    StrBuf length = STRBUF(digits);
    if (t->is_full) return (Str){0};
    strbuf_put(&tail, c->api == LOAD_API_CHAT ? STR("\"}]") : STR("\""));
    strbuf_printf(&tail, ",\"max_tokens\":%u", output_tokens);
    if (c->seeds_requests)
        strbuf_printf(&tail, ",\"seed\":%llu", (unsigned long long)(c->seed % (1ull << 53) + number));
    if (c->api == LOAD_API_EXECUTE) // another one in each run: ids of jobs that still run are refused
        strbuf_printf(&tail, ",\"job_id\":\"load-%016llx-%llu\"", (unsigned long long)m->words_key,
                      (unsigned long long)number);
    strbuf_put_char(&tail, '}');
    t->end = t->text_end + tail.len;
    strbuf_printf(&length, "%zu\r\n\r\n", t->end - BODY_AT);
    char *start = t->memory + BODY_AT - m->head.len - length.len;
    memcpy(start, m->head.ptr, m->head.len);
    memcpy(start + m->head.len, length.ptr, length.len);
    return (Str){start, (size_t)(t->memory + t->end - start)};
}

static uint32_t words_of(const RequestMaker *m, double tokens) {
    double words = round(tokens / m->tokens_per_word);
    return words < 1 ? 1 : (uint32_t)words;
}

bool request_is_lengthened(const RequestMaker *m, const RequestPlan *plan) {
    return plan->turn == 0 && plan->prompt.len == 0 &&
           plan->prompt_tokens + 0.5 < m->template_tokens + m->tokens_per_word;
}

Str request_write(const RequestMaker *m, RequestText *t, const RequestPlan *plan, uint64_t number) {
    const LoadConfig *c = m->config;
    uint32_t text_number = plan->conversation * c->turns + plan->turn;
    double tokens = plan->prompt_tokens;
    if (plan->turn == 0) {
        begin_body(m, t);
        tokens -= m->template_tokens;
        if (c->shared_prefix) {
            put_words(t, m->prefix_key, plan->conversation % c->prefix_groups, words_of(m, c->shared_prefix));
            put_text(t, STR(" "));
        }
    } else {
        begin_turn(m, t);
    }
    if (plan->prompt.len) put_text(t, plan->prompt);
    else put_words(t, m->words_key, text_number, words_of(m, tokens));
    return finish(m, t, plan->output_tokens, number);
}

Str request_write_probe(const RequestMaker *m, RequestText *t, uint32_t n_words, uint32_t number) {
    begin_body(m, t);
    put_words(t, m->words_key, UINT32_MAX - number, n_words);
    return finish(m, t, 1, UINT32_MAX - number);
}
