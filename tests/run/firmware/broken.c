/* What goes wrong is the one byte in "case.bin". */
#include "semihost.h"

int main(void);
int32_t broken_call(uint8_t which);
int32_t broken_recurse(int32_t depth);

static uint8_t odd[16] __attribute__((aligned(4)));

__attribute__((noinline)) int32_t broken_recurse(int32_t depth) {
    volatile int32_t big[256];
    big[depth & 255] = depth;
    return depth == 0 ? 0 : broken_recurse(depth - 1) + big[depth & 255];
}

__attribute__((noinline)) int32_t broken_call(uint8_t which) {
    volatile uint32_t *flash = (volatile uint32_t *)(uintptr_t)FLASH_BASE;
    volatile uint32_t *nothing = (volatile uint32_t *)0x70000000u;
    switch (which) {
    case 'f':
        flash[16] = 1;
        return 0;
    case 'r':
        return (int32_t)nothing[0];
    case 'w':
        nothing[1] = 1;
        return 0;
    case 'j':
        return ((int32_t (*)(void))(uintptr_t)0x70000001u)();
    case 'l':
        for (;;) {
            __asm__ volatile("");
        }
    case 'u':
        __asm__ volatile(UNDEFINED);
        return 0;
    case 's':
        return broken_recurse(1000);
    case 'a':
        return *(volatile int32_t *)(uintptr_t)(odd + 1);
    default:
        return which;
    }
}

int main(void) {
    uint8_t which = 0;
    const int32_t file = semihost_open("case.bin", SEMIHOST_READ_BINARY);
    if (file < 0 || semihost_read(file, &which, 1) != 1) {
        return 99;
    }
    return broken_call(which);
}
