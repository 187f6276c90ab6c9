// What requests of the three APIs become: a template's variables, or an error that names the place. Bodies
// and what is expected are written with ' in place of ".
#include "chat/conversation.h"
#include "fuzz_targets.h"
#include "json/json_builder.h"
#include "json_text.h"
#include "os/os.h"
#include "runner.h"

#include <stdio.h>

typedef bool Convert(const ConversationInput *in, Arena *arena, const JsonNode **variables, Error *err);

static Arena memory(size_t mb) {
    Arena arena = os_arena(mb << 20);
    REQUIRE(arena.next);
    return arena;
}

static Str with_quotes(const char *text, Arena *arena) {
    Str copy = arena_copy_str(arena, str_from_c(text));
    for (size_t i = 0; i < copy.len; i++)
        if (copy.ptr[i] == '\'') ((char *)copy.ptr)[i] = '"';
    return copy;
}

static Str as_text(const JsonNode *node, Arena *arena) {
    StrBuf b = strbuf_begin_in_arena(arena);
    JsonWriter w = json_writer_begin(&b);
    json_text_put(&w, node);
    return strbuf_end_in_arena(&b, arena);
}

typedef struct {
    const char *label, *body, *member, *expected; // the member as JSON; NULL: the error is expected
} Row;

static void check_row(const Row *row, Convert *convert, bool parts) {
    Arena arena = memory(64);
    const JsonNode *variables = NULL;
    Error err = {0};
    TEST_CASE_LABEL("%s", row->label);
    ConversationInput in = {.content_parts = parts};
    in.root = json_parse(with_quotes(row->body, &arena), &arena, &(JsonLimits){0}, &err);
    if (!CHECK(in.root != NULL)) return;
    bool ok = convert(&in, &arena, &variables, &err);
    if (!row->member) {
        CHECK(!ok);
        CHECK_INT_EQ(ERR_INVALID_REQUEST, err.code);
        CHECK_STR_EQ(with_quotes(row->expected, &arena), err.message);
        CHECK(err.field[0] && str_starts_with(str_from_c(err.message), str_from_c(err.field)));
        return;
    }
    if (!CHECK(ok)) {
        printf("%s\n", err.message);
        return;
    }
    const JsonNode *found = json_get(variables, str_from_c(row->member));
    if (!*row->expected) CHECK(found == NULL);
    else if (CHECK(found != NULL)) CHECK_STR_EQ(with_quotes(row->expected, &arena), as_text(found, &arena));
}

#define MESSAGES(text) "{'messages':[" text "]}"
#define USER "{'role':'user','content':'Hi'}"
#define WITH(members) "{'messages':[" USER "]," members "}"
#define CALL(arguments) "{'id':'c1','type':'function','function':{'name':'f','arguments':" arguments "}}"
#define ASSISTANT(rest) MESSAGES("{'role':'assistant'" rest "}")

