/* mirror_pad: four axes a, b, c, d after the batch (leading ones of size 1), and below them runs of
 * bytes. Outside x the index turns round: on the border element where edge is 0, behind it where
 * edge is 1. */
#include "isobit_rt.h"

typedef struct {
    int32_t run;
    int32_t edge;
    int32_t a, a_before, a_after;
    int32_t b, b_before, b_after;
    int32_t c, c_before, c_after;
    int32_t d, d_before, d_after;
} mirror_pad_bytes_geometry;

ISOBIT_KERNEL int32_t mirror_pad_bytes_index(int32_t i, int32_t size, int32_t edge) {
    if (i < 0) {
        return -i - edge;
    }
    return i < size ? i : 2 * size - 2 + edge - i;
}

ISOBIT_KERNEL void mirror_pad_bytes(mirror_pad_bytes_geometry g, const void *x, void *y) {
    uint8_t *to = y;
    for (int32_t a = -g.a_before; a < g.a + g.a_after; a++) {
        const int32_t at_a = mirror_pad_bytes_index(a, g.a, g.edge);
        for (int32_t b = -g.b_before; b < g.b + g.b_after; b++) {
            const int32_t at_b = at_a * g.b + mirror_pad_bytes_index(b, g.b, g.edge);
            for (int32_t c = -g.c_before; c < g.c + g.c_after; c++) {
                const int32_t at_c = at_b * g.c + mirror_pad_bytes_index(c, g.c, g.edge);
                for (int32_t d = -g.d_before; d < g.d + g.d_after; d++) {
                    const int32_t at_d = at_c * g.d + mirror_pad_bytes_index(d, g.d, g.edge);
                    const uint8_t *from = (const uint8_t *)x + at_d * g.run;
                    for (int32_t k = 0; k < g.run; k++) {
                        *to++ = from[k];
                    }
                }
            }
        }
    }
}
