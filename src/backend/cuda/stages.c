#include "backend/cuda/stages.h"

#define FILES_COMMON "prelude.cuh", "layout.h", "args.h"
#define FILES_MATVEC FILES_COMMON, "formats.cuh", "stage_shapes.cuh", "activations.cuh", "matvec.cuh"

static const struct {
    const char *kernel;
    const char *name;
    const char *files[12];
} rows[STAGE_KIND_COUNT] = {
#define STAGE_ROW(id, kernel_name, stage_name) [STAGE_##id] = {kernel_name, stage_name, {FILES_##id, NULL}},
#define FILES_QKV FILES_MATVEC, "decode_norm.cuh", "decode_qkv.cuh"
#define FILES_HEADS FILES_COMMON, "heads.cuh", "decode_heads.cuh"
#define FILES_ATTENTION \
    FILES_COMMON, "formats.cuh", "attention_splits.cuh", "soft_cap.cuh", "decode_attention.cuh"
#define FILES_OUTPUT FILES_MATVEC, "attention_splits.cuh", "decode_output.cuh"
#define FILES_GLU FILES_MATVEC, "decode_norm.cuh", "activate.cuh", "decode_glu.cuh"
#define FILES_DOWN FILES_MATVEC, "decode_output.cuh"
#define FILES_POST_NORM FILES_COMMON, "decode_post_norm.cuh"
#define FILES_HEAD FILES_MATVEC, "decode_norm.cuh", "logits.cuh", "soft_cap.cuh", "decode_head.cuh"
#define FILES_ROUTE FILES_COMMON, "formats.cuh", "decode_route.cuh"
#define FILES_EXPERTS_GLU \
    FILES_MATVEC, "decode_norm.cuh", "expert_choice.cuh", "activate.cuh", "decode_experts_glu.cuh"
#define FILES_EXPERTS_DOWN FILES_MATVEC, "expert_choice.cuh", "decode_experts_down.cuh"
#define FILES_GREEDY FILES_COMMON, "logits.cuh", "sample_greedy.cuh"
#define FILES_SAMPLE FILES_COMMON, "logits.cuh", "sample_full.cuh"
#define FILES_MATMUL \
    FILES_COMMON, "formats.cuh", "prefill_tiles.cuh", "prefill_weights.cuh", "prefill_matmul.cuh"
#define FILES_PREFILL_EMBED FILES_COMMON, "formats.cuh", "prefill_embed.cuh"
#define FILES_PREFILL_ROPE FILES_COMMON, "prefill_rope.cuh"
#define FILES_PREFILL_NORM FILES_COMMON, "prefill_tiles.cuh", "prefill_norm.cuh"
#define FILES_PREFILL_QKV FILES_MATMUL, "prefill_qkv.cuh"
#define FILES_PREFILL_HEADS FILES_COMMON, "heads.cuh", "prefill_heads.cuh"
#define FILES_PREFILL_ATTENTION \
    FILES_COMMON, "formats.cuh", "prefill_tiles.cuh", "soft_cap.cuh", "prefill_attention.cuh"
#define FILES_PREFILL_OUTPUT FILES_MATMUL, "prefill_output.cuh"
#define FILES_PREFILL_GLU FILES_MATMUL, "activate.cuh", "prefill_glu_units.cuh", "prefill_glu.cuh"
#define FILES_PREFILL_DOWN FILES_MATMUL, "prefill_output.cuh"
#define FILES_PREFILL_POST_NORM FILES_COMMON, "prefill_post_norm.cuh"
#define FILES_PREFILL_ROUTE FILES_COMMON, "formats.cuh", "expert_choice.cuh", "prefill_route.cuh"
#define FILES_PREFILL_GROUP FILES_COMMON, "prefill_group.cuh"
#define FILES_PREFILL_GATHER FILES_COMMON, "prefill_gather.cuh"
#define FILES_PREFILL_EXPERTS_GLU \
    FILES_MATMUL, "activate.cuh", "prefill_glu_units.cuh", "prefill_experts.cuh", "prefill_experts_glu.cuh"
#define FILES_PREFILL_EXPERTS_DOWN FILES_MATMUL, "prefill_experts.cuh", "prefill_experts_down.cuh"
#define FILES_PREFILL_EXPERTS_SUM FILES_COMMON, "prefill_experts_sum.cuh"
    STAGES(STAGE_ROW)
#undef STAGE_ROW
};

bool stage_is_raw(const Stage *s) {
    switch (s->kind) {
    case STAGE_QKV:
    case STAGE_PREFILL_QKV: return !s->ops[QKV_KV_WRITE];
    case STAGE_OUTPUT:
    case STAGE_DOWN:
    case STAGE_PREFILL_OUTPUT:
    case STAGE_PREFILL_DOWN: return !s->ops[OUTPUT_ADD];
    default: return false;
    }
}

const Rope *stage_rope(const Stage *s, bool of_keys) {
    const Op *op = NULL;
    if (s->kind == STAGE_QKV || s->kind == STAGE_PREFILL_QKV) op = s->ops[QKV_ROPE_Q + of_keys];
    if (s->kind == STAGE_HEADS || s->kind == STAGE_PREFILL_HEADS) op = s->ops[HEADS_ROPE_Q + of_keys];
    return op ? op->rope.rope : NULL;
}

const char *stage_kernel(StageKind kind) {
    return rows[kind].kernel;
}

const char *stage_name(StageKind kind) {
    return rows[kind].name;
}

const char *const *stage_files(StageKind kind) {
    return rows[kind].files;
}

// How long those take to compile that take longest, in hundredths of a second beside 15 others on an H100's
// host; the rest takes 10 to 50.
static const uint32_t costs[STAGE_KIND_COUNT] = {
    [STAGE_PREFILL_GLU] = 93,
    [STAGE_SAMPLE] = 89,
    [STAGE_PREFILL_ATTENTION] = 85,
    [STAGE_PREFILL_QKV] = 78,
    [STAGE_PREFILL_OUTPUT] = 70,
    [STAGE_PREFILL_DOWN] = 79,
    [STAGE_HEAD] = 60,
    [STAGE_QKV] = 54,
};

uint32_t stage_cost(StageKind kind) {
    return costs[kind];
}