static const Row chat_rows[] = {
    {"text", MESSAGES(USER), "messages", "[{'role':'user','content':'Hi'}]"},
    {"roles", MESSAGES("{'role':'system','content':''},{'role':'developer','content':'D'}," USER), "messages",
     "[{'role':'system','content':''},{'role':'system','content':'D'}," USER "]"},
    {"parts",
     MESSAGES("{'role':'user','content':[{'type':'text','text':'a'},{'type':'input_text','text':''},"
              "{'type':'output_text','text':'\\u00e4\\n'}]}"),
     "messages", "[{'role':'user','content':'a\\n\\n\xC3\xA4\\n'}]"},
    {"no parts", MESSAGES("{'role':'user','content':[]}"), "messages", "[{'role':'user','content':''}]"},
    {"names and others", MESSAGES("{'name':'Bo','role':'user','content':'x','z':[1],'y':null}"), "messages",
     "[{'role':'user','content':'x','name':'Bo','z':[1]}]"},
    {"calls", ASSISTANT(",'content':null,'tool_calls':[" CALL("'{\\'a\\': [1.5, {}]}'") "]"), "messages",
     "[{'role':'assistant','content':null,'tool_calls':[" CALL("{'a':[1.5,{}]}") "]}]"},
    {"calls without content, arguments or type",
     ASSISTANT(",'tool_calls':[{'function':{'name':'f','arguments':' '}},{'function':{'name':'g'}},"
               "{'function':{'name':'h','arguments':{'x':1}}}]"),
     "messages",
     "[{'role':'assistant','content':null,'tool_calls':[{'type':'function','function':{'name':'f',"
     "'arguments':{}}},{'type':'function','function':{'name':'g','arguments':{}}},"
     "{'type':'function','function':{'name':'h','arguments':{'x':1}}}]}]"},
    {"what clients send back",
     ASSISTANT(",'content':'x','tool_calls':[],'refusal':null,'audio':null,"
               "'function_call':null,'annotations':[]"),
     "messages", "[{'role':'assistant','content':'x','annotations':[]}]"},
    {"nothing said", ASSISTANT(",'content':null,'tool_calls':null"), "messages",
     "[{'role':'assistant','content':''}]"},
    {"refused", ASSISTANT(",'content':null,'refusal':'No.'"), "messages",
     "[{'role':'assistant','content':'No.'}]"},
    {"reasoning", ASSISTANT(",'content':'x','reasoning':'r'"), "messages",
     "[{'role':'assistant','content':'x','reasoning_content':'r','reasoning':'r','thinking':'r'}]"},
    {"reasoning beside text and calls",
     ASSISTANT(",'content':'x','reasoning_content':'r','tool_calls':[" CALL("'{}'") "]"), "messages",
     "[{'role':'assistant','content':'x','reasoning_content':'r','reasoning':'r','tool_calls':[" CALL(
         "{}") "]}]"},
    {"results know their call's name",
     MESSAGES("{'role':'assistant','tool_calls':[" CALL(
         "''") "]},{'role':'tool','tool_call_id':'c1',"
               "'content':[{'type':'text','text':'1'},{'type':'text','text':'2'}]},"
               "{'role':'tool','tool_call_id':'c9','name':'n','content':''}"),
     "messages",
     "[{'role':'assistant','content':null,'tool_calls':[" CALL(
         "{}") "]},{'role':'tool','tool_call_id':"
               "'c1','name':'f','content':'1\\n2'},{'role':'tool','tool_call_id':'c9','"
               "content':'','name':'n'}]"},
    {"tools", WITH("'tools':[{'type':'function','function':{'name':'f','parameters':{'type':'object'}}}]"),
     "tools", "[{'type':'function','function':{'name':'f','parameters':{'type':'object'}}}]"},
    {"hidden tools", WITH("'tool_choice':'none','tools':[{'type':'function','function':{'name':'f'}}]"),
     "tools", "null"},
    {"after hidden tools",
     WITH("'tool_choice':'none','tools':[{'type':'function','function':{'name':'f'"
          "}}],'documents':[{'text':'d'}]"),
     "documents", "[{'text':'d'}]"},
    {"no tools", WITH("'tools':[]"), "tools", "null"},
    {"no documents", WITH("'tools':null"), "documents", "null"},
    {"prompt", WITH("'x':1"), "add_generation_prompt", "true"},
    {"no prompt", WITH("'add_generation_prompt':false"), "add_generation_prompt", "false"},
    {"continued", WITH("'continue_final_message':true"), "add_generation_prompt", "false"},
    {"kwargs win", WITH("'chat_template_kwargs':{'add_generation_prompt':false,'n':[2]}"),
     "add_generation_prompt", "false"},
    {"kwargs", WITH("'chat_template_kwargs':{'add_generation_prompt':false,'n':[2]}"), "n", "[2]"},
    {"effort", WITH("'reasoning_effort':'low'"), "reasoning_effort", "'low'"},
    {"effort leaves thinking", WITH("'reasoning_effort':'low'"), "enable_thinking", ""},
    {"no effort", WITH("'reasoning_effort':'none'"), "enable_thinking", "false"},
    {"kwargs win over effort",
     WITH("'reasoning_effort':'none','chat_template_kwargs':{'enable_thinking':true}"), "enable_thinking",
     "true"},
};

