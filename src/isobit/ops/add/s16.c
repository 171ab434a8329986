/* add and subtract, int16, as TensorFlow Lite rounds: both operands, widened by 15 bits, are
   rescaled, then their sum is. A loop that an operand is broadcast along has step 0; without one, y
   may be a or b. */
#include "isobit_rt.h"

typedef struct {
    int32_t size_0, size_1, size_2, size_3;
    int32_t a_step_0, a_step_1, a_step_2, a_step_3;
    int32_t b_step_0, b_step_1, b_step_2, b_step_3;
    int32_t subtract;
} add_s16_geometry;

typedef struct {
    int32_t a_zero, b_zero, y_zero, low, high;
    int32_t mult_a, shift_a, mult_b, shift_b, mult, shift;
} add_s16_quant;

ISOBIT_KERNEL void add_s16(add_s16_geometry g, const int16_t *a, const int16_t *b,
                           const add_s16_quant *q, int16_t *y) {
    const add_s16_quant k = *q;
    for (int32_t i0 = 0; i0 < g.size_0; i0++) {
        for (int32_t i1 = 0; i1 < g.size_1; i1++) {
            for (int32_t i2 = 0; i2 < g.size_2; i2++) {
                const int16_t *left = a + i0 * g.a_step_0 + i1 * g.a_step_1 + i2 * g.a_step_2;
                const int16_t *right = b + i0 * g.b_step_0 + i1 * g.b_step_1 + i2 * g.b_step_2;
                for (int32_t i3 = 0; i3 < g.size_3; i3++) {
                    const int32_t wide_a = (left[i3 * g.a_step_3] - k.a_zero) * (1 << 15);
                    const int32_t wide_b = (right[i3 * g.b_step_3] - k.b_zero) * (1 << 15);
                    const int32_t one = isobit_tflite_double(wide_a, k.mult_a, k.shift_a);
                    const int32_t other = isobit_tflite_double(wide_b, k.mult_b, k.shift_b);
                    const int32_t sum = g.subtract ? one - other : one + other;
                    const int32_t code = isobit_tflite_double(sum, k.mult, k.shift) + k.y_zero;
                    *y++ = (int16_t)isobit_clamp(code, k.low, k.high);
                }
            }
        }
    }
}
