// A GGUF model file: its metadata and the table of its tensors, checked and looked up by name.
//
// Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md, versions 2 and 3, little-endian, one
// file or split into parts ("name-00001-of-00003.gguf").
//
// Everything that a file claims is checked while it is opened: counts, lengths, types, alignment, that names
// are unique, that a tensor's rows are whole blocks and that its bytes lie inside the file and in no other
// tensor. Code that uses an open GgufFile checks only what it alone knows: which keys and tensors it needs,
// and their shapes.
//
// Memory: the tables live in the arena given to gguf_open; strings, arrays and tensor data are slices of the
// mapped file. All of it is valid until gguf_close, or until the arena goes. Typical cost: 4 bytes a string
// of an array plus about 150 bytes a key or tensor. A const GgufFile may be read by any number of threads.
// The file must not shrink while it is open: touching a page that is gone ends the process with SIGBUS.
//
// Errors are ERR_BAD_FILE (ERR_UNSUPPORTED for what is valid but not supported here; ERR_NO_MEMORY where the
// arena is full). Each message names the file, the key or tensor, and the byte position in that file:
// "tiny.gguf: byte 1234: key \"llama.block_count\": …"; Error.position has that position too.
#pragma once

#include "base/arena.h"
#include "base/error.h"
#include "base/limits.h"
#include "base/strbuf.h"
#include "model/dtype.h"
#include "os/os.h"

// ---- metadata ----

// id in the file, symbol, name, bytes of one value (0: of varying length)
#define GGUF_TYPES(ROW)         \
    ROW(0, U8, "u8", 1)         \
    ROW(1, I8, "i8", 1)         \
    ROW(2, U16, "u16", 2)       \
    ROW(3, I16, "i16", 2)       \
    ROW(4, U32, "u32", 4)       \
    ROW(5, I32, "i32", 4)       \
    ROW(6, F32, "f32", 4)       \
    ROW(7, BOOL, "bool", 1)     \
    ROW(8, STRING, "string", 0) \
    ROW(9, ARRAY, "array", 0)   \
    ROW(10, U64, "u64", 8)      \
    ROW(11, I64, "i64", 8)      \
    ROW(12, F64, "f64", 8)

typedef enum {
#define GGUF_TYPE_ENUM(id, symbol, name, size) GGUF_##symbol = (id),
    GGUF_TYPES(GGUF_TYPE_ENUM)
#undef GGUF_TYPE_ENUM
        GGUF_TYPE_COUNT
} GgufType;

const char *gguf_type_name(GgufType type); // "u32", "string"

// A view of an array; read elements with gguf_array_….
typedef struct GgufArray GgufArray;
struct GgufArray {
    GgufType type; // of the elements
    uint64_t count;
    // The first element as it lies in the file, little-endian, of any alignment: numbers and bools follow
    // each other without padding.
    const uint8_t *data;
    const uint32_t *string_offsets; // strings only: from data to each one's length field
    const GgufArray *arrays;        // arrays only
};

typedef struct {
    Str key;
    GgufType type;
    uint64_t file_offset; // of the key's length field, in the first part: only that one's metadata is kept
    union {
        uint64_t u64; // unsigned integers, and bool as 0 or 1
        int64_t i64;  // signed integers
        double f64;   // F32 and F64
        Str str;
        GgufArray array;
    };
} GgufValue;

// ---- tensors ----

typedef struct {
    Str name;
    Dtype dtype;
    uint32_t n_dims;  // 1-4
    uint64_t dims[4]; // dims[0] is the length of a row (consecutive elements); unused ones are 1. With a 0
                      // the tensor is a placeholder without data.
    const uint8_t *data;
    uint64_t size_bytes;
    uint32_t part;         // the file of a split model that it is in, from 0
    uint64_t file_offset;  // of data in that file
    uint64_t table_offset; // of its row in that file's table: name, dimensions, type
} GgufTensor;

static inline uint64_t gguf_tensor_elements(const GgufTensor *t) {
    // Does not overflow: checked when the file was opened.
    return t->dims[0] * t->dims[1] * t->dims[2] * t->dims[3];
}

// A tensor of a format that is not supported here: nothing is known of its bytes.
typedef struct {
    Str name;
    uint32_t ggml_id; // of the format; dtype_ggml_name may know it
    uint32_t n_dims;
    uint64_t dims[4];
} GgufOddTensor;

// ---- files ----

typedef struct {
    const uint8_t *data;
    uint64_t size;
    const char *name; // for messages; the path
} GgufPart;

typedef struct {
    uint32_t version;   // of the first part
    uint32_t alignment; // of the first part's tensors
    uint32_t n_parts;
    uint32_t stale_split_count; // the parts that the file claims although all tensors are in it; 0 for none
    uint32_t n_values;
    uint32_t n_tensors;        // 0 for a file that is only a vocabulary
    uint64_t size_bytes;       // of all parts together
    const GgufPart *parts;     // [n_parts]
    const GgufValue *values;   // [n_values], in the file's order
    const GgufTensor *tensors; // [n_tensors], in the files' order
    // Of files opened for looking at; others have none.
    const GgufOddTensor *odd_tensors;
    uint32_t n_odd_tensors;
    // Private.
    const uint32_t *value_slots; // hash tables: index + 1, 0 for empty
    const uint32_t *tensor_slots;
    uint32_t value_mask, tensor_mask;
    bool takes_odd_tensors;
    MappedFile *mapped; // [n_parts], or NULL when the caller's memory was parsed
} GgufFile;

