"""Reals inside an integer network of TFLite: functions of one int8 code become tables.

What the converter cannot quantise it leaves in float32, between a DEQUANTIZE and a QUANTIZE: ELU, a
negation, x * sigmoid(x) spelled out. While every operator of such an island works element by
element, on the tensor that was dequantised and on stored numbers, each of its values is a function
of one code. It is computed here for all 256 codes, in float32 and in the runtime's order, and
QUANTIZE becomes a `lut`; what else reads such a value gets it from `dequantize` with a table.

Sums, products, quotients and roots are exact float32, the same everywhere. exp, log, tanh and the
like are not: runtimes differ in their last bits. Their results are intervals, arithmetic on them is
interval arithmetic (rounding to float32 is monotone, so the ends bound what any runtime gets), and
an island one of whose intervals holds a threshold of its codes is refused.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import erf
from typing import Any

import numpy as np

from isobit.core.dtypes import DType
from isobit.core.types import Affine, AnyArray, Raw, Real, TensorType
from isobit.ops.dequantize.op import DequantizeAttrs, DequantizeInputs, table_of
from isobit.ops.foreign import Call, Operand
from isobit.ops.lut.op import LutAttrs, LutInputs
from isobit.ops.quantize.op import thresholds
from isobit.ops.tflite import real_bounds

MARGIN = 2.0**-21
"""Of a function of the C library, relative to its result: at least 4 units in the last place of
float32. Known maxima over all floats are below 1 for exp, expm1, log, sin, cos, pow and erf and 2.2
for tanh (Zimmermann, "Accuracy of Mathematical Functions", table 1); 1/(1 + exp(-x)) rounds three
times, at most 2.5. tests/importers/test_islands.py measures both runtimes: at most 1.3.
"""
TINIEST = 2.0**-146
"""The same for results without 24 bits: 8 of the smallest steps."""
FLOAT = np.float32
Options = Mapping[str, Any]


def _leaky(x: AnyArray, alpha: AnyArray) -> AnyArray:
    return np.asarray(np.where(x >= 0, x, x * alpha))


EXACT: dict[str, Callable[..., AnyArray]] = {
    "ABS": lambda x: np.abs(x),
    "ADD": np.add,
    "CEIL": np.ceil,
    "DIV": np.divide,
    "FLOOR": np.floor,
    "LEAKY_RELU": _leaky,
    "MAXIMUM": np.maximum,
    "MINIMUM": np.minimum,
    "MUL": np.multiply,
    "NEG": np.negative,
    "PRELU": _leaky,
    "RELU": lambda x: np.maximum(x, FLOAT(0)),
    "RELU6": lambda x: np.clip(x, FLOAT(0), FLOAT(6)),
    "RELU_N1_TO_1": lambda x: np.clip(x, FLOAT(-1), FLOAT(1)),
    "ROUND": np.rint,
    "RSQRT": lambda x: FLOAT(1) / np.sqrt(x),
    "SQRT": np.sqrt,
    "SQUARE": np.square,
    "SUB": np.subtract,
}
"""float32 operators that IEEE 754 defines; each is monotone in every argument, or is on both sides
of 0.
"""
COMPOSED = ("HARD_SWISH", "SQUARED_DIFFERENCE")
"""Operators that are several of those."""
FUSED = ("ADD", "DIV", "MUL", "SUB")


def _logistic(x: AnyArray) -> AnyArray:
    """The runtimes' own: `exp(x)` far below 0, which is 1e-4 off, and 1 far above."""
    middle = np.where(x < -9.0, np.exp(x), 1 / (1 + np.exp(-x)))
    return np.asarray(np.where(x > 16.619047164916992, 1.0, middle))


def _gelu(x: AnyArray, approximate: bool) -> AnyArray:
    inner = np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)
    grown = np.tanh(inner) if approximate else np.vectorize(erf)(x / np.sqrt(2))
    return np.asarray(0.5 * x * (1 + grown))


