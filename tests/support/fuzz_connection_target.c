// One connection, a peer and a handler that do what the input says, and what http_connection.h promises.
#include "fuzz_targets.h"

#include "base/strbuf.h"
#include "guard.h"
#include "http/http_chars.h"
#include "http/http_connection.h"
#include "os/os.h"

#include <stdio.h>
#include <stdlib.h>

enum {
    SENT_BYTES_MAX = 256 * 1024,
    HEAD_BYTES_MAX = 8 * 1024,
    BODY_BYTES_MAX = 1 << 20,
    SHORT_BODY_BYTES = 1000
};

// What the peer makes of the bytes that it reads: responses, one after another.
typedef struct {
    enum { PEER_HEAD, PEER_LENGTH, PEER_CHUNKS, PEER_UNTIL_CLOSE } state;
    char head[HEAD_BYTES_MAX];
    size_t head_bytes;
    uint64_t body_left;
    HttpChunkedDecoder chunks;
    uint32_t answers;  // complete, to requests
    uint32_t refusals; // by HTTP itself; after one nothing may come
    uint32_t number;   // of the request that the newest answer is for
} Peer;

typedef struct {
    const uint8_t *at, *end; // the actions to come
    HttpShared shared;
    HttpConnection connection;
    HttpExchange exchange;
    uint64_t generation; // of the newest exchange
    bool is_open;        // the handler has a request
    bool in_call;        // a call of the handler's is under way
    bool answers_at_once, refuses_heads, limits_bodies;
    bool has_ended; // the peer has sent FIN, behind what it sent before
    uint32_t begun, completed, closed;
    uint32_t begun_in_turn;
    size_t reads; // bytes that the peer is willing to take now
    Peer peer;
    char sent[SENT_BYTES_MAX]; // by the peer, not received yet
    size_t sent_bytes;
} Fuzz;

static void require(bool ok) {
    if (!ok) abort();
}

static uint8_t next_byte(Fuzz *f) {
    return f->at < f->end ? *f->at++ : 0;
}

// ---- the peer reads ----

static bool head_has(const Peer *p, const char *text) {
    return memmem(p->head, p->head_bytes, text, strlen(text)) != NULL;
}

static void peer_take_head(Peer *p) {
    require(p->refusals == 0 && p->head_bytes > 12 && memcmp(p->head, "HTTP/1.1 ", 9) == 0);
    const char *number = memmem(p->head, p->head_bytes, "\r\nX-Number: ", 12);
    const char *length = memmem(p->head, p->head_bytes, "\r\nContent-Length: ", 18);
    p->body_left = length ? strtoull(length + 18, NULL, 10) : 0;
    p->state = PEER_LENGTH;
    if (memcmp(p->head + 9, "100", 3) == 0) return;
    if (!number) {
        require(p->head[9] >= '4' && head_has(p, "\r\nConnection: close\r\n"));
        p->refusals++;
        return;
    }
    require(strtoul(number + 12, NULL, 10) == ++p->number);
    p->chunks = (HttpChunkedDecoder){0};
    if (head_has(p, "\r\nX-Method: HEAD\r\n")) p->body_left = 0;
    else if (head_has(p, "\r\nTransfer-Encoding: chunked\r\n")) p->state = PEER_CHUNKS;
    else if (!length) p->state = PEER_UNTIL_CLOSE;
    if (p->state != PEER_UNTIL_CLOSE && p->state != PEER_CHUNKS && p->body_left == 0) p->answers++;
}

static void peer_read(Peer *p, Str bytes) {
    static char decoded[BODY_BYTES_MAX];
    while (bytes.len) {
        size_t taken = 1, written;
        if (p->state == PEER_HEAD) {
            require(p->head_bytes < sizeof p->head);
            p->head[p->head_bytes++] = bytes.ptr[0];
            bool is_whole = p->head_bytes >= 4 && memcmp(p->head + p->head_bytes - 4, "\r\n\r\n", 4) == 0;
            if (is_whole) peer_take_head(p);
        } else if (p->state == PEER_CHUNKS) {
            HttpFault fault;
            size_t most = (size_t)min_u64(bytes.len, sizeof decoded);
            HttpParse parse =
                http_decode_chunked(&p->chunks, decoded, bytes.ptr, most, &taken, &written, &fault);
            require(parse != HTTP_PARSE_BAD);
            p->chunks.body_bytes = 0; // a stream may be longer than the bodies that are taken
            if (parse == HTTP_PARSE_DONE) {
                p->answers++;
                p->state = PEER_HEAD;
                p->head_bytes = 0;
            }
        } else if (p->state == PEER_LENGTH) {
            taken = (size_t)min_u64(p->body_left, bytes.len);
            p->body_left -= taken;
            if (p->body_left == 0 && !p->refusals) p->answers++;
        } else {
            taken = bytes.len;
        }
        if (p->state == PEER_LENGTH && p->body_left == 0) {
            p->state = PEER_HEAD;
            p->head_bytes = 0;
        }
        bytes = str_slice(bytes, taken, bytes.len);
    }
}

