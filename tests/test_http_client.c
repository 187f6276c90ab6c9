// The small HTTP client, against servers that say anything.
#include "runner.h"

#include "http/http_client.h"
#include "os/os.h"
#include "os/os_net.h"

#include <stdio.h>

enum { REPLY_BYTES = 64 * 1024, PATIENCE_MS = 60 * 1000 };

TEST(http_client_parses_urls) {
    static const struct {
        const char *url, *host;
        uint16_t port;
        const char *path; // NULL: refused
    } rows[] = {
        {"http://host", "host", 80, "/"},
        {"HTTP://host:8080/", "host", 8080, "/"},
        {"http://host:8080/a/b?c=d", "host", 8080, "/a/b?c=d"},
        {"http://[::1]:9/x", "::1", 9, "/x"},
        {"http://[::1]", "::1", 80, "/"},
        {"https://host/", "", 0, NULL},
        {"host/path", "", 0, NULL},
        {"", "", 0, NULL},
        {"http://", "", 0, NULL},
        {"http:///x", "", 0, NULL},
        {"http://:80/", "", 0, NULL},
        {"http://host:/", "", 0, NULL},
        {"http://host:0/", "", 0, NULL},
        {"http://host:65536/", "", 0, NULL},
        {"http://host:x/", "", 0, NULL},
        {"http://user@host/", "", 0, NULL},
        {"http://user:pass@host/", "", 0, NULL},
        {"http://host?x", "", 0, NULL},
        {"http://host/#x", "", 0, NULL},
        {"http://host/a b", "", 0, NULL},
        {"http://host/\r\nX: 1", "", 0, NULL},
        {"http://[::1/", "", 0, NULL},
        {"http://[]/", "", 0, NULL},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        TEST_CASE_LABEL("%s", rows[i].url);
        HttpUrl url = {0};
        Error err = {0};
        CHECK_INT_EQ(rows[i].path != NULL, http_url_parse(str_from_c(rows[i].url), &url, &err));
        if (rows[i].path) {
            CHECK_STR_EQ(rows[i].host, url.host);
            CHECK_INT_EQ(rows[i].port, url.port);
            CHECK_STR_EQ(rows[i].path, url.path);
        } else {
            CHECK_INT_EQ(ERR_USAGE, err.code);
            CHECK(strstr(err.message, rows[i].url));
        }
    }
}

// A server of the test's own, which says anything: accepts one connection, sends `text`, closes after
// `delay_ms`.
typedef struct {
    int listener;
    const char *text;
    uint32_t delay_ms;
    char request[4096];
} Puppet;

static void *run_puppet(void *context) {
    Puppet *p = context;
    int fd = -1;
    if (!os_net_wait_ready(p->listener, false, PATIENCE_MS)) return NULL;
    if (os_net_accept(p->listener, &fd) != OS_NET_OK) return NULL;
    // Head and body may come in two segments.
    for (size_t length = 0, got = 0; !strchr(p->request, '}'); length += got) {
        if (!os_net_wait_ready(fd, false, PATIENCE_MS)) break;
        if (os_net_receive(fd, p->request + length, sizeof p->request - 1 - length, &got) != OS_NET_OK) break;
    }
    size_t sent;
    (void)os_net_send(fd, str_from_c(p->text), &sent);
    os_sleep_ms(p->delay_ms);
    os_net_close(fd);
    return NULL;
}

