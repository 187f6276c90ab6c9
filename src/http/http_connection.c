#include "http/http_connection.h"

#include "base/error.h"
#include "http/http_chars.h"
#include "http/http_response.h"
#include "http/sse.h"

#include <assert.h>

enum {
    // With so much unsent, the next pipelined request has to wait.
    HTTP_PIPELINE_OUTPUT_MAX = 64 * 1024,
};

// ---- shared state ----

static uint32_t http_or_default(uint32_t value, uint32_t fallback) {
    return value ? value : fallback;
}

void http_shared_init(HttpShared *shared, const HttpHandler *handler, const HttpTimeouts *timeouts) {
    *shared = (HttpShared){
        .handler = *handler,
        .timeouts =
            {
                .header_timeout_ms = http_or_default(timeouts->header_timeout_ms, HTTP_HEADER_TIMEOUT_MS),
                .body_timeout_ms = http_or_default(timeouts->body_timeout_ms, HTTP_BODY_TIMEOUT_MS),
                .idle_timeout_ms = http_or_default(timeouts->idle_timeout_ms, HTTP_IDLE_TIMEOUT_MS),
                .write_timeout_ms = http_or_default(timeouts->write_timeout_ms, HTTP_WRITE_TIMEOUT_MS),
                .keepalive_comment_ms =
                    http_or_default(timeouts->keepalive_comment_ms, HTTP_KEEPALIVE_COMMENT_MS),
                .linger_ms = http_or_default(timeouts->linger_ms, HTTP_LINGER_MS),
            },
    };
}

HttpConnection *http_shared_take_dirty(HttpShared *shared) {
    HttpConnection *c = shared->first_dirty;
    if (!c) return NULL;
    shared->first_dirty = c->next_dirty;
    c->next_dirty = NULL;
    c->is_dirty = false;
    return c;
}

void http_connection_mark_dirty(HttpConnection *c) {
    if (c->is_dirty) return;
    c->is_dirty = true;
    c->next_dirty = c->shared->first_dirty;
    c->shared->first_dirty = c;
}

// ---- one connection ----

void http_connection_init(HttpConnection *c, HttpShared *shared, char *input, char *output) {
    *c = (HttpConnection){.shared = shared, .input = input, .output.bytes = output};
}

static void http_connection_set_deadline(HttpConnection *c, uint32_t timeout_ms) {
    c->deadline_ms = c->shared->now_ms + timeout_ms;
}

void http_connection_open(HttpConnection *c) {
    assert(c->state == HTTP_CONNECTION_FREE && c->generation == 0 && !c->large_input);
    c->state = HTTP_CONNECTION_HEAD;
    c->parsed_end = c->input_end = 0;
    c->output.start = c->output.size = 0;
    c->head = (HttpHeadParser){0};
    c->request = (HttpRequest){0};
    c->close_after_response = c->input_ended = c->output_shut = c->is_from_this_machine = false;
    c->waits_since_ms = c->shared->now_ms;
    c->turn_requests = 0;
    // A new connection says something soon; the longer idle time is for those that have proved useful.
    http_connection_set_deadline(c, c->shared->timeouts.header_timeout_ms);
}

void http_connection_release(HttpConnection *c) {
    assert(c->state == HTTP_CONNECTION_CLOSED && c->generation == 0);
    c->state = HTTP_CONNECTION_FREE;
}

static void http_connection_release_large(HttpConnection *c) {
    if (c->large_input) c->shared->large_bodies--;
    c->large_input = false;
}

void http_connection_drop(HttpConnection *c) {
    if (c->state == HTTP_CONNECTION_FREE) return;
    c->state = HTTP_CONNECTION_CLOSED;
    http_connection_release_large(c);
    http_connection_mark_dirty(c);
}

// Sends what is left, then closes.
static void http_connection_finish(HttpConnection *c) {
    c->state = HTTP_CONNECTION_CLOSING;
    c->deadline_ms = UINT64_MAX;
    c->waits_since_ms = c->shared->now_ms;
    http_connection_release_large(c);
}

static HttpParse http_connection_refuse(HttpConnection *c, const HttpFault *fault) {
    char memory[HTTP_REFUSAL_BYTES_MAX];
    StrBuf out = STRBUF(memory);
    http_write_refusal(c->shared, fault, &c->request, &out);
    // A whole stream may wait to be sent before a refusal: one that comes on a timer finds no room perhaps.
    if (http_connection_send(c, strbuf_str(&out))) http_connection_finish(c);
    return HTTP_PARSE_BAD;
}

