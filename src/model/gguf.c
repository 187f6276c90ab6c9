#include "model/gguf.h"

#include "base/hash.h"
#include "base/utf8.h"
#include "model/gguf_internal.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>

// ---- types ----

static const struct {
    const char *name;
    uint32_t size;
} gguf_type_table[GGUF_TYPE_COUNT] = {
#define GGUF_TYPE_ROW(id, symbol, text, bytes) [GGUF_##symbol] = {text, bytes},
    GGUF_TYPES(GGUF_TYPE_ROW)
#undef GGUF_TYPE_ROW
};

const char *gguf_type_name(GgufType type) {
    assert((unsigned)type < GGUF_TYPE_COUNT);
    return gguf_type_table[type].name;
}

uint32_t gguf_type_size(GgufType type) {
    assert((unsigned)type < GGUF_TYPE_COUNT);
    return gguf_type_table[type].size;
}

// ---- messages ----

enum { SHOWN_PATH_BYTES = 160, SHOWN_NAME_BYTES = 120 };

// The last part of a long path, so that it does not push the rest of a message out.
static const char *shown_path(const char *path, const char **dots) {
    size_t length = strlen(path), skip = length > SHOWN_PATH_BYTES ? length - SHOWN_PATH_BYTES : 0;
    *dots = skip ? "..." : "";
    while (((unsigned char)path[skip] & 0xC0) == 0x80)
        skip++;
    return path + skip;
}

static Str shown_name(Str name) {
    return str_slice(name, 0, utf8_valid_prefix(str_slice(name, 0, min_u64(name.len, SHOWN_NAME_BYTES))));
}

bool gguf_error_at(const GgufPlace *place, Error *err, ErrCode code, const char *format, va_list args) {
    char text[ERROR_MESSAGE_BYTES], where[40] = "";
    vsnprintf(text, sizeof text, format, args);
    error_set_at(err, code, place->position, "%s", text);
    if (place->kind) {
        Str name = shown_name(place->name);
        const char *dots = name.len < place->name.len ? "..." : "";
        error_prefix(err, "%s \"%.*s%s\"", place->kind, STR_ARG(name), dots);
    }
    if (place->position != ERROR_NO_POSITION)
        snprintf(where, sizeof where, ": byte %llu", (unsigned long long)place->position);
    const char *dots, *path = shown_path(place->file, &dots);
    return error_prefix(err, "%s%s%s", dots, path, where);
}

bool gguf_value_error(const GgufFile *file, const GgufValue *value, Error *err, const char *format, ...) {
    GgufPlace place = {file->parts[0].name, value->file_offset, "key", value->key};
    va_list args;
    va_start(args, format);
    gguf_error_at(&place, err, ERR_BAD_FILE, format, args);
    va_end(args);
    return false;
}

bool gguf_tensor_error(const GgufFile *file, const GgufTensor *tensor, Error *err, const char *format, ...) {
    GgufPlace place = {file->parts[tensor->part].name, tensor->table_offset, "tensor", tensor->name};
    va_list args;
    va_start(args, format);
    gguf_error_at(&place, err, ERR_BAD_FILE, format, args);
    va_end(args);
    return false;
}

// ---- looking up ----

uint32_t gguf_slot_count(uint32_t n_rows) {
    uint32_t count = 8;
    while (count < 2 * n_rows)
        count *= 2;
    return count;
}

uint32_t *gguf_find_slot(const uint32_t *slots, uint32_t mask, const void *rows, size_t row_size, Str name) {
    uint32_t at = (uint32_t)hash_bytes(name.ptr, name.len) & mask;
    for (; slots[at]; at = (at + 1) & mask) {
        Str taken;
        memcpy(&taken, (const char *)rows + (slots[at] - 1) * row_size, sizeof taken);
        if (str_eq(taken, name)) break;
    }
    return (uint32_t *)(uintptr_t)&slots[at];
}

static_assert(offsetof(GgufValue, key) == 0 && offsetof(GgufTensor, name) == 0, "rows start with their name");
static_assert(GGUF_METADATA_MAX <= UINT32_MAX / 4 && GGUF_TENSORS_MAX <= UINT32_MAX / 4, "slot counts fit");

const GgufValue *gguf_find_value(const GgufFile *file, Str key) {
    uint32_t slot =
        *gguf_find_slot(file->value_slots, file->value_mask, file->values, sizeof *file->values, key);
    return slot ? &file->values[slot - 1] : NULL;
}

const GgufTensor *gguf_find_tensor(const GgufFile *file, Str name) {
    uint32_t slot =
        *gguf_find_slot(file->tensor_slots, file->tensor_mask, file->tensors, sizeof *file->tensors, name);
    return slot ? &file->tensors[slot - 1] : NULL;
}

