// Opening a file: every claim in it is checked here, so that nobody has to afterwards.

#include "base/cursor.h"
#include "base/utf8.h"
#include "model/gguf_internal.h"

#include <inttypes.h>
#include <stdio.h>

// What the format takes for granted when general.alignment is missing, and the bounds that make sense.
enum { ALIGNMENT_DEFAULT = 32, ALIGNMENT_MAX = 1 << 20 };

// The fewest bytes that one of each takes in a file: what a count is held against before memory is set aside.
enum {
    KEY_BYTES_LEAST = 8 + 1 + 4 + 1, // length, one character, type, a bool
    TENSOR_BYTES_LEAST =
        8 + 1 + 4 + 8 + 4 + 8, // length, one character, dimensions, one of them, type, offset
    STRING_BYTES_LEAST = 8,
    ARRAY_BYTES_LEAST = 4 + 8,
};

// One part while it is being read.
typedef struct {
    GgufFile *file; // whose metadata is filled in: the result for the first part, a passing one for others
    Cursor cursor;  // over the part, or what was kept of it
    uint64_t part_size;
    Arena *arena;
    Error *err;
    GgufPlace place; // what is being read, for messages
    uint32_t part;
    uint32_t n_tensors;
    GgufOddTensor *odd; // room for n_tensors; NULL where they are refused
    uint32_t n_odd;
} Reader;

// ---- messages ----

PRINTF_LIKE(3, 4)
static bool reader_error(Reader *r, ErrCode code, const char *format, ...) {
    va_list args;
    va_start(args, format);
    gguf_error_at(&r->place, r->err, code, format, args);
    va_end(args);
    return false;
}

static bool reader_out_of_memory(Reader *r) {
    return reader_error(r, ERR_NO_MEMORY, "no room for the file's tables");
}

// The file ends inside `what`, which takes `size` bytes.
static bool reader_cut_off(Reader *r, const char *what, uint64_t size) {
    r->place.position = r->cursor.offset;
    return reader_error(r, ERR_BAD_FILE, "%s takes %" PRIu64 " byte%s, but the file ends after %" PRIu64,
                        what, size, plural_s(size), cursor_left(&r->cursor));
}

static void reader_about_file(Reader *r) {
    r->place.kind = NULL;
    r->place.position = r->cursor.offset;
}

// ---- plain values ----

static bool read_u32(Reader *r, const char *what, uint32_t *out) {
    *out = cursor_read_u32(&r->cursor);
    return r->cursor.failed ? reader_cut_off(r, what, sizeof *out) : true;
}

static bool read_u64(Reader *r, const char *what, uint64_t *out) {
    *out = cursor_read_u64(&r->cursor);
    return r->cursor.failed ? reader_cut_off(r, what, sizeof *out) : true;
}

static bool read_string(Reader *r, const char *what, Str *out) {
    uint64_t length;
    if (!read_u64(r, what, &length)) return false;
    const uint8_t *bytes = cursor_take(&r->cursor, length);
    if (!bytes) return reader_cut_off(r, what, length);
    *out = (Str){(const char *)bytes, length};
    return true;
}

// Keys and tensor names: some text, of valid characters and without control characters.
static bool read_name(Reader *r, const char *what, uint64_t most_bytes, Str *out) {
    uint64_t length;
    r->place.position = r->cursor.offset;
    if (!read_u64(r, what, &length)) return false;
    if (length == 0 || length > most_bytes)
        return reader_error(r, ERR_BAD_FILE, "%s has %" PRIu64 " bytes; allowed are 1 to %" PRIu64, what,
                            length, most_bytes);
    const uint8_t *bytes = cursor_take(&r->cursor, length);
    if (!bytes) return reader_cut_off(r, what, length);
    *out = (Str){(const char *)bytes, length};
    bool printable = utf8_valid_prefix(*out) == out->len;
    for (size_t i = 0; i < length; i++)
        printable = printable && bytes[i] >= 0x20 && bytes[i] != 0x7F;
    return printable ? true : reader_error(r, ERR_BAD_FILE, "%s is not printable UTF-8", what);
}

static bool read_type(Reader *r, const char *what, GgufType *out) {
    uint32_t id;
    uint64_t position = r->cursor.offset;
    if (!read_u32(r, what, &id)) return false;
    if (id >= GGUF_TYPE_COUNT) {
        r->place.position = position;
        return reader_error(r, ERR_BAD_FILE, "%s %" PRIu32 " is unknown", what, id);
    }
    *out = (GgufType)id;
    return true;
}

