#include "load/answer_event.h"

#include "json/json_scan.h"

// ---- errors ----

// A scalar as it is written: a string without its quotes, or a number.
static void take_text(JsonScan *s, Str *out) {
    uint64_t number;
    const char *start = s->at;
    if (json_scan_str(s, out)) return;
    if (json_scan_u64(s, &number)) *out = (Str){start, (size_t)(s->at - start)};
    else json_scan_skip(s);
    while (out->len && out->ptr[0] == ' ')
        *out = str_slice(*out, 1, out->len);
}

// {"code", "message"}, with "type" for a code that is missing or null. An error may be a plain string, too.
static void read_error(JsonScan *s, Str *code, Str *message) {
    Str key, type = {0};
    if (!json_scan_open(s, '{')) {
        take_text(s, message);
        return;
    }
    while (json_scan_key(s, &key)) {
        if (str_eq(key, STR("code"))) take_text(s, code);
        else if (str_eq(key, STR("message"))) take_text(s, message);
        else if (str_eq(key, STR("type"))) take_text(s, &type);
        else json_scan_skip(s);
    }
    if (code->len == 0) *code = type;
}

void answer_error_read(Str body, Str *code, Str *message) {
    JsonScan s = json_scan_begin(body);
    Str key;
    *code = *message = (Str){0};
    if (!json_scan_open(&s, '{')) return;
    while (json_scan_key(&s, &key)) {
        if (str_eq(key, STR("error"))) read_error(&s, code, message);
        else if (str_eq(key, STR("code"))) take_text(&s, code);
        else if (str_eq(key, STR("message")) || str_eq(key, STR("detail"))) take_text(&s, message);
        else json_scan_skip(&s);
    }
}

// ---- the OpenAI API's chunks ----

static FinishReason finish_reason(Str name) {
    return str_eq(name, STR("length")) ? FINISH_LENGTH : FINISH_STOP;
}

static void read_piece(JsonScan *s, Str *content, AnswerEvent *out) {
    Str text = {0};
    if (!json_scan_str(s, &text)) json_scan_skip(s);
    out->has_piece |= text.len > 0;
    if (content && text.len) *content = text;
}

static void read_delta(JsonScan *s, AnswerEvent *out) {
    Str key;
    if (!json_scan_open(s, '{')) {
        json_scan_skip(s);
        return;
    }
    while (json_scan_key(s, &key)) {
        if (str_eq(key, STR("content"))) {
            read_piece(s, &out->content, out);
        } else if (str_eq(key, STR("reasoning_content")) || str_eq(key, STR("reasoning")) ||
                   str_eq(key, STR("refusal"))) {
            read_piece(s, NULL, out);
        } else if (str_eq(key, STR("tool_calls")) && json_scan_open(s, '[')) {
            for (; json_scan_element(s); out->has_piece = true)
                json_scan_skip(s);
        } else {
            json_scan_skip(s);
        }
    }
}

static void read_choice(JsonScan *s, AnswerEvent *out) {
    Str key, reason;
    if (!json_scan_open(s, '{')) {
        json_scan_skip(s);
        return;
    }
    while (json_scan_key(s, &key)) {
        if (str_eq(key, STR("delta"))) read_delta(s, out);
        else if (str_eq(key, STR("text"))) read_piece(s, &out->content, out);
        else if (str_eq(key, STR("finish_reason")) && json_scan_str(s, &reason))
            out->finish = finish_reason(reason);
        else json_scan_skip(s);
    }
}

static void take_u64(JsonScan *s, uint64_t *out) {
    if (!json_scan_u64(s, out)) json_scan_skip(s);
}

static void read_usage(JsonScan *s, AnswerEvent *out) {
    Str key;
    if (!json_scan_open(s, '{')) { // null, in chunks before the last
        json_scan_skip(s);
        return;
    }
    out->has_usage = true;
    while (json_scan_key(s, &key)) {
        if (str_eq(key, STR("prompt_tokens"))) {
            take_u64(s, &out->prompt_tokens);
        } else if (str_eq(key, STR("completion_tokens"))) {
            take_u64(s, &out->output_tokens);
        } else if (str_eq(key, STR("prompt_tokens_details")) && json_scan_open(s, '{')) {
            while (json_scan_key(s, &key)) {
                if (str_eq(key, STR("cached_tokens"))) take_u64(s, &out->cached_tokens);
                else json_scan_skip(s);
            }
        } else {
            json_scan_skip(s);
        }
    }
}

static void read_chunk(Str data, AnswerEvent *out) {
    JsonScan s = json_scan_begin(data);
    Str key;
    if (!json_scan_open(&s, '{')) {
        out->is_malformed = true;
        return;
    }
    while (json_scan_key(&s, &key)) {
        if (str_eq(key, STR("choices")) && json_scan_open(&s, '[')) {
            while (json_scan_element(&s))
                read_choice(&s, out);
        } else if (str_eq(key, STR("usage"))) {
            read_usage(&s, out);
        } else if (str_eq(key, STR("error"))) {
            out->is_error = true;
            read_error(&s, &out->error_code, &out->error_message);
        } else {
            json_scan_skip(&s);
        }
    }
    out->is_malformed = s.bad;
}

// ---- /execute ----

static void read_execute_end(JsonScan *s, Str key, AnswerEvent *out) {
    Str reason;
    if (str_eq(key, STR("tokens_in"))) take_u64(s, &out->prompt_tokens);
    else if (str_eq(key, STR("tokens_out"))) take_u64(s, &out->output_tokens);
    else if (str_eq(key, STR("tokens_cached"))) take_u64(s, &out->cached_tokens);
    else if (str_eq(key, STR("stop_reason")) && json_scan_str(s, &reason))
        out->finish = finish_reason(reason);
    else json_scan_skip(s);
}

static void read_execute(const SseEvent *event, AnswerEvent *out) {
    JsonScan s = json_scan_begin(event->data);
    Str key;
    bool is_token = str_eq(event->name, STR("token"));
    out->is_error = str_eq(event->name, STR("error"));
    out->is_end = out->has_usage = str_eq(event->name, STR("end"));
    if (out->is_error) {
        read_error(&s, &out->error_code, &out->error_message);
    } else if (!json_scan_open(&s, '{')) {
        out->is_malformed = true;
    } else if (is_token || out->is_end) {
        while (json_scan_key(&s, &key)) {
            if (out->is_end) read_execute_end(&s, key, out);
            else if (str_eq(key, STR("t"))) read_piece(&s, &out->content, out);
            else json_scan_skip(&s);
        }
    }
    out->is_malformed |= s.bad;
}

void answer_event_read(LoadApi api, const SseEvent *event, AnswerEvent *out) {
    *out = (AnswerEvent){0};
    if (api == LOAD_API_EXECUTE) read_execute(event, out);
    else if (str_eq(event->data, STR("[DONE]"))) out->is_end = true;
    else read_chunk(event->data, out);
}
