// Answers that are held to schemas, patterns, lists and grammars, through every API, over real sockets. The
// backend draws any of the tokens that it is allowed.
#include "api/api_internal.h"
#include "api_client.h"
#include "fake_worker.h"
#include "json/json_writer.h"
#include "json_path.h"
#include "os/os.h"
#include "runner.h"
#include "schema_run.h"
#include "worker_process.h"

#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#define CHAT "/v1/chat/completions"
#define COMPLETIONS "/v1/completions"
#define RESPONSES "/v1/responses"
#define MESSAGES "/v1/messages"
#define FORMATS                                                                       \
    "harmony, gemma4, deepseek-dsml, deepseek, kimi-k2, minimax-m2, seed, qwen-xml, " \
    "glm, mistral, functionary-v3.2, functionary-v3.1, lfm2, phi4-mini, granite, "    \
    "command-r, nemotron, tool-calls, hermes, internlm2, gigachat, granite-20b, "     \
    "pythonic, xlam, llama3"
#define HI "\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}]"
#define TEMPLATE "{% for m in messages %}{{ m.content }}{% endfor %}{# tools #}"
#define THINKS "{% for m in messages %}{{ m.content }}{% endfor %}<think>"

// A bounded one, so that any text of it ends.
#define PERSON                                                                                             \
    "{\"type\":\"object\",\"properties\":{\"name\":{\"enum\":[\"Ann\",\"B\\u00e9a\"]},\"age\":{\"type\":"  \
    "\"integer\",\"minimum\":0,\"maximum\":120},\"tags\":{\"type\":\"array\",\"maxItems\":2,\"items\":{"   \
    "\"type\":\"string\",\"maxLength\":3}},\"ids\":{\"type\":\"array\",\"uniqueItems\":true,\"items\":{"   \
    "\"type\":\"integer\",\"minimum\":0,\"maximum\":12},\"maxItems\":4}},\"required\":[\"age\",\"name\"]," \
    "\"additionalProperties\":false}"
#define FORMAT(schema) \
    "{\"type\":\"json_schema\",\"json_schema\":{\"name\":\"p\",\"strict\":true,\"schema\":" schema "}}"
#define OF_PATTERN(pattern) "{\"type\":\"string\",\"pattern\":\"" pattern "\"}"

static FakeWorker *start_with(bool late_masks) {
    return fake_worker_start(&(FakeConfig){
        .script = "Hm.", .n_jobs = 4, .n_queued = 8, .late_masks = late_masks, .chat_template = TEMPLATE});
}

static FakeWorker *start(void) {
    return start_with(false);
}

// Whether the text meets the schema; as a JSON text, or as the string that it is.
static bool meets(Str text, const char *schema, bool is_string) {
    SchemaRun run;
    SchemaOptions options = {.blanks = SCHEMA_BLANKS_ANY};
    char memory[8192];
    StrBuf quoted = STRBUF(memory);
    if (!CHECK(schema_run_compile(&run, str_from_c(schema), &options))) return false;
    if (!is_string) return schema_run_takes(&run, text);
    JsonWriter w = json_writer_begin(&quoted);
    json_put_str(&w, text);
    return schema_run_takes(&run, strbuf_str(&quoted));
}

// ---- whole answers ----

TEST(api_structured_answers_are_what_they_have_to_be) {
    static const struct {
        const char *route, *body, *path, *schema;
        bool is_string;
    } rows[] = {
        {CHAT, "{" HI ",\"response_format\":" FORMAT(PERSON), "choices.0.message.content", PERSON, false},
        {CHAT, "{" HI ",\"n\":3,\"response_format\":" FORMAT(PERSON), "choices.2.message.content", PERSON,
         false},
        {CHAT, "{" HI ",\"response_format\":{\"type\":\"json_object\",\"schema\":" PERSON "}",
         "choices.0.message.content", PERSON, false},
        {CHAT, "{" HI ",\"guided_json\":" PERSON, "choices.0.message.content", PERSON, false},
        {CHAT, "{" HI ",\"structured_outputs\":{\"json\":" PERSON ",\"disable_any_whitespace\":true}",
         "choices.0.message.content", PERSON, false},
        {COMPLETIONS, "{\"prompt\":\"x\",\"json_schema\":" PERSON, "choices.0.text", PERSON, false},
        {COMPLETIONS, "{\"prompt\":\"x\",\"grammar\":\"\",\"json_schema\":" PERSON, "choices.0.text", PERSON,
         false},
        {COMPLETIONS,
         "{\"prompt\":\"x\",\"guided_whitespace_pattern\":\"\\\\t\",\"guided_json\":{\"enum\":[[1,2]]}",
         "choices.0.text", OF_PATTERN("^\\\\[\\\\t1\\\\t,\\\\t2\\\\t\\\\]$"), true},
        {COMPLETIONS, "{\"prompt\":[\"x\",\"y\"],\"n\":2,\"response_format\":" FORMAT(PERSON),
         "choices.3.text", PERSON, false},
        {COMPLETIONS, "{\"prompt\":\"x\",\"guided_json\":\"{\\\"enum\\\":[1,2]}\"", "choices.0.text",
         "{\"enum\":[1,2]}", false},
        {COMPLETIONS, "{\"prompt\":\"x\",\"guided_regex\":\"[ab]{3}-\\\\d\"", "choices.0.text",
         OF_PATTERN("^[ab]{3}-[0-9]$"), true},
        {COMPLETIONS, "{\"prompt\":\"x\",\"regex\":\"[ab]{3}\"", "choices.0.text", OF_PATTERN("^[ab]{3}$"),
         true},
        {COMPLETIONS, "{\"prompt\":\"x\",\"guided_choice\":[\"yes\",\"no\"]", "choices.0.text",
         OF_PATTERN("^(yes|no)$"), true},
        {COMPLETIONS, "{\"prompt\":\"x\",\"guided_grammar\":\"root ::= [0-9]{2} (\\\"a\\\" | \\\"b\\\")\"",
         "choices.0.text", OF_PATTERN("^[0-9]{2}[ab]$"), true},
        {COMPLETIONS, "{\"prompt\":\"x\",\"guided_grammar\":\"start: /[0-9]/ (\\\"a\\\" | \\\"b\\\")\"",
         "choices.0.text", OF_PATTERN("^[0-9][ab]$"), true},
        {COMPLETIONS, "{\"prompt\":\"x\",\"grammar\":\"root ::= \\\"<\\\" [xyz] \\\">\\\"\"",
         "choices.0.text", OF_PATTERN("^<[xyz]>$"), true},
        {RESPONSES,
         "{\"input\":\"hi\",\"text\":{\"format\":{\"type\":\"json_schema\",\"name\":\"p\",\"schema\":" PERSON
         "}}",
         "output.0.content.0.text", PERSON, false},
        {MESSAGES,
         "{" HI
         ",\"max_tokens\":500,\"output_config\":{\"format\":{\"type\":\"json_schema\",\"schema\":" PERSON
         "}}",
         "content.0.text", PERSON, false},
    };
    FakeWorker *workers[] = {start(), start_with(true)};
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        for (int seed = 1; seed < 4; seed++) {
            FakeWorker *f = workers[seed % 2];
            char body[2048];
            snprintf(body, sizeof body, "%s,\"seed\":%d}", rows[i].body, seed);
            TEST_CASE_LABEL("%s %s", rows[i].route, body);
            Answer a = ask(f, "POST", rows[i].route, body);
            CHECK_INT_EQ(200, a.status);
            const JsonNode *root = json_root(a.body);
            Str text = json_text_at(root, rows[i].path);
            if (!CHECK(meets(text, rows[i].schema, rows[i].is_string)))
                printf("%.*s\n", (int)min_u64(a.body.len, 2000), a.body.ptr);
            if (i == 0) CHECK_STR_EQ("stop", json_text_at(root, "choices.0.finish_reason"));
        }
    }
    shut_down(workers[0]);
    shut_down(workers[1]);
}

