"""Modelled cycles of a basic block. Imported only by the emulator's process: it needs capstone."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

import capstone
from capstone import arm

TAKEN_BRANCH_CYCLES = 2
"""Pipeline refill of the M4, on top of the branch's own cycle."""

_LOADS = frozenset({"ldr", "ldrb", "ldrh", "ldrsb", "ldrsh"})
_STORES = frozenset({"str", "strb", "strh"})
_CONDITIONS = frozenset(
    {"eq", "ne", "hs", "lo", "cs", "cc", "mi", "pl", "vs", "vc", "hi", "ls", "ge", "lt", "gt", "le"}
)
_FIXED = {"ldrd": 3, "strd": 3, "vldr": 2, "vstr": 2, "sdiv": 7, "udiv": 7, "vdiv": 14, "vsqrt": 14}
_PER_REGISTER = {"ldm", "ldmdb", "ldmia", "stm", "stmdb", "stmia"}
_PER_OPERAND = {"push", "pop", "vpush", "vpop"}
_VECTOR_BLOCK = {"vldm", "vldmia", "vldmdb", "vstm", "vstmia", "vstmdb"}


class Memory(Protocol):
    """The address of a load or store: base and index register, 0 for none."""

    base: int
    index: int


class Operand(Protocol):
    """One operand, as capstone describes it."""

    type: int
    mem: Memory


class Instruction(Protocol):
    """One instruction, as capstone describes it."""

    mnemonic: str
    size: int
    cc: int
    operands: list[Operand]

    def regs_access(self) -> tuple[list[int], list[int]]:
        """Registers read and written."""


def models() -> Mapping[str, Callable[[bytes, int], int]]:
    """Return the function of each cycle model: code and address of a block to its cycles."""
    return {"cortex-m4": cortex_m4}


def cortex_m4(code: bytes, address: int) -> int:
    """Cycles of one pass through a block, wait states and the taken branch at its end left out.

    Arm DDI 0439, table 3-1 and section 3.3.3: one cycle per data-processing instruction; LDR 2,
    or 1 directly after another load or store; STR 1, or 2 with a register offset; LDRD, STRD,
    LDM and STM 1 + N; one more where a load or store takes its address from the result of the
    data-processing instruction before it; a load whose address was just loaded cannot overlap.
    Division, 2 to 12 by its operands, counts 7. A predicated instruction counts as executed.
    """
    total = 0
    overlaps = False  # the instruction before was a load or store that this one may overlap
    written: frozenset[int] = frozenset()
    for one in _disassemble(code, address):
        name = _without_condition(one)
        memory = [operand.mem for operand in one.operands if operand.type == arm.ARM_OP_MEM]
        depends = any(m.base in written or (m.index and m.index in written) for m in memory)
        if name in _LOADS or name in _STORES:
            slow = name in _LOADS or any(m.index for m in memory)
            total += 2 if slow and (depends or not overlaps) else 1
            total += 1 if depends and not overlaps else 0
            overlaps = True
        else:
            total += _other_cycles(name, len(one.operands)) + (1 if depends else 0)
            overlaps = False
        written = frozenset(one.regs_access()[1])
    return total


def _other_cycles(name: str, operands: int) -> int:
    if name in _FIXED:
        return _FIXED[name]
    if name in _PER_REGISTER:
        return operands  # the base and N registers
    if name in _PER_OPERAND:
        return 1 + operands
    if name in _VECTOR_BLOCK:
        return operands
    if name.startswith(("vmla", "vmls", "vfma", "vfms", "vfnma", "vfnms", "vnmla", "vnmls")):
        return 3
    return 2 if name == "vmov" and operands == 4 else 1


def _without_condition(one: Instruction) -> str:
    name: str = one.mnemonic.split(".")[0]
    conditional = one.cc not in (arm.ARM_CC_AL, arm.ARM_CC_INVALID)
    if conditional and name[-2:] in _CONDITIONS and not name.startswith("it"):
        return name[:-2]
    return name


def _disassemble(code: bytes, address: int) -> list[Instruction]:
    decoder = capstone.Cs(capstone.CS_ARCH_ARM, capstone.CS_MODE_THUMB | capstone.CS_MODE_MCLASS)
    decoder.detail = True
    found: list[Instruction] = list(decoder.disasm(code, address))
    if sum(one.size for one in found) != len(code):
        raise ValueError(f"capstone cannot read all of the block at {address:#x}: {code.hex()}")
    return found
