"""Reals inside an integer network of TFLite: functions of one int8 code become tables.

What the converter cannot quantise it leaves in float32, between a DEQUANTIZE and a QUANTIZE: ELU, a
negation, x * sigmoid(x) spelled out. While every operator of such an island works element by
element, on the tensor that was dequantised and on stored numbers, each of its values is a function
of one code. It is computed here for all 256 codes, in float32 and in the runtime's order, and
QUANTIZE becomes a `lut`; what else reads such a value gets it from `dequantize` with a table.

Sums, products, quotients and roots are exact float32, the same everywhere. exp, log, tanh and the
like are not: runtimes differ in their last bits. Those are carried along with a margin, and an
island whose codes depend on it is refused.
"""

from __future__ import annotations

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
"""Of a function of the C library, relative to its largest intermediate result: 4 bits of float32.
"""
FLOAT = np.float32
Options = Mapping[str, Any]


def _leaky(x: AnyArray, alpha: AnyArray) -> AnyArray:
    return np.asarray(np.where(x >= 0, x, x * alpha))


def _hard_swish(x: AnyArray) -> AnyArray:
    return np.asarray(x * np.minimum(np.maximum(x + FLOAT(3), FLOAT(0)), FLOAT(6)) / FLOAT(6))


EXACT: dict[str, Callable[..., AnyArray]] = {
    "ABS": lambda x: np.abs(x),
    "ADD": np.add,
    "CEIL": np.ceil,
    "DIV": np.divide,
    "FLOOR": np.floor,
    "HARD_SWISH": _hard_swish,
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
    "SQUARED_DIFFERENCE": lambda a, b: np.square(a - b),
    "SUB": np.subtract,
}
"""float32 operators that IEEE 754 defines, or that are made of those."""
FUSED = ("ADD", "DIV", "MUL", "SUB")


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
    "LOGISTIC": lambda x: 1 / (1 + np.exp(-x)),
    "POW": np.power,
    "SIN": np.sin,
    "TANH": np.tanh,
}
"""Operators made of functions of the C library, here in float64."""
TABULATED = frozenset((*EXACT, *LIBRARY))
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
    """float32 [3, 256]: for the codes -128..127 the values, and two that margins are added to."""


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
    """Return the operator's float32 results, the margins of rows 1 and 2 added."""
    with np.errstate(all="ignore"):
        if call.code in EXACT:
            if call.code == "LEAKY_RELU":
                arguments = [*arguments, np.asarray(call.option("alpha", 0.0), dtype=FLOAT)]
            found = EXACT[call.code](*arguments).astype(FLOAT)
            if call.code in FUSED:
                low, high = real_bounds(call)
                found = np.clip(found, FLOAT(low), FLOAT(high))
            return np.asarray(found)
        wide = [argument.astype(np.float64) for argument in arguments]
        extra = (bool(call.option("approximate", False)),) if call.code == "GELU" else ()
        found = LIBRARY[call.code](*wide, *extra)
        margin = MARGIN * (np.abs(found) + (np.abs(wide[0]) if call.code == "GELU" else 0))
        if call.code == "ELU":
            margin = np.where(wide[0] < 0, margin, 0.0)
        found = found + margin * np.asarray([[0.0], [-1.0], [1.0]])
        return np.asarray(found.astype(FLOAT))


def _is_real(operand: Operand | None) -> bool:
    return operand is not None and operand.is_float


def _described(operand: Operand) -> str:
    stored = "stored " if operand.is_const else ""
    kind = "float32" if operand.is_float else operand.type.dtype.value
    return f"{stored}{kind}{list(operand.shape)}"
