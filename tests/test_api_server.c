// The HTTP interface over real sockets, with a scripted backend behind it.
#include "api_client.h"
#include "fake_worker.h"
#include "os/os.h"
#include "runner.h"
#include "json/json_reader.h"
#include "worker_process.h"

#include <stdio.h>
#include <stdlib.h>

// Of an error's body or event, where it is the last member.
static Str error_correlation_id(Str json) {
    static const char name[] = "\"correlation_id\":\"";
    const char *at = json.len ? memmem(json.ptr, json.len, name, strlen(name)) : NULL;
    if (!at) return (Str){0};
    Str rest = str_slice(json, (size_t)(at - json.ptr) + strlen(name), json.len);
    const char *end = memchr(rest.ptr, '"', rest.len);
    return end ? str_slice(rest, 0, (size_t)(end - rest.ptr)) : (Str){0};
}

// ---- routes ----

TEST(api_routes) {
    static const struct {
        const char *method, *path;
        uint16_t status;
        const char *allow, *code;
    } rows[] = {
        {"GET", "/health", 200, NULL, NULL},
        {"GET", "/health?verbose=1", 200, NULL, NULL},
        {"GET", "/metrics", 200, NULL, NULL},
        {"GET", "/ready", 200, NULL, NULL},
        {"GET", "/v1/health/live", 200, NULL, NULL},
        {"GET", "/v1/health/ready", 200, NULL, NULL},
        {"GET", "/v1/health/", 404, NULL, "NOT_FOUND"},
        {"POST", "/v1/health/live", 405, "GET, HEAD", "METHOD_NOT_ALLOWED"},
        {"POST", "/ready", 405, "GET, HEAD", "METHOD_NOT_ALLOWED"},
        {"GET", "/", 404, NULL, "NOT_FOUND"},
        {"GET", "/health/", 404, NULL, "NOT_FOUND"},
        {"POST", "/nothing", 404, NULL, "NOT_FOUND"},
        {"GET", "/execute", 405, "POST", "METHOD_NOT_ALLOWED"},
        {"DELETE", "/cancel", 405, "POST", "METHOD_NOT_ALLOWED"},
        {"GET", "/shutdown", 405, "POST", "METHOD_NOT_ALLOWED"},
        {"POST", "/health", 405, "GET, HEAD", "METHOD_NOT_ALLOWED"},
        {"PUT", "/metrics", 405, "GET, HEAD", "METHOD_NOT_ALLOWED"},
    };
    FakeWorker *f = fake_worker_start(&(FakeConfig){.script = "x"});
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        TEST_CASE_LABEL("%s %s", rows[i].method, rows[i].path);
        Answer a = ask(f, rows[i].method, rows[i].path, NULL);
        CHECK_INT_EQ(rows[i].status, a.status);
        const Str *allow = http_client_reply_header(&a.reply, STR("Allow"));
        CHECK_STR_EQ(rows[i].allow, allow ? *allow : (Str){0});
        const Str *id = http_client_reply_header(&a.reply, STR("X-Correlation-Id"));
        CHECK(id && id->len == 36);
        if (rows[i].code) {
            char expected[64];
            snprintf(expected, sizeof expected, "{\"error\":{\"code\":\"%s\",\"message\":\"", rows[i].code);
            CHECK(str_starts_with(a.body, str_from_c(expected)));
            CHECK(text_contains(a.body, "\"retriable\":false"));
            CHECK_STR_EQ(*id, error_correlation_id(a.body));
        }
    }
    shut_down(f);
}

TEST(api_correlation_id) {
    static const struct {
        const char *given;
        bool echoed;
    } rows[] = {
        {"abc-123", true},
        {"!~", true},
        {"two words", false},
        {"tab\tbed", false},
        {"0123456789012345678901234567890123456789012345678901234567890123"
         "0123456789012345678901234567890123456789012345678901234567890123",
         true},
        {"0123456789012345678901234567890123456789012345678901234567890123"
         "01234567890123456789012345678901234567890123456789012345678901234",
         false},
    };
    FakeWorker *f = fake_worker_start(&(FakeConfig){.script = "x"});
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        TEST_CASE_LABEL("%s", rows[i].given);
        HttpHeader header = {STR("x-correlation-id"), str_from_c(rows[i].given)};
        Answer a = ask_with(fake_port(f), "GET", "/health", NULL, header);
        const Str *id = http_client_reply_header(&a.reply, STR("X-Correlation-Id"));
        REQUIRE(id != NULL);
        CHECK(str_eq(*id, header.value) == rows[i].echoed);
        CHECK(rows[i].echoed || id->len == 36);
    }
    HttpHeader header = {STR("X-Correlation-Id"), STR("of-a-stream")};
    Stream *s = open_stream(f, "{\"job_id\":\"a\",\"prompt\":\"p\"}", header);
    const Str *id = http_client_reply_header(&s->reply, STR("X-Correlation-Id"));
    CHECK(id && str_eq(*id, header.value));
    read_until(s, NULL);
    shut_down(f);
}

// … and, where the path is known, its API's form of errors.
TEST(api_refusals_have_their_apis_form) {
    static const struct {
        const char *head, *body;
    } rows[] = {
        {"POST /v1/chat/completions",
         "{\"error\":{\"message\":\"the body is too large: at most 10485760 bytes\","
         "\"type\":\"invalid_request_error\",\"param\":null,"},
        {"POST /v1/messages", "{\"type\":\"error\",\"error\":{\"type\":\"request_too_large\",\"message\":"
                              "\"the body is too large: at most 10485760 bytes\","},
        {"POST /execute",
         "{\"error\":{\"code\":\"INVALID_REQUEST\",\"message\":\"the body is too large: at most "
         "10485760 bytes\","},
    };
    FakeWorker *f = fake_worker_start(&(FakeConfig){.script = "x"});
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        char request[256];
        snprintf(request, sizeof request,
                 "%s HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999\r\n\r\n", rows[i].head);
        Str answer = ask_raw(fake_port(f), str_from_c(request));
        TEST_CASE_LABEL("%s", rows[i].head);
        CHECK(str_starts_with(answer, STR("HTTP/1.1 413 ")));
        const char *body = memmem(answer.ptr, answer.len, "\r\n\r\n", 4);
        REQUIRE(body);
        Str text = str_slice(answer, (size_t)(body + 4 - answer.ptr), answer.len);
        if (!CHECK(str_starts_with(text, str_from_c(rows[i].body)))) printf("%.*s\n", STR_ARG(text));
    }
    shut_down(f);
}

