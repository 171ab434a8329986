/* What training does per element of a layer with batch norm, in fewer passes than torch's operators
 * take: sums of values and of their squares; one multiply-add, floor and clamp; the gradient.
 * Tensors are rows [rows][channels] of float32, channels innermost.
 *
 * Sums are kept in float64. Those of integers are exact while squares add up to less than 2^53, so
 * they are the same in any order, for any number of threads and of processes.
 */
#include <stddef.h>
#include <stdint.h>
#include <string.h>

enum {
    TOGETHER = 4, /* rows added to sums at a time */
    LANES = 16,   /* channels whose sums stay in registers */
    TILE = 16     /* rows that stay in the first cache while their channels are gone through */
};

/* libgomp's entry points: the team of threads is torch's own. */
typedef void parallel_fn(void (*body)(void *), void *given, unsigned threads, unsigned flags);
typedef int number_fn(void);

static parallel_fn *parallel;
static number_fn *thread_number;
static number_fn *team_size;

void isobit_native_threads(parallel_fn *run, number_fn *number, number_fn *size) {
    parallel = run;
    thread_number = number;
    team_size = size;
}

typedef struct {
    ptrdiff_t from;
    ptrdiff_t to;
    ptrdiff_t thread;
} share;

static share share_of(ptrdiff_t rows, int threads) {
    if (threads == 1) {
        return (share){0, rows, 0};
    }
    ptrdiff_t i = thread_number(), n = team_size();
    return (share){rows * i / n, rows * (i + 1) / n, i};
}

static void in_threads(void (*body)(void *), void *given, int threads) {
    if (threads == 1) {
        body(given);
    } else {
        parallel(body, given, (unsigned)threads, 0);
    }
}

/* Adds the sums of all threads, [threads][2][channels], to those of the first. */
static void add_threads(double *sums, ptrdiff_t channels, int threads) {
    for (ptrdiff_t t = 1; t < threads; t++) {
        for (ptrdiff_t c = 0; c < 2 * channels; c++) {
            sums[c] += sums[2 * channels * t + c];
        }
    }
}

typedef struct {
    const float *x;
    ptrdiff_t rows;
    ptrdiff_t channels;
    int threads;
    double *sums;
} moments_call;

static inline void moments_block(const float *restrict x, ptrdiff_t rows, ptrdiff_t channels,
                                 double *restrict sum, double *restrict square) {
    double s[LANES], q[LANES];
    for (int k = 0; k < LANES; k++) {
        s[k] = sum[k];
        q[k] = square[k];
    }
    for (ptrdiff_t r = 0; r < rows; r++) {
        const float *row = x + r * channels;
        for (int k = 0; k < LANES; k++) {
            double v = row[k];
            s[k] += v;
            q[k] = __builtin_fma(v, v, q[k]);
        }
    }
    for (int k = 0; k < LANES; k++) {
        sum[k] = s[k];
        square[k] = q[k];
    }
}

/* The same of one channel. */
static inline void moments_channel(const float *x, ptrdiff_t rows, ptrdiff_t channels, double *sum,
                                   double *square) {
    for (ptrdiff_t r = 0; r < rows; r++) {
        double v = x[r * channels];
        *sum += v;
        *square = __builtin_fma(v, v, *square);
    }
}

static void moments_share(void *given) {
    const moments_call *a = given;
    share own = share_of(a->rows, a->threads);
    ptrdiff_t channels = a->channels, c = 0;
    double *sums = a->sums + 2 * channels * own.thread;
    for (ptrdiff_t r = own.from; r < own.to; r += TILE) {
        ptrdiff_t rows = own.to - r < TILE ? own.to - r : TILE;
        const float *x = a->x + r * channels;
        for (c = 0; c + LANES <= channels; c += LANES) {
            moments_block(x + c, rows, channels, sums + c, sums + channels + c);
        }
        for (; c < channels; c++) {
            moments_channel(x + c, rows, channels, sums + c, sums + channels + c);
        }
    }
}

/* sums [threads][2][channels]: the first two rows become the sums of x and of x * x. */
void isobit_native_moments(const float *x, ptrdiff_t rows, ptrdiff_t channels, int threads,
                           double *sums) {
    moments_call call = {x, rows, channels, threads, sums};
    memset(sums, 0, sizeof *sums * 2 * (size_t)channels * (size_t)threads);
    in_threads(moments_share, &call, threads);
    add_threads(sums, channels, threads);
}

typedef struct {
    const float *x;
    const float *add;
    const float *mult;
    float *y;
    ptrdiff_t rows;
    ptrdiff_t channels;
    int threads;
    float low;
    float high;
} codes_call;

