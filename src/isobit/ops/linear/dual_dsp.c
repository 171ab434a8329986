/* linear, int8: two products per SMLAD, four outputs per pass over the input.
 *
 * Input and weights are int8 in memory; SXTB16 and SXTB16 with ROR 8 widen bytes 0, 2 and 1, 3 of a
 * word, in the same order on both sides. Four inputs x four outputs are 16 multiply-accumulates in
 * 23 instructions: 5 loads, 10 SXTB16, 8 SMLAD. In flash the words of four rows alternate, so that
 * one pointer walks them. In registers: 4 sums, 2 pointers, 2 input words, up to 4 weight words.
 *
 * The input's zero point is in the bias, b[o] - zero * sum(w[o]). Sums wrap modulo 2^32; their end
 * values fit. Rows are padded with zeros to whole words, so what is put beside the last inputs
 * counts nothing. Outputs behind the last four are computed one by one. Not optimal: every weight
 * is widened for one use, and clang keeps one or two sums on the stack. */
#include "isobit_dsp.h"

typedef struct {
    int32_t in, out;
    int32_t rule, per_channel, has_bias;
} linear_s8_dual_dsp_geometry;

/* Adds four products; x02 and x13 hold the inputs 0, 2 and 1, 3 as int16. */
ISOBIT_KERNEL int32_t linear_s8_dual_dsp_dot(const int8_t *w, int32_t x02, int32_t x13,
                                             int32_t sum) {
    const int32_t weights = isobit_load32_aligned(w);
    sum = isobit_smlad(isobit_sxtb16(weights), x02, sum);
    return isobit_smlad(isobit_sxtb16_ror8(weights), x13, sum);
}

/* Adds four inputs, given as bytes, times the words of `rows` (4 or 1) weight rows. */
ISOBIT_KERNEL void linear_s8_dual_dsp_step(const int8_t *w, int32_t rows, int32_t bytes,
                                           int32_t sums[4]) {
    const int32_t x02 = isobit_sxtb16(bytes), x13 = isobit_sxtb16_ror8(bytes);
    sums[0] = linear_s8_dual_dsp_dot(w, x02, x13, sums[0]);
    if (rows == 4) {
        sums[1] = linear_s8_dual_dsp_dot(w + 4, x02, x13, sums[1]);
        sums[2] = linear_s8_dual_dsp_dot(w + 8, x02, x13, sums[2]);
        sums[3] = linear_s8_dual_dsp_dot(w + 12, x02, x13, sums[3]);
    }
}

/* The sums of `rows` (4 or 1) outputs. */
ISOBIT_KERNEL void linear_s8_dual_dsp_sums(int32_t in, int32_t rows, const int8_t *x,
                                           const int8_t *w, int32_t sums[4]) {
    for (const int8_t *const end = x + in / 4 * 4; x != end; x += 4, w += 4 * rows) {
        linear_s8_dual_dsp_step(w, rows, isobit_load32(x), sums);
    }
    if (in % 4 != 0) {
        uint32_t bytes = (uint8_t)x[0];
        bytes |= in % 4 > 1 ? (uint32_t)(uint8_t)x[1] << 8 : 0u;
        bytes |= in % 4 > 2 ? (uint32_t)(uint8_t)x[2] << 16 : 0u;
        linear_s8_dual_dsp_step(w, rows, (int32_t)bytes, sums);
    }
}

ISOBIT_KERNEL void linear_s8_dual_dsp(linear_s8_dual_dsp_geometry g, const int8_t *x,
                                      const isobit_quant *quant, const int8_t *w, const int32_t *b,
                                      const int32_t *mult, const int8_t *shift, int8_t *y) {
    const isobit_quant q =
        *quant; /* a copy: for all the compiler knows, y points at the original */
    const int32_t row = (g.in + 3) / 4 * 4;
    const int32_t fours = g.out / 4 * 4;
    for (int32_t o = 0; o < fours; o += 4) {
        int32_t sums[4] = {0, 0, 0, 0};
        if (g.has_bias) {
            sums[0] = b[o], sums[1] = b[o + 1], sums[2] = b[o + 2], sums[3] = b[o + 3];
        }
        linear_s8_dual_dsp_sums(g.in, 4, x, w + o * row, sums);
        const int32_t i = g.per_channel ? o : 0, step = g.per_channel ? 1 : 0;
        y[o] = isobit_finish_s8(sums[0], g.rule, mult, shift, i, &q);
        y[o + 1] = isobit_finish_s8(sums[1], g.rule, mult, shift, i + step, &q);
        y[o + 2] = isobit_finish_s8(sums[2], g.rule, mult, shift, i + 2 * step, &q);
        y[o + 3] = isobit_finish_s8(sums[3], g.rule, mult, shift, i + 3 * step, &q);
    }
    for (int32_t o = fours; o < g.out; o++) {
        int32_t sums[4] = {g.has_bias ? b[o] : 0, 0, 0, 0};
        linear_s8_dual_dsp_sums(g.in, 1, x, w + o * row, sums);
        y[o] = isobit_finish_s8(sums[0], g.rule, mult, shift, g.per_channel ? o : 0, &q);
    }
}