// The model reasons as it likes; the schema holds behind the reasoning's end.
TEST(api_structured_answers_follow_reasoning) {
    FakeWorker *f = fake_worker_start(&(FakeConfig){.script = "Hm. {</think>", .chat_template = THINKS});
    Answer a = ask(f, "POST", CHAT, "{" HI ",\"seed\":1,\"json_schema\":" PERSON "}");
    const JsonNode *root = json_root(a.body);
    CHECK_INT_EQ(200, a.status);
    CHECK_STR_EQ("Hm. {", json_text_at(root, "choices.0.message.reasoning_content"));
    CHECK(meets(json_text_at(root, "choices.0.message.content"), PERSON, false));
    CHECK_STR_EQ("stop", json_text_at(root, "choices.0.finish_reason"));
    shut_down(f);
}

// An object of any depth may never end by itself; until it is cut, its text can be gone on with.
TEST(api_structured_text_may_be_cut) {
    FakeWorker *f = start();
    Answer a = ask(f, "POST", CHAT,
                   "{" HI ",\"max_tokens\":40,\"seed\":5,\"response_format\":{\"type\":\"json_object\"}}");
    const JsonNode *root = json_root(a.body);
    Str text = json_text_at(root, "choices.0.message.content");
    CHECK_INT_EQ(200, a.status);
    CHECK(text.len > 0 && text.ptr[0] == '{');
    CHECK_STR_EQ("length", json_text_at(root, "choices.0.finish_reason"));
    a = ask(f, "POST", COMPLETIONS, "{\"prompt\":\"x\",\"stop\":\"b\",\"grammar\":\"root ::= \\\"abc\\\"\"}");
    CHECK_STR_EQ("a", json_text_at(json_root(a.body), "choices.0.text"));
    shut_down(f);
}

// ---- calls ----

#define TOOLS                                                                                  \
    "\"tools\":[{\"type\":\"function\",\"function\":{\"name\":\"look\",\"parameters\":" PERSON \
    "}},{\"type\":\"function\",\"function\":{\"name\":\"rest\"}}]"

#define STRICT_TOOLS                                                                     \
    "\"tools\":[{\"type\":\"function\",\"function\":{\"name\":\"look\",\"strict\":true," \
    "\"parameters\":" PERSON "}},{\"type\":\"function\",\"function\":{\"name\":\"rest\",\"strict\":true}}]"

TEST(api_structured_calls_are_made) {
    static const struct {
        const char *format, *choice;
    } rows[] = {
        {"hermes", "{\"type\":\"function\",\"function\":{\"name\":\"look\"}}"},
        {"llama3", "{\"type\":\"function\",\"function\":{\"name\":\"look\"}}"},
        {"granite", "{\"type\":\"function\",\"function\":{\"name\":\"look\"}}"},
        {"mistral", "{\"type\":\"function\",\"function\":{\"name\":\"look\"}}"},
        {"kimi-k2", "{\"type\":\"function\",\"function\":{\"name\":\"look\"}}"},
        {"functionary-v3.1", "{\"type\":\"function\",\"name\":\"look\"}"},
        {"harmony", "{\"type\":\"function\",\"name\":\"look\"}"},
        {"deepseek", "{\"type\":\"function\",\"name\":\"look\"}"},
        {"pythonic", "{\"type\":\"function\",\"name\":\"look\"}"},
        {"gemma4", "{\"type\":\"function\",\"name\":\"look\"}"},
        {"qwen-xml", "{\"type\":\"function\",\"name\":\"look\"}"},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        char body[2048];
        FakeWorker *f = fake_worker_start(
            &(FakeConfig){.script = "Hm.", .chat_template = TEMPLATE, .tool_format = rows[i].format});
        TEST_CASE_LABEL("%s", rows[i].format);
        snprintf(body, sizeof body, "{" HI ",\"seed\":3," TOOLS ",\"tool_choice\":%s}", rows[i].choice);
        Answer a = ask(f, "POST", CHAT, body);
        const JsonNode *root = json_root(a.body);
        CHECK_INT_EQ(200, a.status);
        CHECK_STR_EQ("look", json_text_at(root, "choices.0.message.tool_calls.0.function.name"));
        CHECK_STR_EQ("null", json_text_at(root, "choices.0.message.content"));
        CHECK_STR_EQ("tool_calls", json_text_at(root, "choices.0.finish_reason"));
        CHECK(meets(json_text_at(root, "choices.0.message.tool_calls.0.function.arguments"), PERSON, false));
        shut_down(f);
    }
}

