"""ADD and SUB."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from .base import Case, activation, cases, constant, single

OPTIONS = {"ADD": "AddOptions", "SUB": "SubOptions"}
SHAPES = (
    ("image", (1, 3, 4, 5), (1, 3, 4, 5)),
    ("features", (1, 33), (1, 33)),
    ("one value", (1, 7), (1, 1)),
    ("channels to image", (1, 3, 4, 5), (1, 1, 1, 5)),
    ("lower rank", (1, 3, 4, 5), (5,)),
    ("row to column", (1, 1, 4, 5), (1, 3, 1, 5)),
    ("rank 3", (1, 6, 3), (1, 6, 1)),
    ("first is smaller", (1, 1, 1, 2), (1, 3, 3, 2)),
)
SCALES = (
    ("alike", (0.05, 3), (0.04, -7), (0.08, 1)),
    ("zero points at the ends", (0.03, -128), (0.05, 127), (0.06, -128)),
    ("coarse sum", (0.02, 0), (0.002, 5), (0.4, 127)),
    ("fine sum", (0.2, 0), (0.3, 9), (0.05, 0)),
)


@cases("ADD", "SUB")
def add(code: str) -> Iterator[Case]:
    for label, a, b in SHAPES:
        yield _case(code, label, a, b, SCALES[0][1:], 0)
    for label, *scales in SCALES[1:]:
        yield _case(code, label, (1, 4, 9), (1, 4, 9), scales, 0)
    for number, name in ((1, "RELU"), (2, "RELU_N1_TO_1"), (3, "RELU6")):
        yield _case(code, name, (1, 5, 5, 3), (1, 5, 5, 3), SCALES[0][1:], number)
    yield _float(code, "float", 0)
    yield _float(code, "float RELU6", 3)
    x = activation("x", (1, 3, 6), 0.05, 2)
    y = activation("y", (1, 3, 6), 0.07, -3)
    yield single(code, "with itself", [x, x], [y], OPTIONS[code], _values(0))
    stored = np.random.default_rng(3).integers(-128, 128, size=(1, 3, 6))
    k = constant("k", stored, "int8", [0.03], [4])
    yield single(code, "a constant second", [x, k], [y], OPTIONS[code], _values(0))
    yield single(code, "a constant first", [k, x], [y], OPTIONS[code], _values(0))
    channel = constant("k", stored[0, 0], "int8", [0.03], [4])
    yield single(code, "a constant vector", [x, channel], [y], OPTIONS[code], _values(1))


def _values(activation_number: int) -> dict[str, int]:
    return {"FusedActivationFunction": activation_number}


def _case(
    code: str,
    label: str,
    a: tuple[int, ...],
    b: tuple[int, ...],
    scales: list[tuple[float, int]],
    number: int,
) -> Case:
    shape = np.broadcast_shapes(a, b)
    (sa, za), (sb, zb), (sy, zy) = scales
    inputs = [activation("a", a, sa, za), activation("b", b, sb, zb)]
    return single(
        code, label, inputs, [activation("y", shape, sy, zy)], OPTIONS[code], _values(number)
    )


def _float(code: str, label: str, number: int) -> Case:
    inputs = [activation(n, (1, 3, 4), dtype="float32") for n in ("a", "b")]
    y = activation("y", (1, 3, 4), dtype="float32")
    return single(code, label, inputs, [y], OPTIONS[code], _values(number))
