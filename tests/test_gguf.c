// Well-formed GGUF files: every kind of metadata, tensors, split models, lookups.

#include "runner.h"

#include "gguf_builder.h"
#include "model/gguf.h"

#include <math.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

enum { ARENA_BYTES = 16 << 20 };

static const GgufFile *parse_ok(Str bytes) {
    Arena arena = os_arena(ARENA_BYTES);
    GgufPart part = {(const uint8_t *)bytes.ptr, bytes.len, "memory"};
    GgufPart *kept = arena_new(&arena, GgufPart, 1);
    REQUIRE(kept);
    *kept = part;
    const GgufFile *file = NULL;
    Error err = {0};
    if (!gguf_parse(kept, 1, &arena, &file, &err)) FAIL("%s", err.message);
    REQUIRE(file);
    return file;
}

// ---- metadata ----

static void put_array_of(GgufBuilder *b, const char *key, GgufType type, uint64_t count, const void *data,
                         size_t size) {
    gguf_builder_put_key(b, str_from_c(key), GGUF_ARRAY);
    gguf_bytes_put_u32(&b->keys, type);
    gguf_bytes_put_u64(&b->keys, count);
    gguf_bytes_put(&b->keys, data, size);
}

static void put_number(GgufBuilder *b, const char *key, GgufType type, const void *data, size_t size) {
    gguf_builder_put_key(b, str_from_c(key), type);
    gguf_bytes_put(&b->keys, data, size);
}

TEST(gguf_integers_of_every_type_read_where_they_fit) {
    static const struct {
        const char *name;
        GgufType type;
        int64_t value; // -1 stands for all bits set
        bool u32, u64, i32;
    } rows[] = {
        {"u8", GGUF_U8, 255, true, true, true},
        {"i8 negative", GGUF_I8, -128, false, false, true},
        {"u16", GGUF_U16, 65535, true, true, true},
        {"i16 negative", GGUF_I16, -32768, false, false, true},
        {"u32 small", GGUF_U32, 7, true, true, true},
        {"u32 above i32", GGUF_U32, 0x80000000, true, true, false},
        {"i32", GGUF_I32, INT32_MAX, true, true, true},
        {"i32 least", GGUF_I32, INT32_MIN, false, false, true},
        {"u64 small", GGUF_U64, 5, true, true, true},
        {"u64 above u32", GGUF_U64, 0x100000000, false, true, false},
        {"u64 most", GGUF_U64, -1, false, true, false},
        {"i64 negative", GGUF_I64, -3, false, false, true},
        {"i64 below i32", GGUF_I64, INT64_MIN, false, false, false},
        {"i64 large", GGUF_I64, INT64_MAX, false, true, false},
    };
    static const size_t sizes[GGUF_TYPE_COUNT] = {
        [GGUF_U8] = 1,  [GGUF_I8] = 1,  [GGUF_U16] = 2, [GGUF_I16] = 2,
        [GGUF_U32] = 4, [GGUF_I32] = 4, [GGUF_U64] = 8, [GGUF_I64] = 8,
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        TEST_CASE_LABEL("%s", rows[i].name);
        GgufBuilder b = gguf_builder_begin();
        put_number(&b, "k", rows[i].type, &rows[i].value, sizes[rows[i].type]);
        const GgufFile *file = parse_ok(gguf_builder_end(&b));
        Error err;
        uint32_t u32 = 99;
        uint64_t u64 = 99;
        int32_t i32 = 99;
        CHECK_INT_EQ(rows[i].u32, gguf_get_u32(file, STR("k"), &u32, &err));
        CHECK_INT_EQ(rows[i].u64, gguf_get_u64(file, STR("k"), &u64, &err));
        CHECK_INT_EQ(rows[i].i32, gguf_get_i32(file, STR("k"), &i32, &err));
        CHECK_U64_EQ(rows[i].u32 ? rows[i].value : 99, u32);
        CHECK_U64_EQ(rows[i].u64 ? rows[i].value : 99, u64);
        CHECK_INT_EQ(rows[i].i32 ? rows[i].value : 99, i32);
    }
}

