/* softmax, int8, over the last axis: the arithmetic of TensorFlow Lite Micro and gemmlowp
 * (docs/numerics.md).
 *
 * Qm.n is an int32 whose unit is 2^-n; one in Q0.31 is 2^31 - 1. x and y may be the same buffer: a
 * row is read whole before its first element is written, and then element by element.
 */
#include "isobit_rt.h"

typedef struct {
    int32_t rows, depth;
} softmax_s8_geometry;

typedef struct {
    int32_t mult, shift, diff_min;
} softmax_s8_quant;

/* Qm times Qn in Q(m+n): floor(a * b * 2^-31 + 1/2). */
ISOBIT_KERNEL int32_t softmax_s8_product(int32_t a, int32_t b) {
    return (int32_t)(((int64_t)a * b + ((int64_t)1 << 30)) >> 31);
}

/* exp(a) in Q0.31 for a <= 0 in Q5.26: a = near - rest, near in [-1/4, 0), rest a multiple of 1/4.
 */
static int32_t softmax_s8_exp(int32_t a) {
    static const int32_t of_powers[7] = {1672461947, 1302514674, 790015084, 290630308,
                                         39332535,   720401,     242}; /* exp(-2^k), k = -2..4 */
    if (a == 0) {
        return INT32_MAX;
    }
    const int32_t near = (a & 0xffffff) - 0x1000000;
    const int32_t rest = near - a;
    const int32_t x = near * 32 + ((int32_t)1 << 28); /* near + 1/8 in Q0.31 */
    const int32_t x2 = softmax_s8_product(x, x);
    const int32_t x3 = softmax_s8_product(x2, x);
    const int32_t x4 = softmax_s8_product(x2, x2); /* >= 0 */
    const int32_t sum = softmax_s8_product(((x4 + 2) >> 2) + x3, 715827883) + x2;
    const int32_t tail = (sum + 1 - (sum < 0)) >> 1; /* x^2/2 + x^3/6 + x^4/24 */
    int32_t result = 1895147668 + softmax_s8_product(1895147668, x + tail);
    for (int32_t k = 0; k < 7; k++) {
        if (((rest >> (24 + k)) & 1) != 0) {
            result = softmax_s8_product(result, of_powers[k]);
        }
    }
    return result;
}

/* 1 / (1 + a) in Q0.31 for 0 <= a < 1 in Q0.31: three Newton steps for the reciprocal of (1 + a)
 * / 2. */
ISOBIT_KERNEL int32_t softmax_s8_reciprocal(uint32_t a) {
    const int32_t half = (int32_t)((a + 0x80000000u) >> 1);
    int32_t x = 1515870810 + softmax_s8_product(half, -1010580540);
    for (int32_t step = 0; step < 3; step++) {
        const int32_t error = ((int32_t)1 << 29) - softmax_s8_product(half, x);
        x += softmax_s8_product(x, error) * 4;
    }
    return x >= (int32_t)1 << 30 ? INT32_MAX : x * 2;
}

ISOBIT_KERNEL void softmax_s8(softmax_s8_geometry g, const int8_t *x, const softmax_s8_quant *q,
                              int8_t *y) {
    const int32_t scale = (int32_t)((uint32_t)1 << q->shift);
    ISOBIT_ROLLED
    for (int32_t row = 0; row < g.rows; row++) {
        int32_t largest = x[0];
        for (int32_t i = 1; i < g.depth; i++) {
            largest = x[i] > largest ? x[i] : largest;
        }
        int32_t total = 0; /* Q12.19 */
        ISOBIT_ROLLED
        for (int32_t i = 0; i < g.depth; i++) {
            const int32_t d = x[i] - largest;
            if (d >= q->diff_min) {
                const int32_t e = softmax_s8_exp(softmax_s8_product(d * scale, q->mult));
                total += (e >> 12) + ((e >> 11) & 1);
            }
        }
        uint32_t mantissa = (uint32_t)total;
        int32_t power = 35; /* 12 - (leading zeros of total) + 31 - 8 */
        while (mantissa < 0x80000000u) {
            mantissa *= 2u;
            power--;
        }
        const int32_t r = softmax_s8_reciprocal(mantissa - 0x80000000u);
        ISOBIT_ROLLED
        for (int32_t i = 0; i < g.depth; i++) {
            const int32_t d = x[i] - largest;
            int32_t code = 0;
            if (d >= q->diff_min) {
                const int32_t e = softmax_s8_exp(softmax_s8_product(d * scale, q->mult));
                const int64_t half = (int64_t)1 << (power - 1);
                code = (int32_t)((softmax_s8_product(r, e) + half) >> power);
            }
            y[i] = (int8_t)(isobit_clamp(code, 0, 255) - 128);
        }
        x += g.depth;
        y += g.depth;
    }
}
