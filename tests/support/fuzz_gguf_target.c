#include "fuzz_targets.h"

#include "model/gguf.h"
#include "os/os.h"
#include "plan/plan.h"

#include <stdlib.h>

enum { FUZZ_ARENA_BYTES = 8 << 20 };

static void fuzz_require(bool ok) {
    if (!ok) abort();
}

// Something that depends on every byte of s, so that reading past its end is seen.
static uint64_t fuzz_touch(const void *bytes, uint64_t size) {
    uint64_t sum = 0;
    for (uint64_t i = 0; i < size; i++)
        sum += ((const uint8_t *)bytes)[i];
    return sum;
}

static uint64_t fuzz_touch_array(const GgufArray *a) {
    uint64_t sum = 0;
    for (uint64_t i = 0; i < a->count; i++) {
        if (a->type == GGUF_STRING) sum += fuzz_touch(gguf_array_str(a, i).ptr, gguf_array_str(a, i).len);
        else if (a->type == GGUF_ARRAY) sum += fuzz_touch_array(&a->arrays[i]);
        else if (a->type == GGUF_F32 || a->type == GGUF_F64) sum += gguf_array_f32(a, i) > 0;
        else sum += (uint64_t)gguf_array_i64(a, i);
    }
    return sum;
}

static uint64_t fuzz_gguf_values(const GgufFile *file) {
    uint64_t sum = 0;
    for (uint32_t i = 0; i < file->n_values; i++) {
        const GgufValue *v = &file->values[i];
        fuzz_require(gguf_find_value(file, v->key) == v);
        if (v->type == GGUF_STRING) sum += fuzz_touch(v->str.ptr, v->str.len);
        else if (v->type == GGUF_ARRAY) sum += fuzz_touch_array(&v->array);
    }
    return sum;
}

static uint64_t fuzz_gguf_tensors(const GgufFile *file) {
    uint64_t sum = 0;
    for (uint32_t i = 0; i < file->n_tensors; i++) {
        const GgufTensor *t = &file->tensors[i];
        const DtypeInfo *info = dtype_info(t->dtype);
        fuzz_require(gguf_find_tensor(file, t->name) == t);
        fuzz_require(t->dims[0] % info->block_elements == 0);
        fuzz_require(t->size_bytes == gguf_tensor_elements(t) / info->block_elements * info->block_bytes);
        fuzz_require(t->file_offset % file->alignment == 0);
        sum += fuzz_touch(t->data, t->size_bytes);
        if (t->size_bytes) { // any bytes are weights
            float values[DTYPE_BLOCK_ELEMENTS_MAX];
            info->dequantize(t->data, values, 1);
            sum += fuzz_touch((const uint8_t *)values, info->block_elements * sizeof *values);
        }
        for (uint32_t j = 0; j < i && j < 64; j++) {
            const GgufTensor *other = &file->tensors[j];
            if (!t->size_bytes || !other->size_bytes) continue; // placeholders lie anywhere
            fuzz_require(other->data + other->size_bytes <= t->data ||
                         t->data + t->size_bytes <= other->data);
        }
    }
    return sum;
}

// A plan, where the file is of a known architecture: with and without the keys that nobody knows.
static void fuzz_plan(const GgufFile *file, Arena arena) {
    for (unsigned ignore = 0; ignore < 2; ignore++) {
        Arena plans = arena;
        Plan *plan;
        Error err = {0};
        bool ok = plan_build_with(file, &(PlanOptions){.ignore_unknown_keys = ignore}, &plans, &plan, &err);
        fuzz_require(ok == (err.code == ERR_NONE));
        for (uint32_t i = 0; ok && i < plan->n_ops; i++) {
            const Op *op = &plan->ops[i];
            fuzz_require(op->layer < plan->n_layers &&
                         (op->out == ACT_NONE || op->out_width <= plan->act_width[op->out]));
        }
        if (ok) (void)plan_describe(plan, &plans);
    }
}

void fuzz_gguf(const uint8_t *data, size_t size) {
    static Arena all;
    if (!all.next) all = os_arena(FUZZ_ARENA_BYTES);
    Arena arena = all;
    GgufPart part = {data, size, "fuzz.gguf"};
    const GgufFile *file;
    Error err = {0};
    if (gguf_parse(&part, 1, &arena, &file, &err)) {
        volatile uint64_t sum = fuzz_gguf_values(file) + fuzz_gguf_tensors(file);
        (void)sum;
        fuzz_require(gguf_quant_kind(file) != NULL);
        fuzz_plan(file, arena);
    } else {
        fuzz_require(err.code != ERR_NONE && str_starts_with(str_from_c(err.message), STR("fuzz.gguf: ")));
    }
}
