// POST /v1/messages and /v1/messages/count_tokens over real sockets, with a backend that draws a given text.
#include "api_client.h"
#include "fake_worker.h"
#include "json_path.h"
#include "os/os.h"
#include "runner.h"
#include "worker_process.h"

#include <stdio.h>
#include <stdlib.h>

#define PATH "/v1/messages"
#define TEMPLATE                                                                                 \
    "{% for m in messages %}<|start_header_id|>{{ m.role }}<|end_header_id|>\n\n{{ m.content }}" \
    "<|eot_id|>{% endfor %}{# <think> </think> <tool_call> </tool_call> tools #}"                \
    "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
#define HI "\"max_tokens\":1000,\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}]"
#define TOOLS "\"tools\":[{\"name\":\"look\",\"input_schema\":{\"type\":\"object\"}}]"
#define CALL(arguments) "<tool_call>{\"name\":\"look\",\"arguments\":" arguments "}</tool_call>"
#define THINKS_SAYS_CALLS "<think>Hm.</think>See" CALL("{\"a\":[1,2]}") CALL("{}")

enum { DATA_MAX = 512 };

static FakeWorker *start(const char *script) {
    return fake_worker_start(&(FakeConfig){
        .script = script, .n_jobs = 2, .n_queued = 8, .chat_template = TEMPLATE, .tool_format = "hermes"});
}

TEST(api_messages_whole) {
    static const struct {
        const char *script, *body, *path, *value;
    } rows[] = {
        {"Hello.", "{" HI "}", "type", "message"},
        {"Hello.", "{" HI "}", "role", "assistant"},
        {"Hello.", "{" HI "}", "model", "tiny"},
        {"Hello.", "{" HI "}", "content", "[{\"type\":\"text\",\"text\":\"Hello.\"}]"},
        {"Hello.", "{" HI "}", "stop_reason", "end_turn"},
        {"Hello.", "{" HI "}", "stop_sequence", "null"},
        {"Hello.", "{" HI "}", "usage.output_tokens", "5"},
        {"Hello.", "{" HI "}", "usage.cache_creation_input_tokens", "0"},
        {"Hello.", "{\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}]}", "stop_reason", "end_turn"},
        {"Hello.", "{" HI ",\"max_tokens\":2}", "stop_reason", "max_tokens"},
        {"Hello.", "{" HI ",\"stop_sequences\":[\"q\",\"l\",\"lo\"]}", "stop_reason", "stop_sequence"},
        {"Hello.", "{" HI ",\"stop_sequences\":[\"q\",\"l\",\"lo\"]}", "stop_sequence", "l"},
        {"Hello.", "{" HI ",\"stop_sequences\":[\"o\",\"llo\",\"lo\"]}", "stop_sequence", "llo"},
        {"Hello.", "{" HI ",\"stop_sequences\":[\"o\",\"llo\",\"lo\"]}", "content.0.text", "He"},
        {"Hello.", "{" HI ",\"stop_sequences\":[\"q\"]}", "stop_reason", "end_turn"},
        {"Hello.", "{" HI ",\"stop_sequences\":[\"q\"]}", "stop_sequence", "null"},
        {"Hello.", "{" HI ",\"system\":[{\"type\":\"text\",\"text\":\"Be kind.\"}]}", "stop_reason",
         "end_turn"},
        {"a<|start_header_id|>b", "{" HI ",\"stop_sequences\":[\"z\",\"<|start_header_id|>\"]}",
         "stop_sequence", "<|start_header_id|>"},
        {"a<|start_header_id|>b", "{" HI ",\"stop_sequences\":[\"z\",\"<|start_header_id|>\"]}",
         "stop_reason", "stop_sequence"},
        {THINKS_SAYS_CALLS, "{" HI "," TOOLS "}", "content.0",
         "{\"type\":\"thinking\",\"thinking\":\"Hm.\",\"signature\":\"\"}"},
        {THINKS_SAYS_CALLS, "{" HI "," TOOLS "}", "content.1", "{\"type\":\"text\",\"text\":\"See\"}"},
        {THINKS_SAYS_CALLS, "{" HI "," TOOLS "}", "content.2.type", "tool_use"},
        {THINKS_SAYS_CALLS, "{" HI "," TOOLS "}", "content.2.name", "look"},
        {THINKS_SAYS_CALLS, "{" HI "," TOOLS "}", "content.2.input", "{\"a\":[1,2]}"},
        {THINKS_SAYS_CALLS, "{" HI "," TOOLS "}", "content.3.input", "{}"},
        {THINKS_SAYS_CALLS, "{" HI "," TOOLS "}", "content.4", "nothing"},
        {THINKS_SAYS_CALLS, "{" HI "," TOOLS "}", "stop_reason", "tool_use"},
        {THINKS_SAYS_CALLS, "{" HI "," TOOLS ",\"thinking\":{\"type\":\"adaptive\",\"display\":\"omitted\"}}",
         "content.0.text", "See"},
        {THINKS_SAYS_CALLS, "{" HI "," TOOLS ",\"stop_sequences\":[\"{}\"]}", "stop_reason", "tool_use"},
        {THINKS_SAYS_CALLS, "{" HI "," TOOLS ",\"stop_sequences\":[\"{}\"]}", "stop_sequence", "{}"},
        {THINKS_SAYS_CALLS,
         "{" HI "," TOOLS ",\"tool_choice\":{\"type\":\"auto\",\"disable_parallel_tool_use\":true}}",
         "content.3", "nothing"},
        {THINKS_SAYS_CALLS, "{" HI "," TOOLS ",\"tool_choice\":{\"type\":\"none\"}}", "content.1.text",
         "See" CALL("{\"a\":[1,2]}") CALL("{}")},
        // A call that breaks off is no object, so it is text.
        {"<tool_call>{\"name\":\"look\",\"arguments\":{\"a\":\"q", "{" HI "," TOOLS "}", "content",
         "[{\"type\":\"text\",\"text\":\"look {\\\"a\\\":\\\"q\"}]"},
        {"<tool_call>{\"name\":\"look\",\"arguments\":{\"a\":\"q", "{" HI "," TOOLS "}", "stop_reason",
         "end_turn"},
        {"", "{" HI "}", "content", "[]"},
    };
    FakeWorker *f = NULL;
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        TEST_CASE_LABEL("%s %s %s", rows[i].script, rows[i].body, rows[i].path);
        bool is_new = i == 0 || strcmp(rows[i].script, rows[i - 1].script) != 0;
        if (is_new && f) shut_down(f);
        if (is_new) f = start(rows[i].script);
        Answer a = ask(f, "POST", PATH, rows[i].body);
        CHECK_INT_EQ(200, a.status);
        CHECK_STR_EQ(rows[i].value, json_text_at(json_root(a.body), rows[i].path));
        CHECK(answer_header(&a, "Request-Id").len > 0);
        CHECK_STR_EQ(answer_header(&a, "X-Correlation-Id"), answer_header(&a, "Request-Id"));
    }
    shut_down(f);
}