LIBRARY: dict[str, Callable[..., AnyArray]] = {
    "COS": np.cos,
    "ELU": lambda x: np.asarray(np.where(x < 0, np.expm1(x), x)),
    "EXP": np.exp,
    "GELU": _gelu,
    "LOG": np.log,
    "LOGISTIC": _logistic,
    "POW": np.power,
    "SIN": np.sin,
    "TANH": np.tanh,
}
"""Operators made of functions of the C library, here in float64."""
SLOPES = {"COS": 1.0, "GELU": 1.25, "SIN": 1.0}
"""The largest slope of those that are not monotone: how far an interval of x can move them."""
TABULATED = frozenset((*EXACT, *COMPOSED, *LIBRARY))
MOVES = frozenset(
    [
        "BROADCAST_TO",
        "CONCATENATION",
        "DEPTH_TO_SPACE",
        "DEQUANTIZE",
        "EXPAND_DIMS",
        "GATHER",
        "MIRROR_PAD",
        "PACK",
        "PAD",
        "PADV2",
        "QUANTIZE",
        "RESHAPE",
        "REVERSE_V2",
        "SLICE",
        "SPACE_TO_DEPTH",
        "SPLIT",
        "SPLIT_V",
        "SQUEEZE",
        "STRIDED_SLICE",
        "TILE",
        "TRANSPOSE",
        "UNPACK",
    ]
)
"""Operators that compute nothing, so that reals pass through them too."""


@dataclass(frozen=True, slots=True)
class Curve:
    """A real value of an island: a function of the codes of `root`."""

    root: Operand
    values: AnyArray
    """float32 [3, 256]: for the codes -128..127 the values, and the ends of their intervals."""


class Islands:
    """The real values of one integer network, so far."""

    def __init__(self) -> None:
        self._curves: dict[str, Curve] = {}

    def answer(self, call: Call) -> bool:
        """Emit what an operator on reals computes; return whether it was one of an island.

        Raises `Unsupported` for arithmetic on reals that is no function of one code.
        """
        if call.code == "DEQUANTIZE":
            self._enter(call)
            return False
        if call.code == "QUANTIZE":
            return self._leave(call)
        if call.code in MOVES or not any(_is_real(x) for x in (*call.inputs, *call.outputs)):
            return False
        curve = self._computed(call)
        self._curves[call.output().value] = curve
        kind = TensorType((), DType.F32, Real())
        table = call.const("table", curve.values[0], kind)
        value = call.viewed(curve.root.value, call.output().type.shape)
        call.result("dequantize", DequantizeInputs(value, table=table), DequantizeAttrs())
        return True

    def _enter(self, call: Call) -> None:
        x, y = call.operand(0), call.output()
        encoding = x.type.encoding
        one = isinstance(encoding, Affine) and encoding.axis is None
        if one and x.type.dtype is DType.S8 and not x.is_const and y.is_float:
            self._curves[y.value] = Curve(x, np.tile(table_of(x.type), (3, 1)))

    def _leave(self, call: Call) -> bool:
        x, y = call.operand(0), call.output()
        curve = self._curves.get(x.value)
        entered = curve is None or np.array_equal(curve.values[0], table_of(curve.root.type))
        if curve is None or entered or y.type.dtype is not DType.S8:
            return False
        if not np.isfinite(curve.values).all():
            raise call.unsupported(
                "float32 result",
                "a number for every code of the input",
                f"{int((~np.isfinite(curve.values[0])).sum())} codes without one",
                "The runtime's result would be undefined there; clamp the function's input.",
            )
        steps = thresholds(y.scale, y.zero)
        codes = np.searchsorted(steps, curve.values, side="right") - 128
        if (codes != codes[0]).any():
            raise call.unsupported(
                "rounding",
                "codes that do not depend on the last bits of exp, log or tanh",
                f"{int((codes != codes[0]).any(axis=0).sum())} of 256 that do",
                "Runtimes disagree there; convert again after another calibration.",
            )
        table = call.const("table", codes[0].astype(np.int8), TensorType((), DType.S8, Raw()))
        value = call.viewed(curve.root.value, y.type.shape)
        call.result("lut", LutInputs(value, table=table), LutAttrs(""))
        return True

    def _computed(self, call: Call) -> Curve:
        """Return the values of the output for every code."""
        present = [x for x in call.inputs if x is not None]
        curves = [self._curves.get(x.value) for x in present if not x.is_const]
        numbers = [x.data for x in present if x.data is not None]
        roots = {curve.root.value for curve in curves if curve is not None}
        shape = call.output().type.shape
        legal = (
            call.code in TABULATED
            and None not in curves
            and len(roots) == 1
            and all(data.size == 1 and data.dtype.kind == "f" for data in numbers)
            and all(x.type.shape == shape for x in present if not x.is_const)
        )
        if not legal:
            raise call.unsupported(
                "float32 inside an integer network",
                "functions of one int8 code, between DEQUANTIZE and QUANTIZE",
                f"{call.code} of {', '.join(_described(x) for x in present) or 'nothing'}",
                "Convert with all operators in int8 (TFLITE_BUILTINS_INT8), leave this one out of "
                "the network, or import a float conversion of the model and calibrate it.",
            )
        arguments = []
        for x in present:
            data = x.data
            if data is None:
                arguments.append(self._curves[x.value].values)
            else:
                arguments.append(np.full((3, 256), data.reshape(-1)[0], dtype=FLOAT))
        return Curve(
            next(curve.root for curve in curves if curve is not None), _apply(call, arguments)
        )


