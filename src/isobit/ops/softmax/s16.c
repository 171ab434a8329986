/* softmax over the last axis, int16, as TensorFlow Lite: exp and 1 / (1 + x) are interpolated in
 * tables of 513 entries. y holds the exponentials until their sum is known; y may be x. */
#include "isobit_rt.h"

typedef struct {
    int32_t rows, depth;
} softmax_s16_geometry;

typedef struct {
    int32_t mult, shift;
} softmax_s16_quant;

/* value in -32768..32767: 512 steps of 128. */
ISOBIT_KERNEL int32_t softmax_s16_lookup(int32_t value, const int16_t *table) {
    const int16_t *entry = table + (value >> 7) + 256;
    return entry[0] + (((entry[1] - entry[0]) * (value & 127) + 64) >> 7);
}

ISOBIT_KERNEL void softmax_s16(softmax_s16_geometry g, const int16_t *x, const softmax_s16_quant *q,
                               const int16_t *exponentials, const int16_t *reciprocals,
                               int16_t *y) {
    const softmax_s16_quant k = *q;
    for (int32_t row = 0; row < g.rows; row++, x += g.depth, y += g.depth) {
        int32_t largest = -32768;
        for (int32_t i = 0; i < g.depth; i++) {
            largest = isobit_max(x[i], largest);
        }
        int32_t sum = 0;
        for (int32_t i = 0; i < g.depth; i++) {
            const int32_t scaled = isobit_tflite_double(x[i] - largest, k.mult, k.shift);
            /* In two steps: far below the range a sum with 32767 is still an int32. */
            const int32_t value = scaled < -65535 ? -32768 : scaled + 32767;
            const int32_t e = softmax_s16_lookup(value, exponentials);
            y[i] = (int16_t)e;
            sum += e;
        }
        /* sum = (1 + f) * 2^bits, and 1 / (1 + f) is in the table. */
        int32_t bits = 0;
        while (sum >> (bits + 1) != 0) {
            bits++;
        }
        const uint32_t mantissa = ((uint32_t)sum << (30 - bits)) + (1u << 13);
        const int32_t fraction = isobit_min((int32_t)(mantissa >> 14) - 3 * (1 << 15), 32767);
        const int32_t reciprocal = softmax_s16_lookup(fraction, reciprocals);
        for (int32_t i = 0; i < g.depth; i++) {
            const int32_t rounded = (int32_t)((uint32_t)1 << bits >> 1);
            y[i] = (int16_t)isobit_min((y[i] * reciprocal + rounded) >> bits, 32767);
        }
    }
}
