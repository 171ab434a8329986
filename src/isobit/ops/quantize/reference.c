/* quantize, float32 to int8: y = clamp(Zy + round_half_away(x * mult * 2^-shift)) from the bits of x.
 *
 * No floating-point instruction: cores without an FPU need no soft float, and nothing depends on rounding modes.
 * x is (-1)^s * m * 2^t with m < 2^24, so m * mult < 2^55 is exact in 64 bits. y may lie at x.
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
enum { QUANTIZE_F32_BEYOND = 1 << 16 };

ISOBIT_KERNEL int32_t quantize_f32_within(int32_t value, int32_t high) {
    value = value < 0 ? 0 : value;
    return value > high ? high : value;
}

ISOBIT_KERNEL int32_t quantize_f32_magnitude(uint32_t bits, const quantize_f32_quant *q) {
    const int32_t exponent = (int32_t)(bits >> 23 & 0xffu);
    const uint32_t fraction = bits & 0x7fffffu;
    const uint32_t normal = exponent > 0;
    /* A subnormal number has no hidden bit and the exponent of field 1. */
    const uint32_t m = fraction + (normal << 23);
    const int32_t n = q->shift + 149 - exponent + (int32_t)normal;
    const int32_t right = quantize_f32_within(n, 62), left = quantize_f32_within(-n, 16);
    const uint64_t half = (uint64_t)1 << right >> 1;
    const uint64_t rounded = ((uint64_t)m * (uint32_t)q->mult + half) >> right;
    const uint64_t beyond = QUANTIZE_F32_BEYOND;
    const uint64_t scaled = (rounded > beyond ? beyond : rounded) << left;
    const int32_t finite = (int32_t)(scaled > beyond ? beyond : scaled);
    const int32_t special = fraction == 0 ? QUANTIZE_F32_BEYOND : 0; /* infinity, or NaN */
    return exponent == 0xff ? special : finite;
}

ISOBIT_KERNEL void quantize_f32(quantize_f32_geometry g, const void *x, const quantize_f32_quant *q,
                                int8_t *y) {
    const quantize_f32_bits *from = x;
    for (int32_t i = 0; i < g.size; i++) {
        const uint32_t bits = from[i];
        const int32_t magnitude = quantize_f32_magnitude(bits, q);
        const int32_t code = (bits >> 31) != 0 ? -magnitude : magnitude;
        y[i] = (int8_t)isobit_clamp(code + q->y_zero, q->low, q->high);
    }
}
