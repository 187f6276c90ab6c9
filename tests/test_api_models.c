// GET /v1/models and what routers ask of a worker, over real sockets.
#include "api_client.h"
#include "fake_worker.h"
#include "json_path.h"
#include "os/os.h"
#include "os/os_net.h"
#include "runner.h"

#include <stdio.h>
#include <stdlib.h>

static const HttpHeader anthropic = {{"Anthropic-Version", 17}, {"2023-06-01", 10}};

TEST(api_models_answers) {
    static const struct {
        const char *path;
        bool is_anthropic;
        uint16_t status;
        const char *at, *value;
    } rows[] = {
        {"/v1/models", false, 200, "object", "list"},
        {"/v1/models", false, 200, "data.0.id", "tiny"},
        {"/models", false, 200, "data.0.id", "tiny"},
        {"/v1/models", false, 200, "data.0.object", "model"},
        {"/v1/models", false, 200, "data.0.owned_by", "worker-orcd"},
        {"/v1/models", false, 200, "data.0.root", "file:tiny.gguf"},
        {"/v1/models", false, 200, "data.0.max_model_len", "512"},
        {"/v1/models", false, 200, "data.0.meta.n_vocab", "1024"},
        {"/v1/models", false, 200, "data.0.meta.n_params", "12345"},
        {"/v1/models", false, 200, "data.1", "nothing"},
        {"/v1/models/tiny", false, 200, "id", "tiny"},
        {"/models/tiny", false, 200, "object", "model"},
        {"/v1/models/%74iny", false, 200, "id", "tiny"},
        {"/v1/models/other", false, 404, "error.code", "model_not_found"},
        {"/v1/models/other", false, 404, "error.param", "model"},
        {"/v1/models/other", false, 404, "error.message", "model: this worker serves \"tiny\" alone"},
        {"/v1/models/tiny/x", false, 404, "error.code", "model_not_found"},
        {"/v1/models/%7", false, 400, "error.code", "INVALID_REQUEST"},
        {"/v1/models/", false, 404, "error.code", "NOT_FOUND"},
        {"/v1/models", true, 200, "object", "nothing"},
        {"/v1/models", true, 200, "data.0.type", "model"},
        {"/v1/models", true, 200, "data.0.id", "tiny"},
        {"/v1/models", true, 200, "data.0.display_name", "tiny"},
        {"/v1/models", true, 200, "has_more", "false"},
        {"/v1/models", true, 200, "first_id", "tiny"},
        {"/v1/models", true, 200, "last_id", "tiny"},
        {"/v1/models?limit=20", true, 200, "data.0.id", "tiny"},
        {"/v1/models/tiny", true, 200, "type", "model"},
        {"/v1/models/other", true, 404, "error.type", "not_found_error"},
    };
    FakeWorker *f = fake_worker_start(&(FakeConfig){.context = 512});
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        TEST_CASE_LABEL("%s %s", rows[i].path, rows[i].at);
        HttpHeader header = rows[i].is_anthropic ? anthropic : (HttpHeader){0};
        Answer a = ask_with(fake_port(f), "GET", rows[i].path, NULL, header);
        CHECK_INT_EQ(rows[i].status, a.status);
        CHECK_STR_EQ(rows[i].value, json_text_at(json_root(a.body), rows[i].at));
    }
    shut_down(f);
}

// The time is that of the start, in seconds for the one API and as a date for the other.
TEST(api_models_created) {
    FakeWorker *f = fake_worker_start(&(FakeConfig){0});
    uint64_t now = os_unix_ms() / 1000, created = 0;
    CHECK(str_parse_u64(json_text_at(json_root(ask(f, "GET", "/v1/models", NULL).body), "data.0.created"),
                        &created));
    CHECK(created <= now && now - created < 600);
    char date[25];
    Answer a = ask_with(fake_port(f), "GET", "/v1/models/tiny", NULL, anthropic);
    Str text = json_text_at(json_root(a.body), "created_at");
    os_format_utc(created * 1000, date);
    CHECK_STR_EQ(((Str){date, 19}), str_slice(text, 0, 19));
    CHECK(text.len == 24 && text.ptr[23] == 'Z');
    shut_down(f);
}