TEST(api_messages_refuses_by_name) {
    static const struct {
        const char *body, *field, *message;
    } rows[] = {
        {"{}", "messages", "messages: must be an array of messages, found nothing"},
        {"{\"messages\":[]}", "messages", "messages: must not be empty"},
        {"{" HI ",\"container\":\"c\"}", "container", "container: is not supported; nothing is run here"},
        {"{" HI ",\"mcp_servers\":[{}]}", "mcp_servers",
         "mcp_servers: is not supported; call them yourself and give their tools as tools"},
        {"{" HI ",\"context_management\":{\"edits\":[{\"type\":\"clear_tool_uses_20250919\"}]}}",
         "context_management", "context_management: is not supported; shorten the conversation yourself"},
        {"{" HI ",\"context_management\":{\"edits\":[{\"type\":\"clear_thinking_20251015\",\"keep\":"
         "{\"type\":\"thinking_turns\",\"value\":1}}]}}",
         "context_management", "context_management: is not supported; shorten the conversation yourself"},
        {"{" HI ",\"output_format\":{\"type\":\"json_schema\"}}", "output_format",
         "output_format: json_schema needs a schema"},
        {"{" HI ",\"output_config\":{\"format\":{\"type\":\"json_schema\"}}}", "output_config.format",
         "output_config.format: json_schema needs a schema"},
        {"{" HI ",\"tool_choice\":{\"type\":\"any\"}}", "tool_choice", "tool_choice: a call needs tools"},
        {"{" HI "," TOOLS ",\"tool_choice\":{\"type\":\"tool\"}}", "tool_choice.name",
         "tool_choice.name: must be the name of a tool"},
        {"{" HI ",\"tool_choice\":\"auto\"}", "tool_choice",
         "tool_choice: must be an object, found a string: /tool_choice is \"auto\""},
        {"{" HI ",\"tool_choice\":{}}", "tool_choice.type",
         "tool_choice.type: must be a string, found nothing"},
        {"{" HI ",\"tool_choice\":{\"type\":\"auto\",\"disable_parallel_tool_use\":1}}",
         "tool_choice.disable_parallel_tool_use",
         "tool_choice.disable_parallel_tool_use: must be a boolean, found a number: "
         "/tool_choice/disable_parallel_tool_use is 1"},
        {"{" HI ",\"tools\":[{\"type\":\"bash_20250124\",\"name\":\"bash\"}]}", "tools[0].type",
         "tools[0].type: \"bash_20250124\" is not supported; only tools with an input_schema are"},
        {"{" HI ",\"cache_salt\":\"\"}", "cache_salt", "cache_salt: must not be empty"},
        {"{" HI ",\"stop_sequences\":[\"\"]}", "stop_sequences", "stop_sequences[0]: must not be empty"},
        {"{" HI ",\"temperature\":3}", "temperature", "temperature: 3 is out of range; allowed is 0 to 2"},
        {"{\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"image\"}]}]}",
         "messages[0].content[0].type",
         "messages[0].content[0].type: \"image\" is not supported; this model reads text alone"},
    };
    FakeWorker *f = start("x");
    for (size_t i = 0; i < 2 * COUNT_OF(rows); i++) {
        const char *path = i % 2 ? PATH : PATH "/count_tokens";
        TEST_CASE_LABEL("%s %s", path, rows[i / 2].body);
        Answer a = ask(f, "POST", path, rows[i / 2].body);
        CHECK_INT_EQ(400, a.status);
        const JsonNode *root = json_root(a.body);
        CHECK_STR_EQ("error", json_text_at(root, "type"));
        CHECK_STR_EQ(rows[i / 2].field, json_text_at(root, "error.field"));
        CHECK_STR_EQ(rows[i / 2].message, json_text_at(root, "error.message"));
        CHECK_STR_EQ("invalid_request_error", json_text_at(root, "error.type"));
        CHECK_STR_EQ(answer_header(&a, "Request-Id"), json_text_at(root, "request_id"));
    }
    shut_down(f);
}

