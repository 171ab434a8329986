/* quantize, float32 to int8: y = clamp(how many of 255 thresholds x reaches - 128); NaN counts as
 * 0.
 *
 * No floating-point instruction: floats are compared as the integers of their magnitude bits with
 * their sign, which have the same order. Eight halvings, without a branch on data. y may lie at x.
 */
#include "isobit_rt.h"

typedef struct {
    int32_t size;
} quantize_f32_thresholds_geometry;

typedef struct {
    int32_t low, high;
} quantize_f32_thresholds_quant;

/* The caller writes floats; reading their bits as integers must not be taken for another object. */
#if defined(__GNUC__) || defined(__clang__)
typedef uint32_t __attribute__((may_alias)) quantize_f32_thresholds_bits;
#else
typedef uint32_t quantize_f32_thresholds_bits;
#endif

/* All ones where a < b, else 0; by a wide difference, because a comparison may become a branch. */
ISOBIT_KERNEL int32_t quantize_f32_thresholds_less(int32_t a, int32_t b) {
    return (int32_t)(((int64_t)a - b) >> 63);
}

ISOBIT_KERNEL int32_t quantize_f32_thresholds_ordered(uint32_t bits) {
    const int32_t size = (int32_t)(bits & 0x7fffffffu);
    const int32_t sign = -(int32_t)(bits >> 31);
    const int32_t is_nan = quantize_f32_thresholds_less(0x7f800000, size);
    return ((size ^ sign) - sign) & ~is_nan;
}

ISOBIT_KERNEL void quantize_f32_thresholds(quantize_f32_thresholds_geometry g, const void *x,
                                           const quantize_f32_thresholds_quant *q,
                                           const int32_t *thresholds, int8_t *y) {
    const quantize_f32_thresholds_bits *from = x;
    for (int32_t i = 0; i < g.size; i++) {
        const int32_t value = quantize_f32_thresholds_ordered(from[i]);
        int32_t reached = 0;
        for (int32_t step = 128; step > 0; step >>= 1) {
            const int32_t next = thresholds[reached + step - 1];
            reached += step & ~quantize_f32_thresholds_less(value, next);
        }
        y[i] = (int8_t)isobit_clamp(reached - 128, q->low, q->high);
    }
}
