/* Dynamic quantisation: the step of a tensor is a power of two that is found from its own values,
 * once all of them are known as int32 (docs/numerics.md). */
#ifndef ISOBIT_DYNAMIC_INCLUDED
#define ISOBIT_DYNAMIC_INCLUDED

#include "isobit_rt.h"

/* Exponents of a product of codes (where the input has an exponent too, at 0) and of the bias. */
typedef struct {
    int32_t product, bias;
} isobit_dynamic_quant;

/* How sums and biases come to one unit, the coarser of theirs, and its exponent. */
typedef struct {
    int32_t sum_shift, bias_shift, exponent;
} isobit_dynamic_unit;

ISOBIT_KERNEL isobit_dynamic_unit isobit_dynamic_align(int32_t x_exponent, int32_t has_bias,
                                                       const isobit_dynamic_quant *q) {
    const int32_t exponent = x_exponent + q->product;
    const int32_t coarser = has_bias ? exponent - q->bias : 0;
    const isobit_dynamic_unit unit = {
        isobit_clamp(-coarser, 0, 62),
        isobit_clamp(coarser, 0, 62),
        exponent + isobit_max(-coarser, 0),
    };
    return unit;
}

/* A sum with its bias in that unit; below 2^30 in magnitude, which the exporter proves. */
ISOBIT_KERNEL int32_t isobit_dynamic_total(int32_t sum, int32_t bias, isobit_dynamic_unit unit) {
    return isobit_half_up(sum, 1, unit.sum_shift) + isobit_half_up(bias, 1, unit.bias_shift);
}

/* v, or -1 - v below 0: has the bits that v needs beside its sign. */
ISOBIT_KERNEL uint32_t isobit_dynamic_magnitude(int32_t v) {
    return (uint32_t)(v ^ (v >> 31));
}

/* Codes of all totals in the finest step that holds them; `magnitudes`: all their bits. */
ISOBIT_KERNEL void isobit_dynamic_codes(const int32_t *totals, int32_t size, uint32_t magnitudes,
                                        int32_t exponent, int8_t *y, int16_t *y_exponent) {
    int32_t shift = 0;
    for (int32_t bit = 7; bit < 31; bit++) {
        shift += (magnitudes >> bit) != 0;
    }
    for (int32_t i = 0; i < size; i++) {
        y[i] = (int8_t)isobit_clamp(isobit_shift(totals[i], shift), INT8_MIN, INT8_MAX);
    }
    *y_exponent = (int16_t)isobit_clamp(exponent + shift, INT16_MIN, INT16_MAX);
}

typedef struct {
    int32_t in_h, in_w, in_c, out_h, out_w, out_c;
    int32_t kernel_h, kernel_w, stride_h, stride_w, pad_top, pad_left, dilation_h, dilation_w;
    int32_t groups;
    int32_t has_bias;
} isobit_dynamic_window;

/* The totals of a convolution of codes without zero point; returns their magnitudes' bits. */
ISOBIT_KERNEL uint32_t isobit_dynamic_conv2d(isobit_dynamic_window g, const int8_t *x,
                                             isobit_dynamic_unit unit, const int8_t *w,
                                             const int32_t *b, int32_t *totals) {
    const int32_t group_in = g.in_c / g.groups;
    const int32_t group_out = g.out_c / g.groups;
    uint32_t magnitudes = 0;
    for (int32_t oy = 0; oy < g.out_h; oy++) {
        for (int32_t ox = 0; ox < g.out_w; ox++) {
            for (int32_t o = 0; o < g.out_c; o++) {
                const int32_t first = o / group_out * group_in;
                const int8_t *filter = w + o * g.kernel_h * g.kernel_w * group_in;
                int32_t sum = 0;
                ISOBIT_ROLLED for (int32_t ky = 0; ky < g.kernel_h; ky++) {
                    const int32_t iy = oy * g.stride_h - g.pad_top + ky * g.dilation_h;
                    ISOBIT_ROLLED for (int32_t kx = 0; kx < g.kernel_w; kx++) {
                        const int32_t ix = ox * g.stride_w - g.pad_left + kx * g.dilation_w;
                        if (iy < 0 || iy >= g.in_h || ix < 0 || ix >= g.in_w) {
                            continue; /* padding is real 0 */
                        }
                        const int8_t *pixel = x + (iy * g.in_w + ix) * g.in_c + first;
                        const int8_t *tap = filter + (ky * g.kernel_w + kx) * group_in;
                        for (int32_t c = 0; c < group_in; c++) {
                            sum += pixel[c] * tap[c];
                        }
                    }
                }
                const int32_t total = isobit_dynamic_total(sum, g.has_bias ? b[o] : 0, unit);
                magnitudes |= isobit_dynamic_magnitude(total);
                *totals++ = total;
            }
        }
    }
    return magnitudes;
}

