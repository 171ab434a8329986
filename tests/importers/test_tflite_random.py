"""Random TFLite networks of int8 and of float32 operators against every tensor of tflite-micro, of
uint8 against the outputs of LiteRT; and all of them after all passes.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from isobit.importers.tflite import read, survey
from isobit.passes.base import chosen, run_passes
from isobit.run.golden import run_golden

from .litert import Litert
from .test_tflite_ops import inputs_of, same_values
from .tflite_networks import Network
from .tflm import Wheel

pytestmark = pytest.mark.data("tflite-micro", "litert")
COUNTS = {"quick": 120, "full": 2000}
SAMPLES = 4


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "seed" in metafunc.fixturenames:
        count = COUNTS[metafunc.config.getoption("--scale")]
        metafunc.parametrize("seed", range(count))


def test_every_tensor_of_a_random_network_is_the_runtimes(seed: int, tmp_path: Path) -> None:
    net, path = Network(seed), tmp_path / "net.tflite"
    path.write_bytes(net.blob())
    problems = survey(path).problems
    if problems:  # what is left without the operators that are refused, each by name
        assert {problem.code for problem in problems} == {"E208"}
        net.drop({problem.where.split('"')[1] for problem in problems})
    if not net.operators:
        return
    blob = net.blob()
    path.write_bytes(blob)
    found, rng = read(path), np.random.default_rng(seed)
    feeds = [
        tuple(
            rng.normal(size=x.shape).astype(np.float32)
            if net.dtype == "float32"
            else (rng.integers(-128, 128, x.shape) + net.shift).astype(net.dtype)
            for x in net.inputs
        )
        for _ in range(SAMPLES)
    ]
    inputs = inputs_of(found.graph, feeds)
    ours = run_golden(found.graph, inputs)
    passed, _ = run_passes(found.graph, chosen())
    after = run_golden(passed, inputs)
    value_of = {label: value for value, label in found.names.items()}
    outputs = {found.names[value] for value in found.graph.outputs}
    runner = Litert(blob) if net.dtype == "uint8" else Wheel(blob)
    for index, feed in enumerate(feeds):
        if isinstance(runner, Litert):
            theirs = dict(runner.run(*feed))
        else:
            runner.run(*feed)
            theirs = dict(runner.tensors())
        assert outputs <= theirs.keys()
        for name, want in theirs.items():
            if name in value_of:
                same_values(ours[value_of[name]][index], want, name)
    for one, two in zip(found.graph.outputs, passed.outputs, strict=True):
        same_values(after[two], ours[one].astype(after[two].dtype), one)
