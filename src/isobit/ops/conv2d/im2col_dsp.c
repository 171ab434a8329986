/* conv2d, int8, NHWC input, one group: 2 output channels x 2 output pixels at a time with SMLAD.
 *
 * The windows of two successive pixels are gathered once as int16 with the zero point removed (so
 * that padding is 0); then every two output channels are two weight rows times two window rows.
 * Four taps of this block are 16 multiply-accumulates in 18 instructions: 4 loads of windows, 2 of
 * weights, 4 SXTB16, 8 SMLAD. In registers: 4 sums, 2 pointers (the second rows lie at constant
 * offsets), 2 weight words, 2 to 4 widened weights, 2 window words. In flash, bytes 1 and 2 of
 * every four weights are exchanged: SXTB16 takes bytes 0 and 2, which are then neighbouring taps.
 *
 * Sums wrap modulo 2^32; their end values fit. An odd last pixel is computed beside the row that
 * the pair before left behind, which is not stored; an odd last channel takes the one before it
 * along once more. Not optimal: overlapping windows are gathered anew for every pair, weights are
 * widened once per pair, and gcc 12 spills where clang does not (1.4 against 1.2 in the inner
 * loop). */
#include "isobit_dsp.h"

typedef struct {
    int32_t in_h, in_w, in_c, out_h, out_w, out_c;
    int32_t kernel_h, kernel_w, stride_h, stride_w, pad_top, pad_left, dilation_h, dilation_w;
    int32_t rule, per_channel, x_has_zero, has_bias;
} conv2d_s8_im2col_dsp_geometry;

/* Appends int8 values as int16, half of `offset` added to each; returns the end. */
ISOBIT_KERNEL int16_t *conv2d_s8_im2col_dsp_widen(int16_t *to, const int8_t *x, int32_t count,
                                                  int32_t offset) {
    for (; count >= 4; count -= 4, x += 4, to += 4) {
        const int32_t bytes = isobit_load32(x);
        const int32_t even = isobit_sxtab16(offset, bytes);
        const int32_t odd = isobit_sxtab16_ror8(offset, bytes);
        isobit_store32(to, isobit_pkhbt(even, odd));
        isobit_store32(to + 2, isobit_pkhtb(even, odd));
    }
    for (; count > 0; count--) {
        *to++ = (int16_t)(*x++ + (int16_t)offset);
    }
    return to;
}

ISOBIT_KERNEL int16_t *conv2d_s8_im2col_dsp_zeros(int16_t *to, int32_t count) {
    for (; count > 0; count--) {
        *to++ = 0;
    }
    return to;
}

/* Writes the window whose first tap lies at row iy, column ix, and zeros up to `row` elements. */
ISOBIT_KERNEL void conv2d_s8_im2col_dsp_gather(conv2d_s8_im2col_dsp_geometry g, const int8_t *x,
                                               int32_t iy, int32_t ix, int32_t offset, int16_t *to,
                                               int32_t row) {
    int16_t *const end = to + row;
    const int32_t columns_inside = ix >= 0 && ix + (g.kernel_w - 1) * g.dilation_w < g.in_w;
    for (int32_t ky = 0; ky < g.kernel_h; ky++, iy += g.dilation_h) {
        const int32_t row_inside = iy >= 0 && iy < g.in_h;
        if (g.dilation_w == 1 && row_inside && columns_inside) {
            const int8_t *taps = x + (iy * g.in_w + ix) * g.in_c;
            to = conv2d_s8_im2col_dsp_widen(to, taps, g.kernel_w * g.in_c, offset);
            continue;
        }
        for (int32_t kx = 0; kx < g.kernel_w; kx++) {
            const int32_t at = ix + kx * g.dilation_w;
            if (row_inside && at >= 0 && at < g.in_w) {
                const int8_t *taps = x + (iy * g.in_w + at) * g.in_c;
                to = conv2d_s8_im2col_dsp_widen(to, taps, g.in_c, offset);
            } else {
                to = conv2d_s8_im2col_dsp_zeros(to, g.in_c);
            }
        }
    }
    conv2d_s8_im2col_dsp_zeros(to, (int32_t)(end - to));
}

