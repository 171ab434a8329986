/* concat: for every index before the axis, one run of bytes of each input. */
#include "isobit_rt.h"

typedef struct {
    int32_t runs, count;
    int32_t bytes[16]; /* of one run, by input */
} concat_bytes_geometry;

ISOBIT_KERNEL void concat_bytes(concat_bytes_geometry g, const void *const *xs, void *const *ys) {
    uint8_t *y = ys[0];
    for (int32_t run = 0; run < g.runs; run++) {
        for (int32_t i = 0; i < g.count; i++) {
            const uint8_t *x = (const uint8_t *)xs[i] + run * g.bytes[i];
            for (int32_t k = 0; k < g.bytes[i]; k++) {
                *y++ = x[k];
            }
        }
    }
}
