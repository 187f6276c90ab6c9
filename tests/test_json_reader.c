// The JSON reader: texts that must be taken or refused, values, limits, and what Python's json module makes
// of mutated texts (vectors/json_python.txt).
#include "runner.h"

#include "base/limits.h"
#include "base/strbuf.h"
#include "fuzz_targets.h"
#include "guard.h"
#include "json_text.h"
#include "os/os.h"
#include "json/json_reader.h"
#include "json/json_writer.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ARENA_BYTES = 1 << 20, TEXT_BYTES = 1 << 16 };

// A Str that may stand in a table of constants.
// clang-format off
#define TEXT(literal) \
    { literal, sizeof(literal) - 1 }
// clang-format on

static const JsonLimits default_limits = {0};

static Arena test_arena(void) {
    static uint8_t memory[ARENA_BYTES];
    return arena_from_memory(memory, sizeof memory);
}

// ---- texts ----

// The expected result is the document as the writer spells it.
static const struct {
    const char *name, *text, *expected;
} accepted[] = {
    {"null", "null", "null"},
    {"true", "true", "true"},
    {"false", "false", "false"},
    {"zero", "0", "0"},
    {"negative zero", "-0", "-0"},
    {"integer", "1234567890", "1234567890"},
    {"negative integer", "-42", "-42"},
    {"largest u64", "18446744073709551615", "18446744073709551615"},
    {"u64 plus one is a double", "18446744073709551616", "1.8446744073709552e+19"},
    {"smallest i64", "-9223372036854775808", "-9223372036854775808"},
    {"i64 minus one is a double", "-9223372036854775809", "-9.223372036854776e+18"},
    {"fraction", "0.1", "0.1"},
    {"fraction zero", "1.0", "1"},
    {"exponent", "1e3", "1000"},
    {"exponent with plus", "1E+3", "1000"},
    {"exponent with minus", "25e-1", "2.5"},
    {"exponent with zeros", "1e0003", "1000"},
    {"pi", "3.141592653589793", "3.141592653589793"},
    {"seventeen digits", "0.30000000000000004", "0.30000000000000004"},
    {"largest double", "1.7976931348623157e308", "1.7976931348623157e+308"},
    {"smallest double", "5e-324", "4.94065645841247e-324"},
    {"underflow", "1e-999", "0"},
    {"zero with a huge exponent", "0e999999999999999999999", "0"},
    {"empty string", "\"\"", "\"\""},
    {"string", "\"abc\"", "\"abc\""},
    {"string of eight", "\"abcdefgh\"", "\"abcdefgh\""},
    {"string of seventeen", "\"abcdefghijklmnopq\"", "\"abcdefghijklmnopq\""},
    {"all short escapes", "\"\\\"\\\\\\/\\b\\f\\n\\r\\t\"", "\"\\\"\\\\/\\b\\f\\n\\r\\t\""},
    {"unicode escape", "\"\\u0041\\u00e9\\u20AC\"", "\"A\xC3\xA9\xE2\x82\xAC\""},
    {"surrogate pair", "\"\\ud83d\\uDE00\"", "\"\xF0\x9F\x98\x80\""},
    {"first and last pair", "\"\\ud800\\udc00\\udbff\\udfff\"", "\"\xF0\x90\x80\x80\xF4\x8F\xBF\xBF\""},
    {"escaped zero byte", "\"a\\u0000b\"", "\"a\\u0000b\""},
    {"escape at the end", "\"abc\\n\"", "\"abc\\n\""},
    {"escaped backslash at the end", "\"abc\\\\\"", "\"abc\\\\\""},
    {"long escaped string", "\"\\n0123456789012345678901234567890123456789\"",
     "\"\\n0123456789012345678901234567890123456789\""},
    {"DEL needs no escape", "\"\x7F\"", "\"\x7F\""},
    {"UTF-8", "\"\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80\"", "\"\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80\""},
    {"noncharacters", "\"\xEF\xBF\xBE\xEF\xBF\xBF\"", "\"\xEF\xBF\xBE\xEF\xBF\xBF\""},
    {"line separator", "\"\xE2\x80\xA8\"", "\"\xE2\x80\xA8\""},
    {"empty array", "[]", "[]"},
    {"empty object", "{}", "{}"},
    {"array with blanks", " [ 1 , 2 ,\t3\r\n] ", "[1,2,3]"},
    {"object with blanks", "\n{ \"a\" : 1 ,\"b\":[ ] }\n", "{\"a\":1,\"b\":[]}"},
    {"nested", "[[],[[]],{\"a\":{\"b\":[{}]}}]", "[[],[[]],{\"a\":{\"b\":[{}]}}]"},
    {"empty key", "{\"\":1}", "{\"\":1}"},
    {"escaped key", "{\"\\u0061\\n\":1}", "{\"a\\n\":1}"},
    {"duplicate keys are kept", "{\"a\":1,\"a\":2}", "{\"a\":1,\"a\":2}"},
    {"mixed", "[null,true,-1.5e1,\"x\",{\"k\":[false]}]", "[null,true,-15,\"x\",{\"k\":[false]}]"},
};

