// The arguments of each stage: addresses of what it reads and writes.
#include "backend/cuda/lower.h"

static CUdeviceptr address_of(const StageBuffers *b, const Weight *w) {
    return w ? b->weights + placement_offset(b->placement, w) : 0;
}

static QkvArgs bind_qkv(const Stage *s, const StageBuffers *b, CUdeviceptr sequence) {
    QkvArgs a = {.sequence = sequence,
                 .x = b->x,
                 .embed = s->ops[QKV_EMBED] ? address_of(b, s->ops[QKV_EMBED]->weight) : 0,
                 .norm = address_of(b, s->ops[QKV_NORM]->weight),
                 .inv_freq = b->weights + placement_rope_offset(b->placement, s->ops[QKV_ROPE_Q]->rope.rope),
                 .q = b->q,
                 .kv = b->kv + s->layer * b->kv_layer_bytes};
    for (uint32_t i = 0; i < 3; i++) {
        a.weight[i] = address_of(b, s->ops[QKV_Q + i]->weight);
        a.bias[i] = address_of(b, s->ops[QKV_Q + i]->bias);
    }
    return a;
}

static OutputArgs bind_output(const Stage *s, const StageBuffers *b, CUdeviceptr sequence) {
    const Op *matmul = s->ops[OUTPUT_MATMUL], *attention = s->kind == STAGE_OUTPUT ? matmul - 1 : NULL;
    return (OutputArgs){.sequence = sequence,
                        .part = b->part,
                        .part_weight = b->part_weight,
                        .sinks = attention ? address_of(b, attention->weight) : 0,
                        .in = b->f,
                        .weight = address_of(b, matmul->weight),
                        .bias = address_of(b, matmul->bias),
                        .x = b->x};
}

static PrefillQkvArgs bind_prefill_qkv(const Stage *s, const StageBuffers *b) {
    uint32_t rope = 0;
    while (b->placement->ropes[rope] != s->ops[QKV_ROPE_Q]->rope.rope)
        rope++;
    PrefillQkvArgs a = {.chunk = b->chunk,
                        .in = b->rows_h,
                        .rope = b->rows_rope[rope],
                        .q = b->rows_q,
                        .kv = b->kv + s->layer * b->kv_layer_bytes};
    for (uint32_t i = 0; i < 3; i++) {
        a.weight[i] = address_of(b, s->ops[QKV_Q + i]->weight);
        a.bias[i] = address_of(b, s->ops[QKV_Q + i]->bias);
    }
    return a;
}

static PrefillRopeArgs bind_prefill_rope(const Stage *s, const StageBuffers *b) {
    uint32_t rope = 0;
    while (b->placement->ropes[rope] != s->ops[0]->rope.rope)
        rope++;
    return (PrefillRopeArgs){.chunk = b->chunk,
                             .inv_freq = b->weights + b->placement->rope_offsets[rope],
                             .rope = b->rows_rope[rope]};
}

static void bind_prefill(const Stage *s, const StageBuffers *b, StageArgs *out) {
    switch (s->kind) {
    case STAGE_PREFILL_EMBED:
        out->prefill_embed =
            (PrefillEmbedArgs){.chunk = b->chunk, .embed = address_of(b, s->ops[0]->weight), .x = b->rows_x};
        break;
    case STAGE_PREFILL_ROPE: out->prefill_rope = bind_prefill_rope(s, b); break;
    case STAGE_PREFILL_NORM:
        out->prefill_norm = (PrefillNormArgs){
            .chunk = b->chunk, .x = b->rows_x, .norm = address_of(b, s->ops[0]->weight), .out = b->rows_h};
        break;
    case STAGE_PREFILL_QKV: out->prefill_qkv = bind_prefill_qkv(s, b); break;
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
                                                  .weight = address_of(b, s->ops[OUTPUT_MATMUL]->weight),
                                                  .bias = address_of(b, s->ops[OUTPUT_MATMUL]->bias),
                                                  .x = b->rows_x};
        break;
    case STAGE_PREFILL_GLU:
        out->prefill_glu = (PrefillGluArgs){
            .chunk = b->chunk,
            .in = b->rows_h,
            .weight = {address_of(b, s->ops[GLU_GATE]->weight), address_of(b, s->ops[GLU_UP]->weight)},
            .out = b->rows_f};
        break;
    default: break;
    }
}

void stage_bind(const Stage *s, const StageBuffers *b, CUdeviceptr sequence, CUdeviceptr tokens,
                StageArgs *out) {
    *out = (StageArgs){0};
    switch (s->kind) {
    case STAGE_QKV: out->qkv = bind_qkv(s, b, sequence); break;
    case STAGE_ATTENTION:
        out->attention = (AttentionArgs){.sequence = sequence,
                                         .q = b->q,
                                         .kv = b->kv + s->layer * b->kv_layer_bytes,
                                         .part = b->part,
                                         .part_weight = b->part_weight};
        break;
    case STAGE_OUTPUT:
    case STAGE_DOWN: out->output = bind_output(s, b, sequence); break;
    case STAGE_GLU:
        out->glu = (GluArgs){
            .x = b->x,
            .norm = address_of(b, s->ops[GLU_NORM]->weight),
            .weight = {address_of(b, s->ops[GLU_GATE]->weight), address_of(b, s->ops[GLU_UP]->weight)},
            .out = b->f};
        break;
    case STAGE_HEAD:
        out->head = (HeadArgs){.sequence = sequence,
                               .x = b->x,
                               .norm = address_of(b, s->ops[HEAD_NORM]->weight),
                               .weight = address_of(b, s->ops[HEAD_HEAD]->weight),
                               .bias = address_of(b, s->ops[HEAD_HEAD]->bias),
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
