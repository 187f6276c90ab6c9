// Slices, arenas, numbers, hashes, UTF-8, half floats, rings.
#include "base/arena.h"
#include "base/cursor.h"
#include "base/error.h"
#include "base/f16.h"
#include "base/hash.h"
#include "base/ring.h"
#include "base/rng.h"
#include "base/strbuf.h"
#include "base/utf8.h"
#include "os/os.h"
#include "runner.h"

#include <math.h>

TEST(base_parse_u64) {
    static const struct {
        const char *text;
        bool ok;
        uint64_t value;
    } rows[] = {{"0", true, 0},
                {"42", true, 42},
                {"18446744073709551615", true, UINT64_MAX},
                {"18446744073709551616", false, 0},
                {"", false, 0},
                {"-1", false, 0},
                {"+1", false, 0},
                {" 1", false, 0},
                {"1x", false, 0},
                {"1.0", false, 0}};
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        TEST_CASE_LABEL("\"%s\"", rows[i].text);
        uint64_t value = 0;
        CHECK(str_parse_u64(str_from_c(rows[i].text), &value) == rows[i].ok);
        if (rows[i].ok) CHECK_U64_EQ(rows[i].value, value);
    }
}

TEST(base_parse_f64) {
    static const struct {
        const char *text;
        bool ok;
        double value;
    } rows[] = {{"0.5", true, 0.5}, {"1e-3", true, 1e-3}, {"-2", true, -2},    {"", false, 0},
                {"nan", false, 0},  {"inf", false, 0},    {"1e999", false, 0}, {"1.5x", false, 0},
                {"0x10", false, 0}, {" 1", false, 0},     {"1 ", false, 0}};
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        TEST_CASE_LABEL("\"%s\"", rows[i].text);
        double value = 0;
        CHECK(str_parse_f64(str_from_c(rows[i].text), &value) == rows[i].ok);
        if (rows[i].ok) CHECK_NEAR(rows[i].value, value, 0);
    }
}

TEST(arena_is_bounded_and_aligned) {
    _Alignas(64) uint8_t memory[256];
    memset(memory, 0xAA, sizeof memory);
    Arena arena = arena_from_memory(memory, sizeof memory);
    uint8_t *one = arena_alloc(&arena, 1, 1, 1);
    uint64_t *aligned = arena_new(&arena, uint64_t, 2);
    CHECK(one && aligned && (uintptr_t)aligned % _Alignof(uint64_t) == 0);
    CHECK(aligned[0] == 0 && aligned[1] == 0);
    CHECK(arena_alloc(&arena, UINT64_MAX / 2, 4, 1) == NULL);
    CHECK(arena_alloc(&arena, UINT64_MAX, 1, 64) == NULL);
    size_t left = arena_left(&arena);
    CHECK(arena_alloc(&arena, left + 1, 1, 1) == NULL);
    CHECK(arena_alloc(&arena, left, 1, 1) != NULL);
    CHECK_INT_EQ(0, arena_left(&arena));
}

TEST(arena_fails_the_nth_allocation) {
    uint8_t memory[64];
    uint64_t countdown = 2;
    Arena arena = arena_from_memory(memory, sizeof memory);
    arena.fail_countdown = &countdown;
    CHECK(arena_alloc(&arena, 1, 1, 1) != NULL);
    CHECK(arena_alloc(&arena, 1, 1, 1) != NULL);
    CHECK(arena_alloc(&arena, 1, 1, 1) == NULL);
    CHECK(arena_alloc(&arena, 1, 1, 1) == NULL);
}

