"""MUL, MAXIMUM, MINIMUM, L2_NORMALIZATION."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from .base import Case, activation, cases, constant, single

OPTIONS = {"MUL": "MulOptions", "MAXIMUM": "MaximumMinimumOptions", "MINIMUM": ""}
SHAPES = (
    ("image", (1, 3, 4, 5), (1, 3, 4, 5)),
    ("features", (1, 33), (1, 33)),
    ("one value", (1, 7), (1, 1)),
    ("squeeze and excite", (1, 3, 4, 5), (1, 1, 1, 5)),
    ("mask", (1, 3, 4, 1), (1, 3, 4, 5)),
    ("lower rank", (1, 3, 4, 5), (5,)),
    ("row to column", (1, 1, 4, 5), (1, 3, 1, 5)),
    ("rank 3", (1, 6, 3), (1, 6, 1)),
    ("a batch of two", (2, 6, 3), (2, 6, 1)),
    ("first is smaller", (1, 1, 1, 2), (1, 3, 3, 2)),
)
SCALES = (
    ("alike", (0.05, 3), (0.04, -7), (0.08, 1)),
    ("zero points at the ends", (0.03, -128), (0.05, 127), (0.06, -128)),
    ("zero points at the other ends", (0.03, 127), (0.05, -128), (0.06, 127)),
    ("coarse product", (0.02, 0), (0.002, 5), (0.04, 127)),
    ("fine product", (0.2, 0), (0.3, 9), (0.01, 0)),
    ("nothing left", (1e-5, 0), (1e-6, 9), (0.01, 4)),
)
ONE = ((0.05, 3),) * 3


@cases("MUL")
def mul(code: str) -> Iterator[Case]:
    for label, a, b in SHAPES:
        yield _case(code, label, a, b, SCALES[0][1:])
    for label, *scales in SCALES[1:]:
        yield _case(code, label, (1, 4, 9), (1, 4, 9), scales)
    for number, name in ((1, "RELU"), (2, "RELU_N1_TO_1"), (3, "RELU6")):
        yield _case(code, name, (1, 5, 5, 3), (1, 5, 5, 3), SCALES[0][1:], number=number)
        shapes = ((1, 3, 4), (1, 3, 1))
        yield _case(code, f"float {name}", *shapes, ONE, number=number, dtype="float32")
    yield from _operands(code, (0.03, 4))


@cases("MAXIMUM", "MINIMUM")
def maximum(code: str) -> Iterator[Case]:
    for label, a, b in SHAPES:
        yield _case(code, label, a, b, ONE)
        yield _case(code, f"float, {label}", a, b, ONE, dtype="float32")
    for zero in (-128, 127):
        yield _case(code, f"zero point {zero}", (1, 4, 9), (1, 4, 9), ((0.05, zero),) * 3)
    yield from _operands(code, ONE[0])


@cases("L2_NORMALIZATION")
def l2_normalization(code: str) -> Iterator[Case]:
    for label, shape in (
        ("embedding", (1, 64)),
        ("image", (1, 3, 4, 5)),
        ("rank 3", (1, 6, 3)),
        ("a batch of two", (2, 3, 7)),
        ("one element", (1, 9, 1)),
        ("two elements", (1, 40, 2)),
        ("long", (1, 2000)),
        ("vector", (12,)),
    ):
        yield _vectors(code, label, shape, 3)
        yield _vectors(code, f"float, {label}", shape, 3, "float32")
    for zero in (-128, 0, 127):
        yield _vectors(code, f"zero point {zero}", (1, 5, 5, 3), zero)


def _vectors(code: str, label: str, shape: tuple[int, ...], zero: int, dtype: str = "int8") -> Case:
    x, y = activation("x", shape, 0.05, zero, dtype), activation("y", shape, 1 / 128, 0, dtype)
    return single(code, label, [x], [y], "L2NormOptions", {"FusedActivationFunction": 0})


def _operands(code: str, encoding: tuple[float, int]) -> Iterator[Case]:
    """One operand twice, and stored ones."""
    x = activation("x", (1, 3, 6), *encoding)
    y = activation("y", (1, 3, 6), *(encoding if code != "MUL" else (0.07, -3)))
    scale, zero = encoding
    stored = np.random.default_rng(3).integers(-128, 128, size=(1, 3, 6))
    k = constant("k", stored, "int8", [scale], [zero])
    vector = constant("k", stored[0, 0], "int8", [scale], [zero])
    values = {"FusedActivationFunction": 0} if code == "MUL" else {}
    for label, inputs in (
        ("with itself", [x, x]),
        ("a constant second", [x, k]),
        ("a constant first", [k, x]),
        ("a constant vector", [x, vector]),
    ):
        yield single(code, label, inputs, [y], OPTIONS[code], values)


def _case(
    code: str,
    label: str,
    a: tuple[int, ...],
    b: tuple[int, ...],
    scales: Sequence[tuple[float, int]],
    *,
    number: int = 0,
    dtype: str = "int8",
) -> Case:
    shapes = (a, b, np.broadcast_shapes(a, b))
    first, second, y = (
        activation(n, s, *e, dtype) for n, s, e in zip("aby", shapes, scales, strict=True)
    )
    values = {"FusedActivationFunction": number} if code == "MUL" else {}
    return single(code, label, [first, second], [y], OPTIONS[code], values)
