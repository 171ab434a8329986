"""What isobit knows about a chip, and how it is found by name.

A target is a module with a module-level `TARGET`: here beside this file, or in any installed wheel
that names the module (or `module:attribute`) as an entry point of the group `isobit.targets`.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import Enum
from functools import cache
from importlib.metadata import entry_points
from types import MappingProxyType
from typing import Literal

from isobit.core.errors import UnknownName
from isobit.core.features import Feature

ENTRY_POINT_GROUP = "isobit.targets"


class Isa(Enum):
    """The instruction set family: what decides start-up code, linker script and emulator."""

    HOST = "host"
    ARM_M = "arm_m"
    RISCV = "riscv"


@dataclass(frozen=True, slots=True, kw_only=True)
class Region:
    """One memory of the chip, as its datasheet lists it."""

    name: str
    kind: Literal["flash", "ram"]
    base: int
    size_bytes: int

    @property
    def end(self) -> int:
        """The first address behind the region."""
        return self.base + self.size_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Qemu:
    """The QEMU machine that executes this core's instructions.

    `regions` is empty where the machine has memory at the target's own addresses: then one ELF runs
    in both emulators. Otherwise firmware for QEMU is linked for these (`Target.on_qemu`).
    """

    program: str
    machine: str
    args: tuple[str, ...] = ()
    regions: tuple[Region, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A core or a board: everything the planner, the compilers and the emulators ask about it.

    `clock_hz` 0: a bare core has no clock. `unicorn_model` "": Unicorn does not emulate it.
    `cycle_model` "": cycles are not modelled. `zig_flags` and `gcc_flags` select the core only;
    optimisation is not theirs. `unaligned_access` False: a load or store must be aligned to its
    size, or the core faults (or, for some RISC-V cores, traps to a slow handler).
    """

    name: str
    title: str
    core: str
    isa: Isa
    features: frozenset[Feature]
    regions: tuple[Region, ...]
    source: str
    clock_hz: int = 0
    zig_flags: tuple[str, ...] = ()
    gcc: str = ""
    gcc_flags: tuple[str, ...] = ()
    unicorn_model: str = ""
    qemu: Qemu | None = None
    cycle_model: str = ""
    unaligned_access: bool = True

    def blocks(self, kind: Literal["flash", "ram"]) -> tuple[Region, ...]:
        """Return the memories of one kind, largest first, with adjacent regions joined into one.

        A joined block has the name of its first region. Ties keep the order of addresses.
        """
        joined: list[Region] = []
        for region in sorted((r for r in self.regions if r.kind == kind), key=lambda r: r.base):
            if joined and joined[-1].end == region.base:
                size = joined[-1].size_bytes + region.size_bytes
                joined[-1] = replace(joined[-1], size_bytes=size)
            else:
                joined.append(region)
        return tuple(sorted(joined, key=lambda r: (-r.size_bytes, r.base)))

    @property
    def flash_bytes(self) -> int:
        """Size of the main flash; 0 where code lies in no flash (host)."""
        flash = self.blocks("flash")
        return flash[0].size_bytes if flash else 0

    @property
    def ram_bytes(self) -> int:
        """Size of the main RAM, adjacent regions counted as one; 0 where it has no limit (host)."""
        ram = self.blocks("ram")
        return ram[0].size_bytes if ram else 0

    def on_qemu(self) -> Target:
        """Return this target with the memory map of its QEMU machine, to link firmware for.

        It is the target itself where the maps agree.
        """
        if self.qemu is None or not self.qemu.regions:
            return self
        return replace(self, regions=self.qemu.regions, qemu=replace(self.qemu, regions=()))


def names() -> tuple[str, ...]:
    """Return the names of all targets, sorted."""
    return tuple(sorted(_targets()))


def load(name: str) -> Target:
    """Return the target called `name`.

    Raises `UnknownName`, which lists every name there is.
    """
    found = _targets()
    if name not in found:
        raise UnknownName(
            where=f"target {name!r}",
            what="no such core or board",
            want="one of " + ", ".join(sorted(found)),
            got=name,
            fix="`isobit targets` lists them; one more is one file with a module-level TARGET.",
        )
    return found[name]


@cache
def _targets() -> Mapping[str, Target]:
    """Scan `isobit.targets` and the entry points, once per process; ours win over equal names."""
    package = importlib.import_module("isobit.targets")
    found: dict[str, Target] = {}
    for entry in sorted(entry_points(group=ENTRY_POINT_GROUP), key=lambda e: e.name):
        value: object = entry.load()
        value = getattr(value, "TARGET", value)
        if isinstance(value, Target):
            found[value.name] = value
    for module in pkgutil.iter_modules(package.__path__, "isobit.targets."):
        value = getattr(importlib.import_module(module.name), "TARGET", None)
        if isinstance(value, Target):
            found[value.name] = value
    return MappingProxyType(found)
