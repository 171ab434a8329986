/* transpose_conv2d, int8, weights (OHWI) with a zero point: the reference, that subtracted from
 * every tap. */
#include "isobit_rt.h"

typedef struct {
    int32_t in_h, in_w, in_c, out_h, out_w, out_c;
    int32_t kernel_h, kernel_w, stride_h, stride_w, pad_top, pad_left;
    int32_t rule, per_channel, x_has_zero, has_bias;
} transpose_conv2d_s8_asymmetric_geometry;

/* The first input index whose taps reach `position`: its taps start at most kernel - 1 before. */
ISOBIT_KERNEL int32_t transpose_conv2d_asymmetric_first(int32_t position, int32_t kernel,
                                                        int32_t stride) {
    const int32_t before = position - kernel + 1;
    return before <= 0 ? 0 : (before + stride - 1) / stride;
}

ISOBIT_KERNEL void transpose_conv2d_s8_asymmetric(transpose_conv2d_s8_asymmetric_geometry g,
                                                  const int8_t *x, const isobit_quant *q,
                                                  const int32_t *w_zero, const int8_t *w,
                                                  const int32_t *b, const int32_t *mult,
                                                  const int8_t *shift, int8_t *y) {
    const int32_t zero = w_zero[0];
    const int32_t x_zero = g.x_has_zero ? q->x_zero : 0;
    for (int32_t oy = 0; oy < g.out_h; oy++) {
        const int32_t row = oy + g.pad_top;
        const int32_t first_y = transpose_conv2d_asymmetric_first(row, g.kernel_h, g.stride_h);
        for (int32_t ox = 0; ox < g.out_w; ox++) {
            const int32_t column = ox + g.pad_left;
            const int32_t first_x =
                transpose_conv2d_asymmetric_first(column, g.kernel_w, g.stride_w);
            for (int32_t o = 0; o < g.out_c; o++) {
                const int8_t *filter = w + o * g.kernel_h * g.kernel_w * g.in_c;
                int32_t acc = g.has_bias ? b[o] : 0;
                for (int32_t iy = first_y; iy < g.in_h && iy * g.stride_h <= row; iy++) {
                    const int32_t ky = row - iy * g.stride_h;
                    for (int32_t ix = first_x; ix < g.in_w && ix * g.stride_w <= column; ix++) {
                        const int32_t kx = column - ix * g.stride_w;
                        const int8_t *pixel = x + (iy * g.in_w + ix) * g.in_c;
                        const int8_t *tap = filter + (ky * g.kernel_w + kx) * g.in_c;
                        for (int32_t c = 0; c < g.in_c; c++) {
                            acc += (pixel[c] - x_zero) * (tap[c] - zero);
                        }
                    }
                }
                const int32_t i = g.per_channel ? o : 0;
                *y++ = isobit_finish_s8(acc, g.rule, mult, shift, i, q);
            }
        }
    }
}
