// Fuzz entry of the GGUF parser, in the shape that libFuzzer calls:
//
//     clang -std=c17 -D_GNU_SOURCE -g -O1 -fsanitize=fuzzer,address,undefined -Isrc tests/fuzz/fuzz_gguf.c \
//         src/model/gguf*.c src/model/dtype.c src/base/*.c src/os/os.c -lm -o build/fuzz_gguf
//     build/fuzz_gguf -max_len=65536 CORPUS
//
// Beside not crashing: what was accepted keeps the header's promises, and every value and element can be
// read.

#include "model/gguf.h"

#include <stdlib.h>

enum { ARENA_BYTES = 8 << 20 };

static void promise(bool kept) {
    if (!kept) abort();
}

// Something that depends on every byte of s, so that reading past its end is seen.
static uint64_t touch(const void *bytes, uint64_t size) {
    uint64_t sum = 0;
    for (uint64_t i = 0; i < size; i++)
        sum += ((const uint8_t *)bytes)[i];
    return sum;
}

static uint64_t touch_array(const GgufArray *a) {
    uint64_t sum = 0;
    for (uint64_t i = 0; i < a->count; i++) {
        if (a->type == GGUF_STRING) sum += touch(gguf_array_str(a, i).ptr, gguf_array_str(a, i).len);
        else if (a->type == GGUF_ARRAY) sum += touch_array(&a->arrays[i]);
        else if (a->type == GGUF_F32 || a->type == GGUF_F64) sum += gguf_array_f32(a, i) > 0;
        else sum += (uint64_t)gguf_array_i64(a, i);
    }
    return sum;
}

static uint64_t check_values(const GgufFile *file) {
    uint64_t sum = 0;
    for (uint32_t i = 0; i < file->n_values; i++) {
        const GgufValue *v = &file->values[i];
        promise(gguf_find_value(file, v->key) == v);
        if (v->type == GGUF_STRING) sum += touch(v->str.ptr, v->str.len);
        else if (v->type == GGUF_ARRAY) sum += touch_array(&v->array);
    }
    return sum;
}

static uint64_t check_tensors(const GgufFile *file) {
    uint64_t sum = 0;
    for (uint32_t i = 0; i < file->n_tensors; i++) {
        const GgufTensor *t = &file->tensors[i];
        const DtypeInfo *info = dtype_info(t->dtype);
        promise(gguf_find_tensor(file, t->name) == t);
        promise(t->dims[0] % info->block_elements == 0 && t->dims[0] && t->dims[1] && t->dims[2] &&
                t->dims[3]);
        promise(t->size_bytes == gguf_tensor_elements(t) / info->block_elements * info->block_bytes);
        promise(t->file_offset % file->alignment == 0);
        sum += touch(t->data, t->size_bytes);
        for (uint32_t j = 0; j < i && j < 64; j++) {
            const GgufTensor *other = &file->tensors[j];
            promise(other->data + other->size_bytes <= t->data || t->data + t->size_bytes <= other->data);
        }
    }
    return sum;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static uint64_t memory[ARENA_BYTES / sizeof(uint64_t)];
    Arena arena = arena_from_memory(memory, sizeof memory);
    GgufPart part = {data, size, "fuzz.gguf"};
    const GgufFile *file;
    Error err = {0};
    if (gguf_parse(&part, 1, &arena, &file, &err)) {
        volatile uint64_t sum = check_values(file) + check_tensors(file);
        (void)sum;
        promise(gguf_quant_kind(file) != NULL);
    } else {
        promise(err.code != ERR_NONE && str_starts_with(str_from_c(err.message), STR("fuzz.gguf: ")));
    }
    return 0;
}
