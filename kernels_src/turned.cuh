// The first and the second value of a pair after its turn (Su et al. 2021), whoever turns it.
DEVICE float turned_first(float first, float second, float cosine, float sine) {
    return fma_f32(first, cosine, -(second * sine));
}
DEVICE float turned_second(float first, float second, float cosine, float sine) {
    return fma_f32(first, sine, second * cosine);
}
