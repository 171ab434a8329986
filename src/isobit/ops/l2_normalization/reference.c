/* l2_normalization, int8, over the last axis: the arithmetic of TensorFlow Lite
 * (docs/numerics.md). Qm.n is an int32 whose unit is 2^-n. y may be x. */
#include "isobit_rt.h"

typedef struct {
    int32_t rows, depth;
} l2_normalization_s8_geometry;

typedef struct {
    int32_t x_zero;
} l2_normalization_s8_quant;

typedef struct {
    int32_t mult, shift;
} l2_normalization_s8_factor;

/* Qm times Qn in Q(m+n): floor(a * b * 2^-31 + 1/2). */
ISOBIT_KERNEL int32_t l2_normalization_s8_product(int32_t a, int32_t b) {
    return (int32_t)(((int64_t)a * b + ((int64_t)1 << 30)) >> 31);
}

/* sqrt(1/2) / sqrt(a) in Q3.28 of a in [1/4, 1) in Q3.28: five steps x <- 3/2 x - a/2 x^3. */
ISOBIT_KERNEL int32_t l2_normalization_s8_root(int32_t a) {
    const int32_t half = (a + 1) >> 1;
    int32_t x = (int32_t)1 << 28;
    ISOBIT_ROLLED
    for (int32_t step = 0; step < 5; step++) {
        const int32_t square = l2_normalization_s8_product(x, x);
        const int32_t cube = l2_normalization_s8_product(square, x) * 64; /* Q9.22 to Q3.28 */
        const int32_t more = l2_normalization_s8_product((int32_t)3 << 27, x);
        x = (more - l2_normalization_s8_product(half, cube)) * 8; /* Q6.25 to Q3.28 */
    }
    return l2_normalization_s8_product(x, 1518500250);
}

/* 1 / sqrt(sum) = mult * 2^(shift - 31); 0 counts as 1. Without branches: masks choose. */
ISOBIT_KERNEL l2_normalization_s8_factor l2_normalization_s8_inverse_root(int32_t sum) {
    const int32_t tiny = (sum - 2) >> 31;
    int32_t v = isobit_max(sum, 2);
    int32_t right = 12; /* less one for every pair of bits that v moves to reach [2^29, 2^31) */
    ISOBIT_ROLLED
    for (int32_t bits = 16; bits > 1; bits >>= 1) {
        const int32_t moved = ((v - ((int32_t)1 << (31 - bits))) >> 31) & bits;
        v = (int32_t)((uint32_t)v << moved);
        right -= moved >> 1;
    }
    const int32_t root = l2_normalization_s8_root(v >> 3);
    const int32_t left = isobit_max(-right, 0); /* up to 2: sums of 2 to 7 */
    const int32_t mult = (int32_t)((uint32_t)root << left);
    const l2_normalization_s8_factor factor = {(mult & ~tiny) | (INT32_MAX & tiny),
                                               -(isobit_max(right, 0) & ~tiny)};
    return factor;
}

ISOBIT_KERNEL void l2_normalization_s8(l2_normalization_s8_geometry g, const int8_t *x,
                                       const l2_normalization_s8_quant *q, int8_t *y) {
    const int32_t zero = q->x_zero;
    for (int32_t row = 0; row < g.rows; row++) {
        int32_t sum = 0;
        for (int32_t i = 0; i < g.depth; i++) {
            sum += (x[i] - zero) * (x[i] - zero);
        }
        const l2_normalization_s8_factor k = l2_normalization_s8_inverse_root(sum);
        const int32_t left = isobit_max(k.shift + 7, 0);
        const int32_t right = isobit_max(-k.shift - 7, 0);
        for (int32_t i = 0; i < g.depth; i++) {
            const int32_t wide = (x[i] - zero) * (int32_t)((uint32_t)1 << left);
            const int32_t code = isobit_tflite_double(wide, k.mult, -right);
            y[i] = (int8_t)isobit_clamp(code, -128, 127);
        }
        x += g.depth;
        y += g.depth;
    }
}