TEST(json_reader_accepts) {
    for (size_t i = 0; i < COUNT_OF(accepted); i++) {
        TEST_CASE_LABEL("%s", accepted[i].name);
        Arena arena = test_arena();
        Error err;
        const JsonNode *root = json_parse(str_from_c(accepted[i].text), &arena, &default_limits, &err);
        if (!CHECK(root != NULL)) continue;
        char memory[1024];
        StrBuf out = STRBUF(memory);
        JsonWriter w = json_writer_begin(&out);
        json_text_put(&w, root);
        CHECK_STR_EQ(accepted[i].expected, out.ptr);
    }
}

// What a double may not hold is written as it was read, wherever it stands.
TEST(json_numbers_keep_their_digits) {
    static const char text[] = "[12345678901234567890123,{\"a\":-0.30000000000000004,\"b\":1e-400},0.1,2.50]";
    Arena arena = test_arena();
    Error err;
    const JsonNode *root = json_parse(str_from_c(text), &arena, &default_limits, &err);
    REQUIRE(root != NULL);
    char memory[128];
    StrBuf out = STRBUF(memory);
    JsonWriter w = json_writer_begin(&out);
    json_put_node(&w, root);
    CHECK_STR_EQ("[12345678901234567890123,{\"a\":-0.30000000000000004,\"b\":1e-400},0.1,2.5]", out.ptr);
    Str digits;
    CHECK(json_number_text(json_first(root), &digits));
    CHECK(str_eq(STR("12345678901234567890123"), digits));
    CHECK(!json_number_text(json_next(json_next(json_first(root))), &digits));
}

