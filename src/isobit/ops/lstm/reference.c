/* lstm, int8 with a cell state of int16: the definition. The hidden state of a step is its output,
 * and is copied when all cells of the step are computed from the one before. */
#include "isobit_rt.h"

typedef struct {
    int32_t rows, steps, in, cells;
    int32_t x_row, x_step, y_row, y_step; /* elements from one row or step to the next */
    int32_t from_zero;                    /* 1: h and c hold nothing yet */
} lstm_s8_geometry;

typedef struct {
    int32_t x_zero, h_zero, cell_low, cell_high, tanh_factor, tanh_shift;
} lstm_s8_quant;

ISOBIT_KERNEL int32_t lstm_s8_sat16(int32_t value) {
    return isobit_clamp(value, INT16_MIN, INT16_MAX);
}

/* 65536 * sigmoid between the entries of the table, 2^bits steps apart, `full` beyond its end. */
ISOBIT_KERNEL int32_t lstm_s8_look_up(int32_t magnitude, int32_t bits, int32_t full,
                                      const int16_t *table) {
    const int32_t at = isobit_min(magnitude >> bits, 254);
    const int32_t low = table[at] + 32768, high = table[at + 1] + 32768;
    const int32_t between = (low << bits) + (magnitude & ((1 << bits) - 1)) * (high - low);
    const int32_t beyond = (254 - (magnitude >> bits)) >> 31;
    return (between & ~beyond) | (full & beyond);
}

/* From scale 2^-12 to 2^-15. */
ISOBIT_KERNEL int32_t lstm_s8_sigmoid(int32_t code, const int16_t *table) {
    const int32_t scaled = code * 3, sign = scaled >> 31;
    const int32_t found = lstm_s8_look_up((scaled ^ sign) - sign, 9, 0x7FFF << 10, table);
    return (((found ^ sign) - sign) + (sign & (1 << 25)) + 512 + sign) >> 10;
}

/* To scale 2^-15; factor and shift bring a code to 2^-12 / 3. */
ISOBIT_KERNEL int32_t lstm_s8_tanh(int32_t code, int32_t factor, int32_t shift,
                                   const int16_t *table) {
    const int32_t scaled = isobit_shift(code * factor, shift), sign = scaled >> 31;
    const int32_t found = lstm_s8_look_up((scaled ^ sign) - sign, 8, 0xFFFF << 8, table);
    return ((((found - (1 << 23)) ^ sign) - sign) + 128 + sign) >> 8;
}

ISOBIT_KERNEL int32_t lstm_s8_dot(int32_t n, const int8_t *x, int32_t zero, const int8_t *w) {
    int32_t acc = 0;
    for (int32_t i = 0; i < n; i++) {
        acc += (x[i] - zero) * w[i];
    }
    return acc;
}

ISOBIT_KERNEL void lstm_s8(lstm_s8_geometry g, const int8_t *x, const lstm_s8_quant *q,
                           const int8_t *w, const int8_t *r, const int32_t *b, const int32_t *mult,
                           const int8_t *shift, const int16_t *table, int8_t *y, int8_t *h,
                           int16_t *c) {
    for (int32_t row = 0; row < g.rows; row++) {
        for (int32_t u = 0; u < g.cells * g.from_zero; u++) {
            h[u] = (int8_t)q->h_zero;
            c[u] = 0;
        }
        for (int32_t step = 0; step < g.steps; step++) {
            const int8_t *const now = x + row * g.x_row + step * g.x_step;
            int8_t *const out = y + row * g.y_row + step * g.y_step;
            for (int32_t u = 0; u < g.cells; u++) {
                int32_t gate[4];
                for (int32_t k = 0; k < 4; k++) {
                    const int32_t n = k * g.cells + u;
                    const int32_t fresh = b[n] + lstm_s8_dot(g.in, now, q->x_zero, w + n * g.in);
                    const int32_t kept = lstm_s8_dot(g.cells, h, q->h_zero, r + n * g.cells);
                    const int32_t a = isobit_tflite_double(fresh, mult[k], shift[k]);
                    const int32_t d = isobit_tflite_double(kept, mult[4 + k], shift[4 + k]);
                    gate[k] = lstm_s8_sat16(lstm_s8_sat16(a) + lstm_s8_sat16(d));
                }
                const int32_t input = lstm_s8_sigmoid(gate[0], table);
                const int32_t forget = lstm_s8_sigmoid(gate[1], table);
                const int32_t fresh = lstm_s8_tanh(gate[2], 3, 0, table);
                const int32_t output = lstm_s8_sigmoid(gate[3], table);
                const int32_t old = isobit_tflite_double(forget * c[u], mult[8], shift[8]);
                const int32_t more = isobit_tflite_double(input * fresh, mult[9], shift[9]);
                const int32_t cell = isobit_clamp(lstm_s8_sat16(old) + lstm_s8_sat16(more),
                                                  q->cell_low, q->cell_high);
                const int32_t top =
                    lstm_s8_tanh(cell, q->tanh_factor, q->tanh_shift, table) * output;
                c[u] = (int16_t)cell;
                out[u] = (int8_t)isobit_clamp(
                    isobit_tflite_double(top, mult[10], shift[10]) + q->h_zero, -128, 127);
            }
            isobit_copy(h, out, g.cells);
        }
        h += g.cells;
        c += g.cells;
    }
}