TEST(api_messages_ignores_what_changes_nothing) {
    static const char *const fields[] = {
        "\"metadata\":{\"user_id\":\"u\"}",
        "\"service_tier\":\"auto\"",
        "\"thinking\":{\"type\":\"disabled\"}",
        "\"thinking\":{\"type\":\"enabled\",\"budget_tokens\":1024}",
        "\"thinking\":null",
        "\"mcp_servers\":[]",
        "\"context_management\":{\"edits\":[]}",
        "\"context_management\":{\"edits\":[{\"type\":\"clear_thinking_20251015\",\"keep\":\"all\"}]}",
        "\"container\":null",
        "\"output_config\":{\"effort\":\"low\"}",
        "\"output_format\":null",
        "\"stop_sequences\":[]",
        "\"tools\":[]",
        "\"system\":\"\"",
        "\"cache_control\":{\"type\":\"ephemeral\"}",
        "\"top_k\":5",
    };
    FakeWorker *f = start("x");
    for (size_t i = 0; i < COUNT_OF(fields); i++) {
        char body[256];
        TEST_CASE_LABEL("%s", fields[i]);
        snprintf(body, sizeof body, "{" HI ",%s}", fields[i]);
        Answer a = ask(f, "POST", PATH, body);
        CHECK_INT_EQ(200, a.status);
        CHECK_STR_EQ("x", json_text_at(json_root(a.body), "content.0.text"));
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
        Str type = json_text_at(root, "type");
        if (str_eq(type, STR("content_block_delta"))) type = json_text_at(root, "delta.type");
        if (!str_eq(type, last)) strbuf_printf(&b, "%.*s ", STR_ARG(type));
        last = type;
    }
    return strbuf_str(&b);
}

#define BLOCK(deltas) "content_block_start " deltas "content_block_stop "

TEST(api_messages_streams) {
    static const struct {
        const char *script, *body, *types;
    } rows[] = {
        {"Hello.", "{" HI ",\"stream\":true}",
         "message_start ping " BLOCK("text_delta ") "message_delta message_stop "},
        {"", "{" HI ",\"stream\":true}", "message_start ping message_delta message_stop "},
        {THINKS_SAYS_CALLS, "{" HI "," TOOLS ",\"stream\":true}",
         "message_start ping " BLOCK("thinking_delta signature_delta ") BLOCK("text_delta ")
             BLOCK("input_json_delta ") BLOCK("input_json_delta ") "message_delta message_stop "},
        {"<tool_call>{\"name\":\"look\",\"arguments\":{\"a\":", "{" HI "," TOOLS ",\"stream\":true}",
         "message_start ping " BLOCK("input_json_delta ") "message_delta message_stop "},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        TEST_CASE_LABEL("%s %s", rows[i].script, rows[i].body);
        FakeWorker *f = start(rows[i].script);
        Answer a = ask(f, "POST", PATH, rows[i].body);
        CHECK_INT_EQ(200, a.status);
        CHECK_STR_EQ(rows[i].types, types_of(a.body));
        CHECK(answer_header(&a, "Request-Id").len > 0);
        shut_down(f);
    }
}

