/* dynamic_linear, int8, weights [out, in]; the input has a fixed step. All sums first, then the
 * step, then codes. */
#include "isobit_dynamic.h"

typedef isobit_dynamic_features dynamic_linear_s8_geometry;

ISOBIT_KERNEL void dynamic_linear_s8(dynamic_linear_s8_geometry g, const int8_t *x,
                                     const isobit_dynamic_quant *q, const int8_t *w,
                                     const int32_t *b, int8_t *y, int16_t *y_exponent,
                                     void *scratch) {
    int32_t *totals = scratch;
    const isobit_dynamic_unit unit = isobit_dynamic_align(0, g.has_bias, q);
    const uint32_t magnitudes = isobit_dynamic_linear(g, x, unit, w, b, totals);
    isobit_dynamic_codes(totals, g.out, magnitudes, unit.exponent, y, y_exponent);
}
