// The API's parts that need no server: metrics as text, bearer tokens, the tables of routes and files.
#include "api/auth.h"
#include "api/files.h"
#include "api/metrics.h"
#include "api/routes.h"
#include "runner.h"

#include <stdio.h>

TEST(api_auth) {
    static const struct {
        const char *file, *header;
        bool allowed;
    } rows[] = {
        {"secret", "Bearer secret", true},
        {"secret", "bearer  secret ", true},
        {"secret\n", "Bearer secret", true},
        {"# old\r\nold\r\n\r\nnew\r\n", "Bearer new", true},
        {"# old\nold\nnew\n", "Bearer old", true},
        {"secret", "Bearer secre", false},
        {"secret", "Bearer secrets", false},
        {"secret", "Bearer secretsecret", false},
        {"secret", "Bearer ", false},
        {"secret", "Bearer", false},
        {"secret", "Basic secret", false},
        {"secret", "secret", false},
        {"secret", "", false},
        {"secret", NULL, false},
        {"# comment", "Bearer # comment", false},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        TEST_CASE_LABEL("%s", rows[i].header ? rows[i].header : "(no header)");
        Auth auth;
        Error err;
        Str header = str_from_c(rows[i].header);
        bool parsed = auth_parse(str_from_c(rows[i].file), &auth, &err);
        if (!parsed) CHECK(!rows[i].allowed); // a file with comments only is refused at start-up
        else CHECK(rows[i].allowed == auth_allows(&auth, rows[i].header ? &header : NULL));
    }
    CHECK(auth_allows(&(Auth){0}, NULL)); // none required
}

TEST(api_auth_bad_files) {
    static const struct {
        const char *file, *message;
    } rows[] = {
        {"", "no token in it"},
        {"\n# nothing\n", "no token in it"},
        {"good\ntwo words\n", "line 2: a token is made of printable ASCII without spaces"},
        {"\xC3\xA9", "line 1: a token is made of printable ASCII without spaces"},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        TEST_CASE_LABEL("%s", rows[i].file);
        Auth auth;
        Error err = {0};
        CHECK(!auth_parse(str_from_c(rows[i].file), &auth, &err));
        CHECK_STR_EQ(rows[i].message, (const char *)err.message);
    }
}