// ---- arrays ----

static bool check_bools(Reader *r, const uint8_t *bytes, uint64_t count) {
    for (uint64_t i = 0; i < count; i++) {
        if (bytes[i] <= 1) continue;
        r->place.position = (uint64_t)(bytes + i - r->cursor.data);
        return reader_error(r, ERR_BAD_FILE, "a bool is %u; allowed are 0 and 1", bytes[i]);
    }
    return true;
}

static bool read_fixed_array(Reader *r, GgufArray *out) {
    uint64_t size;
    if (!checked_mul(out->count, gguf_type_size(out->type), &size)) size = UINT64_MAX;
    out->data = cursor_take(&r->cursor, size);
    if (!out->data) return reader_cut_off(r, "an array", size);
    return out->type == GGUF_BOOL ? check_bools(r, out->data, out->count) : true;
}

// False where so many elements of at least `least` bytes cannot be in the file, whatever they hold.
static bool check_array_count(Reader *r, const GgufArray *array, uint64_t least) {
    if (array->count <= cursor_left(&r->cursor) / least) return true;
    uint64_t size;
    if (!checked_mul(array->count, least, &size)) size = UINT64_MAX;
    return reader_cut_off(r, "an array", size);
}

static bool read_string_array(Reader *r, GgufArray *out) {
    if (!check_array_count(r, out, STRING_BYTES_LEAST)) return false;
    uint32_t *offsets = arena_new(r->arena, uint32_t, out->count);
    if (!offsets) return reader_out_of_memory(r);
    uint64_t start = r->cursor.offset;
    for (uint64_t i = 0; i < out->count; i++) {
        uint64_t offset = r->cursor.offset - start;
        if (offset > UINT32_MAX)
            return reader_error(r, ERR_UNSUPPORTED, "an array of strings is over 4 GiB long");
        offsets[i] = (uint32_t)offset;
        Str ignored;
        if (!read_string(r, "a string in an array", &ignored)) return false;
    }
    out->data = r->cursor.data + start;
    out->string_offsets = offsets;
    return true;
}

static bool read_array(Reader *r, uint32_t depth, GgufArray *out);

static bool read_nested_array(Reader *r, uint32_t depth, GgufArray *out) {
    if (depth == GGUF_ARRAY_DEPTH_MAX)
        return reader_error(r, ERR_UNSUPPORTED, "arrays are nested more than %d deep", GGUF_ARRAY_DEPTH_MAX);
    if (!check_array_count(r, out, ARRAY_BYTES_LEAST)) return false;
    GgufArray *arrays = arena_new(r->arena, GgufArray, out->count);
    if (!arrays) return reader_out_of_memory(r);
    out->arrays = arrays;
    for (uint64_t i = 0; i < out->count; i++)
        if (!read_array(r, depth + 1, &arrays[i])) return false;
    return true;
}

static bool read_array(Reader *r, uint32_t depth, GgufArray *out) {
    *out = (GgufArray){0};
    if (!read_type(r, "array element type", &out->type) || !read_u64(r, "an array's length", &out->count))
        return false;
    switch (out->type) {
    case GGUF_STRING: return read_string_array(r, out);
    case GGUF_ARRAY: return read_nested_array(r, depth, out);
    default: return read_fixed_array(r, out);
    }
}

// ---- metadata ----

static bool read_number(Reader *r, GgufValue *v) {
    Cursor *c = &r->cursor;
    uint64_t position = c->offset;
    switch (v->type) {
    case GGUF_U8: v->u64 = cursor_read_u8(c); break;
    case GGUF_U16: v->u64 = cursor_read_u16(c); break;
    case GGUF_U32: v->u64 = cursor_read_u32(c); break;
    case GGUF_U64: v->u64 = cursor_read_u64(c); break;
    case GGUF_I8: v->i64 = (int8_t)cursor_read_u8(c); break;
    case GGUF_I16: v->i64 = (int16_t)cursor_read_u16(c); break;
    case GGUF_I32: v->i64 = (int32_t)cursor_read_u32(c); break;
    case GGUF_I64: v->i64 = (int64_t)cursor_read_u64(c); break;
    case GGUF_F32: v->f64 = (double)cursor_read_f32(c); break;
    case GGUF_F64: v->f64 = cursor_read_f64(c); break;
    default: // GGUF_BOOL
        v->u64 = cursor_read_u8(c);
        return c->failed ? reader_cut_off(r, "the value", 1) : check_bools(r, c->data + position, 1);
    }
    return c->failed ? reader_cut_off(r, "the value", gguf_type_size(v->type)) : true;
}

