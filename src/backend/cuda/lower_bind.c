// The arguments of each stage: addresses of what it reads and writes.
#include "backend/cuda/lower_internal.h"

static CUdeviceptr address_of(const StageBuffers *b, const Weight *w) {
    return w ? b->weights + placement_offset(b->placement, w) : 0;
}

// Of an operation that the stage may do without: 0.
static CUdeviceptr weight_of(const StageBuffers *b, const Op *op) {
    return op ? address_of(b, op->weight) : 0;
}

static CUdeviceptr bias_of(const StageBuffers *b, const Op *op) {
    return op ? address_of(b, op->bias) : 0;
}

static CUdeviceptr frequencies_of(const StageBuffers *b, const Stage *s) {
    const Rope *rope = stage_rope(s, false);
    return rope ? b->weights + placement_rope_offset(b->placement, rope) : 0;
}

// The turns of prefill_rope.
static CUdeviceptr turns_of(const StageBuffers *b, const Rope *rope) {
    uint32_t i = 0;
    while (rope && b->placement->ropes[i] != rope)
        i++;
    return rope ? b->rows_rope[i] : 0;
}

static QkvArgs bind_qkv(const Stage *s, const StageBuffers *b, CUdeviceptr sequence) {
    QkvArgs a = {.sequence = sequence,
                 .x = b->x,
                 .embed = weight_of(b, s->ops[QKV_EMBED]),
                 .learned = weight_of(b, s->ops[QKV_POSITION]),
                 .norm = weight_of(b, s->ops[QKV_NORM]),
                 .norm_bias = bias_of(b, s->ops[QKV_NORM]),
                 .inv_freq = frequencies_of(b, s),
                 .q = b->q,
                 .kv = b->kv + s->layer * b->kv_layer_bytes,
                 .raw = b->raw};
    for (uint32_t i = 0; i < 3; i++) {
        a.weight[i] = weight_of(b, s->ops[QKV_Q + i]);
        a.bias[i] = bias_of(b, s->ops[QKV_Q + i]);
    }
    return a;
}

static HeadsArgs bind_heads(const Stage *s, const StageBuffers *b, CUdeviceptr sequence) {
    return (HeadsArgs){.sequence = sequence,
                       .raw = b->raw,
                       .norm = {weight_of(b, s->ops[HEADS_NORM_Q]), weight_of(b, s->ops[HEADS_NORM_K])},
                       .inv_freq = frequencies_of(b, s),
                       .q = b->q,
                       .kv = b->kv + s->layer * b->kv_layer_bytes};
}

static GluArgs bind_glu(const Stage *s, const StageBuffers *b) {
    const Op *first = s->ops[GLU_GATE] ? s->ops[GLU_GATE] : s->ops[GLU_UP];
    return (GluArgs){.x = b->x,
                     .norm = weight_of(b, s->ops[GLU_NORM]),
                     .norm_bias = bias_of(b, s->ops[GLU_NORM]),
                     .weight = {weight_of(b, first), weight_of(b, s->ops[GLU_UP])},
                     .bias = {bias_of(b, first), bias_of(b, s->ops[GLU_UP])},
                     .out = b->f};
}

static OutputArgs bind_output(const Stage *s, const StageBuffers *b, CUdeviceptr sequence) {
    const Op *matmul = s->ops[OUTPUT_MATMUL], *attention = s->kind == STAGE_OUTPUT ? matmul - 1 : NULL;
    return (OutputArgs){.sequence = sequence,
                        .part = b->part,
                        .part_weight = b->part_weight,
                        .sinks = attention ? address_of(b, attention->weight) : 0,
                        .in = b->f,
                        .weight = weight_of(b, matmul),
                        .bias = bias_of(b, matmul),
                        .x = stage_is_raw(s) ? b->t : b->x};
}

static PrefillQkvArgs bind_prefill_qkv(const Stage *s, const StageBuffers *b) {
    PrefillQkvArgs a = {.chunk = b->chunk,
                        .in = b->rows_h,
                        .rope = turns_of(b, stage_rope(s, false)),
                        .q = b->rows_q,
                        .kv = b->kv + s->layer * b->kv_layer_bytes,
                        .raw = b->rows_raw};
    for (uint32_t i = 0; i < 3; i++) {
        a.weight[i] = weight_of(b, s->ops[QKV_Q + i]);
        a.bias[i] = bias_of(b, s->ops[QKV_Q + i]);
    }
    return a;
}

static PrefillRopeArgs bind_prefill_rope(const Stage *s, const StageBuffers *b) {
    const Rope *rope = s->ops[0]->rope.rope;
    return (PrefillRopeArgs){.chunk = b->chunk,
                             .inv_freq = b->weights + placement_rope_offset(b->placement, rope),
                             .rope = turns_of(b, rope)};
}

static PrefillHeadsArgs bind_prefill_heads(const Stage *s, const StageBuffers *b) {
    return (PrefillHeadsArgs){
        .chunk = b->chunk,
        .raw = b->rows_raw,
        .norm = {weight_of(b, s->ops[HEADS_NORM_Q]), weight_of(b, s->ops[HEADS_NORM_K])},
        .rope = turns_of(b, stage_rope(s, false)),
        .q = b->rows_q,
        .kv = b->kv + s->layer * b->kv_layer_bytes};
}

