// GGUF files with something wrong: each gets a clear error, and nothing outside the file is read.

#include "runner.h"

#include "gguf_builder.h"
#include "guard.h"

enum { ARENA_BYTES = 4 << 20 };
#define TWO_31 0x80000000u
#define TWO_63 0x8000000000000000u

// Where files are parsed: at the end of memory that may be touched.
typedef struct {
    GuardedMemory memory;
    Arena arena;
} Edge;

static Edge edge_begin(size_t most_bytes) {
    return (Edge){guard_allocate(most_bytes), os_arena(ARENA_BYTES)};
}

// `err` is filled in where false comes back.
static bool edge_parse(const Edge *edge, Str bytes, Error *err) {
    Str pressed = guard_press(&edge->memory, bytes);
    GgufPart part = {(const uint8_t *)pressed.ptr, pressed.len, "bad.gguf"};
    Arena arena = edge->arena;
    const GgufFile *file;
    return gguf_parse(&part, 1, &arena, &file, err);
}

// ---- cut files ----

// What every error has: the file, and a byte that the file has or would have next.
static void check_is_clear(const Error *err, uint64_t size) {
    CHECK(str_starts_with(str_from_c(err->message), STR("bad.gguf: byte ")));
    CHECK(err->position <= size);
    CHECK_INT_EQ(ERR_BAD_FILE, err->code);
}

TEST_SLOW(gguf_cut_anywhere_is_an_error, 120) {
    TinyModel m = tiny_model_llama();
    Str file = tiny_model_build(&m);
    Edge edge = edge_begin(file.len);
    Error err = {0};
    REQUIRE(edge_parse(&edge, file, &err));
    for (size_t cut = 0; cut < 4096; cut++) {
        TEST_CASE_LABEL("cut at %zu", cut);
        CHECK(!edge_parse(&edge, str_slice(file, 0, cut), &err));
        check_is_clear(&err, cut);
    }
    for (size_t i = 0; i < 100; i++) {
        size_t cut = 4096 + (file.len - 4096) * i / 100 + i % 7;
        TEST_CASE_LABEL("cut at %zu", cut);
        CHECK(!edge_parse(&edge, str_slice(file, 0, cut), &err));
        check_is_clear(&err, cut);
    }
    TEST_CASE_LABEL("cut at the last byte");
    CHECK(!edge_parse(&edge, str_slice(file, 0, file.len - 1), &err));
    check_is_clear(&err, file.len);
}

// ---- one thing wrong ----

// Each writes into a builder that has two keys already; two tensors follow it.
static void no_change(GgufBuilder *b) {
    (void)b;
}
static void wrong_magic(GgufBuilder *b) {
    memcpy(b->magic, "ggml", 4);
}
static void version_1(GgufBuilder *b) {
    b->version = 1;
}
static void version_4(GgufBuilder *b) {
    b->version = 4;
}
static void version_0(GgufBuilder *b) {
    b->version = 0;
}
static void big_endian(GgufBuilder *b) {
    b->version = 0x03000000;
}

static void keys_2_31(GgufBuilder *b) {
    b->extra_keys = TWO_31;
}
static void keys_2_63(GgufBuilder *b) {
    b->extra_keys = INT64_MIN;
}
static void keys_below_the_limit(GgufBuilder *b) {
    b->extra_keys = GGUF_METADATA_MAX - 10;
}
static void one_key_more(GgufBuilder *b) {
    b->extra_keys = 1; // reads the first tensor's row as one
}
static void tensors_2_31(GgufBuilder *b) {
    b->extra_tensors = TWO_31;
}
static void tensors_2_63(GgufBuilder *b) {
    b->extra_tensors = INT64_MIN;
}
static void tensors_below_the_limit(GgufBuilder *b) {
    b->extra_tensors = GGUF_TENSORS_MAX - 10;
}

