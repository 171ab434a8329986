/* standardize, uint8 to int8: y = clamp(Zy + half_up((x - mean[c]) * 2^left, right)); x and y may
 * be one buffer. */
#include "isobit_rt.h"

typedef struct {
    int32_t size, channels;
} standardize_u8_geometry;

typedef struct {
    int32_t left, right, y_zero, low, high;
} standardize_u8_quant;

ISOBIT_KERNEL void standardize_u8(standardize_u8_geometry g, const uint8_t *x,
                                  const standardize_u8_quant *q, const int16_t *mean, int8_t *y) {
    const int32_t gain = (int32_t)1 << q->left;
    for (int32_t i = 0; i < g.size; i += g.channels) {
        for (int32_t c = 0; c < g.channels; c++) {
            const int32_t acc = (x[i + c] - mean[c]) * gain;
            y[i + c] =
                (int8_t)isobit_clamp(isobit_shift(acc, q->right) + q->y_zero, q->low, q->high);
        }
    }
}
