// The HTTP server over real sockets on the loopback interface, with its own thread.
#include "runner.h"

#include "http/http_client.h"
#include "http/http_server.h"
#include "os/os.h"
#include "os/os_net.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>

enum { ARENA_BYTES = 8 << 20, REPLY_BYTES = 64 * 1024, PATIENCE_MS = 60 * 1000 };

#define GET(path) "GET " path " HTTP/1.1\r\nHost: h\r\n\r\n"

// ---- a server that a test can talk to ----

typedef struct {
    HttpServer *server;
    OsThread thread;
    HttpExchange stream; // of the newest /stream or /flood
    atomic_uint requests;
    atomic_uint closed;
    atomic_uint wakes;
    atomic_uint pending_wakes;
    atomic_bool stop;
    atomic_uint stop_grace_ms;
    bool floods;
    char order[8192]; // the second characters of the paths asked for, in turn
    uint32_t then_at; // with so many requests answered, …
    int then_fd;      // … this client asks for /q
} Service;

static void raw_send(int fd, const char *text) {
    Str bytes = str_from_c(text);
    size_t sent = 0;
    REQUIRE(os_net_send(fd, bytes, &sent) == OS_NET_OK && sent == bytes.len);
}

static void answer(HttpExchange exchange, uint16_t status, Str body) {
    HttpResponse response = {.status = status, .content_type = {"text/plain", 10}, .body = body};
    (void)http_respond(exchange, &response);
}

// /stream begins one that on_wake goes on with; /flood sends until it is lost; /never does not answer;
// anything else echoes.
static void on_request(void *context, HttpExchange exchange, const HttpRequest *request) {
    Service *s = context;
    uint32_t n = atomic_load(&s->requests);
    if (n < sizeof s->order && request->path.len > 1) s->order[n] = request->path.ptr[1];
    atomic_store(&s->requests, n + 1);
    if (s->then_at && n + 1 == s->then_at) raw_send(s->then_fd, GET("/q"));
    if (str_eq(request->path, STR("/never"))) return;
    bool floods = str_eq(request->path, STR("/flood"));
    if (floods || str_eq(request->path, STR("/stream"))) {
        s->floods = floods;
        s->stream = exchange;
        (void)http_stream_begin(exchange, NULL, 0);
        return;
    }
    answer(exchange, 200, request->body.len ? request->body : request->path);
}

static void on_closed(void *context, HttpExchange exchange, uint64_t tag) {
    Service *s = context;
    (void)exchange;
    (void)tag;
    atomic_fetch_add(&s->closed, 1);
}

// Each wake sends one event; the tenth ends the stream.
static void on_wake(void *context) {
    Service *s = context;
    uint32_t count = atomic_exchange(&s->pending_wakes, 0);
    for (uint32_t i = 0; i < count; i++) {
        uint32_t n = atomic_fetch_add(&s->wakes, 1) + 1;
        char memory[64];
        StrBuf event = STRBUF(memory);
        strbuf_printf(&event, "data: %u\n\n", n);
        (void)http_stream_send(s->stream, strbuf_str(&event));
        if (n == 10) (void)http_stream_end(s->stream);
    }
    if (atomic_load(&s->stop)) http_server_stop(s->server, atomic_load(&s->stop_grace_ms));
}

static void on_tick(void *context, uint64_t now_ms) {
    Service *s = context;
    (void)now_ms;
    static char block[100 * 1000];
    if (!s->floods) return;
    memset(block, 'x', sizeof block);
    for (int i = 0; i < 10; i++)
        (void)http_stream_send(s->stream, (Str){block, sizeof block});
}

static void *run_server(void *context) {
    Service *s = context;
    Error err;
    if (!http_server_run(s->server, &err)) FAIL("%s", err.message);
    return NULL;
}

// It listens, and takes up nobody before service_run. One a test case; each case has a process of its own.
static Service *service_open(HttpServerConfig config) {
    static Service service;
    Arena arena = os_arena(ARENA_BYTES);
    Error err;
    config.host = STR("127.0.0.1");
    config.handler = (HttpHandler){.context = &service,
                                   .on_request = on_request,
                                   .on_closed = on_closed,
                                   .on_wake = on_wake,
                                   .on_tick = on_tick};
    if (!http_server_open(&service.server, &arena, &config, &err)) FAIL("%s", err.message);
    REQUIRE(service.server != NULL);
    return &service;
}

