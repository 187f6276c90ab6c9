// One HTTP connection with invented time: responses, streams, timeouts, closing, and exchanges that outlive
// their request.
#include "runner.h"

#include "http/sse.h"
#include "http_harness.h"
#include "os/os.h"

#include <stdio.h>

#define GET "GET / HTTP/1.1\r\nHost: h\r\n"
#define POST "POST / HTTP/1.1\r\nHost: h\r\n"

static const HttpResponse response_ok = {
    .status = 200, .content_type = {"text/plain", 10}, .body = {"fine", 4}};

static HttpConnectionState state(const Harness *h) {
    return h->connection.state;
}

// ---- responses ----

TEST(http_response_text) {
    Harness *h = harness_open(NULL);
    memcpy(h->shared.date, "Sun, 06 Nov 1994 08:49:37 GMT", 30);
    h->answer = ANSWER_LATER;
    harness_feed(h, STR(GET "\r\n"), 100);
    HttpHeader headers[] = {{STR("X-Correlation-Id"), STR("a\r\nX-Evil: 1\t\x7F")},
                            {STR("Allow"), STR("POST")}};
    HttpResponse response = response_ok;
    response.status = 405;
    response.headers = headers;
    response.header_count = 2;
    CHECK(http_respond(h->exchange, &response));
    harness_settle(h, true);
    CHECK_STR_EQ("HTTP/1.1 405 Method Not Allowed\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\nContent-Type: "
                 "text/plain\r\n"
                 "Content-Length: 4\r\nX-Correlation-Id: a??X-Evil: 1??\r\nAllow: POST\r\n\r\nfine",
                 h->sent_text);
    CHECK_INT_EQ(HTTP_CONNECTION_HEAD, state(h));
}

// Those of all errors, and 429, which clients of some routes get where others get 503.
TEST(http_response_statuses_have_reasons) {
    Harness *h = harness_open(NULL);
    for (ErrCode code = ERR_NONE + 1; code <= ERR_COUNT; code++) {
        HttpResponse response = response_ok;
        response.status = code < ERR_COUNT ? (uint16_t)error_info(code)->http_status : 429;
        if (response.status == 0) continue; // of a command, never sent
        TEST_CASE_LABEL("%u", response.status);
        harness_reopen(h);
        h->answer = ANSWER_LATER;
        harness_feed(h, STR(GET "\r\n"), 100);
        CHECK(http_respond(h->exchange, &response));
        harness_settle(h, true);
        CHECK(strcspn(h->sent_text, "\r") > strlen("HTTP/1.1 429 "));
    }
}

TEST(http_response_to_head_has_no_body) {
    Harness *h = harness_open(NULL);
    harness_feed(h, STR("HEAD / HTTP/1.1\r\nHost: h\r\n\r\n"), 100);
    CHECK(strstr(h->sent_text, "Content-Length: 2\r\n"));
    CHECK(str_ends_with(strbuf_str(&h->sent), STR("\r\n\r\n")));
}

TEST(http_response_says_how_the_connection_goes_on) {
    static const struct {
        const char *name, *request, *header;
    } rows[] = {
        {"1.1", GET "\r\n", NULL},
        {"1.1 close", GET "Connection: close\r\n\r\n", "\r\nConnection: close\r\n"},
        {"1.0", "GET / HTTP/1.0\r\n\r\n", "\r\nConnection: close\r\n"},
        {"1.0 keep-alive", "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
         "\r\nConnection: keep-alive\r\n"},
    };
    Harness *h = harness_open(NULL);
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        TEST_CASE_LABEL("%s", rows[i].name);
        harness_reopen(h);
        harness_feed(h, str_from_c(rows[i].request), 100);
        CHECK_INT_EQ(rows[i].header != NULL, strstr(h->sent_text, "\r\nConnection: ") != NULL);
        if (rows[i].header) CHECK(strstr(h->sent_text, rows[i].header));
    }
}

