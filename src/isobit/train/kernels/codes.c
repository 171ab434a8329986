/* Codes of sums, in float32 and packed in bytes. */
#include <stdint.h>

#include "threads.h"

typedef struct {
    const float *x;
    const void *add;
    const void *mult;
    float *y;
    uint8_t *packed;
    ptrdiff_t rows;
    ptrdiff_t channels;
    int threads;
    float low;
    float high;
} codes_call;

static inline void codes_block(const float *restrict x, const float *restrict add,
                               const float *restrict mult, float *restrict y,
                               uint8_t *restrict packed, float low, float high, int width) {
    float v[LANES];
    for (int k = 0; k < width; k++) {
        v[k] = __builtin_floorf(__builtin_fmaf(x[k], mult[k], add[k]));
        v[k] = v[k] < low ? low : v[k];
        v[k] = v[k] > high ? high : v[k];
        y[k] = v[k];
        packed[k] = v[k] >= low ? (uint8_t)(int)(v[k] - low) : 0; /* NaN: 0 */
    }
}

static void codes_share(void *given) {
    const codes_call *a = given;
    share own = share_of(a->rows, a->threads);
    ptrdiff_t channels = a->channels;
    const float *add = a->add, *mult = a->mult;
    for (ptrdiff_t r = own.from; r < own.to; r++) {
        ptrdiff_t at = r * channels, c = 0;
        for (; c + LANES <= channels; c += LANES) {
            codes_block(a->x + at + c, add + c, mult + c, a->y + at + c, a->packed + at + c, a->low,
                        a->high, LANES);
        }
        for (; c < channels; c++) {
            codes_block(a->x + at + c, add + c, mult + c, a->y + at + c, a->packed + at + c, a->low,
                        a->high, 1);
        }
    }
}

/* y = clamp(floor(x * mult + add), low, high), x * mult + add rounded once; add, mult: [channels].
 * packed = y - low, which is at most 255.
 */
void isobit_native_codes(const float *x, const float *add, const float *mult, float *y,
                         uint8_t *packed, ptrdiff_t rows, ptrdiff_t channels, int threads,
                         float low, float high) {
    codes_call call = {x, add, mult, y, packed, rows, channels, threads, low, high};
    in_threads(codes_share, &call, threads);
}

static inline void wide_block(const float *restrict x, const double *restrict add,
                              const double *restrict mult, float *restrict y,
                              uint8_t *restrict packed, float low, float high, int width) {
    for (int k = 0; k < width; k++) {
        float v = (float)__builtin_floor(__builtin_fma((double)x[k], mult[k], add[k]));
        v = v < low ? low : v;
        v = v > high ? high : v;
        y[k] = v;
        packed[k] = v >= low ? (uint8_t)(int)(v - low) : 0;
    }
}

static void wide_share(void *given) {
    const codes_call *a = given;
    share own = share_of(a->rows, a->threads);
    ptrdiff_t channels = a->channels;
    const double *add = a->add, *mult = a->mult;
    for (ptrdiff_t r = own.from; r < own.to; r++) {
        ptrdiff_t at = r * channels, c = 0;
        for (; c + LANES <= channels; c += LANES) {
            wide_block(a->x + at + c, add + c, mult + c, a->y + at + c, a->packed + at + c, a->low,
                       a->high, LANES);
        }
        for (; c < channels; c++) {
            wide_block(a->x + at + c, add + c, mult + c, a->y + at + c, a->packed + at + c, a->low,
                       a->high, 1);
        }
    }
}

/* The same with a float64 offset and multiplier. */
void isobit_native_wide_codes(const float *x, const double *add, const double *mult, float *y,
                              uint8_t *packed, ptrdiff_t rows, ptrdiff_t channels, int threads,
                              float low, float high) {
    codes_call call = {x, add, mult, y, packed, rows, channels, threads, low, high};
    in_threads(wide_share, &call, threads);
}

typedef struct {
    const uint8_t *packed;
    float *y;
    ptrdiff_t size;
    int threads;
    float low;
} unpack_call;

static void unpack_share(void *given) {
    const unpack_call *a = given;
    share own = share_of(a->size, a->threads);
    const uint8_t *restrict packed = a->packed;
    float *restrict y = a->y, low = a->low;
    for (ptrdiff_t i = own.from; i < own.to; i++) {
        y[i] = (float)packed[i] + low;
    }
}

/* y = packed + low, of `size` elements. */
void isobit_native_unpack(const uint8_t *packed, float *y, ptrdiff_t size, int threads, float low) {
    unpack_call call = {packed, y, size, threads, low};
    in_threads(unpack_share, &call, threads);
}