TEST(gguf_floats_bools_and_strings) {
    GgufBuilder b = gguf_builder_begin();
    gguf_builder_put_f32(&b, "single", 1.5f);
    put_number(&b, "double", GGUF_F64, &(double){0.1}, 8);
    gguf_builder_put_f32(&b, "nan", NAN);
    put_number(&b, "huge", GGUF_F64, &(double){1e300}, 8);
    gguf_builder_put_bool(&b, "yes", true);
    gguf_builder_put_bool(&b, "no", false);
    gguf_builder_put_str(&b, "text", "héllo");
    gguf_builder_put_str(&b, "empty", "");
    const GgufFile *file = parse_ok(gguf_builder_end(&b));
    CHECK_INT_EQ(8, file->n_values);
    CHECK_INT_EQ(0, file->n_tensors);
    CHECK_STR_EQ("none", gguf_quant_kind(file));

    Error err;
    float f = 0;
    bool flag = false;
    Str s = {0};
    CHECK(gguf_get_f32(file, STR("single"), &f, &err) && f == 1.5f);
    CHECK(gguf_get_f32(file, STR("double"), &f, &err) && f == 0.1f);
    CHECK(!gguf_get_f32(file, STR("nan"), &f, &err));
    CHECK(!gguf_get_f32(file, STR("huge"), &f, &err));
    CHECK(gguf_get_bool(file, STR("yes"), &flag, &err) && flag);
    CHECK(gguf_get_bool(file, STR("no"), &flag, &err) && !flag);
    CHECK(gguf_get_str(file, STR("text"), &s, &err));
    CHECK_STR_EQ("héllo", s);
    CHECK(gguf_get_str(file, STR("empty"), &s, &err) && s.len == 0);
}

TEST(gguf_optional_keys_keep_their_defaults) {
    GgufBuilder b = gguf_builder_begin();
    gguf_builder_put_u32(&b, "there", 3);
    const GgufFile *file = parse_ok(gguf_builder_end(&b));
    Error err = {0};
    uint32_t u32 = 8;
    uint64_t u64 = 8;
    int32_t i32 = 8;
    float f32 = 8;
    bool flag = true;
    Str s = STR("default");
    GgufArray array = {.count = 8};
    CHECK(gguf_opt_u32(file, STR("missing"), &u32, &err) && u32 == 8);
    CHECK(gguf_opt_u64(file, STR("missing"), &u64, &err) && u64 == 8);
    CHECK(gguf_opt_i32(file, STR("missing"), &i32, &err) && i32 == 8);
    CHECK(gguf_opt_f32(file, STR("missing"), &f32, &err) && f32 == 8);
    CHECK(gguf_opt_bool(file, STR("missing"), &flag, &err) && flag);
    CHECK(gguf_opt_str(file, STR("missing"), &s, &err) && s.len == 7);
    CHECK(gguf_opt_array(file, STR("missing"), GGUF_STRING, &array, &err) && array.count == 8);
    CHECK(gguf_opt_u32(file, STR("there"), &u32, &err) && u32 == 3);
    // A wrong type is an error even where the key may be missing.
    CHECK(!gguf_opt_f32(file, STR("there"), &f32, &err));
    CHECK(!gguf_opt_bool(file, STR("there"), &flag, &err));
    CHECK(!gguf_opt_str(file, STR("there"), &s, &err));
    CHECK(!gguf_opt_array(file, STR("there"), GGUF_U32, &array, &err));
    CHECK_STR_EQ("memory: byte 24: key \"there\": expected an array of u32, found u32", err.message);
    CHECK_U64_EQ(24, err.position);
}

TEST(gguf_missing_and_mistyped_keys_are_named) {
    GgufBuilder b = gguf_builder_begin();
    gguf_builder_put_str(&b, "a.name", "x");
    gguf_builder_put_strs(&b, "a.list", (Str[]){STR("p"), STR("q")}, 2);
    gguf_builder_put_i32(&b, "a.number", -1);
    const GgufFile *file = parse_ok(gguf_builder_end(&b));
    Error err;
    uint32_t n;
    Str s;
    GgufArray array;
    CHECK(!gguf_get_u32(file, STR("a.missing"), &n, &err));
    CHECK_STR_EQ("memory: key \"a.missing\" is missing", err.message);
    CHECK_INT_EQ(ERR_BAD_FILE, err.code);
    CHECK(!gguf_get_u32(file, STR("a.name"), &n, &err));
    CHECK_STR_EQ("memory: byte 24: key \"a.name\": expected u32, found string", err.message);
    CHECK(!gguf_get_str(file, STR("a.list"), &s, &err));
    CHECK_STR_EQ("memory: byte 51: key \"a.list\": expected string, found an array of string", err.message);
    CHECK(!gguf_get_array(file, STR("a.list"), GGUF_F32, &array, &err));
    CHECK_STR_EQ("memory: byte 51: key \"a.list\": expected an array of f32, found an array of string",
                 err.message);
    CHECK(!gguf_get_u32(file, STR("a.number"), &n, &err));
    CHECK_STR_EQ("memory: byte 99: key \"a.number\": -1 does not fit u32", err.message);
}

