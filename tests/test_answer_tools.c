// The checker of JSON that streams, and what is known of a request's tools.
#include "base/strbuf.h"
#include "chat/answer_internal.h"
#include "fuzz_targets.h"
#include "os/os.h"
#include "runner.h"

// ---- JSON ----

typedef struct {
    JsonCheckState state;
    size_t taken;
    bool ends; // as a whole value, if nothing follows
} CheckEnd;

static CheckEnd check_pieces(Str text, size_t piece) {
    JsonCheck c = json_check_begin();
    CheckEnd end = {.state = JSON_CHECK_MORE};
    while (end.taken < text.len && end.state == JSON_CHECK_MORE) {
        size_t taken, to = (size_t)min_u64(end.taken + piece, text.len);
        end.state = json_check_push(&c, str_slice(text, end.taken, to), &taken);
        end.taken += taken;
    }
    end.ends = json_check_end(&c);
    return end;
}

TEST(answer_json_check_table) {
    static const struct {
        const char *text;
        JsonCheckState state;
        size_t taken;
        bool ends;
    } rows[] = {
        {"{}", JSON_CHECK_DONE, 2, true},
        {" {\"a\": [1, -2.5e+3, true, null, \"x\\u00e9\\n\"]} ", JSON_CHECK_DONE, 45, true},
        {"{}{}", JSON_CHECK_DONE, 2, true},
        {"12", JSON_CHECK_MORE, 2, true},
        {"12,", JSON_CHECK_DONE, 2, true},
        {"-", JSON_CHECK_MORE, 1, false},
        {"-x", JSON_CHECK_BAD, 1, false},
        {"01", JSON_CHECK_DONE, 1, true},
        {"1.", JSON_CHECK_MORE, 2, false},
        {"1.x", JSON_CHECK_BAD, 2, false},
        {"1e5", JSON_CHECK_MORE, 3, true},
        {"[1e]", JSON_CHECK_BAD, 3, false},
        {"[1,]", JSON_CHECK_BAD, 3, false},
        {"{\"a\":1,}", JSON_CHECK_BAD, 7, false},
        {"{\"a\" 1}", JSON_CHECK_BAD, 5, false},
        {"{a:1}", JSON_CHECK_BAD, 1, false},
        {"[}", JSON_CHECK_BAD, 1, false},
        {"{]", JSON_CHECK_BAD, 1, false},
        {"truth", JSON_CHECK_BAD, 3, false},
        {"'a'", JSON_CHECK_BAD, 0, false},
        {"\"a\nb\"", JSON_CHECK_BAD, 2, false},
        {"\"\\x\"", JSON_CHECK_BAD, 2, false},
        {"\"\\u12g4\"", JSON_CHECK_BAD, 5, false},
        {"\"\xFF\xC3\"", JSON_CHECK_DONE, 4, true},
        {"", JSON_CHECK_MORE, 0, false},
        {"[[", JSON_CHECK_MORE, 2, false},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        for (size_t piece = 1; piece <= 8; piece++) {
            TEST_CASE_LABEL("%s in pieces of %zu", rows[i].text, piece);
            CheckEnd end = check_pieces(str_from_c(rows[i].text), piece);
            CHECK_INT_EQ(rows[i].state, end.state);
            CHECK_INT_EQ(rows[i].taken, end.taken);
            CHECK_INT_EQ(rows[i].ends, end.ends);
        }
    }
}

TEST(answer_json_check_depth) {
    char text[2 * JSON_DEPTH_MAX + 2];
    memset(text, '[', JSON_DEPTH_MAX + 1);
    CheckEnd end = check_pieces((Str){text, JSON_DEPTH_MAX + 1}, 3);
    CHECK_INT_EQ(JSON_CHECK_BAD, end.state);
    CHECK_INT_EQ(JSON_DEPTH_MAX, end.taken);
    memset(text + JSON_DEPTH_MAX, ']', JSON_DEPTH_MAX);
    end = check_pieces((Str){text, 2 * JSON_DEPTH_MAX}, 3);
    CHECK_INT_EQ(JSON_CHECK_DONE, end.state);
    CHECK_INT_EQ(2 * JSON_DEPTH_MAX, end.taken);
}

// What the reader takes, the checker takes; and the other way round, where the text is ASCII without escapes
// of characters and its numbers are short.
TEST(answer_json_check_agrees_with_the_reader) {
    static const char *const parts[] = {"{",       "}",    "[",    "]", ",",  ":",  "\"a\"",
                                        "\"\\n\"", "1",    "0",    "-", ".",  "e",  "+",
                                        "true",    "null", "fals", " ", "\n", "\"", "x"};
    Arena memory = os_arena(1 << 20);
    uint32_t taken_by_both = 0;
    for (uint32_t round = 0; round < 200000; round++) {
        char bytes[256];
        StrBuf b = STRBUF(bytes);
        FuzzDice dice = {.key = round};
        for (uint32_t left = 1 + fuzz_roll(&dice, 9); left > 0; left--)
            strbuf_put(&b, str_from_c(parts[fuzz_roll(&dice, COUNT_OF(parts))]));
        Str text = strbuf_str(&b);
        Arena arena = memory;
        Error err;
        bool read = json_parse(text, &arena, &(JsonLimits){0}, &err) != NULL;
        CheckEnd end = check_pieces(text, 1 + round % 4);
        size_t rest = end.taken;
        while (rest < text.len && (text.ptr[rest] == ' ' || text.ptr[rest] == '\n'))
            rest++;
        bool taken = end.state != JSON_CHECK_BAD && end.ends && rest == text.len;
        taken_by_both += read && taken;
        if (read == taken) continue;
        TEST_CASE_LABEL("%s", bytes);
        CHECK_INT_EQ(read, taken);
    }
    CHECK(taken_by_both > 3000);
}

