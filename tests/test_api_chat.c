// POST /v1/chat/completions and /v1/completions over real sockets, with a backend that draws a given text.
#include "api_client.h"
#include "fake_worker.h"
#include "json_path.h"
#include "os/os.h"
#include "runner.h"
#include "worker_process.h"

#include <stdio.h>

#define CHAT "/v1/chat/completions"
#define COMPLETIONS "/v1/completions"
#define TEMPLATE                                                                                 \
    "{% for m in messages %}<|start_header_id|>{{ m.role }}<|end_header_id|>\n\n{{ m.content }}" \
    "<|eot_id|>{% endfor %}{# <think> </think> <tool_call> </tool_call> tools #}"                \
    "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
#define HI "\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}]"
#define TOOLS "\"tools\":[{\"type\":\"function\",\"function\":{\"name\":\"look\",\"parameters\":{}}}]"

enum { DATA_MAX = 256 };

static FakeWorker *start(const char *script) {
    return fake_worker_start(&(FakeConfig){
        .script = script, .n_jobs = 2, .n_queued = 8, .chat_template = TEMPLATE, .tool_format = "hermes"});
}

// ---- whole answers ----

TEST(api_chat_whole) {
    static const struct {
        const char *script, *body, *path, *value;
    } rows[] = {
        {"Hello.", "{" HI "}", "choices.0.message.content", "Hello."},
        {"Hello.", "{" HI "}", "choices.0.message.role", "assistant"},
        {"Hello.", "{" HI "}", "choices.0.finish_reason", "stop"},
        {"Hello.", "{" HI "}", "choices.0.logprobs", "null"},
        {"Hello.", "{" HI "}", "choices.0.message.tool_calls", "nothing"},
        {"Hello.", "{" HI "}", "choices.0.message.reasoning_content", "nothing"},
        {"Hello.", "{" HI "}", "object", "chat.completion"},
        {"Hello.", "{" HI "}", "model", "tiny"},
        {"Hello.", "{" HI ",\"model\":\"another\"}", "model", "tiny"},
        {"Hello.", "{" HI ",\"max_tokens\":2}", "choices.0.finish_reason", "length"},
        {"Hello.", "{" HI ",\"max_completion_tokens\":2,\"max_tokens\":5}", "usage.completion_tokens", "2"},
        {"Hello.", "{" HI ",\"max_tokens\":1000000}", "choices.0.finish_reason", "stop"},
        {"Hello.", "{" HI ",\"max_tokens\":-1}", "choices.0.finish_reason", "stop"},
        {"Hello.", "{" HI ",\"stop\":\"lo\"}", "choices.0.message.content", "Hel"},
        {"Hello.", "{" HI ",\"stop\":[\"q\",\"l\"]}", "choices.0.message.content", "He"},
        {"Hello.", "{" HI ",\"stop\":[\"q\",\"l\"]}", "choices.0.stop_reason", "l"},
        {"Hello</tool_call>", "{" HI ",\"stop\":[\"q\",\"</tool_call>\"]}", "choices.0.stop_reason",
         "</tool_call>"},
        {"Hello.", "{" HI ",\"stop\":null,\"seed\":null,\"n\":null,\"tools\":null,\"logprobs\":null}",
         "choices.0.message.content", "Hello."},
        {"Hello.", "{" HI ",\"n\":3}", "choices.2.message.content", "Hello."},
        {"Hello.", "{" HI ",\"n\":3}", "choices.2.index", "2"},
        {"Hello.", "{" HI ",\"n\":3}", "usage.completion_tokens", "15"},
        {"ab", "{" HI ",\"logprobs\":true}", "choices.0.logprobs.content.1.token", "b"},
        {"ab", "{" HI ",\"logprobs\":true}", "choices.0.logprobs.content.1.bytes", "[98]"},
        {"ab", "{" HI ",\"logprobs\":true}", "choices.0.logprobs.content.2", "nothing"},
        {"<think>Hm.</think>Yes.", "{" HI "}", "choices.0.message.reasoning_content", "Hm."},
        {"<think>Hm.</think>Yes.", "{" HI "}", "choices.0.message.content", "Yes."},
        {"<think>Hm.</think>Yes.", "{" HI ",\"include_reasoning\":false}",
         "choices.0.message.reasoning_content", "nothing"},
        {"<think>Hm.</think>Yes.", "{" HI ",\"separate_reasoning\":false}", "choices.0.message.content",
         "Hm.Yes."},
        {"<tool_call>{\"name\":\"look\",\"arguments\":{\"a\":1}}</tool_call>", "{" HI "," TOOLS "}",
         "choices.0.message.tool_calls.0.function.name", "look"},
        {"<tool_call>{\"name\":\"look\",\"arguments\":{\"a\":1}}</tool_call>", "{" HI "," TOOLS "}",
         "choices.0.message.tool_calls.0.function.arguments", "{\"a\":1}"},
        {"<tool_call>{\"name\":\"look\",\"arguments\":{\"a\":1}}</tool_call>", "{" HI "," TOOLS "}",
         "choices.0.message.content", "null"},
        {"<tool_call>{\"name\":\"look\",\"arguments\":{\"a\":1}}</tool_call>", "{" HI "," TOOLS "}",
         "choices.0.finish_reason", "tool_calls"},
        {"<tool_call>{\"name\":\"look\",\"arguments\":{\"a\":1}}</tool_call>",
         "{" HI "," TOOLS ",\"tool_choice\":\"none\"}", "choices.0.message.content",
         "<tool_call>{\"name\":\"look\",\"arguments\":{\"a\":1}}</tool_call>"},
        {"<tool_call>{\"name\":\"lo", "{" HI "," TOOLS "}", "choices.0.message.content",
         "<tool_call>{\"name\":\"lo"},
        {"See <tool_call>{\"name\":\"look\",\"arguments\":{\"a\":[1,", "{" HI "," TOOLS "}",
         "choices.0.message.content", "See <tool_call>{\"name\":\"look\",\"arguments\":{\"a\":[1,"},
        {"See <tool_call>{\"name\":\"look\",\"arguments\":{\"a\":[1,", "{" HI "," TOOLS "}",
         "choices.0.message.tool_calls", "nothing"},
        {"See <tool_call>{\"name\":\"look\",\"arguments\":{\"a\":[1,", "{" HI "," TOOLS "}",
         "choices.0.finish_reason", "stop"},
        {"<tool_call>{\"name\":\"look\",\"arguments\":{\"a\":x}}</tool_call>!", "{" HI "," TOOLS "}",
         "choices.0.message.content", "<tool_call>{\"name\":\"look\",\"arguments\":{\"a\":x}}</tool_call>!"},
    };
    FakeWorker *f = NULL;
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        TEST_CASE_LABEL("%s %s %s", rows[i].script, rows[i].body, rows[i].path);
        bool is_new = i == 0 || strcmp(rows[i].script, rows[i - 1].script) != 0;
        if (is_new && f) shut_down(f);
        if (is_new) f = start(rows[i].script);
        Answer a = ask(f, "POST", CHAT, rows[i].body);
        CHECK_INT_EQ(200, a.status);
        CHECK_STR_EQ(rows[i].value, json_text_at(json_root(a.body), rows[i].path));
    }
    shut_down(f);
}