static bool read_value(Reader *r, GgufValue *v) {
    reader_about_file(r);
    v->file_offset = r->cursor.offset;
    if (!read_name(r, "a key", GGUF_KEY_BYTES_MAX, &v->key)) return false;
    r->place.kind = "key";
    r->place.name = v->key;
    if (!read_type(r, "value type", &v->type)) return false;
    switch (v->type) {
    case GGUF_STRING: return read_string(r, "the value", &v->str);
    case GGUF_ARRAY: return read_array(r, 1, &v->array);
    default: return read_number(r, v);
    }
}

static bool read_metadata(Reader *r, uint32_t n_values) {
    uint32_t n_slots = gguf_slot_count(n_values);
    GgufValue *values = arena_new(r->arena, GgufValue, n_values);
    uint32_t *slots = arena_new(r->arena, uint32_t, n_slots);
    if (!values || !slots) return reader_out_of_memory(r);
    r->file->values = values;
    r->file->value_slots = slots;
    r->file->value_mask = n_slots - 1;
    for (uint32_t i = 0; i < n_values; i++) {
        if (!read_value(r, &values[i])) return false;
        uint32_t *slot = gguf_find_slot(slots, n_slots - 1, values, sizeof *values, values[i].key);
        if (*slot) {
            r->place.position = values[i].file_offset;
            return reader_error(r, ERR_BAD_FILE, "is there twice, first at byte %" PRIu64,
                                values[*slot - 1].file_offset);
        }
        *slot = i + 1;
        r->file->n_values = i + 1;
    }
    reader_about_file(r);
    return true;
}

// ---- the head of a part: everything before its tensor table ----

static bool check_magic(Reader *r) {
    const uint8_t *magic = cursor_take(&r->cursor, 4);
    if (!magic) return reader_cut_off(r, "the file's head", 24);
    if (memcmp(magic, "GGUF", 4) == 0) return true;
    return reader_error(r, ERR_BAD_FILE,
                        "not a GGUF file: it starts with %02x %02x %02x %02x, not with \"GGUF\"", magic[0],
                        magic[1], magic[2], magic[3]);
}

static bool check_version(Reader *r) {
    reader_about_file(r);
    if (!read_u32(r, "the version", &r->file->version)) return false;
    uint32_t version = r->file->version;
    if (version == 2 || version == 3) return true;
    if (version && (version & 0xFFFF) == 0)
        return reader_error(r, ERR_UNSUPPORTED,
                            "the file is big-endian (its version reads as 0x%08" PRIx32 ")", version);
    return reader_error(r, ERR_UNSUPPORTED, "GGUF version %" PRIu32 " is not supported; versions 2 and 3 are",
                        version);
}

// A count of things of at least `least` bytes each.
static bool read_count(Reader *r, const char *things, uint64_t most, uint64_t least, uint32_t *out) {
    uint64_t count;
    reader_about_file(r);
    if (!read_u64(r, "a count", &count)) return false;
    if (count > most)
        return reader_error(r, ERR_BAD_FILE, "the file claims %" PRIu64 " %s; allowed are %" PRIu64, count,
                            things, most);
    if (count > cursor_left(&r->cursor) / least)
        return reader_error(r, ERR_BAD_FILE,
                            "the file claims %" PRIu64 " %s, too many for its %" PRIu64 " bytes", count,
                            things, r->part_size);
    *out = (uint32_t)count;
    return true;
}

static bool read_alignment(Reader *r) {
    static const Str key = {"general.alignment", sizeof "general.alignment" - 1};
    uint32_t alignment = ALIGNMENT_DEFAULT;
    if (!gguf_opt_u32(r->file, key, &alignment, r->err)) return false;
    r->file->alignment = alignment;
    if (alignment && (alignment & (alignment - 1)) == 0 && alignment <= ALIGNMENT_MAX) return true;
    return gguf_value_error(r->file, gguf_find_value(r->file, key), r->err,
                            "%" PRIu32 " is no power of two up to %d", alignment, ALIGNMENT_MAX);
}

