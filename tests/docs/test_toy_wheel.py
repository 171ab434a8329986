"""A third party adds an operator, a kernel and a core from its own wheel, without a change here."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from toy_install import ROOT, WHEEL, by_hand, install

from isobit.core.errors import DoesNotFit

SOURCE = ROOT / "src" / "isobit"
pytestmark = pytest.mark.xdist_group("toy_wheel")

PAGES = ("add-an-operator.md", "add-a-kernel.md", "add-a-pass.md", "add-a-target.md")


def _python(folder: Path, *arguments: str) -> str:
    paths = os.pathsep.join([str(folder), str(SOURCE.parent)])
    done = subprocess.run(
        [sys.executable, *arguments],
        env={**os.environ, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("toy") / "site"
    install(folder)
    return folder


@pytest.fixture(scope="module")
def proof(installed: Path) -> dict[str, Any]:
    if find_spec("torch") is None or find_spec("ziglang") is None or find_spec("unicorn") is None:
        pytest.skip("torch, ziglang or unicorn is not installed")
    script = str(Path(__file__).with_name("toy_proof.py"))
    return dict(json.loads(_python(installed, script, str(installed.parent / "out"))))


def test_toy_target_is_listed(installed: Path, proof: dict[str, Any]) -> None:
    assert "toy-m4" in proof["targets"]
    assert "toy-m4" in _python(installed, "-m", "isobit", "targets", "toy-m4")


def test_toy_target_refuses_what_does_not_fit(proof: dict[str, Any]) -> None:
    assert proof["refused"].startswith(
        f"{DoesNotFit.code} model on toy-m4: RAM: want at most 16,384"
    )


def test_toy_kernel_is_chosen_where_it_is_legal(proof: dict[str, Any]) -> None:
    assert {"reference", "toy_1x1"} <= set(proof["kernels"])
    for scheme in ("affine", "pow2"):
        chosen = proof[f"chosen {scheme}"]
        assert chosen["conv2d mix"] == "toy_1x1"
        assert chosen["conv2d stem"] != "toy_1x1"  # 3x3
        assert chosen["negate negate"] == "reference"


def test_toy_operator_and_kernel_are_exact(proof: dict[str, Any]) -> None:
    executions = ("golden vectors", "torch", "host", "cortex-m4", "toy-m4")
    names = [f"{scheme} {on}" for scheme in ("affine", "pow2") for on in executions]
    assert proof["differing"] == dict.fromkeys(names, 0)


def test_toy_operator_trains(proof: dict[str, Any]) -> None:
    assert proof["layer"]
    assert proof["gradient affine"] > 0
    assert proof["gradient pow2"] > 0


def test_toy_wheel_is_named_nowhere_in_isobit() -> None:
    for path in SOURCE.rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"isobit_toy|toy_1x1|toy-m4|merge_clamps", text), path


def test_toy_wheel_by_hand_equals_its_pyproject(tmp_path: Path) -> None:
    by_hand(tmp_path)
    text = _python(
        tmp_path,
        "-c",
        "from importlib.metadata import entry_points as e;"
        "groups = ('ops', 'kernels', 'passes', 'targets');"
        "print(*[x.value for g in groups for x in e(group='isobit.' + g)])",
    )
    assert set(text.split()) >= {
        "isobit_toy.negate",
        "isobit_toy.conv2d.toy_1x1",
        "isobit_toy.merge_clamps",
        "isobit_toy.toy_m4",
    }


@pytest.mark.parametrize("page", PAGES)
def test_pages_quote_the_toy_wheel(page: str) -> None:
    """A block behind a line `` `tests/toy_wheel/<path>`: `` is that file, or lines of it."""
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    quoted = re.findall(
        r"^`tests/toy_wheel/([^`]+)`.*?\n+```\w+\n(.*?)^```", text, re.DOTALL | re.M
    )
    assert quoted
    for path, block in quoted:
        assert block in (WHEEL / path).read_text(encoding="utf-8"), path


def test_wheel_passes_the_contract_battery(installed: Path, scale: str) -> None:
    """Its operator and its kernel, on our cores and its own, as strictly as ours."""
    paths = os.pathsep.join([str(installed), str(SOURCE.parent)])
    contract = str(ROOT / "tests" / "contract")
    chosen = "negate or conv2d-toy-m4" if scale == "quick" else "negate or conv2d"
    options = ["-p", "no:cacheprovider", "--no-skip", "-rA", "--scale", scale, "-k", chosen]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", contract, *options],
        env={**os.environ, "PYTHONPATH": paths},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:]
    passed = {line.split()[1] for line in done.stdout.splitlines() if line.startswith("PASSED")}
    core = "tests/contract/test_kernels.py::test_kernels_core"
    for op, on in (("negate", "cortex-m4"), ("negate", "toy-m4"), ("conv2d", "toy-m4")):
        assert {f"{core}[{op}-{on}]", f"{core}[{on}-{op}]"} & passed, (op, on)
    assert "tests/contract/test_semantics.py::test_oracle[negate]" in passed


def test_toy_pass_keeps_its_claim(installed: Path) -> None:
    """On the random graphs that ours are held to."""
    paths = os.pathsep.join([str(installed), str(SOURCE.parent)])
    claims = str(ROOT / "tests" / "passes")
    options = ["-p", "no:cacheprovider", "--no-skip", "-rA", "-k", "merge_clamps or all_together"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", claims, *options],
        env={**os.environ, "PYTHONPATH": paths},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:]
    assert "test_claim[merge_clamps]" in done.stdout