// Strict tools hold where the model calls: text before it is as it likes, arguments are not.
TEST(api_structured_strict_tools_hold_their_calls) {
#define ONE_TOOL(strict)                                                                   \
    "\"tools\":[{\"type\":\"function\",\"function\":{\"name\":\"look\",\"strict\":" strict \
    ",\"parameters\":" PERSON "}}]"
    static const char script[] =
        "Hm. Well.<tool_call>\n{\"name\": \"look\", \"arguments\": {\"years\": 7}}\n</tool_call>";
    static const char arguments[] = "choices.0.message.tool_calls.0.function.arguments";
    FakeWorker *f = fake_worker_start(
        &(FakeConfig){.script = script, .chat_template = TEMPLATE, .tool_format = "hermes"});
    for (int seed = 1; seed <= 4; seed++) {
        char body[2048];
        snprintf(body, sizeof body, "{" HI ",\"seed\":%d," ONE_TOOL("true") "}", seed);
        const JsonNode *root = json_root(ask(f, "POST", CHAT, body).body);
        TEST_CASE_LABEL("seed %d", seed);
        CHECK_STR_EQ("Hm. Well.", json_text_at(root, "choices.0.message.content"));
        CHECK_STR_EQ("tool_calls", json_text_at(root, "choices.0.finish_reason"));
        CHECK(meets(json_text_at(root, arguments), PERSON, false));
    }
    const JsonNode *root = json_root(ask(f, "POST", CHAT, "{" HI "," ONE_TOOL("false") "}").body);
    CHECK_STR_EQ("{\"years\": 7}", json_text_at(root, arguments));
    root =
        json_root(ask(f, "POST", MESSAGES,
                      "{" HI ",\"max_tokens\":500,\"seed\":1,\"tools\":[{\"name\":\"look\",\"strict\":true,"
                      "\"input_schema\":{\"properties\":{\"a\":{\"const\":1}},\"required\":[\"a\"],"
                      "\"additionalProperties\":false}}]}")
                      .body);
    CHECK_STR_EQ("1", json_text_at(root, "content.1.input.a"));
    Answer a =
        ask(f, "POST", CHAT,
            "{" HI ",\"tools\":[{\"type\":\"function\",\"function\":{\"name\":\"look\",\"strict\":true,"
            "\"parameters\":{\"properties\":{\"a\":{\"uniqueItems\":true}}}}}]}");
    CHECK_INT_EQ(400, a.status);
    CHECK_STR_EQ("tools", json_text_at(json_root(a.body), "error.param"));
    CHECK(text_count(a.body, "tools: the parameters of look: #/properties/a/uniqueItems: ") == 1);
    shut_down(f);
}

// The model sees all tools, and calls those that the request allows.
TEST(api_structured_allowed_tools) {
#define ALLOWED(mode, tools) \
    "\"tool_choice\":{\"type\":\"allowed_tools\",\"mode\":\"" mode "\",\"tools\":[" tools "]}"
#define WITHIN(mode, tools)                                                                                  \
    "\"tool_choice\":{\"type\":\"allowed_tools\",\"allowed_tools\":{\"mode\":\"" mode "\",\"tools\":[" tools \
    "]}}"
#define FUNCTION(name) "{\"type\":\"function\",\"function\":{\"name\":\"" name "\"}}"
#define FLAT(name) "{\"type\":\"function\",\"name\":\"" name "\"}"
    static const struct {
        const char *choice, *content, *name;
    } rows[] = {
        {WITHIN("auto", FUNCTION("look")), "Hm. Well.", "look"},
        {WITHIN("required", FUNCTION("look")), "null", "look"},
        {ALLOWED("required", FLAT("look")), "null", "look"},
        {WITHIN("auto", FUNCTION("rest")), "Hm. Well.", "rest"},
        {ALLOWED("auto", FLAT("look") "," FLAT("rest")), "Hm. Well.", "rest"},
        {"\"regex\":\"a\"," WITHIN("auto", FUNCTION("look")), "a", "nothing"},
    };
    FakeWorker *f = fake_worker_start(
        &(FakeConfig){.script = "Hm. Well.<tool_call>\n{\"name\": \"rest\", \"arguments\": {}}\n</tool_call>",
                      .chat_template = TEMPLATE,
                      .tool_format = "hermes"});
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        char body[2048];
        TEST_CASE_LABEL("%s", rows[i].choice);
        snprintf(body, sizeof body, "{" HI ",\"seed\":3,\"parallel_tool_calls\":false," STRICT_TOOLS ",%s}",
                 rows[i].choice);
        const JsonNode *root = json_root(ask(f, "POST", CHAT, body).body);
        CHECK_STR_EQ(rows[i].content, json_text_at(root, "choices.0.message.content"));
        CHECK_STR_EQ(rows[i].name, json_text_at(root, "choices.0.message.tool_calls.0.function.name"));
        CHECK_STR_EQ("nothing", json_text_at(root, "choices.0.message.tool_calls.1"));
    }
    Answer a = ask(f, "POST", RESPONSES,
                   "{\"input\":\"hi\",\"tools\":[" FLAT("look") "," FLAT("rest") "]," ALLOWED(
                       "required", FLAT("look")) "}");
    CHECK_STR_EQ("look", json_text_at(json_root(a.body), "output.0.name"));
    CHECK_STR_EQ("allowed_tools", json_text_at(json_root(a.body), "tool_choice.type"));
    shut_down(f);
}

// A template without tools: the model knows of none, so they are refused, unless a call is forced. Then its
// result goes back with tool_choice "none".
TEST(api_structured_tools_need_a_template_with_tools) {
    FakeWorker *f = fake_worker_start(&(FakeConfig){
        .script = "Hm.", .chat_template = "{{ messages[0].content }}", .tool_format = "hermes"});
    Answer a = ask(f, "POST", CHAT, "{" HI "," TOOLS "}");
    CHECK_INT_EQ(400, a.status);
    CHECK_STR_EQ("tools", json_text_at(json_root(a.body), "error.param"));
    CHECK(text_count(a.body, "this model's chat template has no place for them") == 1);
    CHECK(text_count(a.body, "or force a call; what helps is") == 1);
    CHECK_INT_EQ(200, ask(f, "POST", CHAT, "{" HI "," TOOLS ",\"tool_choice\":\"none\"}").status);
    a = ask(f, "POST", CHAT,
            "{" HI ",\"seed\":3," TOOLS ",\"tool_choice\":{\"type\":\"function\",\"name\":\"rest\"}}");
    CHECK_INT_EQ(200, a.status);
    CHECK_STR_EQ("rest", json_text_at(json_root(a.body), "choices.0.message.tool_calls.0.function.name"));
    CHECK_STR_EQ("{}", json_text_at(json_root(a.body), "choices.0.message.tool_calls.0.function.arguments"));
    a = ask(
        f, "POST", CHAT,
        "{\"messages\":[{\"role\":\"user\",\"content\":\"hi\"},{\"role\":\"assistant\",\"content\":null,"
        "\"tool_calls\":[{\"id\":\"c1\",\"type\":\"function\",\"function\":{\"name\":\"rest\","
        "\"arguments\":\"{}\"}}]},{\"role\":\"tool\",\"tool_call_id\":\"c1\",\"content\":\"done\"}]," TOOLS
        ",\"tool_choice\":\"none\"}");
    CHECK_INT_EQ(200, a.status);
    CHECK_STR_EQ("Hm.", json_text_at(json_root(a.body), "choices.0.message.content"));
    shut_down(f);
}

