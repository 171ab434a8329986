/* A network of two nodes: .data, .bss, float arithmetic (FPU enabled?), state between calls. */
#include <stdint.h>

#define BYTES 64

int32_t isobit_toy_run(void *arena, const void *in, void *out);
void isobit_trace(int32_t node, const void *data, uint32_t bytes);
void toy_add(const uint8_t *in, uint8_t *out);
void toy_scale(const uint8_t *in, uint8_t *out);

static volatile int32_t table[4] = {1, 2, 3, 4};
static uint8_t calls;

__attribute__((noinline)) void toy_add(const uint8_t *in, uint8_t *out) {
    for (int32_t i = 0; i < BYTES; i++) {
        out[i] = (uint8_t)(in[i] + table[i & 3] + calls);
    }
    calls++;
}

__attribute__((noinline)) void toy_scale(const uint8_t *in, uint8_t *out) {
    volatile uint8_t copy[BYTES];
    for (int32_t i = 0; i < BYTES; i++) {
        copy[i] = in[i];
    }
    for (int32_t i = 0; i < BYTES; i++) {
        out[i] = (uint8_t)((float)copy[i] * 0.5f);
    }
}

int32_t isobit_toy_run(void *arena, const void *in, void *out) {
    if (*(const uint8_t *)in == 255) {
        return 9;
    }
    toy_add(in, arena);
#ifdef ISOBIT_TRACE
    isobit_trace(1, arena, BYTES);
#endif
    toy_scale(arena, out);
    return 0;
}