static void put_key_length(GgufBuilder *b, uint64_t length) {
    gguf_bytes_put_u64(&b->keys, length);
    b->n_keys++;
}
static void key_of_0_bytes(GgufBuilder *b) {
    gguf_builder_put_key(b, (Str){0}, GGUF_U32);
    gguf_bytes_put_u32(&b->keys, 1);
}
static void key_of_65536_bytes(GgufBuilder *b) {
    put_key_length(b, 65536);
}
static void key_of_2_31_bytes(GgufBuilder *b) {
    put_key_length(b, TWO_31);
}
static void key_of_2_63_bytes(GgufBuilder *b) {
    put_key_length(b, TWO_63);
}
static void key_past_the_end(GgufBuilder *b) {
    put_key_length(b, 60000);
}
static void key_not_utf8(GgufBuilder *b) {
    gguf_builder_put_u32(b, "a\xFFz", 1);
}
static void key_with_newline(GgufBuilder *b) {
    gguf_builder_put_u32(b, "a\nz", 1);
}
static void key_twice(GgufBuilder *b) {
    gguf_builder_put_u32(b, "a.number", 2);
}
static void value_type_13(GgufBuilder *b) {
    gguf_builder_put_key(b, STR("x"), GGUF_TYPE_COUNT);
}
static void value_type_2_31(GgufBuilder *b) {
    gguf_builder_put_key(b, STR("x"), TWO_31);
}
static void bool_of_2(GgufBuilder *b) {
    gguf_builder_put_key(b, STR("x"), GGUF_BOOL);
    gguf_bytes_put_u8(&b->keys, 2);
}

static void put_string_length(GgufBuilder *b, uint64_t length) {
    gguf_builder_put_key(b, STR("x"), GGUF_STRING);
    gguf_bytes_put_u64(&b->keys, length);
}
static void string_of_2_31_bytes(GgufBuilder *b) {
    put_string_length(b, TWO_31);
}
static void string_of_2_63_bytes(GgufBuilder *b) {
    put_string_length(b, TWO_63);
}
static void string_of_most_bytes(GgufBuilder *b) {
    put_string_length(b, UINT64_MAX);
}

static void put_array_head(GgufBuilder *b, uint32_t type, uint64_t count) {
    gguf_builder_put_key(b, STR("x"), GGUF_ARRAY);
    gguf_bytes_put_u32(&b->keys, type);
    gguf_bytes_put_u64(&b->keys, count);
}
static void array_of_unknown_type(GgufBuilder *b) {
    put_array_head(b, 99, 1);
}
static void array_of_2_31_floats(GgufBuilder *b) {
    put_array_head(b, GGUF_F32, TWO_31);
}
static void array_of_2_62_floats(GgufBuilder *b) {
    put_array_head(b, GGUF_F32, TWO_63 / 2); // the size in bytes is 0 modulo 2^64
}
static void array_of_2_63_bytes(GgufBuilder *b) {
    put_array_head(b, GGUF_U8, TWO_63);
}
static void array_of_2_31_strings(GgufBuilder *b) {
    put_array_head(b, GGUF_STRING, TWO_31);
}
static void array_of_2_63_strings(GgufBuilder *b) {
    put_array_head(b, GGUF_STRING, TWO_63);
}
static void array_of_2_63_arrays(GgufBuilder *b) {
    put_array_head(b, GGUF_ARRAY, TWO_63);
}
static void array_with_a_long_string(GgufBuilder *b) {
    put_array_head(b, GGUF_STRING, 2);
    gguf_bytes_put_str(&b->keys, STR("fine"));
    gguf_bytes_put_u64(&b->keys, TWO_63);
}
static void array_with_a_bad_bool(GgufBuilder *b) {
    put_array_head(b, GGUF_BOOL, 3);
    gguf_bytes_put(&b->keys, (uint8_t[]){1, 0, 7}, 3);
}
static void arrays_nested_5_deep(GgufBuilder *b) {
    put_array_head(b, GGUF_ARRAY, 1);
    for (int i = 0; i < GGUF_ARRAY_DEPTH_MAX; i++) {
        gguf_bytes_put_u32(&b->keys, GGUF_ARRAY);
        gguf_bytes_put_u64(&b->keys, 1);
    }
}

static void alignment_0(GgufBuilder *b) {
    gguf_builder_put_u32(b, "general.alignment", 0);
}
static void alignment_48(GgufBuilder *b) {
    gguf_builder_put_u32(b, "general.alignment", 48);
}
static void alignment_2_31(GgufBuilder *b) {
    gguf_builder_put_u32(b, "general.alignment", TWO_31);
}
static void alignment_2_63(GgufBuilder *b) {
    gguf_builder_put_u64(b, "general.alignment", TWO_63);
}
static void alignment_of_text(GgufBuilder *b) {
    gguf_builder_put_str(b, "general.alignment", "32");
}