TEST(error_messages_keep_whole_characters) {
    Error err;
    char big[1000];
    memset(big, 'x', sizeof big - 1);
    big[sizeof big - 1] = 0;
    for (size_t cut = 0; cut < 4; cut++) { // the character falls differently on the end of the message
        memcpy(big + ERROR_MESSAGE_BYTES - 4 + cut, "\xE2\x82\xAC", 3);
        error_set(&err, ERR_IO, "%s", big);
        CHECK_INT_EQ(strlen(err.message), utf8_valid_prefix(str_from_c(err.message)));
        memset(big + ERROR_MESSAGE_BYTES - 4 + cut, 'x', 3);
    }
    CHECK(!error_set_at(&err, ERR_BAD_FILE, 12, "bad %d", 7));
    CHECK(!error_prefix(&err, "file %s", "a.gguf"));
    CHECK_STR_EQ("file a.gguf: bad 7", err.message);
    CHECK_U64_EQ(12, err.position);
    CHECK_STR_EQ("MODEL_LOAD_FAILED", error_info(err.code)->name);
}

TEST(cursor_stops_at_the_end) {
    static const uint8_t data[] = {1, 2, 3, 4, 5};
    Cursor c = {.data = data, .size = sizeof data};
    CHECK_INT_EQ(0x04030201, cursor_read_u32(&c));
    CHECK_INT_EQ(0, cursor_read_u16(&c));
    CHECK(c.failed);
    CHECK_INT_EQ(4, c.offset);
    CHECK_INT_EQ(0, cursor_read_u8(&c)); // nothing is read after a failure
    c = (Cursor){.data = data, .size = sizeof data, .offset = 1};
    CHECK(cursor_take(&c, UINT64_MAX) == NULL);
}

// Expected digests: FIPS 180-4 examples, as sha256sum prints them.
TEST(sha256_known_answers) {
    static const struct {
        const char *text;
        size_t repeat;
        const char *digest;
    } rows[] = {{"", 1, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"},
                {"abc", 1, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"},
                {"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq", 1,
                 "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"},
                {"a", 1000000, "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0"}};
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        TEST_CASE_LABEL("row %zu", i);
        Sha256 h;
        uint8_t digest[32];
        char hex[65];
        sha256_begin(&h);
        for (size_t n = 0; n < rows[i].repeat; n++)
            sha256_add(&h, rows[i].text, strlen(rows[i].text));
        sha256_end(&h, digest);
        hex_from_bytes(digest, sizeof digest, hex);
        CHECK_STR_EQ(rows[i].digest, hex);
    }
}

// Philox4x32-10 known answers published with the reference implementation (Random123, kat_vectors).
TEST(rng_philox_known_answers) {
    RngBlock zero = rng_philox(0, 0);
    static const uint32_t expected[4] = {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8};
    CHECK_BYTES_EQ(expected, sizeof expected, zero.word, sizeof zero.word);
    double sum = 0;
    for (uint64_t step = 0; step < 1000000; step++) {
        float u = rng_uniform_f32(7, step);
        CHECK(u >= 0 && u < 1);
        sum += (double)u;
    }
    CHECK_NEAR(0.5, sum / 1e6, 0.002);
}

TEST(utf8_accepts_and_refuses) {
    static const struct {
        const char *name;
        Str text;
        size_t valid;      // bytes of the valid prefix
        size_t incomplete; // bytes at the end that more bytes could complete
    } rows[] = {{"ascii", STR("abc"), 3, 0},
                {"two bytes", STR("\xC3\xA9"), 2, 0},
                {"four bytes", STR("\xF0\x9F\x98\x80"), 4, 0},
                {"half of two", STR("a\xC3"), 1, 1},
                {"three of four", STR("\xF0\x9F\x98"), 0, 3},
                {"two of three", STR("ab\xE2\x82"), 2, 2},
                {"lone continuation", STR("a\x80"), 1, 0},
                {"overlong slash", STR("\xC0\xAF"), 0, 0},
                {"overlong three", STR("\xE0\x80"), 0, 0},
                {"surrogate", STR("\xED\xA0"), 0, 0},
                {"above U+10FFFF", STR("\xF4\x90"), 0, 0},
                {"never a lead", STR("\xFF"), 0, 0},
                {"long ascii then bad", STR("0123456789abcdef\xFF"), 16, 0}};
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        TEST_CASE_LABEL("%s", rows[i].name);
        CHECK_INT_EQ(rows[i].valid, utf8_valid_prefix(rows[i].text));
        CHECK_INT_EQ(rows[i].incomplete, utf8_incomplete_tail(rows[i].text));
    }
}