TEST(http_response_only_once) {
    Harness *h = harness_open(NULL);
    h->answer = ANSWER_LATER;
    harness_feed(h, STR(GET "\r\n"), 100);
    HttpExchange first = h->exchange;
    CHECK(http_exchange_is_open(first));
    CHECK(http_exchange_request(first) == &h->connection.request);
    CHECK(http_respond(first, &response_ok));
    CHECK(!http_respond(first, &response_ok));
    CHECK(!http_stream_begin(first, NULL, 0));
    CHECK(!http_exchange_is_open(first));
    CHECK(http_exchange_request(first) == NULL);
    harness_settle(h, true);
    // The same connection, another request: the old handle must not reach it.
    harness_feed(h, STR(GET "\r\n"), 100);
    CHECK(http_exchange_is_open(h->exchange));
    CHECK(!http_respond(first, &response_ok));
    CHECK(!http_stream_send(first, STR("x")));
    CHECK(!http_exchange_is_open((HttpExchange){0}));
    CHECK_STR_EQ("200", harness_statuses(h));
}

TEST(http_pipelined_requests_wait_for_their_turn) {
    Harness *h = harness_open(NULL);
    h->answer = ANSWER_LATER;
    harness_feed(h, STR(GET "\r\n" GET "\r\n" GET "\r\n"), 1000);
    for (uint32_t n = 1; n <= 3; n++) {
        CHECK_INT_EQ(n, h->requests);
        CHECK_INT_EQ(0, http_connection_input_room(&h->connection).len);
        CHECK(http_respond(h->exchange, &response_ok));
        harness_settle(h, true);
    }
    CHECK_STR_EQ("200 200 200", harness_statuses(h));
    CHECK_INT_EQ(3, h->requests);
}

// One request a turn; between two turns nothing more is read.
TEST(http_pipelined_requests_take_turns) {
    Harness *h = harness_open(NULL);
    HttpConnection *c = &h->connection;
    Str sent = STR(GET "\r\n" GET "\r\n" POST "Content-Length: 2\r\n\r\nhi" GET "\r\n" GET);
    memcpy(http_connection_input_room(c).ptr, sent.ptr, sent.len);
    http_connection_received(c, sent.len);
    for (uint32_t n = 1; n <= 4; n++) {
        http_connection_advance(c); // as often as one likes: it is no turn
        CHECK_INT_EQ(n, h->requests);
        CHECK(http_connection_waits_for_turn(c));
        CHECK_INT_EQ(0, http_connection_input_room(c).len);
        http_connection_turn(c);
    }
    CHECK_INT_EQ(4, h->requests);
    CHECK(!http_connection_waits_for_turn(c)); // half a head is looked at, and waits for its rest
    CHECK(http_connection_input_room(c).len > 0);
}

// A client that sends requests without taking the answers makes them wait, and its connection stays bounded.
TEST(http_pipelined_answers_are_bounded) {
    Harness *h = harness_open(NULL);
    static char requests[HTTP_READ_BYTES];
    size_t each = sizeof(GET "\r\n") - 1, count = sizeof requests / each;
    for (size_t i = 0; i < count; i++)
        memcpy(requests + i * each, GET "\r\n", each);
    for (int round = 0; round < 100; round++) {
        HttpRoom room = http_connection_input_room(&h->connection);
        if (room.len < count * each) break;
        memcpy(room.ptr, requests, count * each);
        http_connection_received(&h->connection, count * each);
        harness_settle(h, false);
    }
    CHECK(h->connection.output.size <= 80 * 1024);
    CHECK_INT_EQ(0, http_connection_input_room(&h->connection).len);
    uint32_t before = h->requests;
    http_connection_mark_dirty(&h->connection);
    harness_settle(h, true);
    CHECK(h->requests > before);
}

