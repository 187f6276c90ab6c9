#include "backend/cuda/stages.h"

#define FILES_COMMON "prelude.cuh", "layout.h", "args.h"
#define FILES_MATVEC FILES_COMMON, "formats.cuh", "stage_shapes.cuh", "activations.cuh", "matvec.cuh"

static const struct {
    const char *kernel;
    const char *name;
    const char *files[12];
} rows[STAGE_KIND_COUNT] = {
#define STAGE_ROW(id, kernel_name, stage_name) [STAGE_##id] = {kernel_name, stage_name, {FILES_##id, NULL}},
#define FILES_QKV FILES_MATVEC, "decode_qkv.cuh"
#define FILES_ATTENTION FILES_COMMON, "formats.cuh", "attention_splits.cuh", "decode_attention.cuh"
#define FILES_OUTPUT FILES_MATVEC, "attention_splits.cuh", "decode_output.cuh"
#define FILES_GLU FILES_MATVEC, "activate.cuh", "decode_glu.cuh"
#define FILES_DOWN FILES_MATVEC, "decode_output.cuh"
#define FILES_HEAD FILES_MATVEC, "logits.cuh", "decode_head.cuh"
#define FILES_GREEDY FILES_COMMON, "logits.cuh", "sample_greedy.cuh"
#define FILES_SAMPLE FILES_COMMON, "logits.cuh", "sample_full.cuh"
#define FILES_MATMUL \
    FILES_COMMON, "formats.cuh", "prefill_tiles.cuh", "prefill_weights.cuh", "prefill_matmul.cuh"
#define FILES_PREFILL_EMBED FILES_COMMON, "formats.cuh", "prefill_embed.cuh"
#define FILES_PREFILL_ROPE FILES_COMMON, "prefill_rope.cuh"
#define FILES_PREFILL_NORM FILES_COMMON, "prefill_tiles.cuh", "prefill_norm.cuh"
#define FILES_PREFILL_QKV FILES_MATMUL, "prefill_qkv.cuh"
#define FILES_PREFILL_ATTENTION FILES_COMMON, "formats.cuh", "prefill_tiles.cuh", "prefill_attention.cuh"
#define FILES_PREFILL_OUTPUT FILES_MATMUL, "prefill_output.cuh"
#define FILES_PREFILL_GLU FILES_MATMUL, "activate.cuh", "prefill_glu.cuh"
#define FILES_PREFILL_DOWN FILES_MATMUL, "prefill_output.cuh"
    STAGES(STAGE_ROW)
#undef STAGE_ROW
};

const char *stage_kernel(StageKind kind) {
    return rows[kind].kernel;
}

const char *stage_name(StageKind kind) {
    return rows[kind].name;
}

const char *const *stage_files(StageKind kind) {
    return rows[kind].files;
}
