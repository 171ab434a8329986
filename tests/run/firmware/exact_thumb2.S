@ isobit_exact_run(arena, in, out): hand-counted. Per byte x: out = x >= 128 ? x + 1 : x + 2.
@ Instructions: 2 + 10 * 8 + 1 + [leaf 2] + 2 = 87, whatever the IT block predicates off.
@ Cycles, M4: 3 + 1, 10 * 9 + 9 taken * 2, bl 1 + 2, leaf 1 + 1 + 2, 1, pop 3 + 2 = 125. Stack: 8.
    .syntax unified
    .thumb
    .text
    .globl isobit_exact_run
    .type isobit_exact_run, %function
isobit_exact_run:
    push    {r4, lr}
    movs    r3, #10
1:  ldrb    r0, [r1], #1
    cmp     r0, #128
    ite     hs
    addhs   r0, r0, #1
    addlo   r0, r0, #2
    strb    r0, [r2], #1
    subs    r3, r3, #1
    bne     1b
    bl      exact_leaf
    movs    r0, #0
    pop     {r4, pc}
    .size isobit_exact_run, . - isobit_exact_run

    .globl exact_leaf
    .type exact_leaf, %function
exact_leaf:
    nop
    bx      lr
    .size exact_leaf, . - exact_leaf
