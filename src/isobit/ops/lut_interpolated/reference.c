/* lut_interpolated, int16: sigmoid or tanh from 256 entries of a sigmoid, less 2^15. Both signs are
 * computed and a mask chooses; x and y may be the same buffer. */
#include "isobit_rt.h"

typedef struct {
    int32_t size, tanh;
} lut_interpolated_s16_geometry;

ISOBIT_KERNEL void lut_interpolated_s16(lut_interpolated_s16_geometry g, const int16_t *x,
                                        const int16_t *table, const int32_t *mult,
                                        const int8_t *shift, int16_t *y) {
    const int32_t bits = g.tanh ? 8 : 9;
    const int32_t factor = mult[0];
    const int8_t right = shift[0];
    for (int32_t i = 0; i < g.size; i++) {
        const int32_t argument = isobit_half_up(x[i], factor, right);
        const int32_t negative = argument >> 31;
        const int32_t size = (argument ^ negative) - negative;
        const int32_t index = isobit_min(size >> bits, 254);
        const int32_t rest = size & ((1 << bits) - 1);
        const int32_t first = table[index] + (1 << 15), second = table[index + 1] + (1 << 15);
        const int32_t inside = (first << bits) + rest * (second - first);
        const int32_t outside = (254 - (size >> bits)) >> 31; /* at the function's end */
        const int32_t end = ((1 << 16) - (g.tanh ? 1 : 2)) << bits;
        const int32_t value = (inside & ~outside) | (end & outside);
        if (g.tanh) {
            const int32_t centred = value - (1 << 23);
            y[i] = (int16_t)(((centred ^ negative) + (1 << 7)) >> 8);
        } else {
            const int32_t one = (1 << 25) & negative; /* 1 - v, less the last bit */
            y[i] = (int16_t)(((value ^ negative) + one + (1 << 9)) >> 10);
        }
    }
}
