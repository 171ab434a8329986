"""QEMU: the same firmware as Unicorn, with the same output; Helium only here."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from isobit import targets
from isobit.core.errors import BadArgument, ChildDied, FileMissing, ToolMissing
from isobit.run.compilers import Compiled, Kind
from isobit.run.emulate import emulate
from isobit.run.qemu import run_qemu
from isobit.targets import Target

Build = Callable[[str, Kind, str], Compiled]
NeedQemu = Callable[[Target], None]

INPUT = bytes((5 * i) & 127 for i in range(2 * 64))
NAMES = tuple(name for name in targets.names() if targets.load(name).qemu is not None)


@pytest.mark.parametrize("kind", ["zig", "gcc"])
@pytest.mark.parametrize("name", NAMES)
def test_qemu_and_unicorn_agree(build: Build, need_qemu: NeedQemu, name: str, kind: Kind) -> None:
    target = targets.load(name)
    need_qemu(target)
    suffix = "" if target.on_qemu() is target else "@qemu"
    elf = build(name + suffix, kind, "trace").path
    run = run_qemu(elf, target, {"input.bin": INPUT}, timeout_s=30)
    assert run.exit_code == 0
    assert run.instructions == ()
    assert sorted(run.files) == ["output.bin", "trace.bin"]
    row = [(x + 1 + i % 4) & 255 for i, x in enumerate(INPUT[:64])]
    assert run.files["output.bin"][:64] == bytes(x // 2 for x in row)
    assert run.files["trace.bin"][8:72] == bytes(row)
    if target.unicorn_model:
        other = emulate(elf, target.on_qemu(), {"input.bin": INPUT}, count=False)
        assert other.files == run.files


@pytest.mark.parametrize("name", ["cortex-m4", "cortex-m33", "cortex-m55", "rv32imc"])
def test_qemu_reports_faults_and_exit_codes(build: Build, need_qemu: NeedQemu, name: str) -> None:
    target = targets.load(name)
    need_qemu(target)
    elf = build(name, "zig", "broken").path
    assert run_qemu(elf, target, {"case.bin": b"\x07"}, timeout_s=30).exit_code == 7
    with pytest.raises(ChildDied, match="the firmware crashed"):
        run_qemu(elf, target, {"case.bin": b"u"}, timeout_s=30)


def test_qemu_ends_an_endless_firmware(build: Build, need_qemu: NeedQemu) -> None:
    target = targets.load("cortex-m4")
    need_qemu(target)
    elf = build("cortex-m4", "zig", "broken").path
    with pytest.raises(ChildDied, match="time limit reached"):
        run_qemu(elf, target, {"case.bin": b"l"}, timeout_s=1.0)


def test_qemu_refuses_what_it_cannot_run(
    build: Build, need_qemu: NeedQemu, monkeypatch: pytest.MonkeyPatch
) -> None:
    target, board = targets.load("cortex-m4"), targets.load("nucleo-l4r5zi")
    need_qemu(target)
    elf = build("nucleo-l4r5zi", "zig", "toy").path
    with pytest.raises(BadArgument, match="on_qemu"):
        run_qemu(elf, board, {})
    with pytest.raises(BadArgument, match="without a folder"):
        run_qemu(build("cortex-m4", "zig", "toy").path, target, {"a/b": b""})
    with pytest.raises(BadArgument, match="a target that QEMU has a machine for"):
        run_qemu(elf, targets.load("host"), {})
    with pytest.raises(FileMissing):
        run_qemu(elf.with_name("no.elf"), target, {})
    monkeypatch.setenv("PATH", "")
    with pytest.raises(ToolMissing, match="apt install qemu-system-arm"):
        run_qemu(elf, board, {})
