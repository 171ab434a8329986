"""The counter alone, on block sequences written by hand: calls, tail calls, loops, recursion."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from isobit.run.counting import Chip, Counter, count_riscv, count_thumb
from isobit.run.firmware import RunError

ENTRY, NODE_A, NODE_B, MAIN = 0x100, 0x200, 0x300, 0x10
LIMIT, TOP = 0x1000, 0x1040


@dataclass
class Trace:
    """A pretended chip: each block is one instruction of 4 bytes per 4 bytes of size."""

    sp: int = TOP
    link: int = 0
    memory: bytearray = field(default_factory=lambda: bytearray(0x2000))

    def counter(self) -> Counter:
        def write(address: int, data: bytes) -> None:
            self.memory[address : address + len(data)] = data

        return Counter(
            entry=ENTRY,
            names={ENTRY: "run", NODE_A: "a", NODE_B: "b"},
            chip=Chip(
                stack_pointer=lambda: self.sp,
                return_address=lambda: self.link,
                read=lambda address, size: bytes(self.memory[address : address + size]),
                write=write,
            ),
            cost=lambda _address, size: (size // 4, 10 * size // 4),
            taken_cycles=1,
            stack_limit=LIMIT,
        )


def play(steps: list[tuple[int, int, int, int]], trace: Trace | None = None) -> Counter:
    """Enter the blocks (address, size, sp, link) and return the counter."""
    trace = trace or Trace()
    counter = trace.counter()
    hook = counter.hook()
    for address, size, sp, link in steps:
        trace.sp, trace.link = sp, link
        hook(None, address, size, None)
    return counter


def instructions(counter: Counter) -> list[list[tuple[str, int]]]:
    return [[(name, count) for name, count, _ in call] for call in counter.calls]


def test_counting_books_calls_on_their_marks() -> None:
    counter = play(
        [
            (MAIN, 40, TOP, 0),
            (ENTRY, 8, TOP, MAIN + 40),
            (NODE_A, 4, TOP - 8, ENTRY + 8),
            (NODE_A + 4, 12, TOP - 8, 0),
            (ENTRY + 8, 4, TOP - 8, 0),
            (NODE_A, 20, TOP - 8, ENTRY + 12),
            (ENTRY + 12, 4, TOP - 8, 0),
            (MAIN + 40, 4, TOP, 0),
        ]
    )
    assert instructions(counter) == [[("run", 4), ("a", 4), ("a", 5)]]
    # Taken branches: two calls and the return, on whom they leave; two returns of `a`.
    assert [cycles for _, _, cycles in counter.calls[0]] == [40 + 3, 40 + 1, 50 + 1]


def test_counting_follows_tail_calls_and_nested_marks() -> None:
    counter = play(
        [
            (ENTRY, 8, TOP, MAIN),
            (NODE_A, 8, TOP - 8, ENTRY + 8),
            (NODE_B, 4, TOP - 8, ENTRY + 8),  # a jumps into b, which returns for both
            (ENTRY + 8, 4, TOP - 8, 0),
            (NODE_A, 4, TOP - 8, ENTRY + 12),
            (NODE_B, 16, TOP - 16, NODE_A + 4),  # a calls b
            (NODE_A + 4, 4, TOP - 16, 0),
            (ENTRY + 12, 4, TOP - 8, 0),
            (MAIN, 4, TOP, 0),
        ]
    )
    assert instructions(counter) == [[("run", 4), ("a", 2), ("b", 1), ("a", 2), ("b", 4)]]


def test_counting_takes_a_loop_to_the_first_instruction_for_no_call() -> None:
    counter = play(
        [
            (ENTRY, 8, TOP, MAIN),
            (NODE_A, 4, TOP - 8, ENTRY + 8),
            (NODE_A, 4, TOP - 8, ENTRY + 8),
            (NODE_A, 4, TOP - 8, ENTRY + 8),
            (ENTRY + 8, 4, TOP - 8, 0),
            (MAIN, 4, TOP, 0),
            (NODE_A, 400, TOP, 0),  # outside of the entry: nobody's
            (ENTRY, 4, TOP, MAIN),
            (MAIN, 4, TOP, 0),
        ]
    )
    assert instructions(counter) == [[("run", 3), ("a", 3)], [("run", 1)]]


def test_counting_measures_the_touched_stack_and_its_overflow() -> None:
    for touched, depth in ((TOP - 1, 1), (LIMIT + 1, TOP - LIMIT - 1)):
        trace = Trace()
        counter = trace.counter()
        hook = counter.hook()
        trace.link = MAIN
        hook(None, ENTRY, 4, None)
        trace.memory[touched] = 0
        hook(None, MAIN, 4, None)
        assert counter.stack_bytes == depth
    trace = Trace()
    hook = trace.counter().hook()
    trace.link = MAIN
    hook(None, ENTRY, 4, None)
    trace.memory[LIMIT] = 0
    with pytest.raises(RunError, match="stack overflow"):
        hook(None, MAIN, 4, None)


def test_counting_reads_instruction_lengths() -> None:
    # movs r0, #0; bl .; ldr.w r0, [r1]; nop; b.n: lengths 2, 4, 4, 2, 2
    thumb = bytes.fromhex("0020 fff7fefe d1f80000 00bf fee7")
    assert count_thumb(thumb) == 5
    # li a0, 0 (c); addi a0, a0, 1 (32 bit); ret (c)
    assert count_riscv(bytes.fromhex("0145 13051500 8280")) == 3
