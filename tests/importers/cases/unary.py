"""Operators of one tensor, element by element, and SOFTMAX; PRELU with its stored slopes."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from .base import Case, activation, cases, constant, single

SHAPES = ((1, 3, 4, 5), (1, 33), (7,), (1,), (2, 3), (1, 6, 3), (3, 1, 2, 4), (1, 2, 2, 3, 2))
"""Ranks 1 to 5, batches and none, one element."""
ENCODINGS = (
    ("alike", (0.05, 3), (0.05, 3)),
    ("other zero point", (0.05, 3), (0.05, -20)),
    ("finer result", (0.05, -9), (0.013, 7)),
    ("coarser result", (0.02, 11), (0.11, -3)),
    ("zero points at the ends", (0.03, -128), (0.04, 127)),
    ("zero points at the other ends", (0.03, 127), (0.04, -128)),
    ("much finer result", (0.9, 0), (0.002, 0)),
    ("much coarser result", (0.001, 5), (0.7, -100)),
    ("power of two", (0.0625, 0), (0.03125, -128)),
)


def _shape(shape: tuple[int, ...]) -> str:
    return f"shape {'x'.join(map(str, shape))}"


def _unary(
    code: str,
    label: str,
    shape: tuple[int, ...],
    x: tuple[float, int] = (0.05, 3),
    y: tuple[float, int] = (0.04, -7),
    dtype: str = "int8",
    options: str = "",
    values: dict[str, float] | None = None,
) -> Case:
    inputs = [activation("x", shape, *x, dtype)]
    return single(code, label, inputs, [activation("y", shape, *y, dtype)], options, values)


def _floats(
    code: str, options: str = "", values: dict[str, float] | None = None, least: int = 2
) -> Iterator[Case]:
    """Float graphs of the first `least` shapes."""
    for shape in SHAPES[:least]:
        yield _unary(
            code,
            f"float, {_shape(shape)}",
            shape,
            dtype="float32",
            options=options,
            values=values,
        )


@cases("RELU", "RELU6", "ABS", "ELU")
def free(code: str) -> Iterator[Case]:
    """Any encoding before and after."""
    for label, x, y in ENCODINGS:
        yield _unary(code, label, (1, 4, 4, 5), x, y)
    for shape in SHAPES[1:5]:
        yield _unary(code, _shape(shape), shape)
    yield from _floats(code)


@cases("HARD_SWISH")
def hard_swish(code: str) -> Iterator[Case]:
    """The runtime takes Sx <= 128 Sy."""
    for label, x, y in ENCODINGS:
        if x[0] <= 128 * y[0]:
            yield _unary(code, label, (1, 4, 4, 5), x, y)
    yield _unary(code, "factor shifts right", (1, 99), (0.0001, 1), (0.0001, 0))
    yield _unary(code, "factor saturates", (1, 99), (10.0, -3), (8.0, -120))
    for shape in SHAPES[1:4]:
        yield _unary(code, _shape(shape), shape)
    yield from _floats(code)


@cases("LOGISTIC", "TANH")
def bounded(code: str) -> Iterator[Case]:
    """The output's encoding is fixed."""
    y = (1 / 256, -128) if code == "LOGISTIC" else (1 / 128, 0)
    for label, x, _ in ENCODINGS:
        yield _unary(code, label, (1, 4, 4, 5), x, y)
    yield _unary(code, "beyond the range", (1, 99), (1.7, 30), y)
    yield _unary(code, "no range at all", (1, 99), (20.0, 2), y)
    for shape in SHAPES[1:4]:
        yield _unary(code, _shape(shape), shape, y=y)
    yield from _floats(code)


@cases("RSQRT")
def rsqrt(code: str) -> Iterator[Case]:
    """The runtime stops at codes below the zero point, so that every code must be above."""
    for label, x, y in ENCODINGS:
        yield _unary(code, label, (1, 4, 4, 5), (x[0], -128), y)
    for shape in SHAPES[1:4]:
        yield _unary(code, _shape(shape), shape, (0.05, -128))
    yield from _floats(code)


@cases("LEAKY_RELU")
def leaky_relu(code: str) -> Iterator[Case]:
    """Slopes of both signs, above 1 too."""
    options = "LeakyReluOptions"
    for (label, x, y), alpha in zip(
        ENCODINGS, (0.2, 0.01, 0.3, 0.0, 1.7, -0.5, 0.1, 0.25, 1.0), strict=True
    ):
        values = {"Alpha": alpha}
        yield _unary(code, label, (1, 4, 4, 5), x, y, options=options, values=values)
    for shape in SHAPES[1:4]:
        yield _unary(code, _shape(shape), shape, options=options, values={"Alpha": 0.125})
    yield from _floats(code, options, {"Alpha": 0.3})


SLOPES = (
    ("channels", (1, 4, 4, 5), (1, 1, 5)),
    ("channels, all axes", (1, 4, 4, 5), (1, 1, 1, 5)),
    ("channels, one axis", (1, 4, 4, 5), (5,)),
    ("one slope", (1, 4, 4, 5), (1,)),
    ("every element", (1, 3, 4, 5), (3, 4, 5)),
    ("rows", (1, 3, 4, 5), (3, 1, 1)),
    ("features", (1, 33), (33,)),
    ("vector", (7,), (7,)),
    ("batch", (2, 5), (5,)),
    ("sequence", (1, 6, 3), (1, 3)),
)


