/* linear, int16 in, int8 out: as s16, requantised once. */
#include "isobit_rt.h"

typedef struct {
    int32_t in, out;
    int32_t rule, per_channel, x_has_zero, has_bias, wide_bias;
} linear_s16_to_s8_geometry;

ISOBIT_KERNEL void linear_s16_to_s8(linear_s16_to_s8_geometry g, const int16_t *x,
                                    const isobit_quant *q, const int8_t *w, const void *b,
                                    const int32_t *mult, const int8_t *shift, int8_t *y) {
    const int32_t x_zero = g.x_has_zero ? q->x_zero : 0;
    for (int32_t o = 0; o < g.out; o++) {
        int64_t acc = g.has_bias ? isobit_bias(b, g.wide_bias, o) : 0;
        for (int32_t i = 0; i < g.in; i++) {
            acc += (x[i] - x_zero) * *w++;
        }
        *y++ = (int8_t)isobit_finish_s16(acc, g.rule, mult, shift, g.per_channel ? o : 0, q);
    }
}
