/* per_image_standardize, uint8 or int8 to int8: y = clamp(Zy + (x - mean) / deviation * 2^frac) of
 * one image (docs/numerics.md); x and y may be one buffer.
 *
 * With N values, S their sum and V = N * (sum of squares) - S^2, a code is (N*x - S) / sqrt(V) *
 * 2^frac: everything but the root and its reciprocal is exact. N <= 2^20, so N*x - S has 29 bits
 * and V 54.
 */
#include "isobit_rt.h"

typedef struct {
    int32_t size, x_is_signed;
} per_image_standardize_s8_geometry;

typedef struct {
    int32_t frac, y_zero, low, high;
} per_image_standardize_s8_quant;

ISOBIT_KERNEL int32_t per_image_standardize_s8_value(const void *x, int32_t is_signed, int32_t i) {
    return is_signed ? ((const int8_t *)x)[i] : ((const uint8_t *)x)[i];
}

/* floor(sqrt(v)) for v < 2^62, a bit at a time from 2^30 down. */
static uint32_t per_image_standardize_s8_root(uint64_t v) {
    uint64_t root = 0;
    for (uint64_t bit = (uint64_t)1 << 60; bit != 0; bit >>= 2) {
        const uint64_t trial = root + bit;
        root >>= 1;
        if (v >= trial) {
            v -= trial;
            root += bit;
        }
    }
    return (uint32_t)root;
}

/* floor(2^60 / d) for d in 2^30..2^31-1, by long division: cores without a divider need no library.
 */
static int32_t per_image_standardize_s8_reciprocal(uint32_t d) {
    uint32_t quotient = 0;
    uint32_t rest = (uint32_t)1 << 30;
    for (int32_t bit = 0; bit <= 30; bit++) {
        quotient <<= 1;
        if (rest >= d) {
            rest -= d;
            quotient++;
        }
        rest <<= 1;
    }
    return (int32_t)quotient;
}

ISOBIT_KERNEL void per_image_standardize_s8(per_image_standardize_s8_geometry g, const void *x,
                                            const per_image_standardize_s8_quant *q,
                                            const int64_t *least, int8_t *y) {
    int32_t sum = 0;
    int64_t squares = 0;
    for (int32_t i = 0; i < g.size; i++) {
        const int32_t v = per_image_standardize_s8_value(x, g.x_is_signed, i);
        sum += v;
        squares += v * v;
    }
    int64_t variance = g.size * squares - (int64_t)sum * sum;
    if (variance < least[0]) {
        variance = least[0];
    }
    int32_t shift = 60 - q->frac;
    while (variance < (int64_t)1 << 60) {
        variance *= 4;
        shift--;
    }
    const uint32_t root = per_image_standardize_s8_root((uint64_t)variance);
    const int32_t mult = per_image_standardize_s8_reciprocal(root);
    for (int32_t i = 0; i < g.size; i++) {
        const int32_t v = per_image_standardize_s8_value(x, g.x_is_signed, i);
        const int32_t code = isobit_half_up(g.size * v - sum, mult, shift);
        y[i] = (int8_t)isobit_clamp(code + q->y_zero, q->low, q->high);
    }
}
