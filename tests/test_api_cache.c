// What each API says of the cache, and whose texts it shares: real sockets and the real engine.
#include "api_client.h"
#include "json_path.h"
#include "runner.h"

#include <stdio.h>
#include <stdlib.h>

// A text of some pages, whoever tokenizes it.
#define TEXT "the same words in front of every question, so that there is a beginning to share with others"
#define CHAT_BODY "\"messages\":[{\"role\":\"user\",\"content\":\"" TEXT "\"}],\"max_tokens\":2"

static const struct {
    const char *path, *body; // without the closing brace
    const char *total;       // where the answer says how many tokens the prompt has
    const char *cached;      // and how many of them were cached
    bool total_is_the_rest;  // those that were not
} apis[] = {
    {"/v1/completions", "{\"prompt\":\"" TEXT "\",\"max_tokens\":2", "usage.prompt_tokens",
     "usage.prompt_tokens_details.cached_tokens", false},
    {"/v1/chat/completions", "{" CHAT_BODY, "usage.prompt_tokens",
     "usage.prompt_tokens_details.cached_tokens", false},
    {"/v1/responses", "{\"input\":\"" TEXT "\",\"max_output_tokens\":2", "usage.input_tokens",
     "usage.input_tokens_details.cached_tokens", false},
    {"/v1/messages", "{" CHAT_BODY, "usage.input_tokens", "usage.cache_read_input_tokens", true},
    {"/execute", "{\"job_id\":\"j\",\"prompt\":\"" TEXT "\",\"max_tokens\":2", "tokens_in", "tokens_cached",
     false},
};

static FakeWorker *start(void) {
    return fake_worker_start(
        &(FakeConfig){.n_jobs = 2, .n_queued = 8, .chat_template = "{{ messages[0].content }}"});
}

typedef struct {
    uint64_t total, cached; // tokens
} Prompt;

static uint64_t number_at(const JsonNode *root, const char *path) {
    uint64_t value = 0;
    if (!json_read_u64(json_at(root, path), &value)) FAIL("no number at %s", path);
    return value;
}

// Of a stream, the data of its last event.
static const JsonNode *answer_root(Str body) {
    Str data[64];
    uint32_t n = str_starts_with(body, STR("{")) ? 0 : stream_data(body, data, COUNT_OF(data));
    return json_root(n ? data[n - 1] : body);
}

static Prompt ask_api(FakeWorker *f, size_t api, const char *more) {
    char body[512];
    snprintf(body, sizeof body, "%s%s}", apis[api].body, more);
    Answer a = ask(f, "POST", apis[api].path, body);
    CHECK_INT_EQ(200, a.status);
    const JsonNode *root = answer_root(a.body);
    Prompt p = {number_at(root, apis[api].total), number_at(root, apis[api].cached)};
    if (apis[api].total_is_the_rest) p.total += p.cached;
    return p;
}

// Where a library multiplies prompts' rows, no request goes on from another's cache, and the worker names the
// library.
TEST(api_cache_is_not_shared_where_a_library_multiplies) {
    FakeWorker *f = fake_worker_start(
        &(FakeConfig){.chat_template = "{{ messages[0].content }}", .products = "cuBLAS 13.1.0"});
    CHECK(text_count(ask(f, "GET", "/health", NULL).body, "\"products\":\"cuBLAS 13.1.0\"") == 1);
    for (size_t i = 0; i < COUNT_OF(apis); i++) {
        TEST_CASE_LABEL("%s", apis[i].path);
        CHECK_U64_EQ(0, ask_api(f, i, "").cached);
        CHECK_U64_EQ(0, ask_api(f, i, "").cached);
    }
    Str body = ask(f, "POST", "/v1/completions", "{\"prompt\":\"a\",\"max_tokens\":1}").body;
    CHECK(text_count(body, "-f16-cuBLAS-13.1.0-a-script\"") == 1);
    shut_down(f);
}

// A second request finds all but the last token of its prompt in the cache, until that is emptied.
TEST(api_cache_in_each_usage) {
    FakeWorker *f = start();
    for (size_t i = 0; i < COUNT_OF(apis); i++) {
        TEST_CASE_LABEL("%s", apis[i].path);
        Prompt first = ask_api(f, i, ""), second = ask_api(f, i, "");
        CHECK(first.total > 2 * KV_PAGE_TOKENS);
        CHECK_U64_EQ(0, first.cached);
        CHECK_U64_EQ(first.total, second.total);
        CHECK_U64_EQ(second.total - 1, second.cached);
        CHECK_INT_EQ(200, ask(f, "POST", "/flush_cache", "").status);
    }
    shut_down(f);
}

