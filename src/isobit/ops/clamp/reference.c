/* clamp, int8: y = min(max(x, low), high); x and y may be the same buffer. */
#include "isobit_rt.h"

typedef struct {
    int32_t size;
} clamp_s8_geometry;

ISOBIT_KERNEL void clamp_s8(clamp_s8_geometry g, const int8_t *x, const isobit_quant *q,
                            int8_t *y) {
    for (int32_t i = 0; i < g.size; i++) {
        y[i] = (int8_t)isobit_clamp(x[i], q->low, q->high);
    }
}