// ---- values for messages ----

enum { SHOWN_TEXT_BYTES = 48 };

static void put_shown_text(Str text, StrBuf *out) {
    Str shown = shown_name(str_slice(text, 0, min_u64(text.len, SHOWN_TEXT_BYTES)));
    strbuf_put_char(out, '"');
    strbuf_put_shown(out, shown);
    strbuf_put(out, text.len > SHOWN_TEXT_BYTES ? STR("...\"") : STR("\""));
}

void gguf_put_value(const GgufValue *v, StrBuf *out) {
    switch (v->type) {
    case GGUF_F32:
    case GGUF_F64: strbuf_printf(out, "%.7g", v->f64); break;
    case GGUF_BOOL: strbuf_put(out, v->u64 ? STR("yes") : STR("no")); break;
    case GGUF_I8:
    case GGUF_I16:
    case GGUF_I32:
    case GGUF_I64: strbuf_printf(out, "%lld", (long long)v->i64); break;
    case GGUF_STRING: put_shown_text(v->str, out); break;
    case GGUF_ARRAY:
        strbuf_printf(out, "[%llu %s]", (unsigned long long)v->array.count, gguf_type_name(v->array.type));
        break;
    default: strbuf_printf(out, "%llu", (unsigned long long)v->u64); break;
    }
}

// ---- typed values ----

static bool type_mismatch(const GgufFile *file, const GgufValue *v, Error *err, const char *expected) {
    if (v->type != GGUF_ARRAY)
        return gguf_value_error(file, v, err, "expected %s, found %s", expected, gguf_type_name(v->type));
    return gguf_value_error(file, v, err, "expected %s, found an array of %s", expected,
                            gguf_type_name(v->array.type));
}

// An integer of any type between `least` and `most`, as two's complement.
static bool value_integer(const GgufFile *file, const GgufValue *v, const char *type, int64_t least,
                          uint64_t most, uint64_t *out, Error *err) {
    switch (v->type) {
    case GGUF_U8:
    case GGUF_U16:
    case GGUF_U32:
    case GGUF_U64:
        if (v->u64 > most)
            return gguf_value_error(file, v, err, "%llu does not fit %s", (unsigned long long)v->u64, type);
        break;
    case GGUF_I8:
    case GGUF_I16:
    case GGUF_I32:
    case GGUF_I64:
        if (v->i64 < least || (v->i64 > 0 && (uint64_t)v->i64 > most))
            return gguf_value_error(file, v, err, "%lld does not fit %s", (long long)v->i64, type);
        break;
    default: return type_mismatch(file, v, err, type);
    }
    *out = v->u64;
    return true;
}

static bool value_u32(const GgufFile *file, const GgufValue *v, uint32_t *out, Error *err) {
    uint64_t bits = 0;
    if (!value_integer(file, v, "u32", 0, UINT32_MAX, &bits, err)) return false;
    *out = (uint32_t)bits;
    return true;
}

static bool value_u64(const GgufFile *file, const GgufValue *v, uint64_t *out, Error *err) {
    return value_integer(file, v, "u64", 0, UINT64_MAX, out, err);
}

static bool value_i32(const GgufFile *file, const GgufValue *v, int32_t *out, Error *err) {
    uint64_t bits = 0;
    if (!value_integer(file, v, "i32", INT32_MIN, INT32_MAX, &bits, err)) return false;
    *out = (int32_t)bits;
    return true;
}

static bool value_f32(const GgufFile *file, const GgufValue *v, float *out, Error *err) {
    if (v->type != GGUF_F32 && v->type != GGUF_F64) return type_mismatch(file, v, err, "f32");
    if (!isfinite((float)v->f64)) return gguf_value_error(file, v, err, "%g is no finite f32", v->f64);
    *out = (float)v->f64;
    return true;
}

static bool value_bool(const GgufFile *file, const GgufValue *v, bool *out, Error *err) {
    if (v->type != GGUF_BOOL) return type_mismatch(file, v, err, "bool");
    *out = v->u64 != 0;
    return true;
}

static bool value_str(const GgufFile *file, const GgufValue *v, Str *out, Error *err) {
    if (v->type != GGUF_STRING) return type_mismatch(file, v, err, "string");
    *out = v->str;
    return true;
}

static bool is_32_bit_integer(GgufType type) {
    return type == GGUF_I32 || type == GGUF_U32;
}

