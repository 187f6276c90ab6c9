// POST /tokenize, /detokenize and /apply-template, as vLLM, SGLang and llama-server have them: the request's
// fields say whose they are, and the answer has the names of all three.
//
//     {prompt} or {content}    → {count, max_model_len, tokens, token_strs}
//     {messages, tools, …}     → the same, of the prompt that the template makes
//     {tokens}                 → {prompt, content, text}
//     {messages, …}            → {prompt}
#include "api/look_request.h"

#include "api/openai.h"
#include "base/utf8.h"
#include "text/detokenizer.h"

#include <stdio.h>

// ---- tokens of a text ----

static bool encode_text(Api *api, const ApiRequest *r, const char *field, Str text, uint32_t flags,
                        TokenIds *ids, Error *err) {
    const Tokenizer *t = api->config.tokenizer;
    Arena scratch = api_lane(api, r)->scratch, ids_arena;
    *ids = (TokenIds){0};
    if (text.len == 0) text = STR("");
    if (!arena_split(&scratch, tokenizer_encode_ids_bytes(t, text.len), &ids_arena))
        return error_set(err, ERR_NO_MEMORY, "%s: no memory for its tokens", field);
    return tokenizer_encode(t, text, flags, &ids_arena, scratch, ids, err);
}

// BOS and control tokens as in completions, where vLLM and SGLang have them; as llama-server has them for
// "content".
static uint32_t flags_of(const LookRequest *look) {
    bool special =
        look->prompt ? !look->has_add_special_tokens || look->add_special_tokens : look->add_special;
    bool parses = !look->has_parse_special || look->parse_special;
    return (special ? TOKENIZER_ADD_SPECIAL | TOKENIZER_ONE_BOS : 0) | (parses ? TOKENIZER_PARSE_SPECIAL : 0);
}

// As llama-server writes a token: its text, or its bytes where those are no whole characters.
static void put_piece(JsonWriter *w, Str piece) {
    bool is_text = utf8_valid_prefix(piece) == piece.len;
    json_key(w, "piece");
    if (is_text) {
        json_put_str(w, piece);
        return;
    }
    json_open_array(w);
    for (size_t i = 0; i < piece.len; i++)
        json_put_u64(w, (uint8_t)piece.ptr[i]);
    json_close_array(w);
}

static void put_ids(JsonWriter *w, const Tokenizer *t, TokenIds ids, bool with_pieces) {
    json_open_array(w);
    for (size_t i = 0; i < ids.count && !w->out->truncated; i++) {
        if (!with_pieces) {
            json_put_u64(w, (uint64_t)ids.ptr[i]);
            continue;
        }
        json_open_object(w);
        json_member_u64(w, "id", (uint64_t)ids.ptr[i]);
        put_piece(w, tokenizer_piece(t, ids.ptr[i], true));
        json_close_object(w);
    }
    json_close_array(w);
}

static void put_texts(JsonWriter *w, const Tokenizer *t, TokenIds ids, bool wanted) {
    json_key(w, "token_strs");
    if (!wanted) {
        json_put_null(w);
        return;
    }
    json_open_array(w);
    for (size_t i = 0; i < ids.count && !w->out->truncated; i++)
        json_put_str(w, tokenizer_piece(t, ids.ptr[i], true));
    json_close_array(w);
}

static void reply_tokens(const Api *api, ApiRequest *r, TokenIds ids, StrBuf *text) {
    const LookRequest *look = &r->fields.look;
    JsonWriter w = json_writer_begin(text);
    json_open_object(&w);
    json_member_u64(&w, "count", ids.count);
    json_member_u64(&w, "max_model_len", r->limits.context_length);
    json_key(&w, "tokens");
    put_ids(&w, api->config.tokenizer, ids, look->with_pieces);
    put_texts(&w, api->config.tokenizer, ids, look->returns_texts);
    json_close_object(&w);
}

// Several prompts: an array of counts and one of arrays of tokens, as SGLang has them. The tokens are written
// first, since they are not kept.
static bool reply_lists(Api *api, ApiRequest *r, StrBuf *text, Error *err) {
    const LookRequest *look = &r->fields.look;
    Arena arena = api_lane(api, r)->rendering;
    uint64_t *counts = arena_new(&arena, uint64_t, look->prompt->length);
    TokenIds ids;
    size_t n = 0;
    if (!counts) return error_set(err, ERR_NO_MEMORY, "no memory for %u counts", look->prompt->length);
    JsonWriter w = json_writer_begin(text);
    json_open_object(&w);
    json_key(&w, "tokens");
    json_open_array(&w);
    for (const JsonNode *e = json_first(look->prompt); e != json_end(look->prompt); e = json_next(e)) {
        Str prompt = {0};
        if (!json_read_str(e, &prompt)) prompt = (Str){0}; // it is one: look_parse_tokenize
        if (!encode_text(api, r, "prompt", prompt, flags_of(look), &ids, err)) return false;
        put_ids(&w, api->config.tokenizer, ids, look->with_pieces);
        counts[n++] = ids.count;
    }
    json_close_array(&w);
    json_key(&w, "count");
    json_open_array(&w);
    for (size_t i = 0; i < n; i++)
        json_put_u64(&w, counts[i]);
    json_close_array(&w);
    json_member_u64(&w, "max_model_len", r->limits.context_length);
    json_close_object(&w);
    return true;
}