TEST(gguf_arrays_of_every_type) {
    GgufBuilder b = gguf_builder_begin();
    static const double doubles[] = {0.5, -2};
    static const float floats[] = {0.25f, 3};
    gguf_builder_put_u32(&b, "odd", 1); // so that nothing below is aligned
    gguf_builder_put_bool(&b, "odder", true);
    put_array_of(&b, "u8", GGUF_U8, 2, (uint8_t[]){1, 255}, 2);
    put_array_of(&b, "i8", GGUF_I8, 2, (int8_t[]){1, -1}, 2);
    put_array_of(&b, "u16", GGUF_U16, 2, (uint16_t[]){1, 65535}, 4);
    put_array_of(&b, "i16", GGUF_I16, 2, (int16_t[]){1, -300}, 4);
    put_array_of(&b, "u32", GGUF_U32, 2, (uint32_t[]){1, UINT32_MAX}, 8);
    put_array_of(&b, "i32", GGUF_I32, 2, (int32_t[]){1, -70000}, 8);
    put_array_of(&b, "u64", GGUF_U64, 2, (uint64_t[]){1, UINT64_MAX}, 16);
    put_array_of(&b, "i64", GGUF_I64, 2, (int64_t[]){1, INT64_MIN}, 16);
    put_array_of(&b, "bool", GGUF_BOOL, 2, (uint8_t[]){1, 0}, 2);
    put_array_of(&b, "f32", GGUF_F32, 2, floats, sizeof floats);
    put_array_of(&b, "f64", GGUF_F64, 2, doubles, sizeof doubles);
    gguf_builder_put_strs(&b, "strings", (Str[]){STR(""), STR("two\0bytes"), STR("three")}, 3);
    gguf_builder_put_strs(&b, "none", NULL, 0);
    const GgufFile *file = parse_ok(gguf_builder_end(&b));

    static const struct {
        const char *key;
        GgufType type;
        int64_t second;
    } rows[] = {
        {"u8", GGUF_U8, 255},         {"i8", GGUF_I8, -1},           {"u16", GGUF_U16, 65535},
        {"i16", GGUF_I16, -300},      {"u32", GGUF_U32, UINT32_MAX}, {"i32", GGUF_I32, -70000},
        {"u64", GGUF_U64, INT64_MAX}, {"i64", GGUF_I64, INT64_MIN},  {"bool", GGUF_BOOL, 0},
    };
    Error err = {0};
    GgufArray a;
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        TEST_CASE_LABEL("%s", rows[i].key);
        REQUIRE(gguf_get_array(file, str_from_c(rows[i].key), rows[i].type, &a, &err));
        CHECK_U64_EQ(2, a.count);
        CHECK_INT_EQ(1, gguf_array_i64(&a, 0));
        CHECK_INT_EQ(rows[i].second, gguf_array_i64(&a, 1));
    }
    TEST_CASE_LABEL("%s", "");
    CHECK(gguf_get_array(file, STR("u32"), GGUF_I32, &a, &err) && a.type == GGUF_U32);
    REQUIRE(gguf_get_array(file, STR("f32"), GGUF_F32, &a, &err));
    CHECK_NEAR(0.25, gguf_array_f32(&a, 0), 0);
    CHECK_NEAR(3, gguf_array_f32(&a, 1), 0);
    REQUIRE(gguf_get_array(file, STR("f64"), GGUF_F64, &a, &err));
    CHECK_NEAR(-2, gguf_array_f32(&a, 1), 0);
    REQUIRE(gguf_get_array(file, STR("strings"), GGUF_STRING, &a, &err));
    Str second = gguf_array_str(&a, 1), third = gguf_array_str(&a, 2);
    CHECK_U64_EQ(0, gguf_array_str(&a, 0).len);
    CHECK_BYTES_EQ("two\0bytes", 9, second.ptr, second.len);
    CHECK_STR_EQ("three", third);
    REQUIRE(gguf_get_array(file, STR("none"), GGUF_STRING, &a, &err));
    CHECK_U64_EQ(0, a.count);
}

// An array of arrays: [[1, 2], [], [[3]]] with the last one level deeper.
TEST(gguf_nested_arrays) {
    GgufBuilder b = gguf_builder_begin();
    gguf_builder_put_key(&b, STR("nested"), GGUF_ARRAY);
    gguf_bytes_put_u32(&b.keys, GGUF_ARRAY);
    gguf_bytes_put_u64(&b.keys, 3);
    gguf_bytes_put_u32(&b.keys, GGUF_U32);
    gguf_bytes_put_u64(&b.keys, 2);
    gguf_bytes_put_u32(&b.keys, 1);
    gguf_bytes_put_u32(&b.keys, 2);
    gguf_bytes_put_u32(&b.keys, GGUF_STRING);
    gguf_bytes_put_u64(&b.keys, 0);
    gguf_bytes_put_u32(&b.keys, GGUF_ARRAY);
    gguf_bytes_put_u64(&b.keys, 1);
    gguf_bytes_put_u32(&b.keys, GGUF_U8);
    gguf_bytes_put_u64(&b.keys, 1);
    gguf_bytes_put_u8(&b.keys, 3);
    const GgufFile *file = parse_ok(gguf_builder_end(&b));
    Error err = {0};
    GgufArray a;
    REQUIRE(gguf_get_array(file, STR("nested"), GGUF_ARRAY, &a, &err));
    REQUIRE(a.count == 3 && a.arrays[2].count == 1);
    CHECK_INT_EQ(GGUF_U32, a.arrays[0].type);
    CHECK_INT_EQ(2, gguf_array_i64(&a.arrays[0], 1));
    CHECK_U64_EQ(0, a.arrays[1].count);
    CHECK_INT_EQ(3, gguf_array_i64(&a.arrays[2].arrays[0], 0));
}

