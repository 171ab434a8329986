/* clamp, int16: y = min(max(x, low), high); x and y may be the same buffer. */
#include "isobit_rt.h"

typedef struct {
    int32_t size;
} clamp_s16_geometry;

ISOBIT_KERNEL void clamp_s16(clamp_s16_geometry g, const int16_t *x, const isobit_quant *q,
                             int16_t *y) {
    for (int32_t i = 0; i < g.size; i++) {
        y[i] = (int16_t)isobit_clamp(x[i], q->low, q->high);
    }
}