// Where it is not known either how the model writes calls, the refusal offers none.
TEST(api_structured_unseen_tools_of_an_unknown_format) {
    FakeWorker *f = fake_worker_start(&(FakeConfig){.chat_template = "{{ messages[0].content }}"});
    Answer a = ask(f, "POST", CHAT, "{" HI "," TOOLS "}");
    CHECK_INT_EQ(400, a.status);
    CHECK_STR_EQ(
        "tools: this model's chat template has no place for them, so the model would not know of any; leave "
        "them out or send tool_choice \"none\"; what helps is a template that shows tools: start the worker "
        "with --chat-template FILE",
        json_text_at(json_root(a.body), "error.message"));
    shut_down(f);
}

TEST(api_structured_calls_refused) {
    static const struct {
        const char *format, *body, *message;
    } rows[] = {
        {"hermes", "{" HI ",\"tool_choice\":\"required\"}", "tool_choice: a call needs tools"},
        {"hermes", "{" HI "," TOOLS ",\"tool_choice\":{\"type\":\"function\",\"name\":\"jump\"}}",
         "tool_choice: no tool is named 'jump'"},
        // A name is shown whole.
        {"hermes", "{" HI ",\"tools\":[{\"type\":\"function\",\"function\":{\"name\":\"lo\\u0000ok\"}}]}",
         "tools[0].function.name: \"lo\\u0000ok\" must be made of letters, digits, _, - and ."},
        {"hermes",
         "{" HI "," TOOLS ",\"tool_choice\":{\"type\":\"function\",\"name\":\"lo\\u0000ok\\n\\\"\"}}",
         "tool_choice: no tool is named 'lo\\u0000ok\\n\\\"'"},
        {"hermes",
         "{" HI ",\"tool_choice\":\"required\",\"tools\":[{\"type\":\"function\",\"function\":{\"name\":"
         "\"look\",\"parameters\":{\"properties\":{\"a\\u0000b\":{\"type\":\"st\\u0000ring\"}}}}}]}",
         "tool_choice: the parameters of look: #/properties/a\\u0000b/type: \"st\\u0000ring\" is not "
         "the "
         "name of a type"},
        {"hermes", "{" HI "," TOOLS ",\"tool_choice\":{\"type\":\"function\"}}",
         "tool_choice: needs the name of a function"},
        {"hermes", "{" HI "," TOOLS "," WITHIN("auto", FUNCTION("look") "," FUNCTION("jump")) "}",
         "tool_choice: no tool is named 'jump'"},
        {"hermes", "{" HI "," TOOLS ",\"tool_choice\":{\"type\":\"allowed_tools\"}}",
         "tool_choice: allowed_tools: must be an object with mode and tools"},
        {"hermes", "{" HI "," TOOLS ",\"tool_choice\":{\"type\":\"allowed_tools\",\"allowed_tools\":[]}}",
         "tool_choice: allowed_tools: must be an object with mode and tools"},
        {"hermes", "{" HI "," TOOLS "," ALLOWED("any", FLAT("look")) "}",
         "tool_choice: allowed_tools: mode must be \"auto\" or \"required\""},
        {"hermes", "{" HI "," TOOLS "," ALLOWED("auto", "") "}",
         "tool_choice: allowed_tools: tools must be an array of one or more"},
        {"hermes", "{" HI "," TOOLS "," ALLOWED("auto", "{\"type\":\"mcp\",\"name\":\"look\"}") "}",
         "tool_choice: allowed_tools: each tool must be a function with its name"},
        {"hermes", "{" HI "," TOOLS ",\"tool_choice\":\"required\",\"regex\":\"a\"}",
         "tool_choice: goes without regex; both were given"},
        {"none", "{" HI "," TOOLS ",\"tool_choice\":\"required\"}",
         "tool_choice: calls cannot be forced: it is not known how this model writes them; start the worker "
         "with --chat-template FILE, a template with tools, or with --tool-format NAME: " FORMATS},
        {"none", "{" HI "," TOOLS ",\"tool_choice\":{\"type\":\"function\",\"name\":\"jump\"}}",
         "tool_choice: no tool is named 'jump'"},
        {"hermes",
         "{" HI ",\"tool_choice\":\"required\",\"tools\":[{\"type\":\"function\",\"function\":{\"name\":"
         "\"look\",\"parameters\":{\"properties\":{\"a\":{\"type\":\"string\",\"enum\":[1]}},\"required\":["
         "\"a\"]}}}]}",
         "tool_choice: no text matches the parameters of look: #/properties/a (type, enum): no value meets "
         "all "
         "that it says"},
        {"qwen-xml",
         "{" HI ",\"tool_choice\":\"required\",\"tools\":[{\"type\":\"function\",\"function\":{\"name\":"
         "\"look\",\"parameters\":{\"properties\":{\"<a>\":{}}}}}]}",
         "tool_choice: the parameters of look: #: the name \"<a>\" cannot be written in calls of this "
         "model's "
         "format"},
        {"qwen-xml",
         "{" HI ",\"tool_choice\":\"required\",\"tools\":[{\"type\":\"function\",\"function\":{\"name\":"
         "\"look\",\"parameters\":{\"properties\":{\"<\\u0000a>\":{}}}}}]}",
         "tool_choice: the parameters of look: #: the name \"<\\u0000a>\" cannot be written in calls of this "
         "model's format"},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        FakeWorker *f =
            fake_worker_start(&(FakeConfig){.chat_template = TEMPLATE, .tool_format = rows[i].format});
        TEST_CASE_LABEL("%s", rows[i].body);
        Answer a = ask(f, "POST", CHAT, rows[i].body);
        CHECK_INT_EQ(400, a.status);
        CHECK_STR_EQ(rows[i].message, json_text_at(json_root(a.body), "error.message"));
        shut_down(f);
    }
}

