/* linear, int8: two products per SMLAD, four outputs per pass over the input.
 *
 * Input and weights are int8 in memory; SXTB16 and SXTB16 with ROR 8 widen bytes 0, 2 and 1, 3 of a word, in the same
 * order on both sides. The input's zero point is removed by the same instruction that widens it (SXTAB16). Four
 * inputs x four outputs are 16 multiply-accumulates in 23 instructions: 5 loads, 2 SXTAB16, 8 SXTB16, 8 SMLAD.
 * In registers: 4 sums, 2 pointers (weight rows lie at constant offsets), 2 input words, 3 weight words.
 *
 * Rows of weights are padded with zeros to a multiple of 4 bytes, so what is put beside the last inputs counts
 * nothing. Sums wrap modulo 2^32; their end values fit. Every weight is widened for one use: a vector has no second
 * row to share it with. Outputs behind the last four are computed one by one. */
#include "isobit_dsp.h"

typedef struct {
    int32_t in, out;
    int32_t rule, per_channel, x_has_zero, has_bias;
} linear_s8_dual_dsp_geometry;

/* Adds four products; x02 and x13 hold the inputs 0, 2 and 1, 3 as int16. */
ISOBIT_KERNEL int32_t linear_s8_dual_dsp_dot(const int8_t *w, int32_t x02, int32_t x13,
                                             int32_t sum) {
    const int32_t weights = isobit_load32_aligned(w);
    sum = isobit_smlad(isobit_sxtb16(weights), x02, sum);
    return isobit_smlad(isobit_sxtb16_ror8(weights), x13, sum);
}

/* Adds four inputs, given as bytes, times `rows` (4 or 1) weight rows of `row` bytes. */
ISOBIT_KERNEL void linear_s8_dual_dsp_step(const int8_t *w, int32_t row, int32_t rows,
                                           int32_t bytes, int32_t offset, int32_t sums[4]) {
    const int32_t x02 = isobit_sxtab16(offset, bytes);
    const int32_t x13 = isobit_sxtab16_ror8(offset, bytes);
    sums[0] = linear_s8_dual_dsp_dot(w, x02, x13, sums[0]);
    if (rows == 4) {
        sums[1] = linear_s8_dual_dsp_dot(w + row, x02, x13, sums[1]);
        sums[2] = linear_s8_dual_dsp_dot(w + 2 * row, x02, x13, sums[2]);
        sums[3] = linear_s8_dual_dsp_dot(w + 3 * row, x02, x13, sums[3]);
    }
}

/* The sums of `rows` (4 or 1) outputs. */
ISOBIT_KERNEL void linear_s8_dual_dsp_sums(int32_t in, int32_t rows, const int8_t *x,
                                           const int8_t *w, int32_t offset, int32_t sums[4]) {
    const int32_t row = (in + 3) / 4 * 4;
    int32_t i = 0;
    for (; i + 8 <= in; i += 8, x += 8, w += 8) {
        linear_s8_dual_dsp_step(w, row, rows, isobit_load32(x), offset, sums);
        linear_s8_dual_dsp_step(w + 4, row, rows, isobit_load32(x + 4), offset, sums);
    }
    if (in % 8 >= 4) {
        linear_s8_dual_dsp_step(w, row, rows, isobit_load32(x), offset, sums);
        x += 4;
        w += 4;
    }
    if (in % 4 != 0) {
        uint32_t bytes = (uint8_t)x[0];
        bytes |= in % 4 > 1 ? (uint32_t)(uint8_t)x[1] << 8 : 0u;
        bytes |= in % 4 > 2 ? (uint32_t)(uint8_t)x[2] << 16 : 0u;
        linear_s8_dual_dsp_step(w, row, rows, (int32_t)bytes, offset, sums);
    }
}

ISOBIT_KERNEL void linear_s8_dual_dsp(linear_s8_dual_dsp_geometry g, const int8_t *x,
                                      const isobit_quant *quant, const int8_t *w, const int32_t *b,
                                      const int32_t *mult, const int8_t *shift, int8_t *y) {
    const isobit_quant q = *quant; /* a copy: for all the compiler knows, y points at the original */
    const int32_t zero = g.x_has_zero ? q.x_zero : 0;
    const int32_t offset = isobit_pkhbt(-zero, -zero);
    const int32_t row = (g.in + 3) / 4 * 4;
    int32_t o = 0;
    for (; o + 4 <= g.out; o += 4) {
        int32_t sums[4] = {0, 0, 0, 0};
        if (g.has_bias) {
            sums[0] = b[o], sums[1] = b[o + 1], sums[2] = b[o + 2], sums[3] = b[o + 3];
        }
        linear_s8_dual_dsp_sums(g.in, 4, x, w + o * row, offset, sums);
        for (int32_t r = 0; r < 4; r++) {
            y[o + r] = isobit_finish_s8(sums[r], g.rule, mult, shift, g.per_channel ? o + r : 0, &q);
        }
    }
    for (; o < g.out; o++) {
        int32_t sums[4] = {g.has_bias ? b[o] : 0, 0, 0, 0};
        linear_s8_dual_dsp_sums(g.in, 1, x, w + o * row, offset, sums);
        y[o] = isobit_finish_s8(sums[0], g.rule, mult, shift, g.per_channel ? o : 0, &q);
    }
}