static void service_run(Service *s) {
    Error err;
    REQUIRE(os_thread_start(&s->thread, "server", run_server, s, &err));
}

static Service *service_start(HttpServerConfig config) {
    Service *s = service_open(config);
    service_run(s);
    return s;
}

static void service_wake(Service *s) {
    atomic_fetch_add(&s->pending_wakes, 1);
    http_server_wake(s->server);
}

static void service_stop(Service *s, uint32_t grace_ms) {
    atomic_store(&s->stop_grace_ms, grace_ms);
    atomic_store(&s->stop, true);
    http_server_wake(s->server);
    os_thread_join(&s->thread);
}

static HttpServerStats service_end(Service *s) {
    service_stop(s, 1000);
    HttpServerStats stats = http_server_stats(s->server);
    CHECK_INT_EQ(0, stats.connections);
    http_server_close(s->server);
    return stats;
}

// Waits until *counter is at least `value`.
static bool reaches(atomic_uint *counter, uint32_t value) {
    for (int ms = 0; ms < PATIENCE_MS; ms++) {
        if (atomic_load(counter) >= value) return true;
        os_sleep_ms(1);
    }
    return false;
}

// ---- raw sockets: for what a proper client does not do ----

static int raw_connect(const Service *s) {
    int fd;
    Error err;
    if (!os_net_connect(STR("127.0.0.1"), http_server_port(s->server), PATIENCE_MS, &fd, &err)) {
        FAIL("%s", err.message);
        return -1;
    }
    return fd;
}

// Waits as long as it takes.
static void raw_send_all(int fd, Str bytes) {
    while (bytes.len) {
        size_t sent = 0;
        OsNetResult result = os_net_send(fd, bytes, &sent);
        if (result == OS_NET_WOULD_BLOCK) REQUIRE(os_net_wait_ready(fd, true, PATIENCE_MS));
        else REQUIRE(result == OS_NET_OK);
        bytes = str_slice(bytes, sent, bytes.len);
    }
}

typedef struct {
    char text[REPLY_BYTES];
    size_t len;
    bool ended;
} Reply;

// Receives until `until` has been seen, the server has closed, or patience ends.
static void raw_receive(int fd, Reply *reply, const char *until) {
    *reply = (Reply){0};
    while (!strstr(reply->text, until) && reply->len < sizeof reply->text - 1) {
        size_t got = 0;
        if (!os_net_wait_ready(fd, false, PATIENCE_MS)) return;
        OsNetResult result =
            os_net_receive(fd, reply->text + reply->len, sizeof reply->text - 1 - reply->len, &got);
        if (result == OS_NET_ENDED || result == OS_NET_BROKEN) {
            reply->ended = true;
            return;
        }
        reply->len += got;
    }
}

static const char no_such_text[] = "\x01"; // raw_receive then waits for the end

// ---- serving ----

