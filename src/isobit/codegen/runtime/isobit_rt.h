/* isobit run time: requantisation and the few types kernels share. C11, no malloc, no libc, no
 * floating point. */
#ifndef ISOBIT_RT_INCLUDED
#define ISOBIT_RT_INCLUDED

#include <stddef.h>
#include <stdint.h>

#if defined(__GNUC__) || defined(__clang__)
#define ISOBIT_KERNEL static inline __attribute__((always_inline))
#if defined(__clang__)
#define ISOBIT_INSTANCE static __attribute__((noinline, used))
/* For size: clang -O3 unrolls loops of known length to several times their bytes, gcc -O2 does not.
 */
#define ISOBIT_SMALL_INSTANCE static __attribute__((noinline, used, minsize))
#else
#define ISOBIT_INSTANCE static __attribute__((noinline, noclone, noipa, used))
#define ISOBIT_SMALL_INSTANCE ISOBIT_INSTANCE
#endif
#define ISOBIT_ALIGNED(n) __attribute__((aligned(n)))
#else
#define ISOBIT_KERNEL static inline
#define ISOBIT_INSTANCE static
#define ISOBIT_SMALL_INSTANCE static
#define ISOBIT_ALIGNED(n)
#endif

/* How far the loop that follows is unrolled where the default is wrong: not at all; clang: by two;
 * gcc: by four. At -O3 clang unrolls short loops whole and the ones around them too, gcc at -O2
 * none. The result is the same. */
#if defined(__clang__)
#define ISOBIT_ROLLED _Pragma("clang loop unroll(disable)")
#define ISOBIT_PAIRWISE _Pragma("clang loop unroll_count(2)")
#define ISOBIT_UNROLLED
#elif defined(__GNUC__) && __GNUC__ >= 8
#define ISOBIT_ROLLED _Pragma("GCC unroll 1")
#define ISOBIT_PAIRWISE
#define ISOBIT_UNROLLED _Pragma("GCC unroll 4")
#else
#define ISOBIT_ROLLED
#define ISOBIT_PAIRWISE
#define ISOBIT_UNROLLED
#endif

/* A negative number shifted right keeps its sign on every compiler this file supports (C11 6.5.7p5
 * leaves it open). */
_Static_assert((-5 >> 1) == -3, "isobit needs an arithmetic right shift");

/* How a wide sum becomes a code. A plain shift is half_up with multiplier 1. */
enum { ISOBIT_SHIFT = 0, ISOBIT_HALF_UP = 1, ISOBIT_TFLITE_DOUBLE = 2 };

/* What training decides about one node; flash data, so that untrained and trained code are the
 * same. */
typedef struct {
    int32_t x_zero, y_zero, low, high;
} isobit_quant;

/* Copies bytes unless an end is missing or both are the same; a loop, because freestanding C has no
 * memcpy. */
ISOBIT_KERNEL void isobit_copy(void *to, const void *from, int32_t bytes) {
    uint8_t *t = to;
    const uint8_t *f = from;
    if (t == NULL || f == NULL || t == f) {
        return;
    }
    for (int32_t i = 0; i < bytes; i++) {
        t[i] = f[i];
    }
}

/* floor(acc * 2^-shift + 1/2). acc + 2^(shift-1) must fit int32, which the exporter proves. */
ISOBIT_KERNEL int32_t isobit_shift(int32_t acc, int32_t shift) {
    return (acc + (int32_t)((uint32_t)1 << shift >> 1)) >> shift;
}

/* floor(acc * mult * 2^-shift + 1/2); mult in 0..2^31-1, shift in 0..62. */
ISOBIT_KERNEL int32_t isobit_half_up(int32_t acc, int32_t mult, int32_t shift) {
    const int64_t half = (int64_t)((uint64_t)1 << shift >> 1);
    return (int32_t)(((int64_t)acc * mult + half) >> shift);
}

/* TFLite: Q31 product with ties up, then a shift with ties away from zero; shift > 0 shifts left
 * first. */
ISOBIT_KERNEL int32_t isobit_tflite_double(int32_t acc, int32_t mult, int32_t shift) {
    const int32_t left = shift > 0 ? shift : 0;
    const int32_t right = shift > 0 ? 0 : -shift;
    const int64_t wide = (int64_t)acc * ((int64_t)1 << left) * mult;
    const int32_t high = (int32_t)((wide + ((int64_t)1 << 30)) >> 31);
    const int32_t mask = (int32_t)(((uint32_t)1 << right) - 1u);
    const int32_t rest = high & mask;
    return (high >> right) + (rest > (mask >> 1) + (high < 0));
}

ISOBIT_KERNEL int32_t isobit_requantize(int32_t acc, int32_t rule, const int32_t *mult,
                                        const int8_t *shift, int32_t i) {
    if (rule == ISOBIT_SHIFT) {
        return isobit_shift(acc, shift[i]);
    }
    if (rule == ISOBIT_HALF_UP) {
        return isobit_half_up(acc, mult[i], shift[i]);
    }
    return isobit_tflite_double(acc, mult[i], shift[i]);
}

/* The larger and the smaller of two numbers whose difference fits int32. Without a comparison: on
 * cores without conditional execution that would be a branch, and the instructions executed would
 * depend on the data. */
ISOBIT_KERNEL int32_t isobit_max(int32_t a, int32_t b) {
    const int32_t more = a - b;
    return b + (more & ~(more >> 31));
}

ISOBIT_KERNEL int32_t isobit_min(int32_t a, int32_t b) {
    const int32_t more = a - b;
    return b + (more & (more >> 31));
}

/* value in -2^30..2^30, low and high codes. */
ISOBIT_KERNEL int32_t isobit_clamp(int32_t value, int32_t low, int32_t high) {
    return isobit_min(isobit_max(value, low), high);
}

ISOBIT_KERNEL int8_t isobit_finish_s8(int32_t acc, int32_t rule, const int32_t *mult,
                                      const int8_t *shift, int32_t i, const isobit_quant *q) {
    return (int8_t)isobit_clamp(isobit_requantize(acc, rule, mult, shift, i) + q->y_zero, q->low,
                                q->high);
}

/* Entry o of a bias of 32 or 64 bits. */
ISOBIT_KERNEL int64_t isobit_bias(const void *b, int32_t wide, int32_t o) {
    return wide ? ((const int64_t *)b)[o] : ((const int32_t *)b)[o];
}

/* As isobit_requantize; a product of acc and mult fits 64 bits, and only half_up takes an acc that
 * leaves int32. */
ISOBIT_KERNEL int32_t isobit_requantize_wide(int64_t acc, int32_t rule, const int32_t *mult,
                                             const int8_t *shift, int32_t i) {
    if (rule == ISOBIT_TFLITE_DOUBLE) {
        return isobit_tflite_double((int32_t)acc, mult[i], shift[i]);
    }
    const int64_t half = (int64_t)((uint64_t)1 << shift[i] >> 1);
    return (int32_t)((acc * (rule == ISOBIT_SHIFT ? 1 : mult[i]) + half) >> shift[i]);
}

ISOBIT_KERNEL int16_t isobit_finish_s16(int64_t acc, int32_t rule, const int32_t *mult,
                                        const int8_t *shift, int32_t i, const isobit_quant *q) {
    const int32_t scaled = isobit_requantize_wide(acc, rule, mult, shift, i);
    return (int16_t)isobit_clamp(scaled + q->y_zero, q->low, q->high);
}

#endif
