/* mul, int16: the definition. A loop that an operand is broadcast along has step 0; without one, y
   may be a or b. */
#include "isobit_rt.h"

typedef struct {
    int32_t size_0, size_1, size_2, size_3;
    int32_t a_step_0, a_step_1, a_step_2, a_step_3;
    int32_t b_step_0, b_step_1, b_step_2, b_step_3;
    int32_t rule;
} mul_s16_geometry;

typedef struct {
    int32_t a_zero, b_zero, y_zero, low, high;
} mul_s16_quant;

ISOBIT_KERNEL void mul_s16(mul_s16_geometry g, const int16_t *a, const int16_t *b,
                           const mul_s16_quant *q, const int32_t *mult, const int8_t *shift,
                           int16_t *y) {
    const mul_s16_quant k = *q;
    const int32_t factor = g.rule == ISOBIT_SHIFT ? 1 : mult[0];
    const int8_t right_shift = shift[0];
    for (int32_t i0 = 0; i0 < g.size_0; i0++) {
        for (int32_t i1 = 0; i1 < g.size_1; i1++) {
            for (int32_t i2 = 0; i2 < g.size_2; i2++) {
                const int16_t *left = a + i0 * g.a_step_0 + i1 * g.a_step_1 + i2 * g.a_step_2;
                const int16_t *right = b + i0 * g.b_step_0 + i1 * g.b_step_1 + i2 * g.b_step_2;
                for (int32_t i3 = 0; i3 < g.size_3; i3++) {
                    const int32_t product =
                        (left[i3 * g.a_step_3] - k.a_zero) * (right[i3 * g.b_step_3] - k.b_zero);
                    const int32_t scaled =
                        isobit_requantize(product, g.rule, &factor, &right_shift, 0);
                    *y++ = (int16_t)isobit_clamp(scaled + k.y_zero, k.low, k.high);
                }
            }
        }
    }
}