TEST(http_server_keeps_connections) {
    Service *s = service_start((HttpServerConfig){0});
    static Reply reply;
    int fd = raw_connect(s);
    for (int i = 0; i < 100; i++) {
        raw_send(fd, GET("/a"));
        raw_receive(fd, &reply, "\r\n\r\n/a");
        REQUIRE(str_starts_with(str_from_c(reply.text), STR("HTTP/1.1 200 OK\r\nDate: ")));
    }
    raw_send(fd, "GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
    raw_receive(fd, &reply, no_such_text);
    CHECK(reply.ended);
    os_net_close(fd);
    CHECK_INT_EQ(1, service_end(s).connections_accepted);
}

TEST(http_server_answers_pipelined_requests_in_order) {
    Service *s = service_start((HttpServerConfig){0});
    static Reply reply;
    int fd = raw_connect(s);
    raw_send(fd, GET("/1") GET("/2") "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\n/3" GET("/4"));
    raw_receive(fd, &reply, "/4");
    const char *at = reply.text;
    for (char digit = '1'; digit <= '4'; digit++) {
        char body[] = "\r\n\r\n/0";
        body[5] = digit;
        at = strstr(at, body);
        REQUIRE(at != NULL);
    }
    os_net_close(fd);
    service_end(s);
}

TEST(http_server_takes_requests_byte_by_byte) {
    Service *s = service_start((HttpServerConfig){0});
    static Reply reply;
    int fd = raw_connect(s);
    static const char request[] = "POST /x HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
                                  "5\r\nhello\r\n0\r\n\r\n";
    for (size_t i = 0; i + 1 < sizeof request; i++)
        raw_send(fd, (char[2]){request[i], 0});
    raw_receive(fd, &reply, "hello");
    CHECK(strstr(reply.text, "\r\n\r\nhello"));
    os_net_close(fd);
    service_end(s);
}

TEST(http_server_takes_and_returns_large_bodies) {
    Service *s = service_start((HttpServerConfig){0});
    static char body[900 * 1000];
    for (size_t i = 0; i < sizeof body; i++)
        body[i] = (char)('a' + i % 23);
    Arena arena = os_arena(4 << 20);
    char url[64];
    snprintf(url, sizeof url, "http://127.0.0.1:%u/echo", http_server_port(s->server));
    HttpClientRequest request = {.method = "POST",
                                 .url = str_from_c(url),
                                 .content_type = STR("text/plain"),
                                 .body = {body, sizeof body},
                                 .timeout_ms = PATIENCE_MS};
    for (int i = 0; i < 3; i++) {
        Arena scratch = arena;
        HttpClientReply reply;
        Error err;
        if (!http_client_exchange(&request, &scratch, &reply, &err)) FAIL("%s", err.message);
        CHECK_INT_EQ(200, reply.status);
        CHECK_BYTES_EQ(body, sizeof body, reply.body.ptr, reply.body.len);
    }
    service_end(s);
}

TEST(http_server_sends_continue) {
    Service *s = service_start((HttpServerConfig){0});
    static Reply reply;
    int fd = raw_connect(s);
    raw_send(fd, "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n");
    raw_receive(fd, &reply, "\r\n\r\n");
    CHECK_STR_EQ("HTTP/1.1 100 Continue\r\n\r\n", reply.text);
    raw_send(fd, "hi");
    raw_receive(fd, &reply, "\r\n\r\nhi");
    CHECK(strstr(reply.text, "200 OK"));
    os_net_close(fd);
    service_end(s);
}

// The client is still sending its 12 MB when the answer comes; it must get to see it.
TEST(http_server_refuses_a_huge_body_audibly) {
    Service *s = service_start((HttpServerConfig){0});
    static Reply reply;
    static char block[64 * 1024];
    int fd = raw_connect(s);
    raw_send(fd, "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 12000000\r\n\r\n");
    for (size_t total = 0; total < 12000000;) {
        size_t sent = 0;
        OsNetResult result = os_net_send(fd, (Str){block, sizeof block}, &sent);
        REQUIRE(result == OS_NET_OK || result == OS_NET_WOULD_BLOCK);
        if (result == OS_NET_WOULD_BLOCK) REQUIRE(os_net_wait_ready(fd, true, PATIENCE_MS));
        total += sent;
    }
    raw_receive(fd, &reply, no_such_text);
    CHECK(str_starts_with(str_from_c(reply.text), STR("HTTP/1.1 413 ")));
    CHECK(reply.ended);
    os_net_close(fd);
    service_end(s);
}

TEST(http_server_times_slow_headers_out) {
    Service *s = service_start((HttpServerConfig){.timeouts = {.header_timeout_ms = 200}});
    static Reply reply;
    int fd = raw_connect(s);
    raw_send(fd, "GET / HT");
    raw_receive(fd, &reply, no_such_text);
    CHECK(str_starts_with(str_from_c(reply.text), STR("HTTP/1.1 408 ")));
    CHECK(reply.ended);
    os_net_close(fd);
    service_end(s);
}

// The end follows each answer at once: it does not wait for the client's.
TEST(http_server_survives_garbage) {
    Service *s = service_start((HttpServerConfig){.timeouts = {.linger_ms = 2 * PATIENCE_MS}});
    static Reply reply;
    static const char *const rows[] = {"\x16\x03\x01\x02", "\r\n\r\n", "GET / HTTP/2.0\r\n\r\n", "\xFF\xFF",
                                       "{}\r\n"};
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        TEST_CASE_LABEL("row %zu", i);
        int fd = raw_connect(s);
        raw_send(fd, rows[i]);
        raw_receive(fd, &reply, no_such_text);
        CHECK(str_starts_with(str_from_c(reply.text), STR("HTTP/1.1 ")));
        CHECK(reply.ended);
        os_net_close(fd);
    }
    CHECK_INT_EQ(0, atomic_load(&s->requests));
    service_end(s);
}