TEST(gguf_many_keys_are_all_found) {
    enum { N = 3000 };
    GgufBuilder b = gguf_builder_begin();
    char key[32];
    for (uint32_t i = 0; i < N; i++) {
        snprintf(key, sizeof key, "key.%u", i);
        gguf_builder_put_u32(&b, key, i * 7);
    }
    const GgufFile *file = parse_ok(gguf_builder_end(&b));
    CHECK_INT_EQ(N, file->n_values);
    for (uint32_t i = 0; i < N; i++) {
        Error err;
        uint32_t value = 0;
        snprintf(key, sizeof key, "key.%u", i);
        if (!gguf_get_u32(file, str_from_c(key), &value, &err) || value != i * 7) FAIL("%s", key);
    }
    CHECK(!gguf_find_value(file, STR("key.3000")));
    CHECK(!gguf_find_value(file, STR("")));
}

// ---- tensors ----

TEST(gguf_tensors_of_every_format) {
    for (unsigned i = 0; i < DTYPE_COUNT; i++) {
        const DtypeInfo *info = dtype_info((Dtype)i);
        TEST_CASE_LABEL("%s", info->name);
        uint64_t dims[] = {info->block_elements * 2, 3, 5, 2};
        uint64_t size = info->block_bytes * 2 * 3 * 5 * 2;
        GgufBuilder b = gguf_builder_begin();
        gguf_builder_add_vector(&b, "first", 5, 1);
        gguf_builder_add_tensor(&b, "t", (Dtype)i, 4, dims, NULL);
        Str bytes = gguf_builder_end(&b);
        const GgufFile *file = parse_ok(bytes);
        const GgufTensor *t = gguf_find_tensor(file, STR("t"));
        REQUIRE(t);
        CHECK_INT_EQ(i, t->dtype);
        CHECK_INT_EQ(4, t->n_dims);
        CHECK_BYTES_EQ(dims, sizeof dims, t->dims, sizeof t->dims);
        CHECK_U64_EQ(size, t->size_bytes);
        CHECK_U64_EQ(info->block_elements * 60, gguf_tensor_elements(t));
        CHECK_U64_EQ(bytes.len, t->file_offset + size);
        CHECK(t->data == (const uint8_t *)bytes.ptr + t->file_offset);
        CHECK_U64_EQ(0, t->file_offset % 32);
    }
}

TEST(gguf_unused_dimensions_are_1_and_names_are_found) {
    GgufBuilder b = gguf_builder_begin();
    gguf_builder_add_vector(&b, "v", 7, 0);
    gguf_builder_add_tensor(&b, "m", DTYPE_F16, 2, (uint64_t[]){4, 6}, NULL);
    const GgufFile *file = parse_ok(gguf_builder_end(&b));
    CHECK_INT_EQ(2, file->n_tensors);
    const GgufTensor *v = gguf_find_tensor(file, STR("v")), *m = gguf_find_tensor(file, STR("m"));
    REQUIRE(v && m);
    CHECK_BYTES_EQ(((uint64_t[]){7, 1, 1, 1}), 32, v->dims, 32);
    CHECK_BYTES_EQ(((uint64_t[]){4, 6, 1, 1}), 32, m->dims, 32);
    CHECK_U64_EQ(28, v->size_bytes);
    CHECK_U64_EQ(48, m->size_bytes);
    CHECK(!gguf_find_tensor(file, STR("w")));
    Error err;
    CHECK(!gguf_tensor_error(file, m, &err, "expected %d, found %d", 1, 2));
    CHECK_STR_EQ("memory: byte 57: tensor \"m\": expected 1, found 2", err.message);
    CHECK_U64_EQ(m->table_offset, err.position);
}

