// Makes an EmulatedStage of a variant's defines and of `run` and `info`, and registers it. An include that
// has defined these two (run_PART.h) ends with this one, and this one ends their namespace.
#pragma once

#define TEXT_OF(x) #x
#define TEXT(x) TEXT_OF(x)

#include "fill_absent.h"
EmulatedStage describe() {
    EmulatedStage s = {};
    s.name = TEXT(VARIANT);
    s.sm_arch = SM_ARCH;
    s.kernel = run;
    s.info = info;
#if defined(STAGE_SPAN_ATTENTION) || defined(STAGE_SPAN_WGMMA) || defined(STAGE_SPAN_WIDE)
    s.fold = run_fold;
    s.fold_info = span_fold_info;
#endif
#if defined(STAGE_TILES)
    s.values = run_values;
    s.fragments = run_fragments;
    s.format[0] = FORMAT;
#else
    s.format[0] = FORMAT_0;
#endif
    s.d_model = D_MODEL, s.n_heads = N_HEADS, s.n_kv_heads = N_KV_HEADS, s.head_dim = HEAD_DIM;
    s.rope_dims = ROPE_DIMS, s.d_ff = D_FF, s.n_vocab = N_VOCAB, s.n_rows = N_ROWS, s.n_cols = N_COLS;
    s.window = WINDOW, s.blocks = BLOCKS;
    s.teams = TEAMS;
    s.queries = SPAN_QUERIES;
    s.rope_halves = ROPE_HALVES, s.activation = ACTIVATION;
    s.embed_format = EMBED_FORMAT, s.max_rows = MAX_ROWS, s.has_sinks = HAS_SINKS;
    s.soft_cap = SOFT_CAP;
    s.layer_norm = LAYER_NORM, s.learned = LEARNED_POSITIONS, s.ungated = UNGATED;
    s.kv_q8 = KV_Q8, s.has_bias = HAS_BIAS, s.groups_max = GROUPS_MAX;
    s.value_parts = VALUE_PARTS;
#ifdef SHARED_KV
    s.shared_kv = 1;
#endif
    s.n_experts = N_EXPERTS, s.n_used = N_USED, s.expert_tiles = EXPERT_TILES, s.tile_tokens = TILE_TOKENS;
    s.format[1] = FORMAT_1, s.format[2] = FORMAT_2;
    s.rope_scale = ROPE_SCALE, s.norm_eps = NORM_EPS, s.score_scale = SCORE_SCALE,
    s.embed_scale = EMBED_SCALE;
    return s;
}

struct Registration {
    EmulatedStage stage = describe();
    Registration() {
        emulated_stage_register(&stage);
    }
} registration;
} // namespace