/* Adds two taps to the sums of channel 0 (pixel 0, pixel 1) and channel 1. */
ISOBIT_KERNEL void conv2d_s8_im2col_dsp_add(int32_t w0, int32_t w1, const int16_t *x0,
                                            const int16_t *x1, int32_t sums[4]) {
    const int32_t taps0 = isobit_load32_aligned(x0), taps1 = isobit_load32_aligned(x1);
    sums[0] = isobit_smlad(w0, taps0, sums[0]);
    sums[1] = isobit_smlad(w0, taps1, sums[1]);
    sums[2] = isobit_smlad(w1, taps0, sums[2]);
    sums[3] = isobit_smlad(w1, taps1, sums[3]);
}

/* Adds four taps. */
ISOBIT_KERNEL void conv2d_s8_im2col_dsp_step(const int8_t *w0, const int8_t *w1, const int16_t *x0,
                                             const int16_t *x1, int32_t sums[4]) {
    const int32_t four0 = isobit_load32_aligned(w0), four1 = isobit_load32_aligned(w1);
    conv2d_s8_im2col_dsp_add(isobit_sxtb16(four0), isobit_sxtb16(four1), x0, x1, sums);
    conv2d_s8_im2col_dsp_add(isobit_sxtb16_ror8(four0), isobit_sxtb16_ror8(four1), x0 + 2, x1 + 2,
                             sums);
}

ISOBIT_KERNEL void conv2d_s8_im2col_dsp(conv2d_s8_im2col_dsp_geometry g, const int8_t *x,
                                        const isobit_quant *quant, const int8_t *w,
                                        const int32_t *b, const int32_t *mult, const int8_t *shift,
                                        int8_t *y, void *scratch) {
    const isobit_quant q =
        *quant; /* a copy: for all the compiler knows, y points at the original */
    const int32_t zero = g.x_has_zero ? q.x_zero : 0;
    const int32_t offset = isobit_pkhbt(-zero, -zero);
    const int32_t row = (g.kernel_h * g.kernel_w * g.in_c + 3) / 4 * 4;
    const int32_t pixels = g.out_h * g.out_w;
    const int32_t second = pixels > 1 ? row : 0;
    int16_t *const windows = scratch;
    int32_t oy = 0, ox = 0;
    for (int32_t p = 0; p < pixels; p += 2, y += 2 * g.out_c) {
        const int32_t both = pixels % 2 == 0 || p + 1 < pixels;
        for (int32_t i = 0; i <= both; i++) {
            const int32_t iy = oy * g.stride_h - g.pad_top, ix = ox * g.stride_w - g.pad_left;
            conv2d_s8_im2col_dsp_gather(g, x, iy, ix, offset, windows + i * row, row);
            ox = ox + 1 < g.out_w ? ox + 1 : 0;
            oy += ox == 0;
        }
        for (int32_t pair = 0; pair < g.out_c; pair += 2) {
            const int32_t back = g.out_c % 2 != 0 && pair > 0 && pair + 1 == g.out_c;
            const int32_t o = pair - back;
            const int32_t next = g.out_c > 1 ? 1 : 0;
            const int8_t *filter = w + o * row;
            const int16_t *window = windows;
            int32_t sums[4] = {0, 0, 0, 0};
            if (g.has_bias) {
                sums[0] = sums[1] = b[o];
                sums[2] = sums[3] = b[o + next];
            }
            for (int32_t k = 0; k + 8 <= row; k += 8, filter += 8, window += 8) {
                conv2d_s8_im2col_dsp_step(filter, filter + next * row, window, window + second,
                                          sums);
                conv2d_s8_im2col_dsp_step(filter + 4, filter + next * row + 4, window + 4,
                                          window + second + 4, sums);
            }
            if (row % 8 != 0) {
                conv2d_s8_im2col_dsp_step(filter, filter + next * row, window, window + second,
                                          sums);
            }
            const int32_t i0 = g.per_channel ? o : 0, i1 = g.per_channel ? o + next : 0;
            const int8_t y00 = isobit_finish_s8(sums[0], g.rule, mult, shift, i0, &q);
            const int8_t y01 = isobit_finish_s8(sums[1], g.rule, mult, shift, i0, &q);
            const int8_t y10 = isobit_finish_s8(sums[2], g.rule, mult, shift, i1, &q);
            const int8_t y11 = isobit_finish_s8(sums[3], g.rule, mult, shift, i1, &q);
            y[o] = y00;
            y[o + next] = y10;
            if (both) {
                y[g.out_c + o] = y01;
                y[g.out_c + o + next] = y11;
            }
        }
    }
}
