/* transpose: y in order, its four axes a, b, c, d (leading ones of size 1) at strides of x in
 * bytes. */
#include "isobit_rt.h"

typedef struct {
    int32_t element; /* bytes of one element */
    int32_t a, a_stride, b, b_stride, c, c_stride, d, d_stride;
} transpose_bytes_geometry;

ISOBIT_KERNEL void transpose_bytes(transpose_bytes_geometry g, const void *x, void *y) {
    uint8_t *to = y;
    for (int32_t a = 0; a < g.a; a++) {
        for (int32_t b = 0; b < g.b; b++) {
            for (int32_t c = 0; c < g.c; c++) {
                const uint8_t *from = x;
                from += a * g.a_stride + b * g.b_stride + c * g.c_stride;
                for (int32_t d = 0; d < g.d; d++) {
                    for (int32_t k = 0; k < g.element; k++) {
                        *to++ = from[k];
                    }
                    from += g.d_stride;
                }
            }
        }
    }
}