TEST(conversation_from_chat_completions) {
    for (size_t i = 0; i < COUNT_OF(chat_rows); i++)
        check_row(&chat_rows[i], conversation_from_chat, false);
}

#define BAD(label, body, message) \
    { label, body, NULL, message }
#define TOOL(members) WITH("'tools':[{'type':'function','function':{" members "}}]")

static const Row refused_chat_rows[] = {
    BAD("body", "[]", "body: must be an object, found an array"),
    BAD("no messages", "{}", "messages: must be an array, found nothing"),
    BAD("empty", MESSAGES(""), "messages: must not be empty"),
    BAD("message", MESSAGES("1"), "messages[0]: must be an object, found a number"),
    BAD("no role", MESSAGES(USER ",{'content':'x'}"), "messages[1].role: must be a string, found nothing"),
    BAD("role", MESSAGES("{'role':'robot','content':'x'}"),
        "messages[0].role: 'robot' is not known; roles are system, developer, user, assistant and tool"),
    BAD("function", MESSAGES("{'role':'function','name':'f','content':'x'}"),
        "messages[0].role: 'function' is not supported; 'tool' took its place"),
    BAD("no content", MESSAGES("{'role':'user'}"),
        "messages[0].content: must be a string or an array of parts, found nothing"),
    BAD("image",
        MESSAGES(USER ",{'role':'user','content':[{'type':'text','text':'x'},"
                      "{'type':'image_url','image_url':{'url':'x'}}]}"),
        "messages[1].content[1].type: 'image_url' is not supported; this model reads text alone"),
    BAD("sound", MESSAGES("{'role':'user','content':[{'type':'input_audio'}]}"),
        "messages[0].content[0].type: 'input_audio' is not supported; this model reads text alone"),
    BAD("part", MESSAGES("{'role':'user','content':['x']}"),
        "messages[0].content[0]: must be an object, found a string"),
    BAD("part's type", MESSAGES("{'role':'user','content':[{'text':'x'}]}"),
        "messages[0].content[0].type: must be a string, found nothing"),
    BAD("part's text", MESSAGES("{'role':'user','content':[{'type':'text','text':null}]}"),
        "messages[0].content[0].text: must be a string, found nothing"),
    BAD("arguments", ASSISTANT(",'tool_calls':[" CALL("''") "," CALL("'{x}'") "]"),
        "messages[0].tool_calls[1].function.arguments: must be a string with a JSON object in it: "
        "invalid "
        "JSON at byte 1: expected a key in quotes"),
    BAD("arguments are no object", ASSISTANT(",'tool_calls':[" CALL("'[1]'") "]"),
        "messages[0].tool_calls[0].function.arguments: must be a string with a JSON object in it, not "
        "with "
        "an array"),
    BAD("half a surrogate", ASSISTANT(",'tool_calls':[" CALL("'{\\'a\\':\\'\\\\ud800\\'}'") "]"),
        "messages[0].tool_calls[0].function.arguments: must be a string with a JSON object in it: "
        "invalid "
        "JSON at byte 6: half of a surrogate pair"),
    BAD("call's type", ASSISTANT(",'tool_calls':[{'type':'custom'}]"),
        "messages[0].tool_calls[0].type: 'custom' is not supported; only calls of type 'function' are"),
    BAD("call's name", ASSISTANT(",'tool_calls':[{'function':{'name':''}}]"),
        "messages[0].tool_calls[0].function.name: must not be empty"),
    BAD("calls", ASSISTANT(",'tool_calls':{}"), "messages[0].tool_calls: must be an array, found an object"),
    BAD("old call", ASSISTANT(",'content':'','function_call':{}"),
        "messages[0].function_call: is not supported; tool_calls took its place"),
    BAD("result", MESSAGES("{'role':'tool','content':'x'}"),
        "messages[0].tool_call_id: must be a string, found nothing"),
    BAD("tools", WITH("'tools':{}"), "tools: must be an array, found an object"),
    BAD("tool's type", WITH("'tools':[{'type':'custom','custom':{'name':'x'}}]"),
        "tools[0].type: 'custom' is not supported; only tools of type 'function' are"),
    BAD("tool's name", TOOL("'name':'a b'"),
        "tools[0].function.name: 'a b' must be made of letters, digits, _, - and ."),
    BAD("schema", TOOL("'name':'f','parameters':'x'"),
        "tools[0].function.parameters: must be a JSON schema (an object), found a string"),
    BAD("schema's type", TOOL("'name':'f','parameters':{'type':5}"),
        "tools[0].function.parameters.type: must be a string or an array of strings, found a number"),
    BAD("properties", TOOL("'name':'f','parameters':{'properties':[]}"),
        "tools[0].function.parameters.properties: must be an object, found an array"),
    BAD("property", TOOL("'name':'f','parameters':{'properties':{'a':1}}"),
        "tools[0].function.parameters.properties: 'a' must be a JSON schema (an object)"),
    BAD("hidden tools are checked", WITH("'tool_choice':'none','tools':[{'type':'x'}]"),
        "tools[0].type: 'x' is not supported; only tools of type 'function' are"),
    BAD("kwargs", WITH("'chat_template_kwargs':[]"),
        "chat_template_kwargs: must be an object, found an array"),
    BAD("reserved", WITH("'chat_template_kwargs':{'messages':[]}"),
        "chat_template_kwargs: 'messages' is a field of the request itself"),
    BAD("effort", WITH("'reasoning_effort':'Much!'"),
        "reasoning_effort: 'Much!' is not known; usual are none, low, medium and high"),
    BAD("both", WITH("'continue_final_message':true,'add_generation_prompt':true"),
        "add_generation_prompt: must not be true where the final message is continued: the prompt ends "
        "in "
        "one or the other"),
};

