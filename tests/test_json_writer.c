// The JSON writer: its spelling of every kind of value, always valid UTF-8 on one line, and numbers that read
// back equal.
#include "runner.h"

#include "base/rng.h"
#include "base/utf8.h"
#include "json/json_reader.h"
#include "json/json_writer.h"

#include <math.h>
#include <stdlib.h>

TEST(json_writer_escapes_strings) {
    static const struct {
        const char *name;
        const char *text;
        size_t length;
        const char *expected;
    } rows[] = {
        {"empty", "", 0, "\"\""},
        {"plain", "abc", 3, "\"abc\""},
        {"quote and backslash", "a\"b\\c/", 6, "\"a\\\"b\\\\c/\""},
        {"short escapes", "\b\f\n\r\t", 5, "\"\\b\\f\\n\\r\\t\""},
        {"other controls", "\x01\x1F", 2, "\"\\u0001\\u001f\""},
        {"zero byte", "a\0b", 3, "\"a\\u0000b\""},
        {"DEL", "\x7F", 1, "\"\x7F\""},
        {"characters", "\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80", 9, "\"\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80\""},
        {"byte FF",
         "a\xFF"
         "b",
         3,
         "\"a\xEF\xBF\xBD"
         "b\""},
        {"cut character", "\xE2\x82", 2, "\"\xEF\xBF\xBD\xEF\xBF\xBD\""},
        {"cut character and more", "\xE2\x82x", 3, "\"\xEF\xBF\xBD\xEF\xBF\xBDx\""},
        {"surrogate", "\xED\xA0\x80", 3, "\"\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD\""},
        {"overlong", "\xC0\x80", 2, "\"\xEF\xBF\xBD\xEF\xBF\xBD\""},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        TEST_CASE_LABEL("%s", rows[i].name);
        char memory[128];
        StrBuf out = STRBUF(memory);
        JsonWriter w = json_writer_begin(&out);
        json_put_str(&w, (Str){rows[i].text, rows[i].length});
        CHECK_STR_EQ(rows[i].expected, out.ptr);
        CHECK(!out.truncated);
    }
}

// What is shown of a name in a message: all of it, or whole characters and escapes of it.
TEST(json_writer_shows_names) {
    static const struct {
        size_t room; // with the zero at the end
        Str name;
        const char *shown;
    } rows[] = {
        {16, STR(""), ""},
        {16, STR("look"), "look"},
        {16, STR("lo\0ok\n\"\x7f"), "lo\\u0000ok\\n\\\"\x7f"},
        {16, STR("123456789012345"), "123456789012345"},
        {16, STR("1234567890123456"), "123456789012..."},
        {16, STR("12345678901\0"), "12345678901..."},
        {16, STR("123456789\0"), "123456789\\u0000"},
        {16, STR("1234567890\n\0"), "1234567890\\n..."},
        {16, STR("12345678901\xC3\xA9x\xC3\xA9"), "12345678901..."},
        {16, STR("a\xFFz"), "a\xEF\xBF\xBDz"},
        {4, STR("long"), "..."},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        char text[32];
        StrBuf b = strbuf_from_memory(text, rows[i].room);
        json_put_shown(&b, rows[i].name);
        CHECK_STR_EQ(rows[i].shown, text);
    }
}

TEST(json_writer_places_commas) {
    char memory[512];
    StrBuf out = STRBUF(memory);
    JsonWriter w = json_writer_begin(&out);
    json_open_object(&w);
    json_member_str(&w, "s", STR("x\ny"));
    json_member_u64(&w, "u", UINT64_MAX);
    json_member_i64(&w, "i", INT64_MIN);
    json_member_f64(&w, "f", 0.1);
    json_member_fixed(&w, "x", 12.345, 1);
    json_member_bool(&w, "b", true);
    json_member_null(&w, "n");
    json_key(&w, "a");
    json_open_array(&w);
    json_open_array(&w);
    json_close_array(&w);
    json_open_object(&w);
    json_close_object(&w);
    json_put_bool(&w, false);
    json_put_raw(&w, STR("[1,2]"));
    json_put_null(&w);
    json_close_array(&w);
    json_key_str(&w, STR("\"k\""));
    json_put_u64(&w, 0);
    json_close_object(&w);
    CHECK_STR_EQ(
        "{\"s\":\"x\\ny\",\"u\":18446744073709551615,\"i\":-9223372036854775808,\"f\":0.1,\"x\":12.3,"
        "\"b\":true,\"n\":null,\"a\":[[],{},false,[1,2],null],\"\\\"k\\\"\":0}",
        out.ptr);
}