// What HTTP itself refuses has the same id in its header and its body.
TEST(api_refusals_have_a_correlation_id) {
    static const struct {
        const char *request, *id; // NULL: one of the worker's own
        const char *status;
    } rows[] = {
        {"GET /\x01 HTTP/1.1\r\nHost: localhost\r\n\r\n", NULL, "HTTP/1.1 400 "},
        {"GET / HTTP/1.1\r\nHost: localhost\r\nX-Correlation-Id: \"mine\"\r\nbad header: x\r\n\r\n", NULL,
         "HTTP/1.1 400 "},
        {"POST /execute HTTP/1.1\r\nHost: localhost\r\nX-Correlation-Id: mine\r\nContent-Length: "
         "99999999\r\n\r\n",
         NULL, "HTTP/1.1 413 "},
        {"POST /cancel HTTP/1.1\r\nHost: localhost\r\nX-Correlation-Id: \"mine\"\r\nContent-Length: "
         "8193\r\n\r\n",
         "\"mine\"", "HTTP/1.1 413 "},
        {"POST /cancel HTTP/1.1\r\nHost: localhost\r\nX-Correlation-Id: mine\r\n"
         "Transfer-Encoding: chunked\r\n\r\n2001\r\n", // its first bytes are still to come
         "mine", "HTTP/1.1 413 "},
    };
    FakeWorker *f = fake_worker_start(&(FakeConfig){.script = "x"});
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        TEST_CASE_LABEL("%s", rows[i].request);
        Str answer = ask_raw(fake_port(f), str_from_c(rows[i].request)), id, body;
        CHECK(str_starts_with(answer, str_from_c(rows[i].status)));
        const char *at = memmem(answer.ptr, answer.len, "X-Correlation-Id: ", 18);
        const char *end = at ? memchr(at, '\r', answer.len - (size_t)(at - answer.ptr)) : NULL;
        const char *begin = memmem(answer.ptr, answer.len, "\r\n\r\n", 4);
        REQUIRE(at && end && begin);
        id = (Str){at + 18, (size_t)(end - at) - 18};
        body = str_slice(answer, (size_t)(begin - answer.ptr) + 4, answer.len);
        if (rows[i].id) CHECK_STR_EQ(rows[i].id, id);
        else CHECK(id.len > 0);
        Arena arena = os_arena(1 << 16);
        Error err;
        Str in_body = {0};
        const JsonNode *root = json_parse(body, &arena, &(JsonLimits){.nodes_max = 100}, &err);
        CHECK(json_read_str(json_get(json_get(root, STR("error")), STR("correlation_id")), &in_body));
        CHECK_STR_EQ(id, in_body);
    }
    shut_down(f);
}

TEST(api_bearer_tokens) {
    static const struct {
        const char *path, *token;
        uint16_t status;
    } rows[] = {
        {"/health", NULL, 200},
        {"/ready", NULL, 200},
        {"/v1/health/live", NULL, 200},
        {"/v1/health/ready", NULL, 200},
        {"/metrics", NULL, 401},
        {"/metrics", "Bearer wrong", 401},
        {"/metrics", "Bearer first", 200},
        {"/metrics", "Bearer second", 200},
        {"/nothing", NULL, 404},
    };
    FakeWorker *f = fake_worker_start(&(FakeConfig){.script = "x", .tokens = "first\nsecond\n"});
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        TEST_CASE_LABEL("%s with %s", rows[i].path, rows[i].token ? rows[i].token : "nothing");
        HttpHeader header = {rows[i].token ? STR("Authorization") : (Str){0}, str_from_c(rows[i].token)};
        Answer a = ask_with(fake_port(f), "GET", rows[i].path, NULL, header);
        CHECK_INT_EQ(rows[i].status, a.status);
        const Str *challenge = http_client_reply_header(&a.reply, STR("WWW-Authenticate"));
        CHECK((challenge != NULL) == (rows[i].status == 401));
        if (rows[i].status == 401) CHECK(text_contains(a.body, "\"UNAUTHORIZED\""));
    }
    HttpHeader header = {STR("Authorization"), STR("Bearer first")};
    CHECK_INT_EQ(202, ask_with(fake_port(f), "POST", "/shutdown", "", header).status);
    fake_worker_join(f);
}

// Pages of other origins may read answers only where they were let in.
TEST(api_cors) {
    HttpHeader asks = {STR("Access-Control-Request-Method"), STR("POST")};
    for (int allowed = 0; allowed < 2; allowed++) {
        TEST_CASE_LABEL("%s", allowed ? "allowed" : "off");
        const char *origin = allowed ? "https://example.org" : NULL;
        FakeWorker *f =
            fake_worker_start(&(FakeConfig){.script = "x", .cors_origin = origin, .tokens = "secret"});
        HttpHeader token = {STR("Authorization"), STR("Bearer secret")};
        static const char *const names[] = {"Access-Control-Allow-Origin", "Access-Control-Expose-Headers"};
        static const struct {
            const char *method, *path, *body;
        } rows[] = {{"GET", "/health", NULL},
                    {"POST", "/execute", "{\"job_id\":\"j\",\"prompt\":\"p\"}"},
                    {"POST", "/execute", "{}"},
                    {"GET", "/nothing", NULL}};
        for (size_t i = 0; i < COUNT_OF(rows); i++) {
            Answer a = ask_with(fake_port(f), rows[i].method, rows[i].path, rows[i].body, token);
            const Str *value = http_client_reply_header(&a.reply, str_from_c(names[0]));
            CHECK_STR_EQ(origin, value ? *value : (Str){0});
            CHECK((http_client_reply_header(&a.reply, str_from_c(names[1])) != NULL) == allowed);
        }
        Answer a = ask_with(fake_port(f), "OPTIONS", "/execute", NULL, asks); // without a token
        CHECK_INT_EQ(allowed ? 204 : 405, a.status);
        const Str *methods = http_client_reply_header(&a.reply, STR("Access-Control-Allow-Methods"));
        CHECK_STR_EQ(allowed ? "GET, POST" : "", methods ? *methods : (Str){0});
        CHECK_INT_EQ(202, ask_with(fake_port(f), "POST", "/shutdown", "", token).status);
        fake_worker_join(f);
    }
}

