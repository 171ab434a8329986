/* memcpy, memmove, memset, memcmp: the compilers may call them even where no C library is linked.
 * They are weak, so that a firmware's own library wins. Compiled with -fno-builtin: otherwise the
 * compiler would recognise the loops and call the very function that it is compiling. */
#include <stddef.h>
#include <stdint.h>

#define WEAK __attribute__((weak))

typedef uint32_t __attribute__((may_alias)) word;

static int both_aligned(const void *a, const void *b) {
    return (((uintptr_t)a | (uintptr_t)b) & 3u) == 0;
}

WEAK void *memcpy(void *restrict to, const void *restrict from, size_t bytes) {
    uint8_t *d = to;
    const uint8_t *s = from;
    if (both_aligned(d, s)) {
        for (; bytes >= 16; bytes -= 16, d += 16, s += 16) {
            word *dw = (word *)(void *)d;
            const word *sw = (const word *)(const void *)s;
            const word a = sw[0], b = sw[1], c = sw[2], e = sw[3];
            dw[0] = a;
            dw[1] = b;
            dw[2] = c;
            dw[3] = e;
        }
        for (; bytes >= 4; bytes -= 4, d += 4, s += 4) {
            *(word *)(void *)d = *(const word *)(const void *)s;
        }
    }
    for (; bytes > 0; bytes--) {
        *d++ = *s++;
    }
    return to;
}

WEAK void *memmove(void *to, const void *from, size_t bytes) {
    uint8_t *d = to;
    const uint8_t *s = from;
    if (d <= s || d >= s + bytes) {
        /* Every word is read before any later one is written: forward copying is safe. */
        if (both_aligned(d, s)) {
            for (; bytes >= 4; bytes -= 4, d += 4, s += 4) {
                *(word *)(void *)d = *(const word *)(const void *)s;
            }
        }
        for (; bytes > 0; bytes--) {
            *d++ = *s++;
        }
        return to;
    }
    d += bytes;
    s += bytes;
    for (; bytes > 0; bytes--) {
        *--d = *--s;
    }
    return to;
}

WEAK void *memset(void *to, int value, size_t bytes) {
    uint8_t *d = to;
    const uint8_t byte = (uint8_t)value;
    const word four = byte * 0x01010101u;
    for (; bytes > 0 && ((uintptr_t)d & 3u) != 0; bytes--) {
        *d++ = byte;
    }
    for (; bytes >= 16; bytes -= 16, d += 16) {
        word *dw = (word *)(void *)d;
        dw[0] = four;
        dw[1] = four;
        dw[2] = four;
        dw[3] = four;
    }
    for (; bytes > 0; bytes--) {
        *d++ = byte;
    }
    return to;
}

WEAK int memcmp(const void *left, const void *right, size_t bytes) {
    const uint8_t *a = left;
    const uint8_t *b = right;
    for (; bytes > 0; bytes--, a++, b++) {
        if (*a != *b) {
            return *a < *b ? -1 : 1;
        }
    }
    return 0;
}
