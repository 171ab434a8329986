/* maximum and minimum, int16: the definition. A loop that an operand is broadcast along has step 0;
   without one, y may be a or b. */
#include "isobit_rt.h"

typedef struct {
    int32_t size_0, size_1, size_2, size_3;
    int32_t a_step_0, a_step_1, a_step_2, a_step_3;
    int32_t b_step_0, b_step_1, b_step_2, b_step_3;
    int32_t smallest;
} maximum_s16_geometry;

ISOBIT_KERNEL void maximum_s16(maximum_s16_geometry g, const int16_t *a, const int16_t *b,
                               int16_t *y) {
    for (int32_t i0 = 0; i0 < g.size_0; i0++) {
        for (int32_t i1 = 0; i1 < g.size_1; i1++) {
            for (int32_t i2 = 0; i2 < g.size_2; i2++) {
                const int16_t *left = a + i0 * g.a_step_0 + i1 * g.a_step_1 + i2 * g.a_step_2;
                const int16_t *right = b + i0 * g.b_step_0 + i1 * g.b_step_1 + i2 * g.b_step_2;
                for (int32_t i3 = 0; i3 < g.size_3; i3++) {
                    const int32_t one = left[i3 * g.a_step_3];
                    const int32_t other = right[i3 * g.b_step_3];
                    *y++ = (int16_t)(g.smallest ? isobit_min(one, other) : isobit_max(one, other));
                }
            }
        }
    }
}