// What browsers send of a page of another origin without asking first: nothing may come of it.
TEST(api_posts_of_foreign_pages) {
    static const struct {
        const char *cors_origin, *tokens, *name, *value;
        bool refused;
    } rows[] = {
        {NULL, NULL, NULL, NULL, false},
        {NULL, NULL, "Origin", "https://example.org", true},
        {NULL, NULL, "Origin", "null", true},
        {NULL, NULL, "Origin", "http://localhost", true}, // the same machine, another origin
        {NULL, NULL, "Origin", "http://127.0.0.1:%u", false},
        {NULL, NULL, "Sec-Fetch-Site", "cross-site", true},
        {NULL, NULL, "Sec-Fetch-Site", "same-site", true},
        {NULL, NULL, "Sec-Fetch-Site", "same-origin", false},
        {NULL, NULL, "Sec-Fetch-Site", "none", false},
        {"https://example.org", NULL, "Origin", "https://example.org", false},
        {"https://example.org", NULL, "Origin", "https://example.com", true},
        {"*", NULL, "Origin", "https://example.com", false},
        {NULL, "secret", "Origin", "https://example.org", false}, // refused for want of a token
    };
    static const char *const paths[] = {"/execute", "/cancel", "/shutdown"};
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        FakeWorker *f = fake_worker_start(
            &(FakeConfig){.script = "x", .cors_origin = rows[i].cors_origin, .tokens = rows[i].tokens});
        char value[64] = "";
        if (rows[i].value) {
            const char *port = strchr(rows[i].value, '%');
            int length = port ? (int)(port - rows[i].value) : (int)strlen(rows[i].value);
            snprintf(value, sizeof value, "%.*s", length, rows[i].value);
            if (port) snprintf(value + length, sizeof value - (size_t)length, "%u", fake_port(f));
        }
        HttpHeader header = {str_from_c(rows[i].name), str_from_c(value)};
        for (size_t p = 0; p < COUNT_OF(paths); p++) {
            if (!rows[i].refused && p == 2) break; // it ends the worker, below
            TEST_CASE_LABEL("%s from %s", paths[p], value);
            Answer a = ask_with(fake_port(f), "POST", paths[p], "", header);
            CHECK_INT_EQ(rows[i].refused, a.status == 403);
            if (rows[i].tokens) CHECK_INT_EQ(401, a.status);
            if (rows[i].refused) CHECK(text_contains(a.body, "{\"error\":{\"code\":\"FORBIDDEN\","));
        }
        CHECK_INT_EQ(rows[i].refused ? 403 : 200,
                     ask_with(fake_port(f), "GET", "/health", NULL, header).status);
        HttpHeader token = {rows[i].tokens ? STR("Authorization") : (Str){0}, STR("Bearer secret")};
        CHECK_INT_EQ(202, ask_with(fake_port(f), "POST", "/shutdown", "", token).status);
        fake_worker_join(f);
    }
}

// As load balancers look after a worker: the answer to a GET, without its body.
TEST(api_head) {
    static const char *const paths[] = {"/health", "/ready", "/metrics"};
    FakeWorker *f = fake_worker_start(&(FakeConfig){.script = "x"});
    for (size_t i = 0; i < COUNT_OF(paths); i++) {
        char head[128];
        TEST_CASE_LABEL("%s", paths[i]);
        snprintf(head, sizeof head, "HEAD %s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
                 paths[i]);
        Str answer = ask_raw(fake_port(f), str_from_c(head));
        CHECK(str_starts_with(answer, STR("HTTP/1.1 200 OK\r\n")));
        CHECK(text_contains(answer, "\r\nContent-Length: ") &&
              !text_contains(answer, "\r\nContent-Length: 0\r\n"));
        CHECK(str_ends_with(answer, STR("\r\n\r\n")));
    }
    shut_down(f);
}

TEST(api_files) {
    static const ApiFile files[] = {
        {.path = "/", .content_type = "text/html; charset=utf-8", .data = "abc", .size = 3, .open = true},
        {.path = "/openapi.json", .content_type = "application/json", .data = "{}", .size = 2},
        {.path = "/empty", .content_type = "text/plain", .data = "", .size = 0, .open = true},
    };
    static const struct {
        const char *method, *path, *name, *value;
        uint16_t status;
        const char *type, *body;
    } rows[] = {
        {"GET", "/", "X-None", "", 200, "text/html; charset=utf-8", "abc"},
        {"GET", "/?query", "X-None", "", 200, "text/html; charset=utf-8", "abc"},
        {"GET", "/", "If-None-Match", "\"ba7816bf8f01cfea\"", 304, "", ""},
        {"GET", "/", "If-None-Match", "\"other\"", 200, "text/html; charset=utf-8", "abc"},
        {"GET", "/empty", "X-None", "", 200, "text/plain", ""},
        {"GET", "/openapi.json", "X-None", "", 401, "application/json", NULL},
        {"GET", "/openapi.json", "Authorization", "Bearer secret", 200, "application/json", "{}"},
        {"POST", "/", "X-None", "", 405, "application/json", NULL},
        {"GET", "/else", "X-None", "", 404, "application/json", NULL},
    };
    FakeWorker *f = fake_worker_start(
        &(FakeConfig){.script = "x", .tokens = "secret", .files = files, .n_files = COUNT_OF(files)});
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        TEST_CASE_LABEL("%s %s, %s", rows[i].method, rows[i].path, rows[i].value);
        HttpHeader header = {str_from_c(rows[i].name), str_from_c(rows[i].value)};
        Answer a = ask_with(fake_port(f), rows[i].method, rows[i].path, NULL, header);
        CHECK_INT_EQ(rows[i].status, a.status);
        CHECK_STR_EQ(rows[i].type, answer_header(&a, "Content-Type"));
        if (rows[i].body) CHECK_STR_EQ(rows[i].body, a.body);
        CHECK((answer_header(&a, "ETag").len > 0) == (a.status == 200 || a.status == 304));
        CHECK((answer_header(&a, "Content-Length").len > 0) == (a.status != 304));
    }
    Str head = ask_raw(fake_port(f), STR("HEAD / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"));
    CHECK(text_contains(head, "\r\nContent-Length: 3\r\n") && str_ends_with(head, STR("\r\n\r\n")));
    HttpHeader token = {STR("Authorization"), STR("Bearer secret")};
    CHECK_INT_EQ(202, ask_with(fake_port(f), "POST", "/shutdown", "", token).status);
    fake_worker_join(f);
}

// A request without a token is answered before its body has come.
TEST(api_unauthorized_by_the_head) {
    FakeWorker *f = fake_worker_start(&(FakeConfig){.script = "x", .tokens = "secret"});
    static const char *const heads[] = {
        "POST /execute HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5000000\r\n\r\n",
        "POST /execute HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n",
        "POST /execute HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\nExpect: 100-continue\r\n\r\n",
        "POST /execute HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{}",
    };
    for (size_t i = 0; i < COUNT_OF(heads); i++) {
        TEST_CASE_LABEL("%s", heads[i]);
        Str text = ask_raw(fake_port(f), str_from_c(heads[i]));
        CHECK(str_starts_with(text, STR("HTTP/1.1 401 ")));
        CHECK(text_contains(text, "\r\nConnection: close\r\n"));
    }
    HttpHeader token = {STR("Authorization"), STR("Bearer secret")};
    CHECK_INT_EQ(202, ask_with(fake_port(f), "POST", "/shutdown", "", token).status);
    fake_worker_join(f);
}