TEST(http_continue_is_sent_when_the_body_is_awaited) {
    Harness *h = harness_open(NULL);
    harness_feed(h, STR(POST "Content-Length: 2\r\nExpect: 100-Continue\r\n\r\n"), 100);
    CHECK_STR_EQ("HTTP/1.1 100 Continue\r\n\r\n", h->sent_text);
    harness_feed(h, STR("hi"), 100);
    CHECK_STR_EQ("100 200", harness_statuses(h));
    harness_reopen(h);
    harness_feed(h, STR(POST "Content-Length: 2\r\nExpect: 100-continue\r\n\r\nhi"), 100);
    CHECK_STR_EQ("200", harness_statuses(h));
    harness_reopen(h);
    harness_feed(h, STR(POST "Content-Length: 99999999\r\nExpect: 100-continue\r\n\r\n"), 100);
    CHECK_STR_EQ("413", harness_statuses(h));
}

// ---- streams ----

TEST(http_stream_is_chunked_and_leaves_the_connection_usable) {
    Harness *h = harness_open(NULL);
    h->answer = ANSWER_LATER;
    harness_feed(h, STR(GET "\r\n" GET "\r\n"), 1000);
    HttpHeader header = {STR("X-Correlation-Id"), STR("c-1")};
    CHECK(http_stream_begin(h->exchange, &header, 1));
    CHECK(!http_stream_begin(h->exchange, NULL, 0));
    CHECK(!http_respond(h->exchange, &response_ok));
    char memory[64];
    StrBuf event = STRBUF(memory);
    JsonWriter w = sse_event_begin(&event, "token");
    json_put_str(&w, STR("a\nb"));
    sse_event_end(&event);
    CHECK(http_stream_send(h->exchange, strbuf_str(&event)));
    CHECK(http_stream_send(h->exchange, (Str){0})); // no chunk of size 0, which would end it
    CHECK(http_stream_send(h->exchange, STR("0123456789abcdef0")));
    CHECK(http_stream_end(h->exchange));
    CHECK(!http_stream_send(h->exchange, STR("x")));
    CHECK(!http_stream_end(h->exchange));
    harness_settle(h, true);
    CHECK_STR_EQ(
        "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\nCache-Control: no-store\r\n"
        "X-Accel-Buffering: no\r\nTransfer-Encoding: chunked\r\nX-Correlation-Id: c-1\r\n\r\n"
        "1b\r\nevent: token\ndata: \"a\\nb\"\n\n\r\n11\r\n0123456789abcdef0\r\n0\r\n\r\n",
        h->sent_text);
    CHECK_INT_EQ(2, h->requests);
    CHECK_INT_EQ(0, h->closed);
}

TEST(http_stream_in_http10_ends_with_the_connection) {
    Harness *h = harness_open(NULL);
    h->answer = ANSWER_LATER;
    harness_feed(h, STR("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"), 100);
    CHECK(http_stream_begin(h->exchange, NULL, 0));
    CHECK(http_stream_send(h->exchange, STR("data: 1\n\n")));
    CHECK(http_stream_end(h->exchange));
    harness_settle(h, true);
    CHECK_STR_EQ(
        "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\nCache-Control: no-store\r\n"
        "X-Accel-Buffering: no\r\nConnection: close\r\n\r\ndata: 1\n\n",
        h->sent_text);
    CHECK_INT_EQ(HTTP_CONNECTION_LINGERING, state(h));
}

TEST(http_stream_sends_comments_while_quiet) {
    HttpTimeouts timeouts = {.keepalive_comment_ms = 1000};
    Harness *h = harness_open(&timeouts);
    h->answer = ANSWER_LATER;
    harness_feed(h, STR(GET "\r\n"), 100);
    CHECK(http_stream_begin(h->exchange, NULL, 0));
    harness_settle(h, true);
    size_t head = h->sent.len;
    harness_pass_ms(h, 999);
    CHECK_INT_EQ(head, h->sent.len);
    harness_pass_ms(h, 1);
    CHECK_STR_EQ("e\r\n: keep-alive\n\n\r\n", h->sent_text + head);
    CHECK(http_stream_send(h->exchange, STR("data: 1\n\n")));
    harness_settle(h, true);
    head = h->sent.len;
    harness_pass_ms(h, 999);
    CHECK_INT_EQ(head, h->sent.len);
    harness_pass_ms(h, 1);
    CHECK(h->sent.len > head);
}

