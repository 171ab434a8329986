/* The same calls on a computer, over stdio: main.c runs unchanged on the host. */
#include "semihost.h"

#include <stdio.h>
#include <stdlib.h>

#define FILES 8

static FILE *files[FILES];

int32_t semihost_open(const char *name, uint32_t mode) {
    for (int32_t i = 0; i < FILES; i++) {
        if (files[i] == NULL) {
            files[i] = fopen(name, mode == SEMIHOST_READ_BINARY ? "rb" : "wb");
            return files[i] == NULL ? -1 : i;
        }
    }
    return -1;
}

uint32_t semihost_read(int32_t handle, void *data, uint32_t bytes) {
    return (uint32_t)fread(data, 1, bytes, files[handle]);
}

uint32_t semihost_write(int32_t handle, const void *data, uint32_t bytes) {
    return bytes - (uint32_t)fwrite(data, 1, bytes, files[handle]);
}

int32_t semihost_close(int32_t handle) {
    const int32_t status = fclose(files[handle]) == 0 ? 0 : -1;
    files[handle] = NULL;
    return status;
}

_Noreturn void semihost_exit(int32_t code) {
    exit(code);
}