static bool read_head(Reader *r) {
    uint32_t n_values = 0;
    return check_magic(r) && check_version(r) &&
           read_count(r, "tensors", GGUF_TENSORS_MAX, TENSOR_BYTES_LEAST, &r->n_tensors) &&
           read_count(r, "keys", GGUF_METADATA_MAX, KEY_BYTES_LEAST, &n_values) &&
           read_metadata(r, n_values) && read_alignment(r);
}

// `part` of the file's parts; its metadata goes into `file`, whose parts start with it.
static Reader reader_begin(GgufFile *file, const GgufPart *part, uint32_t index, Arena *arena, Error *err) {
    uint64_t kept = file->mapped ? file->mapped[index].kept : 0;
    return (Reader){
        .file = file,
        .cursor = {.data = part->data, .size = kept ? kept : part->size},
        .part_size = part->size,
        .arena = arena,
        .err = err,
        .place = {.file = part->name},
        .part = index,
    };
}

// ---- tensors ----

static bool read_dims(Reader *r, GgufTensor *t) {
    if (!read_u32(r, "the number of dimensions", &t->n_dims)) return false;
    r->place.position = t->table_offset;
    if (t->n_dims < 1 || t->n_dims > GGUF_DIMS_MAX)
        return reader_error(r, ERR_BAD_FILE, "%" PRIu32 " dimensions; allowed are 1 to %d", t->n_dims,
                            GGUF_DIMS_MAX);
    uint64_t elements = 1;
    for (uint32_t i = 0; i < GGUF_DIMS_MAX; i++) {
        t->dims[i] = 1;
        if (i < t->n_dims && !read_u64(r, "a dimension", &t->dims[i])) return false;
        if (!checked_mul(elements, t->dims[i], &elements))
            return reader_error(r, ERR_BAD_FILE,
                                "more than 2^64 elements (dimension %" PRIu32 " is %" PRIu64 ")", i + 1,
                                t->dims[i]);
    }
    return true;
}

// A format that is not supported: set aside, or refused.
static bool read_odd_tensor(Reader *r, const GgufTensor *t, uint32_t type) {
    const char *name = dtype_ggml_name(type);
    if (r->odd) {
        GgufOddTensor *odd = &r->odd[r->n_odd++];
        *odd = (GgufOddTensor){.name = t->name, .ggml_id = type, .n_dims = t->n_dims};
        memcpy(odd->dims, t->dims, sizeof odd->dims);
        return true;
    }
    if (!name) return reader_error(r, ERR_BAD_FILE, "tensor type %" PRIu32 " is unknown", type);
    return reader_error(r, ERR_UNSUPPORTED, "tensor type %s is not supported", name);
}

// One row of the table. file_offset is still counted from where the part's tensor data start.
static bool read_tensor(Reader *r, GgufTensor *t) {
    uint32_t type;
    reader_about_file(r);
    t->table_offset = r->cursor.offset;
    t->part = r->part;
    if (!read_name(r, "a tensor's name", GGUF_TENSOR_NAME_BYTES_MAX, &t->name)) return false;
    r->place.kind = "tensor";
    r->place.name = t->name;
    if (!read_dims(r, t)) return false;
    if (!read_u32(r, "the type", &type) || !read_u64(r, "the offset", &t->file_offset)) return false;
    if (!dtype_from_ggml_id(type, &t->dtype)) return read_odd_tensor(r, t, type);
    const DtypeInfo *info = dtype_info(t->dtype);
    uint64_t elements = gguf_tensor_elements(t);
    if (t->dims[0] % info->block_elements)
        return reader_error(r, ERR_BAD_FILE,
                            "rows of %" PRIu64 " elements are no multiple of %s's blocks of %" PRIu32,
                            t->dims[0], info->name, info->block_elements);
    if (!checked_mul(elements / info->block_elements, info->block_bytes, &t->size_bytes))
        return reader_error(r, ERR_BAD_FILE, "more than 2^64 bytes");
    if (t->file_offset % r->file->alignment)
        return reader_error(r, ERR_BAD_FILE, "offset %" PRIu64 " is no multiple of the alignment %" PRIu32,
                            t->file_offset, r->file->alignment);
    return true;
}

