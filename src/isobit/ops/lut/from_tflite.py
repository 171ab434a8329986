"""TFLite's operators of one number: int8 tables by the runtime's arithmetic, or float functions."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from isobit.core.dtypes import DType
from isobit.core.types import IntArray, Raw, TensorType
from isobit.ops.foreign import Call, tflite
from isobit.ops.lut import tflm
from isobit.ops.lut.op import LutAttrs, LutInputs
from isobit.ops.lut.tflm import Quantised
from isobit.ops.tflite import computed, require_types

TABLES: dict[str, tuple[str, Callable[[Quantised], IntArray]]] = {
    "ABS": ("abs", tflm.absolute),
    "ELU": ("elu", tflm.elu),
    "HARD_SWISH": ("hardswish", tflm.hard_swish),
    "LOGISTIC": ("sigmoid", tflm.logistic),
    "RSQRT": ("rsqrt", tflm.rsqrt),
    "TANH": ("tanh", tflm.tanh),
}
"""Of int8 or float: our function of reals, TFLM's table."""
FLOATS = {
    "CEIL": "ceil",
    "COS": "cos",
    "EXP": "exp",
    "FLOOR": "floor",
    "LOG": "log",
    "NEG": "neg",
    "ROUND": "round",
    "SIN": "sin",
    "SQRT": "sqrt",
    "SQUARE": "square",
}
"""TFLM computes these in float32 only."""


@tflite("ABS", "ELU", "HARD_SWISH", "LOGISTIC", "RSQRT", "TANH")
def function(call: Call) -> None:
    """x: any shape. Sources: see `ops/lut/tflm.py`."""
    name, table = TABLES[call.code]
    require_types(call, "s8")
    if call.is_float:
        call.result("lut", LutInputs(computed(call)), LutAttrs(name))
        return
    q = quantised(call)
    if call.code == "LOGISTIC" and q.zy != -128:
        raise call.unsupported(
            "zero point of the output", "-128", str(q.zy), "The runtime wants it; convert again."
        )
    if call.code == "HARD_SWISH":
        _check_hard_swish(call, q)
    if call.code == "RSQRT":
        _check_rsqrt(call, q)
    tabulated(call, table(q))


@tflite(*FLOATS)
def float_function(call: Call) -> None:
    """x: float32 of any shape. Source: TFLM `kernels/elementwise.cc` and files of these names."""
    if not call.is_float:
        raise call.unsupported(
            "types",
            "a graph of float32",
            call.operand(0).type.dtype.value,
            "The runtime has no integer kernel of it; keep it out of the quantised part.",
        )
    call.result("lut", LutInputs(computed(call)), LutAttrs(FLOATS[call.code]))


@tflite("LEAKY_RELU")
def leaky_relu(call: Call) -> None:
    """x: any shape; `alpha` of any sign. Source: TFLM `kernels/leaky_relu_common.cc`."""
    require_types(call, "s8")
    alpha = float(call.option("alpha", 0.0))
    if call.is_float:
        attrs = LutAttrs("leaky_relu", negative_slope=alpha)
        call.result("lut", LutInputs(computed(call)), attrs)
        return
    q = quantised(call)
    below = abs(tflm.leaky_relu_factors(q, alpha)[1])
    if not below < tflm.LARGEST_RATIO:
        raise call.unsupported(
            "alpha * Sx / Sy", "below 2^22", f"{below:g}", "The runtime's int32 would overflow."
        )
    tabulated(call, tflm.leaky_relu(q, alpha))


def quantised(call: Call) -> Quantised:
    """Return the encodings around the node; refuses scales that overflow the runtime's int32."""
    x, y = call.operand(0), call.output()
    q = Quantised(sx=x.scale, zx=x.zero, sy=y.scale, zy=y.zero)
    if q.sx < tflm.LEAST_SCALE:
        raise call.unsupported(
            "scale of the input",
            "at least 2^-28",
            f"{q.sx:g}",
            "The runtime's int32 would overflow; calibrate the model again.",
        )
    if q.ratio >= tflm.LARGEST_RATIO:
        raise call.unsupported(
            "scale of the input / scale of the output",
            "below 2^22",
            f"{q.ratio:g}",
            "The runtime's int32 would overflow; calibrate the model again.",
        )
    return q


def tabulated(call: Call, table: IntArray) -> None:
    """Make the output a table of the input's codes."""
    kind = TensorType((), DType.S8, Raw())
    entries = call.const("table", table.astype(np.int8), kind)
    call.result("lut", LutInputs(computed(call), table=entries), LutAttrs(""))


def _check_hard_swish(call: Call, q: Quantised) -> None:
    """Refuse what TFLM refuses, and shifts that C has no meaning for."""
    (_, output), (_, reluish) = tflm.hard_swish_exponents(q)
    if not (-31 <= output <= 0 and reluish >= -15):
        raise call.unsupported(
            "scales",
            "Sx <= 128 Sy, within 2^24 of each other, Sx above 2^-37",
            f"{q.sx:g}, {q.sy:g}",
            "The runtime has no arithmetic for them; calibrate the model again.",
        )


def _check_rsqrt(call: Call, q: Quantised) -> None:
    """Refuse multipliers whose shifts leave int32."""
    factor = tflm.rsqrt_factor(q)
    if not 2.0**-12 <= factor < 2.0**30:
        raise call.unsupported(
            "1 / (sqrt(Sx) * Sy)",
            "2^-12 to 2^30",
            f"{factor:g}",
            "The runtime's int32 would overflow; calibrate the model again.",
        )