TEST(utf8_round_trip_of_every_character) {
    size_t bad = 0;
    for (uint32_t cp = 0; cp <= 0x10FFFF; cp++) {
        if (cp >= 0xD800 && cp <= 0xDFFF) continue;
        char bytes[4];
        uint32_t back = 0;
        size_t length = utf8_encode(cp, bytes);
        bad += utf8_decode((Str){bytes, length}, &back) != length || back != cp;
    }
    CHECK_INT_EQ(0, bad);
}

// Every half float goes to float and back; floats between two neighbours round to the nearer, halfway to
// even. The compiler's own _Float16 is the oracle where there is one.
TEST(f16_round_trip_and_rounding) {
    size_t bad = 0;
    for (uint32_t h = 0; h < 0x10000; h++) {
        float value = f32_from_f16((uint16_t)h);
        if (isnan(value)) bad += isnan(f32_from_f16(f16_from_f32(value))) ? 0 : 1;
        else bad += f16_from_f32(value) != h;
    }
    CHECK_INT_EQ(0, bad);
#if defined(__FLT16_MANT_DIG__)
    for (uint32_t i = 0; i < 2000000; i++) {
        float value = f32_from_bits(rng_philox(3, i).word[0]);
        if (isnan(value)) continue;
        _Float16 half = (_Float16)value;
        uint16_t expected;
        memcpy(&expected, &half, sizeof expected);
        bad += f16_from_f32(value) != expected;
    }
    CHECK_INT_EQ(0, bad);
#endif
}

TEST(strbuf_formats_and_truncates) {
    static const struct {
        uint64_t bytes;
        const char *text;
    } sizes[] = {
        {0, "0 B"},        {999, "999 B"}, {1000, "1.0 kB"}, {98362432, "98.4 MB"}, {12100000000u, "12.1 GB"},
        {999600, "1.0 MB"}};
    char memory[16];
    for (size_t i = 0; i < COUNT_OF(sizes); i++) {
        StrBuf b = STRBUF(memory);
        strbuf_put_bytes(&b, sizes[i].bytes);
        CHECK_STR_EQ(sizes[i].text, strbuf_str(&b));
    }
    StrBuf b = STRBUF(memory);
    strbuf_put_count(&b, 1234567);
    CHECK_STR_EQ("1,234,567", strbuf_str(&b));
    strbuf_printf(&b, "%s", "0123456789");
    CHECK(b.truncated);
    CHECK_STR_EQ("1,234,567012345", strbuf_str(&b));
    b = STRBUF(memory);
    strbuf_put_decimal(&b, 3878.74, 1, 8);
    strbuf_put_char(&b, ' ');
    strbuf_put_decimal(&b, 0.996, 2, 0);
    CHECK_STR_EQ(" 3,878.7 1.00", strbuf_str(&b));
}

enum { RING_MESSAGES = 200000 };

static void *ring_producer(void *argument) {
    Ring *ring = argument;
    for (uint32_t i = 0; i < RING_MESSAGES;) {
        if (ring_push(ring, &i)) i++;
        else os_yield(); // where both have one processor, the other one would not come to run otherwise
    }
    return NULL;
}

TEST(ring_keeps_order_between_threads) {
    Arena arena = os_arena(1 << 16);
    Ring ring;
    Error err;
    OsThread producer;
    REQUIRE(ring_init(&ring, &arena, 64, sizeof(uint32_t)));
    CHECK_INT_EQ(64, ring_room(&ring));
    REQUIRE(os_thread_start(&producer, "producer", ring_producer, &ring, &err));
    uint32_t wrong = 0;
    for (uint32_t expected = 0; expected < RING_MESSAGES;) {
        uint32_t got;
        if (ring_pop(&ring, &got)) wrong += got != expected++;
        else os_yield();
    }
    os_thread_join(&producer);
    CHECK_INT_EQ(0, wrong);
    for (uint32_t i = 0; i < 64; i++)
        CHECK(ring_push(&ring, &i));
    CHECK(!ring_push(&ring, &wrong));
}
