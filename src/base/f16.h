// Conversions of 16-bit floats to and from float, bit-exact, round to nearest even (IEEE 754 binary16;
// bfloat16).
#pragma once

#include "base/base.h"

static inline float f32_from_bits(uint32_t bits) {
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static inline uint32_t f32_to_bits(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

static inline float f32_from_f16(uint16_t h) {
    uint32_t sign = (uint32_t)(h & 0x8000u) << 16, exponent = h >> 10 & 31u, mantissa = h & 0x3FFu;
    if (exponent == 31) return f32_from_bits(sign | 0x7F800000u | mantissa << 13);
    if (exponent) return f32_from_bits(sign | (exponent + 112) << 23 | mantissa << 13);
    float value = (float)mantissa * 0x1p-24f; // subnormal or zero
    return sign ? -value : value;
}

static inline float f32_from_bf16(uint16_t b) {
    return f32_from_bits((uint32_t)b << 16);
}

uint16_t f16_from_f32(float value);
