"""uint8 models, as LiteRT's reference kernels compute them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from .base import Case, activation, cases, constant, single
from .weighted import CONV, DEPTHWISE, SAME, VALID, Shape

ENCODINGS = ((0.05, 120), (0.02, 0), (0.1, 255), (0.004, 130))
"""Scale and zero point of the input."""
IMAGE = (1, 4, 5, 3)
CODES = (1, 3, 100)
"""Small enough that random samples show most codes."""


def _u8(name: str, shape: tuple[int, ...], scale: float, zero: int) -> Any:
    return activation(name, shape, scale, zero, "uint8")


def _single(code: str, label: str, *rest: Any, **options: Any) -> Case:
    return single(code, f"uint8, {label}", *rest, **options, runtime="litert")


@cases("CONV_2D", "DEPTHWISE_CONV_2D", "TRANSPOSE_CONV")
def convolution(code: str) -> Iterator[Case]:
    shapes = {"CONV_2D": CONV, "DEPTHWISE_CONV_2D": DEPTHWISE}.get(code, TRANSPOSED)
    for index, shape in enumerate(s for s in shapes if s.bias and s.dtype == "int8"):
        # Weights whose codes without the zero point fit int8, and such that do not.
        zero, spread = ((121, 120), (0, 255), (255, 255), (133, 122))[index % 4]
        yield _convolution(code, shape, zero, spread)
    yield _on_ties(code)


TRANSPOSED = (
    Shape(label="3x3 same", x=(1, 4, 3, 3), w=(4, 3, 3, 3), stride=(2, 2)),
    Shape(label="3x3 valid", x=(1, 4, 3, 3), w=(4, 3, 3, 3), stride=(2, 2), padding=VALID),
    Shape(label="2x2 stride 1", x=(1, 4, 3, 2), w=(3, 2, 2, 2)),
    Shape(label="1x1", x=(1, 4, 3, 5), w=(2, 1, 1, 5)),
)


def _convolution(code: str, s: Shape, w_zero: int, spread: int) -> Case:
    rng = np.random.default_rng(len(s.label) + w_zero)
    depthwise = code == "DEPTHWISE_CONV_2D"
    channels = s.w[3] if depthwise else s.w[0]
    low, high = max(0, w_zero - spread), min(255, w_zero + spread)
    w = constant("w", rng.integers(low, high + 1, size=s.w), "uint8", [0.011], [w_zero])
    taps = s.w[1] * s.w[2] * (1 if depthwise else s.w[3])
    sums = float(np.sqrt(taps) * 74 * 74)
    bias = rng.integers(int(-sums), int(sums) + 1, size=channels)
    b = constant("b", bias, "int32", [float(np.float32(0.05) * np.float32(0.011))])
    x = _u8("x", s.x, 0.05, s.x_zero + 128)
    step = float(np.float32(sums * 0.05 * 0.011 / 60 / s.multiplier))
    values = {"StrideH": s.stride[0], "StrideW": s.stride[1], "Padding": s.padding}
    if code == "TRANSPOSE_CONV":
        rows, columns = (
            n * step_ + (max(k - step_, 0) if s.padding == VALID else 0)
            for n, k, step_ in zip(s.x[1:3], s.w[1:3], s.stride, strict=True)
        )
        size = (1, rows, columns, channels)
        inputs = [constant("size", size), w, x, b]
        y = _u8("y", size, step, s.y_zero + 128)
        return _single(code, s.label, inputs, [y], "TransposeConvOptions", values, version=3)
    values |= {"DilationHFactor": s.dilation[0], "DilationWFactor": s.dilation[1]}
    values["FusedActivationFunction"] = s.activation
    if depthwise:
        values["DepthMultiplier"] = channels // s.x[3]
    y = _u8("y", (1, *s.size(), channels), step, s.y_zero + 128)
    options = "DepthwiseConv2DOptions" if depthwise else "Conv2DOptions"
    return _single(code, s.label, [x, w, b], [y], options, values)


def _on_ties(code: str) -> Case:
    """Sums of the bias alone, next to those where the last bits of the multiplier decide."""
    count, scales = 500, (0.037, 0.0091, 4.1)
    real = scales[0] * scales[1] / scales[2]
    sums = np.rint((np.arange(count) - count // 2 + 0.5) / 2.5 / real)
    b = constant("b", sums, "int32", [float(np.float32(scales[0]) * np.float32(scales[1]))])
    shape = (1, 1, 1, count) if code == "DEPTHWISE_CONV_2D" else (count, 1, 1, 1)
    w = constant("w", np.full(shape, 121), "uint8", [scales[1]], [120])
    x, y = _u8("x", (1, 1, 1, 1), scales[0], 128), _u8("y", (1, 1, 1, count), scales[2], 128)
    values = {"StrideH": 1, "StrideW": 1, "Padding": VALID}
    if code == "TRANSPOSE_CONV":
        inputs = [constant("size", (1, 1, 1, count)), w, x, b]
        return _single(code, "on ties", inputs, [y], "TransposeConvOptions", values, version=3)
    values |= {"DilationHFactor": 1, "DilationWFactor": 1}
    options = "Conv2DOptions"
    if code == "DEPTHWISE_CONV_2D":
        options, values["DepthMultiplier"] = "DepthwiseConv2DOptions", count
    return _single(code, "on ties", [x, w, b], [y], options, values)


@cases("FULLY_CONNECTED")
def fully_connected(code: str) -> Iterator[Case]:
    for label, x, w, values in (
        ("features", (1, 33), (7, 33), {}),
        ("several rows", (6, 8), (5, 8), {}),
        ("keeps dimensions", (1, 3, 4, 8), (5, 8), {"KeepNumDims": True}),
        ("relu", (1, 12), (9, 12), {"FusedActivationFunction": 1}),
        ("relu n1 to 1", (1, 12), (9, 12), {"FusedActivationFunction": 2}),
        ("relu6", (1, 12), (9, 12), {"FusedActivationFunction": 3}),
    ):
        for w_zero, spread in ((120, 119), (7, 255)):
            yield _rows(f"{label}, weights of {w_zero}", x, w, values, w_zero, spread)
    yield _rows("no bias", (1, 20), (6, 20), {}, 128, 127, bias=False)
    # A product that is a tie: the runtime rounds a float64, away from zero.
    sums = np.arange(-20000, 20000, 37)
    count = len(sums)
    b = constant("b", sums, "int32", [0.25])
    w = constant("w", np.full((count, 1), 121), "uint8", [0.5], [120])
    x, y = _u8("x", (1, 1), 0.5, 128), _u8("y", (1, count), 64.0, 128)
    yield _single(code, "on ties", [x, w, b], [y], "FullyConnectedOptions", {})


def _rows(
    label: str,
    x_shape: tuple[int, ...],
    w_shape: tuple[int, int],
    values: dict[str, Any],
    w_zero: int,
    spread: int,
    *,
    bias: bool = True,
) -> Case:
    rng = np.random.default_rng(len(label))
    outputs, taps = w_shape
    low, high = max(0, w_zero - spread), min(255, w_zero + spread)
    w = constant("w", rng.integers(low, high + 1, size=w_shape), "uint8", [0.011], [w_zero])
    sums = np.sqrt(taps) * 74 * 74
    scale = [float(np.float32(0.05) * np.float32(0.011))]
    b = constant("b", rng.integers(int(-sums), int(sums), size=outputs), "int32", scale)
    rows = int(np.prod(x_shape)) // taps
    y_shape = (*x_shape[:-1], outputs) if values.get("KeepNumDims") else (rows, outputs)
    y = _u8("y", y_shape, float(np.float32(sums * 0.05 * 0.011 / 60)), 130)
    inputs = [_u8("x", x_shape, 0.05, 90), w, b if bias else None]
    return _single("FULLY_CONNECTED", label, inputs, [y], "FullyConnectedOptions", values)


@cases("AVERAGE_POOL_2D", "MAX_POOL_2D")
def pool(code: str) -> Iterator[Case]:
    for index, (scale, zero) in enumerate(ENCODINGS):
        for padding in (SAME, VALID):
            size = IMAGE[1:3] if padding == SAME else (2, 4)
            values = {"FilterHeight": 3, "FilterWidth": 2, "StrideH": 1, "StrideW": 1}
            values |= {"Padding": padding, "FusedActivationFunction": (index + padding) % 4}
            x, y = _u8("x", IMAGE, scale, zero), _u8("y", (1, *size, 3), scale, zero)
            yield _single(code, f"{zero}/{padding}", [x], [y], "Pool2DOptions", values)


@cases("ADD", "SUB", "MUL")
def pair(code: str) -> Iterator[Case]:
    options = f"{code.capitalize()}Options"
    for number, (scale, zero) in enumerate(ENCODINGS):
        step = 0.07 if code != "MUL" else scale * 8
        inputs = [_u8("a", CODES, scale, zero), _u8("b", CODES, 0.04, 99)]
        values = {"FusedActivationFunction": number}
        y = _u8("y", CODES, step, 140)
        yield _single(code, f"{zero}", inputs, [y], options, values)
    inputs = [_u8("a", IMAGE, 0.05, 3), _u8("b", (1, 1, 1, 3), 0.04, 250)]
    y = _u8("y", IMAGE, 0.05, 99)
    yield _single(code, "broadcast", inputs, [y], options, {})


@cases("MAXIMUM", "MINIMUM")
def larger(code: str) -> Iterator[Case]:
    for scale, zero in ENCODINGS:
        inputs = [_u8("a", IMAGE, scale, zero), _u8("b", (1, 1, 1, 3), scale, zero)]
        y = _u8("y", IMAGE, scale, zero)
        yield _single(code, f"{zero}", inputs, [y], "MaximumMinimumOptions", {})


@cases("LOGISTIC", "TANH", "HARD_SWISH", "RELU", "RELU6", "RELU_N1_TO_1", "LEAKY_RELU")
def function(code: str) -> Iterator[Case]:
    ends = {"LOGISTIC": (1 / 256, 0), "TANH": (1 / 128, 128)}
    options, values = "", {}
    if code == "LEAKY_RELU":
        options, values = "LeakyReluOptions", {"Alpha": 0.13}
    ratios = (1.0,) if code in ends else (1.0, 0.8, 1.6)
    for scale, zero in ENCODINGS:
        for ratio in ratios:
            moved = zero if ratio == 1.0 else min(zero, 200)
            y = _u8("y", CODES, *ends.get(code, (scale * ratio, moved)))
            x = _u8("x", CODES, scale, zero)
            yield _single(code, f"{zero}/{ratio}", [x], [y], options, values)
    y = _u8("y", CODES, *ends.get(code, (1.0, 255)))
    yield _single(code, "to 255 below 0", [_u8("x", CODES, 1.0, 255)], [y], options, values)


@cases("SOFTMAX")
def softmax(code: str) -> Iterator[Case]:
    for scale, zero in ENCODINGS:
        x, y = _u8("x", (1, 4, 33), scale, zero), _u8("y", (1, 4, 33), 1 / 256, 0)
        yield _single(code, f"{zero}", [x], [y], "SoftmaxOptions", {"Beta": 1.0})


@cases("PRELU")
def prelu(code: str) -> Iterator[Case]:
    slopes = np.random.default_rng(4).integers(0, 256, size=(1, 1, 100))
    alpha = constant("alpha", slopes, "uint8", [0.01], [102])
    for scale, zero in ENCODINGS:
        x, y = _u8("x", CODES, scale, zero), _u8("y", CODES, scale * 0.8, min(zero, 200))
        yield _single(code, f"{zero}", [x, alpha], [y])


@cases("MEAN", "SUM", "REDUCE_MAX", "REDUCE_MIN")
def reduction(code: str) -> Iterator[Case]:
    axes = constant("axes", [1, 2])
    for scale, zero in ENCODINGS:
        for ratio in (1.0,) if code.startswith("REDUCE") else (1.0, 0.7):
            step = scale * ratio * (8 if code == "SUM" else 1)
            end = zero if ratio == 1.0 else 100
            x, y = _u8("x", IMAGE, scale, zero), _u8("y", (1, 3), step, end)
            yield _single(code, f"{zero}/{ratio}", [x, axes], [y], "ReducerOptions", {})


@cases("CONCATENATION")
def concatenation(code: str) -> Iterator[Case]:
    values = {"Axis": 2}
    for scale, zero in ENCODINGS:
        inputs = [_u8("a", CODES, scale, zero), _u8("b", CODES, 0.03, 50)]
        y = _u8("y", (1, 3, 200), 0.05, 77)
        yield _single(code, f"{zero}", inputs, [y], "ConcatenationOptions", values)
    inputs = [_u8("a", CODES, 0.05, 9), _u8("b", CODES, 0.05, 9)]
    y = _u8("y", (1, 3, 200), 0.05, 9)
    yield _single(code, "one encoding", inputs, [y], "ConcatenationOptions", values)


@cases("QUANTIZE")
def quantize(code: str) -> Iterator[Case]:
    for scale, zero in ENCODINGS:
        u8, s8 = _u8("y", CODES, scale, zero), activation("y", CODES, scale, zero - 128)
        plain = activation("x", CODES, dtype="float32")
        other = activation("x", CODES, 0.07, 3)
        yield _single(code, f"float to {zero}", [plain], [u8], "QuantizeOptions")
        yield _single(code, f"to {zero}", [_u8("x", CODES, 0.05, 99)], [u8], "QuantizeOptions")
        yield _single(code, f"to int8 {zero}", [_u8("x", CODES, 0.05, 99)], [s8], "QuantizeOptions")
        yield _single(code, f"int8 to {zero}", [other], [u8], "QuantizeOptions")


@cases("DEQUANTIZE")
def dequantize(code: str) -> Iterator[Case]:
    for scale, zero in ENCODINGS:
        y = activation("y", CODES, dtype="float32")
        yield _single(code, f"{zero}", [_u8("x", CODES, scale, zero)], [y], "DequantizeOptions")


MOVES: dict[str, tuple[str, tuple[int, ...], tuple[tuple[int, ...], ...], dict[str, Any]]] = {
    # code: options, axes and the like of the second input, shapes of outputs, values
    "PAD": ("PadOptions", (0, 0, 1, 2, 0, 1, 0, 0), ((1, 7, 6, 3),), {}),
    "MIRROR_PAD": ("MirrorPadOptions", (0, 0, 1, 2, 0, 1, 0, 0), ((1, 7, 6, 3),), {"Mode": 0}),
    "TRANSPOSE": ("TransposeOptions", (0, 2, 1, 3), ((1, 5, 4, 3),), {}),
    "RESHAPE": ("ReshapeOptions", (1, 60), ((1, 60),), {}),
    "RESIZE_NEAREST_NEIGHBOR": (
        "ResizeNearestNeighborOptions",
        (8, 9),
        ((1, 8, 9, 3),),
        {"HalfPixelCenters": True},
    ),
    "UNPACK": ("UnpackOptions", (), ((1, 4, 5),) * 3, {"Axis": 3, "Num": 3}),
}


@cases(*MOVES)
def move(code: str) -> Iterator[Case]:
    options, second, shapes, values = MOVES[code]
    for scale, zero in ENCODINGS:
        x = _u8("x", IMAGE, scale, zero)
        ys = [_u8(f"y{i}", shape, scale, zero) for i, shape in enumerate(shapes)]
        numbers = np.asarray(second)
        if "PAD" in code:
            numbers = numbers.reshape(4, 2)
        inputs = [x, constant("numbers", numbers)] if second else [x]
        yield _single(code, f"{zero}", inputs, ys, options, values)


@cases("PADV2", "SPLIT", "SPLIT_V", "SLICE", "STRIDED_SLICE", "PACK")
def move_with_more(code: str) -> Iterator[Case]:
    one = (1, 2, 5, 3)
    for scale, zero in ENCODINGS:
        x, z = _u8("x", IMAGE, scale, zero), _u8("z", IMAGE, scale, zero)
        half = [_u8(f"y{i}", one, scale, zero) for i in range(2)]
        first, count = constant("first", (0, 1, 0, 0)), constant("count", (1, 2, 5, 3))
        label = f"{zero}"
        if code == "PADV2":
            pads = constant("pads", [[0, 0], [1, 2], [0, 1], [0, 0]])
            value = constant("value", [7], "uint8", [scale], [zero])
            y = _u8("y", (1, 7, 6, 3), scale, zero)
            yield _single(code, label, [x, pads, value], [y], "PadV2Options")
        elif code == "SPLIT":
            yield _single(
                code, label, [constant("d", 1), x], half, "SplitOptions", {"NumSplits": 2}
            )
        elif code == "SPLIT_V":
            inputs = [x, constant("sizes", [2, 2]), constant("d", 1)]
            yield _single(code, label, inputs, half, "SplitVOptions", {"NumSplits": 2})
        elif code == "SLICE":
            yield _single(code, label, [x, first, count], half[:1], "SliceOptions")
        elif code == "STRIDED_SLICE":
            inputs = [x, first, constant("end", (1, 3, 5, 3)), constant("step", (1, 1, 1, 1))]
            yield _single(code, label, inputs, half[:1], "StridedSliceOptions")
        else:
            y = replace(x, name="y", shape=(2, *IMAGE))
            yield _single(code, label, [x, z], [y], "PackOptions", {"ValuesCount": 2})
