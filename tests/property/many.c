/* Runs every network on its samples of input.bin; the trace and the outputs go to output.bin.
 *
 * The arena ends at guard bytes, its content before a run is another one each time, and every
 * second run finds its input in the arena already: what a network leaves behind, reads
 * uninitialised or writes outside shows. */
#include "many.h"

#include "semihost.h"

#include <stddef.h>
#include <stdint.h>

#define EXIT_INPUT 240
#define EXIT_OUTPUT 241
#define EXIT_GUARD 245
#define EXIT_RUN 246
#define GUARD_BYTES 64u

int main(void);
void isobit_trace(int32_t node, const void *data, uint32_t bytes);

static uint8_t memory[GUARD_BYTES + MANY_ARENA_BYTES + GUARD_BYTES] __attribute__((aligned(64)));
static uint8_t input[MANY_IN_BYTES] __attribute__((aligned(16)));
static uint8_t output[MANY_OUT_BYTES] __attribute__((aligned(16)));
static int32_t out = -1;

void isobit_trace(int32_t node, const void *data, uint32_t bytes) {
    (void)node;
    if (semihost_write(out, data, bytes) != 0) {
        semihost_exit(EXIT_OUTPUT);
    }
}

static void run(const network *n, uint32_t sample) {
    uint8_t *const arena = memory + GUARD_BYTES;
    const uint8_t paint = (uint8_t)(sample * 37u + 129u);
    for (uint32_t i = 0; i < n->arena_bytes + 2u * GUARD_BYTES; i++) {
        memory[i] = paint;
    }
    const uint8_t *given = input;
    if (sample % 2u == 1u) {
        uint8_t *place = n->input(arena);
        for (uint32_t i = 0; i < n->in_bytes; i++) {
            place[i] = input[i];
        }
        given = NULL;
    }
    if (n->run(arena, given, output) != 0) {
        semihost_exit(EXIT_RUN);
    }
    for (uint32_t i = 0; i < GUARD_BYTES; i++) {
        if (memory[i] != paint || arena[n->arena_bytes + i] != paint) {
            semihost_exit(EXIT_GUARD);
        }
    }
    isobit_trace(-1, output, n->out_bytes);
}

int main(void) {
    const int32_t in = semihost_open("input.bin", SEMIHOST_READ_BINARY);
    out = semihost_open("output.bin", SEMIHOST_WRITE_BINARY);
    if (in < 0 || out < 0) {
        return EXIT_INPUT;
    }
    for (uint32_t i = 0; i < many_count; i++) {
        for (uint32_t sample = 0; sample < many_networks[i].samples; sample++) {
            if (semihost_read(in, input, many_networks[i].in_bytes) != many_networks[i].in_bytes) {
                return EXIT_INPUT;
            }
            run(&many_networks[i], sample);
        }
    }
    return semihost_close(out) == 0 ? 0 : EXIT_OUTPUT;
}
