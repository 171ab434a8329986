"""int8 models with `--runtime litert`, where LiteRT's kernels differ from tflite-micro."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from .base import Case, activation, cases, constant, single
from .uint8 import CODES, ENCODINGS


def _single(code: str, label: str, *rest: Any, **options: Any) -> Case:
    return single(code, f"LiteRT, {label}", *rest, **options, runtime="litert")


@cases("FULLY_CONNECTED")
def fully_connected(code: str) -> Iterator[Case]:
    """Sums of the bias alone: ties of a power of two, and steps next to ties."""
    for label, scales, step in (("ties", (0.5, 0.5), 64.0), ("near ties", (0.037, 0.0091), 4.1)):
        sums = np.rint(np.arange(-300, 300) / 2 * step / np.prod(scales) / 2.5)
        b = constant("b", sums, "int32", [float(np.prod(np.float32(scales)))])
        w = constant("w", np.ones((600, 1)), "int8", [scales[1]])
        x, y = activation("x", (1, 1), scales[0]), activation("y", (1, 600), step, 3)
        yield _single(code, label, [x, w, b], [y], "FullyConnectedOptions", {}, version=4)
    # Also of tflite-micro, weights may have a zero point here.
    w = np.random.default_rng(1).integers(-128, 128, size=(5, 12))
    inputs = [activation("x", (1, 12), 0.05, 3), constant("w", w, "int8", [0.01], [9]), None]
    y = activation("y", (1, 5), 0.1, -4)
    options = "FullyConnectedOptions"
    yield _single(code, "weights with a zero point", inputs, [y], options, {}, version=4)
    yield single(code, "weights with a zero point", inputs, [y], options, {}, version=4)


@cases("MUL")
def mul(code: str) -> Iterator[Case]:
    for scale, zero in ENCODINGS:
        inputs = [activation("a", CODES, scale, zero - 128), activation("b", CODES, 0.04, -29)]
        y = activation("y", CODES, scale * 8, 12)
        yield _single(code, f"{zero}", inputs, [y], "MulOptions", {})


@cases("LOGISTIC", "TANH", "RELU", "RELU6", "RELU_N1_TO_1", "LEAKY_RELU")
def function(code: str) -> Iterator[Case]:
    ends = {"LOGISTIC": (1 / 256, -128), "TANH": (1 / 128, 0)}
    options, values = "", {}
    if code == "LEAKY_RELU":
        options, values = "LeakyReluOptions", {"Alpha": 0.13}
    for scale, zero in ENCODINGS:
        for ratio in (1.0,) if code in ends else (1.0, 0.8, 1.6):
            end = zero - 128 if ratio == 1.0 else min(zero, 200) - 128
            x = activation("x", CODES, scale, zero - 128)
            y = activation("y", CODES, *ends.get(code, (scale * ratio, end)))
            yield _single(code, f"{zero}/{ratio}", [x], [y], options, values)


@cases("PRELU")
def prelu(code: str) -> Iterator[Case]:
    slopes = np.random.default_rng(4).integers(-128, 128, size=(1, 1, 100))
    alpha = constant("alpha", slopes, "int8", [0.01], [-26])
    for scale, zero in ENCODINGS:
        x = activation("x", CODES, scale, zero - 128)
        y = activation("y", CODES, scale * 0.8, min(zero, 200) - 128)
        yield _single(code, f"{zero}", [x, alpha], [y])