// ---- input ----

// Not while the client leaves so much unread.
static bool http_connection_takes_requests(const HttpConnection *c) {
    return c->state == HTTP_CONNECTION_HEAD && c->output.size <= HTTP_PIPELINE_OUTPUT_MAX;
}

bool http_connection_waits_for_turn(const HttpConnection *c) {
    return http_connection_takes_requests(c) && c->turn_requests == 0 && c->input_end > c->head.scanned;
}

HttpRoom http_connection_input_room(const HttpConnection *c) {
    if (c->state == HTTP_CONNECTION_LINGERING) return (HttpRoom){c->input, HTTP_READ_BYTES};
    bool reads = c->state == HTTP_CONNECTION_BODY ||
                 (http_connection_takes_requests(c) && !http_connection_waits_for_turn(c));
    if (!reads) return (HttpRoom){0};
    size_t capacity = c->large_input ? HTTP_INPUT_BYTES : HTTP_SMALL_INPUT_BYTES + HTTP_READ_BYTES;
    return (HttpRoom){c->input + c->input_end, (size_t)min_u64(HTTP_READ_BYTES, capacity - c->input_end)};
}

// Permission for a request of this many bytes.
static bool http_connection_admit_bytes(HttpConnection *c, uint64_t bytes) {
    if (bytes <= HTTP_SMALL_INPUT_BYTES || c->large_input) return true;
    if (c->shared->large_bodies == HTTP_LARGE_BODIES_MAX) {
        static const HttpFault full = {503, HTTP_NO_POSITION, "too many large requests at once", 0};
        http_connection_refuse(c, &full);
        return false;
    }
    c->shared->large_bodies++;
    c->large_input = true;
    return true;
}

// Lets the handler refuse a request by its head. False when it has done so.
static bool http_connection_offer_head(HttpConnection *c) {
    const HttpHandler *handler = &c->shared->handler;
    if (!handler->on_head) return true;
    c->state = HTTP_CONNECTION_HANDLING;
    c->close_after_response = true; // an answer now leaves the body unread
    c->generation = ++c->shared->generation;
    c->tag = 0;
    handler->on_head(handler->context, (HttpExchange){c, c->generation}, &c->request);
    if (c->state != HTTP_CONNECTION_HANDLING) return false;
    c->generation = 0;
    c->close_after_response = !c->request.keep_alive;
    return true;
}

// The head is complete: how does the body come?
static HttpParse http_connection_begin_body(HttpConnection *c) {
    HttpRequest *request = &c->request;
    c->parsed_end = c->head.head_bytes;
    c->close_after_response = !request->keep_alive;
    c->body_bytes_max = HTTP_BODY_BYTES_MAX;
    bool has_body = request->chunked || request->content_length > 0;
    if (has_body && !http_connection_offer_head(c)) return HTTP_PARSE_BAD;
    if (request->content_length > c->body_bytes_max) {
        HttpFault fault = {413, HTTP_NO_POSITION, "the body is too large", c->body_bytes_max};
        return http_connection_refuse(c, &fault);
    }
    c->chunked = (HttpChunkedDecoder){.body_bytes_max = c->body_bytes_max};
    c->state = HTTP_CONNECTION_BODY;
    http_connection_set_deadline(c, c->shared->timeouts.body_timeout_ms);
    if (!http_connection_admit_bytes(c, c->parsed_end + request->content_length)) return HTTP_PARSE_BAD;
    if (request->expects_continue && has_body && c->input_end == c->parsed_end) {
        if (!http_connection_send(c, STR("HTTP/1.1 100 Continue\r\n\r\n"))) return HTTP_PARSE_BAD;
    }
    return HTTP_PARSE_DONE;
}

static HttpParse http_connection_parse_head(HttpConnection *c) {
    HttpFault fault;
    HttpParse parse = http_parse_head(&c->head, (Str){c->input, c->input_end}, &c->request, &fault);
    if (parse == HTTP_PARSE_BAD) return http_connection_refuse(c, &fault);
    return parse == HTTP_PARSE_DONE ? http_connection_begin_body(c) : parse;
}

// Decoding in place leaves no gap: what is not decoded yet moves down to the end of what is.
static HttpParse http_connection_parse_chunked(HttpConnection *c) {
    HttpFault fault;
    size_t consumed, written, unread = c->input_end - c->parsed_end;
    char *at = c->input + c->parsed_end;
    HttpParse parse = http_decode_chunked(&c->chunked, at, at, unread, &consumed, &written, &fault);
    if (parse == HTTP_PARSE_BAD) return http_connection_refuse(c, &fault);
    memmove(at + written, at + consumed, unread - consumed);
    c->parsed_end += written;
    c->input_end -= consumed - written;
    if (!http_connection_admit_bytes(c, c->input_end)) return HTTP_PARSE_BAD;
    return parse;
}

