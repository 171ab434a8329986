"""Targets: found by name from here and from other wheels, with memories that mean something."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib.metadata import EntryPoint
from itertools import pairwise
from pathlib import Path

import pytest

from isobit import targets
from isobit.codegen import board
from isobit.core.errors import BadArgument, UnknownName
from isobit.core.features import Feature
from isobit.targets import Isa, base

FIRST = (
    "cortex-m0plus",
    "cortex-m3",
    "cortex-m33",
    "cortex-m4",
    "cortex-m55",
    "cortex-m7",
    "host",
    "nucleo-l432kc",
    "nucleo-l4r5zi",
    "rv32imc",
)
CHIPS = [name for name in FIRST if name != "host"]

TOY = """
from dataclasses import replace
from isobit.targets import cortex_m4
TARGET = replace(cortex_m4.TARGET, name="toy-core", title="A core of another wheel")
"""


@pytest.fixture
def fresh() -> Iterator[None]:
    base._targets.cache_clear()
    yield
    base._targets.cache_clear()


def test_targets_has_the_documented_names() -> None:
    assert set(FIRST) <= set(targets.names())
    assert list(targets.names()) == sorted(targets.names())
    for name in targets.names():
        assert targets.load(name).name == name


def test_targets_lists_all_names_for_an_unknown_one() -> None:
    with pytest.raises(UnknownName, match=r"cortex-m0plus, cortex-m3, .*rv32imc"):
        targets.load("cortex-m99")


@pytest.mark.parametrize("value", ["isobit_toy_wheel", "isobit_toy_wheel:TARGET"])
def test_targets_finds_those_of_other_wheels(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, fresh: None, value: str
) -> None:
    (tmp_path / "isobit_toy_wheel.py").write_text(TOY)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "isobit_toy_wheel", raising=False)
    entry = EntryPoint("toy-core", value, base.ENTRY_POINT_GROUP)
    monkeypatch.setattr(base, "entry_points", lambda group: [entry])
    assert targets.load("toy-core").title == "A core of another wheel"
    assert "toy-core" in targets.names()


@pytest.mark.parametrize("name", CHIPS)
def test_targets_are_complete(name: str) -> None:
    target = targets.load(name)
    assert target.zig_flags
    assert target.gcc
    assert target.gcc_flags
    assert target.qemu is not None
    assert target.source
    assert target.flash_bytes > 0
    assert target.ram_bytes > 0
    ordered = sorted(target.regions, key=lambda region: region.base)
    for low, high in pairwise(ordered):
        assert low.end <= high.base, "regions overlap"
    assert target.on_qemu().on_qemu() == target.on_qemu()
    assert target.on_qemu().flash_bytes == target.flash_bytes
    assert target.on_qemu().ram_bytes == target.ram_bytes
    assert (Feature.DSP in target.features) <= (target.isa is Isa.ARM_M)


def test_targets_join_adjacent_memories() -> None:
    big = targets.load("nucleo-l4r5zi")
    assert [r.size_bytes for r in big.regions if r.kind == "ram"] == [196608, 65536, 393216]
    assert (big.ram_bytes, big.flash_bytes, big.clock_hz) == (640 * 1024, 2048 * 1024, 120_000_000)
    small = targets.load("nucleo-l432kc")
    assert (small.ram_bytes, small.flash_bytes, small.clock_hz) == (65536, 262144, 80_000_000)
    host = targets.load("host")
    assert (host.ram_bytes, host.flash_bytes) == (0, 0)


@pytest.mark.parametrize("name", CHIPS)
def test_board_fills_every_gap_of_its_script(name: str) -> None:
    target = targets.load(name)
    script = board.linker_script(target, stack_bytes=4096)
    assert "@" not in script
    assert ">= 4096" in script
    assert (
        f"ORIGIN = {target.blocks('flash')[0].base:#010x}, LENGTH = {target.flash_bytes}" in script
    )
    assert f"LENGTH = {target.ram_bytes}" in script
    assert all(path.is_file() for path in board.startup_sources(target))


def test_board_refuses_the_host() -> None:
    with pytest.raises(BadArgument, match="firmware"):
        board.linker_script(targets.load("host"))
    with pytest.raises(BadArgument, match="firmware"):
        board.startup_sources(targets.load("host"))