static const struct {
    const char *name;
    Str text;
    uint64_t position;
} refused[] = {
    {"nothing", {"", 0}, 0},
    {"blanks only", TEXT(" \n"), 2},
    {"two values", TEXT("1 2"), 2},
    {"text after the end", TEXT("{}x"), 2},
    {"second document", TEXT("[][]"), 2},
    {"byte-order mark", TEXT("\xEF\xBB\xBF{}"), 0},
    {"UTF-16", TEXT("[\0]\0"), 1},
    {"zero byte", TEXT("\0"), 0},
    {"form feed", TEXT("\f1"), 0},
    {"no-break space",
     TEXT("\xC2\xA0"
          "1"),
     0},
    {"comment", TEXT("[1,/**/2]"), 3},
    {"line comment", TEXT("1//"), 1},
    {"capital", TEXT("True"), 0},
    {"cut word", TEXT("tru"), 0},
    {"word and more", TEXT("nulll"), 4},
    {"NaN", TEXT("NaN"), 0},
    {"Infinity", TEXT("Infinity"), 0},
    {"minus infinity", TEXT("-Infinity"), 1},
    {"plus", TEXT("+1"), 0},
    {"minus", TEXT("-"), 1},
    {"two minuses", TEXT("--1"), 1},
    {"minus and blank", TEXT("- 1"), 1},
    {"leading zero", TEXT("012"), 0},
    {"negative leading zero", TEXT("[-012]"), 2},
    {"two zeros", TEXT("00"), 0},
    {"point without digits", TEXT("1."), 2},
    {"point before digits", TEXT(".5"), 0},
    {"point and exponent", TEXT("1.e5"), 2},
    {"exponent without digits", TEXT("1e"), 2},
    {"exponent sign without digits", TEXT("1e+"), 3},
    {"exponent with point", TEXT("1e1.5"), 3},
    {"hexadecimal", TEXT("0x10"), 1},
    {"digit groups", TEXT("1_000"), 1},
    {"overflow", TEXT("1e309"), 0},
    {"negative overflow", TEXT("[1,-1e999]"), 3},
    {"huge exponent", TEXT("1e99999999999999999999999"), 0},
    {"open array", TEXT("["), 1},
    {"open array with value", TEXT("[1"), 2},
    {"open array with comma", TEXT("[1,"), 3},
    {"comma only", TEXT("[,]"), 1},
    {"leading comma", TEXT("[,1]"), 1},
    {"trailing comma", TEXT("[1,]"), 3},
    {"two commas", TEXT("[1,,2]"), 3},
    {"no comma", TEXT("[1 2]"), 3},
    {"colon in array", TEXT("[1:2]"), 2},
    {"wrong closer", TEXT("[1}"), 2},
    {"closer alone", TEXT("]"), 0},
    {"one closer too many", TEXT("[]]"), 2},
    {"open object", TEXT("{"), 1},
    {"key only", TEXT("{\"a\""), 4},
    {"key and colon", TEXT("{\"a\":"), 5},
    {"no colon", TEXT("{\"a\" 1}"), 5},
    {"no value", TEXT("{\"a\":}"), 5},
    {"two colons", TEXT("{\"a\"::1}"), 5},
    {"trailing comma in object", TEXT("{\"a\":1,}"), 7},
    {"unquoted key", TEXT("{a:1}"), 1},
    {"single quotes", TEXT("{'a':1}"), 1},
    {"number as key", TEXT("{1:1}"), 1},
    {"null as key", TEXT("{null:1}"), 1},
    {"wrong closer of object", TEXT("{\"a\":1]"), 6},
    {"comma for colon", TEXT("{\"a\",1}"), 4},
    {"open string", TEXT("\"abc"), 4},
    {"open string after escape", TEXT("\"abc\\"), 5},
    {"escaped closing quote", TEXT("\"abc\\\""), 6},
    {"raw newline", TEXT("\"a\nb\""), 2},
    {"raw tab", TEXT("\"\t\""), 1},
    {"raw zero", TEXT("\"\0\""), 1},
    {"raw control far in", TEXT("\"0123456789\x1F\""), 11},
    {"unknown escape", TEXT("\"\\x41\""), 1},
    {"capital escape", TEXT("\"\\N\""), 1},
    {"escaped apostrophe", TEXT("\"\\'\""), 1},
    {"escaped newline", TEXT("\"\\\n\""), 1},
    {"short unicode escape", TEXT("\"\\u12\""), 3},
    {"bad unicode digit", TEXT("\"\\u00G0\""), 5},
    {"signed unicode digits", TEXT("\"\\u-123\""), 3},
    {"lone high surrogate", TEXT("\"\\ud83d\""), 1},
    {"lone low surrogate", TEXT("\"\\ude00\""), 1},
    {"high surrogate and text", TEXT("\"\\ud83dabcdef\""), 1},
    {"high surrogate and other escape", TEXT("\"\\ud83d\\n0000\""), 1},
    {"two high surrogates", TEXT("\"\\ud83d\\ud83d\""), 1},
    {"reversed surrogates", TEXT("\"\\ude00\\ud83d\""), 1},
    {"pair cut", TEXT("\"\\ud83d\\ude0\""), 1},
    {"continuation byte alone", TEXT("\"\x80\""), 1},
    {"cut character", TEXT("\"a\xE2\x82\""), 2},
    {"overlong slash", TEXT("\"\xC0\xAF\""), 1},
    {"overlong of three", TEXT("\"\xE0\x80\xAF\""), 1},
    {"surrogate in UTF-8", TEXT("\"\xED\xA0\x80\""), 1},
    {"above U+10FFFF", TEXT("\"\xF4\x90\x80\x80\""), 1},
    {"byte FF", TEXT("\"\xFF\""), 1},
    {"Latin-1", TEXT("\"caf\xE9\""), 4},
    {"bytes outside a string", TEXT("[\xC3\xA9]"), 1},
};

