/* conv2d, int16 in, int8 out: as s16, requantised once. */
#include "isobit_rt.h"

typedef struct {
    int32_t in_h, in_w, in_c, out_h, out_w, out_c;
    int32_t kernel_h, kernel_w, stride_h, stride_w, pad_top, pad_left, dilation_h, dilation_w;
    int32_t groups;
    int32_t rule, per_channel, x_has_zero, has_bias, wide_bias;
} conv2d_s16_to_s8_geometry;

ISOBIT_KERNEL void conv2d_s16_to_s8(conv2d_s16_to_s8_geometry g, const int16_t *x,
                                    const isobit_quant *q, const int8_t *w, const void *b,
                                    const int32_t *mult, const int8_t *shift, int8_t *y) {
    const int32_t group_in = g.in_c / g.groups;
    const int32_t group_out = g.out_c / g.groups;
    const int32_t x_zero = g.x_has_zero ? q->x_zero : 0;
    for (int32_t oy = 0; oy < g.out_h; oy++) {
        for (int32_t ox = 0; ox < g.out_w; ox++) {
            for (int32_t o = 0; o < g.out_c; o++) {
                const int32_t first = o / group_out * group_in;
                const int8_t *filter = w + o * g.kernel_h * g.kernel_w * group_in;
                int64_t acc = g.has_bias ? isobit_bias(b, g.wide_bias, o) : 0;
                for (int32_t ky = 0; ky < g.kernel_h; ky++) {
                    const int32_t iy = oy * g.stride_h - g.pad_top + ky * g.dilation_h;
                    for (int32_t kx = 0; kx < g.kernel_w; kx++) {
                        const int32_t ix = ox * g.stride_w - g.pad_left + kx * g.dilation_w;
                        if (iy < 0 || iy >= g.in_h || ix < 0 || ix >= g.in_w) {
                            continue; /* padding is real 0 */
                        }
                        const int16_t *pixel = x + (iy * g.in_w + ix) * g.in_c + first;
                        const int8_t *tap = filter + (ky * g.kernel_w + kx) * group_in;
                        for (int32_t c = 0; c < group_in; c++) {
                            acc += (pixel[c] - x_zero) * tap[c];
                        }
                    }
                }
                const int32_t i = g.per_channel ? o : 0;
                *y++ = (int8_t)isobit_finish_s16(acc, g.rule, mult, shift, i, q);
            }
        }
    }
}