// ---- streams ----

TEST(api_stream_events_in_order) {
    FakeWorker *f = fake_worker_start(&(FakeConfig){.script = "Hello \xF0\x9F\x8C\x8D \"there\"\n"});
    Answer a =
        ask(f, "POST", "/execute", "{\"job_id\":\"j-1\",\"prompt\":\"p\",\"seed\":42,\"max_tokens\":100}");
    CHECK_INT_EQ(200, a.status);
    const Str *type = http_client_reply_header(&a.reply, STR("Content-Type"));
    CHECK(type && str_eq(*type, STR("text/event-stream; charset=utf-8")));
    // Every event is "event: NAME\ndata: JSON\n\n".
    Arena arena = os_arena(1 << 20);
    char memory[256];
    StrBuf text = STRBUF(memory);
    uint32_t index = 0, n_events = 0;
    bool ended = false;
    for (Str rest = a.body; rest.len; n_events++) {
        const char *end = memmem(rest.ptr, rest.len, "\n\n", 2);
        REQUIRE(end && str_starts_with(rest, STR("event: ")));
        Str event = str_slice(rest, 7, (size_t)(end - rest.ptr));
        const char *split = memmem(event.ptr, event.len, "\ndata: ", 7);
        REQUIRE(split != NULL);
        Str name = {event.ptr, (size_t)(split - event.ptr)}, data = str_slice(event, name.len + 7, event.len),
            t;
        rest = str_slice(rest, (size_t)(end - rest.ptr) + 2, rest.len);
        Error err;
        uint64_t number;
        const JsonNode *root = json_parse(data, &arena, &(JsonLimits){.nodes_max = 100}, &err);
        REQUIRE(root != NULL);
        CHECK(!ended);
        if (str_eq(name, STR("started"))) {
            CHECK_INT_EQ(0, n_events);
            CHECK(json_read_str(json_get(root, STR("job_id")), &t) && str_eq(t, STR("j-1")));
            CHECK(json_read_str(json_get(root, STR("model")), &t) && str_eq(t, STR("tiny")));
            CHECK(json_read_str(json_get(root, STR("started_at")), &t) && t.len == 24 && t.ptr[23] == 'Z');
            CHECK(json_read_u64(json_get(root, STR("seed")), &number) && number == 42);
            CHECK(json_read_u64(json_get(root, STR("tokens_in")), &number) && number == 1);
        } else if (str_eq(name, STR("token"))) {
            CHECK(json_read_u64(json_get(root, STR("i")), &number) && number == index++);
            REQUIRE(json_read_str(json_get(root, STR("t")), &t) && t.len > 0);
            strbuf_put(&text, t);
        } else if (CHECK_STR_EQ("end", name)) {
            ended = true;
            CHECK(json_read_u64(json_get(root, STR("tokens_out")), &number) && number >= index);
            CHECK(json_read_u64(json_get(root, STR("tokens_in")), &number) && number == 1);
            CHECK(json_read_u64(json_get(root, STR("decode_time_ms")), &number));
            CHECK(json_read_u64(json_get(root, STR("prefill_time_ms")), &number));
            CHECK(json_read_u64(json_get(root, STR("seed")), &number) && number == 42);
            CHECK(json_read_str(json_get(root, STR("stop_reason")), &t) && str_eq(t, STR("eos")));
        }
    }
    CHECK(ended);
    CHECK_STR_EQ("Hello \xF0\x9F\x8C\x8D \"there\"\n", strbuf_str(&text));
    shut_down(f);
}

TEST(api_stream_metrics_event) {
    FakeWorker *f = fake_worker_start(&(FakeConfig){.step_ms = 5});
    Answer a = ask(f, "POST", "/execute", "{\"job_id\":\"j\",\"prompt\":\"p\",\"max_tokens\":220}");
    CHECK(text_contains(a.body, "event: metrics\ndata: {\"job_id\":\"j\",\"tokens_out\":"));
    CHECK(text_contains(a.body, "\"vram_bytes\":0}")); // what a processor holds is no VRAM
    CHECK(text_contains(a.body, "\"stop_reason\":\"length\""));
    shut_down(f);
}

TEST(api_errors_before_the_stream_are_json) {
    static const struct {
        const char *body, *start;
    } rows[] = {
        {"{\"job_id\":\"j\"}", "{\"error\":{\"code\":\"INVALID_REQUEST\",\"message\":\"prompt: is required, "
                               "or prompt_tokens\",\"field\":\"prompt\","
                               "\"retriable\":false,\"correlation_id\":\""},
        {"nonsense",
         "{\"error\":{\"code\":\"INVALID_REQUEST\",\"message\":\"the body: invalid JSON at byte 0: "},
        {"{\"job_id\":\"j\",\"prompt\":\"p\",\"max_tokens\":2048}",
         "{\"error\":{\"code\":\"INVALID_REQUEST\",\"message\":\"max_tokens: 2048 after a prompt of 1 token "
         "makes "
         "2049; the context holds 2048\",\"field\":\"max_tokens\","},
    };
    FakeWorker *f = fake_worker_start(&(FakeConfig){.script = "x"});
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        TEST_CASE_LABEL("%s", rows[i].body);
        Answer a = ask(f, "POST", "/execute", rows[i].body);
        CHECK_INT_EQ(400, a.status);
        if (!CHECK(str_starts_with(a.body, str_from_c(rows[i].start)))) printf("%.*s\n", STR_ARG(a.body));
    }
    CHECK(text_contains(ask(f, "GET", "/metrics", NULL).body,
                        "worker_requests_total{outcome=\"rejected\"} 3\n"));
    shut_down(f);
}

#define LONG_JOB(id) "{\"job_id\":\"" id "\",\"prompt\":\"p\",\"max_tokens\":1500}"

TEST(api_busy_and_duplicate_job_ids) {
    FakeWorker *f = fake_worker_start(&(FakeConfig){.step_ms = 5});
    Stream *s = open_stream(f, LONG_JOB("first"), (HttpHeader){0});
    read_until(s, "event: token");
    CHECK(text_contains(ask(f, "GET", "/health", NULL).body, "\"status\":\"busy\""));
    CHECK_INT_EQ(200, ask(f, "GET", "/ready", NULL).status); // it is at work, and well
    Answer a = ask(f, "POST", "/execute", LONG_JOB("second"));
    CHECK_INT_EQ(503, a.status);
    CHECK(text_contains(
        a.body,
        "{\"error\":{\"code\":\"BUSY\",\"message\":\"the only job slot is taken\",\"retriable\":true,"));
    const Str *retry = http_client_reply_header(&a.reply, STR("Retry-After"));
    CHECK(retry && retry->len > 0);
    a = ask(f, "POST", "/execute", LONG_JOB("first"));
    CHECK_INT_EQ(400, a.status);
    CHECK(text_contains(a.body, "\"field\":\"job_id\""));
    a = ask(f, "POST", "/execute", "{}"); // what is wrong with a request is told first
    CHECK_INT_EQ(400, a.status);
    CHECK_INT_EQ(202, ask(f, "POST", "/cancel", "{\"job_id\":\"first\"}").status);
    read_until(s, NULL);
    CHECK(text_contains(ask(f, "GET", "/health", NULL).body, "\"status\":\"healthy\""));
    shut_down(f);
}

