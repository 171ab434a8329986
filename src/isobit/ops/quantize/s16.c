/* quantize, float32 to int16: y = clamp(round_half_away(F(x / divisor))), F the rounding to
 * float32.
 *
 * The quotient of two mantissas of 24 bits is divided bit by bit, rounded to 24 bits, ties to even,
 * and then to an integer: no floating-point instruction, whatever the core. y may lie at x. */
#include "isobit_rt.h"

typedef struct {
    int32_t size;
} quantize_f32_s16_geometry;

typedef struct {
    int32_t mantissa,
        exponent; /* divisor = mantissa * 2^(exponent - 150), mantissa in 2^23..2^24 */
    int32_t low, high;
} quantize_f32_s16_quant;

/* The caller writes floats; reading their bits as integers must not be taken for another object. */
#if defined(__GNUC__) || defined(__clang__)
typedef uint32_t __attribute__((may_alias)) quantize_f32_s16_bits;
#else
typedef uint32_t quantize_f32_s16_bits;
#endif

/* Saturates with either sign. */
#define QUANTIZE_F32_S16_BEYOND 0x10000u

/* round(x / divisor * 2^(24 + wide)) in 2^23..2^24, ties to even; *wide: whether x >= divisor. */
ISOBIT_KERNEL uint32_t quantize_f32_s16_quotient(uint32_t x, uint32_t divisor, int32_t *wide) {
    *wide = x >= divisor;
    uint32_t rest = *wide ? x - divisor : x, quotient = (uint32_t)*wide;
    for (int32_t bit = *wide; bit <= 24; bit++) {
        rest <<= 1;
        quotient <<= 1;
        if (rest >= divisor) {
            rest -= divisor;
            quotient |= 1u;
        }
    }
    /* 25 bits: the last one is half of what stays. */
    const uint32_t up = (quotient & 1u) & ((rest != 0) | (quotient >> 1 & 1u));
    return (quotient >> 1) + up;
}

ISOBIT_KERNEL uint32_t quantize_f32_s16_magnitude(uint32_t bits, const quantize_f32_s16_quant *q) {
    const uint32_t exponent = bits >> 23 & 0xffu;
    const uint32_t fraction = bits & 0x7fffffu;
    if (exponent == 0xffu) {
        return fraction == 0 ? QUANTIZE_F32_S16_BEYOND : 0u; /* an infinity, or NaN */
    }
    const int32_t apart = (int32_t)exponent - q->exponent;
    if (apart < -2 || exponent == 0) {
        return 0u; /* a quotient below 1/2 even of mantissas 2 : 1 */
    }
    if (apart > 16) {
        return QUANTIZE_F32_S16_BEYOND;
    }
    int32_t wide;
    const uint32_t mantissa = fraction | 1u << 23;
    const uint32_t quotient = quantize_f32_s16_quotient(mantissa, (uint32_t)q->mantissa, &wide);
    const int32_t right = 24 - wide - apart; /* 7..26 */
    return (quotient + (1u << (right - 1))) >> right;
}

ISOBIT_KERNEL void quantize_f32_s16(quantize_f32_s16_geometry g, const void *x,
                                    const quantize_f32_s16_quant *q, int16_t *y) {
    const quantize_f32_s16_bits *from = x;
    for (int32_t i = 0; i < g.size; i++) {
        const uint32_t bits = from[i];
        const int32_t sign = (int32_t)(bits >> 31);
        const int32_t code = ((int32_t)quantize_f32_s16_magnitude(bits, q) ^ -sign) + sign;
        y[i] = (int16_t)isobit_clamp(code, q->low, q->high);
    }
}