TEST(gguf_versions_and_alignments) {
    static const struct {
        const char *name;
        uint32_t version, alignment;
    } rows[] = {
        {"v2", 2, 32}, {"v3", 3, 32}, {"align 8", 3, 8}, {"align 64", 3, 64}, {"align 4096", 2, 4096}};
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        TEST_CASE_LABEL("%s", rows[i].name);
        GgufBuilder b = gguf_builder_begin();
        b.version = rows[i].version;
        if (rows[i].alignment != 32) gguf_builder_set_alignment(&b, rows[i].alignment);
        gguf_builder_add_vector(&b, "a", 3, 0);
        gguf_builder_add_vector(&b, "b", 3, 0);
        const GgufFile *file = parse_ok(gguf_builder_end(&b));
        CHECK_INT_EQ(rows[i].version, file->version);
        CHECK_INT_EQ(rows[i].alignment, file->alignment);
        CHECK_U64_EQ(0, file->tensors[0].file_offset % rows[i].alignment);
        CHECK_U64_EQ(align_up(12, rows[i].alignment),
                     file->tensors[1].file_offset - file->tensors[0].file_offset);
    }
}

// Data in another order than the table's, with a gap: legal, if no writer's habit.
TEST(gguf_tensor_data_in_any_order) {
    GgufBuilder b = gguf_builder_begin();
    uint64_t dim = 8;
    gguf_builder_add_data(&b, (uint8_t[192]){0}, 192);
    gguf_builder_add_row(&b, STR("last"), 1, &dim, 0, 160);
    gguf_builder_add_row(&b, STR("first"), 1, &dim, 0, 0);
    gguf_builder_add_row(&b, STR("middle"), 1, &dim, 0, 64);
    const GgufFile *file = parse_ok(gguf_builder_end(&b));
    CHECK_U64_EQ(160, file->tensors[0].file_offset - file->tensors[1].file_offset);
}

// ---- quantisation ----

TEST(gguf_quant_kind_is_what_the_layers_hold) {
    static const struct {
        const char *name, *expected;
        int file_type; // -1: none
        Dtype layers, down, embedding;
        uint64_t width;
    } rows[] = {
        {"claim and tensors agree", "Q4_K_M", 15, DTYPE_Q4_K, DTYPE_Q6_K, DTYPE_Q6_K, 256},
        {"small recipe", "Q4_K_S", 14, DTYPE_Q4_K, DTYPE_Q4_K, DTYPE_Q6_K, 256},
        {"narrow rows take the stand-in", "Q4_K_M", 15, DTYPE_Q5_0, DTYPE_Q8_0, DTYPE_Q8_0, 96},
        {"the stand-in in rows that are wide enough is no excuse", "Q5_0", 15, DTYPE_Q5_0, DTYPE_Q8_0,
         DTYPE_Q8_0, 256},
        {"a false claim", "Q8_0", 15, DTYPE_Q8_0, DTYPE_Q8_0, DTYPE_Q8_0, 256},
        {"no claim", "Q4_K", -1, DTYPE_Q4_K, DTYPE_Q6_K, DTYPE_Q6_K, 256},
        {"an unknown claim", "Q6_K", 4711, DTYPE_Q6_K, DTYPE_Q6_K, DTYPE_Q6_K, 256},
        {"the embedding does not decide", "Q4_1", 3, DTYPE_Q4_1, DTYPE_Q4_1, DTYPE_Q8_0, 64},
        {"experts", "MXFP4", 38, DTYPE_MXFP4, DTYPE_MXFP4, DTYPE_Q8_0, 64},
        {"codebooks", "IQ2_M", 29, DTYPE_IQ2_S, DTYPE_IQ2_S, DTYPE_IQ3_S, 256},
        {"narrow rows instead of codebooks", "IQ3_S", 26, DTYPE_IQ4_NL, DTYPE_IQ4_NL, DTYPE_Q8_0, 96},
        {"halves", "F16", 1, DTYPE_F16, DTYPE_F16, DTYPE_F16, 16},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        TEST_CASE_LABEL("%s", rows[i].name);
        uint64_t d = rows[i].width;
        GgufBuilder b = gguf_builder_begin();
        if (rows[i].file_type >= 0)
            gguf_builder_put_u32(&b, "general.file_type", (uint32_t)rows[i].file_type);
        gguf_builder_add_tensor(&b, "token_embd.weight", rows[i].embedding, 2, (uint64_t[]){d, 500}, NULL);
        gguf_builder_add_vector(&b, "blk.0.attn_norm.weight", 1 << 16, 1);
        gguf_builder_add_tensor(&b, "blk.0.ffn_up.weight", rows[i].layers, 2, (uint64_t[]){d, 40}, NULL);
        gguf_builder_add_tensor(&b, "blk.0.ffn_down.weight", rows[i].down, 2, (uint64_t[]){d, 20}, NULL);
        CHECK_STR_EQ(rows[i].expected, gguf_quant_kind(parse_ok(gguf_builder_end(&b))));
    }
}

