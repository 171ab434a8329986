/* resize_bilinear, int8, NHWC: the definition. Positions are in 2^-10 pixel; weights may lie
   outside 0..2^10 where both pixels are the same one, so that sums stay below 2^29. */
#include "isobit_rt.h"

typedef struct {
    int32_t in_h, in_w, out_h, out_w, channels;
    int32_t first_h, first_w, step_h, step_w;
} resize_bilinear_s8_geometry;

typedef struct {
    int32_t low, high, weight;
} resize_bilinear_s8_place;

/* The two input pixels around a position along an axis, and the second one's weight. */
ISOBIT_KERNEL resize_bilinear_s8_place resize_bilinear_s8_around(int32_t position, int32_t size) {
    const int32_t low = isobit_max(position, 0) >> 10;
    const int32_t high = isobit_clamp((position + 1023) >> 10, 0, size - 1);
    const resize_bilinear_s8_place place = {low, high, position - low * 1024};
    return place;
}

/* v * 2^-20 to the nearest integer, ties away from zero. */
ISOBIT_KERNEL int32_t resize_bilinear_s8_round(int32_t v) {
    const int32_t sign = v >> 31;
    return ((((v ^ sign) - sign + (1 << 19)) >> 20) ^ sign) - sign;
}

ISOBIT_KERNEL void resize_bilinear_s8(resize_bilinear_s8_geometry g, const int8_t *x, int8_t *y) {
    for (int32_t oy = 0; oy < g.out_h; oy++) {
        const resize_bilinear_s8_place v =
            resize_bilinear_s8_around(g.first_h + oy * g.step_h, g.in_h);
        const int8_t *above = x + v.low * g.in_w * g.channels;
        const int8_t *below = x + v.high * g.in_w * g.channels;
        for (int32_t ox = 0; ox < g.out_w; ox++) {
            const resize_bilinear_s8_place h =
                resize_bilinear_s8_around(g.first_w + ox * g.step_w, g.in_w);
            const int32_t left = h.low * g.channels;
            const int32_t right = h.high * g.channels;
            for (int32_t c = 0; c < g.channels; c++) {
                const int32_t one =
                    above[left + c] * (1024 - v.weight) + below[left + c] * v.weight;
                const int32_t other =
                    above[right + c] * (1024 - v.weight) + below[right + c] * v.weight;
                *y++ = (int8_t)resize_bilinear_s8_round(one * (1024 - h.weight) + other * h.weight);
            }
        }
    }
}
