#include "http_harness.h"

#include "guard.h"

#include <stdio.h>
#include <stdlib.h>

static void harness_on_request(void *context, HttpExchange exchange, const HttpRequest *request) {
    Harness *h = context;
    h->requests++;
    h->exchange = exchange;
    strbuf_printf(&h->log, "%s %.*s", http_method_name(request->method), STR_ARG(request->path));
    if (request->query.len) strbuf_printf(&h->log, "?%.*s", STR_ARG(request->query));
    for (uint32_t i = 0; i < request->header_count; i++) {
        const HttpHeader *header = &request->headers[i];
        strbuf_printf(&h->log, " %.*s=%.*s", STR_ARG(header->name), STR_ARG(header->value));
    }
    if (request->body.len) {
        strbuf_put(&h->log, STR(" ["));
        strbuf_put(&h->log, request->body);
        strbuf_put(&h->log, STR("]"));
    }
    strbuf_put_char(&h->log, '\n');
    static const HttpResponse ok = {.status = 200, .content_type = {"text/plain", 10}, .body = {"ok", 2}};
    if (h->answer == ANSWER_AT_ONCE && !http_respond(exchange, &ok)) abort();
}

static void harness_on_head(void *context, HttpExchange exchange, const HttpRequest *request) {
    Harness *h = context;
    static const HttpResponse refused = {
        .status = 403, .content_type = {"text/plain", 10}, .body = {"no", 2}};
    if (!h->refuses.len || !str_starts_with(request->path, h->refuses)) return;
    h->exchange = exchange;
    strbuf_printf(&h->log, "refused %.*s\n", STR_ARG(request->path));
    if (!http_respond(exchange, &refused)) abort();
}

static void harness_on_closed(void *context, HttpExchange exchange, uint64_t tag) {
    Harness *h = context;
    if (exchange.generation != h->exchange.generation || http_exchange_is_open(exchange)) abort();
    h->closed++;
    h->closed_tag = tag;
}

Harness *harness_open(const HttpTimeouts *timeouts) {
    static Harness harness;
    static GuardedMemory input, output;
    Harness *h = &harness;
    if (!input.begin) {
        input = guard_allocate(HTTP_INPUT_BYTES);
        output = guard_allocate(HTTP_OUTPUT_BYTES_MAX);
    }
    HttpHandler handler = {.context = h,
                           .on_head = harness_on_head,
                           .on_request = harness_on_request,
                           .on_closed = harness_on_closed};
    http_shared_init(&h->shared, &handler, timeouts ? timeouts : &(HttpTimeouts){0});
    http_connection_init(&h->connection, &h->shared, (char *)input.begin, (char *)output.begin);
    harness_reopen(h);
    return h;
}

void harness_reopen(Harness *h) {
    while (http_shared_take_dirty(&h->shared)) {
    }
    h->shared.large_bodies = 0;
    h->connection.large_input = false;
    h->connection.generation = 0;
    h->connection.state = HTTP_CONNECTION_FREE;
    h->shared.now_ms = 1000;
    h->answer = ANSWER_AT_ONCE;
    h->refuses = (Str){0};
    h->exchange = (HttpExchange){0};
    h->requests = h->closed = 0;
    h->log = STRBUF(h->log_text);
    h->sent = STRBUF(h->sent_text);
    http_connection_open(&h->connection);
}

void harness_settle(Harness *h, bool reads) {
    HttpConnection *c;
    while ((c = http_shared_take_dirty(&h->shared))) {
        http_connection_advance(c);
        while (http_connection_waits_for_turn(c))
            http_connection_turn(c);
        for (Str out; reads && (out = http_connection_output(c)).len;) {
            strbuf_put(&h->sent, out);
            http_connection_sent(c, out.len);
        }
        http_connection_advance(c);
        if (http_connection_waits_for_turn(c)) http_connection_mark_dirty(c);
    }
}

size_t harness_feed(Harness *h, Str bytes, size_t step) {
    size_t taken = 0;
    while (taken < bytes.len) {
        HttpRoom room = http_connection_input_room(&h->connection);
        size_t size = (size_t)min_u64(min_u64(room.len, step), bytes.len - taken);
        if (size == 0) break;
        memcpy(room.ptr, bytes.ptr + taken, size);
        http_connection_received(&h->connection, size);
        taken += size;
        harness_settle(h, true);
    }
    return taken;
}

void harness_pass_ms(Harness *h, uint32_t ms) {
    h->shared.now_ms += ms;
    http_connection_tick(&h->connection);
    harness_settle(h, true);
}

const char *harness_statuses(Harness *h) {
    static char text[4096];
    StrBuf out = STRBUF(text);
    static const char line[] = "HTTP/1.1 ";
    for (const char *at = h->sent_text; (at = strstr(at, line));) {
        at += sizeof line - 1;
        bool is_status = at[0] >= '1' && at[0] <= '5' && at[3] == ' '; // messages name the protocol too
        if (is_status) strbuf_printf(&out, "%s%.3s", out.len ? " " : "", at);
    }
    return text;
}
