#include "plan/plan_tensors.h"

// Why a tensor is left out. Names are those that converters give.
static const struct {
    const char *prefix;
    const char *what;
} other_models[] = {
    {"v.", "vision"},
    {"mm.", "vision"},
    {"a.", "audio"},
    {"mtp.", "multi-token prediction (MTP)"},
};

static const char *const what_order[] = {"vision", "audio", "multi-token prediction (MTP)",
                                         "unused keys and values", "empty"};

// The block of "blk.12.attn_q.weight"; UINT32_MAX for a tensor outside the blocks.
static uint32_t block_of(Str name) {
    uint32_t block = 0;
    if (!str_starts_with(name, STR("blk."))) return UINT32_MAX;
    size_t at = 4;
    for (; at < name.len && name.ptr[at] >= '0' && name.ptr[at] <= '9' && block < 100000; at++)
        block = block * 10 + (uint32_t)(name.ptr[at] - '0');
    return at > 4 && at < name.len && name.ptr[at] == '.' ? block : UINT32_MAX;
}

// Keys and values of a layer that reads those of another: files may have them all the same.
static bool is_unused_kv(Str name) {
    static const Str endings[] = {STR(".attn_k.weight"), STR(".attn_v.weight"), STR(".attn_k_norm.weight")};
    bool found = false;
    for (size_t i = 0; i < COUNT_OF(endings); i++)
        found |= str_ends_with(name, endings[i]);
    return found;
}

// NULL for a tensor of the model itself.
static const char *why_skipped(const GgufTensor *t, const Plan *plan, uint32_t n_blocks) {
    if (gguf_tensor_elements(t) == 0) return "empty";
    for (size_t i = 0; i < COUNT_OF(other_models); i++)
        if (str_starts_with(t->name, str_from_c(other_models[i].prefix))) return other_models[i].what;
    uint32_t block = block_of(t->name);
    if (block >= plan->n_own_kv && block < plan->n_layers && is_unused_kv(t->name))
        return "unused keys and values";
    return block >= plan->n_layers && block < n_blocks ? "multi-token prediction (MTP)" : NULL;
}

static bool is_used(const GgufTensor *t, const Plan *plan) {
    bool used = false;
    for (uint32_t w = 0; w < plan->n_weights && !used; w++)
        used = plan->weights[w].name.ptr == t->name.ptr;
    return used;
}

bool plan_sort_tensors(const GgufFile *file, Plan *plan, uint32_t n_blocks, Arena *arena, Error *err) {
    uint32_t counts[COUNT_OF(what_order)] = {0};
    for (uint32_t i = 0; i < file->n_tensors; i++) {
        const GgufTensor *t = &file->tensors[i];
        if (is_used(t, plan)) {
            plan->weight_bytes += t->size_bytes;
            continue;
        }
        const char *why = why_skipped(t, plan, n_blocks);
        if (!why) {
            gguf_tensor_error(file, t, err, "architecture %s has no use for it", plan->arch->name);
            err->code = ERR_UNSUPPORTED;
            return false;
        }
        plan->n_skipped_tensors++;
        for (size_t w = 0; w < COUNT_OF(what_order); w++)
            counts[w] += strcmp(what_order[w], why) == 0;
    }
    StrBuf b = strbuf_begin_in_arena(arena);
    for (size_t w = 0; w < COUNT_OF(what_order); w++) {
        if (!counts[w]) continue;
        strbuf_printf(&b, "%s%s: %u tensor%s", b.len ? ", " : "", what_order[w], counts[w],
                      plural_s(counts[w]));
    }
    bool truncated = b.truncated;
    plan->skipped_tensors = strbuf_end_in_arena(&b, arena);
    return !truncated || error_set(err, ERR_NO_MEMORY, "the plan does not fit its memory");
}
