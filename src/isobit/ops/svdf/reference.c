/* svdf, int8: the definition. The state holds the last features of every filter, oldest first: they
 * move by one place and the newest takes the last. State and time weights are int8, or int16 where
 * `wide`. */
#include "isobit_rt.h"

typedef struct {
    int32_t rows, in, units, rank, memory;
    int32_t has_bias, wide;
} svdf_s8_geometry;

typedef struct {
    int32_t x_zero, y_zero, low, high, feature_low, feature_high;
} svdf_s8_quant;

ISOBIT_KERNEL int32_t svdf_s8_get(const void *from, int32_t wide, int32_t i) {
    return wide ? ((const int16_t *)from)[i] : ((const int8_t *)from)[i];
}

ISOBIT_KERNEL void svdf_s8_put(void *to, int32_t wide, int32_t i, int32_t value) {
    if (wide) {
        ((int16_t *)to)[i] = (int16_t)value;
    } else {
        ((int8_t *)to)[i] = (int8_t)value;
    }
}

ISOBIT_KERNEL void svdf_s8(svdf_s8_geometry g, const int8_t *x, const svdf_s8_quant *q,
                           const int8_t *w, const void *t, const int32_t *b, const int32_t *mult,
                           const int8_t *shift, int8_t *y, void *state) {
    const int32_t filters = g.units * g.rank, last = g.memory - 1;
    for (int32_t row = 0; row < g.rows; row++) {
        int32_t acc = 0;
        for (int32_t f = 0; f < filters; f++) {
            const int32_t weights = f * g.memory, first = row * filters * g.memory + weights;
            int32_t feature = 0;
            for (int32_t i = 0; i < g.in; i++) {
                feature += (x[i] - q->x_zero) * w[f * g.in + i];
            }
            feature = isobit_tflite_double(feature, mult[0], shift[0]);
            feature = isobit_clamp(feature, q->feature_low, q->feature_high);
            for (int32_t m = 0; m < last; m++) {
                const int32_t kept = svdf_s8_get(state, g.wide, first + m + 1);
                svdf_s8_put(state, g.wide, first + m, kept);
                acc += svdf_s8_get(t, g.wide, weights + m) * kept;
            }
            svdf_s8_put(state, g.wide, first + last, feature);
            acc += svdf_s8_get(t, g.wide, weights + last) * feature;
            if (f % g.rank == g.rank - 1) {
                acc += g.has_bias ? b[f / g.rank] : 0;
                acc = isobit_tflite_double(acc, mult[1], shift[1]) + q->y_zero;
                *y++ = (int8_t)isobit_clamp(acc, q->low, q->high);
                acc = 0;
            }
        }
        x += g.in;
    }
}