TEST(json_reader_refuses_with_position) {
    for (size_t i = 0; i < COUNT_OF(refused); i++) {
        TEST_CASE_LABEL("%s", refused[i].name);
        Arena arena = test_arena();
        uint8_t *before = arena.next;
        Error err = {0};
        CHECK(json_parse(refused[i].text, &arena, &default_limits, &err) == NULL);
        CHECK_U64_EQ(refused[i].position, err.position);
        CHECK_INT_EQ(ERR_INVALID_REQUEST, err.code);
        CHECK(arena.next == before);
    }
}

// Eight bytes are looked at together: each value at each place among them.
TEST(json_reader_looks_at_every_byte_of_a_string) {
    for (int c = 0; c < 256; c++) {
        for (size_t place = 0; place < 16; place++) {
            char text[] = "\"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\"";
            text[1 + place] = (char)c;
            TEST_CASE_LABEL("byte %d at %zu", c, place);
            Arena arena = test_arena();
            Error err;
            const JsonNode *root = json_parse((Str){text, sizeof text - 1}, &arena, &default_limits, &err);
            CHECK_INT_EQ(c >= 0x20 && c < 0x80 && c != '"' && c != '\\', root != NULL);
        }
    }
}

// Every prefix of every row, with an inaccessible page right behind it and no byte to spare in the arena
// before another.
TEST(json_reader_stays_within_bounds) {
    GuardedMemory text_guard = guard_allocate(TEXT_BYTES);
    for (size_t i = 0; i < COUNT_OF(accepted) + COUNT_OF(refused); i++) {
        bool good = i < COUNT_OF(accepted);
        Str text = good ? str_from_c(accepted[i].text) : refused[i - COUNT_OF(accepted)].text;
        TEST_CASE_LABEL("%s", good ? accepted[i].name : refused[i - COUNT_OF(accepted)].name);
        for (size_t length = 0; length <= text.len; length++) {
            Str pressed = guard_press(&text_guard, str_slice(text, 0, length));
            Arena arena = test_arena();
            Error err;
            const JsonNode *root = json_parse(pressed, &arena, &default_limits, &err);
            if (length == text.len) CHECK(!!root == good);
        }
    }
}

TEST(json_reader_survives_failing_allocations) {
    Str text = STR("{\"a\":[1,2,3,\"\\n and a longer text than fits one slot\"],\"b\":{\"c\":null}}");
    bool ok = false;
    uint64_t failures = 0;
    for (uint64_t n = 0; !ok && n < 100; n++) {
        uint64_t countdown = n;
        Arena arena = test_arena();
        arena.fail_countdown = &countdown;
        Error err;
        ok = json_parse(text, &arena, &default_limits, &err) != NULL;
        if (ok) break;
        failures++;
        CHECK_INT_EQ(ERR_NO_MEMORY, err.code);
    }
    CHECK(ok);
    CHECK(failures > 0);
    // An arena of any size is enough or is not, and nothing is written beyond its end.
    GuardedMemory guard = guard_allocate(TEXT_BYTES);
    ok = false;
    for (size_t size = 0; size < 4096 && !ok; size++) {
        Arena arena = arena_from_memory(guard.end - size, size);
        Error err;
        ok = json_parse(text, &arena, &default_limits, &err) != NULL;
        if (!ok) CHECK_INT_EQ(ERR_NO_MEMORY, err.code);
    }
    CHECK(ok);
}

