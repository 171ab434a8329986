"""A chip that calls single functions: the program `runners.run_on_unicorn` starts.

It boots the firmware up to `main`, which switches on the FPU where there is one, and then calls
`contract_<n>` with pointers to regions that lie in pages of their own. Whatever reads or writes
outside of them, faults.
"""

from __future__ import annotations

import os
import struct
import sys
from typing import Any

from isobit.run import wire
from isobit.run.counting import count_riscv, count_thumb
from isobit.run.firmware import RunError
from isobit.run.semihosting import Disk
from isobit.run.unicorn_child import Machine, unicorn

PAGE = 4096
SLOTS, SLOT_SPACING = 0x60000000, 0x100000
STACK = 0x70000000
STACK_BYTES = 1024
"""What the linker script reserves at least; below it nothing is mapped."""
POINTERS = 0x70010000
PAINT = b"\xc7"
SLACK = b"\x5a"


class Caller(Machine):
    """A booted chip."""

    def __init__(self, request: dict[str, Any], elf: bytes) -> None:
        super().__init__(request, elf, Disk.of({}))
        self.home = self.firmware.address_of("main")
        self.mapped: dict[int, int] = {}
        self.blocks: dict[tuple[int, int], int] = {}
        self.sizes: dict[tuple[int, int], int] = {}
        self.uc.mem_map(STACK, PAGE)
        self.uc.mem_map(POINTERS, PAGE)
        self.uc.emu_start(self._reset() | self.core.thumb, self.home)
        if request["count"]:
            self.uc.hook_add(unicorn.UC_HOOK_BLOCK, self._on_block)

    def place(self, slot: int, size: int, alignment: int, at_end: bool) -> tuple[int, int, int]:
        """Map pages for a region; return its address, and where its pages start and end."""
        pages = max(1, -(-size // PAGE))
        base = SLOTS + slot * SLOT_SPACING
        if self.mapped.get(slot) != pages:
            if slot in self.mapped:
                self.uc.mem_unmap(base, self.mapped[slot] * PAGE)
            self.uc.mem_map(base, pages * PAGE)
            self.mapped[slot] = pages
        end = base + pages * PAGE
        # Rounding down leaves less than one alignment of slack behind the region; it is compared.
        return ((end - size) // alignment * alignment if at_end else base), base, end

    def call(
        self, entry: int, regions: list[Any], pointers: list[Any], blobs: list[bytes]
    ) -> tuple[list[bytes], str]:
        """Call one function; return every region's bytes afterwards and what went wrong."""
        for slot in range(len(regions), len(self.mapped)):  # left by a call with more regions
            self.uc.mem_unmap(SLOTS + slot * SLOT_SPACING, self.mapped.pop(slot) * PAGE)
        places = [self.place(i, *region) for i, region in enumerate(regions)]
        for (at, start, end), blob in zip(places, blobs, strict=True):
            self.uc.mem_write(start, SLACK * (at - start) + blob + SLACK * (end - at - len(blob)))
        words = [0 if r < 0 else places[r][0] + offset for r, offset in pointers]
        self.uc.mem_write(POINTERS, struct.pack(f"<{len(words)}I", *words))
        self.uc.mem_write(STACK, PAINT * STACK_BYTES)
        self.uc.reg_write(self.core.sp, STACK + STACK_BYTES)
        self.uc.reg_write(self.core.link, self.home | self.core.thumb)
        # The first argument has the register of a semihosting operation, r0 or a0.
        self.uc.reg_write(self.core.operation, POINTERS)
        self.blocks.clear()
        self.invalid = problem = ""
        try:
            self.uc.emu_start(entry | self.core.thumb, self.home)
        except unicorn.UcError as error:
            problem = self.invalid or str(error)
        except RunError as error:
            problem = str(error.fields["got"])
        if not problem and self.invalid:
            problem = self.invalid
        pc = self.uc.reg_read(self.core.pc)
        if problem or pc & ~1 != self.home:
            near = ", ".join(f"region {i} at {at:#x}" for i, (at, _, _) in enumerate(places))
            problem = f"{problem or 'stopped'}, pc {self.firmware.describe(pc)}; {near}"
        after = []
        for i, ((at, start, end), blob) in enumerate(zip(places, blobs, strict=True)):
            page = bytes(self.uc.mem_read(start, end - start))
            after.append(page[at - start : at - start + len(blob)])
            slack = page[: at - start] + page[at - start + len(blob) :]
            if slack.strip(SLACK):
                problem += f" bytes beside region {i} were written"
        return after, problem.strip()

    def instructions(self) -> int:
        """Instructions of the last call, from the blocks it entered."""
        total = 0
        for block, times in self.blocks.items():
            if block not in self.sizes:
                code = bytes(self.uc.mem_read(*block))
                self.sizes[block] = count_thumb(code) if self.core.thumb else count_riscv(code)
            total += times * self.sizes[block]
        return total

    def stack_bytes(self) -> int:
        """The deepest byte of the stack that the last call wrote."""
        return len(bytes(self.uc.mem_read(STACK, STACK_BYTES)).lstrip(PAINT))

    def _on_block(self, _uc: object, address: int, size: int, _data: object) -> None:
        self.blocks[address, size] = self.blocks.get((address, size), 0) + 1


def answer(message: bytes) -> bytes:
    """Make all calls of a request."""
    request, blobs = wire.unpack(message)
    try:
        caller = Caller(request, blobs["elf"])
    except RunError as error:
        return wire.pack({"error": error.fields}, {})
    faults: list[wire.Json] = []
    counts: list[wire.Json] = []
    stacks: list[wire.Json] = []
    before, at, after = blobs["before"], 0, bytearray()
    calls: Any = request["calls"]
    table: dict[int, int] = {}
    for number, (entry, regions, pointers) in enumerate(calls):
        pieces = []
        for size, _, _ in regions:
            pieces.append(before[at : at + size])
            at += size
        if entry not in table:
            table[entry] = caller.firmware.address_of(f"contract_{entry}")
        results, problem = caller.call(table[entry], regions, pointers, pieces)
        if problem:
            faults.append([number, problem])
        for result in results:
            after += result
        counts.append(caller.instructions())
        stacks.append(caller.stack_bytes())
    header: dict[str, wire.Json] = {"faults": faults, "instructions": counts, "stack_bytes": stacks}
    return wire.pack(header, {"after": bytes(after)})


def main() -> None:
    """Answer one request."""
    pipe = os.fdopen(os.dup(1), "wb")  # the pipe is ours alone: what libraries print goes to stderr
    os.dup2(2, 1)
    pipe.write(answer(sys.stdin.buffer.read()))
    pipe.close()


if __name__ == "__main__":
    main()
