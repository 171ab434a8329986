"""The emulated chip: a program of its own that reads one request on stdin and answers on stdout.

It is started by `emulate` and imports Unicorn, which is GPLv2; nothing else of isobit does.
"""

from __future__ import annotations

import importlib
import os
import struct
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, cast

from isobit.run import firmware, wire
from isobit.run.counting import Chip, Count, Counter, count_riscv, count_thumb
from isobit.run.firmware import Firmware, RunError
from isobit.run.semihosting import Disk, serve

# Imported by name: Unicorn's annotations are incomplete, and the types here must hold without it.
unicorn = importlib.import_module("unicorn")
arm_const = importlib.import_module("unicorn.arm_const")
riscv_const = importlib.import_module("unicorn.riscv_const")

ARM_SYSTEM_PAGE = (0xE000E000, 0x1000)  # CPACR and its neighbours: plain memory is enough
NEVER = 0xFFFFFFFE  # an address that is never executed

_ACCESSES = {
    unicorn.UC_MEM_READ_UNMAPPED: "a read outside the memories",
    unicorn.UC_MEM_WRITE_UNMAPPED: "a write outside the memories",
    unicorn.UC_MEM_FETCH_UNMAPPED: "a jump outside the memories",
    unicorn.UC_MEM_WRITE_PROT: "a write to flash",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Core:
    """What differs between the instruction sets."""

    pc: int
    sp: int
    link: int
    operation: int
    argument: int
    thumb: int
    trap: bytes
    """The instruction of a semihosting call, which the core stops at."""
    before: bytes
    """What must stand before it."""
    exceptions: Mapping[int, str]
    """The models' own exceptions; accesses outside the memories never become one."""


ARM = Core(
    pc=arm_const.UC_ARM_REG_PC,
    sp=arm_const.UC_ARM_REG_SP,
    link=arm_const.UC_ARM_REG_LR,
    operation=arm_const.UC_ARM_REG_R0,
    argument=arm_const.UC_ARM_REG_R1,
    thumb=1,
    trap=bytes.fromhex("abbe"),  # bkpt 0xab
    before=b"",
    exceptions={  # numbers of QEMU's target/arm/cpu.h
        1: "an instruction that this core does not have",
        4: "a misaligned access",
        17: "an instruction of a missing coprocessor",
        18: "a jump to Arm code: the address lacks the Thumb bit",
    },
)
RISCV = Core(
    pc=riscv_const.UC_RISCV_REG_PC,
    sp=riscv_const.UC_RISCV_REG_SP,
    link=riscv_const.UC_RISCV_REG_RA,
    operation=riscv_const.UC_RISCV_REG_A0,
    argument=riscv_const.UC_RISCV_REG_A1,
    thumb=0,
    trap=struct.pack("<I", 0x00100073),  # ebreak
    before=struct.pack("<I", 0x01F01013),  # slli x0, x0, 0x1f
    exceptions={  # causes of the privileged specification
        2: "an instruction that this core does not have",
        4: "a misaligned load",
        6: "a misaligned store",
    },
)


class Emulator(Protocol):
    """The part of `unicorn.Uc` that is used here."""

    def ctl_set_cpu_model(self, model: int) -> None: ...
    def mem_map(self, address: int, size: int, perms: int = ...) -> None: ...
    def mem_read(self, address: int, size: int) -> bytearray: ...
    def mem_write(self, address: int, data: bytes) -> None: ...
    def reg_read(self, register: int) -> int: ...
    def reg_write(self, register: int, value: int) -> None: ...
    def hook_add(self, kind: int, function: Callable[..., object]) -> int: ...
    def emu_start(self, begin: int, until: int) -> None: ...
    def emu_stop(self) -> None: ...


class Machine:
    """A chip with its memories, a firmware in them, and the state of the run."""

    def __init__(self, request: Mapping[str, wire.Json], elf: bytes, disk: Disk) -> None:
        is_arm = request["isa"] == "arm_m"
        self.core = ARM if is_arm else RISCV
        # Never UC_MODE_MCLASS: it silently turns every model into an M33.
        self.uc: Emulator = (
            unicorn.Uc(unicorn.UC_ARCH_ARM, unicorn.UC_MODE_THUMB)
            if is_arm
            else unicorn.Uc(unicorn.UC_ARCH_RISCV, unicorn.UC_MODE_RISCV32)
        )
        constants = arm_const if is_arm else riscv_const
        self.uc.ctl_set_cpu_model(getattr(constants, str(request["model"])))
        self.firmware: Firmware = firmware.read(elf, self.core.thumb)
        self.regions = cast("list[tuple[str, int, int]]", request["regions"])
        self.disk = disk
        self.invalid = ""
        self._map(is_arm)
        # The Arm models fault by themselves; RISC-V's grants what a small core traps on.
        if request["aligned"] and not is_arm:
            both = unicorn.UC_HOOK_MEM_READ | unicorn.UC_HOOK_MEM_WRITE
            self.uc.hook_add(both, self._on_access)
        self.uc.hook_add(unicorn.UC_HOOK_INTR, self._on_interrupt)
        self.uc.hook_add(unicorn.UC_HOOK_MEM_INVALID, self._on_invalid)

    def run(self) -> int:
        """Run from Reset to the firmware's exit and return its exit code."""
        pc = self._reset()
        while True:
            self.invalid = ""
            try:
                self.uc.emu_start(pc | self.core.thumb, NEVER)
            except unicorn.UcError as error:
                self.invalid = self.invalid or str(error)
            pc = self.uc.reg_read(self.core.pc)
            # A trap that the hook saw may still end with an error (RISC-V): the code decides.
            if not self._is_semihosting(pc):
                raise self._died(self.invalid or "a stop without a reason")
            result, code = serve(
                self.uc.reg_read(self.core.operation),
                self.uc.reg_read(self.core.argument),
                self,
                self.disk,
            )
            if code is not None:
                return code
            self.uc.reg_write(self.core.operation, result)
            pc += len(self.core.trap)

    def count(self, request: Mapping[str, wire.Json]) -> Counter:
        """Count from now on, which must be before anything ran."""
        entry = str(request["entry"])
        marks = [entry, *cast("list[str]", request["marks"])]
        cycles = importlib.import_module("isobit.run.cycles") if request["cycle_model"] else None
        model = cycles.models()[request["cycle_model"]] if cycles else None

        def cost(address: int, size: int) -> Count:
            code = bytes(self.uc.mem_read(address, size))
            number = count_thumb(code) if self.core.thumb else count_riscv(code)
            return number, model(code, address) if model else 0

        counter = Counter(
            entry=self.firmware.address_of(entry),
            names={self.firmware.address_of(mark): mark for mark in marks},
            chip=Chip(
                stack_pointer=lambda: self.uc.reg_read(self.core.sp),
                return_address=lambda: self.uc.reg_read(self.core.link) & ~self.core.thumb,
                read=self.read,
                write=self.write,
            ),
            cost=cost,
            taken_cycles=cycles.TAKEN_BRANCH_CYCLES if cycles else 0,
            stack_limit=self.firmware.labels["__stack_limit"],
        )
        # What it raises, Unicorn's binding raises again out of emu_start.
        self.uc.hook_add(unicorn.UC_HOOK_BLOCK, counter.hook())
        return counter

    def read(self, address: int, size: int) -> bytes:
        """Return memory of the chip."""
        self._check(address, size, ("flash", "ram"))
        return bytes(self.uc.mem_read(address, size))

    def write(self, address: int, data: bytes) -> None:
        """Set memory of the chip, RAM only."""
        self._check(address, len(data), ("ram",))
        self.uc.mem_write(address, data)

    def _map(self, is_arm: bool) -> None:
        for kind, base, size in self.regions:
            rights = unicorn.UC_PROT_ALL
            if kind == "flash":
                rights = unicorn.UC_PROT_READ | unicorn.UC_PROT_EXEC
            self.uc.mem_map(base, size, rights)
        if is_arm:
            self.uc.mem_map(*ARM_SYSTEM_PAGE)
        for address, data in self.firmware.segments:
            self._check(address, len(data), ("flash", "ram"))
            self.uc.mem_write(address, data)

    def _reset(self) -> int:
        """What the hardware does at reset; return where it starts."""
        if not self.core.thumb:
            return self.firmware.entry
        for kind, base, size in self.regions:
            if kind == "flash" and base <= self.firmware.entry < base + size:
                sp, start = struct.unpack("<2I", self.read(base, 8))
                self.uc.reg_write(self.core.sp, sp)
                return int(start) & ~1
        raise self._died("no vector table: the firmware's entry point lies outside the flash")

    def _is_semihosting(self, pc: int) -> bool:
        signature = self.core.before + self.core.trap
        start = pc - len(self.core.before)
        return self._holds(start, len(signature), ("flash", "ram")) and (
            bytes(self.uc.mem_read(start, len(signature))) == signature
        )

    def _on_interrupt(self, uc: Emulator, number: int, _data: object) -> None:
        self.invalid = self.core.exceptions.get(number, f"exception {number}")
        uc.emu_stop()

    def _on_invalid(
        self, _uc: Emulator, access: int, address: int, size: int, _value: int, _data: object
    ) -> bool:
        what = _ACCESSES.get(access, "a forbidden access")
        self.invalid = f"{what}: {size} bytes at {self.firmware.describe(address)}"
        return False

    def _on_access(
        self, _uc: Emulator, _access: int, address: int, size: int, _value: int, _data: object
    ) -> None:
        if address & (size - 1):
            where = self.firmware.describe(address)
            raise self._died(f"a misaligned access: {size} bytes at {where}")

    def _holds(self, address: int, size: int, kinds: tuple[str, ...]) -> bool:
        return any(
            kind in kinds and base <= address and address + size <= base + length
            for kind, base, length in self.regions
        )

    def _check(self, address: int, size: int, kinds: tuple[str, ...]) -> None:
        if not self._holds(address, size, kinds):
            raise self._died(f"{size} bytes at {address:#x} lie outside the {' and '.join(kinds)}")

    def _died(self, got: str) -> RunError:
        pc = self.firmware.describe(self.uc.reg_read(self.core.pc))
        return RunError(
            what="the firmware crashed",
            want="a run to its exit",
            got=f"{got}, pc {pc}",
            fix="Kernels may touch only their buffers; check the memories of the target.",
        )


def answer(message: bytes) -> bytes:
    """Run one request and return the answer: a result, or `error` with the fields of a problem."""
    request, blobs = wire.unpack(message)
    disk = Disk.of({name[1:]: blob for name, blob in blobs.items() if name.startswith("/")})
    try:
        machine = Machine(request, blobs["elf"], disk)
        counter = machine.count(request) if request["count"] else None
        code = machine.run()
    except RunError as failure:
        return wire.pack({"error": failure.fields}, {})
    header: dict[str, wire.Json] = {
        "exit_code": code,
        "emulator": f"unicorn {unicorn.__version__}",
        "stack_bytes": counter.stack_bytes if counter and counter.calls else None,
        "calls": [_call(spans, bool(request["cycle_model"])) for spans in counter.calls]
        if counter
        else [],
    }
    return wire.pack(header, disk.results())


def _call(spans: Sequence[tuple[str, int, int]], has_cycles: bool) -> wire.Json:
    listed: list[wire.Json] = [[s, i, c if has_cycles else None] for s, i, c in spans]
    total = sum(c for _, _, c in spans) if has_cycles else None
    return [sum(i for _, i, _ in spans), total, listed]


def main() -> None:
    """Answer one request."""
    # The pipe is ours alone: what libraries print goes to stderr.
    pipe = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    pipe.write(answer(sys.stdin.buffer.read()))
    pipe.close()


if __name__ == "__main__":
    main()