TEST(http_stream_of_a_slow_reader_is_lost_alone) {
    Harness *h = harness_open(NULL);
    h->answer = ANSWER_LATER;
    harness_feed(h, STR(GET "\r\n"), 100);
    http_exchange_set_tag(h->exchange, 42);
    CHECK_U64_EQ(42, http_exchange_tag(h->exchange));
    CHECK(http_stream_begin(h->exchange, NULL, 0));
    static char event[1000];
    memset(event, 'x', sizeof event);
    size_t sent = 0;
    while (http_stream_send(h->exchange, (Str){event, sizeof event})) {
        harness_settle(h, false);
        sent += sizeof event;
        REQUIRE(sent < 2 * HTTP_STREAM_BEHIND_MAX);
    }
    CHECK(sent > HTTP_STREAM_BEHIND_MAX - 20 * 1024);
    CHECK_INT_EQ(0, h->closed); // never from within the handler's own call
    CHECK(!http_exchange_is_open(h->exchange));
    CHECK(!http_stream_end(h->exchange));
    harness_settle(h, false);
    CHECK_INT_EQ(1, h->closed);
    CHECK_U64_EQ(42, h->closed_tag);
    CHECK_INT_EQ(HTTP_CONNECTION_CLOSED, state(h));
    CHECK_INT_EQ(1, h->shared.lost_responses);
}

// Sends one piece that leaves just enough room for the end of the stream, and the end.
static void fill_output(bool (*send)(HttpExchange exchange, Str events), size_t most) {
    Harness *h = harness_open(NULL);
    char *bytes = os_reserve(HTTP_OUTPUT_BYTES_MAX);
    REQUIRE(bytes != NULL);
    memset(bytes, 'y', most);
    for (size_t less = 0; less < 400; less++) {
        harness_reopen(h);
        h->answer = ANSWER_LATER;
        harness_feed(h, STR(GET "\r\n"), 100);
        CHECK(http_stream_begin(h->exchange, NULL, 0));
        if (!send(h->exchange, (Str){bytes, most - less})) continue;
        CHECK(http_stream_end(h->exchange));
        size_t total = 0;
        for (Str out; (out = http_connection_output(&h->connection)).len; total += out.len) {
            http_connection_sent(&h->connection, out.len);
        }
        CHECK(total > most - less && total <= most);
        return;
    }
    FAIL("nothing fits");
}

// Room for the end of the stream is always kept, however full the output is.
TEST(http_stream_fills_the_output_to_the_last_byte) {
    fill_output(http_stream_send, HTTP_STREAM_BEHIND_MAX);
    fill_output(http_stream_send_whole, HTTP_OUTPUT_BYTES_MAX);
}