TEST(api_introspect_answers) {
    static const struct {
        const char *method, *path, *at, *value;
    } rows[] = {
        {"GET", "/get_load", "load", "3"},
        {"GET", "/get_load", "num_reqs", "1"},
        {"GET", "/get_load", "num_waiting_reqs", "2"},
        {"GET", "/server_info", "served_model_name", "tiny"},
        {"GET", "/get_server_info", "model_path", "file:tiny.gguf"},
        {"GET", "/get_server_info", "max_running_requests", "1"},
        {"GET", "/get_server_info", "max_queued_requests", "4"},
        {"GET", "/get_server_info", "max_total_num_tokens", "2048"},
        {"GET", "/get_server_info", "block_size", "16"},
        {"GET", "/get_server_info", "instance_id", "00000000-0000-4000-8000-000000000000"},
        {"GET", "/model_info", "model_path", "file:tiny.gguf"},
        {"GET", "/get_model_info", "is_generation", "true"},
        {"GET", "/get_model_info", "context_length", "2048"},
        {"GET", "/get_model_info", "quant_kind", "Q4_K"},
        {"GET", "/props", "default_generation_settings.n_ctx", "2048"},
        {"GET", "/props", "total_slots", "1"},
        {"GET", "/props", "chat_template", "{{ messages[0].content }}"},
        {"GET", "/props", "eos_token", "<|eot_id|>"},
        {"GET", "/is_sleeping", "is_sleeping", "false"},
        {"POST", "/flush_cache", "success", "true"},
        {"POST", "/flush_cache", "message",
         "texts that are over are forgotten; the cache keeps those of running jobs"},
    };
    FakeWorker *f = fake_worker_start(&(FakeConfig){
        .n_jobs = 1, .n_queued = 4, .step_ms = 5, .chat_template = "{{ messages[0].content }}"});
    Stream *s = open_stream(f, "{\"job_id\":\"a\",\"prompt\":\"x\"}", (HttpHeader){0});
    read_until(s, "event: token");
    static const char waits[] = "POST /v1/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: "
                                "20\r\n\r\n{\"prompt\":\"p\",\"n\":2}";
    int socket;
    size_t sent;
    Error err;
    REQUIRE(os_net_connect(STR("127.0.0.1"), fake_port(f), 60000, &socket, &err));
    REQUIRE(os_net_send(socket, str_from_c(waits), &sent) == OS_NET_OK);
    for (int i = 0; i < 12000 && !text_count(ask(f, "GET", "/health", NULL).body, "\"jobs_queued\":2"); i++)
        os_sleep_ms(5);
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        TEST_CASE_LABEL("%s %s", rows[i].path, rows[i].at);
        Answer a = ask(f, rows[i].method, rows[i].path, NULL);
        CHECK_INT_EQ(200, a.status);
        CHECK_STR_EQ(rows[i].value, json_text_at(json_root(a.body), rows[i].at));
    }
    Answer own = ask(f, "GET", "/metrics", NULL), nim = ask(f, "GET", "/v1/metrics", NULL);
    CHECK_INT_EQ(200, nim.status);
    CHECK_STR_EQ(answer_header(&own, "Content-Type"), answer_header(&nim, "Content-Type"));
    CHECK(text_count(nim.body, "vllm:num_requests_running{model_name=\"tiny\"} 1\n") == 1);
    CHECK(text_count(nim.body, "vllm:num_requests_waiting{model_name=\"tiny\"} 2\n") == 1);
    CHECK(text_count(ask(f, "GET", "/version", NULL).body, "{\"version\":\"") == 1);
    os_net_close(socket);
    CHECK_INT_EQ(202, ask(f, "POST", "/cancel", "{\"job_id\":\"a\"}").status);
    read_until(s, NULL);
    shut_down(f);
}

TEST(api_models_as_clients_list_them) {
    test_needs_plain_run();
    test_needs_python("openai, anthropic");
    FakeWorker *f = fake_worker_start(&(FakeConfig){0});
    char command[1024];
    snprintf(command, sizeof command, "python3 %s %u", test_data_path("support/check_models.py"),
             fake_port(f));
    CHECK_INT_EQ(0, system(command));
    shut_down(f);
}