// Turns the offset into a position in the file and sets `data`, where all of it is in the file.
static bool place_tensor(Reader *r, GgufTensor *t, uint64_t data_start) {
    uint64_t end, offset = t->file_offset;
    r->place.kind = "tensor";
    r->place.name = t->name;
    r->place.position = t->table_offset;
    if (!checked_add(data_start, offset, &t->file_offset) ||
        !checked_add(t->file_offset, t->size_bytes, &end) || end > r->part_size)
        return reader_error(r, ERR_BAD_FILE,
                            "%" PRIu64 " bytes at offset %" PRIu64
                            " of the data, which start at byte %" PRIu64 ", end past the file's %" PRIu64
                            " bytes",
                            t->size_bytes, offset, data_start, r->part_size);
    t->data = r->cursor.data + t->file_offset;
    return true;
}

// Heapsort of indices by where their tensors' data lie: bounded, in place, no worst case.
static void sort_by_offset(const GgufTensor *tensors, uint32_t *order, uint32_t count) {
    for (uint32_t start = count / 2, end = count; end > 1;) {
        if (start > 0) {
            start--;
        } else {
            uint32_t last = order[--end];
            order[end] = order[0];
            order[0] = last;
        }
        for (uint32_t at = start, child; (child = 2 * at + 1) < end; at = child) {
            if (child + 1 < end && tensors[order[child]].file_offset < tensors[order[child + 1]].file_offset)
                child++;
            if (tensors[order[at]].file_offset >= tensors[order[child]].file_offset) break;
            uint32_t moved = order[at];
            order[at] = order[child];
            order[child] = moved;
        }
    }
}

// No byte belongs to two of a part's tensors. Placeholders have none.
static bool check_overlaps(Reader *r, const GgufTensor *tensors, uint32_t n_tensors, Arena scratch) {
    uint32_t *order = arena_new(&scratch, uint32_t, n_tensors), count = 0;
    if (!order) return reader_out_of_memory(r);
    for (uint32_t i = 0; i < n_tensors; i++)
        if (tensors[i].size_bytes) order[count++] = i;
    sort_by_offset(tensors, order, count);
    for (uint32_t i = 1; i < count; i++) {
        const GgufTensor *a = &tensors[order[i - 1]], *b = &tensors[order[i]];
        if (a->file_offset + a->size_bytes <= b->file_offset) continue;
        r->place = (GgufPlace){r->place.file, b->table_offset, "tensor", b->name};
        return reader_error(r, ERR_BAD_FILE, "its data at byte %" PRIu64 " overlap those of \"%.*s\"",
                            b->file_offset, STR_ARG(a->name));
    }
    return true;
}

static bool add_tensor_name(Reader *r, GgufFile *whole, GgufTensor *tensors, uint32_t *slots,
                            const GgufTensor *t) {
    uint32_t *slot = gguf_find_slot(slots, whole->tensor_mask, tensors, sizeof *tensors, t->name);
    if (*slot) {
        r->place.position = t->table_offset;
        return reader_error(r, ERR_BAD_FILE, "is there twice");
    }
    *slot = ++whole->n_tensors;
    return true;
}

// Appends a part's tensors to `whole`, whose tables have room for them.
static bool read_tensor_table(Reader *r, GgufFile *whole, GgufTensor *tensors, uint32_t *slots) {
    GgufTensor *first = tensors + whole->n_tensors;
    uint32_t count = 0;
    if (whole->odd_tensors) r->odd = (GgufOddTensor *)(uintptr_t)whole->odd_tensors + whole->n_odd_tensors;
    for (uint32_t i = 0; i < r->n_tensors; i++) {
        if (!read_tensor(r, &first[count])) return false;
        if (r->n_odd > i - count) continue; // it was set aside
        if (!add_tensor_name(r, whole, tensors, slots, &first[count])) return false;
        count++;
    }
    whole->n_odd_tensors += r->n_odd;
    MappedFile *mapped = whole->mapped ? &whole->mapped[r->part] : NULL;
    if (mapped && !mapped->kept && !os_file_keep(mapped, r->cursor.offset, r->err)) return false;
    uint64_t data_start = align_up(r->cursor.offset, r->file->alignment);
    for (uint32_t i = 0; i < count; i++)
        if (!place_tensor(r, &first[i], data_start)) return false;
    return check_overlaps(r, first, count, *r->arena);
}