// Pieces of changing size go in, pieces of another size come out, and the ring never runs empty in between.
TEST(http_output_wraps_around) {
    Harness *h = harness_open(NULL);
    h->answer = ANSWER_LATER;
    harness_feed(h, STR(GET "\r\n"), 100);
    CHECK(http_stream_begin(h->exchange, NULL, 0));
    harness_settle(h, true);
    HttpChunkedDecoder decoder = {0};
    uint64_t written = 0, checked = 0;
    h->connection.output.start = HTTP_OUTPUT_BYTES_MAX - 64 * 1024; // so that it does soon
    static char piece[5000], decoded[3333];
    for (size_t round = 0; round < 3000; round++) {
        size_t size = 1000 + round * 37 % 4000;
        for (size_t i = 0; i < size; i++)
            piece[i] = (char)('a' + (written + i) % 26);
        REQUIRE(http_stream_send(h->exchange, (Str){piece, size}));
        written += size;
        while (h->connection.output.size > 500 * 1024) {
            Str out = http_connection_output(&h->connection);
            size_t part = (size_t)min_u64(out.len, sizeof decoded), consumed, got;
            HttpFault fault;
            REQUIRE(http_decode_chunked(&decoder, decoded, out.ptr, part, &consumed, &got, &fault) ==
                    HTTP_PARSE_INCOMPLETE);
            for (size_t i = 0; i < got; i++, checked++)
                REQUIRE(decoded[i] == (char)('a' + checked % 26));
            http_connection_sent(&h->connection, part);
        }
    }
    CHECK(checked > 4 * HTTP_STREAM_BEHIND_MAX);
    CHECK(h->connection.output.start < HTTP_OUTPUT_BYTES_MAX - 64 * 1024); // it has wrapped
}

// ---- the client goes ----

TEST(http_client_gone_is_told_to_the_handler) {
    static const struct {
        const char *name;
        bool streams, broken;
    } rows[] = {
        {"FIN while waiting", false, false},
        {"FIN while streaming", true, false},
        {"reset while waiting", false, true},
        {"reset while streaming", true, true},
    };
    Harness *h = harness_open(NULL);
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        TEST_CASE_LABEL("%s", rows[i].name);
        harness_reopen(h);
        h->answer = ANSWER_LATER;
        harness_feed(h, STR(GET "\r\n"), 100);
        if (rows[i].streams) CHECK(http_stream_begin(h->exchange, NULL, 0));
        http_exchange_set_tag(h->exchange, 7);
        if (rows[i].broken) http_connection_drop(&h->connection);
        else http_connection_input_ended(&h->connection);
        CHECK(!http_stream_send(h->exchange, STR("x")));
        CHECK(!http_respond(h->exchange, &response_ok));
        harness_settle(h, true);
        CHECK_INT_EQ(1, h->closed);
        CHECK_U64_EQ(7, h->closed_tag);
        CHECK_INT_EQ(HTTP_CONNECTION_CLOSED, state(h));
        harness_settle(h, true);
        http_connection_advance(&h->connection);
        CHECK_INT_EQ(1, h->closed);
    }
}

// printf 'GET …' | nc: the FIN comes right behind the request, and the answer must still go out.
TEST(http_client_that_half_closes_gets_a_complete_answer) {
    Harness *h = harness_open(NULL);
    harness_feed(h, STR(GET "\r\n" GET "\r\n"), 1000);
    http_connection_input_ended(&h->connection);
    harness_settle(h, true);
    CHECK_STR_EQ("200 200", harness_statuses(h));
    CHECK_INT_EQ(HTTP_CONNECTION_CLOSED, state(h));
    CHECK_INT_EQ(0, h->closed);
}

TEST(http_client_that_ends_in_the_middle_is_closed) {
    static const char *const rows[] = {"", "GET", GET, POST "Content-Length: 5\r\n\r\nhell",
                                       POST "Transfer-Encoding: chunked\r\n\r\n5\r\nhe"};
    Harness *h = harness_open(NULL);
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        TEST_CASE_LABEL("%s", rows[i]);
        harness_reopen(h);
        harness_feed(h, str_from_c(rows[i]), 1000);
        http_connection_input_ended(&h->connection);
        harness_settle(h, true);
        CHECK_INT_EQ(HTTP_CONNECTION_CLOSED, state(h));
        CHECK_INT_EQ(0, h->sent.len);
        CHECK_INT_EQ(0, h->requests);
    }
}

// ---- time ----