TEST(api_completions_whole) {
    static const struct {
        const char *body, *path, *value;
    } rows[] = {
        {"{\"prompt\":\"x\"}", "choices.0.text", "Hello."},
        {"{\"prompt\":\"x\"}", "object", "text_completion"},
        {"{\"prompt\":\"x\"}", "choices.0.finish_reason", "stop"},
        {"{\"prompt\":[1,2,3]}", "usage.prompt_tokens", "3"},
        {"{\"prompt\":[[1,2],[3,4,5]]}", "usage.prompt_tokens", "5"},
        {"{\"prompt\":[\"x\",\"y\"],\"n\":2}", "choices.3.text", "Hello."},
        {"{\"prompt\":[\"x\",\"y\"],\"n\":2}", "choices.3.index", "3"},
        {"{\"prompt\":[\"x\",\"y\"],\"n\":2,\"echo\":true}", "choices.1.text", "xHello."},
        {"{\"prompt\":[\"x\",\"y\"],\"n\":2,\"echo\":true}", "choices.2.text", "yHello."},
        {"{\"prompt\":[72,73],\"echo\":true,\"max_tokens\":1}", "choices.0.text", "HIH"},
        {"{\"prompt\":\"x\",\"logprobs\":2}", "choices.0.logprobs.tokens.4", "."},
        {"{\"prompt\":\"x\",\"logprobs\":2}", "choices.0.logprobs.text_offset", "[0,1,2,4,5]"},
        {"{\"prompt\":\"x\"}", "choices.0.logprobs", "null"},
        {"{\"prompt\":\"x\",\"stop\":\"o\"}", "choices.0.stop_reason", "o"},
        {"{\"prompt\":\"x\",\"stop_token_ids\":[112,111]}", "choices.0.text", "Hell"},
        {"{\"prompt\":\"x\",\"stop_token_ids\":[112,111]}", "choices.0.stop_reason", "111"},
        {"{\"prompt\":\"x\",\"stop\":\"q\"}", "choices.0.stop_reason", "null"},
        {"{\"prompt\":\"x\",\"stop\":\"q\",\"max_tokens\":2}", "choices.0.stop_reason", "null"},
    };
    FakeWorker *f = start("Hello.");
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        TEST_CASE_LABEL("%s %s", rows[i].body, rows[i].path);
        Answer a = ask(f, "POST", COMPLETIONS, rows[i].body);
        CHECK_INT_EQ(200, a.status);
        CHECK_STR_EQ(rows[i].value, json_text_at(json_root(a.body), rows[i].path));
    }
    shut_down(f);
}

