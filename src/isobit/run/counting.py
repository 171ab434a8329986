"""Exact instruction counts from the blocks that an emulator enters, split over functions.

An emulator that tells the address and size of every block it starts tells everything: a block runs
from its first to its last instruction, and how many those are is read off its bytes, once. That
costs one dictionary entry per distinct block and one increment per block executed. (A hook per
instruction would be slower and wrong: predicated instructions that do not execute get no call.)
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from isobit.run.firmware import RunError

Count: TypeAlias = "tuple[int, int]"  # instructions, cycles
BlockCost: TypeAlias = "Callable[[int, int], Count]"

# Not the start-up code's own paint: that may lie in a register that a counted function saves.
PAINT = b"\xc7"


@dataclass(frozen=True, slots=True, kw_only=True)
class Chip:
    """What the counter asks the emulator."""

    stack_pointer: Callable[[], int]
    return_address: Callable[[], int]
    read: Callable[[int, int], bytes]
    write: Callable[[int, bytes], None]


@dataclass(slots=True)
class _Frame:
    """A counted function that has not returned yet: the entry, or a mark below it."""

    symbol: str
    address: int
    return_address: int
    stack_pointer: int
    instructions: int = 0
    cycles: int = 0


@dataclass(slots=True)
class _Call:
    frames: list[_Frame]
    spans: list[_Frame]


@dataclass(slots=True, kw_only=True)
class Counter:
    """Listens to blocks (`on_block`); afterwards `calls` and `stack_bytes` say what happened."""

    entry: int
    names: dict[int, str]
    chip: Chip
    cost: BlockCost
    taken_cycles: int
    stack_limit: int
    calls: list[Sequence[tuple[str, int, int]]] = field(default_factory=list)
    stack_bytes: int = 0
    _call: _Call | None = None
    _costs: dict[int, Count] = field(default_factory=dict)

    def hook(self) -> Callable[[object, int, int, object], None]:
        """Return the function to call at the start of every block. It is the hot loop: closures."""
        blocks: defaultdict[int, int] = defaultdict(int)
        watched = {self.entry, *self.names}
        expected = 0
        taken = 0

        def on_block(_emulator: object, address: int, size: int, _data: object) -> None:
            nonlocal expected, taken
            if address != expected:
                taken += 1
            expected = address + size
            if address in watched:
                self._flush(blocks, taken)
                blocks.clear()
                taken = 0
                watched.add(self._switch(address))
            blocks[address << 16 | size] += 1

        return on_block

    def _flush(self, blocks: dict[int, int], taken: int) -> None:
        """Book what ran since the last switch on the function that ran."""
        if self._call is None:
            return
        frame = self._call.frames[-1]
        for block, times in blocks.items():
            if block not in self._costs:
                self._costs[block] = self.cost(block >> 16, block & 0xFFFF)
            instructions, cycles = self._costs[block]
            frame.instructions += times * instructions
            frame.cycles += times * cycles
        frame.cycles += taken * self.taken_cycles

    def _switch(self, address: int) -> int:
        """Leave functions that returned here, enter one that starts here; return what to watch."""
        sp = self.chip.stack_pointer()
        frames = self._call.frames if self._call else []
        # Several at once: a mark whose last act was a jump into another one.
        while frames and (frames[-1].return_address, frames[-1].stack_pointer) == (address, sp):
            done = frames.pop()
            if not frames:
                self._finish(done)
        if address not in self.names or (self._call is None and address != self.entry):
            return address
        # A loop back to the first instruction of a function is no new call of it.
        if frames and (frames[-1].address, frames[-1].stack_pointer) == (address, sp):
            return address
        frame = _Frame(self.names[address], address, self.chip.return_address(), sp)
        if self._call is None:
            self._call = _Call([frame], [frame])
            self.chip.write(self.stack_limit, PAINT * (sp - self.stack_limit))
        else:
            self._call.frames.append(frame)
            self._call.spans.append(frame)
        return frame.return_address

    def _finish(self, entry: _Frame) -> None:
        if self._call is None:
            return
        self.calls.append([(f.symbol, f.instructions, f.cycles) for f in self._call.spans])
        self._call = None
        stack = self.chip.read(self.stack_limit, entry.stack_pointer - self.stack_limit)
        depth = len(stack.lstrip(PAINT))
        if stack and depth == len(stack):
            raise RunError(
                what="stack overflow",
                want=f"at most {len(stack)} bytes of stack in {entry.symbol}",
                got="all of it used",
                fix="The static data leaves too little RAM: take a smaller arena.",
            )
        self.stack_bytes = max(self.stack_bytes, depth)


def count_thumb(code: bytes) -> int:
    """Return the number of Thumb instructions: 0b11101, 0b11110 and 0b11111 start a 32-bit one."""
    at = number = 0
    while at < len(code):
        at += 4 if code[at + 1] >= 0xE8 else 2
        number += 1
    return number


def count_riscv(code: bytes) -> int:
    """Return the number of RISC-V instructions: low bits 11 mark a 32-bit one."""
    at = number = 0
    while at < len(code):
        at += 4 if code[at] & 3 == 3 else 2
        number += 1
    return number
