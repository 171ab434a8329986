/* global_avg_pool, int8, NHWC: the definition, dividing by a reciprocal. y may be x. */
#include "isobit_rt.h"

typedef struct {
    int32_t pixels, channels;
    uint32_t half, inverse;
    int32_t shift, lift;
} global_avg_pool_s8_geometry;

/* With inverse = floor(2^shift / pixels) + 1 a product is too large by less than 1 / pixels where
   size * pixels < 2^shift. size <= 255.5 * pixels and shift = 8 + 2 * ceil(log2(pixels)), so the
   quotient is exact; pixels < 2^23 keeps the inverse in 32 bits and the product in 64. */
ISOBIT_KERNEL void global_avg_pool_s8(global_avg_pool_s8_geometry g, const int8_t *x,
                                      const isobit_quant *q, int8_t *y) {
    const isobit_quant k = *q;
    for (int32_t c = 0; c < g.channels; c++) {
        int32_t sum = g.lift * g.pixels; /* lifted by 128 each, none is negative: ties go up */
        for (int32_t p = 0; p < g.pixels; p++) {
            sum += x[p * g.channels + c];
        }
        const int32_t sign = sum >> 31;
        const uint32_t size = (uint32_t)((sum ^ sign) - sign) + g.half;
        const int32_t mean = (int32_t)(((uint64_t)size * g.inverse) >> g.shift);
        y[c] = (int8_t)isobit_clamp((mean ^ sign) - sign - g.lift, k.low, k.high);
    }
}