static PrefillGluArgs bind_prefill_glu(const Stage *s, const StageBuffers *b) {
    const Op *first = s->ops[GLU_GATE] ? s->ops[GLU_GATE] : s->ops[GLU_UP];
    return (PrefillGluArgs){.chunk = b->chunk,
                            .in = b->rows_h,
                            .weight = {weight_of(b, first), weight_of(b, s->ops[GLU_UP])},
                            .bias = {bias_of(b, first), bias_of(b, s->ops[GLU_UP])},
                            .out = b->rows_f};
}

static void bind_prefill(const Stage *s, const StageBuffers *b, StageArgs *out) {
    switch (s->kind) {
    case STAGE_PREFILL_EMBED:
        out->prefill_embed = (PrefillEmbedArgs){.chunk = b->chunk,
                                                .embed = weight_of(b, s->ops[QKV_EMBED]),
                                                .learned = weight_of(b, s->ops[QKV_POSITION]),
                                                .x = b->rows_x};
        break;
    case STAGE_PREFILL_ROPE: out->prefill_rope = bind_prefill_rope(s, b); break;
    case STAGE_PREFILL_NORM:
        out->prefill_norm = (PrefillNormArgs){.chunk = b->chunk,
                                              .x = b->rows_x,
                                              .norm = weight_of(b, s->ops[0]),
                                              .bias = bias_of(b, s->ops[0]),
                                              .out = b->rows_h};
        break;
    case STAGE_PREFILL_QKV: out->prefill_qkv = bind_prefill_qkv(s, b); break;
    case STAGE_PREFILL_HEADS: out->prefill_heads = bind_prefill_heads(s, b); break;
    case STAGE_PREFILL_ATTENTION:
        out->prefill_attention =
            (PrefillAttentionArgs){.chunk = b->chunk,
                                   .q = b->rows_q,
                                   .kv = b->kv + s->layer * b->kv_layer_bytes,
                                   .sinks = address_of(b, s->ops[ATTENTION_ATTENTION]->weight),
                                   .out = b->rows_a};
        break;
    case STAGE_PREFILL_OUTPUT:
    case STAGE_PREFILL_DOWN:
        out->prefill_output = (PrefillOutputArgs){.chunk = b->chunk,
                                                  .in = s->kind == STAGE_PREFILL_DOWN ? b->rows_f : b->rows_a,
                                                  .weight = weight_of(b, s->ops[OUTPUT_MATMUL]),
                                                  .bias = bias_of(b, s->ops[OUTPUT_MATMUL]),
                                                  .x = stage_is_raw(s) ? b->rows_t : b->rows_x};
        break;
    case STAGE_PREFILL_GLU: out->prefill_glu = bind_prefill_glu(s, b); break;
    case STAGE_PREFILL_POST_NORM:
        out->prefill_post_norm = (PrefillPostNormArgs){
            .chunk = b->chunk, .t = b->rows_t, .norm = weight_of(b, s->ops[POST_NORM_NORM]), .x = b->rows_x};
        break;
    default: stage_bind_experts(s, b, out);
    }
}

void stage_bind(const Stage *s, const StageBuffers *b, CUdeviceptr sequence, CUdeviceptr tokens,
                StageArgs *out) {
    *out = (StageArgs){0};
    switch (s->kind) {
    case STAGE_QKV: out->qkv = bind_qkv(s, b, sequence); break;
    case STAGE_HEADS: out->heads = bind_heads(s, b, sequence); break;
    case STAGE_ATTENTION:
        out->attention = (AttentionArgs){.sequence = sequence,
                                         .q = b->q,
                                         .kv = b->kv + s->layer * b->kv_layer_bytes,
                                         .part = b->part,
                                         .part_weight = b->part_weight};
        break;
    case STAGE_OUTPUT:
    case STAGE_DOWN: out->output = bind_output(s, b, sequence); break;
    case STAGE_POST_NORM:
        out->post_norm = (PostNormArgs){.t = b->t, .norm = weight_of(b, s->ops[POST_NORM_NORM]), .x = b->x};
        break;
    case STAGE_GLU: out->glu = bind_glu(s, b); break;
    case STAGE_HEAD:
        out->head = (HeadArgs){.sequence = sequence,
                               .x = b->x,
                               .norm = weight_of(b, s->ops[HEAD_NORM]),
                               .norm_bias = bias_of(b, s->ops[HEAD_NORM]),
                               .weight = weight_of(b, s->ops[HEAD_HEAD]),
                               .bias = bias_of(b, s->ops[HEAD_HEAD]),
                               .logits = b->logits,
                               .best = b->best};
        break;
    case STAGE_GREEDY:
    case STAGE_SAMPLE:
        out->sample = (SampleArgs){.sequence = sequence,
                                   .logits = b->logits,
                                   .best = b->best,
                                   .scratch = b->sample_scratch,
                                   .out = tokens};
        break;
    default: bind_prefill(s, b, out);
    }
}