// ---- refusals ----

static const struct {
    const char *path, *body;
    uint16_t status;
    const char *param, *message;
} refusals[] = {
    {CHAT, "{}", 400, "messages", "messages: must be an array of messages, found nothing"},
    {CHAT, "{\"messages\":\"hi\"}", 400, "messages",
     "messages: must be an array of messages, found a string: /messages is \"hi\""},
    {CHAT, "{" HI ",\"stop\" : [ \"a\", { \"b\": 1 } ], \"x\": 2}", 400, "stop",
     "stop[1]: must be a string, found an object: /stop/1 is { \"b\": 1 }"},
    {CHAT, "{" HI ",\"seed\":\"a long text whose end, that nobody needs, is left away\"}", 400, "seed",
     "seed: must be a whole number, found a string: /seed is "
     "\"a long text whose end, that nobody needs, is le..."},
    // Found later, by the encoder thread.
    {CHAT, "{\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":7}]}]}", 400,
     "messages[0].content[0].text",
     "messages[0].content[0].text: must be a string, found a number: /messages/0/content/0/text is 7"},
    {CHAT, "[]", 400, "null", "the body must be a JSON object, found an array"},
    {CHAT, "{" HI ",\"temperature\":\"1\"}", 400, "temperature",
     "temperature: must be a number, found a string: /temperature is \"1\""},
    {CHAT, "{" HI ",\"temperature\":2.5}", 400, "temperature",
     "temperature: 2.5 is out of range; allowed is 0 to 2"},
    {CHAT, "{" HI ",\"max_tokens\":0}", 400, "max_tokens",
     "max_tokens: 0 is out of range; allowed is 1 or more, or -1 for no limit"},
    {COMPLETIONS, "{\"prompt\":\"x\",\"max_tokens\":-2}", 400, "max_tokens",
     "max_tokens: -2 is out of range; allowed is -1 or more"},
    {CHAT, "{" HI ",\"seed\":1e30}", 400, "seed",
     "seed: 1e+30 is out of range; allowed is a whole number of 64 bits"},
    {CHAT, "{" HI ",\"n\":9}", 400, "n", "n: 9 is out of range; allowed is 1 to 8"},
    {CHAT, "{" HI ",\"top_logprobs\":2}", 400, "top_logprobs", "top_logprobs: goes with logprobs: true"},
    {CHAT, "{" HI ",\"stop\":[\"\"]}", 400, "stop", "stop[0]: must not be empty"},
    {CHAT, "{" HI ",\"stop\":3}", 400, "stop",
     "stop: must be a string or an array of strings, found a number: /stop is 3"},
    {CHAT, "{" HI ",\"stream_options\":1}", 400, "stream_options",
     "stream_options: must be an object, found a number: /stream_options is 1"},
    {CHAT, "{" HI ",\"tool_choice\":\"required\"}", 400, "tool_choice", "tool_choice: a call needs tools"},
    {CHAT, "{" HI ",\"structural_tag\":\"{}\"}", 400, "structural_tag",
     "structural_tag: is not supported; use response_format, structured_outputs or strict tools"},
    {CHAT, "{" HI ",\"functions\":[{}]}", 400, "functions", "functions: is not supported; use tools"},
    {CHAT, "{" HI ",\"modalities\":[\"text\",\"audio\"]}", 400, "modalities",
     "modalities: the model writes text alone"},
    {CHAT, "{" HI ",\"best_of\":2}", 400, "best_of",
     "best_of: is not supported; ask for n answers and choose yourself"},
    {COMPLETIONS, "{}", 400, "prompt", "prompt: is required"},
    {CHAT, "{" HI ",\"cache_salt\":\"\"}", 400, "cache_salt", "cache_salt: must not be empty"},
    {COMPLETIONS, "{\"prompt\":\"p\",\"cache_salt\":\"\"}", 400, "cache_salt",
     "cache_salt: must not be empty"},
    {COMPLETIONS, "{\"prompt\":\"p\",\"cache_salt\":7}", 400, "cache_salt",
     "cache_salt: must be a string, found a number: /cache_salt is 7"},
    {COMPLETIONS, "{\"prompt\":\"\"}", 400, "prompt", "prompt: must not be empty"},
    {COMPLETIONS, "{\"prompt\":[]}", 400, "prompt", "prompt: must not be empty"},
    {COMPLETIONS, "{\"prompt\":[1,\"a\"]}", 400, "prompt",
     "prompt: must be a token id of 0 to 1023, found a string: /prompt/1 is \"a\""},
    {COMPLETIONS, "{\"prompt\":[\"a\",[]]}", 400, "prompt",
     "prompt: must be a string, an array of strings, or arrays of token ids, found an array: /prompt/1 "
     "is []"},
    {COMPLETIONS, "{\"prompt\":\"x\",\"suffix\":\"y\"}", 400, "suffix",
     "suffix: is not supported; write the model's own fill-in-the-middle tokens into the prompt"},
    {COMPLETIONS, "{\"prompt\":\"x\",\"echo\":true,\"logprobs\":1}", 400, "logprobs",
     "logprobs: those of a prompt are not computed; they do not go with echo"},
    {"/v1/nothing", "{}", 404, "null", "there is nothing at /v1/nothing"},
};