TEST(http_timeouts) {
    HttpTimeouts timeouts = {
        .header_timeout_ms = 1000, .body_timeout_ms = 3000, .idle_timeout_ms = 5000, .linger_ms = 200};
    static const struct {
        const char *name, *sent;
        uint32_t lasts_ms; // nothing happens before
        const char *statuses;
        HttpConnectionState after;
    } rows[] = {
        {"silent from the start", "", 1000, "", HTTP_CONNECTION_CLOSED},
        {"part of a start line", "GE", 1000, "408", HTTP_CONNECTION_LINGERING},
        {"empty line only", "\r\n", 1000, "408", HTTP_CONNECTION_LINGERING},
        {"part of a head", GET, 1000, "408", HTTP_CONNECTION_LINGERING},
        {"no body", POST "Content-Length: 5\r\n\r\n", 3000, "408", HTTP_CONNECTION_LINGERING},
        {"part of a body", POST "Content-Length: 5\r\n\r\nhell", 3000, "408", HTTP_CONNECTION_LINGERING},
        {"part of a chunked body", POST "Transfer-Encoding: chunked\r\n\r\n5\r\nh", 3000, "408",
         HTTP_CONNECTION_LINGERING},
        {"idle after a request", GET "\r\n", 5000, "200", HTTP_CONNECTION_CLOSED},
        {"part of a second head", GET "\r\nGET", 1000, "200 408", HTTP_CONNECTION_LINGERING},
        {"lingering after an error", "nonsense\r\n", 200, "400", HTTP_CONNECTION_CLOSED},
    };
    Harness *h = harness_open(&timeouts);
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        TEST_CASE_LABEL("%s", rows[i].name);
        harness_reopen(h);
        harness_feed(h, str_from_c(rows[i].sent), 1000);
        HttpConnectionState before = state(h);
        harness_pass_ms(h, rows[i].lasts_ms - 1);
        CHECK_INT_EQ(before, state(h));
        harness_pass_ms(h, 1);
        CHECK_INT_EQ(rows[i].after, state(h));
        CHECK_STR_EQ(rows[i].statuses, harness_statuses(h));
    }
}

// A stream that nobody reads fills the output to the last bytes; then something comes on a timer.
TEST(http_timeouts_where_nothing_fits) {
    static const struct {
        const char *name, *sent; // behind the request for the stream
        uint32_t after_ms;
    } rows[] = {
        {"408 for a head", "GET /next HT", HTTP_HEADER_TIMEOUT_MS},
        {"408 for an empty line", "\r\n", HTTP_HEADER_TIMEOUT_MS},
        {"nobody reads", "", HTTP_WRITE_TIMEOUT_MS},
    };
    const char *bytes = os_reserve(HTTP_OUTPUT_BYTES_MAX);
    REQUIRE(bytes != NULL);
    Harness *h = harness_open(NULL);
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        for (size_t left = 0; left < 700; left++) {
            TEST_CASE_LABEL("%s, %zu bytes left", rows[i].name, left);
            harness_reopen(h);
            h->shared.lost_responses = 0;
            h->answer = ANSWER_LATER;
            char sent[256];
            snprintf(sent, sizeof sent, GET "\r\n%s", rows[i].sent);
            harness_feed(h, str_from_c(sent), sizeof sent);
            REQUIRE(http_stream_begin(h->exchange, NULL, 0));
            size_t frame = sizeof "fffff\r\n" - 1 + sizeof "\r\n0\r\n\r\n" - 1;
            size_t size = http_output_room(&h->connection.output) - frame - left;
            if (!http_stream_send(h->exchange, (Str){bytes, size})) continue;
            REQUIRE(http_stream_end(h->exchange));
            harness_settle(h, false);
            REQUIRE(state(h) == HTTP_CONNECTION_HEAD);
            h->shared.now_ms += rows[i].after_ms;
            http_connection_tick(&h->connection);
            harness_settle(h, false);
            bool fits = state(h) == HTTP_CONNECTION_CLOSING;
            CHECK(fits || state(h) == HTTP_CONNECTION_CLOSED);
            CHECK_INT_EQ(!fits, h->shared.lost_responses);
        }
    }
}