TEST(gguf_type_shares_add_up) {
    TinyModel m = tiny_model_llama();
    Str bytes = tiny_model_build(&m);
    const GgufFile *file = parse_ok(bytes);
    GgufTypeShare shares[DTYPE_COUNT];
    gguf_count_types(file, shares);
    CHECK_INT_EQ(14, shares[DTYPE_Q4_K].tensors);
    CHECK_INT_EQ(2, shares[DTYPE_Q6_K].tensors);
    CHECK_INT_EQ(5, shares[DTYPE_F32].tensors);
    CHECK_U64_EQ(2 * 256 * 1024, shares[DTYPE_Q6_K].elements);
    CHECK_U64_EQ(2 * 1024 * 210, shares[DTYPE_Q6_K].bytes);
    CHECK_U64_EQ(5 * 256 * 4, shares[DTYPE_F32].bytes);
}

// ---- files and parts ----

// Part `index` of `count`, with `n_tensors` of the model's `total`; the first has the metadata.
static Str build_part(uint32_t index, uint32_t count, uint32_t n_tensors, uint32_t total) {
    GgufBuilder b = gguf_builder_begin();
    uint16_t no = (uint16_t)index, parts = (uint16_t)count;
    if (index == 0) gguf_builder_put_str(&b, "general.architecture", "split");
    put_number(&b, "split.no", GGUF_U16, &no, 2);
    put_number(&b, "split.count", GGUF_U16, &parts, 2);
    gguf_builder_put_i32(&b, "split.tensors.count", (int32_t)total);
    for (uint32_t i = 0; i < n_tensors; i++) {
        char name[32];
        float values[2] = {(float)index, (float)i};
        snprintf(name, sizeof name, "part%u.tensor%u", index, i);
        gguf_builder_add_tensor(&b, name, DTYPE_F32, 1, (uint64_t[]){2}, values);
    }
    return gguf_builder_end(&b);
}

static void check_split_model(const GgufFile *file) {
    CHECK_INT_EQ(3, file->n_parts);
    CHECK_INT_EQ(6, file->n_tensors);
    CHECK_INT_EQ(4, file->n_values);
    for (uint32_t part = 0; part < 3; part++)
        for (uint32_t i = 0; i <= part; i++) {
            char name[32];
            snprintf(name, sizeof name, "part%u.tensor%u", part, i);
            TEST_CASE_LABEL("%s", name);
            const GgufTensor *t = gguf_find_tensor(file, str_from_c(name));
            REQUIRE(t);
            CHECK_INT_EQ(part, t->part);
            CHECK(t->data == file->parts[part].data + t->file_offset);
            CHECK_BYTES_EQ(((float[]){(float)part, (float)i}), 8, t->data, t->size_bytes);
        }
    TEST_CASE_LABEL("%s", "");
}

static void save(Str bytes, const char *path) {
    REQUIRE(gguf_builder_save(bytes, path));
}

TEST(gguf_split_models_open_by_their_first_part) {
    char name[32];
    const char *first = test_tmp_path("m-00001-of-00003.gguf");
    for (uint32_t i = 0; i < 3; i++) {
        snprintf(name, sizeof name, "m-%05u-of-00003.gguf", i + 1);
        save(build_part(i, 3, i + 1, 6), test_tmp_path(name));
    }
    Arena arena = os_arena(ARENA_BYTES);
    const GgufFile *file = NULL;
    Error err = {0};
    if (!gguf_open(first, &arena, &file, &err)) FAIL("%s", err.message);
    REQUIRE(file);
    check_split_model(file);
    CHECK_STR_EQ(first, file->parts[0].name);
    CHECK_U64_EQ(file->parts[0].size + file->parts[1].size + file->parts[2].size, file->size_bytes);
    gguf_close(file);

    CHECK(!gguf_open(test_tmp_path("m-00002-of-00003.gguf"), &arena, &file, &err));
    CHECK(strstr(err.message, "this is part 2 of a split model; open the first part"));

    REQUIRE(unlink(test_tmp_path("m-00003-of-00003.gguf")) == 0);
    CHECK(!gguf_open(first, &arena, &file, &err));
    CHECK(strstr(err.message, "m-00003-of-00003.gguf"));

    REQUIRE(rename(first, test_tmp_path("renamed.gguf")) == 0);
    CHECK(!gguf_open(test_tmp_path("renamed.gguf"), &arena, &file, &err));
    CHECK(strstr(err.message, "it must end in \"-00001-of-00003.gguf\""));
}

