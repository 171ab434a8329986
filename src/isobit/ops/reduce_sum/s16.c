/* reduce_sum, int16: the definition. Three loops over outputs, three over the terms of one; y may
   be x. */
#include "isobit_rt.h"

typedef struct {
    int32_t size_0, size_1, size_2, step_0, step_1, step_2;
    int32_t terms_0, terms_1, terms_2, terms_step_0, terms_step_1, terms_step_2;
    int32_t count, rule;
} reduce_sum_s16_geometry;

/* The sum of one output's codes. */
ISOBIT_KERNEL int32_t reduce_sum_s16_codes(reduce_sum_s16_geometry g, const int16_t *x) {
    int32_t sum = 0;
    for (int32_t t0 = 0; t0 < g.terms_0; t0++) {
        for (int32_t t1 = 0; t1 < g.terms_1; t1++) {
            const int16_t *first = x + t0 * g.terms_step_0 + t1 * g.terms_step_1;
            for (int32_t t2 = 0; t2 < g.terms_2; t2++) {
                sum += first[t2 * g.terms_step_2];
            }
        }
    }
    return sum;
}

ISOBIT_KERNEL void reduce_sum_s16(reduce_sum_s16_geometry g, const int16_t *x,
                                  const isobit_quant *q, const int32_t *mult, const int8_t *shift,
                                  int16_t *y) {
    const int32_t zeros = g.count * q->x_zero;
    for (int32_t i0 = 0; i0 < g.size_0; i0++) {
        for (int32_t i1 = 0; i1 < g.size_1; i1++) {
            for (int32_t i2 = 0; i2 < g.size_2; i2++) {
                const int16_t *first = x + i0 * g.step_0 + i1 * g.step_1 + i2 * g.step_2;
                const int32_t sum = reduce_sum_s16_codes(g, first) - zeros;
                *y++ = isobit_finish_s16(sum, g.rule, mult, shift, 0, q);
            }
        }
    }
}