static HttpParse http_connection_parse_body(HttpConnection *c) {
    size_t begin = c->head.head_bytes;
    if (c->request.chunked) {
        HttpParse parse = http_connection_parse_chunked(c);
        if (parse != HTTP_PARSE_DONE) return parse;
    } else {
        if (c->input_end - begin < c->request.content_length) return HTTP_PARSE_INCOMPLETE;
        c->parsed_end = begin + (size_t)c->request.content_length;
    }
    c->request.body = (Str){c->input + begin, c->parsed_end - begin};
    return HTTP_PARSE_DONE;
}

static void http_connection_call_handler(HttpConnection *c) {
    c->state = HTTP_CONNECTION_HANDLING;
    c->deadline_ms = UINT64_MAX;
    c->generation = ++c->shared->generation;
    c->tag = 0;
    if (c->turn_requests) c->turn_requests--;
    const HttpHandler *handler = &c->shared->handler;
    handler->on_request(handler->context, (HttpExchange){c, c->generation}, &c->request);
}

// The response is complete: clears its request away and keeps what was pipelined behind it.
static void http_connection_next_request(HttpConnection *c) {
    if (c->close_after_response || c->shared->draining) {
        http_connection_finish(c);
        return;
    }
    size_t unread = c->input_end - c->parsed_end;
    memmove(c->input, c->input + c->parsed_end, unread);
    c->input_end = unread;
    c->parsed_end = 0;
    c->head = (HttpHeadParser){0};
    c->request = (HttpRequest){0};
    c->state = HTTP_CONNECTION_HEAD;
    c->waits_since_ms = c->shared->now_ms;
    http_connection_release_large(c);
    const HttpTimeouts *timeouts = &c->shared->timeouts;
    http_connection_set_deadline(c, unread ? timeouts->header_timeout_ms : timeouts->idle_timeout_ms);
}

static void http_connection_tell_closed(HttpConnection *c) {
    if (c->generation == 0) return;
    HttpExchange exchange = {c, c->generation};
    c->generation = 0;
    const HttpHandler *handler = &c->shared->handler;
    handler->on_closed(handler->context, exchange, c->tag);
}

// One transition; false when nothing more can be done for now.
static bool http_connection_step(HttpConnection *c) {
    switch (c->state) {
    case HTTP_CONNECTION_HEAD:
        if (!http_connection_takes_requests(c) || c->turn_requests == 0) return false;
        return http_connection_parse_head(c) != HTTP_PARSE_INCOMPLETE;
    case HTTP_CONNECTION_BODY: {
        HttpParse parse = http_connection_parse_body(c);
        if (parse == HTTP_PARSE_DONE) http_connection_call_handler(c);
        return parse != HTTP_PARSE_INCOMPLETE;
    }
    case HTTP_CONNECTION_RESPONDED: http_connection_next_request(c); return true;
    case HTTP_CONNECTION_CLOSING:
        if (c->output.size > 0) return false;
        if (c->input_ended) {
            http_connection_drop(c);
        } else {
            c->state = HTTP_CONNECTION_LINGERING;
            http_connection_set_deadline(c, c->shared->timeouts.linger_ms);
        }
        return true;
    case HTTP_CONNECTION_CLOSED: http_connection_tell_closed(c); return false;
    case HTTP_CONNECTION_FREE:
    case HTTP_CONNECTION_HANDLING:
    case HTTP_CONNECTION_STREAMING:
    case HTTP_CONNECTION_LINGERING: break;
    }
    return false;
}

// Ends: each step consumes input, of which there is a bounded amount, or moves towards the connection's end.
void http_connection_advance(HttpConnection *c) {
    while (http_connection_step(c)) {
    }
    if (!c->input_ended) return;
    bool waits = c->state == HTTP_CONNECTION_BODY ||
                 (http_connection_takes_requests(c) && !http_connection_waits_for_turn(c));
    if (waits) {
        // A request that is only partly here when the client has finished sending will never be whole.
        http_connection_finish(c);
    } else if (c->state == HTTP_CONNECTION_HANDLING || c->state == HTTP_CONNECTION_STREAMING) {
        http_connection_drop(c);
    }
    while (http_connection_step(c)) {
    }
}