TEST(api_cancel_ends_the_stream_within_100_ms) {
    FakeWorker *f = fake_worker_start(&(FakeConfig){.step_ms = 10});
    Stream *s = open_stream(f, LONG_JOB("j"), (HttpHeader){0});
    read_until(s, "event: token");
    uint64_t begin_ns = os_monotonic_ns();
    Answer a = ask(f, "POST", "/cancel", "{\"job_id\":\"j\"}");
    CHECK_INT_EQ(202, a.status);
    CHECK_STR_EQ("{\"job_id\":\"j\",\"status\":\"cancelling\"}", a.body);
    read_until(s, NULL);
    uint64_t took_ms = (os_monotonic_ns() - begin_ns) / 1000000;
    CHECK_SOON(100, took_ms);
    CHECK(text_contains(stream_text(s),
                        "event: error\ndata: {\"code\":\"CANCELLED\",\"message\":\"the job was "
                        "cancelled\",\"retriable\":false,\"correlation_id\":\""));
    CHECK_STR_EQ(answer_header(&(Answer){.reply = s->reply}, "X-Correlation-Id"),
                 error_correlation_id(stream_text(s)));
    CHECK_INT_EQ(0, text_count(stream_text(s), "event: end"));
    for (int i = 0; i < 2; i++) { // idempotent, and safe for what is not there
        a = ask(f, "POST", "/cancel", "{\"job_id\":\"j\"}");
        CHECK_INT_EQ(202, a.status);
        CHECK_STR_EQ("{\"job_id\":\"j\",\"status\":\"not_found\"}", a.body);
    }
    CHECK_INT_EQ(400, ask(f, "POST", "/cancel", "{}").status);
    CHECK_INT_EQ(400, ask(f, "POST", "/cancel", "[").status);
    CHECK(text_contains(ask(f, "GET", "/metrics", NULL).body,
                        "worker_requests_total{outcome=\"cancelled\"} 1\n"));
    shut_down(f);
}

TEST(api_disconnect_stops_the_job_within_100_ms) {
    FakeWorker *f = fake_worker_start(&(FakeConfig){.step_ms = 10});
    for (int i = 0; i < 3; i++) { // the slot and its pages come back each time
        Stream *s = open_stream(f, LONG_JOB("j"), (HttpHeader){0});
        read_until(s, "event: token");
        CHECK(fake_pages_used(f) > 0);
        uint64_t begin_ns = os_monotonic_ns();
        http_client_close(&s->client);
        for (int waited_ms = 0; fake_pages_used(f) && waited_ms < 60000; waited_ms++)
            os_sleep_ms(1);
        os_sleep_ms(30); // would show another step
        uint64_t last_ns = fake_last_step_ns(f);
        CHECK_SOON(100, last_ns > begin_ns ? (last_ns - begin_ns) / 1000000 : 0);
        CHECK_INT_EQ(0, fake_pages_used(f));
        CHECK(text_contains(ask(f, "GET", "/health", NULL).body, "\"jobs_active\":0"));
    }
    shut_down(f);
}

// A job with a deadline that comes while it runs. A busy machine may be late with it, which is counted: then
// the next one has more time.
static Answer ask_until(FakeWorker *f, uint64_t *begin_ms, uint64_t *given_ms, uint32_t *n_late) {
    Answer a = {0};
    for (*given_ms = 200; *given_ms < 100000; *given_ms *= 2) {
        char ms[32];
        *begin_ms = os_unix_ms();
        snprintf(ms, sizeof ms, "%llu", (unsigned long long)(*begin_ms + *given_ms));
        HttpHeader soon = {STR("X-Deadline"), str_from_c(ms)};
        a = ask_with(fake_port(f), "POST", "/execute", LONG_JOB("a"), soon);
        if (a.status != 504) break;
        ++*n_late;
    }
    return a;
}

TEST(api_deadlines) {
    char counted[64];
    uint32_t n_timeouts = 1; // the one that is past
    FakeWorker *f = fake_worker_start(&(FakeConfig){.step_ms = 5, .timeout_sec = 1});
    HttpHeader past = {STR("X-Deadline"), STR("1000")}, odd = {STR("X-Deadline"), STR("tomorrow")};
    Answer a = ask_with(fake_port(f), "POST", "/execute", LONG_JOB("a"), past);
    CHECK_INT_EQ(504, a.status);
    CHECK(text_contains(a.body, "\"code\":\"INFERENCE_TIMEOUT\""));
    a = ask_with(fake_port(f), "POST", "/execute", LONG_JOB("a"), odd);
    CHECK_INT_EQ(400, a.status);
    CHECK(text_contains(a.body, "\"field\":\"X-Deadline\""));
    // The second one ends with --inference-timeout-sec.
    for (int i = 0; i < 2; i++) {
        HttpHeader far = {STR("X-Deadline"), STR("18446744073709551615")};
        uint64_t begin_ms = os_unix_ms(), took_ms = 0, given_ms = 1000;
        if (i == 1) a = ask_with(fake_port(f), "POST", "/execute", LONG_JOB("a"), far);
        else a = ask_until(f, &begin_ms, &given_ms, &n_timeouts);
        took_ms = os_unix_ms() - begin_ms;
        CHECK_INT_EQ(200, a.status);
        CHECK_INT_EQ(1, text_count(a.body, "event: error\ndata: {\"code\":\"INFERENCE_TIMEOUT\""));
        CHECK_INT_EQ(0, text_count(a.body, "event: end"));
        CHECK(took_ms >= given_ms);
        CHECK_SOON(given_ms + 1000, took_ms);
        n_timeouts++;
    }
    snprintf(counted, sizeof counted, "worker_requests_total{outcome=\"timeout\"} %u\n", n_timeouts);
    CHECK(text_contains(ask(f, "GET", "/metrics", NULL).body, counted));
    shut_down(f);
}

// ---- life ----