// What is wrong with a tool's parameters, in formats that write JSON and in one that writes marks.
TEST(api_structured_parameters_refused) {
    static const struct {
        const char *parameters, *message;
    } rows[] = {
        {"{\"type\":\"string\"}", "tool_choice: the parameters of look: #/type: must allow \"object\""},
        {"{\"type\":[\"array\",\"null\"]}",
         "tool_choice: the parameters of look: #/type: must allow \"object\""},
        {"{\"not\":{}}", "tool_choice: no text matches the parameters of look: # (type, not): no value meets "
                         "all that it says"},
        {"{\"enum\":[1]}", "tool_choice: no text matches the parameters of look: # (type, enum): no value "
                           "meets all that it says"},
    };
    static const char *const formats[] = {"hermes", "qwen-xml", "pythonic"};
    for (size_t i = 0; i < COUNT_OF(formats); i++) {
        FakeWorker *f =
            fake_worker_start(&(FakeConfig){.chat_template = TEMPLATE, .tool_format = formats[i]});
        for (size_t k = 0; k < COUNT_OF(rows); k++) {
            char body[1024];
            TEST_CASE_LABEL("%s %s", formats[i], rows[k].parameters);
            snprintf(body, sizeof body,
                     "{" HI ",\"tool_choice\":\"required\",\"tools\":[{\"type\":\"function\",\"function\":{"
                     "\"name\":\"look\",\"parameters\":%s}}]}",
                     rows[k].parameters);
            Answer a = ask(f, "POST", CHAT, body);
            CHECK_INT_EQ(400, a.status);
            CHECK_STR_EQ(rows[k].message, json_text_at(json_root(a.body), "error.message"));
        }
        shut_down(f);
    }
}

// Arguments that are constants, also where the format writes them member by member.
TEST(api_structured_constant_arguments) {
    static const char *const formats[] = {"hermes", "qwen-xml", "glm"};
    static const char parameters[] = "{\"enum\":[{\"a\":1,\"b\":[]},{\"c\":null},{}]}";
    for (size_t i = 0; i < COUNT_OF(formats); i++) {
        FakeWorker *f = fake_worker_start(
            &(FakeConfig){.script = "Hm.", .chat_template = TEMPLATE, .tool_format = formats[i]});
        for (int seed = 0; seed < 6; seed++) {
            char body[1024];
            TEST_CASE_LABEL("%s, seed %d", formats[i], seed);
            snprintf(body, sizeof body,
                     "{" HI
                     ",\"seed\":%d,\"tool_choice\":{\"type\":\"function\",\"name\":\"look\"},\"tools\":[{"
                     "\"type\":\"function\",\"function\":{\"name\":\"look\",\"parameters\":%s}}]}",
                     seed, parameters);
            Answer a = ask(f, "POST", CHAT, body);
            CHECK_INT_EQ(200, a.status);
            CHECK(meets(json_text_at(json_root(a.body), "choices.0.message.tool_calls.0.function.arguments"),
                        parameters, false));
        }
        shut_down(f);
    }
}

// ---- streams ----

TEST(api_structured_streams_say_the_same) {
    FakeWorker *f = start();
    char joined[4096];
    Str data[512];
    Answer whole = ask(f, "POST", CHAT, "{" HI ",\"seed\":7,\"response_format\":" FORMAT(PERSON) "}");
    Str text = json_text_at(json_root(whole.body), "choices.0.message.content");
    Answer a =
        ask(f, "POST", CHAT, "{" HI ",\"seed\":7,\"stream\":true,\"response_format\":" FORMAT(PERSON) "}");
    StrBuf b = STRBUF(joined);
    uint32_t n = stream_data(a.body, data, COUNT_OF(data));
    for (uint32_t i = 0; i + 1 < n; i++) {
        Str part = json_text_at(json_root(data[i]), "choices.0.delta.content");
        if (!str_eq(part, STR("nothing"))) strbuf_put(&b, part);
    }
    CHECK(text.len > 0);
    CHECK_STR_EQ(text, strbuf_str(&b));
    a = ask(f, "POST", "/execute", "{\"job_id\":\"j\",\"prompt\":\"x\",\"schema\":{\"const\":\"ab\"}}");
    CHECK(text_count(a.body, "\"stop_reason\":\"eos\"") == 1);
    shut_down(f);
}

// ---- what is refused ----

