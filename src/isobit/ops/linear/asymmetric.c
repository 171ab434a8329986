/* linear, int8, weights ([out, in]) with a zero point: the reference, that subtracted from every
 * tap. */
#include "isobit_rt.h"

typedef struct {
    int32_t in, out;
    int32_t rule, per_channel, x_has_zero, has_bias;
} linear_s8_asymmetric_geometry;

ISOBIT_KERNEL void linear_s8_asymmetric(linear_s8_asymmetric_geometry g, const int8_t *x,
                                        const isobit_quant *q, const int32_t *w_zero,
                                        const int8_t *w, const int32_t *b, const int32_t *mult,
                                        const int8_t *shift, int8_t *y) {
    const int32_t zero = w_zero[0];
    const int32_t x_zero = g.x_has_zero ? q->x_zero : 0;
    for (int32_t o = 0; o < g.out; o++) {
        int32_t acc = g.has_bias ? b[o] : 0;
        for (int32_t i = 0; i < g.in; i++) {
            acc += (x[i] - x_zero) * (*w++ - zero);
        }
        *y++ = isobit_finish_s8(acc, g.rule, mult, shift, g.per_channel ? o : 0, q);
    }
}