TEST(conversation_from_chat_refuses_by_name) {
    for (size_t i = 0; i < COUNT_OF(refused_chat_rows); i++)
        check_row(&refused_chat_rows[i], conversation_from_chat, false);
}

TEST(conversation_in_parts_for_templates_that_read_nothing_else) {
    static const Row rows[] = {
        {"text", MESSAGES(USER), "messages", "[{'role':'user','content':[{'type':'text','text':'Hi'}]}]"},
        {"parts",
         MESSAGES("{'role':'user','content':[{'type':'input_text','text':'a'},{'type':'text','text':'b'}]}"),
         "messages", "[{'role':'user','content':[{'type':'text','text':'a'},{'type':'text','text':'b'}]}]"},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++)
        check_row(&rows[i], conversation_from_chat, true);
}

#define THOUGHT(text) "'reasoning_content':'" text "','reasoning':'" text "','thinking':'" text "'"

TEST(conversation_from_responses) {
    static const Row rows[] = {
        {"string", "{'input':'Hi','store':true}", "messages", "[" USER "]"},
        {"instructions", "{'instructions':'Be brief.','input':'Hi'}", "messages",
         "[{'role':'system','content':'Be brief.'}," USER "]"},
        {"items",
         "{'input':[{'role':'developer','content':'D'},{'type':'message','role':'user','content':[{'type':"
         "'input_text','text':'Hi'}]},{'type':'message','role':'assistant','id':'m','status':'completed',"
         "'content':[{'type':'output_text','text':'Yo','annotations':[]}]}]}",
         "messages", "[{'role':'system','content':'D'}," USER ",{'role':'assistant','content':'Yo'}]"},
        {"one turn of several items",
         "{'input':[{'type':'reasoning','summary':[{'type':'summary_text','text':'a'}]},{'type':'reasoning',"
         "'summary':[],'content':[{'type':'reasoning_text','text':'b'}]},{'role':'assistant','content':'x'},"
         "{'type':'function_call','call_id':'c1','name':'f','arguments':'{}'},"
         "{'type':'function_call_output','call_id':'c1','output':'42'}]}",
         "messages",
         "[{'role':'assistant'," THOUGHT("a\\nb") ",'content':'x','tool_calls':[" CALL(
             "{}") "]},"
                   "{'role':'tool','tool_call_id':'c1','name':'f','content':'42'}]"},
        {"calls alone, and two turns",
         "{'input':[{'type':'function_call','call_id':'c1','name':'f','arguments':''},"
         "{'type':'function_call','call_id':'c1','name':'f','arguments':'{\\'a\\':1}'},"
         "{'role':'assistant','content':'x'},{'role':'assistant','content':'y'}]}",
         "messages",
         "[{'role':'assistant','content':null,'tool_calls':[" CALL("{}") "," CALL(
             "{'a':1}") "]},"
                        "{'role':'assistant','content':'x'},{'role':'assistant','content':'y'}]"},
        {"reasoning that is encrypted",
         "{'input':[" USER ",{'type':'reasoning','summary':[],'encrypted_content':'zz'}," USER "]}",
         "messages", "[" USER "," USER "]"},
        {"tools",
         "{'input':'x','tools':[{'type':'function','name':'f','description':'d','parameters':{'type':"
         "'object'},'strict':true}]}",
         "tools",
         "[{'type':'function','function':{'name':'f','description':'d','parameters':{'type':'object'},"
         "'strict':true}}]"},
        {"hidden", "{'input':'x','tool_choice':'none','tools':[{'type':'function','name':'f'}]}", "tools",
         "null"},
        {"effort", "{'input':'x','reasoning':{'effort':'none','summary':'auto'}}", "enable_thinking",
         "false"},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++)
        check_row(&rows[i], conversation_from_responses, false);
}

