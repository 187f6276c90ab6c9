// POST /v1/responses over real sockets, with a backend that draws a given text.
#include "api_client.h"
#include "fake_worker.h"
#include "json_path.h"
#include "os/os.h"
#include "runner.h"
#include "worker_process.h"

#include <stdio.h>
#include <stdlib.h>

#define PATH "/v1/responses"
#define TEMPLATE                                                                                 \
    "{% for m in messages %}<|start_header_id|>{{ m.role }}<|end_header_id|>\n\n{{ m.content }}" \
    "<|eot_id|>{% endfor %}{# <think> </think> <tool_call> </tool_call> tools #}"                \
    "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
#define HI "\"input\":\"hi\""
#define TOOLS "\"tools\":[{\"type\":\"function\",\"name\":\"look\",\"parameters\":{\"type\":\"object\"}}]"
#define CALL(arguments) "<tool_call>{\"name\":\"look\",\"arguments\":" arguments "}</tool_call>"
#define THINKS_SAYS_CALLS "<think>Hm.</think>See" CALL("{\"a\":[1,2]}") CALL("{}")

enum { DATA_MAX = 512 };

static FakeWorker *start(const char *script) {
    return fake_worker_start(&(FakeConfig){
        .script = script, .n_jobs = 2, .n_queued = 8, .chat_template = TEMPLATE, .tool_format = "hermes"});
}

