/* lut, int8: y = table[x + 128]; x and y may be the same buffer. */
#include "isobit_rt.h"

typedef struct {
    int32_t size;
} lut_s8_geometry;

ISOBIT_KERNEL void lut_s8(lut_s8_geometry g, const int8_t *x, const int8_t *table, int8_t *y) {
    for (int32_t i = 0; i < g.size; i++) {
        y[i] = table[x[i] + 128];
    }
}
