/* What training does per element of a layer with batch norm, in fewer passes than torch's operators
 * take: sums of values and of their squares; one multiply-add, floor and clamp; the gradient.
 * Tensors are rows [rows][channels] of float32, channels innermost.
 *
 * Sums are kept in float64. Those of integers are exact while squares add up to less than 2^53, so
 * they are the same in any order, for any number of threads and of processes.
 */
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

enum {
    TOGETHER = 8, /* rows added to sums at a time */
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

/* What channels.py calls Gains: rows of float64, `stride` apart. */
enum { GAIN, LIFT, TURN, BIAS, EPS, UNIT, SQUARED };

/* channels.statistics_of and channels.fold of sums [2][channels] over `count` values, the same
 * bits: statistics [2][channels] become mean and variance, line [2][channels] the offset and
 * multiplier of isobit_native_codes, and single [2][channels] the same in float32. Returns whether
 * float32 finds the same codes.
 */
int isobit_native_fold(const double *sums, double count, const double *gains, ptrdiff_t stride,
                       ptrdiff_t channels, float *statistics, double *line, float *single) {
    static const double least = 1.0 / 1048576.0, most_bias = 536870912.0;
    int on_grid = 1, exact = 1;
    double *slopes = line + channels; /* until multipliers take their place */
    for (ptrdiff_t c = 0; c < channels; c++) {
        const double *own = gains + c;
        double mean = sums[c] / count, square = sums[channels + c] / count - mean * mean;
        statistics[c] = (float)(mean * own[UNIT * stride] + own[BIAS * stride]);
        statistics[channels + c] = (float)((square > 0.0 ? square : 0.0) * own[SQUARED * stride]);
        double sigma = sqrt((double)statistics[channels + c] + own[EPS * stride]);
        double slope = own[GAIN * stride] / sigma;
        slopes[c] = slope > least ? slope : least;
        double mult = rint(slopes[c] * 65536.0);
        on_grid &= mult >= 32.0 && mult < 16777216.0;
        line[c] = own[LIFT * stride] +
                  own[TURN * stride] * (own[BIAS * stride] - (double)statistics[c]) / sigma;
    }
    for (ptrdiff_t c = 0; c < channels; c++) {
        double real = rint(slopes[c] * 65536.0) * (1.0 / 65536.0);
        if (!on_grid) {
            int exponent;
            (void)frexp(slopes[c], &exponent);
            int shift = 15 - exponent < 0 ? 0 : 15 - exponent > 46 ? 46 : 15 - exponent;
            double mult = rint(ldexp(slopes[c], shift));
            real = ldexp(mult < 32767.0 ? mult : 32767.0, -shift);
        }
        double bias = rint(line[c] / real);
        bias = bias > -most_bias ? bias : -most_bias;
        bias = bias < most_bias ? bias : most_bias;
        line[c] = bias * real + 0.5;
        slopes[c] = real;
        exact &= fabs(line[c]) <= 256.0;
        single[c] = (float)line[c];
        single[channels + c] = (float)real;
    }
    return on_grid && exact;
}

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
        packed[k] = (uint8_t)(int)(v[k] - low);
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
        packed[k] = (uint8_t)(int)(v - low);
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
        int32_t total = 0;
        for (ptrdiff_t i = 0; i < a->size; i++) {
            float v = __builtin_rintf(w[i] * slope);
            v = v < low ? low : v;
            v = v > 127.0f ? 127.0f : v;
            int code = (int)v;
            codes[i] = (int8_t)code;
            total += code;
        }
        a->total[r] = total;
    }
}

/* codes [rows][size] = clamp(round(w * slope[row]), low, 127), half to even; total [rows]: their
 * sums.
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
                            double count, float *factors, float *out, float *parameters) {
    for (ptrdiff_t c = 0; c < channels; c++) {
        double inverse = layer[INVERSE * stride + c];
        factors[c] = (float)(total[c] / count);
        factors[channels + c] = (float)(total[channels + c] / count * inverse * inverse);
        factors[2 * channels + c] = (float)(inverse * layer[SCALED * stride + c]);
        parameters[c] = (float)(sums[channels + c] * inverse * layer[ROW_TURN * stride + c]);
        parameters[channels + c] = (float)(sums[c] * layer[ROW_LIFT * stride + c]);
    }
    const float *mean = layer + MEAN * stride;
    gradient_call call = {grad, y, x, mean, rows, channels, threads, low, high, NULL, factors, out};
    in_threads(y == NULL ? apply_to_all : apply_inside, &call, threads);
}
