/* max_pool2d, int8, NHWC: the definition. Every window holds at least one input pixel. */
#include "isobit_rt.h"

typedef struct {
    int32_t in_h, in_w, in_c, out_h, out_w, out_c;
    int32_t kernel_h, kernel_w, stride_h, stride_w, pad_top, pad_left, dilation_h, dilation_w;
} max_pool2d_s8_geometry;

ISOBIT_KERNEL void max_pool2d_s8(max_pool2d_s8_geometry g, const int8_t *x, int8_t *y) {
    for (int32_t oy = 0; oy < g.out_h; oy++) {
        for (int32_t ox = 0; ox < g.out_w; ox++) {
            for (int32_t c = 0; c < g.out_c; c++) {
                int32_t best = -128;
                for (int32_t ky = 0; ky < g.kernel_h; ky++) {
                    const int32_t iy = oy * g.stride_h - g.pad_top + ky;
                    for (int32_t kx = 0; kx < g.kernel_w; kx++) {
                        const int32_t ix = ox * g.stride_w - g.pad_left + kx;
                        if (iy < 0 || iy >= g.in_h || ix < 0 || ix >= g.in_w) {
                            continue;
                        }
                        const int32_t value = x[(iy * g.in_w + ix) * g.in_c + c];
                        best = isobit_max(value, best);
                    }
                }
                *y++ = (int8_t)best;
            }
        }
    }
}