TEST(http_client_reads_replies) {
    static const struct {
        const char *name, *text;
        uint16_t status; // 0: an error whose message holds `expected`
        const char *expected;
        uint32_t delay_ms;
    } rows[] = {
        {"length", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", 200, "hi", 0},
        {"chunked",
         "HTTP/1.1 202 Accepted\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n1\r\n!\r\n0\r\n\r\n", 202,
         "hi!", 0},
        {"until close", "HTTP/1.0 404 Not Found\r\n\r\nnothing here", 404, "nothing here", 0},
        {"no reason", "HTTP/1.1 500\r\nContent-Length: 0\r\n\r\n", 500, "", 0},
        {"no content", "HTTP/1.1 204 No Content\r\n\r\n", 204, "", 100},
        {"continue first", "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx", 200,
         "x", 0},
        {"nothing", "", 0, "without a reply", 0},
        {"cut head", "HTTP/1.1 200 OK\r\nContent-Le", 0, "without a reply", 0},
        {"cut body", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhi", 0, "ended too early", 0},
        {"cut chunk", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhi", 0, "ended too early",
         0},
        {"bad chunk", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nhi", 0, "chunk size", 0},
        {"other protocol", "SSH-2.0-x\r\n\r\n", 0, "not HTTP", 0},
        {"bad length", "HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\nhi", 0, "Content-Length", 0},
        {"too slow", "HTTP/1.1 200 OK\r\n", 0, "timed out", 600},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        TEST_CASE_LABEL("%s", rows[i].name);
        Puppet puppet = {.text = rows[i].text, .delay_ms = rows[i].delay_ms};
        uint16_t port;
        Error err = {0};
        OsThread thread;
        REQUIRE(os_net_listen(STR("127.0.0.1"), 0, &puppet.listener, &port, &err));
        REQUIRE(os_thread_start(&thread, "puppet", run_puppet, &puppet, &err));
        char url[64];
        static uint8_t memory[REPLY_BYTES];
        Arena arena = arena_from_memory(memory, sizeof memory);
        snprintf(url, sizeof url, "http://127.0.0.1:%u/cb?x=1", port);
        HttpHeader header = {STR("X-Correlation-Id"), STR("c-1")};
        HttpClientRequest request = {.method = "POST",
                                     .url = str_from_c(url),
                                     .bearer_token = STR("secret"),
                                     .content_type = STR("application/json"),
                                     .body = STR("{\"a\":1}"),
                                     .headers = &header,
                                     .header_count = 1,
                                     .timeout_ms = rows[i].delay_ms > 500 ? 300 : PATIENCE_MS};
        HttpClientReply reply = {0};
        bool ok = http_client_exchange(&request, &arena, &reply, &err);
        os_thread_join(&thread);
        os_net_close(puppet.listener);
        CHECK_INT_EQ(rows[i].status != 0, ok);
        if (ok) {
            CHECK_INT_EQ(rows[i].status, reply.status);
            CHECK_STR_EQ(rows[i].expected, reply.body);
        } else {
            CHECK(strstr(err.message, rows[i].expected));
            CHECK(strstr(err.message, url));
        }
        char expected[256];
        snprintf(
            expected, sizeof expected,
            "POST /cb?x=1 HTTP/1.1\r\nHost: 127.0.0.1:%u\r\nConnection: close\r\nAuthorization: Bearer "
            "secret\r\n"
            "Content-Type: application/json\r\nContent-Length: 7\r\nX-Correlation-Id: c-1\r\n\r\n{\"a\":1}",
            port);
        CHECK_STR_EQ(expected, puppet.request);
    }
}

static void *run_endless_puppet(void *context) {
    Puppet *p = context;
    int fd = -1;
    size_t sent;
    Str all = str_from_c(p->text), rest = all;
    if (!os_net_wait_ready(p->listener, false, PATIENCE_MS)) return NULL;
    if (os_net_accept(p->listener, &fd) != OS_NET_OK) return NULL;
    uint64_t end_ns = os_monotonic_ns() + PATIENCE_MS * 1000000ull;
    while (os_monotonic_ns() < end_ns && os_net_wait_ready(fd, true, PATIENCE_MS)) {
        OsNetResult result = os_net_send(fd, rest, &sent);
        if (result == OS_NET_BROKEN) break;
        if (result == OS_NET_OK) rest = str_slice(rest, sent, rest.len);
        if (rest.len == 0) rest = all;
    }
    os_net_close(fd);
    return NULL;
}

// Nobody waits for the end of what a server sends without a pause, all of it valid.
TEST(http_client_has_a_deadline_that_data_do_not_move) {
    static const char interim[] = "HTTP/1.1 100 Continue\r\n\r\n";
    static uint8_t memory[1024];
    static char text[1000 * (sizeof interim - 1) + 1];
    Puppet puppet = {.text = text};
    uint16_t port;
    Error err = {0};
    OsThread thread;
    for (size_t i = 0; i + 1 < sizeof text; i++)
        text[i] = interim[i % (sizeof interim - 1)];
    REQUIRE(os_net_listen(STR("127.0.0.1"), 0, &puppet.listener, &port, &err));
    REQUIRE(os_thread_start(&thread, "puppet", run_endless_puppet, &puppet, &err));
    char url[64];
    Arena arena = arena_from_memory(memory, sizeof memory);
    HttpClientReply reply;
    snprintf(url, sizeof url, "http://127.0.0.1:%u/", port);
    HttpClientRequest request = {.method = "GET", .url = str_from_c(url), .timeout_ms = 300};
    CHECK(!http_client_exchange(&request, &arena, &reply, &err));
    CHECK(strstr(err.message, "timed out"));
    os_thread_join(&thread);
}

TEST(http_client_reports_refused_connections) {
    int listener;
    uint16_t port;
    Error err = {0};
    REQUIRE(os_net_listen(STR("127.0.0.1"), 0, &listener, &port, &err));
    os_net_close(listener); // nobody listens there now
    char url[64];
    snprintf(url, sizeof url, "http://127.0.0.1:%u/", port);
    static uint8_t memory[1024];
    Arena arena = arena_from_memory(memory, sizeof memory);
    HttpClientReply reply;
    HttpClientRequest request = {.method = "GET", .url = str_from_c(url), .timeout_ms = PATIENCE_MS};
    CHECK(!http_client_exchange(&request, &arena, &reply, &err));
    CHECK(strstr(err.message, url) && strstr(err.message, "refused"));
}

TEST(http_client_does_not_send_smuggled_headers) {
    static uint8_t memory[1024];
    Arena arena = arena_from_memory(memory, sizeof memory);
    int listener;
    uint16_t port;
    Error err = {0};
    REQUIRE(os_net_listen(STR("127.0.0.1"), 0, &listener, &port, &err));
    char url[64];
    snprintf(url, sizeof url, "http://127.0.0.1:%u/", port);
    HttpClientReply reply;
    HttpClientRequest request = {
        .method = "GET", .url = str_from_c(url), .bearer_token = STR("a\r\nX: 1"), .timeout_ms = PATIENCE_MS};
    CHECK(!http_client_exchange(&request, &arena, &reply, &err));
    CHECK(strstr(err.message, "line break"));
    // Not a byte of it was sent.
    int fd = -1;
    char got[16];
    size_t size = 0;
    REQUIRE(os_net_wait_ready(listener, false, PATIENCE_MS) && os_net_accept(listener, &fd) == OS_NET_OK);
    REQUIRE(os_net_wait_ready(fd, false, PATIENCE_MS));
    CHECK_INT_EQ(OS_NET_ENDED, os_net_receive(fd, got, sizeof got, &size));
    os_net_close(fd);
    os_net_close(listener);
}
