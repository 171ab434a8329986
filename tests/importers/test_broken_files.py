"""TFLite files that contradict themselves: every contradiction is refused by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from isobit.api.importing import import_model, survey_file
from isobit.core.errors import IsobitError
from isobit.ir.text import parse_graph, print_graph, scale_tensors
from isobit.ops.registry import load_ops
from tflite_builder import Operator, Tensor, build

SHAPE = (1, 6)


def codes(name: str, shape: tuple[int, ...] = SHAPE, **changes: Any) -> Tensor:
    return Tensor(**{"name": name, "shape": shape, "dtype": "int8", "scale": (0.1,),
                     "zero_point": (0,), **changes})  # fmt: skip


def relu(source: str, result: str) -> Operator:
    return Operator(code="RELU", inputs=(source,), outputs=(result,))


def add(a: str, b: str, result: str) -> Operator:
    return Operator(code="ADD", inputs=(a, b), outputs=(result,), options="AddOptions")


STORED = Tensor.constant("k", np.ones(SHAPE, dtype=np.int8), scale=(0.1,), zero_point=(0,))
X, Y, Z = codes("x"), codes("y"), codes("z")
AXES = Tensor.constant("axes", np.array([1.5], dtype=np.float32))
NAN = Tensor.constant("k", np.array([[1, np.nan]], dtype=np.float32))
FLOAT_X, FLOAT_Y = (Tensor(name=n, shape=(1, 2), dtype="float32") for n in "xy")

CASES: dict[str, tuple[str, list[Tensor], list[Operator], str, str]] = {
    "reads what nothing computes": ("E202", [X, Y, Z], [add("x", "z", "y")], "x", "y"),
    "reads what is computed later": (
        "E202",
        [X, Y, Z],
        [add("x", "z", "y"), relu("y", "z")],
        "x",
        "y",
    ),
    "reads itself": ("E202", [X, Y], [add("x", "y", "y")], "x", "y"),
    "written twice": ("E202", [X, Y], [relu("x", "y"), relu("x", "y")], "x", "y"),
    "writes an input": ("E202", [X, Y], [relu("x", "y"), relu("y", "x")], "x", "y"),
    "writes a stored tensor": ("E202", [X, STORED, Y], [relu("x", "k"), relu("k", "y")], "x", "y"),
    "an output that is stored": ("E202", [X, STORED, Y], [relu("x", "y")], "x", "k"),
    "an output that nothing computes": ("E202", [X, Y, Z], [relu("x", "y")], "x", "z"),
    "an input that is stored": ("E202", [X, STORED, Y], [relu("k", "y")], "k", "y"),
    "no output": ("E202", [X, Y], [Operator(code="RELU", inputs=("x",), outputs=())], "x", "y"),
    "a scale of NaN": ("E208", [X, codes("y", scale=(np.nan,))], [relu("x", "y")], "x", "y"),
    "an infinite scale": ("E208", [X, codes("y", scale=(np.inf,))], [relu("x", "y")], "x", "y"),
    "a scale of 0": ("E208", [X, codes("y", scale=(0.0,))], [relu("x", "y")], "x", "y"),
    "a negative scale": ("E208", [codes("x", scale=(-1.0,)), Y], [relu("x", "y")], "x", "y"),
    "a zero point that is no code": (
        "E208",
        [codes("x", zero_point=(128,)), Y],
        [relu("x", "y")],
        "x",
        "y",
    ),
    "scales per channel of a value": (
        "E208",
        [codes("x", scale=(0.1,) * 6, zero_point=(0,) * 6, axis=1), Y],
        [relu("x", "y")],
        "x",
        "y",
    ),
    "scales too far apart": (
        "E208",
        [codes("x", scale=(1e30,)), codes("z", scale=(1e30,)), codes("y", scale=(1e-30,))],
        [add("x", "z", "y")],
        "xz",
        "y",
    ),
    "a size of 0": (
        "E208",
        [codes("x", (1, 0)), codes("y", (1, 0))],
        [relu("x", "y")],
        "x",
        "y",
    ),
    "axes that are no integers": (
        "E208",
        [X, AXES, codes("y", (1,))],
        [Operator(code="REDUCE_MAX", inputs=("x", "axes"), outputs=("y",),
                  options="ReducerOptions")],
        "x",
        "y",
    ),
    "stored values that are no numbers": (
        "E205",
        [FLOAT_X, NAN, FLOAT_Y],
        [add("x", "k", "y")],
        "x",
        "y",
    ),
}  # fmt: skip


@pytest.mark.parametrize("label", CASES)
def test_a_contradiction_is_refused(label: str, tmp_path: Path) -> None:
    code, tensors, operators, inputs, output = CASES[label]
    path = tmp_path / "net.tflite"
    path.write_bytes(
        build(tensors=tensors, operators=operators, inputs=list(inputs), outputs=[output])
    )
    with pytest.raises(IsobitError) as caught:
        import_model(path)
    problems = caught.value.problems
    assert code in {problem.code for problem in problems}, problems
    assert survey_file(path).problems == problems
    for problem in problems:
        assert all((problem.where, problem.what, problem.want, problem.got, problem.fix)), problem


def test_a_refused_operator_hides_no_other_refusal(tmp_path: Path) -> None:
    """What it would have computed is known by its type: later operators are judged all the same."""
    tensors = [X, Y, Z, codes("out", scale=(np.inf,))]
    while_ = Operator(code="WHILE", inputs=("x",), outputs=("y",))
    operators = [while_, relu("y", "z"), add("z", "y", "out")]
    path = tmp_path / "net.tflite"
    path.write_bytes(build(tensors=tensors, operators=operators, inputs=["x"], outputs=["out"]))
    problems = survey_file(path).problems
    assert [problem.where for problem in problems] == ['operator 0 WHILE "y"', 'tensor "out"']


def test_any_name_can_be_printed_and_read(tmp_path: Path) -> None:
    name = 'a"b\\c\nsha=00 d\u2028\x00e\x1b[31m'
    stored = Tensor.constant(name, np.ones(SHAPE, dtype=np.int8), scale=(0.1,), zero_point=(0,))
    tensors = [codes("x\ny"), stored, codes("\x1b[2J")]
    path = tmp_path / "net.tflite"
    operators = [add("x\ny", name, "\x1b[2J")]
    path.write_bytes(
        build(tensors=tensors, operators=operators, inputs=["x\ny"], outputs=["\x1b[2J"])
    )
    model = import_model(path)
    graph = model.graph
    text = print_graph(graph)
    assert all(line.isprintable() for line in text.split("\n"))
    assert all(label.isprintable() for label in model.names.values())
    data = {const.name: const.data for const in graph.consts} | scale_tensors(graph)
    assert parse_graph(text, data, load_ops().signature) == graph
    assert any('"b\\c' in const.label for const in graph.consts)
