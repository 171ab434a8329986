/* Weights as integers, and as the real numbers that those stand for. */
#include <stdint.h>

#include "threads.h"

typedef struct {
    const float *w;
    const float *slope;
    int8_t *codes;
    int32_t *total;
    ptrdiff_t rows;
    ptrdiff_t size;
    int threads;
    float low;
} round_call;

static void round_share(void *given) {
    const round_call *a = given;
    share own = share_of(a->rows, a->threads);
    float low = a->low;
    for (ptrdiff_t r = own.from; r < own.to; r++) {
        const float *restrict w = a->w + r * a->size;
        int8_t *restrict codes = a->codes + r * a->size;
        float slope = a->slope[r];
        int32_t total = 0, bad = 0;
        for (ptrdiff_t i = 0; i < a->size; i++) {
            float v = __builtin_rintf(w[i] * slope);
            bad |= v != v;
            v = v >= low ? v : low;
            v = v > 127.0f ? 127.0f : v;
            int code = (int)v;
            codes[i] = (int8_t)code;
            total += code;
        }
        a->total[r] = bad ? INT32_MIN : total;
    }
}

/* codes [rows][size] = clamp(round(w * slope[row]), low, 127), half to even; total [rows]: their
 * sums, or INT32_MIN where a weight is NaN.
 */
void isobit_native_round(const float *w, const float *slope, int8_t *codes, int32_t *total,
                         ptrdiff_t rows, ptrdiff_t size, int threads, float low) {
    round_call call = {w, slope, codes, total, rows, size, threads, low};
    in_threads(round_share, &call, threads);
}

typedef struct {
    const int8_t *codes;
    const float *back;
    float *w;
    ptrdiff_t rows;
    ptrdiff_t size;
    int threads;
} real_call;

static void real_share(void *given) {
    const real_call *a = given;
    share own = share_of(a->rows, a->threads);
    for (ptrdiff_t r = own.from; r < own.to; r++) {
        const int8_t *restrict codes = a->codes + r * a->size;
        float *restrict w = a->w + r * a->size, back = a->back[r];
        for (ptrdiff_t i = 0; i < a->size; i++) {
            w[i] = (float)codes[i] * back;
        }
    }
}

/* w [rows][size] = codes * back[row] */
void isobit_native_real(const int8_t *codes, const float *back, float *w, ptrdiff_t rows,
                        ptrdiff_t size, int threads) {
    real_call call = {codes, back, w, rows, size, threads};
    in_threads(real_share, &call, threads);
}