void http_connection_turn(HttpConnection *c) {
    http_connection_mark_dirty(c);
    c->turn_requests = HTTP_REQUESTS_A_TURN;
    http_connection_advance(c);
}

void http_connection_received(HttpConnection *c, size_t size) {
    http_connection_mark_dirty(c);
    if (c->state == HTTP_CONNECTION_LINGERING) return;
    assert(c->state == HTTP_CONNECTION_HEAD || c->state == HTTP_CONNECTION_BODY); // input_room gave room
    if (c->state == HTTP_CONNECTION_HEAD && c->input_end == 0) {
        http_connection_set_deadline(c, c->shared->timeouts.header_timeout_ms);
        c->waits_since_ms = c->shared->now_ms;
    }
    c->input_end += size;
    c->input_touched = (size_t)max_u64(c->input_touched, c->input_end);
    http_connection_turn(c);
}

void http_connection_input_ended(HttpConnection *c) {
    c->input_ended = true;
    http_connection_mark_dirty(c);
    if (c->state == HTTP_CONNECTION_LINGERING) http_connection_drop(c);
    http_connection_advance(c);
}

// ---- output ----

bool http_connection_send(HttpConnection *c, Str bytes) {
    if (c->output.size == 0) c->write_deadline_ms = c->shared->now_ms + c->shared->timeouts.write_timeout_ms;
    bool fits = http_output_put(&c->output, bytes);
    if (!fits) {
        c->shared->lost_responses++;
        http_connection_drop(c);
    }
    http_connection_mark_dirty(c);
    return fits;
}

Str http_connection_output(const HttpConnection *c) {
    if (c->state == HTTP_CONNECTION_CLOSED) return (Str){0};
    return http_output_front(&c->output);
}

void http_connection_sent(HttpConnection *c, size_t size) {
    http_output_drop_front(&c->output, size);
    c->write_deadline_ms = c->shared->now_ms + c->shared->timeouts.write_timeout_ms;
    if (c->output.size == 0) http_connection_mark_dirty(c);
}

// ---- time ----

bool http_connection_is_idle(const HttpConnection *c) {
    bool waits = c->state == HTTP_CONNECTION_HEAD && c->input_end == 0 && c->output.size == 0;
    return waits || c->state == HTTP_CONNECTION_LINGERING;
}

HttpPlace http_connection_place(const HttpConnection *c) {
    if (c->state == HTTP_CONNECTION_LINGERING) return HTTP_PLACE_OF_LINGERING;
    if (c->state == HTTP_CONNECTION_CLOSING) return HTTP_PLACE_OF_CLOSING;
    if (http_connection_is_idle(c)) return HTTP_PLACE_OF_IDLE;
    bool waits = c->state == HTTP_CONNECTION_HEAD || c->state == HTTP_CONNECTION_BODY;
    return waits ? HTTP_PLACE_OF_UNFINISHED : HTTP_PLACE_KEPT;
}

static void http_connection_expire(HttpConnection *c) {
    static const HttpFault slow_head = {408, HTTP_NO_POSITION, "the header took too long", 0};
    static const HttpFault slow_body = {408, HTTP_NO_POSITION, "the body took too long", 0};
    bool is_quiet = c->state == HTTP_CONNECTION_HEAD && c->input_end == 0;
    if (is_quiet || c->state == HTTP_CONNECTION_LINGERING) {
        http_connection_drop(c);
    } else if (c->state == HTTP_CONNECTION_HEAD) {
        http_connection_refuse(c, &slow_head);
    } else if (c->state == HTTP_CONNECTION_BODY) {
        http_connection_refuse(c, &slow_body);
    }
}

void http_connection_tick(HttpConnection *c) {
    uint64_t now_ms = c->shared->now_ms;
    if (c->state == HTTP_CONNECTION_FREE || c->state == HTTP_CONNECTION_CLOSED) return;
    if (c->output.size > 0 && now_ms >= c->write_deadline_ms) {
        c->shared->lost_responses++;
        http_connection_drop(c);
    } else if (now_ms >= c->deadline_ms) {
        http_connection_expire(c);
        http_connection_advance(c);
    } else if (c->state == HTTP_CONNECTION_STREAMING && c->output.size == 0 && now_ms >= c->comment_due_ms) {
        char memory[32];
        StrBuf comment = STRBUF(memory);
        sse_put_comment(&comment, "keep-alive");
        http_stream_send((HttpExchange){c, c->generation}, strbuf_str(&comment));
    }
}
