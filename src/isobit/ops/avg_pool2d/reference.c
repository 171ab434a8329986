/* avg_pool2d, int8, NHWC: the definition; one reciprocal per window, no division per channel. */
#include "isobit_rt.h"

typedef struct {
    int32_t in_h, in_w, in_c, out_h, out_w, out_c;
    int32_t kernel_h, kernel_w, stride_h, stride_w, pad_top, pad_left, dilation_h, dilation_w;
    int32_t counted_top, counted_left, counted_bottom, counted_right;
    int32_t rounded, lift, wide;
} avg_pool2d_s8_geometry;

/* How many of [start, start + size) lie in [first, end); never negative. */
ISOBIT_KERNEL int32_t avg_pool2d_inside(int32_t start, int32_t size, int32_t first, int32_t end) {
    const int32_t low = start < first ? first : start;
    const int32_t high = start + size > end ? end : start + size;
    return high > low ? high - low : 0;
}

/* size / count, exactly. With inverse = floor(2^s / count) + 1 the product is too large by less
   than 1 / count where size * count < 2^s; size <= 128.5 * count, so s = 24 serves 361 values (in
   32 bits), s = 31 serves 4088; lifted, size <= 255.5 * count: 256 and 2899. */
ISOBIT_KERNEL int32_t avg_pool2d_divide(uint32_t size, uint32_t inverse, int32_t wide) {
    return (int32_t)(wide ? (uint32_t)(((uint64_t)size * inverse) >> 31) : size * inverse >> 24);
}

ISOBIT_KERNEL void avg_pool2d_s8(avg_pool2d_s8_geometry g, const int8_t *x, const isobit_quant *q,
                                 int8_t *y) {
    const isobit_quant k = *q;
    for (int32_t oy = 0; oy < g.out_h; oy++) {
        const int32_t y0 = oy * g.stride_h - g.pad_top;
        const int32_t first_y = y0 < 0 ? 0 : y0;
        const int32_t rows = avg_pool2d_inside(y0, g.kernel_h, 0, g.in_h);
        const int32_t high = avg_pool2d_inside(y0, g.kernel_h, g.counted_top, g.counted_bottom);
        for (int32_t ox = 0; ox < g.out_w; ox++) {
            const int32_t x0 = ox * g.stride_w - g.pad_left;
            const int32_t first_x = x0 < 0 ? 0 : x0;
            const int32_t cols = avg_pool2d_inside(x0, g.kernel_w, 0, g.in_w);
            const int32_t wide = avg_pool2d_inside(x0, g.kernel_w, g.counted_left, g.counted_right);
            const int32_t count = high * wide;
            const uint32_t one = (uint32_t)1 << (g.wide ? 31 : 24);
            const uint32_t inverse = one / (uint32_t)count + 1u;
            const uint32_t half = g.rounded ? (uint32_t)count / 2u : 0u;
            const int8_t *window = x + (first_y * g.in_w + first_x) * g.in_c;
            for (int32_t c = 0; c < g.out_c; c++) {
                /* Padding is real 0. Lifted by 128 each, no sum is negative: ties go up. */
                int32_t sum = (count - rows * cols) * k.x_zero + g.lift * count;
                for (int32_t ky = 0; ky < rows; ky++) {
                    for (int32_t kx = 0; kx < cols; kx++) {
                        sum += window[(ky * g.in_w + kx) * g.in_c + c];
                    }
                }
                const int32_t sign = sum >> 31;
                const uint32_t size = (uint32_t)((sum ^ sign) - sign) + half;
                const int32_t mean = avg_pool2d_divide(size, inverse, g.wide);
                *y++ = (int8_t)isobit_clamp((mean ^ sign) - sign - g.lift, k.low, k.high);
            }
        }
    }
}
