"""The board side of emulated firmware: linker script, start-up code, semihosting, harness."""

from __future__ import annotations

from pathlib import Path

from isobit.core.errors import BadArgument
from isobit.targets import Isa, Region, Target

BOARD_DIR = Path(__file__).parent / "runtime" / "board"
"""Folder of the board's C sources and headers: an include directory of every firmware."""

HARNESS = BOARD_DIR / "harness.c"
"""`main` of emulated runs. It includes `isobit_harness.h`, which codegen writes."""

_SHARED = ("semihost.c", "memory.c")
_SOURCES = {
    Isa.ARM_M: ("startup_arm.c", *_SHARED),
    Isa.RISCV: ("startup_riscv.S", *_SHARED),
}
_SCRIPTS = {Isa.ARM_M: "arm.ld.in", Isa.RISCV: "riscv.ld.in"}


def startup_sources(target: Target) -> tuple[Path, ...]:
    """Return the sources every firmware for `target` is linked with, `main` apart.

    `memory.c` must be compiled with -fno-builtin, as `Compiler.compile_elf` does. Raises
    `BadArgument` for the host, which has no firmware.
    """
    _check_firmware(target)
    return tuple(BOARD_DIR / name for name in _SOURCES[target.isa])


def linker_script(target: Target, *, stack_bytes: int = 1024) -> str:
    """Return a GNU linker script, which lld reads as well, for the target's memories.

    The largest flash block is FLASH and the largest RAM block is RAM: .data, .bss and, from
    `__stack_top` down to `__stack_limit`, the stack. Linking fails if less than `stack_bytes` is
    left for it. Each further RAM block, say CCM, takes the sections `.ccm` and `.ccm.*`, which
    start-up neither copies nor clears.

    Raises `BadArgument` for a target without flash or RAM.
    """
    _check_firmware(target)
    flash, ram = target.blocks("flash"), target.blocks("ram")
    memory = [_memory("FLASH", "rx", flash[0]), _memory("RAM", "rwx", ram[0])]
    memory += [_memory(block.name, "rwx", block) for block in ram[1:]]
    extra = [
        f"\n    .{block.name.lower()} (NOLOAD) : "
        f"{{ *(.{block.name.lower()} .{block.name.lower()}.*) }} > {block.name}\n"
        for block in ram[1:]
    ]
    text = (BOARD_DIR / _SCRIPTS[target.isa]).read_text(encoding="utf-8")
    for key, value in (
        ("@TITLE@", target.title),
        ("@MEMORY@", "\n".join(memory)),
        ("@EXTRA@", "".join(extra)),
        ("@STACK_BYTES@", str(stack_bytes)),
    ):
        text = text.replace(key, value)
    return text


def _memory(name: str, access: str, block: Region) -> str:
    return f"    {name} ({access}) : ORIGIN = {block.base:#010x}, LENGTH = {block.size_bytes}"


def _check_firmware(target: Target) -> None:
    if target.isa not in _SCRIPTS or not target.blocks("flash") or not target.blocks("ram"):
        raise BadArgument(
            where=f"target {target.name!r}",
            what="firmware",
            want="a target with an instruction set, flash and RAM",
            got=f"{target.isa.value}, {target.flash_bytes} bytes flash, {target.ram_bytes} RAM",
            fix="Choose a core or board; the host runs a shared library instead.",
        )
