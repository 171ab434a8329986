# Start-up of emulated RV32 firmware. Reset must lie at the base of the flash: QEMU's `virt` jumps
# there. Registers: t0 source, t1 destination, t2 end, t3 value.
    .option arch, +zicsr
    .equ STACK_PAINT, 0xA5A5A5A5
    .equ FAULT_EXIT_CODE, 250           # also in run/qemu.py

    .section .vectors, "ax", @progbits
    .globl Reset
    .type Reset, @function
Reset:
    .option push
    .option norelax
    la      gp, __global_pointer$
    .option pop
    la      sp, __stack_top
    la      t0, fault
    csrw    mtvec, t0
    la      t0, __data_load
    la      t1, __data_start
    la      t2, __data_end
1:  bgeu    t1, t2, 2f
    lw      t3, 0(t0)
    sw      t3, 0(t1)
    addi    t0, t0, 4
    addi    t1, t1, 4
    j       1b
2:  la      t1, __bss_start
    la      t2, __bss_end
3:  bgeu    t1, t2, 4f
    sw      zero, 0(t1)
    addi    t1, t1, 4
    j       3b
4:  la      t1, __stack_limit
    li      t3, STACK_PAINT
5:  bgeu    t1, sp, 6f
    sw      t3, 0(t1)
    addi    t1, t1, 4
    j       5b
6:  call    main
    call    semihost_exit
    .size Reset, . - Reset

    .balign 4                            # mtvec ignores the low two bits
    .type fault, @function
fault:
    la      sp, __stack_top
    li      a0, FAULT_EXIT_CODE
    call    semihost_exit
    .size fault, . - fault
