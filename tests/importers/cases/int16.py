"""int16 activations with int8 weights (16x8), as tflite-micro computes them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from .base import Case, activation, cases, constant, single
from .uint8 import IMAGE, MOVES, TRANSPOSED
from .weighted import CONV, DEPTHWISE, SAME, VALID, Shape

SCALES = (0.001, 2.0**-12, 0.0002, 0.00007)
CODES = (1, 3, 100)
SPREAD = 74 * 19000
"""Of the product of a weight and a code."""
BIASES: dict[str, tuple[str, ...]] = {
    "CONV_2D": ("int64", "int32", ""),
    "FULLY_CONNECTED": ("int64", "int32", ""),
    "DEPTHWISE_CONV_2D": ("int64", ""),
    "TRANSPOSE_CONV": ("int64", ""),
}
"""What the runtime takes; with a bias of int32 its sums have 32 bits."""


def _s16(name: str, shape: tuple[int, ...], scale: float) -> Any:
    return activation(name, shape, scale, 0, "int16")


def _single(code: str, label: str, *rest: Any, **options: Any) -> Case:
    return single(code, f"int16, {label}", *rest, **options)


@cases("CONV_2D", "DEPTHWISE_CONV_2D", "TRANSPOSE_CONV")
def convolution(code: str) -> Iterator[Case]:
    shapes = {"CONV_2D": CONV, "DEPTHWISE_CONV_2D": DEPTHWISE}.get(code, TRANSPOSED)
    wanted = [s for s in shapes if s.dtype == "int8" and s.multiplier == 1 and s.x_zero == 3]
    for index, shape in enumerate(wanted):
        kinds = BIASES[code]
        yield _convolution(code, shape, kinds[index % len(kinds)])


def _convolution(code: str, s: Shape, bias: str) -> Case:
    rng = np.random.default_rng(len(s.label))
    depthwise = code == "DEPTHWISE_CONV_2D"
    channels = s.w[3] if depthwise else s.w[0]
    scales = rng.uniform(0.004, 0.02, size=channels).astype(np.float32)
    axis = 3 if depthwise else 0
    w = constant("w", rng.integers(-127, 128, size=s.w), "int8", scales.tolist(), axis=axis)
    taps = s.w[1] * s.w[2] * (1 if depthwise else s.w[3])
    sums = int(np.sqrt(taps) * SPREAD)
    inputs = [_s16("x", s.x, 0.001), w]
    if bias:
        own = (np.float32(0.001) * scales).tolist()
        inputs.append(constant("b", rng.integers(-sums, sums, size=channels), bias, own))
    step = float(np.float32(sums * 0.001 * scales.mean() / 14000))
    values = {"StrideH": s.stride[0], "StrideW": s.stride[1], "Padding": s.padding}
    label = f"{s.label}, {bias or 'no'} bias"
    if code == "TRANSPOSE_CONV":
        rows, columns = (
            n * stride + (max(k - stride, 0) if s.padding == VALID else 0)
            for n, k, stride in zip(s.x[1:3], s.w[1:3], s.stride, strict=True)
        )
        size = (1, rows, columns, channels)
        inputs = [constant("size", size), w, inputs[0], *inputs[2:]]
        y = _s16("y", size, step)
        return _single(code, label, inputs, [y], "TransposeConvOptions", values, version=4)
    values |= {"DilationHFactor": s.dilation[0], "DilationWFactor": s.dilation[1]}
    values["FusedActivationFunction"] = s.activation
    if depthwise:
        values["DepthMultiplier"] = channels // s.x[3]
    y = _s16("y", (1, *s.size(), channels), step)
    options = "DepthwiseConv2DOptions" if depthwise else "Conv2DOptions"
    return _single(code, label, inputs, [y], options, values, version=4)


@cases("FULLY_CONNECTED")
def fully_connected(code: str) -> Iterator[Case]:
    for number, (x, w) in enumerate((((1, 33), (7, 33)), ((6, 8), (5, 8)), ((1, 12), (9, 12)))):
        for bias in BIASES[code]:
            yield _rows(x, w, bias, number)
    # Sums beyond 32 bits, which only a bias makes.
    b = constant("b", np.arange(-9, 10) * (1 << 33), "int64", [2.0**-20])
    weights = constant("w", np.full((19, 4), 3), "int8", [2.0**-8])
    inputs = [_s16("x", (1, 4), 2.0**-12), weights, b]
    y = _s16("y", (1, 19), 3.7)
    yield _single(code, "wide sums", inputs, [y], "FullyConnectedOptions", version=7)


def _rows(x: tuple[int, int], w_shape: tuple[int, int], bias: str, number: int) -> Case:
    rng = np.random.default_rng(w_shape[1])
    outputs, taps = w_shape
    sums = int(np.sqrt(taps) * SPREAD)
    w = constant("w", rng.integers(-127, 128, size=w_shape), "int8", [0.011])
    own = [float(np.float32(0.001) * np.float32(0.011))]
    b = constant("b", rng.integers(-sums, sums, size=outputs), bias, own) if bias else None
    y = _s16("y", (x[0], outputs), float(np.float32(sums * 0.001 * 0.011 / 14000)))
    values = {"FusedActivationFunction": number}
    label = f"{list(x)}, {bias or 'no'} bias"
    inputs = [_s16("x", x, 0.001), w, b]
    return _single(
        "FULLY_CONNECTED", label, inputs, [y], "FullyConnectedOptions", values, version=7
    )


@cases("AVERAGE_POOL_2D", "MAX_POOL_2D")
def pool(code: str) -> Iterator[Case]:
    for index, scale in enumerate(SCALES):
        for padding in (SAME, VALID):
            size = IMAGE[1:3] if padding == SAME else (2, 4)
            values = {"FilterHeight": 3, "FilterWidth": 2, "StrideH": 1, "StrideW": 1}
            values |= {"Padding": padding, "FusedActivationFunction": (index + padding) % 4}
            x, y = _s16("x", IMAGE, scale), _s16("y", (1, *size, 3), scale)
            yield _single(code, f"{index}/{padding}", [x], [y], "Pool2DOptions", values)


@cases("ADD", "SUB", "MUL")
def pair(code: str) -> Iterator[Case]:
    options = f"{code.capitalize()}Options"
    for number, scale in enumerate(SCALES):
        step = scale * 1.7 if code != "MUL" else scale * 0.0003 * 30000
        inputs = [_s16("a", CODES, scale), _s16("b", CODES, 0.0003)]
        values = {"FusedActivationFunction": number}
        yield _single(code, f"{number}", inputs, [_s16("y", CODES, step)], options, values)
    inputs = [_s16("a", IMAGE, 0.001), _s16("b", (1, 1, 1, 3), 0.0003)]
    step = 0.001 if code != "MUL" else 0.008
    yield _single(code, "broadcast", inputs, [_s16("y", IMAGE, step)], options, {})


@cases("MAXIMUM", "MINIMUM")
def larger(code: str) -> Iterator[Case]:
    for number, scale in enumerate(SCALES):
        inputs = [_s16("a", IMAGE, scale), _s16("b", (1, 1, 1, 3), scale)]
        y = _s16("y", IMAGE, scale)
        yield _single(code, f"{number}", inputs, [y], "MaximumMinimumOptions", {})


@cases("LOGISTIC", "TANH", "SOFTMAX")
def bounded(code: str) -> Iterator[Case]:
    options, values = ("SoftmaxOptions", {"Beta": 1.0}) if code == "SOFTMAX" else ("", {})
    for number, scale in enumerate((*SCALES, 2.0**-11, 0.3)):
        x, y = _s16("x", CODES, scale), _s16("y", CODES, 2.0**-15)
        yield _single(code, f"{number}", [x], [y], options, values)


@cases("RELU", "RELU6", "ABS", "LEAKY_RELU")
def rescaled(code: str) -> Iterator[Case]:
    options, values = ("", {})
    if code == "LEAKY_RELU":
        options, values = "LeakyReluOptions", {"Alpha": 0.13}
    for number, scale in enumerate(SCALES):
        for ratio in (1.0, 0.8, 1.6):
            x, y = _s16("x", CODES, scale), _s16("y", CODES, scale * ratio)
            yield _single(code, f"{number}/{ratio}", [x], [y], options, values)


@cases("MEAN", "SUM")
def reduction(code: str) -> Iterator[Case]:
    axes = constant("axes", [1, 2])
    for number, scale in enumerate(SCALES):
        for ratio in (1.0, 0.7):
            step = scale * ratio * (8 if code == "SUM" else 1)
            x, y = _s16("x", IMAGE, scale), _s16("y", (1, 3), step)
            yield _single(code, f"{number}/{ratio}", [x, axes], [y], "ReducerOptions", {})


@cases("QUANTIZE")
def quantize(code: str) -> Iterator[Case]:
    for number, scale in enumerate(SCALES):
        s8 = activation("y", CODES, scale * 200, 5)
        other = activation("x", CODES, 0.07, 3)
        y = _s16("y", CODES, scale)
        plain = activation("x", CODES, dtype="float32")
        yield _single(code, f"float to {number}", [plain], [y], "QuantizeOptions")
        yield _single(
            code, f"int16 to {number}", [_s16("x", CODES, 0.0005)], [y], "QuantizeOptions"
        )
        yield _single(
            code, f"to int8 {number}", [_s16("x", CODES, 0.0005)], [s8], "QuantizeOptions"
        )
        yield _single(code, f"int8 to {number}", [other], [y], "QuantizeOptions")


@cases("DEQUANTIZE")
def dequantize(code: str) -> Iterator[Case]:
    for number, scale in enumerate(SCALES):
        y = activation("y", CODES, dtype="float32")
        yield _single(code, f"{number}", [_s16("x", CODES, scale)], [y], "DequantizeOptions")


@cases(*(code for code in MOVES if code != "MIRROR_PAD"))
def move(code: str) -> Iterator[Case]:
    options, second, shapes, values = MOVES[code]
    for number, scale in enumerate(SCALES):
        x = _s16("x", IMAGE, scale)
        ys = [_s16(f"y{i}", shape, scale) for i, shape in enumerate(shapes)]
        numbers = np.asarray(second)
        if "PAD" in code:
            numbers = numbers.reshape(4, 2)
        inputs = [x, constant("numbers", numbers)] if second else [x]
        yield _single(code, f"{number}", inputs, ys, options, values)


@cases("PADV2", "SPLIT", "SPLIT_V", "SLICE", "STRIDED_SLICE", "PACK", "CONCATENATION")
def move_with_more(code: str) -> Iterator[Case]:
    one = (1, 2, 5, 3)
    for number, scale in enumerate(SCALES):
        x, z = _s16("x", IMAGE, scale), _s16("z", IMAGE, scale)
        half = [_s16(f"y{i}", one, scale) for i in range(2)]
        first, count = constant("first", (0, 1, 0, 0)), constant("count", (1, 2, 5, 3))
        label = f"{number}"
        if code == "PADV2":
            pads = constant("pads", [[0, 0], [1, 2], [0, 1], [0, 0]])
            value = constant("value", [-777], "int16", [scale])
            y = _s16("y", (1, 7, 6, 3), scale)
            yield _single(code, label, [x, pads, value], [y], "PadV2Options")
        elif code == "SPLIT":
            inputs = [constant("d", 1), x]
            yield _single(code, label, inputs, half, "SplitOptions", {"NumSplits": 2})
        elif code == "SPLIT_V":
            inputs = [x, constant("sizes", [2, 2]), constant("d", 1)]
            yield _single(code, label, inputs, half, "SplitVOptions", {"NumSplits": 2})
        elif code == "SLICE":
            yield _single(code, label, [x, first, count], half[:1], "SliceOptions")
        elif code == "STRIDED_SLICE":
            inputs = [x, first, constant("end", (1, 3, 5, 3)), constant("step", (1, 1, 1, 1))]
            yield _single(code, label, inputs, half[:1], "StridedSliceOptions")
        elif code == "PACK":
            y = replace(x, name="y", shape=(2, *IMAGE))
            yield _single(code, label, [x, z], [y], "PackOptions", {"ValuesCount": 2})
        else:
            y = replace(x, name="y", shape=(1, 4, 5, 6))
            yield _single(code, label, [x, z], [y], "ConcatenationOptions", {"Axis": 3})
