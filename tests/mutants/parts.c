/* Calls inner functions of kernels: int64 triples (function, a, b) of input.bin become int64
 * results in output.bin. */
#if defined(PARTS_SOFTMAX)
#include "softmax_reference.c"
#elif defined(PARTS_QUANTIZE)
#include "quantize_reference.c"
#endif

#include <stdint.h>
#include <stdio.h>

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
