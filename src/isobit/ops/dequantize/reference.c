/* dequantize, int8 to float32: y = table[x + 128]; the table holds the bits of 256 floats. */
#include "isobit_rt.h"

typedef struct {
    int32_t size;
} dequantize_f32_geometry;

/* The caller reads floats; writing their bits as integers must not be taken for another object. */
#if defined(__GNUC__) || defined(__clang__)
typedef uint32_t __attribute__((may_alias)) dequantize_f32_bits;
#else
typedef uint32_t dequantize_f32_bits;
#endif

ISOBIT_KERNEL void dequantize_f32(dequantize_f32_geometry g, const int8_t *x, const int32_t *table,
                                  void *y) {
    dequantize_f32_bits *to = y;
    for (int32_t i = 0; i < g.size; i++) {
        to[i] = (uint32_t)table[x[i] + 128];
    }
}
