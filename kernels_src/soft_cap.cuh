// Keeps scores and logits within (-cap, cap): x becomes cap tanh(x / cap) (Gemma Team 2024, "Gemma 2"), as
//     cap - 2 cap / (1 + 2^(2 log2(e) x / cap))
// which is five instructions and off by about 5e-7 cap at most, where tanh_f32 takes some twenty. Not a
// number stays that. Defines: SOFT_CAP, where there is one.
#ifdef SOFT_CAP
DEVICE float soft_cap(float x, float cap) {
    return fma_f32(-2.0f * cap, reciprocal_fast(1.0f + exp2_fast(x * (2.88539008178f / cap))), cap);
}
// Of a score in powers of two, log2(e) times as large as the score that SOFT_CAP is for.
DEVICE float cap_score(float score) {
    return soft_cap(score, SOFT_CAP * 1.44269504089f);
}
#endif