static bool value_array(const GgufFile *file, const GgufValue *v, GgufType type, GgufArray *out, Error *err) {
    bool fits = v->type == GGUF_ARRAY &&
                (v->array.type == type || (is_32_bit_integer(v->array.type) && is_32_bit_integer(type)));
    if (!fits) {
        char expected[32];
        snprintf(expected, sizeof expected, "an array of %s", gguf_type_name(type));
        return type_mismatch(file, v, err, expected);
    }
    *out = v->array;
    return true;
}

static bool key_is_missing(const GgufFile *file, Str key, Error *err) {
    const char *dots, *path = shown_path(file->parts[0].name, &dots);
    Str name = shown_name(key);
    return error_set(err, ERR_BAD_FILE, "%s%s: key \"%.*s\" is missing", dots, path, STR_ARG(name));
}

#define GETTERS(name, Type)                                                          \
    bool gguf_get_##name(const GgufFile *file, Str key, Type *out, Error *err) {     \
        const GgufValue *v = gguf_find_value(file, key);                             \
        return v ? value_##name(file, v, out, err) : key_is_missing(file, key, err); \
    }                                                                                \
    bool gguf_opt_##name(const GgufFile *file, Str key, Type *out, Error *err) {     \
        const GgufValue *v = gguf_find_value(file, key);                             \
        return v ? value_##name(file, v, out, err) : true;                           \
    }
GETTERS(u32, uint32_t)
GETTERS(u64, uint64_t)
GETTERS(i32, int32_t)
GETTERS(f32, float)
GETTERS(bool, bool)
GETTERS(str, Str)
#undef GETTERS

bool gguf_get_array(const GgufFile *file, Str key, GgufType type, GgufArray *out, Error *err) {
    const GgufValue *v = gguf_find_value(file, key);
    return v ? value_array(file, v, type, out, err) : key_is_missing(file, key, err);
}

bool gguf_opt_array(const GgufFile *file, Str key, GgufType type, GgufArray *out, Error *err) {
    const GgufValue *v = gguf_find_value(file, key);
    return v ? value_array(file, v, type, out, err) : true;
}

// ---- elements of arrays ----

Str gguf_array_str(const GgufArray *array, uint64_t i) {
    assert(array->type == GGUF_STRING && i < array->count);
    const uint8_t *at = array->data + array->string_offsets[i];
    uint64_t length;
    memcpy(&length, at, sizeof length);
    return (Str){(const char *)at + sizeof length, length};
}

float gguf_array_f32(const GgufArray *array, uint64_t i) {
    assert((array->type == GGUF_F32 || array->type == GGUF_F64) && i < array->count);
    float single;
    double twice;
    if (array->type == GGUF_F32) {
        memcpy(&single, array->data + i * sizeof single, sizeof single);
        return single;
    }
    memcpy(&twice, array->data + i * sizeof twice, sizeof twice);
    return (float)twice;
}

int64_t gguf_array_i64(const GgufArray *array, uint64_t i) {
    uint32_t size = gguf_type_size(array->type);
    assert(size && array->type != GGUF_F32 && array->type != GGUF_F64 && i < array->count);
    uint64_t bits = 0; // little-endian: the low bytes
    memcpy(&bits, array->data + i * size, size);
    switch (array->type) {
    case GGUF_I8: return (int8_t)bits;
    case GGUF_I16: return (int16_t)bits;
    case GGUF_I32: return (int32_t)bits;
    case GGUF_I64: return (int64_t)bits;
    default: return (int64_t)min_u64(bits, INT64_MAX);
    }
}

// ---- what is in it ----

void gguf_count_types(const GgufFile *file, GgufTypeShare shares[DTYPE_COUNT]) {
    memset(shares, 0, DTYPE_COUNT * sizeof *shares);
    for (uint32_t i = 0; i < file->n_tensors; i++) {
        const GgufTensor *t = &file->tensors[i];
        shares[t->dtype].tensors++;
        shares[t->dtype].elements += gguf_tensor_elements(t);
        shares[t->dtype].bytes += t->size_bytes;
    }
}