// ---- streams ----

TEST(http_server_streams_what_another_thread_announces) {
    Service *s = service_start((HttpServerConfig){0});
    char url[64];
    snprintf(url, sizeof url, "http://localhost:%u/stream", http_server_port(s->server));
    static HttpClient client;
    HttpClientReply reply;
    HttpClientRequest request = {.method = "GET", .url = str_from_c(url), .timeout_ms = PATIENCE_MS};
    Error err;
    if (!http_client_open(&client, &request, &reply, &err)) FAIL("%s", err.message);
    REQUIRE(client.socket >= 0);
    CHECK_INT_EQ(200, reply.status);
    const Str *type = http_client_reply_header(&reply, STR("content-type"));
    REQUIRE(type != NULL);
    CHECK_STR_EQ("text/event-stream; charset=utf-8", *type);
    // Each event arrives before the next one is announced.
    for (uint32_t n = 1; n <= 10; n++) {
        char text[64], expected[64];
        size_t size;
        service_wake(s);
        REQUIRE(http_client_read(&client, text, sizeof text, &size, &err));
        snprintf(expected, sizeof expected, "data: %u\n\n", n);
        CHECK_STR_EQ(expected, ((Str){text, size}));
    }
    char rest[16];
    size_t size = 1;
    CHECK(http_client_read(&client, rest, sizeof rest, &size, &err));
    CHECK_INT_EQ(0, size);
    http_client_close(&client);
    CHECK_INT_EQ(0, atomic_load(&s->closed));
    service_end(s);
}

TEST(http_server_notices_a_client_that_goes) {
    static const struct {
        const char *name, *request;
        bool reset, half;
    } rows[] = {
        {"closed while streaming", GET("/stream"), false, false},
        {"reset while streaming", GET("/stream"), true, false},
        {"half-closed while streaming", GET("/stream"), false, true},
        {"closed while waiting", GET("/never"), false, false},
        {"closed with more requests sent", GET("/never") GET("/1") GET("/2"), false, false},
    };
    Service *s = service_start((HttpServerConfig){0});
    for (uint32_t i = 0; i < COUNT_OF(rows); i++) {
        TEST_CASE_LABEL("%s", rows[i].name);
        int fd = raw_connect(s);
        raw_send(fd, rows[i].request);
        REQUIRE(reaches(&s->requests, i + 1));
        if (rows[i].half) {
            os_net_shut(fd);
        } else {
            struct linger hard = {.l_onoff = 1};
            if (rows[i].reset) REQUIRE(setsockopt(fd, SOL_SOCKET, SO_LINGER, &hard, sizeof hard) == 0);
            os_net_close(fd);
        }
        REQUIRE(reaches(&s->closed, i + 1));
        if (rows[i].half) os_net_close(fd);
    }
    service_end(s);
}

TEST(http_server_gives_up_on_a_reader_that_does_not_read) {
    Service *s = service_start((HttpServerConfig){0});
    static Reply reply;
    int fd = raw_connect(s);
    int small = 4096;
    REQUIRE(setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof small) == 0);
    raw_send(fd, GET("/flood"));
    // Others are served meanwhile, and afterwards.
    int other = raw_connect(s);
    for (int i = 0; !atomic_load(&s->closed) && i < 200; i++) {
        raw_send(other, GET("/b"));
        raw_receive(other, &reply, "\r\n\r\n/b");
        REQUIRE(reply.len > 0);
        os_sleep_ms(20);
    }
    CHECK_INT_EQ(1, atomic_load(&s->closed));
    raw_send(other, GET("/c"));
    raw_receive(other, &reply, "\r\n\r\n/c");
    CHECK(reply.len > 0);
    os_net_close(other);
    os_net_close(fd);
    CHECK_INT_EQ(1, service_end(s).responses_lost);
}

// ---- bounds ----

