/* avg_pool2d, int16, NHWC: the definition; one reciprocal per window, no division per channel. */
#include "isobit_rt.h"

typedef struct {
    int32_t in_h, in_w, in_c, out_h, out_w, out_c;
    int32_t kernel_h, kernel_w, stride_h, stride_w, pad_top, pad_left, dilation_h, dilation_w;
    int32_t counted_top, counted_left, counted_bottom, counted_right;
    int32_t rounded;
} avg_pool2d_s16_geometry;

/* How many of [start, start + size) lie in [first, end); never negative. */
ISOBIT_KERNEL int32_t avg_pool2d_s16_inside(int32_t start, int32_t size, int32_t first,
                                            int32_t end) {
    const int32_t low = start < first ? first : start;
    const int32_t high = start + size > end ? end : start + size;
    return high > low ? high - low : 0;
}

/* floor(2^40 / count) + 1 without a division of 64 bits; count < 2^22. */
ISOBIT_KERNEL uint64_t avg_pool2d_s16_inverse(uint32_t count) {
    const uint32_t whole = (uint32_t)1 << 31;
    return ((uint64_t)(whole / count) << 9) + (whole % count << 9) / count + 1u;
}

ISOBIT_KERNEL void avg_pool2d_s16(avg_pool2d_s16_geometry g, const int16_t *x,
                                  const isobit_quant *q, int16_t *y) {
    const isobit_quant k = *q;
    for (int32_t oy = 0; oy < g.out_h; oy++) {
        const int32_t y0 = oy * g.stride_h - g.pad_top;
        const int32_t first_y = y0 < 0 ? 0 : y0;
        const int32_t rows = avg_pool2d_s16_inside(y0, g.kernel_h, 0, g.in_h);
        const int32_t high = avg_pool2d_s16_inside(y0, g.kernel_h, g.counted_top, g.counted_bottom);
        for (int32_t ox = 0; ox < g.out_w; ox++) {
            const int32_t x0 = ox * g.stride_w - g.pad_left;
            const int32_t first_x = x0 < 0 ? 0 : x0;
            const int32_t cols = avg_pool2d_s16_inside(x0, g.kernel_w, 0, g.in_w);
            const int32_t wide =
                avg_pool2d_s16_inside(x0, g.kernel_w, g.counted_left, g.counted_right);
            const int32_t count = high * wide;
            /* Exact where size * count < 2^40: size <= 32768.5 * count, count <= 5792. */
            const uint64_t inverse = avg_pool2d_s16_inverse((uint32_t)count);
            const uint32_t half = g.rounded ? (uint32_t)count / 2u : 0u;
            const int16_t *window = x + (first_y * g.in_w + first_x) * g.in_c;
            for (int32_t c = 0; c < g.out_c; c++) {
                int32_t sum = (count - rows * cols) * k.x_zero; /* padding is real 0 */
                for (int32_t ky = 0; ky < rows; ky++) {
                    for (int32_t kx = 0; kx < cols; kx++) {
                        sum += window[(ky * g.in_w + kx) * g.in_c + c];
                    }
                }
                const int32_t sign = sum >> 31;
                const uint32_t size = (uint32_t)((sum ^ sign) - sign) + half;
                const int32_t mean = (int32_t)((size * inverse) >> 40);
                *y++ = (int16_t)isobit_clamp((mean ^ sign) - sign, k.low, k.high);
            }
        }
    }
}