// ---- the handler ----

// Zeros, as many as anything here sends.
static const char *zeros(void) {
    static const char *all;
    if (!all) all = os_reserve(HTTP_OUTPUT_BYTES_MAX + BODY_BYTES_MAX);
    require(all != NULL);
    return all;
}

static void respond(Fuzz *f, size_t body_bytes) {
    char number[16];
    const HttpRequest *request = http_exchange_request(f->exchange);
    if (!request) return;
    snprintf(number, sizeof number, "%u", f->begun);
    HttpHeader headers[] = {{STR("X-Number"), str_from_c(number)},
                            {STR("X-Method"), str_from_c(http_method_name(request->method))}};
    HttpResponse response = {.status = 200,
                             .content_type = STR("text/plain"),
                             .body = {zeros(), body_bytes},
                             .headers = headers,
                             .header_count = COUNT_OF(headers)};
    f->in_call = true;
    bool ok = http_respond(f->exchange, &response);
    f->in_call = false;
    f->completed += ok;
    if (ok) f->is_open = false;
    require(!http_respond(f->exchange, &response));
}

static void begin_stream(Fuzz *f) {
    char number[16];
    snprintf(number, sizeof number, "%u", f->begun);
    HttpHeader header = {STR("X-Number"), str_from_c(number)};
    f->in_call = true;
    (void)http_stream_begin(f->exchange, &header, 1);
    f->in_call = false;
}

static void send_events(Fuzz *f, size_t size) {
    f->in_call = true;
    (void)http_stream_send(f->exchange, (Str){zeros(), size});
    f->in_call = false;
}

static void end_stream(Fuzz *f) {
    bool streams = http_exchange_is_open(f->exchange) && f->connection.state == HTTP_CONNECTION_STREAMING;
    f->in_call = true;
    bool ok = http_stream_end(f->exchange);
    f->in_call = false;
    require(ok == streams); // it has its room in any case
    f->completed += ok;
    if (ok) f->is_open = false;
}

static void on_request(void *context, HttpExchange exchange, const HttpRequest *request) {
    Fuzz *f = context;
    require(!f->is_open && exchange.generation > f->generation);
    require(request->path.len > 0 && request->body.len <= HTTP_BODY_BYTES_MAX);
    require(++f->begun_in_turn <= HTTP_REQUESTS_A_TURN);
    f->exchange = exchange;
    f->generation = exchange.generation;
    f->is_open = true;
    f->begun++;
    if (f->answers_at_once) respond(f, request->body.len % 100);
}

static void on_head(void *context, HttpExchange exchange, const HttpRequest *request) {
    Fuzz *f = context;
    (void)request;
    require(!f->is_open && exchange.generation > f->generation);
    f->generation = exchange.generation;
    if (f->limits_bodies) http_exchange_limit_body(exchange, SHORT_BODY_BYTES);
    if (!f->refuses_heads) return;
    f->exchange = exchange;
    f->is_open = true;
    f->begun++;
    respond(f, 2);
}

static void on_closed(void *context, HttpExchange exchange, uint64_t tag) {
    Fuzz *f = context;
    (void)tag;
    require(f->is_open && !f->in_call && exchange.generation == f->exchange.generation);
    require(!http_exchange_is_open(exchange));
    f->is_open = false;
    f->closed++;
}

// ---- what a server does ----

static void open_connection(Fuzz *f) {
    f->shared.draining = f->has_ended = false;
    f->sent_bytes = 0;
    f->begun = f->completed = f->closed = f->begun_in_turn = 0;
    f->peer = (Peer){0};
    http_connection_open(&f->connection);
}

static void send_output(Fuzz *f) {
    HttpConnection *c = &f->connection;
    for (Str out; f->reads && (out = http_connection_output(c)).len;) {
        size_t size = (size_t)min_u64(out.len, f->reads);
        peer_read(&f->peer, str_slice(out, 0, size));
        f->reads -= size;
        http_connection_sent(c, size);
    }
}

static void settle(Fuzz *f) {
    HttpConnection *c;
    while ((c = http_shared_take_dirty(&f->shared))) {
        http_connection_advance(c);
        send_output(f);
        http_connection_advance(c);
        if (c->state == HTTP_CONNECTION_LINGERING && !c->output_shut) {
            c->output_shut = true;
            // All that was completed has come, in order.
            Peer *p = &f->peer;
            require(p->answers + (p->state == PEER_UNTIL_CLOSE) == f->completed);
        }
    }
}

