"""The suite's own options: which tests `--scale` runs, and what `--no-skip` lets through."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

CONFTEST = Path(__file__).parents[1] / "conftest.py"
TESTS = """
import pytest

def test_plain(scale):
    assert scale in ("quick", "full")

@pytest.mark.slow
def test_slow(scale):
    assert scale == "full"

def test_skips():
    pytest.skip("no tool here")

def test_skips_without_accelerator():
    pytest.skip("no GPU here")

@pytest.mark.data("digits", "cifar10", "q7")
def test_data():
    pass

@pytest.mark.xfail(strict=True)
def test_expected_failure():
    assert False
"""


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    """A suite of its own with our conftest."""
    (tmp_path / "conftest.py").write_text(CONFTEST.read_text(encoding="utf-8"), encoding="utf-8")
    (tmp_path / "test_it.py").write_text(TESTS, encoding="utf-8")
    markers = "[pytest]\nmarkers =\n    slow: x\n    data(name): x\n"
    (tmp_path / "pytest.ini").write_text(markers, encoding="utf-8")
    return tmp_path


def run(suite: Path, *options: str, **variables: str) -> str:
    """What pytest says at its end, skip reasons included."""
    env = {k: v for k, v in os.environ.items() if not k.startswith(("ISOBIT_", "PYTEST_"))}
    command = [sys.executable, "-m", "pytest", "-rs", "-p", "no:cacheprovider", *options, "."]
    done = subprocess.run(
        command, cwd=suite, env=env | variables, capture_output=True, text=True, check=False
    )
    return done.stdout


def test_quick_deselects_what_is_slow(suite: Path) -> None:
    assert "1 passed, 3 skipped, 1 deselected, 1 xfailed" in run(suite)
    assert "2 passed, 3 skipped, 1 xfailed" in run(suite, "--scale", "full")


def test_no_skip_accepts_a_missing_gpu_only(suite: Path) -> None:
    said = run(suite, "--no-skip")
    assert "1 failed, 1 passed, 1 skipped, 1 deselected, 1 xfailed, 1 error" in said
    assert "--no-skip: Skipped: no tool here" in said
    (suite / "test_it.py").write_text('import pytest\npytest.importorskip("no_such_module_here")\n')
    assert "1 skipped" in run(suite)
    assert "1 error" in run(suite, "--no-skip")


def test_data_markers_say_what_is_missing(suite: Path) -> None:
    assert "ISOBIT_DATA names no folder; it should hold cifar-10-batches-bin" in run(suite)
    data = suite / "data" / "cifar-10-batches-bin"
    data.mkdir(parents=True)
    (data / "data_batch_1.bin").touch()
    root = str(suite / "data")
    assert "ISOBIT_DATA: no cifar-10-batches-bin/test_batch.bin" in run(suite, ISOBIT_DATA=root)
    (data / "test_batch.bin").touch()
    assert "ISOBIT_BASELINES names no folder" in run(suite, ISOBIT_DATA=root)
    for name in ("q7_vectors.npz", "q7_index.json"):
        (suite / "data" / name).touch()
    assert "2 passed, 2 skipped" in run(suite, ISOBIT_DATA=root, ISOBIT_BASELINES=root)
    (suite / "test_it.py").write_text(
        'import pytest\n@pytest.mark.data("imagenet")\ndef test_it(): pass\n'
    )
    assert "no such data: 'imagenet'" in run(suite)