def _apply(call: Call, arguments: Sequence[AnyArray]) -> AnyArray:
    """Return the operator's float32 results and the ends of their intervals, [3, 256]."""
    with np.errstate(all="ignore"):
        if call.code in LIBRARY:
            return _library(call, [argument.astype(np.float64) for argument in arguments])
        if call.code == "HARD_SWISH":
            (x,) = arguments
            gate = np.clip(x + FLOAT(3), FLOAT(0), FLOAT(6))
            found = _enclosed(np.divide, _enclosed(np.multiply, x, gate), _number(6.0))
        elif call.code == "SQUARED_DIFFERENCE":
            found = _enclosed(np.square, _enclosed(np.subtract, *arguments))
        else:
            if call.code == "LEAKY_RELU":
                arguments = [*arguments, _number(call.option("alpha", 0.0))]
            found = _enclosed(EXACT[call.code], *arguments)
        if call.code in FUSED:
            low, high = real_bounds(call)
            found = np.clip(found, FLOAT(low), FLOAT(high))
        return np.asarray(found.astype(FLOAT))


def _number(value: float) -> AnyArray:
    """Return a number as an argument."""
    return np.full((3, 256), value, dtype=FLOAT)


def _enclosed(function: Callable[..., AnyArray], *arguments: AnyArray) -> AnyArray:
    """Return the values of a function and the ends of its intervals. It is largest and smallest at
    the ends of its arguments' intervals, or where they reach 0.
    """
    ends = [(x[1], x[2], np.clip(x.dtype.type(0), x[1], x[2])) for x in arguments]
    value = function(*(x[0] for x in arguments))
    corners = [value, *(function(*corner) for corner in itertools.product(*ends))]
    return np.stack([value, np.min(corners, axis=0), np.max(corners, axis=0)])


def _library(call: Call, arguments: Sequence[AnyArray]) -> AnyArray:
    x, function = arguments[0], LIBRARY[call.code]
    if call.code == "GELU":
        approximate = bool(call.option("approximate", False))
        value = _gelu(x[0], approximate)
        margin = MARGIN * (np.abs(value) + np.abs(x[0]))  # 1 + erf(x) is near 0 for x below it
    else:
        value = function(*(argument[0] for argument in arguments))
        margin = MARGIN * np.abs(value)
    margin = np.where(value == 0, 0.0, margin + TINIEST)  # sin(0), tanh(0) and log(1) are exact
    if call.code in SLOPES:
        widest = SLOPES[call.code] * np.maximum(x[2] - x[0], x[0] - x[1])
        found = np.stack([value, value - widest - margin, value + widest + margin])
    else:
        if call.code == "ELU":
            margin = np.where(x[0] < 0, margin, 0.0)
        found = _enclosed(function, *arguments)
        found = found + margin * np.asarray([[0.0], [-1.0], [1.0]])
    return np.asarray(found.astype(FLOAT))


def _is_real(operand: Operand | None) -> bool:
    return operand is not None and operand.is_float


def _described(operand: Operand) -> str:
    stored = "stored " if operand.is_const else ""
    kind = "float32" if operand.is_float else operand.type.dtype.value
    return f"{stored}{kind}{list(operand.shape)}"
