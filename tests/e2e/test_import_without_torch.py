"""Importing, deploying, running and verifying a .tflite file work where torch is not installed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tflite_builder import Operator, Tensor, build

BLOCK = """
import sys
sys.modules["torch"] = None  # what the import system takes for "not installed"
from isobit.cli import main
main(sys.argv[1:])
"""


def isobit(*arguments: object) -> dict[str, Any]:
    """The one object that a verb prints, in a process that cannot import torch."""
    command = [sys.executable, "-c", BLOCK, *map(str, arguments), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(done.stdout)
    assert isinstance(found, dict)
    return found


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """Convolution, fully connected layer, softmax."""
    rng = np.random.default_rng(0)
    wide, scales = (1, 6, 6, 4), {"scale": (0.02,), "zero_point": (0,)}
    tensors = [
        Tensor(name="x", shape=(1, 6, 6, 2), dtype="int8", scale=(0.05,), zero_point=(3,)),
        Tensor.constant("w", rng.integers(-90, 90, (4, 3, 3, 2)).astype(np.int8), **scales),
        Tensor.constant(
            "b", rng.integers(-500, 500, 4).astype(np.int32), scale=(0.001,), zero_point=(0,)
        ),
        Tensor(name="a", shape=wide, dtype="int8", scale=(0.2,), zero_point=(-5,)),
        Tensor.constant("v", rng.integers(-90, 90, (5, 144)).astype(np.int8), **scales),
        Tensor(name="z", shape=(1, 5), dtype="int8", scale=(0.9,), zero_point=(0,)),
        Tensor(name="y", shape=(1, 5), dtype="int8", scale=(1 / 256,), zero_point=(-128,)),
    ]
    window = {"StrideW": 1, "StrideH": 1, "DilationWFactor": 1, "DilationHFactor": 1}
    operators = [
        Operator(
            code="CONV_2D",
            inputs=("x", "w", "b"),
            outputs=("a",),
            options="Conv2DOptions",
            values=window,
        ),
        Operator(
            code="FULLY_CONNECTED",
            inputs=("a", "v"),
            outputs=("z",),
            options="FullyConnectedOptions",
        ),
        Operator(
            code="SOFTMAX",
            inputs=("z",),
            outputs=("y",),
            options="SoftmaxOptions",
            values={"Beta": 1.0},
        ),
    ]
    path = tmp_path / "net.tflite"
    path.write_bytes(build(tensors=tensors, operators=operators, inputs=["x"], outputs=["y"]))
    return path


def test_a_tflite_file_from_import_to_verified_chip(model: Path, tmp_path: Path) -> None:
    stored, folder = tmp_path / "net.isobit", tmp_path / "net"
    assert isobit("import", model, "--dry-run")["errors"] == []
    assert isobit("import", model, "-o", stored)["nodes"] >= 3
    assert "softmax" in isobit("show", stored)["text"]
    assert isobit("show", stored, "--svg", tmp_path / "net.svg")["svg"]
    assert isobit("explain", stored)["source"]["file"] == "net.tflite"
    assert isobit("ops", "--source", "tflite")["ops"]
    assert isobit("check", stored, "--target", "cortex-m3")["ram_bytes"] > 0
    isobit("deploy", stored, "--target", "cortex-m4", "--out", folder)
    found = isobit("verify", folder, "--on", "host,cortex-m4,rv32imc")["verified"]
    assert [one["name"] for one in found] == ["golden vectors", "host", "cortex-m4", "rv32imc"]
    assert all(one["differing"] == 0 and one["compared"] > 0 for one in found)
    x = folder / "golden" / "input.npy"
    isobit("run", folder, "--on", "cortex-m4", "--input", x, "--output", tmp_path / "y.npy")
    with np.load(folder / "golden" / "golden.npz") as golden:
        np.testing.assert_array_equal(np.load(tmp_path / "y.npy"), golden["y"])
    assert isobit("report", folder)["layers"]
