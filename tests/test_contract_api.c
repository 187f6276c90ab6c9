// Lines of the worker contract as a client on a socket meets them, with a scripted backend behind the API.
#include "api_client.h"
#include "base/strbuf.h"
#include "json/json_reader.h"
#include "os/os.h"
#include "runner.h"
#include "sched/sched.h"
#include "worker_process.h"

#include <ctype.h>
#include <stdio.h>

#define LONG_JOB(id) "{\"job_id\":\"" id "\",\"prompt\":\"p\",\"max_tokens\":1500}"

static const JsonNode *parse_json(Str text) {
    static Arena arena;
    Error err;
    arena = os_arena(1 << 20);
    const JsonNode *root = json_parse(text, &arena, &(JsonLimits){.nodes_max = 1000}, &err);
    if (!root) FAIL("%s", err.message), test_end();
    return root;
}

// The data of a stream's first event of this name.
static const JsonNode *event_data(Str stream, const char *name) {
    char start[64];
    snprintf(start, sizeof start, "event: %s\ndata: ", name);
    const char *at = memmem(stream.ptr, stream.len, start, strlen(start));
    REQUIRE(at != NULL);
    at += strlen(start);
    return parse_json((Str){at, strcspn(at, "\n")});
}

// ---- who may ask ----

TEST(contract_unauthorized_on_each_route) {
    static const struct {
        const char *method, *path, *body;
        uint16_t allowed; // with a token
    } routes[] = {{"GET", "/metrics", NULL, 200},
                  {"POST", "/execute", "{\"job_id\":\"j\",\"prompt\":\"p\"}", 200},
                  {"POST", "/cancel", "{\"job_id\":\"j\"}", 202},
                  {"POST", "/shutdown", "", 202}}; // the last
    static const char *const bad[] = {NULL,           "",       "Bearer",         "Bearer wrong",
                                      "Basic secret", "secret", "Bearer secret2", "Bearer secre"};
    FakeWorker *f = fake_worker_start(&(FakeConfig){.script = "x", .tokens = "secret\nother\n"});
    for (size_t i = 0; i < COUNT_OF(routes); i++) {
        for (size_t k = 0; k < COUNT_OF(bad); k++) {
            TEST_CASE_LABEL("%s with %s", routes[i].path, bad[k] ? bad[k] : "nothing");
            HttpHeader header = {bad[k] ? STR("Authorization") : (Str){0}, str_from_c(bad[k])};
            Answer a = ask_with(fake_port(f), routes[i].method, routes[i].path, routes[i].body, header);
            CHECK_INT_EQ(401, a.status);
            CHECK(str_starts_with(a.body, STR("{\"error\":{\"code\":\"UNAUTHORIZED\",")));
            CHECK_STR_EQ("Bearer", answer_header(&a, "WWW-Authenticate"));
        }
        HttpHeader token = {STR("Authorization"), STR("Bearer other")};
        TEST_CASE_LABEL("%s with a token", routes[i].path);
        Answer a = ask_with(fake_port(f), routes[i].method, routes[i].path, routes[i].body, token);
        CHECK_INT_EQ(routes[i].allowed, a.status);
    }
    fake_worker_join(f);
}

// ---- what every answer carries ----

