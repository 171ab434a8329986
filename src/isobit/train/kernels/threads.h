/* What the kernels of training share: threads, and sums of several of them.
 *
 * Tensors are rows [rows][channels] of float32, channels innermost.
 */
#ifndef ISOBIT_TRAIN_THREADS_H
#define ISOBIT_TRAIN_THREADS_H

#include <stddef.h>

enum { LANES = 16 }; /* channels whose numbers stay in registers */

/* libgomp's entry points: the team of threads is torch's own. */
typedef void isobit_parallel(void (*body)(void *), void *given, unsigned threads, unsigned flags);
typedef int isobit_number(void);

extern isobit_parallel *isobit_run_parallel;
extern isobit_number *isobit_thread_number;
extern isobit_number *isobit_team_size;

typedef struct {
    ptrdiff_t from;
    ptrdiff_t to;
    ptrdiff_t thread;
} share;

/* The rows of the thread at hand. */
static inline share share_of(ptrdiff_t rows, int threads) {
    if (threads == 1) {
        return (share){0, rows, 0};
    }
    ptrdiff_t i = isobit_thread_number(), n = isobit_team_size();
    return (share){rows * i / n, rows * (i + 1) / n, i};
}

static inline void in_threads(void (*body)(void *), void *given, int threads) {
    if (threads == 1) {
        body(given);
    } else {
        isobit_run_parallel(body, given, (unsigned)threads, 0);
    }
}

/* Adds the sums of all threads, [threads][2][channels], to those of the first. */
static inline void add_threads(double *sums, ptrdiff_t channels, int threads) {
    for (ptrdiff_t t = 1; t < threads; t++) {
        for (ptrdiff_t c = 0; c < 2 * channels; c++) {
            sums[c] += sums[2 * channels * t + c];
        }
    }
}

#endif
