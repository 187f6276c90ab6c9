// Web pages against a worker that asks for no tokens: names that lead here, pages of other origins, and who
// may stop it.
#include "runner.h"

#include "api/web_access.h"
#include "api_client.h"
#include "http/http_connection.h"
#include "worker_process.h"

#include <signal.h>
#include <stdio.h>

static const char *const no_hosts[1];

static bool parse(HttpRequest *request, const char *head) {
    HttpHeadParser parser = {0};
    HttpFault fault;
    *request = (HttpRequest){0};
    return http_parse_head(&parser, str_from_c(head), request, &fault) == HTTP_PARSE_DONE;
}

TEST(api_web_hosts) {
    static const struct {
        const char *host;
        bool ours;
    } rows[] = {
        {"localhost", true},
        {"LocalHost:8080", true},
        {"127.0.0.1", true},
        {"127.0.0.1:8080", true},
        {"10.1.2.3:1", true},
        {"255.255.255.255", true},
        {"[::1]", true},
        {"[::1]:8080", true},
        {"[fe80::1]", true},
        {"here.example", true}, // --host
        {"HERE.example:1", true},
        {"pages.example", true}, // --cors-origin's
        {"a.example", true},     // --allowed-host, in lists
        {"B.example:80", true},
        {"c.example", true},
        {"evil.example", false},
        {"evil.example:8080", false},
        {"a.example.evil.example", false},
        {"xa.example", false},
        {"a.example.", false},
        {"localhost.evil.example", false},
        {"localhost.", false},
        {"sub.localhost", false},
        {"127.0.0.1.evil.example", false},
        {"127.0.0.1.", false},
        {"127.0.0", false},
        {"127.1", false},
        {"256.1.1.1", false},
        {"0127.0.0.1", false},
        {"1.2.3.4.5", false},
        {"1..2.3", false},
        {"2130706433", false},
        {"", false},
        {":8080", false},
        {"*", false},
    };
    static const char *const lists[] = {"a.example, b.example", "c.example"};
    WebAccess access = {.host = STR("here.example"),
                        .cors_origin = STR("https://pages.example:8443"),
                        .allowed_hosts = lists,
                        .n_allowed_hosts = COUNT_OF(lists)};
    HttpRequest request;
    char head[256];
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        TEST_CASE_LABEL("\"%s\"", rows[i].host);
        snprintf(head, sizeof head, "GET / HTTP/1.1\r\nHost: %s\r\n\r\n", rows[i].host);
        REQUIRE(parse(&request, head));
        CHECK_INT_EQ(rows[i].ours, web_host_is_allowed(&access, &request));
        if (!rows[i].host[0] || rows[i].host[0] == ':') continue; // no URL has these
        snprintf(head, sizeof head, "GET http://%s/x HTTP/1.1\r\nHost: localhost\r\n\r\n", rows[i].host);
        REQUIRE(parse(&request, head));
        CHECK_INT_EQ(rows[i].ours, web_host_is_allowed(&access, &request));
    }
    REQUIRE(parse(&request, "GET / HTTP/1.0\r\n\r\n"));
    CHECK(web_host_is_allowed(&access, &request));
    REQUIRE(parse(&request, "GET / HTTP/1.1\r\nHost: any.example\r\n\r\n"));
    CHECK(!web_host_is_allowed(&(WebAccess){.allowed_hosts = no_hosts}, &request));
    CHECK(web_host_is_allowed(&(WebAccess){.cors_origin = STR("*")}, &request));
    static const char *const any[] = {"*"};
    CHECK(web_host_is_allowed(&(WebAccess){.allowed_hosts = any, .n_allowed_hosts = 1}, &request));
}