@cases("PRELU")
def prelu(code: str) -> Iterator[Case]:
    rng = np.random.default_rng(8)
    for label, x_shape, shape in SLOPES:
        data = rng.integers(-128, 128, size=shape)
        yield _prelu(code, label, x_shape, data, ENCODINGS[2])
    for named in ENCODINGS[:6]:
        data = rng.integers(-128, 128, size=(1, 1, 5))
        yield _prelu(code, named[0], (1, 4, 4, 5), data, named, zero=-17)
    for label, x_shape, shape in SLOPES[:2]:
        x, y = (activation(name, x_shape, dtype="float32") for name in "xy")
        alpha = constant("alpha", rng.normal(size=shape), "float32")
        yield single(code, f"float, {label}", [x, alpha], [y])


def _prelu(
    code: str,
    label: str,
    shape: tuple[int, ...],
    data: np.ndarray,
    named: tuple[str, tuple[float, int], tuple[float, int]],
    zero: int = 0,
) -> Case:
    _, x, y = named
    alpha = constant("alpha", data, "int8", [0.011], [zero])
    inputs = [activation("x", shape, *x), alpha]
    return single(code, label, inputs, [activation("y", shape, *y)])


OPTIONS = {
    "EXP": "ExpOptions",
    "NEG": "NegOptions",
    "COS": "CosOptions",
    "SQUARE": "SquareOptions",
}


@cases("CEIL", "COS", "EXP", "FLOOR", "LOG", "NEG", "ROUND", "SIN", "SQRT", "SQUARE")
def float_only(code: str) -> Iterator[Case]:
    """The runtime has no integer kernel; NaN where a function has no value."""
    yield from _floats(code, OPTIONS.get(code, ""), least=len(SHAPES))
    for size in (2, 8, 64, 300):
        yield from (_unary(code, f"float, {size} numbers", (1, size), dtype="float32"),)


@cases("SOFTMAX")
def softmax(code: str) -> Iterator[Case]:
    y = (1 / 256, -128)
    for shape in ((1, 10), (1, 3, 4, 5), (5,), (1, 6, 3), (4, 7), (1, 2), (1, 300), (1, 1)):
        yield _softmax(code, _shape(shape), shape, (0.05, 3), y, 1.0)
    for scale, beta in ((0.3, 1.0), (0.02, 0.4), (0.001, 1.0), (1.5, 1.0), (0.1, 2.5)):
        label = f"scale {scale}, beta {beta}"
        yield _softmax(code, label, (1, 3, 11), (scale, -128), y, beta)
    for shape in ((1, 10), (1, 3, 4, 5)):
        yield _softmax(code, f"float, {_shape(shape)}", shape, (0, 0), (0, 0), 0.7, "float32")


def _softmax(
    code: str,
    label: str,
    shape: tuple[int, ...],
    x: tuple[float, int],
    y: tuple[float, int],
    beta: float,
    dtype: str = "int8",
) -> Case:
    return _unary(code, label, shape, x, y, dtype, "SoftmaxOptions", {"Beta": beta})


CARRIERS = (
    ("float32", "int8"),
    ("int8", "int8"),
    ("uint8", "int8"),
    ("int8", "uint8"),
    ("int16", "int8"),
    ("int8", "int16"),
    ("int16", "int16"),
)
ZEROS = {"int8": -7, "uint8": 121, "int16": 0, "float32": 0}


@cases("QUANTIZE")
def quantize(code: str) -> Iterator[Case]:
    for before, after in CARRIERS:
        for sx, sy in ((0.05, 0.05), (0.05, 0.013), (0.02, 0.11)):
            label = f"{before} to {after}, {sx} to {sy}"
            x = (sx, ZEROS[before])
            yield _convert(code, label, (1, 4, 4, 5), before, after, x, (sy, ZEROS[after]))
    yield _convert(code, "pixels", (1, 4, 4, 3), "uint8", "int8", (1 / 255, 0), (1 / 255, -128))
    scores = ((1 / 256, -128), (1 / 256, 0))
    yield _convert(code, "scores", (1, 10), "int8", "uint8", *scores)
    for zero in (-128, 127):
        label = f"float32, zero point {zero}"
        yield _convert(code, label, (1, 99), "float32", "int8", (0, 0), (0.02, zero))
    for shape in SHAPES[1:4]:
        yield _convert(code, _shape(shape), shape, "float32", "int8", (0, 0), (0.03, 1))


@cases("DEQUANTIZE")
def dequantize(code: str) -> Iterator[Case]:
    for scale in (0.05, 1 / 256, 3e-6, 77.7):
        for dtype, zeros in (("int8", (3, -128)), ("uint8", (128, 0))):
            for zero in zeros:
                label = f"{dtype}, {scale:.3g}, {zero}"
                yield _convert(code, label, (1, 4, 9), dtype, "float32", (scale, zero), (0, 0))
    for shape in SHAPES[1:4]:
        yield _convert(code, _shape(shape), shape, "int8", "float32", (0.1, 0), (0, 0))


def _convert(
    code: str,
    label: str,
    shape: tuple[int, ...],
    before: str,
    after: str,
    x: tuple[float, int],
    y: tuple[float, int],
) -> Case:
    options = "QuantizeOptions" if code == "QUANTIZE" else "DequantizeOptions"
    inputs = [activation("x", shape, *x, before)]
    return single(code, label, inputs, [activation("y", shape, *y, after)], options, {})