// Only jobs with the same salt, whatever their route, go on from each other's texts.
TEST(api_cache_salt_keeps_apart) {
    static const struct {
        const char *name, *more;
        bool is_cached;
    } rows[] = {
        {"the first without a salt", "", false},
        {"the first with this one", ",\"cache_salt\":\"a\"", false},
        {"the second without", "", true},
        {"another salt", ",\"cache_salt\":\"b\"", false},
        {"the second with the first one", ",\"cache_salt\":\"a\"", true},
        {"a longer one that begins so", ",\"cache_salt\":\"ab\"", false},
        {"the second with the other one", ",\"cache_salt\":\"b\"", true},
    };
    FakeWorker *f = start();
    for (size_t i = 0; i < COUNT_OF(apis); i++) {
        for (size_t k = 0; k < COUNT_OF(rows); k++) {
            TEST_CASE_LABEL("%s: %s", apis[i].path, rows[k].name);
            Prompt p = ask_api(f, i, rows[k].more);
            CHECK_U64_EQ(rows[k].is_cached ? p.total - 1 : 0, p.cached);
        }
        CHECK_INT_EQ(200, ask(f, "POST", "/flush_cache", "").status);
    }
    shut_down(f);
}

// Choices of one prompt compute it once; what is reported is what the first of them did.
TEST(api_cache_of_choices) {
    FakeWorker *f = start();
    Prompt first = ask_api(f, 0, ",\"n\":2"), second = ask_api(f, 0, ",\"n\":2");
    CHECK_U64_EQ(0, first.cached);
    CHECK_U64_EQ(second.total - 1, second.cached);
    shut_down(f);
}

static uint64_t metric(FakeWorker *f, const char *name) {
    Str text = ask(f, "GET", "/metrics", NULL).body;
    char line[128];
    int length = snprintf(line, sizeof line, "\n%s ", name);
    const char *at = memmem(text.ptr, text.len, line, (size_t)length);
    REQUIRE(at);
    return strtoull(at + length, NULL, 10);
}

TEST(api_cache_in_the_metrics) {
    FakeWorker *f = start();
    Prompt first = ask_api(f, 0, ""), second = ask_api(f, 0, "");
    CHECK_U64_EQ(second.cached, metric(f, "worker_prefix_cache_tokens_total{result=\"hit\"}"));
    CHECK_U64_EQ(first.total + 1, metric(f, "worker_prefix_cache_tokens_total{result=\"miss\"}"));
    CHECK_U64_EQ(2 * first.total, metric(f, "vllm:prefix_cache_queries_total{model_name=\"tiny\"}"));
    CHECK_U64_EQ(second.cached, metric(f, "vllm:prefix_cache_hits_total{model_name=\"tiny\"}"));
    CHECK(metric(f, "worker_kv_pages{state=\"cached\"}") >= first.total / KV_PAGE_TOKENS);
    CHECK_U64_EQ(0, metric(f, "worker_kv_pages{state=\"used\"}"));
    ask(f, "POST", "/flush_cache", "");
    for (int i = 0; i < 1000 && metric(f, "worker_kv_pages{state=\"cached\"}"); i++)
        os_sleep_ms(1); // the engine thread does it
    CHECK_U64_EQ(0, metric(f, "worker_kv_pages{state=\"cached\"}"));
    shut_down(f);
}

static _Atomic uint32_t n_set_aside_logged;

static bool count_set_aside(void *sink, Str line) {
    (void)sink;
    n_set_aside_logged += text_count(line, "\"event\":\"execute_set_aside\",\"job_id\":");
    return true;
}

// Two texts of 30 pages each in a cache of 40: the younger one gives its pages up, which is seen.
TEST(api_cache_too_small_for_two) {
    Log log = {.format = LOG_FORMAT_JSON,
               .level = LOG_LEVEL_INFO,
               .gpu_device = -1,
               .write = count_set_aside,
               .now_unix_ms = os_unix_ms};
    FakeWorker *f = fake_worker_start(&(FakeConfig){.n_jobs = 2, .context = 512, .n_pages = 40, .log = &log});
    atomic_store(&n_set_aside_logged, 0);
    CHECK_U64_EQ(0, metric(f, "worker_jobs_set_aside_total"));
    uint64_t n = 0;
    for (uint32_t i = 0; i < 200 && n == 0; i++) { // the first text may be over before the second one begins
        static const char request[] = "{\"prompt\":[\"a\",\"b\"],\"max_tokens\":480}";
        CHECK_INT_EQ(200, ask(f, "POST", "/v1/completions", request).status);
        n = metric(f, "worker_jobs_set_aside_total");
    }
    CHECK(n > 0);
    CHECK_U64_EQ(n, metric(f, "vllm:num_preemptions_total{model_name=\"tiny\"}"));
    shut_down(f);
    CHECK_U64_EQ(n, n_set_aside_logged);
}
