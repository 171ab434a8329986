"""TFLite's operators of one number: int8 tables by the runtime's arithmetic, or float functions."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from isobit.core.dtypes import DType
from isobit.core.fixed import Rounding
from isobit.core.types import Affine, IntArray, Raw, TensorType
from isobit.ops.foreign import Call, Runtime, tflite
from isobit.ops.int16 import is_int16, require_symmetric
from isobit.ops.lut import litert, tflm
from isobit.ops.lut.op import LutAttrs, LutInputs
from isobit.ops.lut.tflm import Quantised
from isobit.ops.lut_interpolated.op import (
    OUTPUT,
    LutInterpolatedAttrs,
    LutInterpolatedInputs,
)
from isobit.ops.lut_interpolated.table import LARGEST_MULT, parameters, table
from isobit.ops.prelu.op import FACTORS, PreluAttrs, PreluInputs
from isobit.ops.tflite import computed, quantized, require_types

TABLES: dict[str, tuple[str, Callable[[Quantised], IntArray]]] = {
    "ABS": ("abs", tflm.absolute),
    "ELU": ("elu", tflm.elu),
    "HARD_SWISH": ("hardswish", tflm.hard_swish),
    "LOGISTIC": ("sigmoid", tflm.logistic),
    "RSQRT": ("rsqrt", tflm.rsqrt),
    "TANH": ("tanh", tflm.tanh),
}
"""Of int8 or float: our function of reals, TFLM's table."""
LITERT: dict[str, Callable[[Quantised], IntArray]] = {
    "LOGISTIC": litert.logistic,
    "TANH": litert.tanh,
}
"""LiteRT's table where it is another."""
UINT8 = ("HARD_SWISH", "LOGISTIC", "TANH")
"""What LiteRT computes of uint8."""
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
    name, tabulate = TABLES[call.code]
    if is_int16(call) and call.code in ("LOGISTIC", "TANH"):
        interpolated(call, name)
        return
    if call.code == "ABS" and is_int16(call):
        require_types(call, "s16")
        ratio = quantised(call).ratio
        two_slopes(call, -1, ratio, ratio)
        return
    require_types(call, "s8")
    if call.is_float:
        call.result("lut", LutInputs(computed(call)), LutAttrs(name))
        return
    q = quantised(call)
    if call.is_uint8 and call.code not in UINT8:
        raise call.unsupported(
            "types", "int8", "uint8", "LiteRT has no kernel of it for uint8; convert to int8."
        )
    if call.code == "LOGISTIC" and q.zy != -128:
        zero = 0 if call.is_uint8 else -128
        raise call.unsupported(
            "zero point of the output",
            str(zero),
            str(q.zy - (-128 - zero)),
            "The runtime wants it; convert again.",
        )
    if call.runtime is Runtime.LITERT:
        tabulate = LITERT.get(call.code, tabulate)
    if call.code == "HARD_SWISH":
        _check_hard_swish(call, q)
    if call.code == "RSQRT":
        _check_rsqrt(call, q)
    tabulated(call, tabulate(q))


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
    """x: any shape; `alpha` of any sign, of int16 not negative. Source: TFLM
    `kernels/leaky_relu_common.cc`.
    """
    require_types(call, "s8", "s16")
    alpha = float(call.option("alpha", 0.0))
    if is_int16(call):
        if alpha < 0:
            raise call.unsupported("alpha", ">= 0 for int16", f"{alpha:g}", "Use int8.")
        two_slopes(call, 1, *tflm.leaky_relu_factors(quantised(call), alpha))
        return
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


@tflite("GELU")
def gelu(call: Call) -> None:
    """x: any shape; `approximate` means the one with tanh. TFLM has none; of int8 it is LiteRT's
    table. Source: LiteRT `kernels/activations.cc` (GeluPrepare).
    """
    require_types(call, "s8")
    name = "gelu_tanh" if call.option("approximate", False) else "gelu"
    if call.is_float:
        call.result("lut", LutInputs(computed(call)), LutAttrs(name))
    else:
        tabulated(call, litert.gelu(quantised(call), name))


def quantised(call: Call) -> Quantised:
    """Return the encodings around the node; refuses scales that overflow the runtime's int32."""
    x, y = call.operand(0), call.output()
    narrow = call.runtime is Runtime.LITERT
    q = Quantised(sx=x.scale, zx=x.zero, sy=y.scale, zy=y.zero, narrow=narrow)
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


def interpolated(call: Call, name: str) -> None:
    """Make the output the sigmoid or tanh of int16 codes."""
    require_types(call, "s16")
    x, y = call.operand(0), call.output()
    require_symmetric(call, x, y)
    if y.type.encoding != OUTPUT:
        raise call.unsupported(
            "encoding of the output", str(OUTPUT), str(y.type.encoding), "The runtime gives it."
        )
    mult, shift = parameters(name, x.scale)
    if mult > LARGEST_MULT:
        raise call.unsupported(
            "scale of the input", "below 2.66", f"{x.scale:g}", "The runtime's int32 overflows."
        )
    kind = TensorType((), DType.S16, Raw())
    inputs = LutInterpolatedInputs(
        computed(call),
        table=call.const("table", table().astype(np.int16), kind),
        mult=call.const("mult", np.asarray([mult], dtype=np.int32)),
        shift=call.const("shift", np.asarray([shift], dtype=np.int32)),
    )
    call.result("lut_interpolated", inputs, LutInterpolatedAttrs(name))


def two_slopes(call: Call, sign: int, above: float, below: float) -> None:
    """Make the output x times one of two multipliers, the one below zero with a sign."""
    x, y = call.operand(0), call.output()
    require_symmetric(call, x, y)
    value = computed(call)
    rank = len(call.build.type_of(value).shape)
    one = TensorType((), DType.S8, Affine((1.0,), 0))
    slope = call.const("slope", np.full((1,) * rank, sign, dtype=np.int8), one)
    pairs = zip(FACTORS, (*quantized(above), *quantized(below)), strict=True)
    constants = {name: call.const(name, np.asarray([n], dtype=np.int32)) for name, n in pairs}
    attrs = PreluAttrs((y.type.dtype.low, y.type.dtype.high), Rounding.TFLITE_DOUBLE)
    call.result("prelu", PreluInputs(value, slope, **constants), attrs)


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
