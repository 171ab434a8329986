/* dynamic_depthwise_conv2d, int8, NHWC input, [KH,KW,O] weights; the input has a fixed step. All
 * sums first, then the step, then codes. */
#include "isobit_dynamic.h"

typedef isobit_dynamic_window dynamic_depthwise_conv2d_s8_geometry;

ISOBIT_KERNEL void dynamic_depthwise_conv2d_s8(dynamic_depthwise_conv2d_s8_geometry g,
                                               const int8_t *x, const isobit_dynamic_quant *q,
                                               const int8_t *w, const int32_t *b, int8_t *y,
                                               int16_t *y_exponent, void *scratch) {
    int32_t *totals = scratch;
    const isobit_dynamic_unit unit = isobit_dynamic_align(0, g.has_bias, q);
    const uint32_t magnitudes = isobit_dynamic_depthwise_conv2d(g, x, unit, w, b, totals);
    isobit_dynamic_codes(totals, g.out_h * g.out_w * g.out_c, magnitudes, unit.exponent, y,
                         y_exponent);
}