#define STORES_NOTHING " is not supported: this server stores nothing; send the whole conversation as input"

TEST(conversation_from_responses_refuses_by_name) {
    static const Row rows[] = {
        BAD("no input", "{}", "input: must be a string or an array of items, found nothing"),
        BAD("empty", "{'input':[]}", "input: must not be empty"),
        BAD("stored answer", "{'input':'x','previous_response_id':'r'}",
            "previous_response_id:" STORES_NOTHING),
        BAD("stored conversation", "{'input':'x','conversation':'r'}", "conversation:" STORES_NOTHING),
        BAD("reference", "{'input':[{'type':'item_reference','id':'x'}]}",
            "input[0].type: 'item_reference' is not supported; message, function_call, function_call_output "
            "and reasoning are"),
        BAD("neither", "{'input':[{'content':'x'}]}", "input[0].type: must be a string, found nothing"),
        BAD("role", "{'input':[{'role':'tool','content':'x'}]}",
            "input[0].role: 'tool' is not known; roles are user, assistant, system and developer"),
        BAD("image", "{'input':[{'role':'user','content':[{'type':'input_image'}]}]}",
            "input[0].content[0].type: 'input_image' is not supported; this model reads text alone"),
        BAD("arguments", "{'input':['x',{'type':'function_call','call_id':'c','name':'f','arguments':'1'}]}",
            "input[0]: must be an object, found a string"),
        BAD("call", "{'input':[{'type':'function_call','name':'f','arguments':'1'}]}",
            "input[0].call_id: must be a string, found nothing"),
        BAD("tool", "{'input':'x','tools':[{'type':'web_search'}]}",
            "tools[0].type: 'web_search' is not supported; only tools of type 'function' are"),
        BAD("effort", "{'input':'x','reasoning':{'effort':3}}",
            "reasoning.effort: must be a string, found a number"),
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++)
        check_row(&rows[i], conversation_from_responses, false);
}