static const char *const metric_lines[] = {
    "# TYPE worker_requests_total counter\n",
    "worker_requests_total{outcome=\"success\"} 5\n",
    "worker_requests_total{outcome=\"error\"} 4\n",
    "worker_requests_total{outcome=\"cancelled\"} 3\n",
    "worker_requests_total{outcome=\"timeout\"} 2\n",
    "worker_requests_total{outcome=\"rejected\"} 1\n",
    "worker_vram_bytes 11\n",
    "worker_tokens_in_total 9\n",
    "worker_tokens_generated_total 9\n",
    "worker_uptime_seconds 1.500000\n",
    "worker_jobs_active 2\n",
    "worker_kv_used_ratio 0.250000\n",
    "worker_load_seconds 3.000000\n",
    "worker_jit_seconds 4.000000\n",
    "# TYPE worker_first_token_ms histogram\n",
    "worker_first_token_ms_bucket{le=\"0.25\"} 1\n",
    "worker_first_token_ms_bucket{le=\"5\"} 1\n",
    "worker_first_token_ms_bucket{le=\"10\"} 2\n",
    "worker_first_token_ms_bucket{le=\"300000\"} 2\n",
    "worker_first_token_ms_bucket{le=\"+Inf\"} 3\n",
    "worker_first_token_ms_sum 1000000010.100\n",
    "worker_first_token_ms_count 3\n",
    "worker_inference_duration_ms_count 0\n",
    "worker_inter_token_ms_count 0\n",
    "worker_kv_pages{state=\"free\"} 5\nworker_kv_pages{state=\"used\"} 3\nworker_kv_pages{state=\"cached\"} "
    "4\n",
    "worker_checkpoints{state=\"free\"} 6\nworker_checkpoints{state=\"used\"} 4\n",
    "worker_checkpoint_bytes 640\n",
    "worker_checkpoint_events_total{event=\"saved\"} 21\n",
    "worker_checkpoint_events_total{event=\"restored\"} 22\n",
    "worker_checkpoint_events_total{event=\"evicted\"} 23\n",
    "worker_prefix_cache_tokens_total{result=\"hit\"} 2\n",
    "worker_prefix_cache_tokens_total{result=\"miss\"} 5\n",
    "# TYPE worker_batch_rows histogram\n",
    "worker_batch_rows_bucket{le=\"1\"} 5\n",
    "worker_batch_rows_bucket{le=\"64\"} 5\n",
    "worker_batch_rows_bucket{le=\"128\"} 9\n",
    "worker_batch_rows_bucket{le=\"2048\"} 9\nworker_batch_rows_bucket{le=\"+Inf\"} 10\n",
    "worker_batch_rows_sum 4000\nworker_batch_rows_count 10\n",
    "# TYPE vllm:num_requests_running gauge\n",
    "vllm:num_requests_running{model_name=\"s\\\"\"} 2\n",
    "worker_jobs_set_aside_total 8\n",
    "# TYPE vllm:num_preemptions_total counter\n",
    "vllm:num_preemptions_total{model_name=\"s\\\"\"} 8\n",
    "vllm:num_requests_waiting{model_name=\"s\\\"\"} 6\n",
    "vllm:kv_cache_usage_perc{model_name=\"s\\\"\"} 0.25\n",
    "vllm:gpu_cache_usage_perc{model_name=\"s\\\"\"} 0.25\n",
    "vllm:cache_config_info{block_size=\"16\",num_gpu_blocks=\"12\"} 1\n",
    "# TYPE vllm:prefix_cache_hits_total counter\n",
    "vllm:prefix_cache_hits_total{model_name=\"s\\\"\"} 2\n",
    "vllm:gpu_prefix_cache_queries_total{model_name=\"s\\\"\"} 7\n",
    "worker_model_info{model=\"a \\\"model\\\"\\\\\\n\",quant_kind=\"Q4_K_M\",sm=\"90\"} 1\n",
};

// The names and types that the contract promises, and sums that agree. (A parser that we did not write reads
// the real thing in the end-to-end tests.)
TEST(api_metrics_text) {
    Metrics m = {.requests = {5, 4, 3, 2, 1},
                 .tokens_in = 9,
                 .jobs_set_aside = 8,
                 .prompt_hits = 2,
                 .prompt_misses = 5,
                 .tokens_generated = 9};
    MetricsGauges gauges = {.vram_bytes = 11,
                            .uptime_seconds = 1.5,
                            .jobs_active = 2,
                            .jobs_queued = 6,
                            .kv_used_ratio = 0.25,
                            .kv_pages_used = 3,
                            .kv_pages_cached = 4,
                            .kv_pages_total = 12,
                            .kv_tokens_total = 12 * KV_PAGE_TOKENS,
                            .checkpoints_total = 10,
                            .checkpoints_used = 4,
                            .checkpoint_bytes = 640,
                            .checkpoints_saved = 21,
                            .checkpoints_restored = 22,
                            .checkpoints_evicted = 23,
                            .batch_steps = {5, [7] = 4, [BATCH_ROWS_BUCKETS - 1] = 1},
                            .batch_rows = 4000,
                            .load_seconds = 3,
                            .jit_seconds = 4,
                            .model = STR("a \"model\"\\\n"),
                            .served_model = STR("s\""),
                            .quant_kind = STR("Q4_K_M"),
                            .sm = 90};
    metrics_observe(&m, HISTOGRAM_FIRST_TOKEN, 0.1);
    metrics_observe(&m, HISTOGRAM_FIRST_TOKEN, 10);
    metrics_observe(&m, HISTOGRAM_FIRST_TOKEN, 1e9);
    char text[16 * 1024];
    StrBuf out = STRBUF(text);
    metrics_write(&m, &gauges, &out);
    CHECK(!out.truncated);
    for (size_t i = 0; i < COUNT_OF(metric_lines); i++) {
        TEST_CASE_LABEL("%s", metric_lines[i]);
        CHECK(strstr(text, metric_lines[i]) != NULL);
    }
}

