/* requantize, int8: y = clamp(Zy + R(x - Zx)); x and y may be the same buffer. */
#include "isobit_rt.h"

typedef struct {
    int32_t size, rule;
} requantize_s8_geometry;

ISOBIT_KERNEL void requantize_s8(requantize_s8_geometry g, const int8_t *x, const isobit_quant *q,
                                 const int32_t *mult, const int8_t *shift, int8_t *y) {
    const isobit_quant k = *q;
    const int32_t factor = g.rule == ISOBIT_SHIFT ? 1 : mult[0];
    const int8_t right_shift = shift[0];
    for (int32_t i = 0; i < g.size; i++) {
        y[i] = isobit_finish_s8(x[i] - k.x_zero, g.rule, &factor, &right_shift, 0, &k);
    }
}