static const struct {
    const char *script, *body, *path, *value;
} whole_rows[] = {
    {"Hello.", "{" HI "}", "object", "response"},
    {"Hello.", "{" HI "}", "status", "completed"},
    {"Hello.", "{" HI "}", "error", "null"},
    {"Hello.", "{" HI "}", "model", "tiny"},
    {"Hello.", "{" HI "}", "incomplete_details", "null"},
    {"Hello.", "{" HI "}", "output.0.type", "message"},
    {"Hello.", "{" HI "}", "output.0.role", "assistant"},
    {"Hello.", "{" HI "}", "output.0.status", "completed"},
    {"Hello.", "{" HI "}", "output.0.content.0.type", "output_text"},
    {"Hello.", "{" HI "}", "output.0.content.0.text", "Hello."},
    {"Hello.", "{" HI "}", "output.0.content.0.annotations", "[]"},
    {"Hello.", "{" HI "}", "output.0.content.0.logprobs", "[]"},
    {"Hello.", "{" HI "}", "output.1", "nothing"},
    {"Hello.", "{" HI "}", "usage.output_tokens", "5"},
    {"Hello.", "{" HI "}", "store", "false"},
    {"Hello.", "{" HI "}", "tools", "[]"},
    {"Hello.", "{" HI "}", "tool_choice", "auto"},
    {"Hello.", "{" HI "}", "temperature", "1"},
    {"Hello.", "{" HI "}", "max_output_tokens", "null"},
    {"Hello.", "{" HI ",\"temperature\":0.7,\"top_p\":0.9}", "temperature", "0.7"},
    {"Hello.", "{" HI ",\"metadata\":{\"a\":\"b\"}}", "metadata.a", "b"},
    {"Hello.", "{" HI ",\"instructions\":\"Be \\\"kind\\\".\"}", "instructions", "Be \"kind\"."},
    {"Hello.", "{" HI "," TOOLS "}", "tools.0.name", "look"},
    {"Hello.", "{" HI "," TOOLS ",\"tool_choice\":\"none\"}", "tool_choice", "none"},
    {"Hello.", "{" HI ",\"parallel_tool_calls\":false}", "parallel_tool_calls", "false"},
    {"Hello.", "{" HI ",\"reasoning\":{\"effort\":\"low\",\"summary\":\"auto\"}}", "reasoning",
     "{\"effort\":\"low\",\"summary\":null}"},
    {"Hello.", "{" HI ",\"truncation\":\"auto\"}", "truncation", "disabled"},
    {"Hello.", "{" HI ",\"max_output_tokens\":2}", "status", "incomplete"},
    {"Hello.", "{" HI ",\"max_output_tokens\":2}", "incomplete_details.reason", "max_output_tokens"},
    {"Hello.", "{" HI ",\"max_output_tokens\":2}", "max_output_tokens", "2"},
    {"Hello.", "{" HI ",\"max_output_tokens\":2}", "output.0.status", "incomplete"},
    {"Hello.", "{" HI ",\"max_output_tokens\":2}", "completed_at", "null"},
    {"Hello.", "{" HI ",\"stop\":\"l\"}", "output.0.content.0.text", "He"},
    {"Hello.", "{\"input\":[{\"role\":\"user\",\"content\":\"hi\"}]}", "status", "completed"},
    {"ab", "{" HI ",\"include\":[\"message.output_text.logprobs\"],\"top_logprobs\":1}",
     "output.0.content.0.logprobs.1.token", "b"},
    {"ab", "{" HI ",\"include\":[\"message.output_text.logprobs\"],\"top_logprobs\":1}",
     "output.0.content.0.logprobs.1.top_logprobs.0.logprob", "0"},
    {"ab", "{" HI ",\"include\":[\"message.output_text.logprobs\"]}",
     "output.0.content.0.logprobs.1.top_logprobs", "[]"},
    {"ab", "{" HI ",\"include\":[\"reasoning.encrypted_content\"]}", "output.0.content.0.logprobs", "[]"},
    {THINKS_SAYS_CALLS, "{" HI "," TOOLS "}", "output.0.type", "reasoning"},
    {THINKS_SAYS_CALLS, "{" HI "," TOOLS "}", "output.0.summary", "[]"},
    {THINKS_SAYS_CALLS, "{" HI "," TOOLS "}", "output.0.content",
     "[{\"type\":\"reasoning_text\",\"text\":\"Hm.\"}]"},
    {THINKS_SAYS_CALLS, "{" HI "," TOOLS "}", "output.1.content.0.text", "See"},
    {THINKS_SAYS_CALLS, "{" HI "," TOOLS ",\"top_logprobs\":1}", "output.1.content.0.logprobs.0.token", "S"},
    {THINKS_SAYS_CALLS, "{" HI "," TOOLS ",\"top_logprobs\":1}", "output.1.content.0.logprobs.3", "nothing"},
    {THINKS_SAYS_CALLS, "{" HI "," TOOLS "}", "output.2.type", "function_call"},
    {THINKS_SAYS_CALLS, "{" HI "," TOOLS "}", "output.2.name", "look"},
    {THINKS_SAYS_CALLS, "{" HI "," TOOLS "}", "output.2.arguments", "{\"a\":[1,2]}"},
    {THINKS_SAYS_CALLS, "{" HI "," TOOLS "}", "output.2.status", "completed"},
    {THINKS_SAYS_CALLS, "{" HI "," TOOLS "}", "output.3.arguments", "{}"},
    {THINKS_SAYS_CALLS, "{" HI "," TOOLS ",\"parallel_tool_calls\":false}", "output.3", "nothing"},
    {THINKS_SAYS_CALLS, "{" HI "}", "output.1.content.0.text", "See" CALL("{\"a\":[1,2]}") CALL("{}")},
    {"<tool_call>{\"name\":\"look\",\"arguments\":{\"a\":", "{" HI "," TOOLS "}", "output.0.arguments",
     "{\"a\":"},
    {"<tool_call>{\"name\":\"look\",\"arguments\":{\"a\":", "{" HI "," TOOLS "}", "output.0.status",
     "incomplete"},
    {"<tool_call>{\"name\":\"look\",\"arguments\":{\"a\":", "{" HI "," TOOLS "}", "status", "completed"},
    {"", "{" HI "}", "output", "[]"},
};

