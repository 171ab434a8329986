/* requantize between int8, uint8 and int16: y = clamp(Zy + R(x - Zx)); y may be x where its
 * elements are not larger. The carriers are literals, so that one load and one store remain. */
#include "isobit_rt.h"

typedef struct {
    int32_t size, rule, x_carrier, y_carrier;
} requantize_carriers_geometry;

enum { REQUANTIZE_S8 = 0, REQUANTIZE_U8 = 1, REQUANTIZE_S16 = 2 };

ISOBIT_KERNEL int32_t requantize_carriers_load(const void *x, int32_t carrier, int32_t i) {
    if (carrier == REQUANTIZE_S8) {
        return ((const int8_t *)x)[i];
    }
    if (carrier == REQUANTIZE_U8) {
        return ((const uint8_t *)x)[i];
    }
    return ((const int16_t *)x)[i];
}

ISOBIT_KERNEL void requantize_carriers_store(void *y, int32_t carrier, int32_t i, int32_t code) {
    if (carrier == REQUANTIZE_S8) {
        ((int8_t *)y)[i] = (int8_t)code;
    } else if (carrier == REQUANTIZE_U8) {
        ((uint8_t *)y)[i] = (uint8_t)code;
    } else {
        ((int16_t *)y)[i] = (int16_t)code;
    }
}

ISOBIT_KERNEL void requantize_carriers(requantize_carriers_geometry g, const void *x,
                                       const isobit_quant *q, const int32_t *mult,
                                       const int8_t *shift, void *y) {
    const isobit_quant k = *q;
    const int32_t factor = g.rule == ISOBIT_SHIFT ? 1 : mult[0];
    const int8_t right_shift = shift[0];
    for (int32_t i = 0; i < g.size; i++) {
        const int32_t centred = requantize_carriers_load(x, g.x_carrier, i) - k.x_zero;
        const int32_t scaled = isobit_requantize(centred, g.rule, &factor, &right_shift, 0);
        const int32_t code = isobit_clamp(scaled + k.y_zero, k.low, k.high);
        requantize_carriers_store(y, g.y_carrier, i, code);
    }
}