// A byte now and then does not put the end off.
TEST(http_timeout_of_a_header_that_trickles) {
    HttpTimeouts timeouts = {.header_timeout_ms = 1000};
    Harness *h = harness_open(&timeouts);
    for (int i = 0; i < 11 && state(h) == HTTP_CONNECTION_HEAD; i++) {
        harness_feed(h, STR("G"), 1);
        harness_pass_ms(h, 100);
    }
    CHECK_STR_EQ("408", harness_statuses(h));
}

TEST(http_timeout_of_a_reader_that_takes_nothing) {
    HttpTimeouts timeouts = {.write_timeout_ms = 1000};
    Harness *h = harness_open(&timeouts);
    h->answer = ANSWER_LATER;
    harness_feed(h, STR(GET "\r\n"), 100);
    CHECK(http_stream_begin(h->exchange, NULL, 0));
    for (int i = 0; i < 5; i++) { // a little progress is enough
        h->shared.now_ms += 900;
        http_connection_tick(&h->connection);
        REQUIRE(state(h) == HTTP_CONNECTION_STREAMING);
        http_connection_sent(&h->connection, 1);
    }
    h->shared.now_ms += 1000;
    http_connection_tick(&h->connection);
    harness_settle(h, false);
    CHECK_INT_EQ(1, h->closed);
    CHECK_INT_EQ(HTTP_CONNECTION_CLOSED, state(h));
}

TEST(http_request_in_progress_has_no_timeout) {
    Harness *h = harness_open(NULL);
    h->answer = ANSWER_LATER;
    harness_feed(h, STR(GET "\r\n"), 100);
    harness_pass_ms(h, 3600 * 1000);
    CHECK(http_exchange_is_open(h->exchange));
}

// ---- bounds that connections share ----

// What gives place when there is none left: whatever is not being answered, what is closing first.
TEST(http_places) {
    static const struct {
        const char *name, *sent;
        bool reads; // the client takes what it gets
        HttpConnectionState state;
        HttpPlace place;
    } rows[] = {
        {"new", "", true, HTTP_CONNECTION_HEAD, HTTP_PLACE_OF_IDLE},
        {"idle", GET "\r\n", true, HTTP_CONNECTION_HEAD, HTTP_PLACE_OF_IDLE},
        {"answer unread", GET "\r\n", false, HTTP_CONNECTION_HEAD, HTTP_PLACE_OF_UNFINISHED},
        {"half a head", GET, true, HTTP_CONNECTION_HEAD, HTTP_PLACE_OF_UNFINISHED},
        {"half a body", POST "Content-Length: 2\r\n\r\nh", true, HTTP_CONNECTION_BODY,
         HTTP_PLACE_OF_UNFINISHED},
        {"lingering", GET "Connection: close\r\n\r\n", true, HTTP_CONNECTION_LINGERING,
         HTTP_PLACE_OF_LINGERING},
        {"last answer unread", GET "Connection: close\r\n\r\n", false, HTTP_CONNECTION_CLOSING,
         HTTP_PLACE_OF_CLOSING},
        {"refusal unread", "BAD\r\n\r\n", false, HTTP_CONNECTION_CLOSING, HTTP_PLACE_OF_CLOSING},
    };
    Harness *h = harness_open(NULL);
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        TEST_CASE_LABEL("%s", rows[i].name);
        harness_reopen(h);
        Str sent = str_from_c(rows[i].sent);
        memcpy(http_connection_input_room(&h->connection).ptr, sent.ptr, sent.len);
        if (sent.len) http_connection_received(&h->connection, sent.len);
        harness_settle(h, rows[i].reads);
        CHECK_INT_EQ(rows[i].state, state(h));
        CHECK_INT_EQ(rows[i].place, http_connection_place(&h->connection));
    }
    harness_reopen(h);
    h->answer = ANSWER_LATER;
    harness_feed(h, STR(GET "\r\n"), 100);
    CHECK_INT_EQ(HTTP_PLACE_KEPT, http_connection_place(&h->connection));
    CHECK(http_stream_begin(h->exchange, NULL, 0));
    CHECK_INT_EQ(HTTP_PLACE_KEPT, http_connection_place(&h->connection));
}