// Also what HTTP refuses, as far as the header had come; and a page of the allowed origin may read it.
TEST(contract_refusals_have_a_correlation_id) {
    static const struct {
        const char *name, *request, *id; // NULL: one is made up
        uint16_t status;
    } rows[] = {
        {"too large",
         "POST /execute HTTP/1.1\r\nHost: localhost\r\nX-Correlation-Id: mine\r\nContent-Length: "
         "99999999\r\n\r\n",
         "mine", 413},
        {"chunk too large",
         "POST /execute HTTP/1.1\r\nHost: localhost\r\nX-Correlation-Id: mine\r\nTransfer-Encoding: "
         "chunked\r\n\r\n"
         "FFFFFFFF\r\n",
         "mine", 413},
        {"header behind the id",
         "GET / HTTP/1.1\r\nHost: localhost\r\nX-Correlation-Id: mine\r\nX Y: 1\r\n\r\n", "mine", 400},
        {"header before the id",
         "GET / HTTP/1.1\r\nHost: localhost\r\nX Y: 1\r\nX-Correlation-Id: mine\r\n\r\n", NULL, 400},
        {"no usable id",
         "POST / HTTP/1.1\r\nHost: localhost\r\nX-Correlation-Id: a b\r\nContent-Length: x\r\n\r\n", NULL,
         400},
        {"no request", "nonsense\r\n\r\n", NULL, 400},
    };
    FakeWorker *f = fake_worker_start(&(FakeConfig){.script = "x", .cors_origin = "https://example.org"});
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        char status[32];
        TEST_CASE_LABEL("%s", rows[i].name);
        Str text = ask_raw(fake_port(f), str_from_c(rows[i].request));
        snprintf(status, sizeof status, "HTTP/1.1 %u ", rows[i].status);
        CHECK(str_starts_with(text, str_from_c(status)));
        static const char name[] = "\r\nX-Correlation-Id: ";
        const char *at = memmem(text.ptr, text.len, name, sizeof name - 1);
        REQUIRE(at != NULL);
        Str id = {at + sizeof name - 1, strcspn(at + sizeof name - 1, "\r")};
        if (rows[i].id) CHECK_STR_EQ(rows[i].id, id);
        else CHECK_INT_EQ(36, id.len);
        CHECK(text_contains(text, "\r\nAccess-Control-Allow-Origin: https://example.org\r\n"));
        CHECK(text_contains(text, "\r\n\r\n{\"error\":{\"code\":\"INVALID_REQUEST\",\"message\":\""));
    }
    shut_down(f);
}

TEST(contract_cors_preflight) {
    static const char *const origins[] = {"https://example.org", "*"};
    for (size_t i = 0; i < COUNT_OF(origins); i++) {
        TEST_CASE_LABEL("%s", origins[i]);
        HttpHeader asks = {STR("Access-Control-Request-Method"), STR("POST")};
        FakeWorker *f = fake_worker_start(&(FakeConfig){.script = "x", .cors_origin = origins[i]});
        Answer a = ask_with(fake_port(f), "OPTIONS", "/execute", NULL, asks);
        CHECK_INT_EQ(204, a.status);
        CHECK_INT_EQ(0, a.body.len);
        CHECK_STR_EQ(origins[i], answer_header(&a, "Access-Control-Allow-Origin"));
        CHECK_STR_EQ("GET, POST", answer_header(&a, "Access-Control-Allow-Methods"));
        CHECK_STR_EQ("Authorization, X-Api-Key, Content-Type, X-Correlation-Id, X-Request-Id, X-Deadline, "
                     "Anthropic-Version, Anthropic-Beta, Anthropic-Dangerous-Direct-Browser-Access",
                     answer_header(&a, "Access-Control-Allow-Headers"));
        CHECK(answer_header(&a, "Access-Control-Max-Age").len > 0);
        // OPTIONS that is no preflight is a method like any other that is not there.
        CHECK_INT_EQ(405, ask(f, "OPTIONS", "/execute", NULL).status);
        shut_down(f);
    }
}

// ---- requests ----