static const struct {
    const char *route, *body, *field, *message;
} refusals[] = {
    {CHAT, "{" HI ",\"response_format\":7}", "response_format",
     "response_format: must be an object, found a number: /response_format is 7"},
    {CHAT, "{" HI ",\"response_format\":{\"type\":\"yaml\"}}", "response_format",
     "response_format: its type must be \"text\", \"json_object\" or \"json_schema\""},
    {CHAT, "{" HI ",\"response_format\":{}}", "response_format",
     "response_format: its type must be \"text\", \"json_object\" or \"json_schema\""},
    {CHAT, "{" HI ",\"response_format\":{\"schema\":{}}}", "response_format",
     "response_format: its type must be \"text\", \"json_object\" or \"json_schema\""},
    {RESPONSES, "{\"input\":\"x\",\"text\":{\"format\":{}}}", "text.format",
     "text.format: its type must be \"text\", \"json_object\" or \"json_schema\""},
    {CHAT, "{" HI ",\"response_format\":{\"type\":\"json_schema\"}}", "response_format",
     "response_format: json_schema needs a schema"},
    {CHAT, "{" HI ",\"response_format\":" FORMAT("{\"properties\":{\"a\":{\"type\":\"strin\"}}}") "}",
     "response_format", "response_format: #/properties/a/type: "},
    {CHAT, "{" HI ",\"guided_json\":{\"properties\":{\"a\":{\"pattern\":\"(\"}}}}", "guided_json",
     "guided_json: #/properties/a/pattern: "},
    {CHAT, "{" HI ",\"guided_json\":{\"type\":\"array\",\"uniqueItems\":true}}", "guided_json",
     "guided_json: #/uniqueItems: "},
    {CHAT, "{" HI ",\"response_format\":" FORMAT("\"hi\"") "}", "response_format",
     "response_format: the schema is a string, which is read as JSON: invalid JSON at byte 0: expected a "
     "value"},
    {CHAT, "{" HI ",\"guided_json\":\"{\"}", "guided_json",
     "guided_json: the schema is a string, which is read as JSON: invalid JSON at byte 1: "},
    {CHAT, "{" HI ",\"guided_json\":false}", "guided_json", "guided_json: "},
    {CHAT, "{" HI ",\"guided_regex\":\"a(\"}", "guided_regex", "guided_regex: "},
    {CHAT, "{" HI ",\"guided_choice\":[\"a\",1]}", "guided_choice",
     "guided_choice: must be an array of strings, found a number: /guided_choice/1 is 1"},
    {CHAT, "{" HI ",\"grammar\":\"root ::= x\"}", "grammar", "grammar: GBNF grammar, line 1: "},
    {CHAT, "{" HI ",\"grammar\":3}", "grammar", "grammar: must be a string, found a number: /grammar is 3"},
    {CHAT, "{" HI ",\"grammar\":\"root ::= \\\"a\\\"\",\"regex\":\"a\"}", "regex",
     "regex: goes without grammar; both were given"},
    {CHAT, "{" HI ",\"regex\":\"a\",\"ignore_eos\":true}", "ignore_eos",
     "ignore_eos: does not go with a schema or grammar"},
    {CHAT, "{" HI ",\"guided_regex\":\"\"}", "guided_regex",
     "guided_regex: must not be empty; leave it out where nothing is asked for"},
    {CHAT, "{" HI ",\"guided_json\":\"\"}", "guided_json", "guided_json: must not be empty"},
    {CHAT, "{" HI ",\"guided_choice\":\"\"}", "guided_choice",
     "guided_choice: must be an array of strings, found a string: /guided_choice is \"\""},
    {CHAT, "{" HI ",\"structured_outputs\":{\"regex\":\"\"}}", "structured_outputs.regex",
     "structured_outputs.regex: must not be empty"},
    {CHAT, "{" HI ",\"structured_outputs\":{\"regex\":\"a\",\"choice\":[\"b\"]}}",
     "structured_outputs.choice",
     "structured_outputs.choice: goes without structured_outputs.regex; both were given"},
    {CHAT, "{" HI ",\"guided_json\":{},\"guided_whitespace_pattern\":\"[ a]\"}", "guided_whitespace_pattern",
     "guided_whitespace_pattern: must match blanks, tabs and line breaks, and nothing else"},
    {CHAT, "{" HI ",\"guided_json\":{},\"guided_whitespace_pattern\":\"(\"}", "guided_whitespace_pattern",
     "guided_whitespace_pattern: "},
    {CHAT, "{" HI ",\"regex\":\"a\",\"guided_whitespace_pattern\":\" ?\"}", "guided_whitespace_pattern",
     "guided_whitespace_pattern: goes with a schema alone"},
    {CHAT, "{" HI ",\"structured_outputs\":{\"jsn\":{}}}", "structured_outputs",
     "structured_outputs: must have one of json, regex, choice, grammar and json_object"},
    {CHAT, "{" HI ",\"guided_choice\":[]}", "guided_choice", "guided_choice: must have at least one string"},
    {CHAT, "{" HI ",\"structured_outputs\":{\"structural_tag\":{}}}", "structured_outputs",
     "structured_outputs: structural_tag is not supported; use json, regex, choice or grammar"},
    {RESPONSES, "{\"input\":\"x\",\"text\":{\"format\":{\"type\":\"json_schema\",\"schema\":{\"type\":1}}}}",
     "text", "text.format: #/type: "},
};

TEST(api_structured_refusals_name_field_and_place) {
    FakeWorker *f = start();
    for (size_t i = 0; i < COUNT_OF(refusals); i++) {
        TEST_CASE_LABEL("%s", refusals[i].body);
        Answer a = ask(f, "POST", refusals[i].route, refusals[i].body);
        CHECK_INT_EQ(400, a.status);
        Str message = json_text_at(json_root(a.body), "error.message");
        CHECK_STR_EQ(refusals[i].field, json_text_at(json_root(a.body), "error.param"));
        if (!CHECK(str_starts_with(message, str_from_c(refusals[i].message))))
            printf("%.*s\n", STR_ARG(message));
    }
    Answer a =
        ask(f, "POST", "/execute", "{\"job_id\":\"j\",\"prompt\":\"x\",\"schema\":{\"type\":\"strin\"}}");
    CHECK_INT_EQ(400, a.status);
    CHECK(text_count(a.body, "schema: #/type: ") == 1);
    shut_down(f);
}

TEST(api_structured_needs_a_backend_with_masks) {
    FakeWorker *f = fake_worker_start(&(FakeConfig){.no_masks = true});
    Answer a = ask(f, "POST", COMPLETIONS, "{\"prompt\":\"x\",\"regex\":\"a\"}");
    CHECK_INT_EQ(400, a.status);
    CHECK_STR_EQ("regex: is not supported by the fake backend, which cannot hold answers to grammars yet",
                 json_text_at(json_root(a.body), "error.message"));
    CHECK_STR_EQ("false", json_text_at(json_root(ask(f, "GET", "/props", NULL).body), "structured_output"));
    shut_down(f);
}

// ---- schemas that take long ----

// A request that is sent, and whose answer is read later.
static int send_request(FakeWorker *f, const char *route, const char *body) {
    char text[2048];
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons(fake_port(f)), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    int n = snprintf(text, sizeof text,
                     "POST %s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: "
                     "application/json\r\nContent-Length: %zu\r\n\r\n%s",
                     route, strlen(body), body);
    REQUIRE(fd >= 0 && connect(fd, (struct sockaddr *)&address, sizeof address) == 0);
    REQUIRE(write(fd, text, (size_t)n) == n);
    return fd;
}

static Str read_answer(int fd, char *text, size_t size) {
    size_t length = 0;
    for (ssize_t n; length < size && (n = read(fd, text + length, size - length)) > 0;)
        length += (size_t)n;
    close(fd);
    return (Str){text, length};
}

