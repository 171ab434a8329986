/* The DSP extension of Armv7E-M and Armv8-M under names that mean the same with every compiler.
 *
 * A word holds four int8 or two int16, the lowest index in the lowest bits. All sums wrap modulo
 * 2^32, so a final sum that fits int32 is exact whatever its partial sums did. Without the
 * extension the functions are plain C, for sanitizers on a computer; a generated network does not
 * compile then.
 *
 * gcc does not fold a rotation or the merging of halfwords into one instruction, hence its inline
 * assembly; clang does, and cannot schedule inline assembly. */
/* No name that ends in _H: a network called dsp has ISOBIT_DSP_H. */
#ifndef ISOBIT_DSP_INCLUDED
#define ISOBIT_DSP_INCLUDED

#include "isobit_rt.h"

#if defined(__ARM_FEATURE_DSP)
#include <arm_acle.h>
#endif

#if defined(__ARM_FEATURE_DSP) && !defined(__clang__)
#define ISOBIT_DSP_GCC 1
#else
#define ISOBIT_DSP_GCC 0
#endif

/* Four bytes from any address: these cores load words unaligned, and memcpy is what C allows. */
ISOBIT_KERNEL int32_t isobit_load32(const void *from) {
    int32_t word;
    __builtin_memcpy(&word, from, sizeof word);
    return word;
}

/* Four bytes from a multiple of 4: the compiler may join neighbours into LDRD or LDM. */
ISOBIT_KERNEL int32_t isobit_load32_aligned(const void *from) {
    int32_t word;
    __builtin_memcpy(&word, __builtin_assume_aligned(from, 4), sizeof word);
    return word;
}

ISOBIT_KERNEL void isobit_store32(void *to, int32_t word) {
    __builtin_memcpy(to, &word, sizeof word);
}

/* Halfwords (low of a, low of b). */
ISOBIT_KERNEL int32_t isobit_pkhbt(int32_t a, int32_t b) {
#if ISOBIT_DSP_GCC
    int32_t word;
    __asm__("pkhbt %0, %1, %2, lsl #16" : "=r"(word) : "r"(a), "r"(b));
    return word;
#else
    return (int32_t)(((uint32_t)a & 0xFFFFu) | (uint32_t)b << 16);
#endif
}

/* Halfwords (high of a, high of b). */
ISOBIT_KERNEL int32_t isobit_pkhtb(int32_t a, int32_t b) {
#if ISOBIT_DSP_GCC
    int32_t word;
    __asm__("pkhtb %0, %2, %1, asr #16" : "=r"(word) : "r"(a), "r"(b));
    return word;
#else
    return (int32_t)((uint32_t)a >> 16 | ((uint32_t)b & 0xFFFF0000u));
#endif
}

/* Halfwords (acc.low + bytes[0], acc.high + bytes[2]). */
ISOBIT_KERNEL int32_t isobit_sxtab16(int32_t acc, int32_t bytes) {
#if defined(__ARM_FEATURE_DSP)
    return __sxtab16(acc, bytes);
#else
    const uint32_t low = (uint32_t)acc + (uint32_t)(int8_t)bytes;
    const uint32_t high = ((uint32_t)acc >> 16) + (uint32_t)(int8_t)(bytes >> 16);
    return isobit_pkhbt((int32_t)low, (int32_t)high);
#endif
}

/* Halfwords (acc.low + bytes[1], acc.high + bytes[3]). */
ISOBIT_KERNEL int32_t isobit_sxtab16_ror8(int32_t acc, int32_t bytes) {
#if ISOBIT_DSP_GCC
    int32_t word;
    __asm__("sxtab16 %0, %1, %2, ror #8" : "=r"(word) : "r"(acc), "r"(bytes));
    return word;
#else
    return isobit_sxtab16(acc, (int32_t)((uint32_t)bytes >> 8 | (uint32_t)bytes << 24));
#endif
}

/* Halfwords (bytes[0], bytes[2]). */
ISOBIT_KERNEL int32_t isobit_sxtb16(int32_t bytes) {
#if defined(__ARM_FEATURE_DSP)
    return __sxtb16(bytes);
#else
    return isobit_sxtab16(0, bytes);
#endif
}

/* Halfwords (bytes[1], bytes[3]). */
ISOBIT_KERNEL int32_t isobit_sxtb16_ror8(int32_t bytes) {
#if ISOBIT_DSP_GCC
    int32_t word;
    __asm__("sxtb16 %0, %1, ror #8" : "=r"(word) : "r"(bytes));
    return word;
#else
    return isobit_sxtb16((int32_t)((uint32_t)bytes >> 8 | (uint32_t)bytes << 24));
#endif
}

/* acc + a.low * b.low + a.high * b.high, modulo 2^32. */
ISOBIT_KERNEL int32_t isobit_smlad(int32_t a, int32_t b, int32_t acc) {
#if defined(__ARM_FEATURE_DSP)
    return __smlad(a, b, acc);
#else
    const int32_t low = (int16_t)a * (int16_t)b;
    const int32_t high = (int16_t)(a >> 16) * (int16_t)(b >> 16);
    return (int32_t)((uint32_t)acc + (uint32_t)low + (uint32_t)high);
#endif
}

#endif
