"""Firmware on QEMU: the second emulator, and the only one here with Helium. It counts nothing."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from elftools.common.exceptions import ELFError
from elftools.elf.elffile import ELFFile

from isobit.core.errors import BadArgument, ChildDied, FileDamaged, FileMissing, ToolMissing
from isobit.run.child import run_child
from isobit.run.execution import Execution
from isobit.targets import Target

FAULT_EXIT_CODE = 250
"""What the start-up code's fault handler exits with."""

_PACKAGES = {
    "qemu-system-arm": "`apt install qemu-system-arm`, on PATH.",
    "qemu-system-riscv32": "`apt install qemu-system-misc`, on PATH.",
}


def run_qemu(
    elf: Path, target: Target, files: Mapping[str, bytes], *, timeout_s: float = 120.0
) -> Execution:
    """Run a firmware from Reset until it exits, as `emulate` does, and give its files back.

    Files live in a temporary folder; those that are new or changed come back. Link the firmware
    for `target.on_qemu()`: for most cores that is the target itself. QEMU has more memory than the
    target and lets firmware write to its flash: `emulate` is the stricter one.

    Raises `ToolMissing` without this QEMU; `BadArgument` for a target QEMU has no machine for, a
    firmware linked elsewhere, a file name with a folder; `ChildDied` for a fault or the time limit.
    """
    command = _command(elf, target)
    for name in files:
        if Path(name).name != name:
            raise _bad(f"file {name!r}", "a file name without a folder", name, "Rename it.")
    where = f"{elf.name} on {target.name} in QEMU"
    with tempfile.TemporaryDirectory(prefix="isobit-qemu-") as temporary:
        folder = Path(temporary)
        for name, content in files.items():
            (folder / name).write_bytes(content)
        done = run_child(command, timeout_s=timeout_s, cwd=folder)
        found = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    said = done.stderr.decode(errors="replace").strip().splitlines()[-1:]
    refused = done.code == 1 and bool(said) and said[0].startswith("qemu-system")
    if done.code is None or done.code < 0 or refused:
        raise ChildDied(
            where=where,
            what="time limit reached" if done.code is None else "QEMU ended early",
            want=f"an exit of the firmware within {timeout_s:g} s",
            got=": ".join([done.ending, *said]),
            fix="Give fewer inputs or more time, or look at the fault with `emulate`.",
        )
    if done.code == FAULT_EXIT_CODE:
        raise ChildDied(
            where=where,
            what="the firmware crashed",
            want="a run to its exit",
            got="a fault: an access outside the memories, or an instruction the core lacks",
            fix="`emulate` names the address.",
        )
    return Execution(
        files={name: data for name, data in sorted(found.items()) if files.get(name) != data},
        exit_code=done.code,
        emulator=_version(command[0]),
    )


def _command(elf: Path, target: Target) -> tuple[str, ...]:
    qemu = target.qemu
    if qemu is None:
        raise _bad(
            f"target {target.name}",
            "a target that QEMU has a machine for",
            target.core,
            "Use another emulator or the chip itself.",
        )
    program = shutil.which(qemu.program)
    if program is None:
        raise ToolMissing(
            where=f"QEMU for {target.name}",
            what="not installed",
            want=f"{qemu.program} on PATH",
            got="no such program",
            fix=_PACKAGES.get(qemu.program, f"Install {qemu.program}."),
        )
    entry = _entry_point(elf)
    if not any(block.base <= entry < block.end for block in target.on_qemu().blocks("flash")):
        raise _bad(
            f"{elf.name} on {target.name} in QEMU",
            f"a firmware linked for the memories of {qemu.machine}",
            f"entry point {entry:#x}",
            "Compile it with `find(kind, target.on_qemu())`.",
        )
    machine = ("-M", qemu.machine, *qemu.args, "-nographic", "-monitor", "none", "-serial", "none")
    semihosting = ("-semihosting-config", "enable=on,target=native")
    return (program, *machine, *semihosting, "-kernel", str(elf.resolve()))


def _entry_point(elf: Path) -> int:
    if not elf.is_file():
        raise FileMissing(
            where=str(elf),
            what="no such firmware",
            want="an ELF file",
            got="no file",
            fix="Compile it first.",
        )
    try:
        with elf.open("rb") as stream:
            return int(ELFFile(stream).header["e_entry"])
    except ELFError as error:
        raise FileDamaged(
            where=str(elf),
            what="firmware",
            want="an ELF file",
            got=str(error),
            fix="Compile again.",
        ) from error


@cache
def _version(program: str) -> str:
    lines = run_child((program, "--version"), timeout_s=60.0).stdout.decode().splitlines()
    return lines[0] if lines else "QEMU"


def _bad(where: str, want: str, got: str, fix: str) -> BadArgument:
    return BadArgument(where=where, what="cannot run in QEMU", want=want, got=got, fix=fix)
