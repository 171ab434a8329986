"""Inner functions of kernels and of the run time equal the scalar oracles."""

from __future__ import annotations

import shutil
from importlib.resources import files as package_files
from pathlib import Path

import pytest

from isobit.ops.registry import load_ops

from . import parts


@pytest.mark.parametrize("op", parts.CASES)
def test_inner_functions_equal_oracle(op: str, tmp_path: Path) -> None:
    if shutil.which("gcc") is None:
        pytest.skip("gcc is not installed")
    if op in load_ops().kernels:
        shutil.copyfile(load_ops().kernels[op][0].source(), tmp_path / f"{op}_reference.c")
    runtime = Path(str(package_files("isobit.codegen"))) / "runtime"
    flags = ("-Wall", "-Wextra", "-Wno-unused-function")
    assert not parts.compile_parts(op, tmp_path / "parts", [tmp_path, runtime], flags)
    assert not parts.run_parts(op, tmp_path / "parts", tmp_path)