TEST(http_large_bodies_are_bounded_in_number) {
    Harness *h = harness_open(NULL);
    h->shared.large_bodies = HTTP_LARGE_BODIES_MAX;
    harness_feed(h, STR(POST "Content-Length: 600000\r\n\r\n"), 100);
    CHECK_STR_EQ("503", harness_statuses(h));
    CHECK(strstr(h->sent_text, "Retry-After: 1\r\n"));
    CHECK(strstr(h->sent_text, "\"code\":\"BUSY\""));
    CHECK(strstr(h->sent_text, "\"retriable\":true"));
    harness_reopen(h);
    h->shared.large_bodies = HTTP_LARGE_BODIES_MAX;
    harness_feed(h, STR(POST "Content-Length: 400000\r\n\r\n"), 100);
    CHECK_INT_EQ(HTTP_CONNECTION_BODY, state(h));
    // A chunked body does not say beforehand.
    harness_reopen(h);
    h->shared.large_bodies = HTTP_LARGE_BODIES_MAX;
    static char data[600 * 1000];
    memset(data, 'z', sizeof data);
    harness_feed(h, STR(POST "Transfer-Encoding: chunked\r\n\r\n900000\r\n"), 100);
    harness_feed(h, (Str){data, sizeof data}, 5000);
    CHECK_STR_EQ("503", harness_statuses(h));
    CHECK(h->connection.input_touched <= HTTP_SMALL_INPUT_BYTES + HTTP_READ_BYTES);
    // Each way out gives the permission back.
    static const char *const ways[] = {"answered", "dropped", "timed out", "ended"};
    for (size_t i = 0; i < COUNT_OF(ways); i++) {
        TEST_CASE_LABEL("%s", ways[i]);
        harness_reopen(h);
        harness_feed(h, STR(POST "Content-Length: 600000\r\n\r\n"), 100);
        CHECK_INT_EQ(1, h->shared.large_bodies);
        if (i == 0) harness_feed(h, (Str){data, sizeof data}, 5000);
        if (i == 1) http_connection_drop(&h->connection);
        if (i == 2) harness_pass_ms(h, HTTP_BODY_TIMEOUT_MS);
        if (i == 3) http_connection_input_ended(&h->connection);
        harness_settle(h, true);
        CHECK_INT_EQ(0, h->shared.large_bodies);
    }
}

TEST(http_draining_closes_after_the_answer) {
    Harness *h = harness_open(NULL);
    h->shared.draining = true;
    harness_feed(h, STR(GET "\r\n" GET "\r\n"), 1000);
    CHECK_STR_EQ("200", harness_statuses(h));
    CHECK(strstr(h->sent_text, "Connection: close\r\n"));
    CHECK_INT_EQ(HTTP_CONNECTION_LINGERING, state(h));
    h->shared.draining = false;
}

TEST(http_response_too_large_loses_the_connection) {
    Harness *h = harness_open(NULL);
    h->answer = ANSWER_LATER;
    harness_feed(h, STR(GET "\r\n"), 100);
    HttpResponse response = response_ok;
    response.body = (Str){os_reserve(HTTP_OUTPUT_BYTES_MAX), HTTP_OUTPUT_BYTES_MAX};
    REQUIRE(response.body.ptr != NULL);
    CHECK(!http_respond(h->exchange, &response));
    harness_settle(h, true);
    CHECK_INT_EQ(1, h->closed);
    CHECK_INT_EQ(0, h->sent.len);
}