// Maps and checks the file at `path`, and with a split model's first part all its other parts, from the same
// folder. On success *out lives in the arena and gguf_close must be called; on failure nothing stays mapped.
// Metadata and tensor tables are a copy in this process's memory: what is done to the file later changes the
// tensors' data at most.
MUST_CHECK bool gguf_open(const char *path, Arena *arena, const GgufFile **out, Error *err);
void gguf_close(const GgufFile *file);
// The same for looking at a file that perhaps cannot be run: tensors of formats that are not supported are
// set aside (odd_tensors) instead of refused. They are not found by name.
MUST_CHECK bool gguf_open_to_look(const char *path, Arena *arena, const GgufFile **out, Error *err);

// As gguf_open, from memory that stays the caller's and outlives *out (gguf_close is then not needed). All
// parts of a split model are given, in order; n_parts >= 1. The names must outlive *out, too.
MUST_CHECK bool gguf_parse(const GgufPart *parts, uint32_t n_parts, Arena *arena, const GgufFile **out,
                           Error *err);

// ---- looking up ----

// NULL when there is none.
const GgufValue *gguf_find_value(const GgufFile *file, Str key);
const GgufTensor *gguf_find_tensor(const GgufFile *file, Str name);

// A key that must be there: false when it is missing, has another type, or does not fit *out, which is then
// untouched. Integers may have any integer type in the file, floats either of the two float types (finite
// values only).
MUST_CHECK bool gguf_get_u32(const GgufFile *file, Str key, uint32_t *out, Error *err);
MUST_CHECK bool gguf_get_u64(const GgufFile *file, Str key, uint64_t *out, Error *err);
MUST_CHECK bool gguf_get_i32(const GgufFile *file, Str key, int32_t *out, Error *err);
MUST_CHECK bool gguf_get_f32(const GgufFile *file, Str key, float *out, Error *err);
MUST_CHECK bool gguf_get_bool(const GgufFile *file, Str key, bool *out, Error *err);
MUST_CHECK bool gguf_get_str(const GgufFile *file, Str key, Str *out, Error *err);
// An array of `type`. GGUF_I32 also takes GGUF_U32 and the reverse, since files differ; look at out->type, or
// read the elements with gguf_array_i64.
MUST_CHECK bool gguf_get_array(const GgufFile *file, Str key, GgufType type, GgufArray *out, Error *err);

// A key that may be missing: *out then keeps the default that the caller put there, and the answer is true.
MUST_CHECK bool gguf_opt_u32(const GgufFile *file, Str key, uint32_t *out, Error *err);
MUST_CHECK bool gguf_opt_u64(const GgufFile *file, Str key, uint64_t *out, Error *err);
MUST_CHECK bool gguf_opt_i32(const GgufFile *file, Str key, int32_t *out, Error *err);
MUST_CHECK bool gguf_opt_f32(const GgufFile *file, Str key, float *out, Error *err);
MUST_CHECK bool gguf_opt_bool(const GgufFile *file, Str key, bool *out, Error *err);
MUST_CHECK bool gguf_opt_str(const GgufFile *file, Str key, Str *out, Error *err);
MUST_CHECK bool gguf_opt_array(const GgufFile *file, Str key, GgufType type, GgufArray *out, Error *err);

// A value for messages, on one line and without control characters: "4", "0.5", "yes", "\"yarn\"", "[24
// u32]". A long text is cut.
void gguf_put_value(const GgufValue *value, StrBuf *out);

// Element i < count of an array whose type fits: strings; floats (either); integers of any type and bools. A
// u64 above INT64_MAX reads as INT64_MAX. Constant time.
Str gguf_array_str(const GgufArray *array, uint64_t i);
float gguf_array_f32(const GgufArray *array, uint64_t i);
int64_t gguf_array_i64(const GgufArray *array, uint64_t i);

// For another module's message about something it found in this file: sets ERR_BAD_FILE with the text behind
// "FILE: byte N: key \"…\": " (or tensor), N being where the file says it. Returns false.
bool gguf_value_error(const GgufFile *file, const GgufValue *value, Error *err, const char *format, ...)
    PRINTF_LIKE(4, 5);
bool gguf_tensor_error(const GgufFile *file, const GgufTensor *tensor, Error *err, const char *format, ...)
    PRINTF_LIKE(4, 5);

// ---- what is in it ----

typedef struct {
    uint32_t tensors;
    uint64_t elements;
    uint64_t bytes;
} GgufTypeShare;

// Fills shares[DTYPE_COUNT] with what each format has of the file's tensors.
void gguf_count_types(const GgufFile *file, GgufTypeShare shares[DTYPE_COUNT]);

// The quantisation in one word, such as "Q4_K_M", "MXFP4", "Q4_1", "F16": what the layers' matrices really
// hold. The recipe that the file claims (general.file_type) is believed when its format is the one with the
// most elements, counting for K-formats also what quantisers put instead where rows are no multiple of 256;
// otherwise it is the name of the format with the most elements. "none" when there are no matrices. Static
// memory.
const char *gguf_quant_kind(const GgufFile *file);