TEST(conversation_from_anthropic_messages) {
    static const Row rows[] = {
        {"text", "{'system':'S','messages':[" USER "]}", "messages",
         "[{'role':'system','content':'S'}," USER "]"},
        {"blocks",
         "{'system':[{'type':'text','text':'a','cache_control':{'type':'ephemeral'}},{'type':'text','text':"
         "'b'}],'messages':[{'role':'user','content':[{'type':'text','text':'Hi'}]}]}",
         "messages", "[{'role':'system','content':'a\\nb'}," USER "]"},
        {"tools used",
         "{'messages':[{'role':'assistant','content':[{'type':'thinking','thinking':'t','signature':'s'},"
         "{'type':'redacted_thinking','data':'d'},{'type':'tool_use','id':'c1','name':'f','input':{}}]},"
         "{'role':'user','content':[{'type':'text','text':'Hi'},{'type':'tool_result','tool_use_id':'c1',"
         "'content':'42'},{'type':'tool_result','tool_use_id':'c2','is_error':true,'content':'bad'},"
         "{'type':'tool_result','tool_use_id':'c3','content':[{'type':'text','text':'p'}]},"
         "{'type':'tool_result','tool_use_id':'c4'}]}]}",
         "messages",
         "[{'role':'assistant'," THOUGHT("t") ",'content':null,'tool_calls':[" CALL(
             "{}") "]},"
                   "{'role':'tool','tool_call_id':'c1','name':'f','content':'42'},"
                   "{'role':'tool','tool_call_id':'c2','content':'Error: bad'},"
                   "{'role':'tool','tool_call_id':'c3','content':'p'},{'role':'tool','tool_call_id':'c4','"
                   "content':''}," USER "]"},
        {"results alone",
         "{'messages':[{'role':'user','content':[{'type':'tool_result','tool_use_id':'c','content':'1'}]}]}",
         "messages", "[{'role':'tool','tool_call_id':'c','content':'1'}]"},
        {"begun answer", "{'messages':[" USER ",{'role':'assistant','content':'I'}]}",
         "continue_final_message", "true"},
        {"begun answer needs no prompt", "{'messages':[" USER ",{'role':'assistant','content':'I'}]}",
         "add_generation_prompt", "false"},
        {"answered before", "{'messages':[{'role':'assistant','content':'I'}," USER "]}",
         "continue_final_message", "false"},
        {"tools",
         "{'messages':[" USER "],'tools':[{'name':'f','description':'d','input_schema':{'type':'object'}}]}",
         "tools",
         "[{'type':'function','function':{'name':'f','description':'d','parameters':{'type':'object'}}}]"},
        {"hidden", "{'messages':[" USER "],'tool_choice':{'type':'none'},'tools':[{'name':'f'}]}", "tools",
         "null"},
        {"thinking", "{'messages':[" USER "],'thinking':{'type':'enabled','budget_tokens':9}}",
         "enable_thinking", "true"},
        {"no thinking", "{'messages':[" USER "],'thinking':{'type':'disabled'}}", "enable_thinking", "false"},
        {"not said", "{'messages':[" USER "]}", "enable_thinking", ""},
        {"effort", "{'messages':[" USER "],'output_config':{'effort':'max'}}", "reasoning_effort", "'max'"},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++)
        check_row(&rows[i], conversation_from_messages, false);
}