TEST(api_generate_refuses_by_name) {
    FakeWorker *f = start("x");
    for (size_t i = 0; i < COUNT_OF(refusals); i++) {
        TEST_CASE_LABEL("%s", refusals[i].body);
        Answer a = ask(f, "POST", refusals[i].path, refusals[i].body);
        CHECK_INT_EQ(refusals[i].status, a.status);
        const JsonNode *root = json_root(a.body);
        CHECK_STR_EQ(refusals[i].param, json_text_at(root, "error.param"));
        CHECK_STR_EQ(refusals[i].message, json_text_at(root, "error.message"));
        CHECK_STR_EQ("invalid_request_error", json_text_at(root, "error.type"));
        CHECK(json_is(json_at(root, "error.correlation_id"), JSON_STRING));
    }
    shut_down(f);
}

// What clients and routers send beside the fields that count.
TEST(api_generate_ignores_what_changes_nothing) {
    static const char *const fields[] = {
        "\"user\":\"u\"",
        "\"metadata\":{\"a\":1}",
        "\"store\":true",
        "\"service_tier\":\"auto\"",
        "\"skip_special_tokens\":true",
        "\"no_stop_trim\":false",
        "\"return_hidden_states\":false",
        "\"separate_reasoning\":true",
        "\"response_format\":{\"type\":\"text\"}",
        "\"response_format\":null",
        "\"top_k\":-1",
        "\"min_p\":0.0",
        "\"repetition_penalty\":1.0",
        "\"best_of\":1",
        "\"length_penalty\":1.0",
        "\"stream\":null",
        "\"logit_bias\":{}",
        "\"stop\":[]",
        "\"stop_token_ids\":[]",
        "\"bad_words\":[]",
        "\"cache_salt\":\"s\"",
        "\"cache_salt\":null",
        "\"unheard_of\":{\"x\":[]}",
        "\"lora_path\":null",
        "\"top_p\":1",
        "\"parallel_tool_calls\":true",
        "\"modalities\":[\"text\"]",
        "\"stream_options\":null",
    };
    FakeWorker *f = start("x");
    for (size_t i = 0; i < COUNT_OF(fields); i++) {
        char body[256];
        TEST_CASE_LABEL("%s", fields[i]);
        snprintf(body, sizeof body, "{" HI ",%s}", fields[i]);
        CHECK_INT_EQ(200, ask(f, "POST", CHAT, body).status);
        snprintf(body, sizeof body, "{\"prompt\":\"p\",%s}", fields[i]);
        CHECK_INT_EQ(200, ask(f, "POST", COMPLETIONS, body).status);
    }
    shut_down(f);
}

