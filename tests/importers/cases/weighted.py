"""CONV_2D, DEPTHWISE_CONV_2D and FULLY_CONNECTED."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from .base import Case, activation, cases, constant, single

SAME, VALID = 0, 1
NONE, RELU, RELU_N1_TO_1, RELU6 = range(4)


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """A convolution: input [1,H,W,C] and weights as the file has them."""

    label: str
    x: tuple[int, ...]
    w: tuple[int, ...]
    stride: tuple[int, int] = (1, 1)
    dilation: tuple[int, int] = (1, 1)
    padding: int = SAME
    activation: int = NONE
    x_zero: int = 3
    y_zero: int = -5
    per_channel: bool = True
    bias: bool = True
    dtype: str = "int8"
    multiplier: float = 1.0

    def size(self) -> tuple[int, int]:
        """Rows and columns of the output."""
        found = []
        for axis in (0, 1):
            span = (self.w[1 + axis] - 1) * self.dilation[axis] + 1
            free = self.x[1 + axis] - (span - 1 if self.padding == VALID else 0)
            found.append(-(-free // self.stride[axis]))
        return found[0], found[1]


CONV = (
    Shape(label="1x1", x=(1, 5, 4, 7), w=(6, 1, 1, 7)),
    Shape(label="3x3 same", x=(1, 6, 5, 3), w=(4, 3, 3, 3)),
    Shape(label="3x3 valid", x=(1, 6, 5, 3), w=(4, 3, 3, 3), padding=VALID),
    Shape(label="stride 2 same, odd", x=(1, 7, 7, 2), w=(3, 3, 3, 2), stride=(2, 2)),
    Shape(label="stride 2 same, even", x=(1, 8, 6, 2), w=(3, 3, 3, 2), stride=(2, 2)),
    Shape(label="unlike strides", x=(1, 9, 8, 2), w=(3, 2, 4, 2), stride=(3, 2), padding=VALID),
    Shape(label="dilation", x=(1, 9, 9, 2), w=(3, 3, 3, 2), dilation=(2, 3)),
    Shape(label="10x4 audio", x=(1, 12, 6, 1), w=(4, 10, 4, 1), stride=(2, 2)),
    Shape(label="one scale", x=(1, 5, 5, 4), w=(5, 3, 3, 4), per_channel=False),
    Shape(label="no bias", x=(1, 5, 5, 4), w=(5, 3, 3, 4), bias=False),
    Shape(label="relu", x=(1, 5, 5, 4), w=(5, 3, 3, 4), activation=RELU),
    Shape(label="relu n1 to 1", x=(1, 5, 5, 4), w=(5, 3, 3, 4), activation=RELU_N1_TO_1),
    Shape(label="relu6", x=(1, 5, 5, 4), w=(5, 3, 3, 4), activation=RELU6),
    Shape(label="zero points low", x=(1, 4, 4, 3), w=(2, 3, 3, 3), x_zero=-128, y_zero=-128),
    Shape(label="zero points high", x=(1, 4, 4, 3), w=(2, 3, 3, 3), x_zero=127, y_zero=127),
    Shape(label="two groups", x=(1, 5, 5, 6), w=(4, 3, 3, 3)),
    Shape(label="deep", x=(1, 3, 3, 33), w=(7, 3, 3, 33)),
    Shape(label="a row", x=(1, 1, 17, 3), w=(4, 1, 5, 3), stride=(1, 2)),
    Shape(label="tiny multiplier", x=(1, 4, 4, 3), w=(4, 3, 3, 3), multiplier=2.0**-9),
    Shape(label="large multiplier", x=(1, 3, 3, 1), w=(2, 1, 1, 1), multiplier=300.0),
    Shape(label="float", x=(1, 6, 5, 3), w=(4, 3, 3, 3), dtype="float32"),
    Shape(
        label="float stride relu6",
        x=(1, 7, 6, 3),
        w=(4, 3, 3, 3),
        stride=(2, 2),
        activation=RELU6,
        dtype="float32",
    ),
)
DEPTHWISE = (
    Shape(label="3x3 same", x=(1, 6, 5, 4), w=(1, 3, 3, 4)),
    Shape(label="3x3 valid", x=(1, 6, 5, 4), w=(1, 3, 3, 4), padding=VALID),
    Shape(label="multiplier 2", x=(1, 5, 5, 3), w=(1, 3, 3, 6)),
    Shape(label="multiplier 8 of one", x=(1, 8, 5, 1), w=(1, 4, 3, 8), stride=(2, 2)),
    Shape(label="multiplier 3", x=(1, 4, 5, 5), w=(1, 2, 3, 15), padding=VALID),
    Shape(label="stride 2 same", x=(1, 7, 8, 3), w=(1, 3, 3, 3), stride=(2, 2)),
    Shape(label="dilation", x=(1, 9, 8, 2), w=(1, 3, 3, 2), dilation=(2, 2)),
    Shape(label="1x1", x=(1, 4, 4, 5), w=(1, 1, 1, 5)),
    Shape(label="5x1", x=(1, 9, 3, 2), w=(1, 5, 1, 2)),
    Shape(label="no bias", x=(1, 5, 5, 4), w=(1, 3, 3, 4), bias=False),
    Shape(label="relu", x=(1, 5, 5, 4), w=(1, 3, 3, 4), activation=RELU),
    Shape(label="relu n1 to 1", x=(1, 5, 5, 4), w=(1, 3, 3, 4), activation=RELU_N1_TO_1),
    Shape(label="relu6", x=(1, 5, 5, 4), w=(1, 3, 3, 4), activation=RELU6),
    Shape(label="zero points low", x=(1, 4, 4, 3), w=(1, 3, 3, 3), x_zero=-128, y_zero=-128),
    Shape(label="zero points high", x=(1, 4, 4, 3), w=(1, 3, 3, 3), x_zero=127, y_zero=127),
    Shape(label="one scale", x=(1, 4, 4, 3), w=(1, 3, 3, 3), per_channel=False),
    Shape(label="float", x=(1, 6, 5, 3), w=(1, 3, 3, 6), dtype="float32"),
    Shape(
        label="float relu",
        x=(1, 6, 5, 3),
        w=(1, 3, 3, 3),
        stride=(2, 2),
        activation=RELU,
        dtype="float32",
    ),
)


@cases("CONV_2D")
def conv_2d(code: str) -> Iterator[Case]:
    for shape in CONV:
        yield _convolution(code, shape, shape.w[0], 0)
    # Converters have written the axis of the weights beside a bias of rank 1.
    yield _convolution(code, replace(CONV[1], label="bias with axis 3"), 4, 0, bias_axis=3)


@cases("DEPTHWISE_CONV_2D")
def depthwise_conv_2d(code: str) -> Iterator[Case]:
    for shape in DEPTHWISE:
        yield _convolution(code, shape, shape.w[3], 3)


def _convolution(code: str, s: Shape, channels: int, axis: int, bias_axis: int = 0) -> Case:
    rng = np.random.default_rng(len(s.label) * 7 + channels)
    y_shape = (1, *s.size(), channels)
    values: dict[str, Any] = {
        "StrideH": s.stride[0],
        "StrideW": s.stride[1],
        "DilationHFactor": s.dilation[0],
        "DilationWFactor": s.dilation[1],
        "Padding": s.padding,
        "FusedActivationFunction": s.activation,
    }
    options = "Conv2DOptions"
    if code == "DEPTHWISE_CONV_2D":
        options = "DepthwiseConv2DOptions"
        values["DepthMultiplier"] = channels // s.x[3]
    x = activation("x", s.x, 0.05, s.x_zero, s.dtype)
    if s.dtype == "float32":
        w = constant("w", rng.normal(size=s.w), "float32")
        b = constant("b", rng.normal(size=channels), "float32")
        y = activation("y", y_shape, dtype="float32")
        return single(code, s.label, [x, w, b], [y], options, values)
    scales = rng.uniform(0.004, 0.02, size=channels if s.per_channel else 1).astype(np.float32)
    spread = np.sqrt(np.prod(s.w) / (channels if axis == 0 else s.w[3])) * 74 * 74 * 0.05
    y = activation("y", y_shape, float(spread * scales.mean() / 60 / s.multiplier), s.y_zero)
    w = constant("w", rng.integers(-127, 128, size=s.w), "int8", scales.tolist(), axis=axis)
    inputs = [x, w]
    if s.bias:
        limit = int(spread * 20)
        bias = rng.integers(-limit, limit + 1, size=channels)
        own = (np.float32(0.05) * scales).tolist()
        inputs.append(constant("b", bias, "int32", own, axis=bias_axis))
    return single(code, s.label, inputs, [y], options, values, version=3)


ROWS = (
    ("features", (1, 33), (7, 33), (1, 7), {}),
    ("one output", (1, 5), (1, 5), (1, 1), {}),
    ("many outputs", (1, 16), (40, 16), (1, 40), {}),
    ("an image", (1, 3, 4, 5), (6, 60), (1, 6), {}),
    ("several rows", (6, 8), (5, 8), (6, 5), {}),
    ("keeps dimensions", (1, 3, 4, 8), (5, 8), (1, 3, 4, 5), {"KeepNumDims": True}),
    ("rank 3", (1, 7, 4), (3, 4), (1, 7, 3), {"KeepNumDims": True}),
    ("relu", (1, 12), (9, 12), (1, 9), {"FusedActivationFunction": RELU}),
    ("relu n1 to 1", (1, 12), (9, 12), (1, 9), {"FusedActivationFunction": RELU_N1_TO_1}),
    ("relu6", (1, 12), (9, 12), (1, 9), {"FusedActivationFunction": RELU6}),
)


@cases("FULLY_CONNECTED")
def fully_connected(code: str) -> Iterator[Case]:
    for label, x, w, y, values in ROWS:
        yield _rows(code, label, x, w, y, values)
        if label in ("features", "several rows", "relu6"):
            yield _rows(code, f"{label}, float", x, w, y, values, dtype="float32")
    one, two, three = (1, 20), (6, 20), (1, 6)
    yield _rows(code, "no bias", one, two, three, {}, bias=False)
    yield _rows(code, "zero points low", one, two, three, {}, zeros=(-128, -128))
    yield _rows(code, "zero points high", one, two, three, {}, zeros=(127, 127))
    yield _rows(code, "per channel", one, two, three, {}, per_channel=True)
    yield _rows(code, "weights of -128", one, two, three, {}, low=-128)


def _rows(
    code: str,
    label: str,
    x_shape: tuple[int, ...],
    w_shape: tuple[int, int],
    y_shape: tuple[int, ...],
    values: dict[str, Any],
    *,
    dtype: str = "int8",
    bias: bool = True,
    zeros: tuple[int, int] = (4, -6),
    per_channel: bool = False,
    low: int = -127,
) -> Case:
    rng = np.random.default_rng(len(label) + w_shape[1])
    x = activation("x", x_shape, 0.05, zeros[0], dtype)
    outputs, taps = w_shape
    options = "FullyConnectedOptions"
    if dtype == "float32":
        w = constant("w", rng.normal(size=w_shape), "float32")
        b = constant("b", rng.normal(size=outputs), "float32")
        y = activation("y", y_shape, dtype="float32")
        return single(code, label, [x, w, b], [y], options, values)
    count = outputs if per_channel else 1
    scales = rng.uniform(0.004, 0.02, size=count).astype(np.float32)
    spread = np.sqrt(taps) * 74 * 74 * 0.05
    y = activation("y", y_shape, float(spread * scales.mean() / 60), zeros[1])
    w = constant("w", rng.integers(low, 128, size=w_shape), "int8", scales.tolist())
    inputs = [x, w]
    if bias:
        limit = int(spread * 20)
        data = rng.integers(-limit, limit + 1, size=outputs)
        own = (np.float32(0.05) * scales).tolist()
        inputs.append(constant("b", data, "int32", own))
    else:
        inputs.append(None)
    return single(code, label, inputs, [y], options, values, version=4)
