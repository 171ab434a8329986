/* dequantize, int16 to float32: the float32 nearest to x * scale, ties to even. The product of a
 * code and a mantissa has 40 bits; no floating-point instruction. */
#include "isobit_rt.h"

typedef struct {
    int32_t size;
} dequantize_s16_geometry;

typedef struct {
    int32_t mantissa, exponent; /* scale = mantissa * 2^(exponent - 150), mantissa in 2^23..2^24 */
} dequantize_s16_quant;

/* The caller reads floats; writing their bits as integers must not be taken for another object. */
#if defined(__GNUC__) || defined(__clang__)
typedef uint32_t __attribute__((may_alias)) dequantize_s16_bits;
#else
typedef uint32_t dequantize_s16_bits;
#endif

ISOBIT_KERNEL uint32_t dequantize_s16_magnitude(uint32_t size, const dequantize_s16_quant *q) {
    if (size == 0) {
        return 0u;
    }
    const uint64_t product = (uint64_t)size * (uint32_t)q->mantissa;
    int32_t more = 0; /* bits beyond 24, 0..16 */
    while (product >> (24 + more) != 0) {
        more++;
    }
    const uint32_t kept = (uint32_t)(product >> more);
    const uint32_t rest = (uint32_t)product & ((1u << more) - 1u);
    const uint32_t half = 1u << more >> 1;
    const uint32_t up = (rest > half) | ((rest == half) & (more != 0) & kept & 1u);
    /* A carry out of the mantissa is one more in the exponent. */
    return ((uint32_t)(q->exponent + more) << 23) + (kept - (1u << 23)) + up;
}

ISOBIT_KERNEL void dequantize_s16(dequantize_s16_geometry g, const int16_t *x,
                                  const dequantize_s16_quant *q, void *y) {
    dequantize_s16_bits *to = y;
    for (int32_t i = 0; i < g.size; i++) {
        const int32_t code = x[i], negative = code >> 31;
        const uint32_t size = (uint32_t)((code ^ negative) - negative);
        to[i] = dequantize_s16_magnitude(size, q) | ((uint32_t)negative & 0x80000000u);
    }
}