TEST(api_starting_worker) {
    FakeWorker *f = fake_worker_start(&(FakeConfig){.script = "x", .hold_start = true});
    atomic_store(&fake_bridge(f)->status.load_permille, 420);
    Answer a = ask(f, "GET", "/health", NULL);
    CHECK_INT_EQ(503, a.status);
    CHECK(text_contains(a.body, "\"status\":\"starting\"") &&
          text_contains(a.body, "\"load_progress\":0.420"));
    a = ask(f, "GET", "/ready", NULL);
    CHECK_INT_EQ(503, a.status);
    CHECK_STR_EQ("{\"status\":\"starting\"}", a.body);
    CHECK_INT_EQ(503, ask(f, "GET", "/v1/health/ready", NULL).status);
    a = ask(f, "GET", "/v1/health/live", NULL);
    CHECK_INT_EQ(200, a.status);
    CHECK_STR_EQ("{\"status\":\"live\"}", a.body);
    a = ask(f, "POST", "/execute", LONG_JOB("j"));
    CHECK_INT_EQ(503, a.status);
    CHECK(text_contains(
        a.body,
        "{\"error\":{\"code\":\"NOT_READY\",\"message\":\"the model is being loaded: 42% of its weights "
        "are there\","
        "\"retriable\":true,"));
    atomic_store(&fake_bridge(f)->status.start_step, START_WARM_UP);
    CHECK(text_contains(ask(f, "POST", "/execute", LONG_JOB("j")).body,
                        "\"message\":\"the model is loaded and computes a first token\""));
    fake_worker_release_start(f);
    CHECK(text_contains(ask(f, "GET", "/health", NULL).body, "\"status\":\"healthy\""));
    CHECK_INT_EQ(200, ask(f, "POST", "/execute", LONG_JOB("j")).status);
    shut_down(f);
}

TEST(api_draining_worker_finishes_its_jobs) {
    FakeWorker *f = fake_worker_start(&(FakeConfig){.script = NULL, .step_ms = 5});
    Stream *s = open_stream(f, "{\"job_id\":\"j\",\"prompt\":\"p\",\"max_tokens\":60}", (HttpHeader){0});
    read_until(s, "event: token");
    CHECK_STR_EQ("{\"status\":\"draining\"}", ask(f, "POST", "/shutdown", "").body);
    Answer a = ask(f, "POST", "/execute", LONG_JOB("late"));
    CHECK_INT_EQ(503, a.status);
    CHECK(text_contains(a.body, "\"NOT_READY\""));
    a = ask(f, "GET", "/health", NULL);
    CHECK_INT_EQ(503, a.status);
    CHECK(text_contains(a.body, "\"status\":\"draining\""));
    CHECK_INT_EQ(503, ask(f, "GET", "/v1/health/ready", NULL).status);
    CHECK_INT_EQ(200, ask(f, "GET", "/v1/health/live", NULL).status);
    CHECK_INT_EQ(503, ask(f, "GET", "/ready", NULL).status);
    read_until(s, NULL);
    CHECK_INT_EQ(1, text_count(stream_text(s), "event: end"));
    fake_worker_join(f);
}

TEST(api_draining_ends_jobs_after_the_grace_time) {
    FakeWorker *f = fake_worker_start(&(FakeConfig){.step_ms = 5, .grace_ms = 200});
    Stream *s = open_stream(f, LONG_JOB("j"), (HttpHeader){0});
    read_until(s, "event: token");
    uint64_t begin_ns = os_monotonic_ns();
    shut_down(f);
    uint64_t took_ms = (os_monotonic_ns() - begin_ns) / 1000000;
    read_until(s, NULL);
    CHECK(text_contains(stream_text(s),
                        "event: error\ndata: {\"code\":\"CANCELLED\",\"message\":\"the worker is "
                        "shutting down\",\"retriable\":false,"));
    CHECK(took_ms >= 200);
    CHECK_SOON(1500, took_ms);
}

TEST(api_lost_backend_ends_streams_and_server) {
    FakeWorker *f = fake_worker_start(&(FakeConfig){.step_ms = 5, .n_jobs = 2});
    Stream *s[2];
    s[0] = open_stream(f, LONG_JOB("a"), (HttpHeader){0});
    s[1] = open_stream(f, LONG_JOB("b"), (HttpHeader){0});
    for (int i = 0; i < 2; i++)
        read_until(s[i], "event: token");
    uint64_t begin_ns = os_monotonic_ns();
    fake_fail(f, ERR_CUDA);
    for (int i = 0; i < 2; i++) {
        read_until(s[i], NULL);
        CHECK(text_contains(stream_text(s[i]),
                            "event: error\ndata: {\"code\":\"CUDA_ERROR\",\"message\":\"the "
                            "script says so\",\"retriable\":true,"));
    }
    Answer a;
    do // the last stream may end a moment before
        a = ask(f, "GET", "/health", NULL);
    while (a.status == 200);
    CHECK_INT_EQ(503, a.status);
    CHECK(text_contains(a.body, "\"status\":\"unhealthy\"") && text_contains(a.body, "\"jobs_active\":0"));
    a = ask(f, "POST", "/execute", LONG_JOB("late"));
    CHECK_INT_EQ(500, a.status);
    CHECK(text_contains(a.body, "{\"error\":{\"code\":\"CUDA_ERROR\",\"message\":\"the script says so\","
                                "\"retriable\":true,"));
    fake_worker_join(f); // the server stops by itself
    CHECK_SOON(2000, (os_monotonic_ns() - begin_ns) / 1000000);
}

TEST(api_vram_oom_is_a_json_error) {
    FakeWorker *f = fake_worker_start(&(FakeConfig){.n_jobs = 2, .step_ms = 5});
    Stream *s = open_stream(f, LONG_JOB("large"), (HttpHeader){0});
    read_until(s, "event: token");
    fake_refuse(f, ERR_VRAM_OOM);
    Answer a = ask(f, "POST", "/execute", LONG_JOB("second"));
    CHECK_INT_EQ(500, a.status);
    CHECK(text_contains(a.body, "\"code\":\"VRAM_OOM\"") && text_contains(a.body, "\"retriable\":true"));
    fake_refuse(f, ERR_NONE);
    CHECK_INT_EQ(200,
                 ask(f, "POST", "/execute", "{\"job_id\":\"s\",\"prompt\":\"p\",\"max_tokens\":3}").status);
    ask(f, "POST", "/cancel", "{\"job_id\":\"large\"}");
    read_until(s, NULL);
    shut_down(f);
}

