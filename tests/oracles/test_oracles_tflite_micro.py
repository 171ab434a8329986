"""The oracles against the reference kernels of TensorFlow Lite Micro (the PyPI wheel).

Every case is a file of one operator with random parameters, written here and run by the wheel.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from tflite_builder import Operator, Tensor, build, quantize_multiplier

from . import oracle
from .softmax import softmax_of_row

pytestmark = pytest.mark.data("tflite-micro")

CASES = 150
ACTIVATIONS = {"NONE": 0, "RELU": 1, "RELU_N1_TO_1": 2, "RELU6": 3}
PADDINGS = {"SAME": 0, "VALID": 1}
Runner = Callable[[bytes, np.ndarray], np.ndarray]


@pytest.fixture(scope="module")
def tflite_micro() -> Runner:
    try:
        from tflite_micro import runtime
    except ImportError:
        pytest.skip("tflite-micro not installed")

    def run(model: bytes, x: np.ndarray) -> np.ndarray:
        interpreter = runtime.Interpreter.from_bytes(model, arena_size=1 << 20)
        interpreter.set_input(x, 0)
        interpreter.invoke()
        return interpreter.get_output(0)

    return run


class Draw:
    """Random parameters of one case; the seed fixes them."""

    def __init__(self, op: str, seed: int) -> None:
        self.rng = np.random.default_rng([*op.encode(), seed])
        self.input_scale, self.output_scale = self.scale(), self.scale()
        self.input_zero, self.output_zero = self.integer(-128, 127), self.integer(-128, 127)
        self.activation = str(self.rng.choice(list(ACTIVATIONS)))
        self.padding = str(self.rng.choice(list(PADDINGS)))

    def integer(self, low: int, high: int) -> int:
        return int(self.rng.integers(low, high, endpoint=True))

    def scale(self, low: float = 1e-4, high: float = 1.0) -> np.float32:
        """Uniform in its logarithm."""
        return np.float32(math.exp(self.rng.uniform(math.log(low), math.log(high))))

    def codes(self, *shape: int, low: int = -128) -> np.ndarray:
        return self.rng.integers(low, 127, shape, dtype=np.int8, endpoint=True)

    def fit_output_scale(self, terms: int, weight_scale: float) -> None:
        """An output range that the sums fill, so that few results saturate or vanish."""
        spread = float(self.input_scale) * weight_scale * 74 * 105 * math.sqrt(terms)
        self.output_scale = np.float32(spread / self.rng.uniform(20, 120))

    def clamp(self) -> tuple[int, int]:
        """The codes that the fused activation allows."""

        def code(value: float) -> int:
            quotient = np.float32(value) / self.output_scale
            return self.output_zero + int(math.copysign(math.floor(abs(quotient) + 0.5), value))

        ends = {"NONE": (), "RELU": (0,), "RELU_N1_TO_1": (-1, 1), "RELU6": (0, 6)}
        codes = [code(value) for value in ends[self.activation]]
        low = max(-128, codes[0]) if codes else -128
        return low, min(127, codes[1]) if len(codes) > 1 else 127

    def input(self, x: np.ndarray) -> Tensor:
        return quantised("x", x.shape, self.input_scale, self.input_zero)

    def output(self, shape: tuple[int, ...]) -> Tensor:
        return quantised("y", shape, self.output_scale, self.output_zero)


def quantised(name: str, shape: tuple[int, ...], scale: np.float32, zero: int) -> Tensor:
    return Tensor(
        name=name, shape=shape, dtype="int8", scale=(float(scale),), zero_point=(int(zero),)
    )


def window_axis(
    size: int, kernel: int, stride: int, dilation: int, padding: str
) -> tuple[int, int, int]:
    """Output size and padding (before, after) of one axis under TensorFlow's SAME and VALID."""
    extent = dilation * (kernel - 1) + 1
    if padding == "VALID":
        return (size - extent) // stride + 1, 0, 0
    out = -(-size // stride)
    total = max((out - 1) * stride + extent - size, 0)
    return out, total // 2, total - total // 2


class Window:
    """A random window over a random image; it fits the image."""

    def __init__(self, draw: Draw, dilated: bool) -> None:
        self.kernel = draw.integer(1, 4), draw.integer(1, 4)
        self.stride = draw.integer(1, 3), draw.integer(1, 3)
        # TensorFlow Lite takes strides or dilation; drawing one of them 1 covers both.
        dilated = dilated and draw.integer(0, 2) == 0
        self.dilation = (draw.integer(1, 2), draw.integer(1, 2)) if dilated else (1, 1)
        extents = [d * (k - 1) + 1 for d, k in zip(self.dilation, self.kernel, strict=True)]
        self.size = tuple(draw.integer(extent, extent + 4) for extent in extents)
        vertical, horizontal = (
            window_axis(*axis, draw.padding)
            for axis in zip(self.size, self.kernel, self.stride, self.dilation, strict=True)
        )
        self.out = vertical[0], horizontal[0]
        self.pad = vertical[1], horizontal[1], vertical[2], horizontal[2]
        self.options = {
            "Padding": PADDINGS[draw.padding],
            "StrideH": self.stride[0],
            "StrideW": self.stride[1],
            "FusedActivationFunction": ACTIVATIONS[draw.activation],
        }
        self.dilations = {
            "DilationHFactor": self.dilation[0],
            "DilationWFactor": self.dilation[1],
        }


def one_operator(operator: Operator, *tensors: Tensor) -> bytes:
    return build(tensors=tensors, operators=[operator], inputs=["x"], outputs=["y"])


def weights_and_bias(
    draw: Draw, w: np.ndarray, scales: np.ndarray, axis: int, zero: bool
) -> tuple[Tensor, Tensor | None, np.ndarray | None]:
    """The tensors of the weights and the bias, and the bias (None for a third of the cases)."""
    zeros = (0,) * len(scales)
    weights = Tensor.constant("w", w, scale=tuple(scales.tolist()), zero_point=zeros, axis=axis)
    if zero:
        return weights, None, None
    limit = max(1, int(float(draw.output_scale) * 60 / (float(draw.input_scale) * scales.max())))
    outputs = w.shape[axis]
    b = draw.rng.integers(-limit, limit, outputs, dtype=np.int32, endpoint=True)
    bias_scales = tuple((draw.input_scale * scales).tolist())
    return weights, Tensor.constant("b", b, scale=bias_scales, zero_point=zeros), b


def multipliers(reals: np.ndarray) -> dict[str, np.ndarray]:
    pairs = np.array([quantize_multiplier(float(real)) for real in reals], dtype=np.int64)
    return {"mult": pairs[:, 0], "shift": pairs[:, 1]}


def wide(array: np.ndarray | None) -> np.ndarray | None:
    return None if array is None else array.astype(np.int64)


def expected(op: str, inputs: dict, attrs: dict, draw: Draw) -> np.ndarray:
    zeros = {"x": draw.input_zero, "y": draw.output_zero}
    widened = {field: wide(array) for field, array in inputs.items()}
    return oracle(op)(widened, attrs, zeros)


@pytest.mark.parametrize("op", ["conv2d", "depthwise_conv2d"])
def test_convolutions_equal_tflite_micro(op: str, tflite_micro: Runner) -> None:
    for seed in range(CASES):
        draw = Draw(op, seed)
        window = Window(draw, dilated=True)
        channels = draw.integer(1, 4)
        x = draw.codes(draw.integer(1, 2), *window.size, channels)
        if op == "conv2d":
            outputs, multiplier = draw.integer(1, 4), {}
            w = draw.codes(outputs, *window.kernel, channels, low=-127)
            ours, axis, table = w, 0, "Conv2DOptions"
        else:
            multiplier = {"DepthMultiplier": draw.integer(1, 3)}
            outputs = channels * multiplier["DepthMultiplier"]
            w = draw.codes(1, *window.kernel, outputs, low=-127)
            ours, axis, table = w[0], 3, "DepthwiseConv2DOptions"
        scales = np.array([draw.scale(0.01, 0.1) for _ in range(outputs)])
        draw.fit_output_scale(w.size // outputs, float(scales.mean()))
        weights, bias, b = weights_and_bias(draw, w, scales, axis, zero=seed % 3 == 0)
        y = draw.output((x.shape[0], *window.out, outputs))
        operator = Operator(
            code=op.upper().replace("CONV2D", "CONV_2D"),
            inputs=("x", "w", "b") if bias else ("x", "w"),  # None as bias crashes the wheel
            outputs=("y",),
            options=table,
            values=window.options | window.dilations | multiplier,
            version=3,
        )
        tensors = (draw.input(x), weights, *([bias] if bias else []), y)
        got = tflite_micro(one_operator(operator, *tensors), x)
        reals = float(draw.input_scale) * scales.astype(np.float64) / float(draw.output_scale)
        attrs = {
            "stride": window.stride,
            "pad": window.pad,
            "dilation": window.dilation,
            "clamp": draw.clamp(),
            "round": "tflite_double",
        }
        want = expected(op, {"x": x, "w": ours, "b": b} | multipliers(reals), attrs, draw)
        np.testing.assert_array_equal(got, want, err_msg=f"{op}, seed {seed}")


def test_linear_equals_tflite_micro(tflite_micro: Runner) -> None:
    for seed in range(2 * CASES):
        draw = Draw("linear", seed)
        x = draw.codes(draw.integer(1, 3), draw.integer(1, 40))
        w = draw.codes(draw.integer(1, 12), x.shape[1], low=-127)
        scale = draw.scale(1e-4, 1.0)
        draw.fit_output_scale(x.shape[1], float(scale))
        if seed % 5 < 2:  # small sums
            x, w, draw.input_zero = x // 32, w // 32, draw.integer(-4, 4)
        if seed % 5 == 0:  # multipliers around and above 1: shifts to the left
            draw.output_scale = np.float32(float(draw.input_scale * scale) / draw.scale(0.3, 20))
        if seed % 5 == 1:  # multipliers that are powers of two: ties in both roundings
            draw.input_scale, scale = np.float32(1 / 64), np.float32(1 / 128)
            draw.output_scale = np.float32(2.0 ** draw.integer(-13, -9))
        weights, bias, b = weights_and_bias(draw, w, np.array([scale]), 0, zero=seed % 3 == 0)
        operator = Operator(
            code="FULLY_CONNECTED",
            inputs=("x", "w", "b" if bias else None),
            outputs=("y",),
            options="FullyConnectedOptions",
            values={"FusedActivationFunction": ACTIVATIONS[draw.activation]},
            version=4,
        )
        y = draw.output((x.shape[0], w.shape[0]))
        tensors = (draw.input(x), weights, *([bias] if bias else []), y)
        got = tflite_micro(one_operator(operator, *tensors), x)
        real = float(draw.input_scale) * float(scale) / float(draw.output_scale)
        inputs = {"x": x, "w": w, "b": b} | multipliers(np.array([real]))
        attrs = {"clamp": draw.clamp(), "round": "tflite_double"}
        want = expected("linear", inputs, attrs, draw)
        np.testing.assert_array_equal(got, want, err_msg=f"linear, seed {seed}")


@pytest.mark.parametrize("code", ["FULLY_CONNECTED", "CONV_2D"])
def test_tflite_micro_multiplies_scales_in_float64(code: str, tflite_micro: Runner) -> None:
    """The multipliers above, on one sum of -1 where float32 would give another result.

    float32(1/3) * 3 is 1 in float32 and more than 1 in float64: -1/2 rounds up to 0, less than
    -1/2 rounds to -1. (Some versions of the library multiply in float32 for FULLY_CONNECTED.)
    """
    linear = code == "FULLY_CONNECTED"
    shape = (1, 1) if linear else (1, 1, 1, 1)
    x, w = np.full(shape, -1, dtype=np.int8), np.ones(shape, dtype=np.int8)
    operator = Operator(
        code=code,
        inputs=("x", "w"),
        outputs=("y",),
        options="FullyConnectedOptions" if linear else "Conv2DOptions",
        values={} if linear else {"StrideH": 1, "StrideW": 1},
        version=3,
    )
    weights = Tensor.constant("w", w, scale=(3.0,), zero_point=(0,))
    y = quantised("y", shape, np.float32(2), 0)
    model = one_operator(operator, quantised("x", shape, np.float32(1 / 3), 0), weights, y)
    assert tflite_micro(model, x).item() == -1


@pytest.mark.parametrize("op", ["max_pool2d", "avg_pool2d"])
def test_pools_equal_tflite_micro(op: str, tflite_micro: Runner) -> None:
    code = {"max_pool2d": "MAX_POOL_2D", "avg_pool2d": "AVERAGE_POOL_2D"}[op]
    for seed in range(CASES):
        draw = Draw(op, seed)
        draw.output_scale, draw.output_zero = draw.input_scale, draw.input_zero
        if op == "max_pool2d":
            draw.activation = "NONE"
        window = Window(draw, dilated=False)
        x = draw.codes(draw.integer(1, 2), *window.size, draw.integer(1, 4))
        kernel = {"FilterHeight": window.kernel[0], "FilterWidth": window.kernel[1]}
        operator = Operator(
            code=code,
            inputs=("x",),
            outputs=("y",),
            options="Pool2DOptions",
            values=window.options | kernel,
            version=2,
        )
        y = draw.output((x.shape[0], *window.out, x.shape[3]))
        got = tflite_micro(one_operator(operator, draw.input(x), y), x)
        attrs = {
            "kernel": window.kernel,
            "stride": window.stride,
            "pad": window.pad,
            "clamp": draw.clamp(),
            "round": "away",
        }
        want = expected(op, {"x": x}, attrs, draw)
        np.testing.assert_array_equal(got, want, err_msg=f"{op}, seed {seed}")


def softmax_attributes(scale: np.float32, beta: np.float32) -> dict[str, int]:
    """PreprocessSoftmaxScaling and CalculateInputRadius of TensorFlow Lite, 5 integer bits."""
    real = min(float(beta) * float(scale) * 2**26, float(2**31 - 1))
    mult, shift = quantize_multiplier(real)
    return {"mult": mult, "shift": shift, "diff_min": -math.floor(31 * 2**26 / 2**shift)}


# Found by a random search of rows whose 16-bit result changes with one detail of the arithmetic:
# how a division, a product, the half sum is rounded; 1 as 2^31 - 1; the number of Newton steps.
SHARP_ROWS = (
    (0.0473, [31, 33, 4, -9]),
    (0.0701, [-11, -40]),
    (0.14, [28, 14]),
    (0.041, [10, -40, -14, -22]),
    (0.0284, [4, 13, 14]),
    (0.05, [-25, -35]),
    (0.0088, [14, 31]),
    (0.0271, [7, -23, -11]),
    (0.0162, [10, -34]),
    (0.0055, [-28, 6, 34, -33]),
    (0.0136, [6, -5]),
    (0.0523, [12, -35, 6]),
    (0.2406, [38, -7, -15]),
    (0.2978, [-40, -16, -40, 20]),
)


def softmax_cases() -> Iterator[tuple[np.float32, np.float32, np.ndarray]]:
    """Input scale, beta and codes."""
    for scale, row in SHARP_ROWS:
        yield np.float32(scale), np.float32(1), np.array([row], dtype=np.int8)
    for seed in range(CASES):
        draw = Draw("softmax", seed)
        scale = draw.scale(1e-6, 8.0) if seed % 4 == 0 else draw.scale(3e-3, 0.3)
        x = draw.codes(draw.integer(1, 3), draw.integer(1, 60))
        beta = np.float32(draw.rng.choice([1.0, 1.0, 0.5, 1.7]))
        yield scale, beta, x // 16 if seed % 2 == 0 else x  # close codes: all of them count


@pytest.mark.parametrize("bits", [8, 16])
def test_softmax_equals_tflite_micro(bits: int, tflite_micro: Runner) -> None:
    """16-bit results are not an operator of ours: they show eight more bits of the same sums."""
    for scale, beta, x in softmax_cases():
        operator = Operator(
            code="SOFTMAX",
            inputs=("x",),
            outputs=("y",),
            options="SoftmaxOptions",
            values={"Beta": float(beta)},
            version=2,
        )
        y = Tensor(
            name="y",
            shape=x.shape,
            dtype=f"int{bits}",
            scale=(2.0**-bits,),
            zero_point=(-(2 ** (bits - 1)),),
        )
        model = one_operator(operator, quantised("x", x.shape, scale, 0), y)
        attrs = softmax_attributes(scale, beta)
        if bits == 8:
            want = oracle("softmax")({"x": wide(x)}, attrs, {})
        else:
            want = [softmax_of_row(row, **attrs, output_bits=bits) for row in x.tolist()]
        got = tflite_micro(model, x)
        np.testing.assert_array_equal(got, want, err_msg=f"softmax, scale {scale}, beta {beta}")