// ---- tools ----

static bool read_tools(Str json, Arena *arena, const AnswerTools **out, Error *err) {
    const JsonNode *root = json_parse(json, arena, &(JsonLimits){.nodes_max = 1 << 16}, err);
    REQUIRE(root != NULL);
    return answer_tools_read(root, arena, out, err);
}

TEST(answer_tools_types_of_parameters) {
    static const struct {
        const char *schema;
        uint8_t types;
    } rows[] = {
        {"{\"type\":\"string\"}", TYPE_STRING},
        {"{\"type\":[\"string\",\"null\"]}", TYPE_STRING | TYPE_NULL},
        {"{\"type\":\"integer\"}", TYPE_NUMBER},
        {"{\"type\":\"array\",\"items\":{\"type\":\"string\"}}", TYPE_ARRAY},
        {"{\"enum\":[\"a\",\"b\"]}", TYPE_STRING},
        {"{\"enum\":[1,true,null]}", TYPE_NUMBER | TYPE_BOOLEAN | TYPE_NULL},
        {"{\"anyOf\":[{\"type\":\"string\"},{\"type\":\"null\"}]}", TYPE_STRING | TYPE_NULL},
        {"{\"anyOf\":[{\"type\":\"string\"},{\"$ref\":\"#/x\"}]}", 0},
        {"{\"oneOf\":[{\"type\":\"object\"},{\"type\":\"array\"}]}", TYPE_OBJECT | TYPE_ARRAY},
        {"{\"type\":\"text\"}", 0},
        {"{}", 0},
        {"true", 0},
    };
    Arena memory = os_arena(1 << 20);
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        TEST_CASE_LABEL("%s", rows[i].schema);
        char json[512];
        StrBuf b = STRBUF(json);
        Arena arena = memory;
        const AnswerTools *tools = NULL;
        Error err = {0};
        strbuf_printf(&b, "[{\"function\":{\"name\":\"f\",\"parameters\":{\"properties\":{\"p\":%s}}}},{},7]",
                      rows[i].schema);
        REQUIRE(read_tools(strbuf_str(&b), &arena, &tools, &err));
        CHECK_INT_EQ(1, tools->n_tools);
        CHECK_INT_EQ(rows[i].types, answer_tools_types(&tools->tools[0], STR("p")));
        CHECK_INT_EQ(0, answer_tools_types(&tools->tools[0], STR("q")));
        CHECK_INT_EQ(0, answer_tools_find(tools, STR("f")));
        CHECK_U64_EQ(TOOL_NONE, answer_tools_find(tools, STR("g")));
    }
}

TEST(answer_tools_are_bounded) {
    Arena arena = os_arena(8 << 20);
    StrBuf b = strbuf_begin_in_arena(&arena);
    const AnswerTools *tools;
    Error err = {0};
    for (uint32_t i = 0; i <= ANSWER_TOOLS_MAX; i++)
        strbuf_put(&b, i ? STR(",{}") : STR("[{}"));
    strbuf_put_char(&b, ']');
    CHECK(!read_tools(strbuf_end_in_arena(&b, &arena), &arena, &tools, &err));
    CHECK_INT_EQ(ERR_INVALID_REQUEST, err.code);
    CHECK_STR_EQ("tools", err.field);
    CHECK_STR_EQ("tools: how many there are: 1025, and at most 1024 are possible", err.message);
    b = strbuf_begin_in_arena(&arena);
    strbuf_put(&b, STR("[{\"function\":{\"name\":\""));
    for (uint32_t i = 0; i <= ANSWER_TOOL_NAME_BYTES_MAX; i++)
        strbuf_put_char(&b, 'n');
    strbuf_put(&b, STR("\"}}]"));
    CHECK(!read_tools(strbuf_end_in_arena(&b, &arena), &arena, &tools, &err));
    CHECK_STR_EQ("tools: bytes of a name: 129, and at most 128 are possible", err.message);
    CHECK(read_tools(STR("[]"), &arena, &tools, &err));
    CHECK(tools == NULL);
}

// Each allocation that fails is ERR_NO_MEMORY.
TEST(answer_tools_without_memory) {
    Arena memory = os_arena(1 << 20);
    Error err = {0};
    const JsonNode *root =
        json_parse(STR("[{\"function\":{\"name\":\"f\",\"parameters\":{\"properties\":{\"p\":{}}}}}]"),
                   &memory, &(JsonLimits){0}, &err);
    REQUIRE(root != NULL);
    uint32_t failures = 0;
    for (bool ok = false; !ok; failures++) {
        uint64_t countdown = failures;
        Arena arena = memory;
        const AnswerTools *tools;
        arena.fail_countdown = &countdown;
        ok = answer_tools_read(root, &arena, &tools, &err);
        if (!ok) CHECK_INT_EQ(ERR_NO_MEMORY, err.code);
        REQUIRE(failures < 20);
    }
    CHECK_INT_EQ(6, failures);
}