enum { SLOW = 16 };

typedef struct {
    uint32_t answered, refused;
    double queued_ms; // the longest
} SlowFigures;

// Sixteen at once; `differ`: each another schema. Meanwhile somebody else asks for something quick.
static SlowFigures ask_slow(FakeWorker *f, bool differ) {
    static char text[1 << 16];
    char body[512];
    int slow[SLOW];
    SlowFigures figures = {0};
    for (int i = 0; i < SLOW; i++) {
        snprintf(body, sizeof body,
                 "{\"prompt\":\"x\",\"max_tokens\":1,\"json_schema\":{\"title\":\"%d\",\"type\":\"string\","
                 "\"pattern\":\"^[ab]*a[ab]{13}$\"}}",
                 differ ? i : 0);
        slow[i] = send_request(f, COMPLETIONS, body);
    }
    Answer a = ask(f, "POST", CHAT, "{" HI ",\"seed\":1,\"json_schema\":" PERSON "}");
    CHECK(meets(json_text_at(json_root(a.body), "choices.0.message.content"), PERSON, false));
    for (int i = 0; i < SLOW; i++) {
        double queued_ms = 0;
        Str answer = read_answer(slow[i], text, sizeof text);
        const char *figure = memmem(answer.ptr, answer.len, "\"queued_ms\":", 12);
        figures.answered += text_count(answer, "\"finish_reason\":\"length\"") == 1;
        figures.refused += text_count(answer, "that take long are being read already") == 1;
        if (figure) queued_ms = strtod(figure + 12, NULL);
        if (queued_ms > figures.queued_ms) figures.queued_ms = queued_ms;
    }
    printf("%u answered, %u refused, %.1f ms queued at most\n", figures.answered, figures.refused,
           figures.queued_ms);
    CHECK_INT_EQ(SLOW, figures.answered + figures.refused);
    return figures;
}

// They are compiled apart, and do not hold up what comes behind them. When too many wait the rest is refused;
// equal ones are compiled once. Waiting is told.
TEST(api_structured_slow_schemas_wait_apart) {
    FakeWorker *f =
        fake_worker_start(&(FakeConfig){.script = "Hm.", .n_jobs = 20, .chat_template = TEMPLATE});
    SlowFigures different = ask_slow(f, true);
    CHECK(different.answered >= SLOW_GRAMMARS_MAX && different.refused > 0);
    CHECK(different.queued_ms > 10);
    shut_down(f);
    f = fake_worker_start(&(FakeConfig){.script = "Hm.", .n_jobs = 20, .chat_template = TEMPLATE});
    SlowFigures equal = ask_slow(f, false);
    CHECK_INT_EQ(SLOW, equal.answered);
    CHECK(equal.queued_ms > 10);
    shut_down(f);
}

// What was refused is refused again at once, and what is busy is no refusal for ever.
TEST(api_structured_refusals_are_remembered) {
    static const char body[] = "{\"prompt\":\"x\",\"regex\":\"(a|b)*a(a|b){40}\"}";
    FakeWorker *f = fake_worker_start(&(FakeConfig){.script = "Hm."});
    uint64_t first_ms = 0, again_ms = UINT64_MAX; // the shortest: a busy machine may hold up some
    for (int i = 0; i < 6; i++) {
        uint64_t start = os_monotonic_ns();
        Answer a = ask(f, "POST", COMPLETIONS, body);
        uint64_t took_ms = (os_monotonic_ns() - start) / 1000000;
        if (i == 0) first_ms = took_ms;
        else again_ms = min_u64(again_ms, took_ms);
        CHECK_INT_EQ(400, a.status);
        CHECK_STR_EQ("regex", json_text_at(json_root(a.body), "error.param"));
    }
    printf("%llu ms, then %llu ms\n", (unsigned long long)first_ms, (unsigned long long)again_ms);
    CHECK(again_ms * 2 < first_ms);
    shut_down(f);
}

// What is found when the first token is to be drawn is told as what the reader of the field finds.
TEST(api_structured_first_tokens_are_the_fields) {
    static char body[1 << 16];
    FakeWorker *f = start();
    StrBuf b = STRBUF(body);
    strbuf_printf(&b, "{\"prompt\":\"x\",\"grammar\":\"start: \\\"z\\\"");
    for (int i = 0; i < 1100; i++)
        strbuf_printf(&b, " | \\\"w%d\\\" start", i);
    strbuf_printf(&b, "\"}");
    Answer a = ask(f, "POST", COMPLETIONS, body);
    CHECK_INT_EQ(400, a.status);
    CHECK_STR_EQ("grammar", json_text_at(json_root(a.body), "error.param"));
    CHECK_STR_EQ("grammar: the grammar can begin in more than 1024 ways",
                 json_text_at(json_root(a.body), "error.message"));
    shut_down(f);
}

// Asks for a text of a grammar that takes too much work, in a stream and without. How many events came first
// in the stream.
static uint32_t ask_too_much(FakeWorker *f, const char *grammar, const char *message) {
    static char body[1 << 14];
    static Str data[1024];
    uint32_t n = 0;
    for (int streams = 0; streams < 2; streams++) {
        snprintf(body, sizeof body,
                 "{\"prompt\":\"x\",\"seed\":1,\"max_tokens\":400,\"grammar\":\"%s\",\"stream\":%s}", grammar,
                 streams ? "true" : "false");
        Answer a = ask(f, "POST", COMPLETIONS, body);
        CHECK_INT_EQ(streams ? 200 : 400, a.status);
        if (streams) n = stream_data(a.body, data, COUNT_OF(data));
        if (!CHECK(!streams || n >= 2)) return 0;
        const JsonNode *error = json_root(streams ? data[n - 2] : a.body);
        CHECK_STR_EQ("invalid_request_error", json_text_at(error, "error.type"));
        CHECK_STR_EQ("grammar", json_text_at(error, "error.param"));
        CHECK_STR_EQ(message, json_text_at(error, "error.message"));
    }
    return n - 2;
}

#define TOO_MANY "grammar: the text so far can be read in too many ways at once"
#define TOO_MUCH "grammar: takes too much work: the text can be read in too many ways at once"