// ---- values ----

TEST(json_reader_reads_numbers_by_type) {
    static const struct {
        const char *text;
        bool is_u64, is_i64;
        uint64_t u64;
        int64_t i64;
        double f64;
    } rows[] = {
        {"0", true, true, 0, 0, 0},
        {"-0", true, true, 0, 0, -0.0},
        {"-0.0", true, true, 0, 0, -0.0},
        {"7", true, true, 7, 7, 7},
        {"7.0", true, true, 7, 7, 7},
        {"70e-1", true, true, 7, 7, 7},
        {"-7", false, true, 0, -7, -7},
        {"-7.0", false, true, 0, -7, -7},
        {"7.5", false, false, 0, 0, 7.5},
        {"9223372036854775807", true, true, INT64_MAX, INT64_MAX, 9223372036854775807.0},
        {"9223372036854775808", true, false, 9223372036854775808u, 0, 9223372036854775808.0},
        {"18446744073709551615", true, false, UINT64_MAX, 0, 18446744073709551615.0},
        {"18446744073709551616", false, false, 0, 0, 18446744073709551616.0},
        {"-9223372036854775808", false, true, 0, INT64_MIN, -9223372036854775808.0},
        {"-9223372036854775809", false, false, 0, 0, -9223372036854775809.0},
        {"9007199254740992.0", true, true, 1ull << 53, 1ll << 53, 9007199254740992.0},
        {"9007199254740994.0", false, false, 0, 0, 9007199254740994.0},
        {"1e300", false, false, 0, 0, 1e300},
        {"1e-300", false, false, 0, 0, 1e-300},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        TEST_CASE_LABEL("%s", rows[i].text);
        Arena arena = test_arena();
        Error err;
        const JsonNode *node = json_parse(str_from_c(rows[i].text), &arena, &default_limits, &err);
        REQUIRE(node != NULL);
        uint64_t u64 = 0;
        int64_t i64 = 0;
        double f64 = 0;
        CHECK_INT_EQ(rows[i].is_u64, json_read_u64(node, &u64));
        CHECK_INT_EQ(rows[i].is_i64, json_read_i64(node, &i64));
        CHECK(json_read_f64(node, &f64));
        CHECK_U64_EQ(rows[i].u64, u64);
        CHECK_INT_EQ(rows[i].i64, i64);
        CHECK(f64 == rows[i].f64 && signbit(f64) == signbit(rows[i].f64));
    }
}

TEST(json_reader_finds_members_and_names_types) {
    Arena arena = test_arena();
    Error err;
    const JsonNode *root = json_parse(STR("{\"a\":1,\"b\":\"x\\ty\",\"a\":true,\"c\":[1,[2],{}],\"d\":null}"),
                                      &arena, &default_limits, &err);
    REQUIRE(root != NULL);
    bool boolean = false;
    uint64_t u64;
    Str text;
    CHECK(json_read_bool(json_get(root, STR("a")), &boolean) && boolean);
    CHECK(json_read_str(json_get(root, STR("b")), &text));
    CHECK_STR_EQ("x\ty", text);
    CHECK(json_get(root, STR("missing")) == NULL);
    CHECK(json_get(json_get(root, STR("c")), STR("a")) == NULL);
    CHECK(!json_read_u64(NULL, &u64) && !json_read_str(root, &text) && !json_read_bool(root, &boolean));
    CHECK(!json_read_u64(json_get(root, STR("b")), &u64));
    CHECK_INT_EQ(5, root->length);
    const JsonNode *array = json_get(root, STR("c"));
    REQUIRE(json_is(array, JSON_ARRAY));
    CHECK_INT_EQ(3, array->length);
    CHECK_INT_EQ(31, array->position);
    uint32_t elements = 0;
    for (const JsonNode *e = json_first(array); e != json_end(array); e = json_next(e))
        elements++;
    CHECK_INT_EQ(3, elements);
    CHECK_STR_EQ("an object", json_type_name(root));
    CHECK_STR_EQ("an array", json_type_name(array));
    CHECK_STR_EQ("a boolean", json_type_name(json_get(root, STR("a"))));
    CHECK_STR_EQ("null", json_type_name(json_get(root, STR("d"))));
    CHECK_STR_EQ("nothing", json_type_name(NULL));
}

