/* Main program of emulated runs: one inference per input in "input.bin", outputs to "output.bin".
 * The generated header says what to call and how large everything is. A network with states is
 * reset once: the inputs are consecutive runs. */
#include "semihost.h"

#include "isobit_harness.h"

#include <stdint.h>

#define EXIT_NO_INPUT 240
#define EXIT_NO_OUTPUT 241
#define EXIT_PARTIAL_INPUT 242
#define EXIT_DISK 243
#define EXIT_RUN_FAILED 244 /* the network's own status where it is not 1..239 */

int main(void);

static uint8_t arena[ISOBIT_HARNESS_ARENA_BYTES > 0 ? ISOBIT_HARNESS_ARENA_BYTES : 1]
    __attribute__((aligned(16)));
static uint8_t input[ISOBIT_HARNESS_IN_BYTES] __attribute__((aligned(16)));
static uint8_t output[ISOBIT_HARNESS_OUT_BYTES] __attribute__((aligned(16)));

#ifdef ISOBIT_TRACE
static int32_t trace_file = -1;

void isobit_trace(int32_t node, const void *data, uint32_t bytes);

/* Appends one record: node, size, payload. */
void isobit_trace(int32_t node, const void *data, uint32_t bytes) {
    const uint32_t head[2] = {(uint32_t)node, bytes};
    if (semihost_write(trace_file, head, sizeof head) != 0 ||
        semihost_write(trace_file, data, bytes) != 0) {
        semihost_exit(EXIT_DISK);
    }
}
#endif

int main(void) {
    const int32_t in = semihost_open("input.bin", SEMIHOST_READ_BINARY);
    if (in < 0) {
        return EXIT_NO_INPUT;
    }
    const int32_t out = semihost_open("output.bin", SEMIHOST_WRITE_BINARY);
    if (out < 0) {
        return EXIT_NO_OUTPUT;
    }
#ifdef ISOBIT_TRACE
    trace_file = semihost_open("trace.bin", SEMIHOST_WRITE_BINARY);
    if (trace_file < 0) {
        return EXIT_NO_OUTPUT;
    }
#endif
#ifdef ISOBIT_HARNESS_RESET
    if (ISOBIT_HARNESS_RESET(arena) != 0) {
        return EXIT_RUN_FAILED;
    }
#endif
    for (;;) {
        const uint32_t got = semihost_read(in, input, sizeof input);
        if (got == 0) {
            break;
        }
        if (got != sizeof input) {
            return EXIT_PARTIAL_INPUT;
        }
        const int32_t status = (int32_t)ISOBIT_HARNESS_RUN(arena, input, output);
        if (status != 0) {
            return status > 0 && status < EXIT_NO_INPUT ? (int)status : EXIT_RUN_FAILED;
        }
        if (semihost_write(out, output, sizeof output) != 0) {
            return EXIT_DISK;
        }
    }
#ifdef ISOBIT_TRACE
    (void)semihost_close(trace_file);
#endif
    (void)semihost_close(in);
    return semihost_close(out) == 0 ? 0 : EXIT_DISK;
}