TEST(contract_deadline_that_is_over_or_none) {
    static const struct {
        const char *value; // NULL: this very moment
        uint16_t status;
        bool in_seconds; // to be seen
    } rows[] = {{NULL, 504, false},
                {"0", 504, false},
                {"1", 504, false},
                {"1763864325", 504, true},
                {"1763864325.123", 400, true},
                {"1763864325123.5", 400, false},
                {"99999999999", 504, true},
                {"100000000000", 504, false},
                {"", 400, false},
                {"-5", 400, false},
                {"+5", 400, false},
                {"1e13", 400, false},
                {"0x10", 400, false},
                {"1.5", 400, false},
                {"now", 400, false},
                {"1 2", 400, false},
                {"18446744073709551616", 400, false},
                {"\t9999999999999\t", 200, false}};
    FakeWorker *f = fake_worker_start(&(FakeConfig){.script = "x"});
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        char now[32];
        snprintf(now, sizeof now, "%llu", (unsigned long long)os_unix_ms());
        TEST_CASE_LABEL("%s", rows[i].value ? rows[i].value : "now");
        HttpHeader header = {STR("X-Deadline"), str_from_c(rows[i].value ? rows[i].value : now)};
        Answer a = ask_with(fake_port(f), "POST", "/execute", "{\"job_id\":\"j\",\"prompt\":\"p\"}", header);
        CHECK_INT_EQ(rows[i].status, a.status);
        if (rows[i].status == 200) continue;
        CHECK(text_contains(a.body,
                            rows[i].status == 504 ? "\"INFERENCE_TIMEOUT\"" : "\"field\":\"X-Deadline\""));
        CHECK(text_contains(a.body, rows[i].status == 504 ? "\"retriable\":true" : "\"retriable\":false"));
        CHECK(text_contains(a.body, "this looks like seconds") == rows[i].in_seconds);
    }
    shut_down(f);
}

// What is no text is that request's error and no other's.
TEST(contract_bad_utf8_is_a_bad_request) {
    static const char *const bodies[] = {
        "{\"job_id\":\"j\",\"prompt\":\"\xFF\"}",
        "{\"job_id\":\"j\",\"prompt\":\"\xC3\"}",
        "{\"job_id\":\"j\",\"prompt\":\"\xED\xA0\x80\"}",
        "{\"job_id\":\"j\",\"prompt\":\"\\ud800\"}",
        "{\"job_id\":\"\xFF\",\"prompt\":\"p\"}",
        "{\"job_id\":\"j\",\"prompt\":\"p\",\"stop\":[\"\xC0\x80\"]}",
    };
    FakeWorker *f = fake_worker_start(&(FakeConfig){.script = "x"});
    for (size_t i = 0; i < COUNT_OF(bodies); i++) {
        TEST_CASE_LABEL("row %zu", i);
        Answer a = ask(f, "POST", "/execute", bodies[i]);
        CHECK_INT_EQ(400, a.status);
        CHECK(str_starts_with(a.body, STR("{\"error\":{\"code\":\"INVALID_REQUEST\",")));
        CHECK_INT_EQ(200,
                     ask(f, "POST", "/execute", "{\"job_id\":\"j\",\"prompt\":\"\xC3\xA9\\u0000\"}").status);
    }
    shut_down(f);
}

// Twice while it runs, and after its end; the id may then be used again.
TEST(contract_cancel_is_idempotent) {
    FakeWorker *f = fake_worker_start(&(FakeConfig){.step_ms = 50});
    for (int round = 0; round < 2; round++) {
        Stream *s = open_stream(f, LONG_JOB("j"), (HttpHeader){0});
        read_until(s, "event: token");
        for (int i = 0; i < 3; i++) {
            Answer a = ask(f, "POST", "/cancel", "{\"job_id\":\"j\"}");
            CHECK_INT_EQ(202, a.status);
            bool ended = str_eq(a.body, STR("{\"job_id\":\"j\",\"status\":\"not_found\"}"));
            CHECK((ended && i > 0) || str_eq(a.body, STR("{\"job_id\":\"j\",\"status\":\"cancelling\"}")));
        }
        read_until(s, NULL);
        CHECK_INT_EQ(1, text_count(stream_text(s), "event: error\n"));
        CHECK_INT_EQ(0, text_count(stream_text(s), "event: end\n"));
    }
    static const char *const bad[] = {
        "", "[]", "{\"job_id\":7}", "{\"job_id\":null}", "{\"job_id\":\"\"}", "\"j\""};
    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        TEST_CASE_LABEL("%s", bad[i]);
        Answer a = ask(f, "POST", "/cancel", bad[i]);
        CHECK_INT_EQ(400, a.status);
        CHECK(text_contains(a.body, "\"INVALID_REQUEST\""));
    }
    shut_down(f);
}

// ---- streams ----

