/* negate, int8: y = clamp(2 * zero - x); x and y may be the same buffer. */
#include "isobit_rt.h"

typedef struct {
    int32_t size;
} negate_s8_geometry;

typedef struct {
    int32_t zero;
} negate_s8_quant;

ISOBIT_KERNEL void negate_s8(negate_s8_geometry g, const int8_t *x, const negate_s8_quant *q,
                             int8_t *y) {
    for (int32_t i = 0; i < g.size; i++) {
        y[i] = (int8_t)isobit_clamp(2 * q->zero - x[i], INT8_MIN, INT8_MAX);
    }
}
