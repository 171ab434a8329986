/* Start-up of emulated Cortex-M firmware: vector table, memories, coprocessors, painted stack. */
#include "semihost.h"

#include <stdint.h>

#define STACK_PAINT 0xA5A5A5A5u
#define FAULT_EXIT_CODE 250 /* also in run/qemu.py */

extern uint32_t __data_load[], __data_start[], __data_end[], __bss_start[], __bss_end[];
extern uint32_t __stack_limit[], __stack_top[];

int main(void);
_Noreturn void Reset(void);
_Noreturn void isobit_start(void);
_Noreturn void isobit_fault(void);

_Noreturn void isobit_fault(void) {
    semihost_exit(FAULT_EXIT_CODE);
}

/* Its own function: compiled for an FPU or MVE, it may use their registers from its first
 * instruction on, so it must not be merged into Reset, which switches them on. Volatile accesses
 * keep the loops from becoming calls of memset, whose frame the paint would overwrite. */
__attribute__((noinline)) _Noreturn void isobit_start(void) {
    const volatile uint32_t *from = __data_load;
    for (volatile uint32_t *to = __data_start; to < __data_end; to++) {
        *to = *from++;
    }
    for (volatile uint32_t *to = __bss_start; to < __bss_end; to++) {
        *to = 0;
    }
    uint32_t sp;
    __asm__ volatile("mov %0, sp" : "=r"(sp));
    for (volatile uint32_t *to = __stack_limit; (uintptr_t)to + 4u <= sp; to++) {
        *to = STACK_PAINT;
    }
    semihost_exit(main());
}

_Noreturn void Reset(void) {
#if defined(__ARM_FP) || defined(__ARM_FEATURE_MVE)
    /* CPACR: full access to coprocessors 10 and 11, which are the FPU and MVE. */
    *(volatile uint32_t *)0xE000ED88u |= 0xFu << 20;
    __asm__ volatile("dsb\n\tisb" ::: "memory");
#endif
    isobit_start();
}

typedef void (*vector)(void);

__attribute__((section(".vectors"), used)) static const struct {
    uint32_t *stack_top;
    vector handlers[15];
} vectors = {
    __stack_top,
    {Reset, isobit_fault, isobit_fault, isobit_fault, isobit_fault, isobit_fault, isobit_fault,
     isobit_fault, isobit_fault, isobit_fault, isobit_fault, isobit_fault, isobit_fault,
     isobit_fault, isobit_fault},
};