// ---- limits ----

static bool parses(Str text, const JsonLimits *limits, Error *err) {
    Arena arena = os_arena(64 << 20);
    uint8_t *memory = arena.next;
    bool ok = json_parse(text, &arena, limits, err) != NULL;
    os_release(memory, 64 << 20);
    return ok;
}

TEST(json_reader_limits_depth) {
    static char text[4096];
    for (size_t depth = JSON_DEPTH_MAX - 1; depth <= JSON_DEPTH_MAX + 1; depth++) {
        Error err;
        memset(text, '[', depth);
        memset(text + depth, ']', depth);
        TEST_CASE_LABEL("%zu arrays", depth);
        CHECK_INT_EQ(depth <= JSON_DEPTH_MAX, parses((Str){text, 2 * depth}, &default_limits, &err));
    }
    // Deep and never closed: refused at the limit, however long it is.
    Error err;
    static char deep[1 << 20];
    memset(deep, '[', sizeof deep);
    CHECK(!parses((Str){deep, sizeof deep}, &default_limits, &err));
    CHECK_U64_EQ(JSON_DEPTH_MAX, err.position);
    CHECK_STR_EQ("invalid JSON at byte 64: nested more than 64 deep", err.message);
    for (size_t i = 0; i + 5 <= sizeof deep; i += 5)
        memcpy(deep + i, "{\"a\":", 5);
    CHECK(!parses((Str){deep, sizeof deep}, &default_limits, &err));
    CHECK_U64_EQ(5 * JSON_DEPTH_MAX, err.position);
}

TEST(json_reader_limits_nodes) {
    static char text[2 * (JSON_NODES_MAX + 1) + 2];
    for (size_t nodes = JSON_NODES_MAX - 1; nodes <= JSON_NODES_MAX + 1; nodes++) {
        Error err = {0};
        size_t elements = nodes - 1;
        text[0] = '[';
        for (size_t i = 0; i < elements; i++)
            memcpy(text + 1 + 2 * i, "1,", 2);
        text[2 * elements] = ']';
        TEST_CASE_LABEL("%zu nodes", nodes);
        bool ok = parses((Str){text, 2 * elements + 1}, &default_limits, &err);
        CHECK_INT_EQ(nodes <= JSON_NODES_MAX, ok);
        if (!ok) CHECK_INT_EQ(ERR_INVALID_REQUEST, err.code);
    }
    Error err = {0};
    JsonLimits small = {.nodes_max = 3, .error_code = ERR_BAD_FILE};
    CHECK(parses(STR("[1,2]"), &small, &err));
    CHECK(!parses(STR("[1,2,3]"), &small, &err));
    CHECK_INT_EQ(ERR_BAD_FILE, err.code);
    CHECK(!parses(
        STR("\"\\n 90 bytes of text that must be copied because of its escape, and does not fit the slots\""),
        &small, &err));
    CHECK_INT_EQ(ERR_BAD_FILE, err.code);
}

