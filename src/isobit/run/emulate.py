"""Firmware on an emulated chip: Unicorn, in a process of its own.

Unicorn is GPLv2. This package never imports it: `isobit.run.unicorn_child` runs as a separate
program, and the two exchange messages (`wire`).
"""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import cast

import isobit.core
from isobit.core.errors import BadArgument, ChildDied, FileMissing, ToolMissing
from isobit.run import wire
from isobit.run.child import run_child
from isobit.run.execution import Execution, Span
from isobit.targets import Target


def emulate(
    elf: Path,
    target: Target,
    files: Mapping[str, bytes],
    *,
    entry: str = "",
    count: bool = True,
    marks: Sequence[str] = (),
    timeout_s: float = 120.0,
) -> Execution:
    """Run a firmware from Reset until it exits, on exactly the target's memories.

    `files` are what it can open for reading; what it opens for writing comes back. `exit_code` is
    the low byte, as a shell would see it. With `count`, every call of the function `entry` is
    counted: exact instructions (a predicated instruction that does not execute counts, as it does
    on the chip), their split over the functions `marks`, the depth of the stack. Marks must be
    functions that are really called: neither inlined nor dropped. On a RISC-V core without
    unaligned access, which Unicorn would grant, a counted run checks all loads and stores. Without
    `count` nothing is observed and the emulator runs tens of times faster.

    Raises `ToolMissing` without Unicorn or for a core it does not have; `BadArgument` if `entry`
    or a mark is no function of the firmware; `ChildDied` for a write to flash, an access outside
    the memories, an undefined instruction, a misaligned access, a stack that ran into the data (the
    last only in counted runs), the time limit.
    """
    _check(elf, target, count=count, entry=entry)
    request: dict[str, wire.Json] = {
        "isa": target.isa.value,
        "model": target.unicorn_model,
        "regions": [
            [block.kind, block.base, block.size_bytes]
            for block in (*target.blocks("flash"), *target.blocks("ram"))
        ],
        "count": count,
        "entry": entry,
        "marks": list(marks),
        "aligned": count and not target.unaligned_access,
        "cycle_model": target.cycle_model if count else "",
    }
    message = wire.pack(
        request, {"elf": elf.read_bytes(), **{f"/{k}": v for k, v in files.items()}}
    )
    header, blobs = _ask_child(message, where=f"{elf.name} on {target.name}", timeout_s=timeout_s)
    calls = cast("list[tuple[int, int | None, list[tuple[str, int, int | None]]]]", header["calls"])
    return Execution(
        files=blobs,
        exit_code=cast("int", header["exit_code"]),
        emulator=cast("str", header["emulator"]),
        instructions=tuple(instructions for instructions, _, _ in calls),
        cycles=tuple(cycles for _, cycles, _ in calls if cycles is not None),
        spans=tuple(
            tuple(Span(symbol=s, instructions=i, cycles=c) for s, i, c in spans)
            for _, _, spans in calls
        ),
        stack_bytes=cast("int | None", header["stack_bytes"]),
    )


def _check(elf: Path, target: Target, *, count: bool, entry: str) -> None:
    if not target.unicorn_model:
        raise ToolMissing(
            where=f"target {target.name}",
            what="Unicorn does not have this core",
            want="a core that Unicorn emulates",
            got=target.core,
            fix="Run it with QEMU.",
        )
    for package in ("unicorn", "capstone") if count and target.cycle_model else ("unicorn",):
        if importlib.util.find_spec(package) is None:
            raise ToolMissing(
                where=f"emulator for {target.name}",
                what="not installed",
                want=f"the package {package}",
                got=f"no module named {package}",
                fix="`pip install isobit[emulate]`, or run it with QEMU.",
            )
    if not elf.is_file():
        raise FileMissing(
            where=str(elf),
            what="no such firmware",
            want="an ELF file",
            got="no file",
            fix="Compile it first.",
        )
    if count and not entry:
        raise BadArgument(
            where=f"emulate {elf.name}",
            what="nothing to count",
            want="the name of the function to count in `entry`",
            got="no name",
            fix="Pass entry, or count=False.",
        )


def _ask_child(
    message: bytes, *, where: str, timeout_s: float
) -> tuple[dict[str, wire.Json], dict[str, bytes]]:
    # Found as we were found, whether installed, on PYTHONPATH or on a changed sys.path.
    root = str(Path(isobit.core.__file__).parents[2])
    path = os.pathsep.join(part for part in (root, os.environ.get("PYTHONPATH", "")) if part)
    command = (sys.executable, "-P", "-m", "isobit.run.unicorn_child")
    done = run_child(command, stdin=message, timeout_s=timeout_s, env={"PYTHONPATH": path})
    try:
        header, blobs = wire.unpack(done.stdout)
    except ValueError:
        last = done.stderr.decode(errors="replace").strip().splitlines()[-1:]
        if done.code is None:
            what, want = "time limit reached", f"an end within {timeout_s:g} s"
            fix = "Give fewer inputs or more time; a firmware that never ends has lost its way."
        else:
            what, want = "the emulator's process ended early", "a complete answer"
            fix = "Run it again; if it repeats, report it with the firmware."
        got = ": ".join([done.ending, *last])
        raise ChildDied(where=where, what=what, want=want, got=got, fix=fix) from None
    if "error" in header:
        error = cast("dict[str, str]", header["error"])
        kind = BadArgument if error.pop("kind") == "argument" else ChildDied
        raise kind(where=where, **error)
    return header, blobs
