/* conv2d, int8, 1x1: one matrix row per pixel. */
#include "isobit_rt.h"

typedef struct {
    int32_t pixels, in_c, out_c;
    int32_t rule, per_channel, x_has_zero, has_bias;
} conv2d_s8_toy_1x1_geometry;

ISOBIT_KERNEL void conv2d_s8_toy_1x1(conv2d_s8_toy_1x1_geometry g, const int8_t *x,
                                     const isobit_quant *q, const int8_t *w, const int32_t *b,
                                     const int32_t *mult, const int8_t *shift, int8_t *y) {
    const int32_t x_zero = g.x_has_zero ? q->x_zero : 0;
    for (int32_t p = 0; p < g.pixels; p++) {
        for (int32_t o = 0; o < g.out_c; o++) {
            int32_t acc = g.has_bias ? b[o] : 0;
            for (int32_t c = 0; c < g.in_c; c++) {
                acc += (x[p * g.in_c + c] - x_zero) * w[o * g.in_c + c];
            }
            *y++ = isobit_finish_s8(acc, g.rule, mult, shift, g.per_channel ? o : 0, q);
        }
    }
}