static bool is_rfc3339(Str text) {
    static const char form[] = "0000-00-00T00:00:00.000Z";
    bool ok = text.len == sizeof form - 1;
    for (size_t i = 0; ok && i < text.len; i++)
        ok = form[i] == '0' ? isdigit((unsigned char)text.ptr[i]) != 0 : text.ptr[i] == form[i];
    return ok;
}

TEST(contract_seed_is_chosen_and_reported) {
    FakeWorker *f = fake_worker_start(&(FakeConfig){.script = "x"});
    uint64_t seeds[2], at_the_end;
    Str started_at;
    for (size_t i = 0; i < COUNT_OF(seeds); i++) {
        Answer a = ask(f, "POST", "/execute", "{\"job_id\":\"j\",\"prompt\":\"p\"}");
        const JsonNode *started = event_data(a.body, "started");
        CHECK(json_read_str(json_get(started, STR("started_at")), &started_at) && is_rfc3339(started_at));
        REQUIRE(json_read_u64(json_get(started, STR("seed")), &seeds[i]));
        REQUIRE(json_read_u64(json_get(event_data(a.body, "end"), STR("seed")), &at_the_end));
        CHECK_U64_EQ(seeds[i], at_the_end);
    }
    CHECK(seeds[0] != seeds[1]);
    shut_down(f);
}

TEST(contract_metrics_count_outcomes) {
    static const char *const lines[] = {
        "worker_requests_total{outcome=\"success\"} 2\n",   "worker_requests_total{outcome=\"error\"} 1\n",
        "worker_requests_total{outcome=\"cancelled\"} 1\n", "worker_requests_total{outcome=\"timeout\"} 1\n",
        "worker_requests_total{outcome=\"rejected\"} 1\n",  "worker_first_token_ms_count 3\n",
        "worker_inference_duration_ms_count 4\n",           "worker_jobs_active 0\n",
    };
    FakeWorker *f = fake_worker_start(&(FakeConfig){.n_jobs = 2, .step_ms = 5});
    Stream *s = open_stream(f, LONG_JOB("large"), (HttpHeader){0});
    read_until(s, "event: token");
    fake_refuse(f, ERR_VRAM_OOM);
    ask(f, "POST", "/execute", LONG_JOB("error"));
    fake_refuse(f, ERR_NONE);
    for (int i = 0; i < 2; i++)
        ask(f, "POST", "/execute", "{\"job_id\":\"j\",\"prompt\":\"p\",\"max_tokens\":3}");
    ask(f, "POST", "/execute", "{}");
    ask_with(fake_port(f), "POST", "/execute", LONG_JOB("late"), (HttpHeader){STR("X-Deadline"), STR("1")});
    CHECK(text_contains(ask(f, "GET", "/metrics", NULL).body, "worker_jobs_active 1\n"));
    CHECK(!text_contains(ask(f, "GET", "/metrics", NULL).body, "worker_kv_used_ratio 0.000000\n"));
    ask(f, "POST", "/cancel", "{\"job_id\":\"large\"}");
    read_until(s, NULL);
    Str text = ask(f, "GET", "/metrics", NULL).body;
    for (size_t i = 0; i < COUNT_OF(lines); i++) {
        if (!CHECK(text_contains(text, lines[i]))) printf("%s%.*s", lines[i], STR_ARG(text));
    }
    shut_down(f);
}

// ---- life ----