TEST(api_chat_without_a_template_is_refused) {
    FakeWorker *f = fake_worker_start(&(FakeConfig){.script = "x", .chat_template = "a\n{% if %}"});
    Answer a = ask(f, "POST", CHAT, "{" HI "}");
    CHECK_INT_EQ(400, a.status);
    CHECK(text_contains(a.body, "line 2: "));
    CHECK_INT_EQ(200, ask(f, "POST", COMPLETIONS, "{\"prompt\":\"x\"}").status);
    shut_down(f);
}

TEST(api_chat_strict_model_name) {
    FakeWorker *f =
        fake_worker_start(&(FakeConfig){.script = "x", .chat_template = TEMPLATE, .strict_model_name = true});
    CHECK_INT_EQ(200, ask(f, "POST", CHAT, "{" HI ",\"model\":\"tiny\"}").status);
    Answer a = ask(f, "POST", CHAT, "{" HI ",\"model\":\"other\"}");
    CHECK_INT_EQ(404, a.status);
    CHECK_STR_EQ("model_not_found", json_text_at(json_root(a.body), "error.code"));
    shut_down(f);
}

TEST(api_chat_too_long_has_its_own_code) {
    static char body[64 * 1024];
    FakeWorker *f = fake_worker_start(&(FakeConfig){.script = "x", .chat_template = TEMPLATE, .context = 64});
    int length = snprintf(body, sizeof body, "{\"messages\":[{\"role\":\"user\",\"content\":\"");
    memset(body + length, 'z', 1000);
    snprintf(body + length + 1000, 8, "\"}]}");
    Answer a = ask(f, "POST", CHAT, body);
    CHECK_INT_EQ(400, a.status);
    CHECK_STR_EQ("context_length_exceeded", json_text_at(json_root(a.body), "error.code"));
    // Clients look for these words.
    CHECK(text_contains(json_text_at(json_root(a.body), "error.message"),
                        "is longer than the model's context length: messages: "));
    snprintf(body + length + 1000, 32, "\"}],\"max_tokens\":9}");
    a = ask(f, "POST", "/v1/messages", body);
    CHECK_INT_EQ(400, a.status);
    CHECK(text_contains(json_text_at(json_root(a.body), "error.message"), "prompt is too long: messages: "));
    shut_down(f);
}

// ---- streams ----

// What the deltas of a stream say, joined.
static Str joined(const Str *data, uint32_t n, const char *path) {
    static char memory[4096];
    StrBuf b = STRBUF(memory);
    for (uint32_t i = 0; i < n; i++) {
        if (str_eq(data[i], STR("[DONE]"))) continue;
        const JsonNode *value = json_at(json_root(data[i]), path);
        Str text;
        if (json_read_str(value, &text)) strbuf_put(&b, text);
    }
    return strbuf_str(&b);
}

TEST(api_chat_streams) {
    FakeWorker *f = start("<think>Hm.</think>See <tool_call>{\"name\":\"look\",\"arguments\":{\"a\":[1,2]}}"
                          "</tool_call>");
    Answer a = ask(f, "POST", CHAT,
                   "{" HI "," TOOLS ",\"stream\":true,\"stream_options\":{\"include_usage\":true}}");
    static Str data[DATA_MAX];
    uint32_t n = stream_data(a.body, data, DATA_MAX);
    CHECK_INT_EQ(200, a.status);
    REQUIRE(n > 6 && str_eq(data[n - 1], STR("[DONE]")));
    CHECK_STR_EQ("assistant", json_text_at(json_root(data[0]), "choices.0.delta.role"));
    CHECK_STR_EQ("Hm.", joined(data, n, "choices.0.delta.reasoning_content"));
    CHECK_STR_EQ("See", joined(data, n, "choices.0.delta.content"));
    CHECK_STR_EQ("look", joined(data, n, "choices.0.delta.tool_calls.0.function.name"));
    CHECK_STR_EQ("{\"a\":[1,2]}", joined(data, n, "choices.0.delta.tool_calls.0.function.arguments"));
    CHECK_INT_EQ(9, joined(data, n, "choices.0.delta.tool_calls.0.id").len);
    CHECK_STR_EQ("tool_calls", joined(data, n, "choices.0.finish_reason"));
    CHECK_STR_EQ("[]", json_text_at(json_root(data[n - 2]), "choices"));
    CHECK(json_is_number(json_at(json_root(data[n - 2]), "usage.completion_tokens")));
    uint64_t reasoning = 0;
    CHECK(json_read_u64(json_at(json_root(data[n - 2]), "usage.completion_tokens_details.reasoning_tokens"),
                        &reasoning));
    CHECK(reasoning > 0);
    shut_down(f);
}

