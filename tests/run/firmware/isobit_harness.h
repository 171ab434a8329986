#include <stdint.h>

int32_t isobit_toy_run(void *arena, const void *in, void *out);

#define ISOBIT_HARNESS_RUN(arena, in, out) isobit_toy_run(arena, in, out)
#define ISOBIT_HARNESS_ARENA_BYTES 64
#define ISOBIT_HARNESS_IN_BYTES 64
#define ISOBIT_HARNESS_OUT_BYTES 64
