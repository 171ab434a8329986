"""Reals inside int8 networks: tables as tflite-micro computes, refusals where runtimes differ."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from isobit.importers import islands
from tflite_builder import Operator, Tensor, build

from .cases.base import activation, constant
from .litert import Litert
from .test_tflite_nets import file_of, fixes, hold, op
from .tflm import Wheel

pytestmark = pytest.mark.data("tflite-micro")
Options = Mapping[str, Any]


def island(
    folder: Path,
    *middle: Operator,
    stored: Sequence[Tensor] = (),
    shape: Any = (1, 4),
    x: tuple[float, int] = (0.03, -5),
    y: tuple[float, int] = (0.02, 11),
) -> Path:
    """From x (int8) to reals r0, the operators to reals r1, r2, .., and to y (int8)."""
    tensors = [
        activation("x", shape, *x),
        *(activation(f"r{k}", shape, dtype="float32") for k in range(len(middle) + 1)),
        activation("y", shape, *y),
        *stored,
    ]
    operators = [
        op("DEQUANTIZE", ["x"], ["r0"]),
        *middle,
        op("QUANTIZE", [f"r{len(middle)}"], ["y"]),
    ]
    return file_of(folder, tensors, operators, ["y"])


@pytest.mark.parametrize(
    ("code", "options", "values"),
    [
        ("ABS", "", {}),
        ("CEIL", "", {}),
        ("COS", "", {}),
        ("ELU", "", {}),
        ("EXP", "", {}),
        ("FLOOR", "", {}),
        ("LEAKY_RELU", "LeakyReluOptions", {"Alpha": 0.3}),
        ("LOGISTIC", "", {}),
        ("NEG", "", {}),
        ("RELU", "", {}),
        ("RELU6", "", {}),
        ("ROUND", "", {}),
        ("SIN", "", {}),
        ("SQUARE", "", {}),
        ("TANH", "", {}),
    ],
)
def test_reals_of_one_code_become_a_table(
    code: str, options: str, values: Options, tmp_path: Path
) -> None:
    found = hold(island(tmp_path, op(code, ["r0"], ["r1"], options, values), shape=(1, 256)))
    assert found.graph.nodes[-1].op == "lut"


@pytest.mark.parametrize("code", ["ADD", "SUB", "MUL", "DIV", "MAXIMUM", "MINIMUM"])
def test_reals_and_a_stored_number_become_a_table(code: str, tmp_path: Path) -> None:
    names = {"ADD": "AddOptions", "SUB": "SubOptions", "MUL": "MulOptions", "DIV": "DivOptions"}
    options = names.get(code, "MaximumMinimumOptions")
    middle = op(code, ["r0", "k"], ["r1"], options)
    stored = [constant("k", [0.7], "float32")]
    found = hold(island(tmp_path, middle, stored=stored, shape=(1, 256)))
    assert found.graph.nodes[-1].op == "lut"


def test_a_function_of_one_code_may_branch(tmp_path: Path) -> None:
    """It is x * sigmoid(x), spelled out."""
    middle = (
        op("LOGISTIC", ["r0"], ["r1"]),
        op("MUL", ["r0", "r1"], ["r2"], "MulOptions"),
    )
    found = hold(island(tmp_path, *middle, shape=(1, 256)))
    assert found.graph.nodes[-1].op == "lut"


def test_reals_per_channel_are_refused(tmp_path: Path) -> None:
    stored = [constant("k", [0.7, 0.8, 0.9, 1.0], "float32")]
    path = island(tmp_path, op("MUL", ["r0", "k"], ["r1"], "MulOptions"), stored=stored)
    assert fixes(path) == ["float32 inside an integer network"]


def test_sums_of_reals_are_refused(tmp_path: Path) -> None:
    stored = [constant("axes", [1])]
    path = island(tmp_path, op("SUM", ["r0", "axes"], ["r1"], "ReducerOptions"), stored=stored)
    assert fixes(path) == ["float32 inside an integer network"]


def test_results_that_are_no_numbers_are_refused(tmp_path: Path) -> None:
    assert fixes(island(tmp_path, op("LOG", ["r0"], ["r1"]))) == ["float32 result"]


def test_codes_that_hang_on_the_last_bit_are_refused(tmp_path: Path) -> None:
    """cos(0) * 0.01 is half a step of the result."""
    middle = (op("COS", ["r0"], ["r1"]), op("MUL", ["r1", "k"], ["r2"], "MulOptions"))
    path = island(tmp_path, *middle, stored=[constant("k", [0.01], "float32")])
    assert fixes(path) == ["rounding"]


def test_a_sigmoid_far_below_zero_is_the_runtimes(tmp_path: Path) -> None:
    """They compute exp(x) below -9, so that its inverse is 1 less; a step is 21."""
    middle = (
        op("SUB", ["r0", "nine"], ["r1"], "SubOptions"),
        op("LOGISTIC", ["r1"], ["r2"]),
        op("DIV", ["one", "r2"], ["r3"], "DivOptions"),
        op("SUB", ["r3", "middle"], ["r4"], "SubOptions"),
    )
    numbers = {"nine": 9.0, "one": 1.0, "middle": 10700.0}
    stored = [constant(name, [number], "float32") for name, number in numbers.items()]
    x, y = (2.0**-9, 127), (21.0, 0)
    found = hold(island(tmp_path, *middle, stored=stored, shape=(1, 256), x=x, y=y))
    assert found.graph.nodes[-1].op == "lut"


def test_margins_do_not_cancel(tmp_path: Path) -> None:
    """exp(x) less exp(x + 1)/e is nothing but what a runtime rounds."""
    middle = (
        op("EXP", ["r0"], ["r1"]),
        op("ADD", ["r0", "one"], ["r2"], "AddOptions"),
        op("EXP", ["r2"], ["r3"]),
        op("MUL", ["r3", "e"], ["r4"], "MulOptions"),
        op("SUB", ["r1", "r4"], ["r5"], "SubOptions"),
    )
    stored = [constant("one", [1.0], "float32"), constant("e", [np.exp(-1.0)], "float32")]
    assert fixes(island(tmp_path, *middle, stored=stored, y=(2.0**-24, 0))) == ["rounding"]


@pytest.mark.parametrize("code", ["HARD_SWISH", "SQUARED_DIFFERENCE", "SQUARE", "ABS"])
def test_intervals_around_an_extremum_reach_it(code: str) -> None:
    values = np.tile(np.asarray([0.25], np.float32), (3, 1))
    values[1:] = [[-1.0], [2.0]]
    call = _Call(code)
    pair = [values, np.zeros_like(values)] if code == "SQUARED_DIFFERENCE" else [values]
    value, low, high = islands._apply(call, pair)[:, 0]
    points = np.linspace(-1, 2, 301, dtype=np.float32)
    real = np.asarray([_plain(code, float(p)) for p in points], dtype=np.float32)
    assert low <= real.min() and real.max() <= high and low <= value <= high


class _Call:
    """What `_apply` asks of an operator."""

    def __init__(self, code: str) -> None:
        self.code = code

    def option(self, name: str, default: Any) -> Any:
        return default


def _plain(code: str, x: float) -> float:
    known = {"HARD_SWISH": x * min(max(x + 3, 0), 6) / 6, "ABS": abs(x)}
    return known.get(code, x * x)


@pytest.mark.data("litert")
@pytest.mark.parametrize("code", ["COS", "SIN", "ELU", "EXP", "LOG", "LOGISTIC", "TANH"])
def test_the_margin_is_three_times_what_runtimes_need(code: str) -> None:
    size = 5000
    tensors = [activation(name, (1, size), dtype="float32") for name in ("x", "y")]
    blob = build(tensors=tensors, operators=[op(code, ["x"], ["y"])], inputs=["x"], outputs=["y"])
    rng, wheel = np.random.default_rng(4), Wheel(blob)
    litert = None if code == "ELU" else Litert(blob)  # its reference kernels have none
    for limit in (0.1, 1.0, 10.0, 40.0, 85.0):
        low = 2.0**-100 if code == "LOG" else -limit
        x = rng.uniform(low, limit, (1, size)).astype(np.float32)
        wheel.run(x)
        exact = islands.LIBRARY[code](x.astype(np.float64))
        found = [wheel.output()]
        if litert is not None:
            found.extend(y for _, y in litert.run(x))
        for y in found:
            allowed = islands.MARGIN * np.abs(exact) / 3 + islands.TINIEST
            assert (np.abs(y - exact) <= allowed).all()
