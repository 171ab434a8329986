#include <stdint.h>

int32_t isobit_exact_run(void *arena, const void *in, void *out);

#define ISOBIT_HARNESS_RUN(arena, in, out) isobit_exact_run(arena, in, out)
#define ISOBIT_HARNESS_ARENA_BYTES 0
#define ISOBIT_HARNESS_IN_BYTES 10
#define ISOBIT_HARNESS_OUT_BYTES 10