// ---- split models ----

// Merged files may keep the keys of the parts that they were made of: all tensors are in this one then, or,
// where a tool dropped some of the keys, nothing says that there are others.
static bool is_merged(const GgufFile *file, uint32_t n_tensors) {
    uint32_t total = n_tensors;
    Error ignored;
    return gguf_opt_u32(file, STR("split.tensors.count"), &total, &ignored) && total == n_tensors &&
           n_tensors > 0;
}

// How many parts there are, and that `file` is number `index` of them (from 0). `n_tensors` are in this file.
static bool read_split(GgufFile *file, uint32_t index, uint32_t n_tensors, uint32_t *n_parts, Error *err) {
    static const Str no_key = {"split.no", 8}, count_key = {"split.count", 11};
    uint32_t count = 1, number = 0;
    if (!gguf_opt_u32(file, count_key, &count, err) || !gguf_opt_u32(file, no_key, &number, err))
        return false;
    if (count == 0) count = 1; // says the same as a missing key: a whole file
    if (index == 0 && count > 1 && is_merged(file, n_tensors)) {
        file->stale_split_count = count;
        *n_parts = 1;
        return true;
    }
    if (count > GGUF_SPLITS_MAX)
        return gguf_value_error(file, gguf_find_value(file, count_key), err,
                                "the model claims %" PRIu32 " parts; allowed are %d", count, GGUF_SPLITS_MAX);
    if (number != index && index == 0)
        return gguf_value_error(file, gguf_find_value(file, no_key), err,
                                "this is part %" PRIu32 " of a split model; open the first part", number + 1);
    if (number != index)
        return error_set(err, ERR_BAD_FILE,
                         "%s: expected part %" PRIu32 " of a split model, found part %" PRIu32,
                         file->parts[0].name, index + 1, number + 1);
    *n_parts = count;
    return true;
}

// Whether a key of a further part would change what the model is: there are none in most files.
static bool is_of_model(Str key) {
    return str_eq(key, STR("general.architecture")) ||
           !(str_starts_with(key, STR("split.")) || str_starts_with(key, STR("general.")));
}

// Key, type and value as they lie in the files: `size` bytes of the part's, and where that ends, the first's.
static bool has_same_value(const GgufFile *whole, const GgufFile *part, const GgufValue *v, uint64_t size) {
    const GgufValue *own = gguf_find_value(whole, v->key);
    uint64_t kept = whole->mapped ? whole->mapped[0].kept : 0, end = kept ? kept : whole->parts[0].size;
    return own && size <= end - own->file_offset &&
           memcmp(whole->parts[0].data + own->file_offset, part->parts[0].data + v->file_offset, size) == 0;
}

// Parts with one name may be of different models, where some were overwritten.
static bool check_is_of_same_model(const GgufFile *whole, const GgufFile *part, uint64_t values_end,
                                   uint32_t n_tensors, Error *err) {
    static const Str key = {"split.tensors.count", sizeof "split.tensors.count" - 1};
    uint32_t total = n_tensors;
    if (!gguf_opt_u32(part, key, &total, err)) return false;
    if (total != n_tensors)
        return gguf_value_error(part, gguf_find_value(part, key), err,
                                "%" PRIu32 " tensors in all parts, but the first part says %" PRIu32, total,
                                n_tensors);
    for (uint32_t i = 0; i < part->n_values; i++) {
        const GgufValue *v = &part->values[i];
        uint64_t end = i + 1 < part->n_values ? part->values[i + 1].file_offset : values_end;
        if (is_of_model(v->key) && !has_same_value(whole, part, v, end - v->file_offset))
            return gguf_value_error(part, v, err, "the first part has another value, or none");
    }
    return true;
}

