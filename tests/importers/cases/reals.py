"""Operators that are imported of float32, and GELU, which LiteRT also has of int8."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from .base import Case, activation, cases, constant, single
from .unary import ENCODINGS, SHAPES

PAIRS = (
    ((1, 3, 4, 5), (1, 3, 4, 5)),
    ((1, 3, 4, 5), (5,)),
    ((1, 3, 4, 5), (1, 1, 1, 5)),
    ((1, 3, 4, 5), (1, 3, 4, 1)),
    ((1, 3, 4, 5), (1,)),
    ((1, 6), (1, 6)),
    ((1, 6), ()),
    ((7,), (7,)),
    ((2, 3), (2, 1)),
    ((2, 3), (3,)),
    ((1, 4, 3), (1, 1, 3)),
    ((1, 4, 3), (4, 1)),
)


def _label(a: tuple[int, ...], b: tuple[int, ...]) -> str:
    return f"{'x'.join(map(str, a))} and {'x'.join(map(str, b)) or 'a scalar'}"


@cases("DIV")
def div(code: str) -> Iterator[Case]:
    """Without ranks that only the broadcasts of some runtimes take."""
    for a, b in PAIRS:
        numbers = np.random.default_rng(5).uniform(0.3, 3.0, size=b) * (-1) ** len(b)
        inputs = [activation("x", a, dtype="float32"), constant("k", numbers, "float32")]
        y = activation("y", a, dtype="float32")
        yield single(code, _label(a, b), inputs, [y], "DivOptions", {})
    for fused, name in ((1, "RELU"), (3, "RELU6")):
        inputs = [activation("x", (1, 4, 3), dtype="float32"), constant("k", [0.7], "float32")]
        y = activation("y", (1, 4, 3), dtype="float32")
        yield single(code, name, inputs, [y], "DivOptions", {"FusedActivationFunction": fused})


@cases("SQUARED_DIFFERENCE")
def squared_difference(code: str) -> Iterator[Case]:
    for a, b in PAIRS:
        inputs = [activation("x", a, dtype="float32"), activation("k", b, dtype="float32")]
        yield single(code, _label(a, b), inputs, [activation("y", a, dtype="float32")])
    k = constant("k", np.arange(5) - 2.5, "float32")
    inputs = [activation("x", (1, 3, 5), dtype="float32"), k]
    yield single(code, "a constant", inputs, [activation("y", (1, 3, 5), dtype="float32")])


@cases("GELU")
def gelu(code: str) -> Iterator[Case]:
    """tflite-micro has no kernel of it."""
    for approximate in (False, True):
        values = {"Approximate": approximate}
        name = "tanh" if approximate else "erf"
        for label, x, y in ENCODINGS:
            xs, ys = [activation("x", (1, 256), *x)], [activation("y", (1, 256), *y)]
            text = f"{name}, {label}"
            yield single(code, text, xs, ys, "GeluOptions", values, version=2, runtime="litert")
        for shape in SHAPES[:2]:
            xs = [activation("x", shape, dtype="float32")]
            ys = [activation("y", shape, dtype="float32")]
            text = f"{name}, float, rank {len(shape)}"
            yield single(code, text, xs, ys, "GeluOptions", values, runtime="litert")