TEST(conversation_from_anthropic_messages_refuses_by_name) {
    static const Row rows[] = {
        BAD("role", "{'messages':[{'role':'system','content':'x'}]}",
            "messages[0].role: 'system' is not known; roles are user and assistant"),
        BAD("image", "{'messages':[{'role':'user','content':[{'type':'image','source':{}}]}]}",
            "messages[0].content[0].type: 'image' is not supported; this model reads text alone"),
        BAD("image in a result",
            "{'messages':[{'role':'user','content':[{'type':'tool_result','tool_use_id':'c','content':["
            "{'type':'image'}]}]}]}",
            "messages[0].content[0].content[0].type: 'image' is not supported; this model reads text alone"),
        BAD("a result of the assistant",
            "{'messages':[{'role':'assistant','content':[{'type':'tool_result','tool_use_id':'c'}]}]}",
            "messages[0].content[0].type: 'tool_result' is not supported; this model reads text alone"),
        BAD("input",
            "{'messages':[{'role':'assistant','content':[{'type':'tool_use','id':'c','name':'f',"
            "'input':'{}'}]}]}",
            "messages[0].content[0].input: must be an object, found a string"),
        BAD("server's tool", "{'messages':[" USER "],'tools':[{'type':'web_search_20250305','name':'w'}]}",
            "tools[0].type: 'web_search_20250305' is not supported; only tools with an input_schema are"),
        BAD("schema", "{'messages':[" USER "],'tools':[{'name':'w','input_schema':7}]}",
            "tools[0].input_schema: must be a JSON schema (an object), found a number"),
        BAD("thinking", "{'messages':[" USER "],'thinking':{'type':'deep'}}",
            "thinking.type: 'deep' is not known; there are enabled, disabled and adaptive"),
        BAD("content", "{'messages':[{'role':'user','content':null}]}",
            "messages[0].content: must be a string or an array of blocks, found nothing"),
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++)
        check_row(&rows[i], conversation_from_messages, false);
}

// ---- size ----

// {"messages":[unit, unit, …]}
static Str repeated(const char *unit, uint32_t count, Arena *arena) {
    StrBuf b = strbuf_begin_in_arena(arena);
    strbuf_put(&b, STR("{\"messages\":["));
    for (uint32_t i = 0; i < count; i++)
        strbuf_printf(&b, "%s%s", i ? "," : "", unit);
    strbuf_put(&b, STR("]}"));
    REQUIRE(!b.truncated);
    return strbuf_end_in_arena(&b, arena);
}

// (`arena` by value: its pages are touched once, by the first repetition.)
static uint64_t convert_ns(const char *unit, uint32_t count, Arena arena) {
    const JsonNode *variables;
    Error err;
    ConversationInput in = {0};
    in.root = json_parse(repeated(unit, count, &arena), &arena, &(JsonLimits){.nodes_max = 16 << 20}, &err);
    REQUIRE(in.root);
    uint64_t begun = os_monotonic_ns();
    REQUIRE(conversation_from_chat(&in, &arena, &variables, &err));
    CHECK_INT_EQ(count, json_get(variables, STR("messages"))->length);
    uint64_t took = os_monotonic_ns() - begun;
    return took;
}

TEST_SLOW(conversation_time_is_linear, 300) {
    if (test_is_sanitized()) SKIP("a sanitizer's own memory is not linear");
    static const char *const units[] = {
        "{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"a\"},{\"type\":\"text\",\"text\":"
        "\"b\"}]}",
        "{\"role\":\"assistant\",\"tool_calls\":[{\"id\":\"x\",\"function\":{\"name\":\"f\","
        "\"arguments\":\"{\\\"a\\\":[1,2,3]}\"}}]}",
        "{\"role\":\"tool\",\"tool_call_id\":\"unknown\",\"content\":\"x\"}",
    };
    for (size_t i = 0; i < COUNT_OF(units); i++) {
        TEST_CASE_LABEL("%zu", i);
        uint64_t small = UINT64_MAX, large = UINT64_MAX;
        Arena arena = memory(2048);
        for (int repeat = 0; repeat < 5; repeat++) {
            small = min_u64(small, convert_ns(units[i], 5000, arena));
            large = min_u64(large, convert_ns(units[i], 40000, arena));
        }
        printf("5,000 messages in %.2f ms, 40,000 in %.2f ms\n", (double)small / 1e6, (double)large / 1e6);
        CHECK(large < small * 32 + 10000000); // 8 times the work
    }
}

