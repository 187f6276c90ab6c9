// The activation functions. Defines: ACTIVATION (ACTIVATION_SILU, ACTIVATION_GELU_TANH, ACTIVATION_GELU_ERF,
// ACTIVATION_SWIGLU_CLAMPED, ACTIVATION_RELU_SQUARED, ACTIVATION_IDENTITY, ACTIVATION_SIGMOID).
#ifndef ACTIVATION
#error "ACTIVATION"
#endif

// OP_GLU's functions: SiLU is x sigmoid(x) (Elfwing, Uchibe, Doya 2017); GELU (Hendrycks, Gimpel 2016) exact
// or by tanh; squared ReLU is max(x, 0)^2 (So et al. 2021).
#if ACTIVATION != ACTIVATION_SWIGLU_CLAMPED
DEVICE float activate(float x) {
#if ACTIVATION == ACTIVATION_SILU
    return x * reciprocal_fast(1.0f + exp2_fast(-1.44269504089f * x));
#elif ACTIVATION == ACTIVATION_GELU_TANH
    return 0.5f * x * (1.0f + tanh_f32(0.79788456080286536f * x * fma_f32(0.044715f * x, x, 1.0f)));
#elif ACTIVATION == ACTIVATION_RELU_SQUARED
    return x > 0.0f ? x * x : 0.0f * x; // not a number stays that
#elif ACTIVATION == ACTIVATION_IDENTITY
    return x;
#elif ACTIVATION == ACTIVATION_SIGMOID
    return reciprocal_fast(1.0f + exp2_fast(-1.44269504089f * x));
#else
    return 0.5f * x * (1.0f + erf_f32(x * 0.70710678118654752f));
#endif
}
#endif

// OP_GLU of a gate and an up: act(gate) up; GPT-OSS's (OpenAI 2025) clamps both first.
DEVICE float gated(float gate, float up) {
#if ACTIVATION == ACTIVATION_SWIGLU_CLAMPED
    gate = gate > 7.0f ? 7.0f : gate; // not a number stays that
    up = up > 7.0f ? 7.0f : up < -7.0f ? -7.0f : up;
    return gate * reciprocal_fast(1.0f + exp2_fast(-1.702f * 1.44269504089f * gate)) * (up + 1.0f);
#else
    return activate(gate) * up;
#endif
}
