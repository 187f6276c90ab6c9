#include "base/f16.h"

uint16_t f16_from_f32(float value) {
    uint32_t bits = f32_to_bits(value), sign = bits >> 16 & 0x8000u, magnitude = bits & 0x7FFFFFFFu;
    if (magnitude > 0x7F800000u) return (uint16_t)(sign | 0x7E00u);  // not a number
    if (magnitude >= 0x477FF000u) return (uint16_t)(sign | 0x7C00u); // 65520 and up round to infinity
    if (magnitude < 0x38800000u) { // below 2^-14: adding 0.5 leaves units of 2^-24 in the low bits, rounded
        float shifted = f32_from_bits(magnitude) + 0.5f;
        return (uint16_t)(sign | (f32_to_bits(shifted) - 0x3F000000u));
    }
    uint32_t rounded = magnitude + 0xFFFu + (magnitude >> 13 & 1u);
    return (uint16_t)(sign | (rounded - 0x38000000u) >> 13);
}
