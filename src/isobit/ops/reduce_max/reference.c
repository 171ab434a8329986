/* reduce_max, int8: the definition. Three loops over outputs, three over the terms of one; y may be
   x. The smallest element is the largest of their complements ~x = -1 - x. */
#include "isobit_rt.h"

typedef struct {
    int32_t size_0, size_1, size_2, step_0, step_1, step_2;
    int32_t terms_0, terms_1, terms_2, terms_step_0, terms_step_1, terms_step_2;
    int32_t smallest;
} reduce_max_s8_geometry;

/* The largest of one output's terms, each with all bits of `flip` exchanged. */
ISOBIT_KERNEL int32_t reduce_max_s8_largest(reduce_max_s8_geometry g, const int8_t *x,
                                            int32_t flip) {
    int32_t best = -128;
    for (int32_t t0 = 0; t0 < g.terms_0; t0++) {
        for (int32_t t1 = 0; t1 < g.terms_1; t1++) {
            const int8_t *first = x + t0 * g.terms_step_0 + t1 * g.terms_step_1;
            for (int32_t t2 = 0; t2 < g.terms_2; t2++) {
                best = isobit_max(first[t2 * g.terms_step_2] ^ flip, best);
            }
        }
    }
    return best;
}

ISOBIT_KERNEL void reduce_max_s8(reduce_max_s8_geometry g, const int8_t *x, int8_t *y) {
    const int32_t flip = g.smallest ? -1 : 0;
    for (int32_t i0 = 0; i0 < g.size_0; i0++) {
        for (int32_t i1 = 0; i1 < g.size_1; i1++) {
            for (int32_t i2 = 0; i2 < g.size_2; i2++) {
                const int8_t *first = x + i0 * g.step_0 + i1 * g.step_1 + i2 * g.step_2;
                *y++ = (int8_t)(reduce_max_s8_largest(g, first, flip) ^ flip);
            }
        }
    }
}