// A row of the table for a float32 tensor.
static void add_row(GgufBuilder *b, const char *name, uint64_t columns, uint64_t offset) {
    gguf_builder_add_row(b, str_from_c(name), 1, &columns, 0, offset);
}
static void tensor_name_empty(GgufBuilder *b) {
    add_row(b, "", 8, 0);
}
static void tensor_name_too_long(GgufBuilder *b) {
    static char name[GGUF_TENSOR_NAME_BYTES_MAX + 2];
    memset(name, 'x', sizeof name - 1);
    add_row(b, name, 8, 0);
}
static void tensor_name_not_utf8(GgufBuilder *b) {
    add_row(b, "\xC3\x28", 8, 0);
}
static void tensor_name_of_2_63_bytes(GgufBuilder *b) {
    gguf_bytes_put_u64(&b->table, TWO_63);
    b->n_tensors++;
}
static void tensor_twice(GgufBuilder *b) {
    add_row(b, "one", 8, 64);
}
static void tensor_of_0_dimensions(GgufBuilder *b) {
    gguf_builder_add_row(b, STR("t"), 0, NULL, 0, 0);
}
static void tensor_of_5_dimensions(GgufBuilder *b) {
    gguf_builder_add_row(b, STR("t"), 5, (uint64_t[]){1, 1, 1, 1, 1}, 0, 0);
}
static void tensor_of_2_31_dimensions(GgufBuilder *b) {
    gguf_bytes_put_str(&b->table, STR("t"));
    gguf_bytes_put_u32(&b->table, TWO_31);
    b->n_tensors++;
}
static void dimensions_of_2_64(GgufBuilder *b) {
    gguf_builder_add_row(b, STR("t"), 2, (uint64_t[]){TWO_31, TWO_31 * 4ull}, 0, 0);
}
static void dimension_of_2_63(GgufBuilder *b) {
    gguf_builder_add_row(b, STR("t"), 1, (uint64_t[]){TWO_63}, 0, 0);
}
static void dimension_of_2_62(GgufBuilder *b) {
    gguf_builder_add_row(b, STR("t"), 1, (uint64_t[]){TWO_63 / 2}, 0, 0); // 2^64 bytes
}
static void dimension_of_2_61(GgufBuilder *b) {
    gguf_builder_add_row(b, STR("t"), 1, (uint64_t[]){TWO_63 / 4}, 0, 0); // 2^63 bytes
}
static void dimension_of_2_31(GgufBuilder *b) {
    gguf_builder_add_row(b, STR("t"), 1, (uint64_t[]){TWO_31}, 0, 0);
}
static void type_of_q8_1(GgufBuilder *b) {
    gguf_builder_add_row(b, STR("t"), 1, (uint64_t[]){256}, 9, 0);
}
static void type_removed(GgufBuilder *b) {
    gguf_builder_add_row(b, STR("t"), 1, (uint64_t[]){256}, 4, 0);
}
static void type_unknown(GgufBuilder *b) {
    gguf_builder_add_row(b, STR("t"), 1, (uint64_t[]){256}, 4711, 0);
}
static void rows_of_half_a_block(GgufBuilder *b) {
    gguf_builder_add_row(b, STR("t"), 2, (uint64_t[]){48, 2}, dtype_info(DTYPE_Q4_0)->ggml_id, 0);
}
static void offset_unaligned(GgufBuilder *b) {
    add_row(b, "t", 1, 36);
}
static void offset_past_the_end(GgufBuilder *b) {
    add_row(b, "t", 1, 1 << 20);
}
static void offset_of_2_63(GgufBuilder *b) {
    add_row(b, "t", 1, TWO_63);
}
static void offset_of_most(GgufBuilder *b) {
    add_row(b, "t", 8, UINT64_MAX - 31);
}
static void data_one_element_past_the_end(GgufBuilder *b) {
    add_row(b, "t", 24 + 1, 0); // "one" and "two" have 16 and 8
}
static void data_overlap_the_next(GgufBuilder *b) {
    uint64_t offset = gguf_builder_add_data(b, (uint8_t[64]){0}, 64);
    add_row(b, "t", 16 + 1, offset); // the next one is aligned and follows at once
}
static void data_of_two_the_same(GgufBuilder *b) {
    add_row(b, "t", 8, 32);
}
static void split_of_2(GgufBuilder *b) {
    gguf_builder_put_u32(b, "split.count", 2);
    gguf_builder_put_i32(b, "split.tensors.count", 100);
}
static void split_number_1(GgufBuilder *b) {
    gguf_builder_put_u32(b, "split.no", 1);
}
static void split_count_of_text(GgufBuilder *b) {
    gguf_builder_put_str(b, "split.count", "2");
}

