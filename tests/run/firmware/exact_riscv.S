# isobit_exact_run(arena, in, out): hand-counted. Per byte: out = in + 2.
# Instructions: 4 + 10 * 7 + 1 + [leaf 2] + 4 = 81, compressed or not. Stack: 16.
    .text
    .globl isobit_exact_run
    .type isobit_exact_run, @function
isobit_exact_run:
    addi    sp, sp, -16
    sw      ra, 12(sp)
    sw      zero, 0(sp)
    li      a3, 10
1:  lbu     a4, 0(a1)
    addi    a4, a4, 2
    sb      a4, 0(a2)
    addi    a1, a1, 1
    addi    a2, a2, 1
    addi    a3, a3, -1
    bnez    a3, 1b
    jal     exact_leaf
    li      a0, 0
    lw      ra, 12(sp)
    addi    sp, sp, 16
    ret
    .size isobit_exact_run, . - isobit_exact_run

    .globl exact_leaf
    .type exact_leaf, @function
exact_leaf:
    nop
    ret
    .size exact_leaf, . - exact_leaf
