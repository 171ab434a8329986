/* prelu, int16 activations and int8 slopes: the definition. Both branches are computed and a mask
 * chooses, so that every code takes the same time. A loop that the slopes are broadcast along has
 * step 0; y may be x. */
#include "isobit_rt.h"

typedef struct {
    int32_t size_0, size_1, size_2, size_3;
    int32_t b_step_0, b_step_1, b_step_2, b_step_3;
    int32_t rule;
} prelu_s16_geometry;

typedef struct {
    int32_t x_zero, slope_zero, y_zero, low, high;
} prelu_s16_quant;

ISOBIT_KERNEL void prelu_s16(prelu_s16_geometry g, const int16_t *x, const prelu_s16_quant *q,
                             const int8_t *slope, const int32_t *mult, const int8_t *shift,
                             const int32_t *mult_neg, const int8_t *shift_neg, int16_t *y) {
    const prelu_s16_quant k = *q;
    for (int32_t i0 = 0; i0 < g.size_0; i0++) {
        for (int32_t i1 = 0; i1 < g.size_1; i1++) {
            for (int32_t i2 = 0; i2 < g.size_2; i2++) {
                const int8_t *s = slope + i0 * g.b_step_0 + i1 * g.b_step_1 + i2 * g.b_step_2;
                for (int32_t i3 = 0; i3 < g.size_3; i3++) {
                    const int32_t v = *x++ - k.x_zero;
                    const int32_t product = v * (s[i3 * g.b_step_3] - k.slope_zero);
                    const int32_t above = isobit_requantize(v, g.rule, mult, shift, 0);
                    const int32_t below =
                        isobit_requantize(product, g.rule, mult_neg, shift_neg, 0);
                    const int32_t negative = v >> 31;
                    const int32_t scaled = (below & negative) | (above & ~negative);
                    *y++ = (int16_t)isobit_clamp(scaled + k.y_zero, k.low, k.high);
                }
            }
        }
    }
}