TEST(json_writer_spells_numbers_shortly) {
    static const struct {
        double value;
        const char *expected;
    } rows[] = {
        {0, "0"},
        {1, "1"},
        {-1.5, "-1.5"},
        {0.1, "0.1"},
        {0.7, "0.7"},
        {1e21, "1e+21"},
        {1.0 / 3, "0.3333333333333333"},
        {1e-7, "1e-07"},
        {123456.789, "123456.789"},
        {NAN, "null"},
        {INFINITY, "null"},
        {-INFINITY, "null"},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        char memory[64];
        StrBuf out = STRBUF(memory);
        JsonWriter w = json_writer_begin(&out);
        json_put_f64(&w, rows[i].value);
        CHECK_STR_EQ(rows[i].expected, out.ptr);
    }
}

TEST(json_writer_says_when_it_does_not_fit) {
    for (size_t size = 0; size < 14; size++) {
        char memory[16];
        StrBuf out = strbuf_from_memory(memory, size);
        JsonWriter w = json_writer_begin(&out);
        json_open_array(&w);
        json_put_str(&w, STR("a\nb"));
        json_put_u64(&w, 12);
        json_close_array(&w); // ["a\nb",12]: 11 bytes
        CHECK_INT_EQ(size < 12, out.truncated);
    }
}

static uint64_t random_u64(uint64_t key, uint64_t counter) {
    RngBlock block = rng_philox(key, counter);
    return (uint64_t)block.word[0] << 32 | block.word[1];
}

// Any double, and any string of bytes, comes back from the reader: the string with U+FFFD for what is no
// UTF-8.
TEST(json_writer_output_reads_back) {
    for (uint64_t i = 0; i < 20000; i++) {
        char memory[512], bytes[24];
        uint8_t space[4096];
        StrBuf out = STRBUF(memory);
        JsonWriter w = json_writer_begin(&out);
        uint64_t bits = random_u64(1, i);
        double value;
        memcpy(&value, &bits, sizeof value);
        for (size_t k = 0; k < 3; k++) {
            uint64_t more = random_u64(2 + k, i);
            // Half of the bytes from a range where characters begin and continue.
            for (size_t b = 0; b < 8; b++, more >>= 8) {
                bytes[8 * k + b] = (char)(more & 1 ? more : 0x80 | (more & 0x7F));
            }
        }
        json_open_array(&w);
        json_put_f64(&w, value);
        json_put_str(&w, (Str){bytes, sizeof bytes});
        json_close_array(&w);
        REQUIRE(!out.truncated);
        REQUIRE(utf8_valid_prefix(strbuf_str(&out)) == out.len);
        REQUIRE(memchr(out.ptr, '\n', out.len) == NULL);
        Arena arena = arena_from_memory(space, sizeof space);
        Error err;
        const JsonNode *root = json_parse(strbuf_str(&out), &arena, &(JsonLimits){0}, &err);
        REQUIRE(root != NULL && root->length == 2);
        double back;
        if (isfinite(value)) {
            REQUIRE(json_read_f64(json_first(root), &back));
            REQUIRE(back == value);
        }
        Str text;
        REQUIRE(json_read_str(json_next(json_first(root)), &text));
        size_t valid = utf8_valid_prefix((Str){bytes, sizeof bytes});
        REQUIRE(text.len >= valid && memcmp(text.ptr, bytes, valid) == 0);
    }
}

TEST(json_writer_f32_and_u64_read_back) {
    char memory[64];
    for (uint64_t i = 0; i < 100000; i++) {
        RngBlock r = rng_philox(7, i);
        uint32_t bits = r.word[0];
        uint64_t whole = (r.word[1] | (uint64_t)r.word[2] << 32) >> r.word[3] % 64, read = 1;
        float value;
        memcpy(&value, &bits, sizeof value);
        if (!isfinite(value)) continue;
        StrBuf b = STRBUF(memory);
        JsonWriter w = json_writer_begin(&b);
        json_put_f32(&w, value);
        REQUIRE(strtof(b.ptr, NULL) == value);
        b = STRBUF(memory);
        w = json_writer_begin(&b);
        json_put_u64(&w, whole);
        REQUIRE(str_parse_u64(strbuf_str(&b), &read) && read == whole);
    }
    StrBuf b = STRBUF(memory);
    JsonWriter w = json_writer_begin(&b);
    json_open_array(&w);
    json_put_f32(&w, INFINITY);
    json_put_f32(&w, -0.25f);
    json_put_u64(&w, 0);
    json_put_u64(&w, UINT64_MAX);
    json_close_array(&w);
    CHECK_STR_EQ("[null,-0.25,0,18446744073709551615]", strbuf_str(&b));
}