TEST(http_server_bounds_its_connections) {
    enum { MOST = 8 };
    Service *s = service_start((HttpServerConfig){.connections_max = MOST});
    static Reply reply;
    int fds[MOST];
    for (uint32_t i = 0; i < MOST; i++) {
        fds[i] = raw_connect(s);
        raw_send(fds[i], GET("/never"));
        REQUIRE(reaches(&s->requests, i + 1));
    }
    // All are busy: the next one is told so.
    int extra = raw_connect(s);
    raw_receive(extra, &reply, no_such_text);
    CHECK(str_starts_with(str_from_c(reply.text), STR("HTTP/1.1 503 ")));
    CHECK(strstr(reply.text, "\"retriable\":true"));
    os_net_close(extra);
    // One of them goes, another takes its place and stays idle; the one after that displaces it.
    os_net_close(fds[0]);
    REQUIRE(reaches(&s->closed, 1));
    int idle = raw_connect(s);
    raw_send(idle, GET("/i"));
    raw_receive(idle, &reply, "\r\n\r\n/i");
    CHECK(reply.len > 0);
    int newest = raw_connect(s);
    raw_send(newest, GET("/n"));
    raw_receive(newest, &reply, "\r\n\r\n/n");
    CHECK(str_starts_with(str_from_c(reply.text), STR("HTTP/1.1 200 ")));
    raw_receive(idle, &reply, no_such_text);
    CHECK(reply.ended);
    CHECK_INT_EQ(1, service_end(s).connections_refused);
    CHECK_INT_EQ(MOST, atomic_load(&s->closed)); // each request that never was answered
}

// Whoever holds connections without a request that is being answered, and does what with them: others get in.
TEST(http_server_locks_nobody_out) {
    enum { MOST = 8, LARGE = 900 * 1000 };
    static const struct {
        const char *name, *sent;
        bool large;      // a body follows, which is echoed
        bool has_answer; // it is one to wait for
    } rows[] = {
        {"says nothing", "", false, false},
        {"idle", GET("/i"), false, true},
        {"half a head", "GET /a HTTP/1.1\r\nHost", false, false},
        {"half a body", "POST /b HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n", false, false},
        {"closing and unread",
         "POST /c HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 900000\r\n\r\n", true, true},
        {"open and unread", "POST /o HTTP/1.1\r\nHost: x\r\nContent-Length: 900000\r\n\r\n", true, true},
        {"lingering", "GET /l HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", false, true},
    };
    static char body[LARGE];
    static Reply reply;
    Service *s = service_start((HttpServerConfig){.connections_max = MOST});
    for (size_t row = 0; row < COUNT_OF(rows); row++) {
        int held[MOST], small = 4096;
        uint32_t before = atomic_load(&s->requests);
        TEST_CASE_LABEL("%s", rows[row].name);
        for (uint32_t i = 0; i < MOST; i++) {
            held[i] = raw_connect(s);
            REQUIRE(setsockopt(held[i], SOL_SOCKET, SO_RCVBUF, &small, sizeof small) == 0);
            if (*rows[row].sent) raw_send(held[i], rows[row].sent);
            if (rows[row].large) raw_send_all(held[i], (Str){body, sizeof body});
            if (rows[row].has_answer) REQUIRE(reaches(&s->requests, before + i + 1));
        }
        for (int i = 0; i < MOST; i++) {
            int fd = raw_connect(s);
            raw_send(fd, GET("/n"));
            raw_receive(fd, &reply, "\r\n\r\n/n");
            CHECK(str_starts_with(str_from_c(reply.text), STR("HTTP/1.1 200 ")));
            os_net_close(fd);
        }
        for (uint32_t i = 0; i < MOST; i++)
            os_net_close(held[i]);
    }
    CHECK_INT_EQ(0, service_end(s).connections_refused);
}