static int compare_u64(const void *a, const void *b) {
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

// While a job runs /health comes from cached state. The figure is shown; that nothing holds it up is what the
// cases of the encoder thread check.
TEST(api_health_while_busy) {
    enum { N = 200 };
    FakeWorker *f = fake_worker_start(&(FakeConfig){.step_ms = 0});
    uint64_t took_us[N];
    Stream *s = open_stream(f, LONG_JOB("j"), (HttpHeader){0});
    for (int i = 0; i < N; i++) {
        uint64_t begin_ns = os_monotonic_ns();
        CHECK_INT_EQ(200, ask(f, "GET", "/health", NULL).status);
        took_us[i] = (os_monotonic_ns() - begin_ns) / 1000;
    }
    read_until(s, NULL);
    qsort(took_us, N, sizeof took_us[0], compare_u64);
    printf("/health: p99 %llu us\n", (unsigned long long)took_us[N * 99 / 100]);
    shut_down(f);
}

// A check of the device's memory every minute; one that fails makes the worker unhealthy.
TEST(api_health_resident_and_lost) {
    FakeWorker *f = fake_worker_start(&(FakeConfig){.script = "x", .in_vram = true});
    Answer a = ask(f, "GET", "/health", NULL);
    CHECK(a.status == 200 && text_contains(a.body, "\"resident\":true"));
    fake_lose_residency(f);
    fake_advance_clock(f, 59 * 1000);
    os_sleep_ms(50);
    CHECK_INT_EQ(200, ask(f, "GET", "/health", NULL).status);
    fake_advance_clock(f, 2 * 1000);
    for (int i = 0; i < 500 && ask(f, "GET", "/health", NULL).status == 200; i++)
        os_sleep_ms(10);
    a = ask(f, "GET", "/health", NULL);
    CHECK_INT_EQ(503, a.status);
    CHECK(text_contains(a.body, "\"status\":\"unhealthy\"") && text_contains(a.body, "\"resident\":false"));
    shut_down(f);
}

// Every code of the contract's table, with its status and whether to try again.
TEST(api_error_codes) {
    static const struct {
        const char *name;
        uint16_t status;
        bool retriable;
    } rows[] = {
        {"INVALID_REQUEST", 400, false}, {"UNAUTHORIZED", 401, false},      {"BUSY", 503, true},
        {"NOT_READY", 503, true},        {"MODEL_LOAD_FAILED", 500, false}, {"INSUFFICIENT_VRAM", 503, true},
        {"VRAM_OOM", 500, true},         {"CUDA_ERROR", 500, true},         {"INFERENCE_TIMEOUT", 504, true},
        {"CANCELLED", 499, false},       {"INTERNAL", 500, false},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        bool found = false;
        TEST_CASE_LABEL("%s", rows[i].name);
        for (ErrCode code = ERR_NONE; code < ERR_COUNT; code++) {
            const ErrorInfo *info = error_info(code);
            if (strcmp(info->name, rows[i].name) != 0 || code == ERR_TOO_LARGE) continue; // as HTTP's own 413
            found = true;
            CHECK_INT_EQ(rows[i].status, info->http_status);
            CHECK(info->retriable == rows[i].retriable);
        }
        CHECK(found);
    }
}

static void check_error(const char *name, uint16_t status, bool retriable, Answer a) {
    char expected[128], end[32];
    TEST_CASE_LABEL("%s", name);
    snprintf(expected, sizeof expected, "{\"error\":{\"code\":\"%s\",\"message\":\"", name);
    snprintf(end, sizeof end, "\"retriable\":%s,", retriable ? "true" : "false");
    CHECK_INT_EQ(status, a.status);
    if (!CHECK(str_starts_with(a.body, str_from_c(expected)) && text_contains(a.body, end)))
        printf("%.*s\n", STR_ARG(a.body));
    CHECK_STR_EQ(answer_header(&a, "X-Correlation-Id"), error_correlation_id(a.body));
    const Str *retry = http_client_reply_header(&a.reply, STR("Retry-After"));
    CHECK((retry != NULL) == (strcmp(name, "BUSY") == 0 || strcmp(name, "NOT_READY") == 0));
}

static Answer ask_for_job(FakeWorker *f) {
    return ask(f, "POST", "/execute", LONG_JOB("j"));
}

#define WAITING_JOB "{\"job_id\":\"waits\",\"prompt\":\"p\",\"max_tokens\":3}"

// In the middle of another's step a job waits for its end, and may be over before it has begun. (Between two
// steps it would begin, so there are several tries.)
static Answer outlive_a_waiting_job(FakeWorker *f) {
    Answer a = {0};
    for (int i = 0; i < 5 && a.status != 504; i++) {
        char ms[32];
        snprintf(ms, sizeof ms, "%llu", (unsigned long long)os_unix_ms() + 20);
        HttpHeader soon = {STR("X-Deadline"), str_from_c(ms)};
        a = ask_with(fake_port(f), "POST", "/execute", WAITING_JOB, soon);
    }
    return a;
}

typedef struct {
    FakeWorker *f;
    Answer answer;
} Waiting;

static void *ask_for_waiting_job(void *argument) {
    Waiting *w = argument;
    w->answer = ask(w->f, "POST", "/execute", WAITING_JOB);
    return NULL;
}

static Answer cancel_a_waiting_job(FakeWorker *f) {
    Waiting w = {.f = f};
    for (int i = 0; i < 5 && w.answer.status != 499; i++) {
        OsThread thread;
        Error err;
        REQUIRE(os_thread_start(&thread, "waiting", ask_for_waiting_job, &w, &err));
        for (int tries = 0; tries < 200; tries++) {
            if (text_contains(ask(f, "POST", "/cancel", "{\"job_id\":\"waits\"}").body, "cancelling")) break;
        }
        os_thread_join(&thread);
    }
    return w.answer;
}

// Each code as a client meets it: what has to happen, and the answer.
TEST(contract_every_error_code_over_http) {
    FakeWorker *f = fake_worker_start(&(FakeConfig){.script = "x", .tokens = "secret"});
    check_error("UNAUTHORIZED", 401, false, ask_for_job(f));
    HttpHeader token = {STR("Authorization"), STR("Bearer secret")};
    CHECK_INT_EQ(202, ask_with(fake_port(f), "POST", "/shutdown", "", token).status);
    fake_worker_join(f);

    static const struct {
        ErrCode code;
        const char *name;
        uint16_t status;
        bool retriable;
    } failures[] = {{ERR_BAD_FILE, "MODEL_LOAD_FAILED", 500, false},
                    {ERR_UNSUPPORTED, "MODEL_LOAD_FAILED", 500, false},
                    {ERR_INSUFFICIENT_VRAM, "INSUFFICIENT_VRAM", 503, true},
                    {ERR_INTERNAL, "INTERNAL", 500, false}};
    for (size_t i = 0; i < COUNT_OF(failures); i++) {
        f = fake_worker_start(&(FakeConfig){.hold_start = true, .start_error = failures[i].code});
        check_error("NOT_READY", 503, true, ask_for_job(f));
        fake_worker_release_start(f);
        check_error(failures[i].name, failures[i].status, failures[i].retriable, ask_for_job(f));
        CHECK_INT_EQ(503, ask(f, "GET", "/health", NULL).status);
        fake_worker_join(f); // ends by itself
    }

    f = fake_worker_start(&(FakeConfig){.n_jobs = 2, .step_ms = 200});
    check_error("INVALID_REQUEST", 400, false, ask(f, "POST", "/execute", "{\"job_id\":\"j\"}"));
    HttpHeader past = {STR("X-Deadline"), STR("1000")};
    check_error("INFERENCE_TIMEOUT", 504, true,
                ask_with(fake_port(f), "POST", "/execute", LONG_JOB("j"), past));
    Stream *first = open_stream(f, LONG_JOB("first"), (HttpHeader){0});
    fake_refuse(f, ERR_VRAM_OOM);
    check_error("VRAM_OOM", 500, true, ask_for_job(f));
    fake_refuse(f, ERR_NONE);
    read_until(first, "event: token");
    check_error("INFERENCE_TIMEOUT", 504, true, outlive_a_waiting_job(f));
    check_error("CANCELLED", 499, false, cancel_a_waiting_job(f));
    Stream *second =
        open_stream(f, "{\"job_id\":\"s\",\"prompt\":\"p\",\"max_tokens\":400}", (HttpHeader){0});
    check_error("BUSY", 503, true, ask_for_job(f));
    ask(f, "POST", "/cancel", "{\"job_id\":\"s\"}");
    read_until(second, NULL);
    fake_fail(f, ERR_CUDA);
    check_error("CUDA_ERROR", 500, true, ask(f, "POST", "/execute", WAITING_JOB));
    fake_worker_join(f);
}

// ---- logs ----

static char logged[1 << 20];
static _Atomic size_t logged_bytes;

static bool capture(void *sink, Str bytes) {
    (void)sink;
    size_t at = atomic_fetch_add(&logged_bytes, bytes.len);
    if (at + bytes.len < sizeof logged) memcpy(logged + at, bytes.ptr, bytes.len);
    return true;
}

// Everything that a client can send with text in it.
static void send_secrets(FakeWorker *f) {
    ask_with(fake_port(f), "POST", "/execute",
             "{\"job_id\":\"j\",\"prompt\":\"sesame opens\",\"stop\":[\"abracadabra\"]}",
             (HttpHeader){STR("X-Correlation-Id"), STR("of-a-job")});
    ask(f, "POST", "/execute",
        "{\"job_id\":\"refused\",\"prompt\":\"sesame opens\",\"stop\":[\"abracadabra\", 1]}");
    ask(f, "POST", "/execute", "{\"job_id\":\"j\",\"prompt\":\"sesame opens\",\"seed\":\"abracadabra\"}");
    ask(f, "POST", "/execute", "{\"job_id\":\"j\",\"prompt\":\"sesame opens\" abracadabra");
    ask(f, "POST", "/execute",
        "{\"job_id\":\"j\",\"prompt\":\"sesame opens\",\"abracadabra\":1,\"top_k\":-1}");
    ask(f, "GET", "/sesame", NULL);
    ask(f, "GET", "/health?sesame", NULL);
    ask_raw(fake_port(f), STR("GET /sesame HTTP/1.1\r\nabra cadabra: abracadabra\r\n\r\n"));
    fake_emit_nan(f);
    ask(f, "POST", "/execute", "{\"job_id\":\"j\",\"prompt\":\"sesame opens\",\"stop\":[\"abracadabra\"]}");
}

// No prompt, stop string or output text in any log, at any level, in either format.
TEST(api_logs_hold_no_text) {
    static const char *const secrets[] = {"sesame", "abracadabra", "xyzzy", "plugh"};
    static const char *const events[] = {"execute_start", "execute_end", "execute_rejected",
                                         "request",       "draining",    "request_refused",
                                         "error"};
    for (uint32_t i = 0; i < 2 * LOG_LEVEL_COUNT; i++) {
        LogLevel level = (LogLevel)(i / 2);
        LogFormat format = i % 2 ? LOG_FORMAT_JSON : LOG_FORMAT_TEXT;
        Log log = {
            .format = format, .level = level, .gpu_device = -1, .write = capture, .now_unix_ms = os_unix_ms};
        atomic_store(&logged_bytes, 0);
        memset(logged, 0, sizeof logged);
        // (A template may quote what it is given.)
        FakeWorker *f = fake_worker_start(
            &(FakeConfig){.script = "xyzzy plugh",
                          .log = &log,
                          .chat_template = "{{ raise_exception('bad: ' ~ messages[0].content) }}"});
        send_secrets(f);
        (void)ask(f, "POST", "/v1/chat/completions",
                  "{\"messages\":[{\"role\":\"user\",\"content\":\"sesame\"}]}");
        (void)ask(f, "POST", "/v1/chat/completions",
                  "{\"messages\":[{\"role\":\"sesame\",\"content\":\"x\"}]}");
        (void)ask(f, "POST", "/v1/completions", "{\"prompt\":\"abracadabra\",\"stop\":\"plugh\"}");
        shut_down(f);
        for (size_t k = 0; k < COUNT_OF(secrets); k++) {
            TEST_CASE_LABEL("%s at level %u", secrets[k], (unsigned)level);
            CHECK(strstr(logged, secrets[k]) == NULL);
        }
        CHECK((logged[0] != 0) == (level < LOG_LEVEL_ERROR));
        for (size_t k = 0; level == LOG_LEVEL_DEBUG && k < COUNT_OF(events); k++) {
            char member[64];
            TEST_CASE_LABEL("%s", events[k]);
            snprintf(member, sizeof member, format == LOG_FORMAT_JSON ? "\"event\":\"%s\"" : "  %s ",
                     events[k]);
            CHECK(strstr(logged, member) != NULL);
        }
        TEST_CASE_LABEL("%s", "what a refusal says");
        bool says = level <= LOG_LEVEL_INFO && format == LOG_FORMAT_JSON;
        CHECK(says == (strstr(logged, "\"job_id\":\"refused\",\"correlation_id\":\"") != NULL));
        CHECK(says == (strstr(logged, "\"message\":\"stop[1]: must be a string, found a number\"") != NULL));
        TEST_CASE_LABEL("%s", "the prompt's length and hash");
        CHECK(says == (strstr(logged, "\"prompt_bytes\":12,\"prompt_sha256\":\"4f84395087c1ee01\"") != NULL));
        TEST_CASE_LABEL("%s", "correlation id");
        CHECK_INT_EQ(says ? 2 : 0, // at its start and end
                     text_count(str_from_c(logged), "\"correlation_id\":\"of-a-job\""));
    }
}
