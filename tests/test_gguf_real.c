// A real file, read as the gguf package's reader reads it: vectors/gguf_smollm2.txt, a line a key and a line
// a tensor.

#include "runner.h"

#include "base/hash.h"
#include "base/strbuf.h"
#include "model/gguf.h"

enum { ARENA_BYTES = 64 << 20 };

static const char *const type_names[GGUF_TYPE_COUNT] = {
    [GGUF_U8] = "UINT8",      [GGUF_I8] = "INT8",     [GGUF_U16] = "UINT16",  [GGUF_I16] = "INT16",
    [GGUF_U32] = "UINT32",    [GGUF_I32] = "INT32",   [GGUF_F32] = "FLOAT32", [GGUF_BOOL] = "BOOL",
    [GGUF_STRING] = "STRING", [GGUF_ARRAY] = "ARRAY", [GGUF_U64] = "UINT64",  [GGUF_I64] = "INT64",
    [GGUF_F64] = "FLOAT64",
};

static void put_hash(StrBuf *out, Sha256 *hash) {
    uint8_t digest[32];
    char hex[65];
    sha256_end(hash, digest);
    hex_from_bytes(digest, 8, hex);
    strbuf_put(out, str_from_c(hex));
}

static void hash_string(Sha256 *hash, Str s) {
    uint64_t length = s.len;
    sha256_add(hash, &length, sizeof length);
    sha256_add(hash, s.ptr, s.len);
}

static void hash_element(Sha256 *hash, const GgufArray *a, uint64_t i) {
    if (a->type == GGUF_STRING) {
        hash_string(hash, gguf_array_str(a, i));
    } else if (a->type == GGUF_F32 || a->type == GGUF_F64) {
        double value = (double)gguf_array_f32(a, i);
        sha256_add(hash, &value, sizeof value);
    } else {
        int64_t value = gguf_array_i64(a, i);
        sha256_add(hash, &value, sizeof value);
    }
}

static void put_key_line(StrBuf *out, const GgufValue *v) {
    Sha256 hash;
    sha256_begin(&hash);
    strbuf_printf(out, "key %.*s: ", STR_ARG(v->key));
    if (v->type == GGUF_ARRAY) {
        strbuf_printf(out, "array of %llu %s, ", (unsigned long long)v->array.count,
                      type_names[v->array.type]);
        for (uint64_t i = 0; i < v->array.count; i++)
            hash_element(&hash, &v->array, i);
    } else {
        strbuf_printf(out, "%s, ", type_names[v->type]);
        if (v->type == GGUF_STRING) hash_string(&hash, v->str);
        else sha256_add(&hash, &v->u64, sizeof v->u64); // also an f64: as its bits
    }
    put_hash(out, &hash);
}

static void put_tensor_line(StrBuf *out, const GgufTensor *t, Arena scratch) {
    const DtypeInfo *info = dtype_info(t->dtype);
    float *row = arena_new(&scratch, float, t->dims[0]);
    REQUIRE(row);
    info->dequantize(t->data, row, t->dims[0] / info->block_elements);
    Sha256 hash;
    sha256_begin(&hash);
    sha256_add(&hash, row, t->dims[0] * sizeof *row);
    strbuf_printf(out, "tensor %.*s: %s,", STR_ARG(t->name), info->name);
    for (uint32_t i = 0; i < t->n_dims; i++)
        strbuf_printf(out, " %llu", (unsigned long long)t->dims[i]);
    strbuf_printf(out, ", byte %llu, ", (unsigned long long)t->file_offset);
    put_hash(out, &hash);
}

// Cuts the first line off.
static Str next_line(Str *text) {
    const char *end = text->len ? memchr(text->ptr, '\n', text->len) : NULL;
    size_t length = end ? (size_t)(end - text->ptr) : text->len;
    Str line = str_slice(*text, 0, length);
    *text = str_slice(*text, length + (end != NULL), text->len);
    return line;
}

TEST(gguf_reads_smollm2_as_the_gguf_package_does) {
    Arena arena = os_arena(ARENA_BYTES);
    const GgufFile *file = NULL;
    Str expected;
    Error err = {0};
    REQUIRE(os_file_read(test_data_path("vectors/gguf_smollm2.txt"), 1 << 20, &arena, &expected, &err));
    if (!gguf_open(test_model_path(), &arena, &file, &err)) FAIL("%s", err.message);
    REQUIRE(file);
    CHECK_INT_EQ(33, file->n_values);
    CHECK_INT_EQ(272, file->n_tensors);
    for (uint32_t i = 0; i < file->n_values + file->n_tensors; i++) {
        char text[512];
        StrBuf line = STRBUF(text);
        if (i < file->n_values) put_key_line(&line, &file->values[i]);
        else put_tensor_line(&line, &file->tensors[i - file->n_values], arena);
        CHECK_STR_EQ(next_line(&expected), strbuf_str(&line));
    }
    CHECK_INT_EQ(0, expected.len);
    CHECK_STR_EQ("Q4_1", gguf_quant_kind(file));
    gguf_close(file);
}