// Merging parts leaves their keys behind in some programs: all tensors are there, so the file is whole.
TEST(gguf_a_stale_split_count_is_passed_over) {
    static const struct {
        const char *name;
        uint32_t number;
        int32_t total; // 0: no key
    } rows[] = {
        {"all tensors in the first", 0, 3}, {"all in what says to be the second", 1, 3}, {"no total", 0, 0}};
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        TEST_CASE_LABEL("%s", rows[i].name);
        GgufBuilder b = gguf_builder_begin();
        gguf_builder_put_u32(&b, "split.no", rows[i].number);
        gguf_builder_put_u32(&b, "split.count", 3);
        if (rows[i].total) gguf_builder_put_i32(&b, "split.tensors.count", rows[i].total);
        for (uint32_t t = 0; t < 3; t++) {
            char name[8];
            snprintf(name, sizeof name, "t%u", t);
            gguf_builder_add_tensor(&b, name, DTYPE_F32, 1, (uint64_t[]){2}, NULL);
        }
        const char *path = test_tmp_path("merged.gguf");
        save(gguf_builder_end(&b), path);
        Arena arena = os_arena(ARENA_BYTES);
        const GgufFile *file = NULL;
        Error err = {0};
        if (!gguf_open(path, &arena, &file, &err)) FAIL("%s", err.message);
        REQUIRE(file);
        CHECK_INT_EQ(1, file->n_parts);
        CHECK_INT_EQ(3, file->n_tensors);
        CHECK_INT_EQ(3, file->stale_split_count);
        gguf_close(file);
    }
}

// A tensor with a dimension of 0 holds nothing, may lie where another one does, and is as good as absent.
TEST(gguf_placeholders_hold_nothing) {
    static const uint64_t shapes[][4] = {{8, 0}, {0}, {0, 4}, {0, 1ull << 63, 4}};
    static const uint32_t n_dims[] = {2, 1, 2, 3};
    for (size_t i = 0; i < COUNT_OF(shapes); i++) {
        TEST_CASE_LABEL("shape %zu", i);
        GgufBuilder b = gguf_builder_begin();
        gguf_builder_add_row(&b, STR("t"), n_dims[i], shapes[i], dtype_info(DTYPE_F32)->ggml_id, 0);
        gguf_builder_add_tensor(&b, "u", DTYPE_F32, 1, (uint64_t[]){8}, NULL);
        const GgufFile *file = parse_ok(gguf_builder_end(&b));
        CHECK_INT_EQ(2, file->n_tensors);
        CHECK_U64_EQ(0, gguf_tensor_elements(&file->tensors[0]));
        CHECK_U64_EQ(0, file->tensors[0].size_bytes);
        CHECK_U64_EQ(32, file->tensors[1].size_bytes);
    }
}

TEST(gguf_parts_that_do_not_fit_together) {
    static const struct {
        const char *name;
        uint32_t n_given, no[3], count[3], tensors[3], total;
        const char *message; // NULL: well-formed
    } rows[] = {
        {"as it should be", 3, {0, 1, 2}, {3, 3, 3}, {1, 2, 3}, 6, NULL},
        {"one is missing", 2, {0, 1}, {3, 3}, {1, 2}, 6, "is the first of 3 parts; given are 2"},
        {"wrong order",
         3,
         {0, 2, 1},
         {3, 3, 3},
         {1, 3, 2},
         6,
         "expected part 2 of a split model, found part 3"},
        {"part of another model",
         3,
         {0, 1, 2},
         {3, 3, 4},
         {1, 2, 3},
         6,
         "belongs to a model of 4 parts, not 3"},
        {"too few tensors",
         3,
         {0, 1, 2},
         {3, 3, 3},
         {1, 2, 2},
         6,
         "expected 6 tensors in all parts, found 5"},
        {"too many tensors",
         3,
         {0, 1, 2},
         {3, 3, 3},
         {1, 2, 4},
         6,
         "split.tensors.count is 6; there are more"},
        {"the same part twice",
         3,
         {0, 1, 1},
         {3, 3, 3},
         {1, 2, 2},
         5,
         "expected part 3 of a split model, found part 2"},
        {"a total below the first part's", 3, {0, 1, 2}, {3, 3, 3}, {2, 0, 0}, 1, "1 tensors in all parts"},
        {"513 parts", 1, {0}, {513}, {1}, 2, "the model claims 513 parts; allowed are 512"},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        TEST_CASE_LABEL("%s", rows[i].name);
        GgufPart parts[3];
        for (uint32_t p = 0; p < rows[i].n_given; p++) {
            Str bytes = build_part(rows[i].no[p], rows[i].count[p], rows[i].tensors[p], rows[i].total);
            parts[p] = (GgufPart){(const uint8_t *)bytes.ptr, bytes.len, "part"};
        }
        Arena arena = os_arena(ARENA_BYTES);
        const GgufFile *file = NULL;
        Error err = {0};
        bool ok = gguf_parse(parts, rows[i].n_given, &arena, &file, &err);
        CHECK_INT_EQ(rows[i].message == NULL, ok);
        if (ok) check_split_model(file);
        else if (!rows[i].message || !strstr(err.message, rows[i].message)) FAIL("message: %s", err.message);
    }
}