TEST(json_reader_limits_number_length) {
    static char text[JSON_NUMBER_BYTES_MAX + 8];
    for (size_t length = JSON_NUMBER_BYTES_MAX - 1; length <= JSON_NUMBER_BYTES_MAX + 1; length++) {
        Error err;
        memset(text, '3', length);
        text[1] = '.';
        TEST_CASE_LABEL("%zu digits", length);
        CHECK_INT_EQ(length <= JSON_NUMBER_BYTES_MAX, parses((Str){text, length}, &default_limits, &err));
    }
}

// ---- Python's opinion ----

// The value in the spelling of vectors/make_json.py.
static void show(const JsonNode *n, StrBuf *out) {
    uint64_t bits;
    switch ((JsonType)n->type) {
    case JSON_NULL: strbuf_put_char(out, 'n'); break;
    case JSON_BOOL: strbuf_put_char(out, n->as.boolean ? 't' : 'f'); break;
    case JSON_U64: strbuf_printf(out, "i%llu", (unsigned long long)n->as.u64); break;
    case JSON_I64: strbuf_printf(out, "i%lld", (long long)n->as.i64); break;
    case JSON_F64:
        memcpy(&bits, &n->as.f64, sizeof bits);
        strbuf_printf(out, "d%016llx", (unsigned long long)bits);
        break;
    case JSON_STRING:
        strbuf_put_char(out, 's');
        for (uint32_t i = 0; i < n->length; i++)
            strbuf_printf(out, "%02x", (uint8_t)n->as.string[i]);
        break;
    case JSON_ARRAY:
        strbuf_put_char(out, '[');
        for (const JsonNode *e = json_first(n); e != json_end(n); e = json_next(e)) {
            if (e != json_first(n)) strbuf_put_char(out, ',');
            show(e, out);
        }
        strbuf_put_char(out, ']');
        break;
    case JSON_OBJECT:
        strbuf_put_char(out, '{');
        for (const JsonNode *k = json_first(n); k != json_end(n); k = json_next(json_next(k))) {
            if (k != json_first(n)) strbuf_put_char(out, ',');
            show(k, out);
            strbuf_put_char(out, ':');
            show(json_next(k), out);
        }
        strbuf_put_char(out, '}');
        break;
    }
}

static size_t bytes_from_hex(const char *hex, size_t length, char *out) {
    for (size_t i = 0; i + 1 < length; i += 2) {
        unsigned value = 0;
        sscanf(hex + i, "%2x", &value);
        out[i / 2] = (char)value;
    }
    return length / 2;
}

TEST(json_reader_agrees_with_python) {
    static char line[TEXT_BYTES], text[TEXT_BYTES], shown[TEXT_BYTES];
    const char *path = getenv("JSON_PYTHON_VECTORS"); // a larger file, made as vectors/make_json.py says
    FILE *file = fopen(path ? path : test_data_path("vectors/json_python.txt"), "r");
    REQUIRE(file != NULL);
    size_t rows = 0, taken = 0;
    while (fgets(line, sizeof line, file)) {
        char *blank = strchr(line, ' ');
        REQUIRE(blank != NULL);
        char *expected = blank + 1;
        expected[strcspn(expected, "\n")] = 0;
        Str input = {text, line[0] == '\'' ? 0 : bytes_from_hex(line, (size_t)(blank - line), text)};
        Arena arena = test_arena();
        Error err;
        const JsonNode *root = json_parse(input, &arena, &default_limits, &err);
        StrBuf out = STRBUF(shown);
        if (root) show(root, &out);
        else strbuf_put_char(&out, '-');
        TEST_CASE_LABEL("line %zu: %.*s", rows + 1, (int)input.len, text);
        CHECK_STR_EQ(expected, shown);
        rows++;
        taken += root != NULL;
    }
    fclose(file);
    TEST_CASE_LABEL("whole file");
    CHECK(rows >= 700);
    CHECK(taken >= 100 && rows - taken >= 100);
}

TEST(json_reader_fuzz_corpus) {
    CHECK(fuzz_replay("json", fuzz_json, 200) >= 50);
}
