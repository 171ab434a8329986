/* pad, int16: four axes a, b, c, d after the batch (leading ones of size 1); every element outside
 * x is *value. */
#include "isobit_rt.h"

typedef struct {
    int32_t a, a_before, a_after;
    int32_t b, b_before, b_after;
    int32_t c, c_before, c_after;
    int32_t d, d_before, d_after;
} pad_s16_geometry;

ISOBIT_KERNEL int16_t *pad_s16_fill(int16_t *y, int16_t value, int32_t count) {
    for (int32_t i = 0; i < count; i++) {
        *y++ = value;
    }
    return y;
}

ISOBIT_KERNEL void pad_s16(pad_s16_geometry g, const int16_t *x, const int16_t *value, int16_t *y) {
    const int32_t d_size = g.d_before + g.d + g.d_after;
    const int32_t c_size = (g.c_before + g.c + g.c_after) * d_size;
    const int32_t b_size = (g.b_before + g.b + g.b_after) * c_size;
    const int16_t v = *value;
    y = pad_s16_fill(y, v, g.a_before * b_size);
    for (int32_t a = 0; a < g.a; a++) {
        y = pad_s16_fill(y, v, g.b_before * c_size);
        for (int32_t b = 0; b < g.b; b++) {
            y = pad_s16_fill(y, v, g.c_before * d_size);
            for (int32_t c = 0; c < g.c; c++) {
                y = pad_s16_fill(y, v, g.d_before);
                for (int32_t d = 0; d < g.d; d++) {
                    *y++ = *x++;
                }
                y = pad_s16_fill(y, v, g.d_after);
            }
            y = pad_s16_fill(y, v, g.c_after * d_size);
        }
        y = pad_s16_fill(y, v, g.b_after * c_size);
    }
    (void)pad_s16_fill(y, v, g.a_after * b_size);
}