// One receive, of at most `most` bytes.
static void receive(Fuzz *f, size_t most) {
    HttpConnection *c = &f->connection;
    f->begun_in_turn = 0;
    HttpRoom room = http_connection_input_room(c);
    if (http_connection_waits_for_turn(c)) {
        require(room.len == 0);
        http_connection_turn(c);
    } else if (room.len && f->sent_bytes) {
        size_t size = (size_t)min_u64(min_u64(room.len, f->sent_bytes), most);
        memcpy(room.ptr, f->sent, size);
        memmove(f->sent, f->sent + size, f->sent_bytes - size);
        f->sent_bytes -= size;
        http_connection_received(c, size);
    }
    bool is_answering = c->state == HTTP_CONNECTION_HANDLING || c->state == HTTP_CONNECTION_STREAMING;
    bool sees_end = is_answering || (room.len && f->sent_bytes == 0);
    if (f->has_ended && sees_end && !c->input_ended) http_connection_input_ended(c);
}

static void pass_ms(Fuzz *f, uint32_t ms) {
    f->shared.now_ms += ms;
    http_connection_tick(&f->connection);
}

// ---- what http_connection.h promises ----

static void check(Fuzz *f) {
    HttpConnection *c = &f->connection;
    bool is_answering = c->state == HTTP_CONNECTION_HANDLING || c->state == HTTP_CONNECTION_STREAMING;
    require(c->state != HTTP_CONNECTION_RESPONDED && c->state != HTTP_CONNECTION_FREE);
    require(f->is_open == is_answering && http_exchange_is_open(f->exchange) == is_answering);
    require((c->generation != 0) == is_answering);
    require(f->begun == f->completed + f->closed + f->is_open);
    require(c->output.size <= HTTP_OUTPUT_BYTES_MAX && c->output.start < HTTP_OUTPUT_BYTES_MAX);
    require(c->output.touched <= HTTP_OUTPUT_BYTES_MAX && http_connection_output(c).len <= c->output.size);
    require(c->parsed_end <= c->input_end && c->input_end <= HTTP_INPUT_BYTES);
    require(c->large_input || c->input_end <= HTTP_SMALL_INPUT_BYTES + HTTP_READ_BYTES);
    require(f->shared.large_bodies == c->large_input);
    HttpRoom room = http_connection_input_room(c);
    require(room.len == 0 || (room.ptr >= c->input && room.ptr + room.len <= c->input + HTTP_INPUT_BYTES));
    bool reads = c->state == HTTP_CONNECTION_HEAD || c->state == HTTP_CONNECTION_BODY ||
                 c->state == HTTP_CONNECTION_LINGERING;
    require(room.len == 0 || reads);
    require((http_connection_place(c) == HTTP_PLACE_KEPT) ==
            (is_answering || c->state == HTTP_CONNECTION_CLOSED));
    if (c->state == HTTP_CONNECTION_CLOSED) return;
    // Whatever it waits for has an end, but for the handler.
    bool has_deadline =
        c->deadline_ms != UINT64_MAX || (c->output.size && c->write_deadline_ms != UINT64_MAX);
    require(has_deadline || is_answering);
    require(f->peer.answers <= f->completed);
}

static void replace_closed(Fuzz *f) {
    if (f->connection.state != HTTP_CONNECTION_CLOSED) return;
    http_connection_release(&f->connection);
    open_connection(f);
}

// ---- actions ----

static void peer_sends(Fuzz *f) {
    static const char *const pieces[] = {
        "GET /a HTTP/1.1\r\nHost: h\r\n\r\n",
        "GET /b HTTP/1.1\r\nHost: h\r\n\r\nGET /c HTTP/1.1\r\nHost: h\r\n\r\nGET /d HTTP/1.1\r\nHost: "
        "h\r\n\r\n",
        "GET /e HT",
        "HEAD /f HTTP/1.1\r\nHost: h\r\n\r\n",
        "GET /g HTTP/1.0\r\n\r\n",
        "GET /h HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n",
        "POST /i HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello",
        "POST /j HTTP/1.1\r\nHost: h\r\nContent-Length: 600000\r\n\r\n",
        "POST /k HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        "POST /l HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n90000\r\n",
        "POST /m HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 9\r\n\r\n",
        "\r\n",
        "nonsense\r\n",
        "0\r\n\r\n",
    };
    uint8_t choice = next_byte(f);
    if (choice < 2 * COUNT_OF(pieces)) {
        Str piece = str_from_c(pieces[choice / 2]);
        size_t size = choice % 2 ? next_byte(f) % (piece.len + 1) : piece.len; // whole, or cut
        if (f->sent_bytes + size > sizeof f->sent || f->has_ended) return;
        memcpy(f->sent + f->sent_bytes, piece.ptr, size);
        f->sent_bytes += size;
        return;
    }
    // Many bytes of a kind, or some of the input's own.
    bool own = choice & 1;
    size_t size = own ? next_byte(f) % 64 : (size_t)next_byte(f) * 1000;
    if (own) size = (size_t)min_u64(size, (uint64_t)(f->end - f->at));
    if (f->sent_bytes + size > sizeof f->sent || f->has_ended) return;
    if (own) memcpy(f->sent + f->sent_bytes, f->at, size), f->at += size;
    else memset(f->sent + f->sent_bytes, 'x', size);
    f->sent_bytes += size;
}

