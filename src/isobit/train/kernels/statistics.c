/* Statistics of a layer's sums, and what they make of them: sums of values and of their squares,
 * and batch norm's offset and multiplier.
 *
 * Sums are kept in float64. Those of integers are exact while squares add up to less than 2^53, so
 * they are the same in any order, for any number of threads and of processes.
 */
#include <math.h>
#include <string.h>

#include "threads.h"

enum { TILE = 16 }; /* rows that stay in the first cache while their channels are gone through */

isobit_parallel *isobit_run_parallel;
isobit_number *isobit_thread_number;
isobit_number *isobit_team_size;

void isobit_native_threads(isobit_parallel *run, isobit_number *number, isobit_number *size) {
    isobit_run_parallel = run;
    isobit_thread_number = number;
    isobit_team_size = size;
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
        statistics[channels + c] = (float)((square < 0.0 ? 0.0 : square) * own[SQUARED * stride]);
        double sigma = sqrt((double)statistics[channels + c] + own[EPS * stride]);
        double slope = own[GAIN * stride] / sigma;
        slopes[c] = slope < least ? least : slope; /* NaN stays */
        double mult = rint(slopes[c] * 65536.0);
        on_grid &= mult >= 32.0 && mult < 16777216.0;
        line[c] = own[LIFT * stride] +
                  own[TURN * stride] * (own[BIAS * stride] - (double)statistics[c]) / sigma;
    }
    for (ptrdiff_t c = 0; c < channels; c++) {
        double real = rint(slopes[c] * 65536.0) * (1.0 / 65536.0);
        if (!on_grid) {
            int exponent = 0; /* of NaN */
            (void)frexp(slopes[c], &exponent);
            int shift = 15 - exponent < 0 ? 0 : 15 - exponent > 46 ? 46 : 15 - exponent;
            double mult = rint(ldexp(slopes[c], shift));
            real = ldexp(mult > 32767.0 ? 32767.0 : mult, -shift);
        }
        double bias = rint(line[c] / real);
        bias = bias < -most_bias ? -most_bias : bias;
        bias = bias > most_bias ? most_bias : bias;
        line[c] = bias * real + 0.5;
        slopes[c] = real;
        exact &= fabs(line[c]) <= 256.0;
        single[c] = (float)line[c];
        single[channels + c] = (float)real;
    }
    return on_grid && exact;
}