/* The same of a depthwise convolution, where groups is in_c; weights are [kernel_h, kernel_w,
 * out_c]. The totals of a pixel grow tap by tap, so that padding is looked for once for all its
 * channels: about half the instructions of as many groups in the loops above. The loop that ends a
 * pixel stays one: clang -O3 would unroll it whole, for up to 17 % fewer instructions and 400 to
 * 650 more bytes (cortex-m4, 7 to 64 channels). */
ISOBIT_KERNEL uint32_t isobit_dynamic_depthwise_conv2d(isobit_dynamic_window g, const int8_t *x,
                                                       isobit_dynamic_unit unit, const int8_t *w,
                                                       const int32_t *b, int32_t *totals) {
    const int32_t multiplier = g.out_c / g.groups;
    uint32_t magnitudes = 0;
    for (int32_t oy = 0; oy < g.out_h; oy++) {
        for (int32_t ox = 0; ox < g.out_w; ox++) {
            for (int32_t o = 0; o < g.out_c; o++) {
                totals[o] = 0;
            }
            ISOBIT_ROLLED for (int32_t ky = 0; ky < g.kernel_h; ky++) {
                const int32_t iy = oy * g.stride_h - g.pad_top + ky * g.dilation_h;
                ISOBIT_ROLLED for (int32_t kx = 0; kx < g.kernel_w; kx++) {
                    const int32_t ix = ox * g.stride_w - g.pad_left + kx * g.dilation_w;
                    if (iy < 0 || iy >= g.in_h || ix < 0 || ix >= g.in_w) {
                        continue; /* padding is real 0 */
                    }
                    const int8_t *pixel = x + (iy * g.in_w + ix) * g.in_c;
                    const int8_t *tap = w + (ky * g.kernel_w + kx) * g.out_c;
                    for (int32_t o = 0; o < g.out_c; o++) {
                        totals[o] += pixel[o / multiplier] * tap[o];
                    }
                }
            }
            ISOBIT_ROLLED for (int32_t o = 0; o < g.out_c; o++) {
                totals[o] = isobit_dynamic_total(totals[o], g.has_bias ? b[o] : 0, unit);
                magnitudes |= isobit_dynamic_magnitude(totals[o]);
            }
            totals += g.out_c;
        }
    }
    return magnitudes;
}

typedef struct {
    int32_t in, out;
    int32_t has_bias;
} isobit_dynamic_features;

/* The same of a linear layer; weights are [out, in]. */
ISOBIT_KERNEL uint32_t isobit_dynamic_linear(isobit_dynamic_features g, const int8_t *x,
                                             isobit_dynamic_unit unit, const int8_t *w,
                                             const int32_t *b, int32_t *totals) {
    uint32_t magnitudes = 0;
    for (int32_t o = 0; o < g.out; o++) {
        int32_t sum = 0;
        for (int32_t i = 0; i < g.in; i++) {
            sum += x[i] * *w++;
        }
        totals[o] = isobit_dynamic_total(sum, g.has_bias ? b[o] : 0, unit);
        magnitudes |= isobit_dynamic_magnitude(totals[o]);
    }
    return magnitudes;
}

#endif
