"""Unicorn: outputs, exact counts against hand-counted assembly, every way a firmware can fail."""

from __future__ import annotations

import struct
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from elftools.elf.elffile import ELFFile

from isobit import targets
from isobit.core.errors import BadArgument, ChildDied, FileMissing, ToolMissing
from isobit.core.features import Feature
from isobit.run import emulate as emulate_module
from isobit.run.compilers import Compiled, Kind
from isobit.run.emulate import emulate
from isobit.run.execution import Span
from isobit.targets import Target

Build = Callable[[str, Kind, str], Compiled]
NeedQemu = Callable[[Target], None]

CORES = ("cortex-m0plus", "cortex-m3", "cortex-m4", "cortex-m7", "cortex-m33", "rv32imc")
BOARDS = ("nucleo-l4r5zi", "nucleo-l432kc")
KINDS: tuple[Kind, ...] = ("zig", "gcc")
INPUT = bytes((7 * i) & 127 for i in range(3 * 64))

pytestmark = pytest.mark.usefixtures("need_unicorn")


def added(inputs: bytes) -> list[bytes]:
    rows = [inputs[i : i + 64] for i in range(0, len(inputs), 64)]
    return [bytes((x + 1 + i % 4 + n) & 255 for i, x in enumerate(r)) for n, r in enumerate(rows)]


