/* max_pool2d, int16, NHWC: the definition. Every window holds at least one input pixel.
 *
 * Windows inside the image have a length known to the compiler, those at its edge have not: two
 * loops, and no test of bounds per tap. The loops over pixels stay loops, because clang -O3 unrolls
 * short ones whole (4 x 4 x 5 outputs of 3 x 3 on cortex-m4: 4014 bytes, so 646). */
#include "isobit_rt.h"

typedef struct {
    int32_t in_h, in_w, in_c, out_h, out_w, out_c;
    int32_t kernel_h, kernel_w, stride_h, stride_w, pad_top, pad_left, dilation_h, dilation_w;
} max_pool2d_s16_geometry;

/* The maximum of one channel over a window inside the image. */
ISOBIT_KERNEL int16_t max_pool2d_s16_inside(max_pool2d_s16_geometry g, const int16_t *window) {
    int32_t best = -32768;
    ISOBIT_UNROLLED
    for (int32_t ky = 0; ky < g.kernel_h; ky++) {
        ISOBIT_UNROLLED
        for (int32_t kx = 0; kx < g.kernel_w; kx++) {
            best = isobit_max(window[(ky * g.in_w + kx) * g.in_c], best);
        }
    }
    return (int16_t)best;
}

/* The same over `rows` times `cols` taps, at least one each. */
ISOBIT_KERNEL int16_t max_pool2d_s16_edge(max_pool2d_s16_geometry g, int32_t rows, int32_t cols,
                                          const int16_t *window) {
    int32_t best = -32768, ky = 0;
    ISOBIT_ROLLED
    do {
        int32_t kx = 0;
        ISOBIT_ROLLED
        do {
            best = isobit_max(window[(ky * g.in_w + kx) * g.in_c], best);
        } while (++kx < cols);
    } while (++ky < rows);
    return (int16_t)best;
}

ISOBIT_KERNEL void max_pool2d_s16(max_pool2d_s16_geometry g, const int16_t *x, int16_t *y) {
    ISOBIT_ROLLED
    for (int32_t oy = 0; oy < g.out_h; oy++) {
        const int32_t y0 = oy * g.stride_h - g.pad_top;
        const int32_t first_y = isobit_max(y0, 0);
        const int32_t rows = isobit_min(y0 + g.kernel_h, g.in_h) - first_y;
        ISOBIT_ROLLED
        for (int32_t ox = 0; ox < g.out_w; ox++) {
            const int32_t x0 = ox * g.stride_w - g.pad_left;
            const int32_t first_x = isobit_max(x0, 0);
            const int32_t cols = isobit_min(x0 + g.kernel_w, g.in_w) - first_x;
            const int16_t *window = x + (first_y * g.in_w + first_x) * g.in_c;
            if (rows == g.kernel_h && cols == g.kernel_w) {
                ISOBIT_PAIRWISE
                for (int32_t c = 0; c < g.out_c; c++) {
                    *y++ = max_pool2d_s16_inside(g, window + c);
                }
            } else {
                ISOBIT_ROLLED
                for (int32_t c = 0; c < g.out_c; c++) {
                    *y++ = max_pool2d_s16_edge(g, rows, cols, window + c);
                }
            }
        }
    }
}