TEST(api_web_pages) {
    static const struct {
        const char *cors_origin, *headers;
        bool allowed;
    } rows[] = {
        {"", "", true},
        {"", "Origin: http://h:1\r\n", true}, // our own, of an old browser
        {"", "Origin: http://H:1\r\n", true},
        {"", "Origin: http://h\r\n", false},
        {"", "Origin: https://example.org\r\n", false},
        {"", "Origin: null\r\n", false},
        {"", "Origin: \r\n", false},
        {"", "Sec-Fetch-Site: same-origin\r\n", true},
        {"", "Sec-Fetch-Site: none\r\n", true},
        {"", "Sec-Fetch-Site: same-site\r\n", false},
        {"", "Sec-Fetch-Site: cross-site\r\n", false},
        {"", "Sec-Fetch-Site: cross-site\r\nOrigin: http://h:1\r\n", false}, // Origin equal to Host
        {"", "Sec-Fetch-Site: cross-site\r\nSec-Fetch-Mode: no-cors\r\nSec-Fetch-Dest: image\r\n", false},
        {"", "Sec-Fetch-Site: cross-site\r\nSec-Fetch-Mode: navigate\r\nSec-Fetch-Dest: iframe\r\n", false},
        {"", "Sec-Fetch-Site: cross-site\r\nSec-Fetch-Mode: navigate\r\nSec-Fetch-Dest: document\r\n", true},
        {"https://example.org", "Origin: https://example.org\r\nSec-Fetch-Site: cross-site\r\n", true},
        {"https://example.org", "Origin: https://example.com\r\nSec-Fetch-Site: cross-site\r\n", false},
        {"https://example.org", "Sec-Fetch-Site: cross-site\r\n", false},
        {"*", "Origin: https://example.com\r\nSec-Fetch-Site: cross-site\r\n", true},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        TEST_CASE_LABEL("%s", rows[i].headers);
        WebAccess access = {.cors_origin = str_from_c(rows[i].cors_origin)};
        HttpRequest request;
        char head[512];
        snprintf(head, sizeof head, "GET / HTTP/1.1\r\nHost: h:1\r\n%s\r\n", rows[i].headers);
        REQUIRE(parse(&request, head));
        CHECK_INT_EQ(rows[i].allowed, web_page_is_allowed(&access, &request));
        // A form that is sent is a navigation, too.
        bool is_link = strstr(rows[i].headers, "Dest: document") != NULL;
        snprintf(head, sizeof head, "POST / HTTP/1.1\r\nHost: h:1\r\n%s\r\n", rows[i].headers);
        REQUIRE(parse(&request, head));
        CHECK_INT_EQ(rows[i].allowed && !is_link, web_page_is_allowed(&access, &request));
    }
}

static const struct {
    const char *method, *path;
} web_requests[] = {
    {"GET", "/health"},  {"HEAD", "/health"},    {"GET", "/ready"},       {"GET", "/v1/health/live"},
    {"GET", "/metrics"}, {"POST", "/execute"},   {"POST", "/cancel"},     {"POST", "/shutdown"},
    {"GET", "/nothing"}, {"DELETE", "/execute"}, {"OPTIONS", "/execute"}, {"OPTIONS", "*"},
    {"PUT", "/nothing"}, {"GET", "/"},           {"POST", "/health"},     {"TRACE", "/health"},
};

// Every path by every method, known or not: 403 before anything else is said.
TEST(api_web_refusals_are_for_all_requests) {
    static const char *const senders[] = {
        // a page whose name was turned to our address after it was loaded
        "Host: evil.example:8080\r\nOrigin: http://evil.example:8080\r\nSec-Fetch-Site: same-origin\r\n",
        "Host: evil.example\r\n",
        // a page of another origin, which sends us a request
        "Host: 127.0.0.1\r\nOrigin: http://evil.example\r\nSec-Fetch-Site: cross-site\r\n",
        "Host: localhost\r\nOrigin: http://evil.example\r\n",
        "Host: localhost\r\nOrigin: http://evil.example\r\nAccess-Control-Request-Method: POST\r\n",
    };
    FakeWorker *f = fake_worker_start(&(FakeConfig){.script = "x", .cors_origin = "https://example.org"});
    for (size_t i = 0; i < COUNT_OF(senders); i++) {
        for (size_t r = 0; r < COUNT_OF(web_requests); r++) {
            char request[512];
            snprintf(request, sizeof request, "%s %s HTTP/1.1\r\n%sConnection: close\r\n\r\n",
                     web_requests[r].method, web_requests[r].path, senders[i]);
            TEST_CASE_LABEL("%s", request);
            Str answer = ask_raw(fake_port(f), str_from_c(request));
            CHECK(str_starts_with(answer, STR("HTTP/1.1 403 Forbidden\r\n")));
            bool has_body = strcmp(web_requests[r].method, "HEAD") != 0;
            CHECK_INT_EQ(has_body, text_contains(answer, "{\"error\":{\"code\":\"FORBIDDEN\","));
        }
    }
    // With its body still to come, too.
    Str answer = ask_raw(fake_port(f), STR("POST /execute HTTP/1.1\r\nHost: evil.example\r\n"
                                           "Content-Length: 5000000\r\nExpect: 100-continue\r\n\r\n"));
    CHECK(str_starts_with(answer, STR("HTTP/1.1 403 ")));
    CHECK_INT_EQ(200, ask(f, "GET", "/health", NULL).status); // it goes on
    shut_down(f);
}

TEST(api_web_allowed_host) {
    FakeWorker *f = fake_worker_start(&(FakeConfig){.script = "x", .allowed_host = "a.example,b.example"});
    static const struct {
        const char *host, *status;
    } rows[] = {{"b.example:99", "HTTP/1.1 200 "}, {"c.example", "HTTP/1.1 403 "}};
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        char request[128];
        snprintf(request, sizeof request, "GET /health HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n",
                 rows[i].host);
        CHECK(str_starts_with(ask_raw(fake_port(f), str_from_c(request)), str_from_c(rows[i].status)));
    }
    shut_down(f);
}

