// GET /openapi.json: whether it says what the tables say, whether it is OpenAPI, and whether the worker does
// what it says.
#include "runner.h"

#include "api/openapi.h"
#include "api_client.h"
#include "json_path.h"
#include "worker_process.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

// A member of an object whose name has dots and slashes.
static const JsonNode *path_node(const JsonNode *root, const char *path) {
    return json_get(json_get(root, STR("paths")), str_from_c(path));
}

TEST(openapi_has_every_route_and_field) {
    FakeWorker *f = fake_worker_start(&(FakeConfig){0});
    const JsonNode *root = json_root(ask(f, "GET", "/openapi.json", NULL).body);
    size_t n;
    const Route *routes = api_routes(&n);
    CHECK_INT_EQ(n, json_get(root, STR("paths"))->length);
    for (size_t i = 0; i < n; i++) {
        TEST_CASE_LABEL("%s", routes[i].path);
        const RouteAbout *about = openapi_about(routes[i].path);
        const char *method = routes[i].method == HTTP_GET ? "get" : "post";
        CHECK(routes[i].method == HTTP_GET || routes[i].method == HTTP_POST);
        for (size_t k = 0; k < i; k++)
            CHECK(strcmp(routes[k].path, routes[i].path) != 0);
        const JsonNode *operation = json_get(path_node(root, routes[i].path), str_from_c(method));
        CHECK(about != NULL && operation != NULL);
        if (!about || !operation) continue;
        CHECK_STR_EQ(about->summary, json_text_at(operation, "summary"));
        const JsonNode *fields = json_at(operation, "requestBody.content.application/json.schema.properties");
        for (uint32_t k = 0; about->fields && k < about->fields->n_rules; k++) {
            TEST_CASE_LABEL("%s %s", routes[i].path, about->fields->rules[k].name);
            CHECK(json_get(fields, str_from_c(about->fields->rules[k].name)) != NULL);
        }
    }
    shut_down(f);
}

// What the rows of the fields' tables look like as schemas.
TEST(openapi_schemas) {
    static const struct {
        const char *path, *field, *schema;
    } rows[] = {
        {"/execute", "job_id", "{\"type\":\"string\",\"minLength\":1,\"maxLength\":256}"},
        {"/execute", "prompt", "{\"type\":\"string\",\"minLength\":1,\"maxLength\":32768}"},
        {"/execute", "prompt_tokens",
         "{\"type\":\"array\",\"items\":{\"type\":\"integer\",\"minimum\":0,\"maximum\":1023},\"minItems\":1,"
         "\"maxItems\":512}"},
        {"/execute", "max_tokens", "{\"type\":\"integer\",\"minimum\":1,\"maximum\":2048}"},
        {"/execute", "repetition_penalty", "{\"type\":\"number\",\"exclusiveMinimum\":0,\"maximum\":2}"},
        {"/execute", "return_tokens", "{\"type\":\"boolean\"}"},
        {"/execute", "stop",
         "{\"type\":[\"array\"],\"items\":{\"type\":\"string\",\"minLength\":1},\"maxItems\":4,"
         "\"minLength\":1}"},
        {"/v1/chat/completions", "temperature",
         "{\"type\":[\"number\",\"null\"],\"minimum\":0,\"maximum\":2}"},
        {"/v1/chat/completions", "n", "{\"type\":[\"integer\",\"null\"],\"minimum\":1,\"maximum\":8}"},
        {"/v1/chat/completions", "top_k",
         "{\"type\":[\"integer\",\"null\"],\"minimum\":-1,\"maximum\":1024}"},
        {"/v1/chat/completions", "stop",
         "{\"type\":[\"array\",\"string\",\"null\"],\"items\":{\"type\":\"string\",\"minLength\":1},"
         "\"maxItems\":16,\"minLength\":1}"},
        {"/v1/chat/completions", "tools", "{\"type\":[\"array\",\"null\"],\"items\":{\"type\":\"object\"}}"},
        {"/v1/completions", "logprobs", "{\"type\":[\"integer\",\"null\"],\"minimum\":0,\"maximum\":20}"},
        {"/tokenize", "add_special", "{\"type\":[\"boolean\",\"null\"]}"},
    };
    FakeWorker *f = fake_worker_start(&(FakeConfig){.context = 512});
    const JsonNode *root = json_root(ask(f, "GET", "/openapi.json", NULL).body);
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        TEST_CASE_LABEL("%s %s", rows[i].path, rows[i].field);
        const JsonNode *fields = json_at(path_node(root, rows[i].path),
                                         "post.requestBody.content.application/json.schema.properties");
        CHECK_STR_EQ(rows[i].schema, json_text_at(fields, rows[i].field));
    }
    shut_down(f);
}