// Values of general.file_type (llama_ftype), the recipe's name, and the format that most of its layers'
// weights have. A recipe without a row has a format that cannot be read here.
static const struct {
    uint32_t file_type;
    const char *name;
    Dtype dtype;
} recipes[] = {
    {0, "F32", DTYPE_F32},        {1, "F16", DTYPE_F16},          {2, "Q4_0", DTYPE_Q4_0},
    {3, "Q4_1", DTYPE_Q4_1},      {7, "Q8_0", DTYPE_Q8_0},        {8, "Q5_0", DTYPE_Q5_0},
    {9, "Q5_1", DTYPE_Q5_1},      {10, "Q2_K", DTYPE_Q2_K},       {11, "Q3_K_S", DTYPE_Q3_K},
    {12, "Q3_K_M", DTYPE_Q3_K},   {13, "Q3_K_L", DTYPE_Q3_K},     {14, "Q4_K_S", DTYPE_Q4_K},
    {15, "Q4_K_M", DTYPE_Q4_K},   {16, "Q5_K_S", DTYPE_Q5_K},     {17, "Q5_K_M", DTYPE_Q5_K},
    {18, "Q6_K", DTYPE_Q6_K},     {19, "IQ2_XXS", DTYPE_IQ2_XXS}, {20, "IQ2_XS", DTYPE_IQ2_XS},
    {21, "Q2_K_S", DTYPE_Q2_K},   {22, "IQ3_XS", DTYPE_IQ3_XXS},  {23, "IQ3_XXS", DTYPE_IQ3_XXS},
    {24, "IQ1_S", DTYPE_IQ1_S},   {25, "IQ4_NL", DTYPE_IQ4_NL},   {26, "IQ3_S", DTYPE_IQ3_S},
    {27, "IQ3_M", DTYPE_IQ3_S},   {28, "IQ2_S", DTYPE_IQ2_XS},    {29, "IQ2_M", DTYPE_IQ2_S},
    {30, "IQ4_XS", DTYPE_IQ4_XS}, {31, "IQ1_M", DTYPE_IQ1_M},     {32, "BF16", DTYPE_BF16},
    {36, "TQ1_0", DTYPE_TQ1_0},   {37, "TQ2_0", DTYPE_TQ2_0},     {38, "MXFP4", DTYPE_MXFP4},
    {39, "NVFP4", DTYPE_NVFP4},   {40, "Q1_0", DTYPE_Q1_0},       {41, "Q2_0", DTYPE_Q2_0},
};

// What quantisers store where a row is no multiple of the 256 elements that `dtype` needs; itself where they
// need not.
static Dtype narrow_row_dtype(Dtype dtype) {
    switch (dtype) {
    case DTYPE_Q2_K:
    case DTYPE_Q3_K:
    case DTYPE_IQ1_S:
    case DTYPE_IQ1_M:
    case DTYPE_IQ2_XXS:
    case DTYPE_IQ2_XS:
    case DTYPE_IQ2_S:
    case DTYPE_IQ3_XXS:
    case DTYPE_IQ3_S:
    case DTYPE_IQ4_XS: return DTYPE_IQ4_NL;
    case DTYPE_TQ1_0:
    case DTYPE_TQ2_0: return DTYPE_Q4_0;
    case DTYPE_Q4_K: return DTYPE_Q5_0;
    case DTYPE_Q5_K: return DTYPE_Q5_1;
    case DTYPE_Q6_K: return DTYPE_Q8_0;
    default: return dtype;
    }
}

// The format with the most elements among matrices (of layers only, or all), where a narrow row's stand-in
// for `claimed` counts as `claimed`. False when there is no such matrix.
static bool dominant_dtype(const GgufFile *file, bool layers_only, Dtype claimed, Dtype *out) {
    uint64_t elements[DTYPE_COUNT] = {0};
    const uint32_t width = dtype_info(claimed)->block_elements;
    bool found = false;
    for (uint32_t i = 0; i < file->n_tensors; i++) {
        const GgufTensor *t = &file->tensors[i];
        if (t->n_dims < 2 || (layers_only && !str_starts_with(t->name, STR("blk.")))) continue;
        bool stands_in = t->dims[0] % width && t->dtype == narrow_row_dtype(claimed);
        elements[stands_in ? claimed : t->dtype] += gguf_tensor_elements(t);
        found = true;
    }
    *out = claimed;
    for (unsigned i = 0; i < DTYPE_COUNT; i++)
        if (elements[i] > elements[*out]) *out = (Dtype)i;
    return found;
}

const char *gguf_quant_kind(const GgufFile *file) {
    Error ignored; // a file type of a wrong type claims nothing
    uint32_t file_type = UINT32_MAX;
    if (!gguf_opt_u32(file, STR("general.file_type"), &file_type, &ignored)) file_type = UINT32_MAX;
    const char *claimed_name = NULL;
    Dtype claimed = DTYPE_F32, found;
    for (size_t i = 0; i < COUNT_OF(recipes); i++) {
        if (recipes[i].file_type != file_type) continue;
        claimed_name = recipes[i].name;
        claimed = recipes[i].dtype;
    }
    if (!dominant_dtype(file, true, claimed, &found) && !dominant_dtype(file, false, claimed, &found))
        return "none";
    return claimed_name && found == claimed ? claimed_name : dtype_info(found)->name;
}