TEST(api_messages_stream_that_fails) {
    FakeWorker *f =
        fake_worker_start(&(FakeConfig){.step_ms = 5, .chat_template = TEMPLATE, .timeout_sec = 1});
    Answer a = ask(f, "POST", PATH, "{" HI ",\"stream\":true}");
    static Str data[DATA_MAX * 8];
    uint32_t n = stream_data(a.body, data, COUNT_OF(data));
    REQUIRE(n > 3);
    const JsonNode *last = json_root(data[n - 1]);
    CHECK_STR_EQ("error", json_text_at(last, "type"));
    CHECK_STR_EQ("INFERENCE_TIMEOUT", json_text_at(last, "error.code"));
    CHECK_STR_EQ("api_error", json_text_at(last, "error.type"));
    CHECK_INT_EQ(504, ask(f, "POST", PATH, "{" HI "}").status);
    shut_down(f);
}

// What is counted is what a message with the same fields is given; no slot is needed for it.
TEST(api_messages_count_tokens) {
    static const char *const bodies[] = {
        "{" HI "}",
        "{" HI "," TOOLS "}",
        "{" HI ",\"system\":\"Be kind.\",\"thinking\":{\"type\":\"disabled\"}}",
        "{\"messages\":[{\"role\":\"user\",\"content\":\"a\"},{\"role\":\"assistant\",\"content\":\"b\"},"
        "{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"c\"}]}]}",
    };
    FakeWorker *f = start("x");
    for (size_t i = 0; i < COUNT_OF(bodies); i++) {
        TEST_CASE_LABEL("%s", bodies[i]);
        Answer counted = ask(f, "POST", PATH "/count_tokens", bodies[i]);
        Answer whole = ask(f, "POST", PATH, bodies[i]);
        CHECK_INT_EQ(200, counted.status);
        const JsonNode *root = json_root(whole.body);
        uint64_t computed = 0, cached = 0, all = 0;
        CHECK(json_read_u64(json_at(root, "usage.input_tokens"), &computed));
        CHECK(json_read_u64(json_at(root, "usage.cache_read_input_tokens"), &cached));
        CHECK(json_read_u64(json_at(json_root(counted.body), "input_tokens"), &all));
        CHECK_U64_EQ(computed + cached, all);
    }
    shut_down(f);
    f = fake_worker_start(&(FakeConfig){.step_ms = 20, .chat_template = TEMPLATE});
    Stream *stream = open_stream(f, "{\"job_id\":\"j\",\"prompt\":\"p\",\"max_tokens\":50}", (HttpHeader){0});
    read_until(stream, "event: token");
    CHECK_INT_EQ(200, ask(f, "POST", PATH "/count_tokens", bodies[0]).status);
    CHECK_INT_EQ(429, ask(f, "POST", PATH, bodies[0]).status);
    shut_down(f);
}

// Answers of other routes lack the header that only this API's clients read.
TEST(api_messages_request_id_is_theirs_alone) {
    FakeWorker *f = start("x");
    Answer a = ask(f, "POST", PATH, "{" HI "}");
    CHECK(answer_header(&a, "Request-Id").len > 0);
    a = ask(f, "POST", "/v1/chat/completions", "{" HI "}");
    CHECK_INT_EQ(200, a.status);
    CHECK_INT_EQ(0, answer_header(&a, "Request-Id").len);
    a = ask(f, "GET", "/health", NULL);
    CHECK_INT_EQ(0, answer_header(&a, "Request-Id").len);
    shut_down(f);
}

// The Anthropic client's own models take every event and answer, wherever the answer is cut.
TEST_SLOW(api_messages_as_the_anthropic_client_reads_them, 300) {
    test_needs_plain_run();
    test_needs_python("anthropic");
    FakeWorker *f = start(THINKS_SAYS_CALLS);
    char command[1024];
    snprintf(command, sizeof command, "python3 %s %u", test_data_path("support/check_messages.py"),
             fake_port(f));
    CHECK_INT_EQ(0, system(command));
    shut_down(f);
}