// Which routes ask for a token: all but the health ones.
TEST(openapi_says_who_is_asked_for_a_token) {
    FakeWorker *f = fake_worker_start(&(FakeConfig){.tokens = "secret"});
    HttpHeader token = {STR("Authorization"), STR("Bearer secret")};
    const JsonNode *root = json_root(ask_with(fake_port(f), "GET", "/openapi.json", NULL, token).body);
    size_t n;
    const Route *routes = api_routes(&n);
    for (size_t i = 0; i < n; i++) {
        TEST_CASE_LABEL("%s", routes[i].path);
        const char *method = routes[i].method == HTTP_GET ? "GET" : "POST";
        bool is_health = openapi_about(routes[i].path)->kind == ABOUT_HEALTH;
        const JsonNode *operation = json_get(path_node(root, routes[i].path),
                                             is_health || method[0] == 'G' ? STR("get") : STR("post"));
        CHECK_STR_EQ(is_health ? "[]" : "[{\"bearer\":[]},{\"key\":[]}]",
                     json_text_at(operation, "security"));
        if (strchr(routes[i].path, '{')) continue;
        CHECK_INT_EQ(is_health ? 200 : 401, ask(f, method, routes[i].path, is_health ? NULL : "{}").status);
    }
    CHECK_INT_EQ(202, ask_with(fake_port(f), "POST", "/shutdown", "", token).status);
    fake_worker_join(f);
}

// A validator that we did not write reads it.
TEST(openapi_is_valid) {
    test_needs_plain_run();
    test_needs_python("openapi_spec_validator");
    FakeWorker *f = fake_worker_start(&(FakeConfig){0});
    const char *path = test_tmp_path("openapi.json");
    CHECK(gguf_builder_save(ask(f, "GET", "/openapi.json", NULL).body, path));
    shut_down(f);
    char command[2048];
    snprintf(command, sizeof command, "python3 -m openapi_spec_validator %s", path);
    CHECK_INT_EQ(0, system(command));
}

// A fuzzer of APIs asks the worker what it describes: no answer has a status, a content type or a shape that
// is not in it, and none is an error of the server. Most of the time is the fuzzer's, so it is run once:
// where the sanitizers watch the worker, too.
TEST_SLOW(openapi_is_kept, 300) {
    if (!test_is_sanitized()) SKIP("the run under sanitizers has other people's fuzzer");
    test_needs_python("schemathesis");
    uint16_t status;
    Server s = server_start(tiny_model_file(), "--max-tokens-out 4 --max-jobs 8");
    char command[2048];
    // The names without /v1 are the same routes. Methods beside the usual ones are 501, as HTTP has it.
    const char *config = tmp_file_write("schemathesis.toml", "[phases.coverage]\nunexpected-methods = "
                                                             "[\"PUT\", \"PATCH\", \"DELETE\"]\n");
    snprintf(
        command, sizeof command,
        "cd %s && python3 -m schemathesis.cli --config-file %s run http://127.0.0.1:%u/openapi.json --seed 1 "
        "--max-examples 12 --phases coverage,fuzzing --generation-database none --no-shrink "
        "--continue-on-failure --suppress-health-check all --checks not_a_server_error,"
        "status_code_conformance,content_type_conformance,response_schema_conformance "
        "--exclude-path /shutdown --exclude-path /chat/completions --exclude-path /completions "
        "--exclude-path /models --exclude-path '/models/{id}' --exclude-path /v1/tokenize "
        "--exclude-path /v1/detokenize --exclude-path /responses --exclude-path /get_server_info "
        "--exclude-path /get_model_info --exclude-path /v1/metrics",
        test_tmp_path("."), config, s.port);
    CHECK_INT_EQ(0, system(command));
    server_ask(s, "GET", "/health", "", &status);
    CHECK_INT_EQ(200, status);
    kill(s.process.pid, SIGTERM);
    CHECK_INT_EQ(0, process_wait(s.process));
}