TEST(api_chat_streams_choices_and_logprobs) {
    FakeWorker *f = start("abc");
    Answer a = ask(f, "POST", CHAT, "{" HI ",\"n\":4,\"logprobs\":true,\"top_logprobs\":1,\"stream\":true}");
    static Str data[DATA_MAX];
    uint32_t n = stream_data(a.body, data, DATA_MAX), tokens[4] = {0}, ends = 0;
    REQUIRE(n > 4 && str_eq(data[n - 1], STR("[DONE]")));
    for (uint32_t i = 0; i + 1 < n; i++) {
        const JsonNode *root = json_root(data[i]);
        uint64_t choice = 9;
        REQUIRE(json_read_u64(json_at(root, "choices.0.index"), &choice) && choice < 4);
        tokens[choice] += json_is(json_at(root, "choices.0.logprobs.content.0"), JSON_OBJECT);
        ends += json_is(json_at(root, "choices.0.finish_reason"), JSON_STRING);
    }
    CHECK_INT_EQ(4, ends);
    for (int i = 0; i < 4; i++)
        CHECK_INT_EQ(3, tokens[i]);
    shut_down(f);
}

TEST(api_completions_stream) {
    FakeWorker *f = start("abc");
    Answer a = ask(f, "POST", COMPLETIONS, "{\"prompt\":\"x\",\"echo\":true,\"stream\":true}");
    static Str data[DATA_MAX];
    uint32_t n = stream_data(a.body, data, DATA_MAX);
    REQUIRE(n > 2 && str_eq(data[n - 1], STR("[DONE]")));
    CHECK_STR_EQ("xabc", joined(data, n, "choices.0.text"));
    CHECK_STR_EQ("stop", joined(data, n, "choices.0.finish_reason"));
    shut_down(f);
}

TEST(api_streams_say_which_string_ended_them) {
    static const char *const routes[] = {CHAT, COMPLETIONS};
    static Str data[DATA_MAX];
    FakeWorker *f = start("abc");
    for (int i = 0; i < 4; i++) {
        const char *stop = i < 2 ? "\"c\"" : "\"d\"";
        char body[128];
        snprintf(body, sizeof body, "{%s,\"stop\":%s,\"stream\":true}", i % 2 ? "\"prompt\":\"x\"" : HI,
                 stop);
        Answer a = ask(f, "POST", routes[i % 2], body);
        uint32_t n = stream_data(a.body, data, DATA_MAX);
        REQUIRE(n > 2);
        CHECK_STR_EQ(i < 2 ? "c" : "null", json_text_at(json_root(data[n - 2]), "choices.0.stop_reason"));
        CHECK_STR_EQ("nothing", json_text_at(json_root(data[n - 3]), "choices.0.stop_reason"));
    }
    shut_down(f);
}

// An error in the middle of a stream is its last event but one.
TEST(api_chat_stream_that_fails) {
    FakeWorker *f =
        fake_worker_start(&(FakeConfig){.step_ms = 5, .chat_template = TEMPLATE, .timeout_sec = 1});
    Answer a = ask(f, "POST", CHAT, "{" HI ",\"stream\":true}");
    static Str data[DATA_MAX * 8];
    uint32_t n = stream_data(a.body, data, COUNT_OF(data));
    REQUIRE(n > 2 && str_eq(data[n - 1], STR("[DONE]")));
    CHECK_STR_EQ("INFERENCE_TIMEOUT", json_text_at(json_root(data[n - 2]), "error.code"));
    a = ask(f, "POST", CHAT, "{" HI ",\"n\":1}");
    CHECK_INT_EQ(504, a.status);
    CHECK_STR_EQ("server_error", json_text_at(json_root(a.body), "error.type"));
    shut_down(f);
}

