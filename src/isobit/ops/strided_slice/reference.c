/* strided_slice: y in order; its four axes a, b, c, d (leading ones of size 1) are at strides of x
 * in bytes, which may be negative, and below them lie runs of bytes without gaps. */
#include "isobit_rt.h"

typedef struct {
    int32_t start; /* bytes before the first element that is read */
    int32_t run;
    int32_t a, a_stride, b, b_stride, c, c_stride, d, d_stride;
} strided_slice_bytes_geometry;

ISOBIT_KERNEL void strided_slice_bytes(strided_slice_bytes_geometry g, const void *x, void *y) {
    const uint8_t *first = (const uint8_t *)x + g.start;
    uint8_t *to = y;
    for (int32_t a = 0; a < g.a; a++) {
        for (int32_t b = 0; b < g.b; b++) {
            for (int32_t c = 0; c < g.c; c++) {
                const int32_t row = a * g.a_stride + b * g.b_stride + c * g.c_stride;
                for (int32_t d = 0; d < g.d; d++) {
                    const uint8_t *from = first + row + d * g.d_stride;
                    for (int32_t k = 0; k < g.run; k++) {
                        *to++ = from[k];
                    }
                }
            }
        }
    }
}