// Where tokens are asked for, they are what counts.
TEST(api_web_tokens_replace_the_checks) {
    FakeWorker *f = fake_worker_start(&(FakeConfig){.script = "x", .tokens = "secret"});
    static const char *const rows[] = {"Host: evil.example\r\n",
                                       "Host: localhost\r\nOrigin: http://evil.example\r\n"};
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        char request[256];
        TEST_CASE_LABEL("%s", rows[i]);
        snprintf(request, sizeof request, "GET /metrics HTTP/1.1\r\n%sConnection: close\r\n\r\n", rows[i]);
        CHECK(str_starts_with(ask_raw(fake_port(f), str_from_c(request)), STR("HTTP/1.1 401 ")));
        snprintf(request, sizeof request,
                 "GET /metrics HTTP/1.1\r\n%sAuthorization: Bearer secret\r\nConnection: close\r\n\r\n",
                 rows[i]);
        CHECK(str_starts_with(ask_raw(fake_port(f), str_from_c(request)), STR("HTTP/1.1 200 ")));
    }
    HttpHeader token = {STR("Authorization"), STR("Bearer secret")};
    CHECK_INT_EQ(202, ask_with(fake_port(f), "POST", "/shutdown", "", token).status);
    fake_worker_join(f);
}

// ---- who may stop it ----

TEST(api_web_shutdown_from_other_machines) {
    static const struct {
        const char *name;
        bool here, tokens;
        const char *status;
    } rows[] = {
        {"another machine", false, false, "HTTP/1.1 403 "},
        {"another machine, with a token", false, true, "HTTP/1.1 202 "},
        {"this machine", true, false, "HTTP/1.1 202 "},
    };
    FakeWorker *f = fake_sched_start(&(FakeConfig){.script = "x"});
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        TEST_CASE_LABEL("%s", rows[i].name);
        Arena arena = os_arena(16 << 20);
        ApiConfig config = {.bridge = fake_bridge(f),
                            .tokenizer = fake_tokenizer(f),
                            .max_tokens_out = 8,
                            .inference_timeout_sec = 1,
                            .context_length = 64};
        Api *api;
        Error err;
        if (rows[i].tokens) REQUIRE(auth_parse(STR("secret"), &config.auth, &err));
        REQUIRE(api_create(&config, &arena, &api, &err));
        HttpHandler handler = api_handler(api);
        HttpShared shared;
        http_shared_init(&shared, &handler, &(HttpTimeouts){0});
        char *memory = os_reserve(HTTP_INPUT_BYTES + HTTP_OUTPUT_BYTES_MAX);
        static HttpConnection c;
        http_connection_init(&c, &shared, memory, memory + HTTP_INPUT_BYTES);
        http_connection_open(&c);
        c.is_from_this_machine = rows[i].here;
        Str request =
            STR("POST /shutdown HTTP/1.1\r\nHost: 192.0.2.1\r\nAuthorization: Bearer secret\r\n\r\n");
        memcpy(http_connection_input_room(&c).ptr, request.ptr, request.len);
        http_connection_received(&c, request.len);
        CHECK(str_starts_with(http_connection_output(&c), str_from_c(rows[i].status)));
        bool drains = api_drain_reason(api) != NULL;
        CHECK_INT_EQ(!strstr(rows[i].status, "403"), drains);
    }
    CHECK(fake_sched_stop(f));
}

// A name that leads to all of this machine's addresses is one that others may reach.
TEST(api_web_warning_where_others_may_come) {
    static const struct {
        const char *flags;
        bool warns;
    } rows[] = {{"--host 127.0.0.1", false},
                {"--host localhost", false},
                {"--host 0.0.0.0", true},
                {"--host 0.0.0.0 --api-token-file %", false}};
    const char *model = tiny_model_file(), *tokens = tmp_file_write("tokens", "secret\n");
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        char line[256];
        TEST_CASE_LABEL("%s", rows[i].flags);
        snprintf(line, sizeof line, "--model %% --device cpu --port 0 --threads 1 %s", rows[i].flags);
        Process p = process_start(line, (const char *[]){model, tokens}, NULL);
        REQUIRE(process_await_event(p, "ready").len > 0);
        Str log = process_read_file(p.err_path);
        CHECK_INT_EQ(rows[i].warns, text_contains(log, "\"event\":\"unprotected\""));
        REQUIRE(kill(p.pid, SIGTERM) == 0);
        CHECK_INT_EQ(0, process_wait(p));
    }
}

TEST(api_web_allowed_host_is_checked) {
    static const char *const rows[] = {"http://a", "a:80", "a/b", "a;b"};
    const char *model = tiny_model_file();
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        TEST_CASE_LABEL("%s", rows[i]);
        Process p = process_start("--model % --device cpu --port 0 --allowed-host %",
                                  (const char *[]){model, rows[i]}, NULL);
        CHECK_INT_EQ(2, process_wait(p));
        CHECK(text_contains(process_read_file(p.err_path), "--allowed-host"));
    }
}