TEST(api_structured_too_much_work_is_the_fields) {
    static const struct {
        const char *grammar, *message;
    } rows[] = {
        {"root ::= s\\ns ::= t+ s? t*\\nt ::= [^\\\"]+ | \\\"\\\\\\\"\\\" s \\\"\\\\\\\"\\\"", TOO_MUCH},
        {"root ::= w*\\nw ::= [a-z]+ \\\" \\\"? | [a-z]+ w2\\nw2 ::= w \\\"x\\\" | w \\\"y\\\" | \\\"z\\\"",
         TOO_MANY},
        {"root ::= s\\ns ::= x s x | y s y | z s z | \\\"a\\\"\\nx ::= \\\"a\\\" | \\\"b\\\"\\n"
         "y ::= \\\"a\\\" | \\\"b\\\" | \\\"c\\\"\\nz ::= [a-z] | \\\"ab\\\"",
         TOO_MANY}};
    FakeWorker *f = fake_worker_start(&(FakeConfig){
        .script = "aab\"aab\"aab\"aab\"aab\"aab\"aab\"aab\"aab\"aab\"aab\"aab\"aab\"aab\"aab\"aab\"",
        .n_jobs = 2});
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        TEST_CASE_LABEL("grammar %zu", i);
        CHECK(ask_too_much(f, rows[i].grammar, rows[i].message) > 3);
    }
    shut_down(f);
}

// As many texts in brackets of their own as `ways`: every letter is read in so many ways, and every mask of
// the answer takes about as long.
static const char *slow_grammar(int ways) {
    static char text[1 << 14];
    StrBuf b = STRBUF(text);
    strbuf_printf(&b, "root ::= p0");
    for (int i = 1; i < ways; i++)
        strbuf_printf(&b, " | p%d", i);
    for (int i = 0; i < ways; i++)
        strbuf_printf(&b, "\\np%d ::= [a-z] p%d \\\"%d\\\" | \\\"%d\\\"", i, i, i % 10, i % 10);
    return text;
}

// No mask is too much work, but one after the other they are.
TEST(api_structured_work_of_a_whole_answer_is_bounded) {
    static char body[1 << 14];
    FakeWorker *f = fake_worker_start(&(FakeConfig){.n_jobs = 2});
    uint32_t n_tokens = ask_too_much(f, slow_grammar(300), TOO_MUCH);
    CHECK(n_tokens > 8 && n_tokens < 100);
    snprintf(body, sizeof body, "{\"prompt\":\"x\",\"max_tokens\":120,\"grammar\":\"%s\"}", slow_grammar(30));
    Answer a = ask(f, "POST", COMPLETIONS, body);
    CHECK_STR_EQ("length", json_text_at(json_root(a.body), "choices.0.finish_reason"));
    shut_down(f);
}

static const char *body_of(const char *id, char *text, size_t size) {
    snprintf(text, size,
             "{\"job_id\":\"%s\",\"prompt\":\"x\",\"max_tokens\":1,\"schema\":{\"type\":\"string\","
             "\"pattern\":\"^[ab]*a[ab]{17}$\"}}",
             id);
    return text;
}

// Two ask for what takes long, and both give up: the one that compiles it, and the one that waits for that.
TEST(api_structured_who_gives_up_is_answered_soon) {
    static char text[1 << 16];
    static const char *const ids[] = {"a", "b"};
    char body[256];
    int asked[2];
    FakeWorker *f = fake_worker_start(&(FakeConfig){.script = "Hm.", .n_jobs = 4});
    for (int i = 0; i < 2; i++) {
        asked[i] = send_request(f, "/execute", body_of(ids[i], body, sizeof body));
    }
    os_sleep_ms(20);
    uint64_t start = os_monotonic_ns();
    for (int i = 0; i < 2; i++) {
        snprintf(body, sizeof body, "{\"job_id\":\"%s\"}", ids[i]);
        CHECK_INT_EQ(202, ask(f, "POST", "/cancel", body).status);
    }
    for (int i = 1; i >= 0; i--)
        CHECK(text_count(read_answer(asked[i], text, sizeof text), "CANCELLED") > 0);
    uint64_t gave_up_ms = (os_monotonic_ns() - start) / 1000000;
    start = os_monotonic_ns();
    asked[0] = send_request(f, "/execute", body_of("c", body, sizeof body));
    CHECK(text_count(read_answer(asked[0], text, sizeof text), "CANCELLED") == 0);
    uint64_t whole_ms = (os_monotonic_ns() - start) / 1000000;
    printf("%llu ms, to its end %llu ms\n", (unsigned long long)gave_up_ms, (unsigned long long)whole_ms);
    CHECK(gave_up_ms < whole_ms);
    shut_down(f);
}

enum { BAD = 2 };

// Whether a chat beside bad patterns, which no other turn had, is answered in a quarter of their time.
static bool chat_passes_bad_patterns(FakeWorker *f, int turn) {
    static char text[1 << 16];
    int bad[BAD];
    for (int i = 0; i < BAD; i++) {
        char body[128];
        snprintf(body, sizeof body, "{\"prompt\":\"x\",\"max_tokens\":1,\"regex\":\"\\\\p{L}{1,%d}\"}",
                 2000 + turn * BAD + i);
        bad[i] = send_request(f, COMPLETIONS, body);
    }
    uint64_t start = os_monotonic_ns();
    Answer a = ask(f, "POST", CHAT, "{" HI ",\"max_tokens\":1}");
    uint64_t took_ms = (os_monotonic_ns() - start) / 1000000;
    CHECK_INT_EQ(200, a.status);
    for (int i = 0; i < BAD; i++)
        CHECK(read_answer(bad[i], text, sizeof text).len > 0);
    uint64_t all_ms = (os_monotonic_ns() - start) / 1000000;
    printf("%llu ms, the bad ones %llu ms\n", (unsigned long long)took_ms, (unsigned long long)all_ms);
    return took_ms * 4 < all_ms;
}

// Patterns that are short and take long do not hold up who asks for no grammar. (A busy machine may hold up
// the chat itself, but not each time.)
TEST(api_structured_bad_patterns_hold_up_nobody_else) {
    enum { TURNS = 10 };
    FakeWorker *f =
        fake_worker_start(&(FakeConfig){.script = "Hm.", .n_jobs = BAD + 1, .chat_template = TEMPLATE});
    int turn = 0;
    while (turn < TURNS && !chat_passes_bad_patterns(f, turn))
        turn++;
    CHECK(turn < TURNS);
    shut_down(f);
}