TEST(api_responses_whole) {
    FakeWorker *f = NULL;
    for (size_t i = 0; i < COUNT_OF(whole_rows); i++) {
        TEST_CASE_LABEL("%s %s %s", whole_rows[i].script, whole_rows[i].body, whole_rows[i].path);
        bool is_new = i == 0 || strcmp(whole_rows[i].script, whole_rows[i - 1].script) != 0;
        if (is_new && f) shut_down(f);
        if (is_new) f = start(whole_rows[i].script);
        Answer a = ask(f, "POST", i % 2 ? PATH : "/responses", whole_rows[i].body);
        CHECK_INT_EQ(200, a.status);
        CHECK_STR_EQ(whole_rows[i].value, json_text_at(json_root(a.body), whole_rows[i].path));
    }
    shut_down(f);
}

TEST(api_responses_refuses_by_name) {
    static const struct {
        const char *body, *param, *message;
    } rows[] = {
        {"{}", "input", "input: must be a string or an array of items, found nothing"},
        {"{" HI ",\"cache_salt\":\"\"}", "cache_salt", "cache_salt: must not be empty"},
        {"{\"input\":\"\"}", "input", "input: must not be empty"},
        {"{\"input\":[{\"type\":\"item_reference\",\"id\":\"x\"}]}", "input[0].type",
         "input[0].type: \"item_reference\" is not supported; message, function_call, function_call_output "
         "and reasoning are"},
        {"{" HI ",\"previous_response_id\":\"resp_1\"}", "previous_response_id",
         "previous_response_id: is not supported; nothing is stored here: send the whole conversation as "
         "input"},
        {"{" HI ",\"conversation\":{\"id\":\"c\"}}", "conversation",
         "conversation: is not supported; nothing is stored here: send the whole conversation as input"},
        {"{" HI ",\"prompt\":{\"id\":\"p\"}}", "prompt",
         "prompt: is not supported; nothing is stored here: send instructions and input"},
        {"{" HI ",\"background\":true}", "background", "background: is not supported; ask for a stream"},
        {"{" HI ",\"context_management\":[{}]}", "context_management",
         "context_management: is not supported; shorten the input yourself"},
        {"{" HI ",\"n\":2}", "n", "n: is not supported; a response is one answer"},
        {"{" HI ",\"text\":{\"format\":{\"type\":\"json_schema\"}}}", "text.format",
         "text.format: json_schema needs a schema"},
        {"{" HI ",\"text\":{\"verbosity\":\"low\"}}", "text.verbosity",
         "text.verbosity: is not supported; say so in the instructions"},
        {"{" HI ",\"text\":\"x\"}", "text", "text: must be an object, found a string: /text is \"x\""},
        {"{" HI ",\"include\":\"x\"}", "include",
         "include: must be an array of strings, found a string: /include is \"x\""},
        {"{" HI ",\"include\":[1]}", "include",
         "include: must be an array of strings, found a number: /include/0 is 1"},
        {"{" HI ",\"truncation\":\"middle\"}", "truncation", "truncation: must be \"auto\" or \"disabled\""},
        {"{" HI ",\"metadata\":[]}", "metadata",
         "metadata: must be an object, found an array: /metadata is []"},
        {"{" HI ",\"tools\":[{\"type\":\"web_search\"}]}", "tools[0].type",
         "tools[0].type: \"web_search\" is not supported; only tools of type \"function\" are"},
        {"{" HI ",\"tool_choice\":\"required\"}", "tool_choice", "tool_choice: a call needs tools"},
        {"{" HI ",\"max_output_tokens\":0}", "max_output_tokens",
         "max_output_tokens: 0 is out of range; allowed is 1 or more"},
        {"{" HI ",\"reasoning\":3}", "reasoning",
         "reasoning: must be an object, found a number: /reasoning is 3"},
    };
    FakeWorker *f = start("x");
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        TEST_CASE_LABEL("%s", rows[i].body);
        Answer a = ask(f, "POST", PATH, rows[i].body);
        CHECK_INT_EQ(400, a.status);
        const JsonNode *root = json_root(a.body);
        CHECK_STR_EQ(rows[i].param, json_text_at(root, "error.param"));
        CHECK_STR_EQ(rows[i].message, json_text_at(root, "error.message"));
        CHECK_STR_EQ("invalid_request_error", json_text_at(root, "error.type"));
    }
    shut_down(f);
}

