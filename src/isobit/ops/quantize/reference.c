/* quantize, float32 to int8: y = clamp(Zy + round_half_away(x * mult * 2^-shift)).
 *
 * No floating-point instruction: cores without an FPU need no soft float, and nothing depends on
 * rounding modes: x is read as (-1)^s * m * 2^t with m < 2^24, and m * mult < 2^55 fits 64 bits.
 * y may lie at x.
 */
#include "isobit_rt.h"

typedef struct {
    int32_t size;
} quantize_f32_geometry;

typedef struct {
    int32_t mult, shift, y_zero, low, high;
} quantize_f32_quant;

/* The caller writes floats; reading their bits as integers must not be taken for another object. */
#if defined(__GNUC__) || defined(__clang__)
typedef uint32_t __attribute__((may_alias)) quantize_f32_bits;
#else
typedef uint32_t quantize_f32_bits;
#endif

/* Saturates with every zero point. */
#define QUANTIZE_F32_BEYOND 0x10000u

/* condition ? a : b without a branch, so that every float takes the same time. */
ISOBIT_KERNEL uint32_t quantize_f32_select(int condition, uint32_t a, uint32_t b) {
    const uint32_t mask = 0u - (uint32_t)(condition != 0);
    return (a & mask) | (b & ~mask);
}

ISOBIT_KERNEL uint32_t quantize_f32_within(int32_t value, uint32_t high) {
    const uint32_t positive = quantize_f32_select(value > 0, (uint32_t)value, 0u);
    return quantize_f32_select(positive > high, high, positive);
}

/* min(floor(value * 2^-n), 2 * BEYOND) for n in 0..63. Cores without 64-bit shifts call functions
 * that branch; these are 32-bit. */
ISOBIT_KERNEL uint32_t quantize_f32_down(uint64_t value, uint32_t n) {
    const uint32_t top = (uint32_t)(value >> 32);
    const uint32_t low = quantize_f32_select((n & 32u) != 0, top, (uint32_t)value);
    const uint32_t high = quantize_f32_select((n & 32u) != 0, 0u, top);
    const uint32_t by = n & 31u;
    const uint32_t result = low >> by | high << 1 << (31u - by);
    const int large = ((high >> by) | (result >> 17)) != 0;
    return quantize_f32_select(large, 2u * QUANTIZE_F32_BEYOND, result);
}

ISOBIT_KERNEL uint32_t quantize_f32_magnitude(uint32_t bits, const quantize_f32_quant *q) {
    const uint32_t exponent = bits >> 23 & 0xffu;
    const uint32_t fraction = bits & 0x7fffffu;
    /* A subnormal number has no hidden bit and the exponent of field 1. */
    const uint32_t normal = exponent != 0;
    const uint32_t m = fraction | normal << 23;
    const int32_t n = q->shift + 149 - (int32_t)(exponent - normal);
    /* One more bit than the result: rounding adds the first one that is dropped. */
    const uint32_t twice =
        quantize_f32_down((uint64_t)m * (uint32_t)q->mult * 2u, quantize_f32_within(n, 63u));
    const uint32_t rounded = ((twice >> 1) + (twice & 1u)) << quantize_f32_within(-n, 15u);
    const uint32_t special =
        quantize_f32_select(fraction == 0, QUANTIZE_F32_BEYOND, 0u); /* or NaN */
    const uint32_t finite =
        quantize_f32_select(rounded > QUANTIZE_F32_BEYOND, QUANTIZE_F32_BEYOND, rounded);
    return quantize_f32_select(exponent == 0xffu, special, finite);
}

ISOBIT_KERNEL void quantize_f32(quantize_f32_geometry g, const void *x, const quantize_f32_quant *q,
                                int8_t *y) {
    const quantize_f32_bits *from = x;
    for (int32_t i = 0; i < g.size; i++) {
        const uint32_t bits = from[i];
        const int32_t sign = (int32_t)(bits >> 31);
        const int32_t code = ((int32_t)quantize_f32_magnitude(bits, q) ^ -sign) + sign;
        y[i] = (int8_t)isobit_clamp(code + q->y_zero, q->low, q->high);
    }
}