// Parts are found by name, and one of another model may lie where ours did.
TEST(gguf_parts_of_different_models_are_refused) {
    static const struct {
        const char *key, *value; // of the second part
        int32_t total;
        const char *message; // NULL: well-formed
    } rows[] = {
        {"general.name", "part 2", 2, NULL},
        {"general.architecture", "split", 2, NULL},
        {"split.note", "x", 3, "3 tensors in all parts, but the first part says 2"},
        {"general.architecture", "other", 2, "\"general.architecture\": the first part has another value"},
        {"tokenizer.ggml.pre", "ab", 2, NULL},
        {"tokenizer.ggml.pre", "abc", 2, "\"tokenizer.ggml.pre\": the first part has another value, or none"},
        {"tokenizer.ggml.pre", "a", 2, "\"tokenizer.ggml.pre\": the first part has another value, or none"},
        {"own.rope.scale", "2", 2, "\"own.rope.scale\": the first part has another value, or none"},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        TEST_CASE_LABEL("%s %s", rows[i].key, rows[i].value);
        GgufPart parts[2];
        for (uint32_t p = 0; p < 2; p++) {
            GgufBuilder b = gguf_builder_begin();
            gguf_builder_put_u32(&b, "split.no", p);
            gguf_builder_put_u32(&b, "split.count", 2);
            gguf_builder_put_i32(&b, "split.tensors.count", p ? rows[i].total : 2);
            if (p) {
                gguf_builder_put_str(&b, rows[i].key, rows[i].value);
            } else {
                gguf_builder_put_str(&b, "general.architecture", "split");
                gguf_builder_put_str(&b, "tokenizer.ggml.pre", "ab");
            }
            gguf_builder_add_tensor(&b, p ? "u" : "t", DTYPE_F32, 1, (uint64_t[]){2}, NULL);
            Str bytes = gguf_builder_end(&b);
            parts[p] = (GgufPart){(const uint8_t *)bytes.ptr, bytes.len, p ? "part two" : "part one"};
        }
        Arena arena = os_arena(ARENA_BYTES);
        const GgufFile *file = NULL;
        Error err = {0};
        bool ok = gguf_parse(parts, 2, &arena, &file, &err);
        CHECK_INT_EQ(rows[i].message == NULL, ok);
        if (!ok &&
            !(rows[i].message && strstr(err.message, rows[i].message) && strstr(err.message, "part two")))
            FAIL("message: %s", err.message);
    }
}

TEST(gguf_open_refuses_what_is_no_file) {
    static const struct {
        const char *name;
        const char *message;
        ErrCode code;
    } rows[] = {{"folder", "is a directory", ERR_BAD_FILE},
                {"fifo", "not a regular file", ERR_BAD_FILE},
                {"empty", "is empty", ERR_BAD_FILE},
                {"missing", "cannot be opened", ERR_NO_FILE},
                {"unreadable", "cannot be opened", ERR_PERMISSION},
                {"text", "not a GGUF file", ERR_BAD_FILE}};
    REQUIRE(mkdir(test_tmp_path("folder"), 0700) == 0);
    REQUIRE(mkfifo(test_tmp_path("fifo"), 0600) == 0);
    save((Str){0}, test_tmp_path("empty"));
    save(STR("once upon a time there was a file"), test_tmp_path("text"));
    TinyModel m = tiny_model_llama();
    tiny_model_save(&m, test_tmp_path("unreadable"));
    REQUIRE(chmod(test_tmp_path("unreadable"), 0) == 0);
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        TEST_CASE_LABEL("%s", rows[i].name);
        if (geteuid() == 0 && strcmp(rows[i].name, "unreadable") == 0) continue; // root may read everything
        Arena arena = os_arena(ARENA_BYTES);
        const GgufFile *file;
        Error err = {0};
        CHECK(!gguf_open(test_tmp_path(rows[i].name), &arena, &file, &err));
        CHECK_INT_EQ(rows[i].code, err.code);
        if (!strstr(err.message, rows[i].message) || !strstr(err.message, rows[i].name))
            FAIL("%s", err.message);
    }
}

TEST(gguf_open_maps_a_file) {
    TinyModel m = tiny_model_llama();
    const char *path = test_tmp_path("tiny.gguf");
    tiny_model_save(&m, path);
    Arena arena = os_arena(ARENA_BYTES);
    const GgufFile *file = NULL;
    Error err = {0};
    if (!gguf_open(path, &arena, &file, &err)) FAIL("%s", err.message);
    REQUIRE(file);
    CHECK_STR_EQ(path, file->parts[0].name);
    CHECK_INT_EQ(21, file->n_tensors);
    Str name;
    CHECK(gguf_get_str(file, STR("general.name"), &name, &err));
    CHECK_STR_EQ("Llama-tiny", name);
    gguf_close(file);
}