// A length that leaves `less` bytes or so of the output's room, or one that is small.
static size_t some_bytes(Fuzz *f) {
    uint8_t choice = next_byte(f);
    size_t less = next_byte(f);
    size_t room = http_output_room(&f->connection.output);
    if (choice < 64) return room > 600 + less ? room - 600 - less : less;
    if (choice < 128) return room > less ? room - less : less;
    if (choice < 192) return less;
    return less * 4000;
}

static void act(Fuzz *f) {
    static const uint32_t times_ms[] = {1, 100, 999, 1999, 10000, 15000, 30000, 60000};
    HttpConnection *c = &f->connection;
    uint8_t action = next_byte(f);
    switch (action % 16) {
    case 0:
    case 1: peer_sends(f); break;
    case 2:
    case 3: receive(f, 1 + (size_t)next_byte(f) * (action & 16 ? 1 : 500)); break;
    case 4: f->reads = next_byte(f); break;
    case 5: f->reads = SIZE_MAX; break;
    case 6: f->reads = 0; break;
    case 7: pass_ms(f, times_ms[next_byte(f) % COUNT_OF(times_ms)]); break;
    case 8: respond(f, some_bytes(f)); break;
    case 9: begin_stream(f); break;
    case 10: send_events(f, some_bytes(f)); break;
    case 11: end_stream(f); break;
    case 12:
        f->answers_at_once = action & 16;
        f->refuses_heads = action & 32;
        f->limits_bodies = action & 64;
        break;
    case 13: f->has_ended = true; break;
    case 14:
        if (next_byte(f) < 32) http_connection_drop(c);
        break;
    default:
        if (next_byte(f) < 8) f->shared.draining = true;
        break;
    }
    if (f->reads && c->output.size) http_connection_mark_dirty(c);
    settle(f);
    check(f);
    replace_closed(f);
}

// Whatever was before: answered, or left alone, it ends, and nothing stays behind.
static void wind_down(Fuzz *f) {
    HttpConnection *c = &f->connection;
    f->reads = 0;
    if (f->is_open && f->connection.state == HTTP_CONNECTION_HANDLING) respond(f, 1);
    else end_stream(f);
    settle(f);
    for (int i = 0; i < 2000 && c->state != HTTP_CONNECTION_CLOSED; i++) {
        f->answers_at_once = true;
        receive(f, HTTP_READ_BYTES);
        settle(f);
        pass_ms(f, HTTP_TICK_MS);
        settle(f);
        if (c->state != HTTP_CONNECTION_CLOSED) check(f);
    }
    require(c->state == HTTP_CONNECTION_CLOSED && !f->is_open && f->shared.large_bodies == 0);
    require(f->begun == f->completed + f->closed);
    http_connection_release(c);
}

void fuzz_connection(const uint8_t *data, size_t size) {
    static Fuzz fuzz;
    static GuardedMemory input, output;
    if (size > FUZZ_INPUT_BYTES_MAX) return;
    if (!input.begin) {
        input = guard_allocate(HTTP_INPUT_BYTES);
        output = guard_allocate(HTTP_OUTPUT_BYTES_MAX);
    }
    HttpHandler handler = {
        .context = &fuzz, .on_head = on_head, .on_request = on_request, .on_closed = on_closed};
    fuzz.at = data;
    fuzz.end = data + size;
    fuzz.is_open = fuzz.answers_at_once = fuzz.refuses_heads = fuzz.limits_bodies = false;
    fuzz.generation = 0;
    fuzz.reads = 0;
    fuzz.exchange = (HttpExchange){0};
    http_shared_init(&fuzz.shared, &handler, &(HttpTimeouts){0});
    http_connection_init(&fuzz.connection, &fuzz.shared, (char *)input.begin, (char *)output.begin);
    fuzz.shared.now_ms = 1000;
    open_connection(&fuzz);
    while (fuzz.at < fuzz.end)
        act(&fuzz);
    wind_down(&fuzz);
}