// Part `index` > 0: its metadata says which part it is and nothing new, and is dropped.
static bool read_further_part(GgufFile *whole, uint32_t index, GgufTensor *tensors, uint32_t n_tensors,
                              uint32_t *slots, Arena scratch, Error *err) {
    GgufFile part = {.parts = &whole->parts[index], .n_parts = 1, .mapped = whole->mapped};
    Reader r = reader_begin(&part, part.parts, index, &scratch, err);
    uint32_t n_parts = 0;
    if (!read_head(&r) || !read_split(&part, index, r.n_tensors, &n_parts, err)) return false;
    if (n_parts != whole->n_parts)
        return reader_error(&r, ERR_BAD_FILE, "belongs to a model of %" PRIu32 " parts, not %" PRIu32,
                            n_parts, whole->n_parts);
    if (!check_is_of_same_model(whole, &part, r.cursor.offset, n_tensors, err)) return false;
    if (r.n_tensors > n_tensors - whole->n_tensors - whole->n_odd_tensors)
        return reader_error(&r, ERR_BAD_FILE,
                            "the first part's split.tensors.count is %" PRIu32 "; there are more", n_tensors);
    return read_tensor_table(&r, whole, tensors, slots);
}

// Everything after the first part's head. whole->parts is complete, and `first` stands behind that head.
static bool read_all_tensors(Reader *first, GgufFile *whole) {
    static const Str key = {"split.tensors.count", sizeof "split.tensors.count" - 1};
    uint32_t n_tensors = first->n_tensors;
    if (whole->n_parts > 1 && !gguf_get_u32(whole, key, &n_tensors, first->err)) return false;
    if (n_tensors > GGUF_TENSORS_MAX || n_tensors < first->n_tensors)
        return gguf_value_error(whole, gguf_find_value(whole, key), first->err,
                                "%" PRIu32 " tensors in all parts; allowed are %" PRIu32
                                " (in the first) to %d",
                                n_tensors, first->n_tensors, GGUF_TENSORS_MAX);
    uint32_t n_slots = gguf_slot_count(n_tensors);
    GgufTensor *tensors = arena_new(first->arena, GgufTensor, n_tensors);
    uint32_t *slots = arena_new(first->arena, uint32_t, n_slots);
    GgufOddTensor *odd = whole->takes_odd_tensors ? arena_new(first->arena, GgufOddTensor, n_tensors) : NULL;
    if (!tensors || !slots || (whole->takes_odd_tensors && !odd)) return reader_out_of_memory(first);
    whole->odd_tensors = odd;
    whole->tensors = tensors;
    whole->tensor_slots = slots;
    whole->tensor_mask = n_slots - 1;
    if (!read_tensor_table(first, whole, tensors, slots)) return false;
    whole->size_bytes = whole->parts[0].size;
    for (uint32_t i = 1; i < whole->n_parts; i++) {
        if (!read_further_part(whole, i, tensors, n_tensors, slots, *first->arena, first->err)) return false;
        whole->size_bytes += whole->parts[i].size;
    }
    uint32_t n_found = whole->n_tensors + whole->n_odd_tensors;
    if (n_found == n_tensors) return true;
    return gguf_value_error(whole, gguf_find_value(whole, key), first->err,
                            "expected %" PRIu32 " tensors in all parts, found %" PRIu32, n_tensors, n_found);
}

// `file` is empty but for what is mapped.
static bool parse_parts(GgufFile *file, const GgufPart *parts, uint32_t n_parts, Arena *arena, Error *err) {
    Reader reader = reader_begin(file, &parts[0], 0, arena, err);
    file->parts = parts;
    uint32_t found = 0;
    if (!read_head(&reader) || !read_split(file, 0, reader.n_tensors, &found, err)) return false;
    if (found != n_parts)
        return reader_error(&reader, ERR_BAD_FILE, "is the first of %" PRIu32 " parts; given are %" PRIu32,
                            found, n_parts);
    file->n_parts = n_parts;
    return read_all_tensors(&reader, file);
}

bool gguf_parse(const GgufPart *parts, uint32_t n_parts, Arena *arena, const GgufFile **out, Error *err) {
    GgufFile *file = arena_new(arena, GgufFile, 1);
    if (!file) return error_set(err, ERR_NO_MEMORY, "%s: no room for the file's tables", parts[0].name);
    if (!parse_parts(file, parts, n_parts, arena, err)) return false;
    *out = file;
    return true;
}

// ---- files ----

// "…-00002-of-00003.gguf" from the first part's path; NULL when the arena is full.
static const char *part_path(Arena *arena, Str first_path, uint32_t index, uint32_t n_parts) {
    enum { TAIL_BYTES = sizeof "-00001-of-00003.gguf" - 1, WIDER_NUMBERS = 2 * (10 - 5) };
    size_t size = first_path.len + WIDER_NUMBERS + 1;
    char *path = arena_new(arena, char, size);
    if (!path) return NULL;
    snprintf(path, size, "%.*s-%05" PRIu32 "-of-%05" PRIu32 ".gguf", (int)(first_path.len - TAIL_BYTES),
             first_path.ptr, index + 1, n_parts);
    return path;
}

