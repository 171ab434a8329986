/* Runs the kernel calls that input.bin lists and writes the memory after each to output.bin.
 *
 * A call: int32 entry, number of regions, number of pointers, bytes of the image; per region its
 * offset and size in the image; per pointer its region (-1: null) and offset; the image. Everything
 * in the image that is no region is guard bytes, which the test compares too. */
#include "runner.h"
#include "semihost.h"

#include <stddef.h>
#include <stdint.h>
#ifdef RUNNER_APART
#include <stdlib.h>
#include <string.h>
#endif

#define MOST 64
#define EXIT_INPUT 240
#define EXIT_OUTPUT 241

int main(void);

static uint8_t image[RUNNER_IMAGE_BYTES] __attribute__((aligned(64)));

static void get(int32_t file, void *data, uint32_t bytes) {
    if (semihost_read(file, data, bytes) != bytes) {
        semihost_exit(EXIT_INPUT);
    }
}

int main(void) {
    const int32_t in = semihost_open("input.bin", SEMIHOST_READ_BINARY);
    const int32_t out = semihost_open("output.bin", SEMIHOST_WRITE_BINARY);
    if (in < 0 || out < 0) {
        return EXIT_INPUT;
    }
    for (;;) {
        int32_t head[4], regions[MOST][2], pointers[MOST][2];
        const uint32_t got = semihost_read(in, head, sizeof head);
        if (got == 0) {
            break;
        }
        if (got != sizeof head || head[1] > MOST || head[2] > MOST ||
            head[3] > (int32_t)sizeof image) {
            return EXIT_INPUT;
        }
        get(in, regions, (uint32_t)head[1] * 8u);
        get(in, pointers, (uint32_t)head[2] * 8u);
        get(in, image, (uint32_t)head[3]);
        uint8_t *base[MOST] = {NULL};
        for (int32_t i = 0; i < head[1]; i++) {
#ifdef RUNNER_APART
            base[i] = malloc((size_t)regions[i][1]);
            memcpy(base[i], image + regions[i][0], (size_t)regions[i][1]);
#else
            base[i] = image + regions[i][0];
#endif
        }
        void *p[MOST] = {NULL};
        for (int32_t i = 0; i < head[2]; i++) {
            p[i] = pointers[i][0] < 0 ? NULL : base[pointers[i][0]] + pointers[i][1];
        }
        contract_table[head[0]](p);
#ifdef RUNNER_APART
        for (int32_t i = 0; i < head[1]; i++) {
            memcpy(image + regions[i][0], base[i], (size_t)regions[i][1]);
            free(base[i]);
        }
#endif
        if (semihost_write(out, image, (uint32_t)head[3]) != 0) {
            return EXIT_OUTPUT;
        }
    }
    return semihost_close(out) == 0 ? 0 : EXIT_OUTPUT;
}
