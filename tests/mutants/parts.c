/* Calls inner functions of kernels: int64 triples (function, a, b) of input.bin become int64
 * results in output.bin. */
#if defined(PARTS_SOFTMAX)
#include "softmax_reference.c"
#elif defined(PARTS_QUANTIZE)
#include "quantize_reference.c"
#elif defined(PARTS_LSTM)
#include "lstm_reference.c"
#elif defined(PARTS_PER_IMAGE_STANDARDIZE)
#include "per_image_standardize_reference.c"
#elif defined(PARTS_DSP)
#include "isobit_dsp.h"
#endif

#include <stdint.h>
#include <stdio.h>

#if defined(PARTS_PER_IMAGE_STANDARDIZE)
/* The code of the first pixel of an image of up to eight values, which are the bytes of `values`;
 * the bytes of `times` say how often each occurs. Five fractional bits. */
static int64_t first_code(uint64_t values, uint64_t times) {
    static uint8_t x[8 * 255];
    static int8_t y[sizeof x];
    static const per_image_standardize_s8_quant q = {5, 0, -128, 127};
    static const int64_t least = 1;
    per_image_standardize_s8_geometry g = {0, 0};
    for (; times != 0; values >>= 8, times >>= 8) {
        for (uint32_t i = 0; i < (times & 255u); i++) {
            x[g.size++] = (uint8_t)values;
        }
    }
    per_image_standardize_s8(g, x, &q, &least, y);
    return y[0];
}
#endif

static int64_t call(int64_t function, int64_t a, int64_t b) {
#if defined(PARTS_SOFTMAX)
    switch (function) {
    case 0:
        return softmax_s8_product((int32_t)a, (int32_t)b);
    case 1:
        return softmax_s8_exp((int32_t)a);
    default:
        return softmax_s8_reciprocal((uint32_t)a);
    }
#elif defined(PARTS_LSTM)
    static int16_t table[256];
    switch (function) {
    case 0: /* an entry of the table for the calls that follow */
        table[a] = (int16_t)b;
        return b;
    case 1:
        return lstm_s8_sigmoid((int32_t)a, table);
    default:
        return lstm_s8_tanh((int32_t)a, 3, (int32_t)b, table);
    }
#elif defined(PARTS_PER_IMAGE_STANDARDIZE)
    switch (function) {
    case 0:
        return per_image_standardize_s8_root((uint64_t)a);
    case 1:
        return per_image_standardize_s8_reciprocal((uint32_t)a);
    default:
        return first_code((uint64_t)a, (uint64_t)b);
    }
#elif defined(PARTS_DSP)
    const int32_t low = (int32_t)(uint32_t)a, high = (int32_t)(a >> 32), word = (int32_t)b;
    int32_t stored[3] = {-1, -1, -1};
    switch (function) {
    case 0: /* from an address that is no multiple of 4 */
        return isobit_load32((const int8_t *)&a + 1);
    case 1:
        return isobit_load32_aligned(&b);
    case 2:
        isobit_store32((int8_t *)stored + 3, word);
        return isobit_load32((const int8_t *)stored + 2) ^ stored[0] ^ stored[2];
    case 3:
        return isobit_pkhbt(low, high);
    case 4:
        return isobit_pkhtb(low, high);
    case 5:
        return isobit_sxtab16(low, high);
    case 6:
        return isobit_sxtab16_ror8(low, high);
    case 7:
        return isobit_sxtb16(low);
    case 8:
        return isobit_sxtb16_ror8(low);
    default:
        return isobit_smlad(low, high, word);
    }
#else
    (void)function;
    return quantize_f32_down((uint64_t)a, (uint32_t)b);
#endif
}

int main(void) {
    FILE *in = fopen("input.bin", "rb");
    FILE *out = fopen("output.bin", "wb");
    int64_t row[3];
    if (in == NULL || out == NULL) {
        return 1;
    }
    while (fread(row, sizeof row, 1, in) == 1) {
        const int64_t result = call(row[0], row[1], row[2]);
        if (fwrite(&result, sizeof result, 1, out) != 1) {
            return 1;
        }
    }
    return fclose(out) == 0 ? 0 : 1;
}