static bool map_part(GgufFile *file, GgufPart *part, uint32_t index, const char *path, Error *err) {
    if (!os_file_map(path, &file->mapped[index], err)) return false;
    *part = (GgufPart){.data = file->mapped[index].data, .size = file->mapped[index].size, .name = path};
    file->n_parts = index + 1; // what gguf_close has to undo
    return true;
}

// Maps the parts after the first and lets file->parts be all of them.
static bool map_further_parts(GgufFile *file, uint32_t n_parts, Arena *arena, Error *err) {
    Str first_path = str_from_c(file->parts[0].name);
    char tail[32];
    snprintf(tail, sizeof tail, "-00001-of-%05" PRIu32 ".gguf", n_parts);
    if (!str_ends_with(first_path, str_from_c(tail)))
        return error_set(err, ERR_BAD_FILE,
                         "%s: the first of %" PRIu32 " parts, which are found by name: it must end in \"%s\"",
                         first_path.ptr, n_parts, tail);
    GgufPart *parts = arena_new(arena, GgufPart, n_parts);
    MappedFile *mapped = arena_new(arena, MappedFile, n_parts);
    if (!parts || !mapped) return error_set(err, ERR_NO_MEMORY, "%s: too many parts", first_path.ptr);
    parts[0] = file->parts[0];
    mapped[0] = file->mapped[0];
    file->parts = parts;
    file->mapped = mapped;
    for (uint32_t i = 1; i < n_parts; i++) {
        const char *path = part_path(arena, first_path, i, n_parts);
        if (!path) return error_set(err, ERR_NO_MEMORY, "%s: too many parts", first_path.ptr);
        if (!map_part(file, &parts[i], i, path, err)) return false;
    }
    return true;
}

static bool open_mapped(GgufFile *file, Arena *arena, Error *err) {
    Reader reader = reader_begin(file, &file->parts[0], 0, arena, err);
    uint32_t n_parts = 0;
    return read_head(&reader) && read_split(file, 0, reader.n_tensors, &n_parts, err) &&
           (n_parts == 1 || map_further_parts(file, n_parts, arena, err)) && read_all_tensors(&reader, file);
}

// Reads once more what the first reading has found to be the heads, and which is this process's own memory
// since: whoever writes to the file meanwhile, what was checked is what will be used.
static bool read_kept(GgufFile *file, Arena *arena, Error *err) {
    GgufFile kept = {.mapped = file->mapped, .takes_odd_tensors = file->takes_odd_tensors};
    if (!parse_parts(&kept, file->parts, file->n_parts, arena, err)) return false;
    *file = kept;
    return !os_file_was_cut() ||
           error_set(err, ERR_BAD_FILE, "%s: was cut while it was read", file->parts[0].name);
}

static bool open_file(const char *path, bool takes_odd_tensors, Arena *arena, const GgufFile **out,
                      Error *err) {
    GgufFile *file = arena_new(arena, GgufFile, 1);
    GgufPart *part = arena_new(arena, GgufPart, 1);
    MappedFile *mapped = arena_new(arena, MappedFile, 1);
    Str name = arena_copy_str(arena, str_from_c(path));
    if (!file || !part || !mapped || !name.ptr)
        return error_set(err, ERR_NO_MEMORY, "%s: no memory to open it", path);
    file->parts = part;
    file->mapped = mapped;
    file->takes_odd_tensors = takes_odd_tensors;
    if (!map_part(file, part, 0, name.ptr, err)) return false;
    if (!open_mapped(file, arena, err) || !read_kept(file, arena, err)) {
        gguf_close(file);
        return false;
    }
    *out = file;
    return true;
}

bool gguf_open(const char *path, Arena *arena, const GgufFile **out, Error *err) {
    return open_file(path, false, arena, out, err);
}

bool gguf_open_to_look(const char *path, Arena *arena, const GgufFile **out, Error *err) {
    return open_file(path, true, arena, out, err);
}

void gguf_close(const GgufFile *file) {
    for (uint32_t i = 0; file->mapped && i < file->n_parts; i++)
        os_file_unmap(&file->mapped[i]);
}