TEST(conversation_limits_arguments) {
    Arena arena = memory(1024);
    const JsonNode *variables;
    Error err = {0};
    ConversationInput in = {0};
    StrBuf b = strbuf_begin_in_arena(&arena);
    strbuf_put(&b, STR("{\"messages\":[{\"role\":\"assistant\",\"tool_calls\":[{\"function\":{\"name\":\"f\","
                       "\"arguments\":\"{\\\"a\\\":[0"));
    for (int i = 0; i < CONVERSATION_ARGUMENT_NODES_MAX; i++)
        strbuf_put(&b, STR(",0"));
    strbuf_put(&b, STR("]}\"}}]}]}"));
    Str body = strbuf_end_in_arena(&b, &arena);
    in.root = json_parse(body, &arena, &(JsonLimits){.nodes_max = 16 << 20}, &err);
    REQUIRE(in.root);
    CHECK(!conversation_from_chat(&in, &arena, &variables, &err));
    CHECK_INT_EQ(ERR_INVALID_REQUEST, err.code);
    CHECK_STR_EQ("messages[0].tool_calls[0].function.arguments", err.field);
}

// Every allocation's failure is ERR_NO_MEMORY.
TEST(conversation_without_memory) {
    static const char body[] =
        "{\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"ab\"},{\"type\":"
        "\"text\",\"text\":\"a longer text, of more than one "
        "node\"}]},{\"role\":\"assistant\",\"tool_calls\":"
        "[{\"function\":{\"name\":\"f\",\"arguments\":\"{\\\"a\\\":1}\"}}]}],\"tool_choice\":\"none\","
        "\"tools\":[{\"type\":\"function\",\"function\":{\"name\":\"f\"}}]}";
    Error err;
    bool done = false;
    uint64_t n = 0;
    for (; !done && n < 1000; n++) {
        Arena arena = memory(1);
        const JsonNode *variables;
        ConversationInput in = {.root = json_parse(str_from_c(body), &arena, &(JsonLimits){0}, &err)};
        REQUIRE(in.root);
        uint64_t countdown = n;
        arena.fail_countdown = &countdown;
        done = conversation_from_chat(&in, &arena, &variables, &err);
        if (!done) CHECK_INT_EQ(ERR_NO_MEMORY, err.code);
        os_release((void *)((uintptr_t)arena.end - (1 << 20)), 1 << 20);
    }
    CHECK(done && n > 20);
}

TEST(json_builder_builds_what_a_reader_reads) {
    Arena arena = memory(1);
    Error err;
    JsonBuilder b = json_builder_begin(&arena);
    json_build_open(&b, JSON_OBJECT);
    json_build_key(&b, STR("a"));
    json_build_open(&b, JSON_ARRAY);
    json_build_text_begin(&b);
    json_build_text(&b, STR("twenty-four bytes of text"));
    json_build_text(&b, STR(""));
    json_build_text(&b, STR("; and more"));
    json_build_text_end(&b);
    CHECK(json_build_parsed(&b, STR(" [1, {\"x\": \"\\n\"}]"), &(JsonLimits){0}, &err));
    CHECK(!json_build_parsed(&b, STR("[1"), &(JsonLimits){0}, &err));
    json_build_null(&b);
    json_build_close(&b);
    json_build_key(&b, STR("b"));
    uint32_t before = b.count;
    json_build_node(&b, json_get(b.nodes, STR("nothing")) ? b.nodes : &b.nodes[1]);
    json_build_take_back(&b, before);
    json_build_bool(&b, true);
    json_build_close(&b);
    const JsonNode *root = json_builder_end(&b, &err);
    REQUIRE(root);
    CHECK_STR_EQ("{\"a\":[\"twenty-four bytes of text; and more\",[1,{\"x\":\"\\n\"}],null],\"b\":true}",
                 as_text(root, &arena));
    CHECK_INT_EQ(2, root->length);
    CHECK_INT_EQ(3, json_get(root, STR("a"))->length);
}

TEST(conversation_fuzz_corpus) {
    CHECK(fuzz_replay("conversation", fuzz_conversation, 200) >= 20);
}
