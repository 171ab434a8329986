/* split: for every index before the axis, one run of bytes to each output. */
#include "isobit_rt.h"

typedef struct {
    int32_t runs, count;
    int32_t bytes[16]; /* of one run, by output */
} split_bytes_geometry;

ISOBIT_KERNEL void split_bytes(split_bytes_geometry g, const void *const *xs, void *const *ys) {
    const uint8_t *x = xs[0];
    for (int32_t run = 0; run < g.runs; run++) {
        for (int32_t i = 0; i < g.count; i++) {
            uint8_t *y = (uint8_t *)ys[i] + run * g.bytes[i];
            for (int32_t k = 0; k < g.bytes[i]; k++) {
                y[k] = *x++;
            }
        }
    }
}
