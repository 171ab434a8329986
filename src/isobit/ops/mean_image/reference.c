/* mean_image, uint8 to int8: y = clamp(Zy + half_up((x - mean[i]) * 2^left, right)); x and y may be
 * one buffer. */
#include "isobit_rt.h"

typedef struct {
    int32_t size;
} mean_image_u8_geometry;

typedef struct {
    int32_t left, right, y_zero, low, high;
} mean_image_u8_quant;

ISOBIT_KERNEL void mean_image_u8(mean_image_u8_geometry g, const uint8_t *x,
                                 const mean_image_u8_quant *q, const uint8_t *mean, int8_t *y) {
    const int32_t gain = (int32_t)1 << q->left;
    for (int32_t i = 0; i < g.size; i++) {
        const int32_t acc = (x[i] - mean[i]) * gain;
        y[i] = (int8_t)isobit_clamp(isobit_shift(acc, q->right) + q->y_zero, q->low, q->high);
    }
}
