/* resize_nearest, int16, NHWC: the definition. rows and cols say where each output pixel is from.
 */
#include "isobit_rt.h"

typedef struct {
    int32_t in_w, out_h, out_w, channels;
} resize_nearest_s16_geometry;

ISOBIT_KERNEL void resize_nearest_s16(resize_nearest_s16_geometry g, const int16_t *x,
                                      const int16_t *rows, const int16_t *cols, int16_t *y) {
    for (int32_t oy = 0; oy < g.out_h; oy++) {
        const int16_t *row = x + rows[oy] * g.in_w * g.channels;
        for (int32_t ox = 0; ox < g.out_w; ox++) {
            const int16_t *pixel = row + cols[ox] * g.channels;
            for (int32_t c = 0; c < g.channels; c++) {
                *y++ = pixel[c];
            }
        }
    }
}
