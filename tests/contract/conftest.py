"""Parameters of the contract: every operator that the scan finds, on every core of the scale."""

from __future__ import annotations

import shutil
from importlib.util import find_spec
from pathlib import Path

import pytest

from isobit import targets
from isobit.ops.base import Op
from isobit.ops.registry import load_ops
from isobit.targets import Isa

QUICK = ("cortex-m0plus", "cortex-m4", "rv32imc", "cortex-m55")


def cores(scale: str) -> list[str]:
    """Bare emulated cores: a typical one of each kind, or all there are; and what wheels add."""
    found = [targets.load(name) for name in targets.names()]
    added = [
        t.name for t in found if find_spec(f"isobit.targets.{t.name.replace('-', '_')}") is None
    ]
    if scale == "quick":
        return [*QUICK, *added]
    ours = [t.name for t in found if t.isa is not Isa.HOST and not t.clock_hz]
    return [*ours, *(name for name in added if name not in ours)]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    ops = load_ops().ops
    integer = [name for name, op in ops.items() if op.integer is not Op.integer]
    if "op" in metafunc.fixturenames:
        metafunc.parametrize("op", integer)
    if "trainable" in metafunc.fixturenames:
        # Without a surrogate an operator appears after training only (quantize at the input, say).
        with_surrogate = [name for name in integer if ops[name].surrogate is not Op.surrogate]
        metafunc.parametrize("trainable", with_surrogate)
    if "float_op" in metafunc.fixturenames:
        metafunc.parametrize("float_op", [name for name in ops if name not in integer])
    if "core" in metafunc.fixturenames:
        metafunc.parametrize("core", cores(metafunc.config.getoption("--scale")))


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that all workers of this session share, and no other session."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if base.name.startswith("popen-gw") else base) / "contract"
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def need_compiler() -> None:
    if find_spec("ziglang") is None:
        pytest.skip("ziglang is not installed")


@pytest.fixture(scope="session")
def need_gcc() -> None:
    if shutil.which("gcc") is None:
        pytest.skip("gcc is not installed")


@pytest.fixture(scope="session")
def need_emulators() -> None:
    if find_spec("unicorn") is None or find_spec("ziglang") is None:
        pytest.skip("unicorn or ziglang is not installed")
