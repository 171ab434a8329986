#include "semihost.h"

#define SYS_OPEN 0x01u
#define SYS_CLOSE 0x02u
#define SYS_WRITE 0x05u
#define SYS_READ 0x06u
#define SYS_EXIT_EXTENDED 0x20u
#define STOPPED_APPLICATION_EXIT 0x20026u

static uint32_t call(uint32_t operation, const uint32_t *arguments) {
#if defined(__riscv)
    register uint32_t a0 __asm__("a0") = operation;
    register const uint32_t *a1 __asm__("a1") = arguments;
    /* The three uncompressed instructions are the signature, and must lie within one page. */
    __asm__ volatile(".option push\n"
                     ".option norvc\n"
                     ".balign 16\n"
                     "slli x0, x0, 0x1f\n"
                     "ebreak\n"
                     "srai x0, x0, 7\n"
                     ".option pop\n"
                     : "+r"(a0)
                     : "r"(a1)
                     : "memory");
    return a0;
#else
    register uint32_t r0 __asm__("r0") = operation;
    register const uint32_t *r1 __asm__("r1") = arguments;
    __asm__ volatile("bkpt 0xab" : "+r"(r0) : "r"(r1) : "memory");
    return r0;
#endif
}

static uint32_t address(const void *pointer) {
    return (uint32_t)(uintptr_t)pointer;
}

int32_t semihost_open(const char *name, uint32_t mode) {
    uint32_t length = 0;
    while (name[length] != '\0') {
        length++;
    }
    const uint32_t arguments[3] = {address(name), mode, length};
    return (int32_t)call(SYS_OPEN, arguments);
}

uint32_t semihost_read(int32_t handle, void *data, uint32_t bytes) {
    const uint32_t arguments[3] = {(uint32_t)handle, address(data), bytes};
    return bytes - call(SYS_READ, arguments);
}

uint32_t semihost_write(int32_t handle, const void *data, uint32_t bytes) {
    const uint32_t arguments[3] = {(uint32_t)handle, address(data), bytes};
    return call(SYS_WRITE, arguments);
}

int32_t semihost_close(int32_t handle) {
    const uint32_t arguments[1] = {(uint32_t)handle};
    return (int32_t)call(SYS_CLOSE, arguments);
}

_Noreturn void semihost_exit(int32_t code) {
    const uint32_t arguments[2] = {STOPPED_APPLICATION_EXIT, (uint32_t)code};
    for (;;) {
        (void)call(SYS_EXIT_EXTENDED, arguments);
    }
}