TEST(api_routes_with_a_parameter) {
    static const Route routes[] = {
        {.method = HTTP_GET, .path = "/v1/models"},         {.method = HTTP_GET, .path = "/v1/models/{id}"},
        {.method = HTTP_DELETE, .path = "/v1/models/{id}"}, {.method = HTTP_POST, .path = "/v1/models/own"},
        {.method = HTTP_POST, .path = "/v1/models"},
    };
    static const struct {
        HttpMethod method;
        const char *path;
        int row; // -1: none
        const char *parameter, *allow;
    } rows[] = {
        {HTTP_GET, "/v1/models", 0, "", ""},
        {HTTP_HEAD, "/v1/models", 0, "", ""},
        {HTTP_POST, "/v1/models", 4, "", ""},
        {HTTP_PUT, "/v1/models", -1, "", "GET, HEAD, POST"},
        {HTTP_GET, "/v1/models/", -1, "", ""},
        {HTTP_GET, "/v1/models/a", 1, "a", ""},
        {HTTP_HEAD, "/v1/models/a", 1, "a", ""},
        {HTTP_DELETE, "/v1/models/org/a%2Fb", 2, "org/a%2Fb", ""},
        {HTTP_POST, "/v1/models/own", 3, "", ""},
        {HTTP_GET, "/v1/models/own", 1, "own", ""},
        {HTTP_PUT, "/v1/models/a", -1, "", "GET, HEAD, DELETE"},
        {HTTP_GET, "/v1/modelsx", -1, "", ""},
        {HTTP_GET, "/v1/models/{id}", 1, "{id}", ""},
        {HTTP_GET, "", -1, "", ""},
        {HTTP_GET, "/", -1, "", ""},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        TEST_CASE_LABEL("%s %s", http_method_name(rows[i].method), rows[i].path);
        Str parameter;
        Error err = {0};
        Str path = str_from_c(rows[i].path);
        const Route *r = route_find(routes, COUNT_OF(routes), rows[i].method, path, &parameter, &err);
        CHECK_INT_EQ(rows[i].row, r ? r - routes : -1);
        CHECK_STR_EQ(rows[i].parameter, parameter);
        CHECK_STR_EQ(rows[i].allow, (const char *)err.field);
        if (!r) CHECK_INT_EQ(rows[i].allow[0] ? ERR_METHOD_NOT_ALLOWED : ERR_NOT_FOUND, err.code);
    }
}

TEST(api_route_parameters_decoded) {
    static const struct {
        const char *sent, *decoded; // NULL: refused
    } rows[] = {
        {"", ""},        {"plain", "plain"}, {"a%2Fb", "a/b"}, {"%c3%A9", "\xC3\xA9"},   {"%", NULL},
        {"%4", NULL},    {"%zz", NULL},      {"%4g", NULL},    {"12345678", "12345678"}, {"123456789", NULL},
        {"%31%3", NULL}, {"a+b", "a+b"},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        TEST_CASE_LABEL("%s", rows[i].sent);
        char memory[8];
        Str decoded = {0};
        bool ok = route_decode_parameter(str_from_c(rows[i].sent), memory, sizeof memory, &decoded);
        CHECK(ok == (rows[i].decoded != NULL));
        if (ok) CHECK_STR_EQ(rows[i].decoded, decoded);
    }
}

TEST(api_file_tags) {
    static const struct {
        const char *list;
        bool known;
    } rows[] = {
        {"\"ba7816bf8f01cfea\"", true},
        {"W/\"ba7816bf8f01cfea\"", true},
        {"*", true},
        {"\"x\", \"ba7816bf8f01cfea\"", true},
        {"ba7816bf8f01cfea", false},
        {"", false},
        {",, ,", false},
        {"\"ba7816bf8f01cfe\"", false},
        {"W/", false},
    };
    ApiFile file = {.path = "/x", .data = "abc", .size = 3};
    char tag[API_FILE_TAG_BYTES];
    api_file_tag(&file, tag);
    CHECK_STR_EQ("\"ba7816bf8f01cfea\"", (const char *)tag); // FIPS 180-4: SHA-256 of "abc"
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        TEST_CASE_LABEL("%s", rows[i].list);
        CHECK(api_file_is_known(str_from_c(rows[i].list), str_from_c(tag)) == rows[i].known);
    }
}