TEST(contract_health_fields_have_their_types) {
    static const struct {
        const char *name;
        const char *type; // json_type_name
    } rows[] = {
        {"status", "a string"},
        {"model", "a string"},
        {"model_ref", "a string"},
        {"worker_id", "a string"},
        {"resident", "a boolean"},
        {"quant_kind", "a string"},
        {"kv_cache_type", "a string"},
        {"products", "a string"},
        {"vram_bytes_used", "a number"},
        {"vram_bytes_total", "a number"},
        {"tokenizer_kind", "a string"},
        {"vocab_size", "a number"},
        {"context_length", "a number"},
        {"uptime_seconds", "a number"},
        {"sm", "a number"},
        {"cuda_runtime_version", "a string"},
        {"driver_version", "a string"},
        {"capabilities", "an array"},
        {"protocol", "a string"},
        {"jobs_active", "a number"},
        {"jobs_max", "a number"},
        {"checkpoints_max", "a number"},
        {"checkpoint_bytes", "a number"},
        {"jobs_queued", "a number"},
        {"load_progress", "a number"},
    };
    for (int k = 0; k < 4; k++) {
        bool in_vram = k % 2, starts = k / 2;
        FakeWorker *f =
            fake_worker_start(&(FakeConfig){.script = "x", .in_vram = in_vram, .hold_start = starts});
        const JsonNode *root = parse_json(ask(f, "GET", "/health", NULL).body);
        bool resident = false;
        double context = 0, total = 0;
        CHECK(json_read_bool(json_get(root, STR("resident")), &resident) && resident == (in_vram && !starts));
        CHECK(json_read_f64(json_get(root, STR("context_length")), &context) && context == 2048);
        CHECK(json_read_f64(json_get(root, STR("vram_bytes_total")), &total) && (total > 0) == in_vram);
        REQUIRE(json_is(root, JSON_OBJECT));
        CHECK_INT_EQ(COUNT_OF(rows), root->length);
        for (size_t i = 0; i < COUNT_OF(rows); i++) {
            TEST_CASE_LABEL("%s, %s%s", rows[i].name, in_vram ? "GPU" : "CPU", starts ? ", starting" : "");
            const JsonNode *value = json_get(root, str_from_c(rows[i].name));
            bool is_gpus = strstr("sm cuda_runtime_version driver_version", rows[i].name) != NULL;
            CHECK_STR_EQ(is_gpus && !in_vram ? "null" : rows[i].type, json_type_name(value));
        }
        if (starts) fake_worker_release_start(f);
        shut_down(f);
    }
}

// Jobs may go on for 30 s after the worker was told to end.
TEST(contract_grace_time_is_30_s) {
    FakeWorker *f = fake_worker_start(&(FakeConfig){.step_ms = 20});
    Stream *s = open_stream(f, LONG_JOB("j"), (HttpHeader){0});
    read_until(s, "event: token");
    CHECK_INT_EQ(202, ask(f, "POST", "/shutdown", "").status);
    CHECK_INT_EQ(202, ask(f, "POST", "/shutdown", "").status); // changes nothing
    fake_advance_clock(f, 28 * 1000);
    os_sleep_ms(250); // the clock is looked at every 100 ms
    Answer a = ask(f, "GET", "/health", NULL);
    CHECK(text_contains(a.body, "\"jobs_active\":1") && text_contains(a.body, "\"status\":\"draining\""));
    fake_advance_clock(f, 2 * 1000);
    fake_worker_join(f);
    read_until(s, NULL);
    CHECK_INT_EQ(1, text_count(stream_text(s), "event: error\ndata: {\"code\":\"CANCELLED\""));
}

// ---- numbers that are promised ----

TEST(contract_limits) {
    static const struct {
        const char *name;
        uint64_t promised, value;
    } rows[] = {
        {"body", 10 << 20, HTTP_BODY_BYTES_MAX},
        {"headers", 32 << 10, HTTP_HEADER_BYTES_MAX},
        {"keep-alive comments", 15000, HTTP_KEEPALIVE_COMMENT_MS},
        {"job_id", 256, JOB_ID_BYTES_MAX},
        {"prompt", 32768, PROMPT_CHARACTERS_MAX},
        {"stop strings of /execute", 4, EXECUTE_STOP_STRINGS_MAX},
        {"stop strings of the OpenAI routes", 16, STOP_STRINGS_MAX},
        {"choices", 8, CHOICES_MAX},
        {"tokens of a stop string", 32, STOP_STRING_TOKENS_MAX},
        {"time between metrics events", 500, METRICS_INTERVAL_MS},
        {"time between checks of residency", 60000, RESIDENCY_INTERVAL_MS},
        {"time to shut down", 30000, SHUTDOWN_GRACE_MS},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        TEST_CASE_LABEL("%s", rows[i].name);
        CHECK_U64_EQ(rows[i].promised, rows[i].value);
    }
}
