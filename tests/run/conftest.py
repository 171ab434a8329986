"""Firmware for the tests in this folder, compiled once per session and only when asked for."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import pytest

from isobit import targets
from isobit.codegen import board
from isobit.run.compilers import Compiled, Kind, find
from isobit.targets import Isa, Target

FIRMWARE = Path(__file__).parent / "firmware"
Build = Callable[[str, Kind, str], Compiled]


@pytest.fixture(scope="session")
def build(tmp_path_factory: pytest.TempPathFactory) -> Build:
    """Return the firmware `what` (toy, trace, exact, broken) for a target and compiler.

    A target's name may end in "@qemu": then it is linked for the memories of its QEMU machine.
    """
    folder = tmp_path_factory.mktemp("firmware")

    @cache
    def build_once(name: str, kind: Kind, what: str) -> Compiled:
        plain, _, on = name.partition("@")
        target = targets.load(plain)
        need(kind, target)
        compiler = find(kind, target.on_qemu() if on else target)
        place = folder / f"{name}-{kind}-{what}"
        output = place / "firmware.elf"
        if what in ("toy", "trace"):
            sources = [FIRMWARE / "toy.c", board.HARNESS]
            defines = {"ISOBIT_TRACE": ""} if what == "trace" else {}
            return compiler.compile_elf(sources, output, include_dirs=[FIRMWARE], defines=defines)
        if what == "exact":
            place.mkdir()
            (place / "isobit_harness.h").write_text((FIRMWARE / "exact.h").read_text())
            flavour = "riscv" if target.isa is Isa.RISCV else "thumb2"
            sources = [FIRMWARE / f"exact_{flavour}.S", board.HARNESS]
            return compiler.compile_elf(sources, output, include_dirs=[place])
        undefined = "unimp" if target.isa is Isa.RISCV else "udf #0"
        base = target.blocks("flash")[0].base
        defines = {"UNDEFINED": f'"{undefined}"', "FLASH_BASE": f"{base}u"}
        return compiler.compile_elf([FIRMWARE / "broken.c"], output, defines=defines)

    return build_once


def need(kind: str, target: Target) -> None:
    """Skip where the machine that tests has no such compiler; the CI machine has all of them."""
    if kind == "gcc" and shutil.which(target.gcc) is None:
        pytest.skip(f"{target.gcc} is not installed")
    if kind == "zig" and find_spec("ziglang") is None:
        pytest.skip("ziglang is not installed")


@pytest.fixture(scope="session")
def need_unicorn() -> None:
    for package in ("unicorn", "capstone"):
        if find_spec(package) is None:
            pytest.skip(f"{package} is not installed")


@pytest.fixture(scope="session")
def need_qemu() -> Callable[[Target], None]:
    def check(target: Target) -> None:
        if target.qemu is None or shutil.which(target.qemu.program) is None:
            pytest.skip(f"no QEMU for {target.name}")

    return check
