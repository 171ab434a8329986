/* transpose of many axes: element i of y has the indices i mod size, last axis first, and each of
 * them is a stride of x in bytes. */
#include "isobit_rt.h"

typedef struct {
    int32_t element; /* bytes of one element */
    int32_t elements, axes;
    int32_t size[8], stride[8]; /* of the axes of y */
} transpose_many_axes_geometry;

ISOBIT_KERNEL void transpose_many_axes(transpose_many_axes_geometry g, const void *x, void *y) {
    uint8_t *to = y;
    for (int32_t i = 0; i < g.elements; i++) {
        const uint8_t *from = x;
        int32_t rest = i;
        for (int32_t k = g.axes - 1; k >= 0; k--) {
            from += (rest % g.size[k]) * g.stride[k];
            rest /= g.size[k];
        }
        for (int32_t b = 0; b < g.element; b++) {
            *to++ = from[b];
        }
    }
}