typedef struct {
    const char *name;
    void (*change)(GgufBuilder *b);
    ErrCode code;
    const char *message; // part of it
} BadCase;

// clang-format off
#define BAD(change, text) \
    { #change, change, ERR_BAD_FILE, text }
#define UNSUPPORTED(change, text) \
    { #change, change, ERR_UNSUPPORTED, text }
// clang-format on

static const BadCase bad_cases[] = {
    BAD(wrong_magic, "byte 0: not a GGUF file: it starts with 67 67 6d 6c, not with \"GGUF\""),
    UNSUPPORTED(version_0, "byte 4: GGUF version 0 is not supported; versions 2 and 3 are"),
    UNSUPPORTED(version_1, "byte 4: GGUF version 1 is not supported; versions 2 and 3 are"),
    UNSUPPORTED(version_4, "byte 4: GGUF version 4 is not supported; versions 2 and 3 are"),
    UNSUPPORTED(big_endian, "byte 4: the file is big-endian"),
    BAD(keys_2_31, "byte 16: the file claims 2147483650 keys; allowed are 65536"),
    BAD(keys_2_63, "byte 16: the file claims 9223372036854775810 keys; allowed are 65536"),
    BAD(keys_below_the_limit, "byte 16: the file claims 65528 keys, too many for its"),
    BAD(one_key_more, "byte 84: a tensor's name has 0 bytes"),
    BAD(tensors_2_31, "byte 8: the file claims 2147483650 tensors; allowed are 65536"),
    BAD(tensors_2_63, "byte 8: the file claims 9223372036854775810 tensors; allowed are 65536"),
    BAD(tensors_below_the_limit, "byte 8: the file claims 65528 tensors, too many for its"),

    BAD(key_of_0_bytes, "byte 68: a key has 0 bytes; allowed are 1 to 65535"),
    BAD(key_of_65536_bytes, "a key has 65536 bytes"),
    BAD(key_of_2_31_bytes, "a key has 2147483648 bytes"),
    BAD(key_of_2_63_bytes, "a key has 9223372036854775808 bytes"),
    BAD(key_past_the_end, "a key takes 60000 bytes, but the file ends after"),
    BAD(key_not_utf8, "a key is not printable UTF-8"),
    BAD(key_with_newline, "a key is not printable UTF-8"),
    BAD(key_twice, "byte 68: key \"a.number\": is there twice, first at byte 24"),
    BAD(value_type_13, "key \"x\": value type 13 is unknown"),
    BAD(value_type_2_31, "key \"x\": value type 2147483648 is unknown"),
    BAD(bool_of_2, "byte 81: key \"x\": a bool is 2; allowed are 0 and 1"),
    BAD(string_of_2_31_bytes, "key \"x\": the value takes 2147483648 bytes, but the file ends after"),
    BAD(string_of_2_63_bytes, "key \"x\": the value takes 9223372036854775808 bytes"),
    BAD(string_of_most_bytes, "key \"x\": the value takes 18446744073709551615 bytes"),
    BAD(array_of_unknown_type, "key \"x\": array element type 99 is unknown"),
    BAD(array_of_2_31_floats, "key \"x\": an array takes 8589934592 bytes"),
    BAD(array_of_2_62_floats, "key \"x\": an array takes 18446744073709551615 bytes"),
    BAD(array_of_2_63_bytes, "key \"x\": an array takes 9223372036854775808 bytes"),
    BAD(array_of_2_31_strings, "key \"x\": an array takes 17179869184 bytes"),
    BAD(array_of_2_63_strings, "key \"x\": an array takes 18446744073709551615 bytes"),
    BAD(array_of_2_63_arrays, "key \"x\": an array takes 18446744073709551615 bytes"),
    BAD(array_with_a_long_string, "key \"x\": a string in an array takes 9223372036854775808 bytes"),
    BAD(array_with_a_bad_bool, "byte 95: key \"x\": a bool is 7"),
    UNSUPPORTED(arrays_nested_5_deep, "key \"x\": arrays are nested more than 4 deep"),
    BAD(alignment_0, "key \"general.alignment\": 0 is no power of two"),
    BAD(alignment_48, "key \"general.alignment\": 48 is no power of two"),
    BAD(alignment_2_31, "key \"general.alignment\": 2147483648 is no power of two up to 1048576"),
    BAD(alignment_2_63, "key \"general.alignment\": 9223372036854775808 does not fit u32"),
    BAD(alignment_of_text, "key \"general.alignment\": expected u32, found string"),

    BAD(tensor_name_empty, "a tensor's name has 0 bytes; allowed are 1 to 256"),
    BAD(tensor_name_too_long, "a tensor's name has 257 bytes"),
    BAD(tensor_name_not_utf8, "a tensor's name is not printable UTF-8"),
    BAD(tensor_name_of_2_63_bytes, "a tensor's name has 9223372036854775808 bytes"),
    BAD(tensor_twice, "tensor \"one\": is there twice"),
    BAD(tensor_of_0_dimensions, "tensor \"t\": 0 dimensions; allowed are 1 to 4"),
    BAD(tensor_of_5_dimensions, "tensor \"t\": 5 dimensions; allowed are 1 to 4"),
    BAD(tensor_of_2_31_dimensions, "tensor \"t\": 2147483648 dimensions"),
    BAD(dimensions_of_2_64, "tensor \"t\": more than 2^64 elements (dimension 2 is 8589934592)"),
    BAD(dimension_of_2_63, "tensor \"t\": more than 2^64 bytes"),
    BAD(dimension_of_2_62, "tensor \"t\": more than 2^64 bytes"),
    BAD(dimension_of_2_61, "tensor \"t\": 9223372036854775808 bytes at offset 0"),
    BAD(dimension_of_2_31, "tensor \"t\": 8589934592 bytes at offset 0 of the data"),
    UNSUPPORTED(type_of_q8_1, "tensor \"t\": tensor type Q8_1 is not supported"),
    UNSUPPORTED(type_removed, "tensor \"t\": tensor type Q4_2 is not supported"),
    BAD(type_unknown, "tensor \"t\": tensor type 4711 is unknown"),
    BAD(rows_of_half_a_block, "tensor \"t\": rows of 48 elements are no multiple of Q4_0's blocks of 32"),
    BAD(offset_unaligned, "tensor \"t\": offset 36 is no multiple of the alignment 32"),
    BAD(offset_past_the_end, "tensor \"t\": 4 bytes at offset 1048576 of the data"),
    BAD(offset_of_2_63, "tensor \"t\": 4 bytes at offset 9223372036854775808 of the data"),
    BAD(offset_of_most, "tensor \"t\": 32 bytes at offset 18446744073709551584 of the data"),
    BAD(data_one_element_past_the_end, "tensor \"t\": 100 bytes at offset 0 of the data"),
    BAD(data_overlap_the_next, "tensor \"two\": its data at byte 320 overlap those of \"t\""),
    BAD(data_of_two_the_same, "overlap those of \""),

    BAD(split_of_2, "is the first of 2 parts; given are 1"),
    BAD(split_number_1, "key \"split.no\": this is part 2 of a split model; open the first part"),
    BAD(split_count_of_text, "key \"split.count\": expected u32, found string"),
};

// Two keys (bytes 24 to 67), the change, then two tensors of 64 and 32 bytes.
static Str build_with(void (*change)(GgufBuilder *b)) {
    GgufBuilder b = gguf_builder_begin();
    gguf_builder_put_u32(&b, "a.number", 1);
    gguf_builder_put_bool(&b, "a.flags", true);
    gguf_builder_add_tensor(&b, "one", DTYPE_F32, 1, (uint64_t[]){16}, NULL);
    change(&b);
    gguf_builder_add_tensor(&b, "two", DTYPE_F32, 1, (uint64_t[]){8}, NULL);
    return gguf_builder_end(&b);
}

TEST(gguf_the_base_of_the_bad_files_is_good) {
    Edge edge = edge_begin(1 << 20);
    Error err = {0};
    CHECK(edge_parse(&edge, build_with(no_change), &err));
}

TEST(gguf_bad_files_get_clear_errors) {
    Edge edge = edge_begin(1 << 20);
    for (size_t i = 0; i < COUNT_OF(bad_cases); i++) {
        TEST_CASE_LABEL("%s", bad_cases[i].name);
        Error err = {0};
        CHECK(!edge_parse(&edge, build_with(bad_cases[i].change), &err));
        CHECK_INT_EQ(bad_cases[i].code, err.code);
        CHECK(str_starts_with(str_from_c(err.message), STR("bad.gguf: ")));
        if (!strstr(err.message, bad_cases[i].message)) FAIL("message: %s", err.message);
    }
}

TEST(gguf_long_names_do_not_hide_the_message) {
    enum { KEY_BYTES = 60000 };
    GgufBuilder b = gguf_builder_begin();
    char *key = os_reserve(KEY_BYTES + 1);
    REQUIRE(key);
    for (size_t i = 0; i < KEY_BYTES; i += 3)
        memcpy(key + i, "€", 3);
    gguf_builder_put_key(&b, str_from_c(key), 99);
    Str bytes = gguf_builder_end(&b);
    char path[400];
    for (size_t i = 0; i < sizeof path; i++)
        path[i] = "é"[i % 2];
    path[sizeof path - 1] = 0;
    Arena arena = os_arena(ARENA_BYTES);
    GgufPart part = {(const uint8_t *)bytes.ptr, bytes.len, path};
    const GgufFile *file;
    Error err = {0};
    CHECK(!gguf_parse(&part, 1, &arena, &file, &err));
    CHECK(strstr(err.message, "...\": value type 99 is unknown"));
    CHECK(str_starts_with(str_from_c(err.message), STR("...é")));
}

// ---- memory ----

TEST(gguf_every_failed_allocation_is_an_error) {
    TinyModel m = tiny_model_llama();
    Str bytes = tiny_model_build(&m);
    GgufPart part = {(const uint8_t *)bytes.ptr, bytes.len, "bad.gguf"};
    bool ok = false;
    uint64_t allowed = 0;
    for (; !ok && allowed < 100; allowed++) {
        TEST_CASE_LABEL("%llu allocations", (unsigned long long)allowed);
        uint64_t countdown = allowed;
        Arena arena = os_arena(ARENA_BYTES);
        arena.fail_countdown = &countdown;
        const GgufFile *file;
        Error err = {0};
        ok = gguf_parse(&part, 1, &arena, &file, &err);
        if (!ok) CHECK_INT_EQ(ERR_NO_MEMORY, err.code);
    }
    CHECK(ok);
    CHECK(allowed > 5);
}

static bool is_mapped(const char *path) {
    Arena arena = os_arena(1 << 20);
    Str maps = {0};
    Error err;
    REQUIRE(os_file_read("/proc/self/maps", 1 << 19, &arena, &maps, &err));
    return memmem(maps.ptr, maps.len, path, strlen(path)) != NULL;
}

TEST(gguf_open_survives_every_failed_allocation) {
    TinyModel m = tiny_model_llama();
    const char *path = test_tmp_path("tiny.gguf");
    tiny_model_save(&m, path);
    bool ok = false;
    for (uint64_t allowed = 0; !ok && allowed < 100; allowed++) {
        uint64_t countdown = allowed;
        Arena arena = os_arena(ARENA_BYTES);
        arena.fail_countdown = &countdown;
        const GgufFile *file;
        Error err = {0};
        ok = gguf_open(path, &arena, &file, &err);
        CHECK_INT_EQ(ok, is_mapped(path));
        if (ok) gguf_close(file);
        else CHECK_INT_EQ(ERR_NO_MEMORY, err.code);
        CHECK(!is_mapped(path));
    }
    CHECK(ok);
}

// ---- noise ----

// A seeded walk over files with a few bytes changed: whatever comes of it, it is an answer.
TEST_SLOW(gguf_flipped_bytes_never_crash, 120) {
    TinyModel m = tiny_model_llama();
    m.vocab = 320;
    Str bytes = tiny_model_build(&m);
    Edge edge = edge_begin(bytes.len);
    size_t head = min_u64(bytes.len, 12000);
    uint32_t refused = 0;
    for (uint64_t round = 0; round < 3000; round++) {
        TEST_CASE_LABEL("round %llu", (unsigned long long)round);
        char saved[8];
        size_t at[8];
        uint32_t n = 1 + rng_philox(1, round).word[0] % 8;
        for (uint32_t i = 0; i < n; i++) {
            RngBlock r = rng_philox(2 + round, i);
            at[i] = r.word[0] % (r.word[1] % 4 ? head : 64);
            saved[i] = bytes.ptr[at[i]];
            ((char *)(uintptr_t)bytes.ptr)[at[i]] = (char)(r.word[2] % 3 ? r.word[3] : 0xFF);
        }
        Error err = {0};
        if (!edge_parse(&edge, bytes, &err)) {
            refused++;
            CHECK(err.message[0] != 0);
        }
        for (uint32_t i = n; i-- > 0;)
            ((char *)(uintptr_t)bytes.ptr)[at[i]] = saved[i];
    }
    TEST_CASE_LABEL("%s", "");
    CHECK(refused > 300);
}