static void codes_share(void *given) {
    const codes_call *a = given;
    share own = share_of(a->rows, a->threads);
    ptrdiff_t channels = a->channels;
    const float *restrict add = a->add, *restrict mult = a->mult;
    float low = a->low, high = a->high;
    for (ptrdiff_t r = own.from; r < own.to; r++) {
        const float *restrict x = a->x + r * channels;
        float *restrict y = a->y + r * channels;
        for (ptrdiff_t c = 0; c < channels; c++) {
            float v = __builtin_floorf(__builtin_fmaf(x[c], mult[c], add[c]));
            v = v < low ? low : v;
            y[c] = v > high ? high : v;
        }
    }
}

/* y = clamp(floor(x * mult + add), low, high), x * mult + add rounded once; add, mult: [channels].
 */
void isobit_native_codes(const float *x, const float *add, const float *mult, float *y,
                         ptrdiff_t rows, ptrdiff_t channels, int threads, float low, float high) {
    codes_call call = {x, add, mult, y, rows, channels, threads, low, high};
    in_threads(codes_share, &call, threads);
}

typedef struct {
    const float *grad;
    const float *y;
    const float *x;
    const float *mean;
    ptrdiff_t rows;
    ptrdiff_t channels;
    int threads;
    float low;
    float high;
    double *sums;
    const float *factors;
    float *out;
} gradient_call;

/* The gradient where y is strictly inside (low, high), else 0; without y everywhere. */
static inline float inside(float grad, const float *y, ptrdiff_t at, float low, float high) {
    return y == NULL || (y[at] > low && y[at] < high) ? grad : 0.0f;
}

static inline void sums_share(const gradient_call *a, const float *restrict y) {
    share own = share_of(a->rows, a->threads);
    ptrdiff_t channels = a->channels, r = own.from;
    double *restrict sum = a->sums + 2 * channels * own.thread, *restrict along = sum + channels;
    const float *restrict mean = a->mean;
    float low = a->low, high = a->high;
    for (; r + TOGETHER <= own.to; r += TOGETHER) {
        const float *restrict grad = a->grad + r * channels, *restrict x = a->x + r * channels;
        const float *restrict own_y = y == NULL ? NULL : y + r * channels;
        for (ptrdiff_t c = 0; c < channels; c++) {
            double s = sum[c], q = along[c];
            for (int i = 0; i < TOGETHER; i++) {
                ptrdiff_t at = i * channels + c;
                float v = inside(grad[at], own_y, at, low, high);
                s += v;
                q += v * (x[at] - mean[c]);
            }
            sum[c] = s;
            along[c] = q;
        }
    }
    for (; r < own.to; r++) {
        for (ptrdiff_t c = 0; c < channels; c++) {
            ptrdiff_t at = r * channels + c;
            float v = inside(a->grad[at], y, at, low, high);
            sum[c] += v;
            along[c] += v * (a->x[at] - mean[c]);
        }
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
 * gradient times (x - mean). y may be NULL: then nothing was clamped. mean: [channels].
 */
void isobit_native_gradient_sums(const float *grad, const float *y, const float *x,
                                 const float *mean, ptrdiff_t rows, ptrdiff_t channels, int threads,
                                 float low, float high, double *sums) {
    gradient_call call = {grad, y, x, mean, rows, channels, threads, low, high, sums, NULL, NULL};
    memset(sums, 0, sizeof *sums * 2 * (size_t)channels * (size_t)threads);
    in_threads(y == NULL ? sums_of_all : sums_of_inside, &call, threads);
    add_threads(sums, channels, threads);
}

static inline void apply_share(const gradient_call *a, const float *y) {
    share own = share_of(a->rows, a->threads);
    ptrdiff_t channels = a->channels;
    const float *restrict mean = a->mean, *restrict base = a->factors;
    const float *restrict along = base + channels, *restrict scale = along + channels;
    float low = a->low, high = a->high;
    for (ptrdiff_t r = own.from; r < own.to; r++) {
        ptrdiff_t at = r * channels;
        const float *restrict x = a->x + at, *restrict grad = a->grad + at;
        const float *own_y = y == NULL ? NULL : y + at;
        float *restrict out = a->out + at;
        for (ptrdiff_t c = 0; c < channels; c++) {
            float v = inside(grad[c], own_y, c, low, high);
            out[c] = (v - base[c] - (x[c] - mean[c]) * along[c]) * scale[c];
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

/* out = (gradient - base - (x - mean) * along) * scale; factors: base, along, scale [channels]. */
void isobit_native_gradient(const float *grad, const float *y, const float *x, const float *mean,
                            ptrdiff_t rows, ptrdiff_t channels, int threads, float low, float high,
                            const float *factors, float *out) {
    gradient_call call = {grad, y, x, mean, rows, channels, threads, low, high, NULL, factors, out};
    in_threads(y == NULL ? apply_to_all : apply_inside, &call, threads);
}