def expected(inputs: bytes) -> bytes:
    """What toy.c computes, from its definition: + table + number of the call, then halved."""
    return b"".join(bytes(x // 2 for x in row) for row in added(inputs))


def by_mark(spans: Sequence[Span]) -> dict[str, int]:
    """Instructions of one call of the entry per symbol, several calls of one mark summed."""
    total: Counter[str] = Counter()
    for span in spans:
        total[span.symbol] += span.instructions
    return dict(total)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", CORES + BOARDS)
def test_emulate_computes_and_splits_the_count(build: Build, name: str, kind: Kind) -> None:
    elf, target = build(name, kind, "toy").path, targets.load(name)
    run = emulate(
        elf,
        target,
        {"input.bin": INPUT},
        entry="isobit_toy_run",
        marks=("toy_add", "toy_scale"),
        timeout_s=30,
    )
    assert run.exit_code == 0
    assert run.files == {"output.bin": expected(INPUT)}
    assert len(run.instructions) == len(run.spans) == 3
    for total, spans in zip(run.instructions, run.spans, strict=True):
        counts = by_mark(spans)
        assert [s.symbol for s in spans] == ["isobit_toy_run", "toy_add", "toy_scale"]
        assert sum(s.instructions for s in spans) == sum(counts.values()) == total
        assert counts["isobit_toy_run"] < 40 < counts["toy_add"]
    assert run.stack_bytes is not None
    assert 64 < run.stack_bytes < 400
    assert len(run.cycles) == (3 if target.cycle_model else 0)
    assert all(c >= i for c, i in zip(run.cycles, run.instructions, strict=False))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("name", "instructions", "stack", "step"),
    [
        ("cortex-m3", 87, 8, None),
        ("cortex-m4", 87, 8, None),
        ("cortex-m7", 87, 8, None),
        ("cortex-m33", 87, 8, None),
        ("rv32imc", 81, 16, 2),
    ],
)
def test_emulate_counts_what_a_hand_counts(
    build: Build, name: str, kind: Kind, instructions: int, stack: int, step: int | None
) -> None:
    inputs = bytes([0, 255, 127, 128, 1, 200, 3, 4, 5, 6]) + bytes(range(120, 130))
    run = emulate(
        build(name, kind, "exact").path,
        targets.load(name),
        {"input.bin": inputs},
        entry="isobit_exact_run",
        marks=("exact_leaf",),
    )
    assert run.files["output.bin"] == bytes(
        (x + (step or (1 if x >= 128 else 2))) & 255 for x in inputs
    )
    assert run.instructions == (instructions, instructions)
    assert by_mark(run.spans[0]) == {"isobit_exact_run": instructions - 2, "exact_leaf": 2}
    assert run.stack_bytes == stack
    assert run.cycles == ((125, 125) if name == "cortex-m4" else ())


def test_emulate_is_deterministic_and_same_without_counting(build: Build) -> None:
    elf, target = build("cortex-m4", "zig", "toy").path, targets.load("cortex-m4")
    runs = [emulate(elf, target, {"input.bin": INPUT}, entry="isobit_toy_run") for _ in range(2)]
    assert runs[0] == runs[1]
    plain = emulate(elf, target, {"input.bin": INPUT}, count=False)
    assert plain.files == runs[0].files
    assert plain.instructions == plain.cycles == plain.spans == ()
    assert plain.stack_bytes is None


def test_emulate_returns_the_trace(build: Build) -> None:
    elf, target = build("cortex-m4", "zig", "trace").path, targets.load("cortex-m4")
    run = emulate(elf, target, {"input.bin": INPUT}, count=False)
    assert run.files["trace.bin"] == b"".join(
        struct.pack("<iI", 1, 64) + row for row in added(INPUT)
    )


def test_emulate_returns_the_status_of_the_run(build: Build) -> None:
    elf, target = build("cortex-m4", "zig", "toy").path, targets.load("cortex-m4")
    run = emulate(elf, target, {"input.bin": b"\xff" * 64}, entry="isobit_toy_run")
    assert run.exit_code == 9
    assert emulate(elf, target, {"input.bin": INPUT[:70]}, count=False).exit_code == 242
    assert emulate(elf, target, {}, count=False).exit_code == 240


@pytest.mark.parametrize("name", ["cortex-m0plus", "cortex-m4", "cortex-m33", "rv32imc"])
@pytest.mark.parametrize(
    ("case", "words"),
    [
        (b"f", "a write to flash"),
        (b"r", "a read outside the memories: 4 bytes at 0x70000000"),
        (b"w", "a write outside the memories: 4 bytes at 0x70000004"),
        (b"j", "a jump outside the memories"),
        (b"u", "instruction"),
    ],
)
def test_emulate_names_the_fault(build: Build, name: str, case: bytes, words: str) -> None:
    elf = build(name, "zig", "broken").path
    for count in (True, False):
        with pytest.raises(ChildDied, match="the firmware crashed") as caught:
            emulate(elf, targets.load(name), {"case.bin": case}, entry="broken_call", count=count)
        assert words in str(caught.value)
        if case != b"j":
            assert "broken_call+" in str(caught.value)


@pytest.mark.parametrize("name", ["cortex-m0plus", "cortex-m4", "rv32imc"])
def test_emulate_checks_alignment_where_the_core_needs_it(build: Build, name: str) -> None:
    elf, target = build(name, "zig", "broken").path, targets.load(name)
    if target.unaligned_access:
        assert emulate(elf, target, {"case.bin": b"a"}, entry="broken_call").exit_code == 0
        return
    with pytest.raises(ChildDied, match=r"misaligned access.*broken_call\+"):
        emulate(elf, target, {"case.bin": b"a"}, entry="broken_call")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", [*CORES])
def test_emulate_counts_what_qemu_steps(
    build: Build, need_qemu: NeedQemu, tmp_path: Path, name: str, kind: Kind
) -> None:
    """The oracle: QEMU's log of every single instruction, by the function that it lies in."""
    elf, target = build(name, kind, "toy").path, targets.load(name)
    need_qemu(target)
    marks = ("toy_add", "toy_scale")
    run = emulate(elf, target, {"input.bin": INPUT}, entry="isobit_toy_run", marks=marks)
    log = step_in_qemu(elf, target, tmp_path, marks)
    # What a mark calls (soft float) is the mark's in `emulate`, but no part of its own code.
    assert by_mark(run.spans[0])["toy_add"] * 3 == log.count("toy_add")
    if Feature.FPU in target.features:
        assert by_mark(run.spans[0])["toy_scale"] * 3 == log.count("toy_scale")


def step_in_qemu(elf: Path, target: Target, folder: Path, functions: Sequence[str]) -> list[str]:
    """Run one instruction at a time; return the function of each, within `functions`."""
    assert target.qemu is not None
    program = target.qemu.program
    version = subprocess.run([program, "--version"], capture_output=True, text=True, check=True)
    major, minor = (int(part) for part in version.stdout.split()[3].split(".")[:2])
    step = ["-accel", "tcg,one-insn-per-tb=on"] if (major, minor) >= (8, 1) else ["-singlestep"]
    with elf.open("rb") as stream:
        symbols = ELFFile(stream).get_section_by_name(".symtab")
        found = [symbols.get_symbol_by_name(name)[0] for name in functions]
    places = [f"{s['st_value'] & ~1:#x}+{s['st_size']:#x}" for s in found]
    (folder / "input.bin").write_bytes(INPUT)
    subprocess.run(
        [
            *(program, "-M", target.qemu.machine, *target.qemu.args, *step),
            *("-nographic", "-monitor", "none", "-serial", "none"),
            *("-semihosting-config", "enable=on,target=native", "-kernel", str(elf)),
            *("-d", "exec,nochain", "-D", "steps.log", "-dfilter", ",".join(places)),
        ],
        cwd=folder,
        check=True,
        timeout=60,
    )
    return [line.split()[-1] for line in (folder / "steps.log").read_text().splitlines()]


def test_emulate_ends_an_endless_firmware(build: Build) -> None:
    elf = build("cortex-m4", "zig", "broken").path
    for count in (True, False):
        with pytest.raises(ChildDied, match="time limit reached"):
            emulate(
                elf,
                targets.load("cortex-m4"),
                {"case.bin": b"l"},
                entry="broken_call",
                count=count,
                timeout_s=1.0,
            )


def test_emulate_sees_a_stack_that_ran_into_the_data(build: Build) -> None:
    elf = build("cortex-m4", "zig", "broken").path
    with pytest.raises(ChildDied, match=r"outside the memories|stack overflow"):
        emulate(elf, targets.load("cortex-m4"), {"case.bin": b"s"}, entry="broken_call")


def test_emulate_refuses_what_it_cannot_count(build: Build) -> None:
    elf, target = build("cortex-m4", "zig", "toy").path, targets.load("cortex-m4")
    with pytest.raises(BadArgument, match="cannot count missing_node"):
        emulate(elf, target, {}, entry="isobit_toy_run", marks=("missing_node",))
    with pytest.raises(BadArgument, match="nothing to count"):
        emulate(elf, target, {})
    with pytest.raises(FileMissing):
        emulate(elf.with_name("no.elf"), target, {}, entry="isobit_toy_run")
    with pytest.raises(ChildDied, match=r"vector table|outside"):
        emulate(elf, targets.load("nucleo-l4r5zi"), {}, entry="isobit_toy_run")


def test_emulate_without_unicorn_says_how_to_get_it(
    build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    elf = build("cortex-m4", "zig", "toy").path
    with pytest.raises(ToolMissing, match="Run it with QEMU"):
        emulate(elf, targets.load("cortex-m55"), {}, entry="isobit_toy_run")
    monkeypatch.setattr(emulate_module.importlib.util, "find_spec", lambda _name: None)
    with pytest.raises(ToolMissing, match=r"pip install isobit\[emulate\]"):
        emulate(elf, targets.load("cortex-m4"), {}, entry="isobit_toy_run")


@pytest.mark.skipif(sys.platform == "win32", reason="needs signals")
def test_emulate_survives_a_killed_child(
    build: Build, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    elf = build("cortex-m4", "zig", "toy").path
    fake = tmp_path / "python"
    fake.write_text("#!/bin/sh\nkill -9 $$\n")
    fake.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(fake))
    with pytest.raises(ChildDied, match="killed by SIGKILL"):
        emulate(elf, targets.load("cortex-m4"), {}, count=False)


def test_emulate_keeps_unicorn_out_of_this_process(build: Build) -> None:
    elf = build("cortex-m4", "zig", "toy").path
    emulate(elf, targets.load("cortex-m4"), {"input.bin": INPUT}, entry="isobit_toy_run")
    assert not {"unicorn", "capstone"} & set(sys.modules)