TEST(api_responses_ignores_what_changes_nothing) {
    static const char *const fields[] = {
        "\"user\":\"u\"",
        "\"store\":true",
        "\"service_tier\":\"auto\"",
        "\"safety_identifier\":\"s\"",
        "\"prompt_cache_key\":\"k\"",
        "\"max_tool_calls\":3",
        "\"include\":[\"web_search_call.action.sources\"]",
        "\"include\":null",
        "\"text\":{\"format\":{\"type\":\"text\"},\"verbosity\":\"medium\"}",
        "\"text\":null",
        "\"background\":false",
        "\"previous_response_id\":null",
        "\"reasoning\":null",
        "\"reasoning\":{}",
        "\"tools\":[]",
        "\"tool_choice\":\"auto\"",
        "\"stream_options\":{\"include_obfuscation\":false}",
        "\"top_logprobs\":0",
        "\"instructions\":null",
        "\"metadata\":null",
        "\"max_output_tokens\":null",
    };
    FakeWorker *f = start("x");
    for (size_t i = 0; i < COUNT_OF(fields); i++) {
        char body[256];
        TEST_CASE_LABEL("%s", fields[i]);
        snprintf(body, sizeof body, "{" HI ",%s}", fields[i]);
        Answer a = ask(f, "POST", PATH, body);
        CHECK_INT_EQ(200, a.status);
        CHECK_STR_EQ("x", json_text_at(json_root(a.body), "output.0.content.0.text"));
    }
    shut_down(f);
}

// The events' types, those of deltas once for each run of them.
static Str types_of(Str body) {
    static Str data[DATA_MAX];
    StrBuf b = strbuf_from_memory(os_reserve(1 << 16), 1 << 16);
    uint32_t n = stream_data(body, data, DATA_MAX);
    Str last = {0};
    for (uint32_t i = 0; i < n; i++) {
        const JsonNode *root = json_root(data[i]);
        uint64_t number = 0;
        Str type = json_text_at(root, "type");
        CHECK(json_read_u64(json_at(root, "sequence_number"), &number) && number == i);
        if (str_eq(type, last)) continue;
        last = type;
        if (str_starts_with(type, STR("response."))) type = str_slice(type, 9, type.len);
        strbuf_printf(&b, "%.*s ", STR_ARG(type));
    }
    return strbuf_str(&b);
}

#define ITEM_OF(kind)                                                                             \
    "output_item.added content_part.added " kind ".delta " kind ".done content_part.done output_" \
    "item.done "
#define CALL_EVENTS \
    "output_item.added function_call_arguments.delta function_call_arguments.done output_item.done "

TEST(api_responses_streams) {
    static const struct {
        const char *script, *body, *types;
    } rows[] = {
        {"Hello.", "{" HI ",\"stream\":true}", "created in_progress " ITEM_OF("output_text") "completed "},
        {"Hello.", "{" HI ",\"stream\":true,\"max_output_tokens\":1}",
         "created in_progress " ITEM_OF("output_text") "incomplete "},
        {"", "{" HI ",\"stream\":true}", "created in_progress completed "},
        {THINKS_SAYS_CALLS, "{" HI "," TOOLS ",\"stream\":true}",
         "created in_progress " ITEM_OF("reasoning_text") ITEM_OF("output_text") CALL_EVENTS CALL_EVENTS
         "completed "},
        {"<tool_call>{\"name\":\"look\",\"arguments\":{\"a\":", "{" HI "," TOOLS ",\"stream\":true}",
         "created in_progress " CALL_EVENTS "completed "},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        TEST_CASE_LABEL("%s %s", rows[i].script, rows[i].body);
        FakeWorker *f = start(rows[i].script);
        Answer a = ask(f, "POST", PATH, rows[i].body);
        CHECK_INT_EQ(200, a.status);
        CHECK_STR_EQ(rows[i].types, types_of(a.body));
        shut_down(f);
    }
}