static bool encode_tokenize(Api *api, ApiRequest *r, uint32_t choice, Job *job, Error *err) {
    (void)choice, (void)job;
    LookRequest *look = &r->fields.look;
    TokenIds ids;
    Str source = {0};
    Arena scratch;
    StrBuf text;
    bool ok;
    if (json_is(look->prompt, JSON_ARRAY) && !look->messages) {
        text = look_begin_reply(r);
        return reply_lists(api, r, &text, err) && look_end_reply(r, &text, err);
    }
    if (look->messages) {
        ok = chat_encode_conversation(api, r, conversation_from_chat, &ids, &source, &scratch, err);
    } else {
        const char *field = look->prompt ? "prompt" : "content";
        if (!json_read_str(look->prompt ? look->prompt : look->content, &source)) source = (Str){0};
        ok = encode_text(api, r, field, source, flags_of(look), &ids, err);
    }
    if (!ok) return false;
    text = look_begin_reply(r);
    reply_tokens(api, r, ids, &text);
    return look_end_reply(r, &text, err);
}

// ---- a text of tokens ----

static bool refuse_id(const JsonNode *node, uint64_t index, uint64_t vocab_size, Error *err) {
    char field[ERROR_FIELD_BYTES], wanted[64];
    snprintf(field, sizeof field, "tokens[%llu]", (unsigned long long)index);
    snprintf(wanted, sizeof wanted, "a token id of 0 to %llu", (unsigned long long)vocab_size - 1);
    return field_refuse_type(err, field, wanted, node);
}

// The text of one array of ids as a JSON string.
static bool put_text_of(JsonWriter *w, Detokenizer *d, const LookRequest *look, const JsonNode *list,
                        uint64_t vocab_size, Error *err) {
    uint64_t index = 0, id;
    detokenizer_reset(d);
    detokenizer_start_text(d);
    detokenizer_show_special(d, !look->skips_special);
    json_open_str(w);
    for (const JsonNode *e = json_first(list); e != json_end(list); e = json_next(e), index++) {
        if (!json_read_u64(e, &id) || id >= vocab_size) return refuse_id(e, index, vocab_size, err);
        json_add_to_str(w, detokenizer_push(d, (int32_t)id));
    }
    json_add_to_str(w, detokenizer_flush(d));
    json_close_str(w);
    return true;
}

static bool put_text_or_texts(JsonWriter *w, Detokenizer *d, const ApiRequest *r, Error *err) {
    const LookRequest *look = &r->fields.look;
    const JsonNode *tokens = look->tokens;
    bool is_list = tokens->length && json_is(json_first(tokens), JSON_ARRAY);
    if (!is_list) return put_text_of(w, d, look, tokens, r->limits.vocab_size, err);
    json_open_array(w);
    for (const JsonNode *e = json_first(tokens); e != json_end(tokens); e = json_next(e)) {
        if (!json_is(e, JSON_ARRAY)) return field_refuse_type(err, "tokens", "an array of arrays", e);
        if (!put_text_of(w, d, look, e, r->limits.vocab_size, err)) return false;
    }
    json_close_array(w);
    return true;
}

static bool encode_detokenize(Api *api, ApiRequest *r, uint32_t choice, Job *job, Error *err) {
    (void)choice, (void)job;
    static const char *const names[] = {"prompt", "content", "text"}; // vLLM's, llama-server's, SGLang's
    Arena scratch = api_lane(api, r)->scratch;
    Detokenizer d;
    if (!detokenizer_init(&d, api->config.tokenizer, &scratch))
        return error_set(err, ERR_NO_MEMORY, "tokens: no memory for their text");
    StrBuf text = look_begin_reply(r);
    JsonWriter w = json_writer_begin(&text);
    json_open_object(&w);
    for (size_t i = 0; i < COUNT_OF(names); i++) {
        json_key(&w, names[i]);
        if (!put_text_or_texts(&w, &d, r, err)) return false;
    }
    json_close_object(&w);
    return look_end_reply(r, &text, err);
}

// ---- a conversation as its template writes it ----

static bool encode_template(Api *api, ApiRequest *r, uint32_t choice, Job *job, Error *err) {
    (void)choice, (void)job;
    TemplateText rendered;
    if (!chat_render_conversation(api, r, conversation_from_chat, &rendered, err)) return false;
    StrBuf text = look_begin_reply(r);
    JsonWriter w = json_writer_begin(&text);
    json_open_object(&w);
    json_member_str(&w, "prompt", rendered.text);
    json_close_object(&w);
    return look_end_reply(r, &text, err);
}

// ---- routes ----

static const ApiDialect tokenize = {
    .name = "tokenize",
    .errors = ERRORS_OPENAI,
    .parse = look_parse_tokenize,
    .encode = encode_tokenize,
    .answer = look_answer,
    .error = openai_error,
};

static const ApiDialect detokenize = {
    .name = "detokenize",
    .errors = ERRORS_OPENAI,
    .parse = look_parse_detokenize,
    .encode = encode_detokenize,
    .answer = look_answer,
    .error = openai_error,
};

static const ApiDialect apply_template = {
    .name = "apply-template",
    .errors = ERRORS_OPENAI,
    .parse = look_parse_template,
    .encode = encode_template,
    .answer = look_answer,
    .error = openai_error,
};

void api_tokenize(Api *api, HttpExchange exchange, const HttpRequest *request, Str parameter) {
    (void)parameter;
    api_accept(api, exchange, request, &tokenize);
}

void api_detokenize(Api *api, HttpExchange exchange, const HttpRequest *request, Str parameter) {
    (void)parameter;
    api_accept(api, exchange, request, &detokenize);
}

void api_apply_template(Api *api, HttpExchange exchange, const HttpRequest *request, Str parameter) {
    (void)parameter;
    api_accept(api, exchange, request, &apply_template);
}
