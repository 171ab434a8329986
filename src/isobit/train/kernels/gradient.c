/* The gradient of a batch norm, masked where codes were clamped. */
#include <stdint.h>
#include <string.h>

#include "threads.h"

enum { TOGETHER = 8 }; /* rows added to sums at a time */

typedef struct {
    const float *grad;
    const uint8_t *y;
    const float *x;
    const float *mean;
    ptrdiff_t rows;
    ptrdiff_t channels;
    int threads;
    int low;
    int high;
    double *sums;
    const float *factors;
    float *out;
} gradient_call;

/* The gradient where y is strictly inside (low, high), else 0; without y everywhere. */
static inline float inside(float grad, const uint8_t *y, ptrdiff_t at, int low, int high) {
    return y == NULL || (y[at] > low && y[at] < high) ? grad : 0.0f;
}

/* The sums of a few rows are float32: what they lose is far less than a gradient's own rounding. */
static inline void sums_block(const float *restrict grad, const uint8_t *restrict y,
                              const float *restrict x, const float *restrict mean,
                              double *restrict sum, double *restrict along, ptrdiff_t channels,
                              int low, int high, int rows, int width) {
    float s[LANES] = {0}, q[LANES] = {0};
    for (int r = 0; r < rows; r++) {
        for (int k = 0; k < width; k++) {
            ptrdiff_t at = r * channels + k;
            float v = inside(grad[at], y, at, low, high);
            s[k] += v;
            q[k] += v * (x[at] - mean[k]);
        }
    }
    for (int k = 0; k < width; k++) {
        sum[k] += s[k];
        along[k] += q[k];
    }
}

static inline void sums_rows(const gradient_call *a, const uint8_t *y, ptrdiff_t row, int rows,
                             double *sum, double *along) {
    ptrdiff_t channels = a->channels, at = row * channels, c = 0;
    const float *grad = a->grad + at, *x = a->x + at, *mean = a->mean;
    const uint8_t *own_y = y == NULL ? NULL : y + at;
    for (; c + LANES <= channels; c += LANES) {
        sums_block(grad + c, y == NULL ? NULL : own_y + c, x + c, mean + c, sum + c, along + c,
                   channels, a->low, a->high, rows, LANES);
    }
    for (; c < channels; c++) {
        sums_block(grad + c, y == NULL ? NULL : own_y + c, x + c, mean + c, sum + c, along + c,
                   channels, a->low, a->high, rows, 1);
    }
}

static inline void sums_share(const gradient_call *a, const uint8_t *y) {
    share own = share_of(a->rows, a->threads);
    double *sum = a->sums + 2 * a->channels * own.thread, *along = sum + a->channels;
    ptrdiff_t r = own.from;
    for (; r + TOGETHER <= own.to; r += TOGETHER) {
        sums_rows(a, y, r, TOGETHER, sum, along);
    }
    for (; r < own.to; r++) {
        sums_rows(a, y, r, 1, sum, along);
    }
}

static void sums_of_all(void *given) {
    sums_share(given, NULL);
}

static void sums_of_inside(void *given) {
    const gradient_call *a = given;
    sums_share(a, a->y);
}

/* sums [threads][2][channels]: the first two rows become the sums of the gradient and of the
 * gradient times (x - mean). y: packed codes, or NULL: then nothing was clamped. mean: [channels].
 */
void isobit_native_gradient_sums(const float *grad, const uint8_t *y, const float *x,
                                 const float *mean, ptrdiff_t rows, ptrdiff_t channels, int threads,
                                 int low, int high, double *sums) {
    gradient_call call = {grad, y, x, mean, rows, channels, threads, low, high, sums, NULL, NULL};
    memset(sums, 0, sizeof *sums * 2 * (size_t)channels * (size_t)threads);
    in_threads(y == NULL ? sums_of_all : sums_of_inside, &call, threads);
    add_threads(sums, channels, threads);
}

static inline void apply_block(const float *restrict grad, const uint8_t *restrict y,
                               const float *restrict x, const float *restrict mean,
                               const float *restrict base, const float *restrict along,
                               const float *restrict scale, float *restrict out, int low, int high,
                               int width) {
    for (int k = 0; k < width; k++) {
        float v = inside(grad[k], y, k, low, high);
        out[k] = (v - base[k] - (x[k] - mean[k]) * along[k]) * scale[k];
    }
}

static inline void apply_share(const gradient_call *a, const uint8_t *y) {
    share own = share_of(a->rows, a->threads);
    ptrdiff_t channels = a->channels;
    const float *base = a->factors, *along = base + channels, *scale = along + channels;
    for (ptrdiff_t r = own.from; r < own.to; r++) {
        ptrdiff_t at = r * channels, c = 0;
        for (; c + LANES <= channels; c += LANES) {
            apply_block(a->grad + at + c, y == NULL ? NULL : y + at + c, a->x + at + c, a->mean + c,
                        base + c, along + c, scale + c, a->out + at + c, a->low, a->high, LANES);
        }
        for (; c < channels; c++) {
            apply_block(a->grad + at + c, y == NULL ? NULL : y + at + c, a->x + at + c, a->mean + c,
                        base + c, along + c, scale + c, a->out + at + c, a->low, a->high, 1);
        }
    }
}

static void apply_to_all(void *given) {
    apply_share(given, NULL);
}

static void apply_inside(void *given) {
    const gradient_call *a = given;
    apply_share(a, a->y);
}

/* Rows of float32 of a layer's gradient, `stride` apart: norm_layer.py's. */
enum { WEIGHT, SCALED, MEAN, INVERSE, ROW_TURN, ROW_LIFT };

/* The gradient of a batch norm, from the sums of all processes over `count` values of a channel,
 * and of its parameters, from this process's: out [rows][channels], parameters [2][channels].
 * factors: room for [3][channels].
 */
void isobit_native_gradient(const float *grad, const uint8_t *y, const float *x, const float *layer,
                            ptrdiff_t stride, ptrdiff_t rows, ptrdiff_t channels, int threads,
                            int low, int high, const double *sums, const double *total,
                            double count, float *factors, float *out, float *gamma, float *beta) {
    for (ptrdiff_t c = 0; c < channels; c++) {
        double inverse = layer[INVERSE * stride + c];
        factors[c] = (float)(total[c] / count);
        factors[channels + c] = (float)(total[channels + c] / count * inverse * inverse);
        factors[2 * channels + c] = (float)(inverse * layer[SCALED * stride + c]);
        gamma[c] = (float)(sums[channels + c] * inverse * layer[ROW_TURN * stride + c]);
        beta[c] = (float)(sums[c] * layer[ROW_LIFT * stride + c]);
    }
    const float *mean = layer + MEAN * stride;
    gradient_call call = {grad, y, x, mean, rows, channels, threads, low, high, NULL, factors, out};
    in_threads(y == NULL ? apply_to_all : apply_inside, &call, threads);
}
