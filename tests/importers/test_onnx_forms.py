"""Random forms of ONNX operators, opset 7 to 21, against onnxruntime, before and after all passes;
and what is no pattern, though it looks like one.
"""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from onnx import helper

from isobit.importers.onnx import read, survey
from isobit.passes.base import chosen, run_passes

from .onnx_cases.base import info, serialised
from .onnx_form_images import Shape, theirs_of
from .onnx_forms import Network
from .test_onnx_ops import ours_of

COUNTS = {"quick": 100, "full": 2000}
TOLERANCE = 1e-4
"""Relative to the largest value: float64 here, float32 there, through up to 8 operators."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "seed" in metafunc.fixturenames:
        count = COUNTS[metafunc.config.getoption("--scale")]
        metafunc.parametrize("seed", range(count))


def test_random_forms_compute_the_same_reals(seed: int, tmp_path: Path) -> None:
    net, path = Network(seed), tmp_path / "net.onnx"
    path.write_bytes(net.blob(net.outputs()))
    problems = survey(path).problems
    if problems:  # what is left without the operators that are refused, each by name
        assert {problem.code for problem in problems} == {"E208"}
        net.drop({f"{p.where} {p.what}".split('"')[1] for p in problems})
    if not net.nodes:
        return
    outputs, x = net.outputs(), net.values["x"]
    path.write_bytes(net.blob(outputs))
    imported = read(path)
    wanted = [net.values[name] for name in outputs]
    passed, _ = run_passes(imported.graph, chosen())
    found = ours_of(imported, (x,))
    again = ours_of(replace(imported, graph=passed), (x,))
    for name, want, *both in zip(outputs, wanted, found, again, strict=True):
        largest = max(1.0, float(np.abs(want).max()))
        for got in both:
            assert got.size == want.size, name
            np.testing.assert_allclose(
                got.reshape(want.shape), want, rtol=0, atol=TOLERANCE * largest, err_msg=name
            )


def hold(folder: Path, nodes: list[Any], constants: dict[str, Any], shape: Shape) -> None:
    """Compare a network of one output "y" with onnxruntime."""
    blob = serialised(nodes, [info("x", shape)], [info("y", None)], constants)
    path = folder / "net.onnx"
    path.write_bytes(blob)
    x = np.random.default_rng(1).normal(size=shape).astype(np.float32)
    (want,) = theirs_of(blob, {"x": x})
    (got,) = ours_of(import_graph(path), (x,))
    largest = float(np.abs(want).max())
    np.testing.assert_allclose(got.reshape(want.shape), want, rtol=0, atol=TOLERANCE * largest)


def import_graph(path: Path) -> Any:
    imported = read(path)
    passed, _ = run_passes(imported.graph, chosen())
    return replace(imported, graph=passed)


@pytest.mark.parametrize("bound", [np.float32(1e31), np.full(4, 1e31, np.float32)])
def test_a_length_with_a_third_bound_is_no_normalisation(bound: Any, tmp_path: Path) -> None:
    nodes = [
        helper.make_node("ReduceL2", ["x"], ["length"], axes=[1], keepdims=1),
        helper.make_node("Max", ["length", "small", "bound"], ["floor"]),
        helper.make_node("Div", ["x", "floor"], ["y"]),
    ]
    hold(tmp_path, nodes, {"small": np.float32(1e-12), "bound": bound}, (1, 4))


def test_a_long_product_is_read(tmp_path: Path) -> None:
    names = ["x", *(f"v{k}" for k in range(1099)), "y"]
    nodes = [helper.make_node("Mul", [a, "k"], [b]) for a, b in itertools.pairwise(names)]
    hold(tmp_path, nodes, {"k": np.ones(4, np.float32)}, (1, 4))


def test_a_bias_takes_no_name_of_another_tensor(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["m"]),
        helper.make_node("Add", ["m", "b"], ["n"]),
        helper.make_node("Mul", ["n", "b_flat"], ["y"]),
    ]
    rng = np.random.default_rng(3)
    w, b, k = (rng.normal(size=s).astype(np.float32) for s in ((4, 3), (1, 3), (3,)))
    hold(tmp_path, nodes, {"w": w, "b": b, "b_flat": k}, (1, 4))