// The last events of a stream that fails are the error and the response, with what there is of it.
TEST(api_responses_stream_that_fails) {
    FakeWorker *f =
        fake_worker_start(&(FakeConfig){.step_ms = 5, .chat_template = TEMPLATE, .timeout_sec = 1});
    Answer a = ask(f, "POST", PATH, "{" HI ",\"stream\":true}");
    static Str data[DATA_MAX * 8];
    uint32_t n = stream_data(a.body, data, COUNT_OF(data));
    REQUIRE(n > 4);
    const JsonNode *error = json_root(data[n - 2]), *failed = json_root(data[n - 1]);
    CHECK_STR_EQ("error", json_text_at(error, "type"));
    CHECK_STR_EQ("INFERENCE_TIMEOUT", json_text_at(error, "code"));
    CHECK_STR_EQ("response.failed", json_text_at(failed, "type"));
    CHECK_STR_EQ("failed", json_text_at(failed, "response.status"));
    CHECK_STR_EQ("server_error", json_text_at(failed, "response.error.code"));
    CHECK_STR_EQ("incomplete", json_text_at(failed, "response.output.0.status"));
    CHECK(json_text_at(failed, "response.output.0.content.0.text").len > 0);
    CHECK_INT_EQ(504, ask(f, "POST", PATH, "{" HI "}").status);
    shut_down(f);
}

// What a client repeats in large is left out of the answer, however often it comes.
TEST(api_responses_large_requests) {
    FakeWorker *f = fake_worker_start(
        &(FakeConfig){.script = "ok", .context = 4096, .chat_template = "{{ messages|length }}{# tools #}"});
    static const uint32_t sizes[] = {1000, 70 * 1000, 70 * 1000, 300 * 1000};
    enum { BODY_MAX = 400 * 1000, ROUNDS = 120 };
    char *body = os_reserve(BODY_MAX);
    for (uint32_t i = 0; i < ROUNDS; i++) {
        uint32_t size = sizes[i % COUNT_OF(sizes)];
        int at = snprintf(body, BODY_MAX, "{" HI "," TOOLS ",\"instructions\":\"");
        memset(body + at, 'y', size);
        snprintf(body + at + size, BODY_MAX - size - (size_t)at, "\"}");
        Answer a = ask(f, "POST", PATH, body);
        TEST_CASE_LABEL("request %u of %u bytes", i, size);
        REQUIRE(a.status == 200);
        const JsonNode *root = json_root(a.body);
        CHECK_STR_EQ("ok", json_text_at(root, "output.0.content.0.text"));
        bool repeats = size < 100 * 1000;
        if (repeats) CHECK_INT_EQ(size, json_text_at(root, "instructions").len);
        else CHECK_STR_EQ("null", json_text_at(root, "instructions"));
        CHECK_STR_EQ(repeats ? "look" : "nothing", json_text_at(root, "tools.0.name"));
    }
    shut_down(f);
}

// The OpenAI client's own models take every event and answer, wherever the answer is cut.
TEST_SLOW(api_responses_as_the_openai_client_reads_them, 300) {
    test_needs_plain_run();
    test_needs_python("openai");
    FakeWorker *f = start(THINKS_SAYS_CALLS);
    char command[1024];
    snprintf(command, sizeof command, "python3 %s %u", test_data_path("support/check_responses.py"),
             fake_port(f));
    CHECK_INT_EQ(0, system(command));
    shut_down(f);
}
