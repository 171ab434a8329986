/* Several networks in one program: what `many.c` runs. */
#ifndef MANY_H
#define MANY_H

#include <stdint.h>

typedef struct {
    int (*run)(void *arena, const void *in, void *out);
    void *(*input)(void *arena);
    uint32_t arena_bytes, in_bytes, out_bytes, samples;
} network;

extern const network many_networks[];
extern const uint32_t many_count;

#endif