// Of the connections that hold nothing up any more, those that are closing go before the idle ones.
TEST(http_server_spares_idle_connections) {
    Service *s = service_start((HttpServerConfig){.connections_max = 2});
    static Reply reply;
    int idle = raw_connect(s);
    raw_send(idle, GET("/1"));
    raw_receive(idle, &reply, "\r\n\r\n/1");
    for (int i = 0; i < 5; i++) {
        int closing = raw_connect(s);
        raw_send(closing, "GET /c HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
        raw_receive(closing, &reply, no_such_text);
        CHECK(strstr(reply.text, "\r\n\r\n/c") != NULL); // our side stays open
    }
    raw_send(idle, GET("/2"));
    raw_receive(idle, &reply, "\r\n\r\n/2");
    CHECK(strstr(reply.text, "\r\n\r\n/2") != NULL);
    CHECK_INT_EQ(6, service_end(s).connections_accepted);
}

// ---- turns ----

// However much one has sent, another waits for one of its requests at most.
TEST(http_server_takes_turns) {
    enum { MANY = 1000, FEW = 50 };
    static char flood[64 * 1024], few[8 * 1024];
    StrBuf flood_text = STRBUF(flood), few_text = STRBUF(few);
    for (int i = 0; i < MANY; i++)
        strbuf_put(&flood_text, STR(GET("/a")));
    for (int i = 0; i < FEW; i++)
        strbuf_put(&few_text, STR(GET("/b")));
    REQUIRE(!flood_text.truncated && !few_text.truncated);
    Service *s = service_open((HttpServerConfig){0});
    int first = raw_connect(s), second = raw_connect(s);
    raw_send_all(first, strbuf_str(&flood_text));
    raw_send_all(second, strbuf_str(&few_text));
    service_run(s);
    REQUIRE(reaches(&s->requests, MANY + FEW));
    uint32_t in_a_row = 0, most = 0, n_few = 0;
    for (uint32_t i = 0; n_few < FEW; i++) {
        REQUIRE(i < MANY + FEW);
        bool is_few = s->order[i] == 'b';
        n_few += is_few;
        in_a_row = is_few ? 0 : in_a_row + 1;
        most = (uint32_t)max_u64(most, in_a_row);
    }
    CHECK_INT_EQ(HTTP_REQUESTS_A_TURN, most);
    os_net_close(first);
    os_net_close(second);
    service_end(s);
}

// One that is new, or has been quiet, comes before all that are busy.
TEST(http_server_serves_the_quiet_first) {
    enum { FLOODS = 20, MANY = 200 };
    static char flood[64 * 1024];
    StrBuf text = STRBUF(flood);
    for (int i = 0; i < MANY; i++)
        strbuf_put(&text, STR(GET("/a")));
    Service *s = service_open((HttpServerConfig){0});
    int quiet = raw_connect(s), fds[FLOODS];
    for (int i = 0; i < FLOODS; i++) {
        fds[i] = raw_connect(s);
        raw_send_all(fds[i], strbuf_str(&text));
    }
    s->then_at = 100 * FLOODS; // when half of them are answered
    s->then_fd = quiet;
    service_run(s);
    REQUIRE(reaches(&s->requests, MANY * FLOODS + 1));
    uint32_t at = 0;
    while (s->order[at] != 'q')
        at++;
    // The server looks for news after HTTP_TURNS_US, which is time for far fewer than all the rest.
    CHECK(at >= s->then_at && at < s->then_at + MANY * FLOODS / 4);
    for (int i = 0; i < FLOODS; i++)
        os_net_close(fds[i]);
    os_net_close(quiet);
    service_end(s);
}

TEST(http_server_gives_memory_of_large_bodies_back) {
    if (test_is_sanitized()) SKIP("shadow memory counts as resident");
    enum { CLIENTS = 8, BODY = 8 * 1000 * 1000 };
    Service *s = service_start((HttpServerConfig){0});
    static char block[64 * 1024];
    int fds[CLIENTS];
    uint64_t before = os_resident_bytes();
    for (uint32_t client = 0; client < CLIENTS; client++) {
        int fd = fds[client] = raw_connect(s);
        raw_send(fd, "POST /never HTTP/1.1\r\nHost: h\r\nContent-Length: 8000000\r\n\r\n");
        for (size_t total = 0; total < BODY;) {
            size_t sent = 0;
            Str bytes = {block, (size_t)min_u64(sizeof block, BODY - total)};
            if (os_net_send(fd, bytes, &sent) != OS_NET_OK) REQUIRE(os_net_wait_ready(fd, true, PATIENCE_MS));
            total += sent;
        }
        REQUIRE(reaches(&s->requests, client + 1));
    }
    CHECK(os_resident_bytes() > before + (uint64_t)CLIENTS * BODY);
    for (uint32_t client = 0; client < CLIENTS; client++)
        os_net_close(fds[client]);
    REQUIRE(reaches(&s->closed, CLIENTS));
    // Given back right after on_closed, also where no new connection comes.
    for (int ms = 0; ms < PATIENCE_MS && os_resident_bytes() > before + BODY; ms++)
        os_sleep_ms(1);
    CHECK(os_resident_bytes() <= before + BODY);
    service_end(s);
}

// ---- opening and stopping ----

TEST(http_server_names_the_port_in_use) {
    Service *s = service_start((HttpServerConfig){0});
    Arena arena = os_arena(ARENA_BYTES);
    Error err = {0};
    char expected[32];
    HttpServer *second = NULL;
    HttpServerConfig config = {.host = STR("127.0.0.1"), .port = http_server_port(s->server)};
    CHECK(!http_server_open(&second, &arena, &config, &err));
    snprintf(expected, sizeof expected, "127.0.0.1 port %u", config.port);
    CHECK(strstr(err.message, expected));
    CHECK(strstr(err.message, "in use"));
    service_end(s);
    // Free again at once, although closed connections may linger in the system.
    CHECK(http_server_open(&second, &arena, &config, &err));
    if (second) http_server_close(second);
}

TEST(http_server_refuses_bad_addresses) {
    static const char *const hosts[] = {"", "999.1.1.1", "no such host", "203.0.113.7"};
    for (size_t i = 0; i < COUNT_OF(hosts); i++) {
        TEST_CASE_LABEL("%s", hosts[i]);
        Arena arena = os_arena(ARENA_BYTES);
        Error err = {0};
        HttpServer *server = NULL;
        HttpServerConfig config = {.host = str_from_c(hosts[i])};
        CHECK(!http_server_open(&server, &arena, &config, &err));
        CHECK_INT_EQ(ERR_ADDRESS, err.code);
        CHECK(strstr(err.message, hosts[i]));
    }
}

TEST(http_server_opens_or_fails_cleanly_without_memory) {
    const Arena all = os_arena(ARENA_BYTES);
    bool ok = false;
    for (uint64_t n = 0; n < 10 && !ok; n++) {
        uint64_t countdown = n;
        Arena arena = all;
        arena.fail_countdown = &countdown;
        Error err = {0};
        HttpServer *server = NULL;
        HttpServerConfig config = {.host = STR("127.0.0.1")};
        ok = http_server_open(&server, &arena, &config, &err);
        if (!ok) CHECK_INT_EQ(ERR_NO_MEMORY, err.code);
        if (ok) http_server_close(server);
    }
    CHECK(ok);
}

TEST(http_server_stops_at_once_when_idle) {
    Service *s = service_start((HttpServerConfig){0});
    static Reply reply;
    int fd = raw_connect(s);
    raw_send(fd, GET("/a"));
    raw_receive(fd, &reply, "\r\n\r\n/a");
    service_stop(s, 10 * PATIENCE_MS); // it does not take this long
    raw_receive(fd, &reply, no_such_text);
    CHECK(reply.ended);
    os_net_close(fd);
    http_server_close(s->server);
}

TEST(http_server_stops_after_what_is_in_progress) {
    Service *s = service_start((HttpServerConfig){0});
    static Reply reply;
    int streaming = raw_connect(s), waiting = raw_connect(s);
    raw_send(streaming, GET("/stream"));
    REQUIRE(reaches(&s->requests, 1));
    raw_send(waiting, GET("/never"));
    REQUIRE(reaches(&s->requests, 2));
    atomic_store(&s->stop_grace_ms, 600);
    atomic_store(&s->stop, true);
    uint64_t before_ms = os_monotonic_ns() / 1000000;
    for (int i = 0; i < 10; i++)
        service_wake(s);
    raw_receive(streaming, &reply, no_such_text);
    CHECK(strstr(reply.text, "data: 10\n\n\r\n0\r\n\r\n"));
    os_thread_join(&s->thread);
    uint64_t took_ms = os_monotonic_ns() / 1000000 - before_ms;
    CHECK(took_ms >= 600);
    CHECK_INT_EQ(1, atomic_load(&s->closed)); // the one that never was answered
    os_net_close(streaming);
    os_net_close(waiting);
    http_server_close(s->server);
}
