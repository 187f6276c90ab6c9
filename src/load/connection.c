#include "load/connection.h"

#include "http/http_chars.h"

Connection connection_new(int poller, uint64_t tag, char *memory, size_t capacity) {
    return (Connection){.poller = poller, .tag = tag, .socket = -1, .memory = memory, .capacity = capacity};
}

void connection_close(Connection *c) {
    if (c->socket >= 0) os_net_close(c->socket);
    c->socket = -1;
    c->state = CONNECTION_NONE;
}

static ConnectionResult lose(Connection *c, const char *problem) {
    bool is_new = c->state == CONNECTION_CONNECTING;
    connection_close(c);
    c->problem = problem;
    if (is_new) return CONNECTION_REFUSED;
    return c->was_kept && !c->has_reply ? CONNECTION_STALE : CONNECTION_BROKEN;
}

static void set_interest(Connection *c, uint32_t interest) {
    if (c->interest == interest) return;
    c->interest = interest;
    (void)os_poll_change(c->poller, c->socket, interest, c->tag);
}

static ConnectionResult send_more(Connection *c) {
    while (c->unsent.len) {
        size_t sent = 0;
        OsNetResult result = os_net_send(c->socket, c->unsent, &sent);
        if (result == OS_NET_WOULD_BLOCK) {
            set_interest(c, OS_POLL_RECEIVE | OS_POLL_SEND);
            return CONNECTION_WAITS;
        }
        // A server that refuses a request may answer before it has read it all: that answer counts.
        if (result != OS_NET_OK) break;
        c->unsent = str_slice(c->unsent, sent, c->unsent.len);
    }
    set_interest(c, OS_POLL_RECEIVE);
    c->state = CONNECTION_AT_HEAD;
    return CONNECTION_WAITS;
}

ConnectionResult connection_send(Connection *c, const OsNetPeer *peer, Str request) {
    c->was_kept = c->state == CONNECTION_IDLE;
    c->has_reply = false;
    c->unsent = request;
    c->head_length = 0;
    if (c->was_kept) {
        c->state = CONNECTION_SENDING;
        return send_more(c);
    }
    c->state = CONNECTION_CONNECTING;
    OsNetResult result = os_net_connect_begin(peer, &c->socket);
    if (result == OS_NET_EXHAUSTED) return lose(c, "no descriptor or port is left here");
    if (result != OS_NET_OK) return lose(c, "the connection was refused");
    c->interest = OS_POLL_RECEIVE | OS_POLL_SEND;
    if (!os_poll_add(c->poller, c->socket, c->interest, c->tag)) return lose(c, "it cannot be waited for");
    return CONNECTION_WAITS;
}

// ---- the reply ----

static bool read_head(Connection *c, Str head) {
    HttpClientReply reply;
    Error err;
    if (!http_reply_parse_head(head, &reply, &err)) return false;
    if (reply.status < 200) return true;
    if (!http_reply_begin_body(&reply, false, &c->reply_body, &err)) return false;
    c->reply_body.decoder.body_bytes_max = UINT32_MAX;
    c->status = reply.status;
    const Str *type = http_client_reply_header(&reply, STR("Content-Type"));
    const Str *connection = http_client_reply_header(&reply, STR("Connection"));
    Str stream = STR("text/event-stream");
    c->is_event_stream =
        type && type->len >= stream.len && http_equal_any_case(str_slice(*type, 0, stream.len), stream);
    bool is_old = str_starts_with(head, STR("HTTP/1.0"));
    c->keeps = !c->reply_body.until_close &&
               (connection ? !http_list_has_token(*connection, STR("close")) &&
                                 (!is_old || http_list_has_token(*connection, STR("keep-alive")))
                           : !is_old);
    c->state = CONNECTION_AT_BODY;
    return true;
}

// Takes a head off [bytes, bytes + *size) and moves what follows to the front. False for what is not HTTP.
static bool take_head(Connection *c, char *bytes, size_t *size) {
    while (c->state == CONNECTION_AT_HEAD && *size) {
        size_t before = c->head_length, taken = *size;
        Str head = {bytes, *size};
        if (before || http_reply_head_size(head) == 0) { // it comes in pieces: they are put together
            if (*size > c->capacity - before) return false;
            memcpy(c->memory + before, bytes, *size);
            c->head_length += *size;
            head = (Str){c->memory, c->head_length};
        }
        size_t head_size = http_reply_head_size(head);
        if (head_size) {
            if (!read_head(c, str_slice(head, 0, head_size))) return false;
            taken = head_size - before;
            c->head_length = 0;
        }
        *size -= taken;
        memmove(bytes, bytes + taken, *size);
    }
    return true;
}

static ConnectionResult receive(Connection *c, char *buffer, size_t size, Str *body) {
    size_t got = 0, written = 0;
    Error err;
    OsNetResult result = os_net_receive(c->socket, buffer, size, &got);
    if (result == OS_NET_WOULD_BLOCK) return CONNECTION_WAITS;
    if (result != OS_NET_OK) {
        bool ended = result == OS_NET_ENDED && c->state == CONNECTION_AT_BODY;
        if (ended && http_reply_close(&c->reply_body, &err)) return CONNECTION_GOT;
        return lose(c, c->has_reply ? "the reply ended too early"
                                    : "the server may take fewer connections at once");
    }
    c->has_reply = true;
    if (!take_head(c, buffer, &got)) return lose(c, "the reply is not HTTP/1.1");
    if (c->state != CONNECTION_AT_BODY) return CONNECTION_WAITS;
    if (got && !http_reply_take(&c->reply_body, buffer, got, &written, &err))
        return lose(c, "the reply's chunks are malformed");
    *body = (Str){buffer, written};
    return written || c->reply_body.done ? CONNECTION_GOT : CONNECTION_WAITS;
}

// It answers before it has read all. After an interim reply or a part of a head the sending goes on; after a
// final one it ends.
static ConnectionResult receive_early(Connection *c, uint32_t events, char *buffer, size_t size, Str *body) {
    c->state = CONNECTION_AT_HEAD;
    ConnectionResult result = receive(c, buffer, size, body);
    if (c->state == CONNECTION_AT_HEAD) {
        c->state = CONNECTION_SENDING;
        if (events & OS_POLL_SEND) return send_more(c);
    } else if (c->state == CONNECTION_AT_BODY) {
        set_interest(c, OS_POLL_RECEIVE);
    }
    return result;
}

ConnectionResult connection_ready(Connection *c, uint32_t events, char *buffer, size_t size, Str *body) {
    *body = (Str){0};
    switch (c->state) {
    case CONNECTION_NONE: return CONNECTION_WAITS; // an event from before it was closed
    case CONNECTION_IDLE: connection_close(c); return CONNECTION_WAITS;
    case CONNECTION_CONNECTING:
        if (!os_net_connect_end(c->socket)) return lose(c, "the connection was refused");
        if (!(events & OS_POLL_SEND)) return CONNECTION_WAITS;
        c->state = CONNECTION_SENDING;
        return send_more(c);
    case CONNECTION_SENDING:
        if (events & (OS_POLL_RECEIVE | OS_POLL_BROKEN)) return receive_early(c, events, buffer, size, body);
        return send_more(c);
    case CONNECTION_AT_HEAD:
    case CONNECTION_AT_BODY: return receive(c, buffer, size, body);
    }
    return CONNECTION_WAITS;
}

void connection_finish(Connection *c) {
    if (c->keeps && c->unsent.len == 0) c->state = CONNECTION_IDLE;
    else connection_close(c);
}