// The longest answers are sent whole.
TEST(api_chat_answers_of_megabytes) {
    FakeWorker *f = fake_worker_start(
        &(FakeConfig){.n_jobs = 4, .n_queued = 8, .context = 4096, .chat_template = TEMPLATE});
    Answer a =
        ask(f, "POST", CHAT, "{" HI ",\"n\":8,\"max_tokens\":2048,\"logprobs\":true,\"top_logprobs\":2}");
    CHECK_INT_EQ(200, a.status);
    CHECK(a.body.len > HTTP_STREAM_BEHIND_MAX);
    const JsonNode *root = json_root(a.body);
    CHECK_STR_EQ("16384", json_text_at(root, "usage.completion_tokens"));
    CHECK_INT_EQ(2048, json_text_at(root, "choices.7.message.content").len);
    CHECK(json_is(json_at(root, "choices.7.logprobs.content.2047"), JSON_OBJECT));
    shut_down(f);
}

// What is kept of a large request ends with it, also where it was refused.
TEST(api_chat_large_requests_leave_nothing) {
    enum { TOOLS_MAX = 50, PARAMETERS = 1000, BODY_BYTES = 4 << 20 };
    FakeWorker *f = start("ok");
    StrBuf small = strbuf_from_memory(os_reserve(BODY_BYTES), BODY_BYTES);
    StrBuf large = strbuf_from_memory(os_reserve(BODY_BYTES), BODY_BYTES);
    for (int i = 0; i < 2; i++) {
        StrBuf *b = i ? &large : &small;
        strbuf_put(b, STR("{" HI ",\"tools\":["));
        for (int t = 0; t < (i ? TOOLS_MAX : 2); t++) {
            strbuf_printf(b,
                          "%s{\"type\":\"function\",\"function\":{\"name\":\"f%d\",\"parameters\":{"
                          "\"type\":\"object\",\"properties\":{",
                          t ? "," : "", t);
            for (int p = 0; p < PARAMETERS; p++)
                strbuf_printf(b, "%s\"parameter_%d\":{\"type\":\"string\"}", p ? "," : "", p);
            strbuf_put(b, STR("}}}}"));
        }
        strbuf_put(b, STR("]}"));
        REQUIRE(!b->truncated && b->len > REQUEST_SMALL_BODY_BYTES);
    }
    for (int i = 0; i < 60; i++) {
        CHECK_INT_EQ(200, ask(f, "POST", CHAT, small.ptr).status);
        uint16_t status = ask(f, "POST", CHAT, large.ptr).status;
        CHECK(status == 200 || status == 400);
        CHECK_INT_EQ(200, ask(f, "POST", CHAT, "{" HI "}").status);
    }
    shut_down(f);
}

// What clients send back of a call goes through templates that cannot put a null together with a text.
TEST(api_chat_takes_null_contents) {
    static const char body[] =
        "{\"messages\":[{\"role\":\"user\",\"content\":\"a\"},{\"role\":\"assistant\",\"content\":null,"
        "\"tool_calls\":[{\"id\":\"c\",\"type\":\"function\",\"function\":{\"name\":\"f\",\"arguments\":\"{}"
        "\"}}]},"
        "{\"role\":\"tool\",\"tool_call_id\":\"c\",\"content\":\"x\"}]}";
    FakeWorker *f = fake_worker_start(
        &(FakeConfig){.script = "ok",
                      .chat_template = "{% for m in messages %}{{ m.role + ': ' + m.content }}{% endfor %}"});
    CHECK_INT_EQ(200, ask(f, "POST", CHAT, body).status);
    shut_down(f);
}

// A whole answer that grows too long is refused when it does, and counts as no success.
TEST(api_chat_too_long_an_answer_ends_at_once) {
    FakeWorker *f = fake_worker_start(&(FakeConfig){.context = 1 << 17,
                                                    .n_jobs = 2,
                                                    .n_queued = 8,
                                                    .chat_template = TEMPLATE,
                                                    .max_tokens_out = 1 << 17});
    Answer a =
        ask(f, "POST", CHAT, "{" HI ",\"n\":2,\"logprobs\":true,\"top_logprobs\":20,\"max_tokens\":131000}");
    CHECK_INT_EQ(400, a.status);
    CHECK_STR_EQ("stream", json_text_at(json_root(a.body), "error.param"));
    CHECK(text_contains(ask(f, "GET", "/metrics", NULL).body, "outcome=\"success\"} 0\n"));
    shut_down(f);
}
