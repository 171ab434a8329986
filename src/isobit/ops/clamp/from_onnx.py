"""ONNX's Relu and Clip."""

from __future__ import annotations

import math
from fractions import Fraction

from isobit.ops.clamp.op import ClampAttrs, ClampInputs
from isobit.ops.foreign import onnx
from isobit.ops.logical import Elementwise, LogicalCall
from isobit.ops.onnx import code_of, scale, tabulated


@onnx("Relu", "Clip")
def clip(call: LogicalCall) -> None:
    """x: any shape; bounds of Clip stored or left out. Where the encoding changes, a table."""
    low, high = (0.0, math.inf) if call.code == "Relu" else (_bound(call, 1), _bound(call, 2))
    if low > high:
        raise call.unsupported("bounds", "min <= max", f"{low}, {high}", "Exchange them.")
    attrs = ClampAttrs(low, high)
    x, y = call.activation(), call.output()
    if not call.is_float:
        if x.type.encoding != y.type.encoding:
            least, most = (None if math.isinf(v) else Fraction(v) for v in (low, high))
            tabulated(call, lambda v: _clipped(v, least, most))
            return
        step = scale(call, y)
        codes = code_of(low, y, step), code_of(high, y, step)
        if call.inherits and not all(_on_grid(v, step) for v in (low, high)):
            raise call.unsupported(
                "bounds",
                f"multiples of the input's step {float(step)}: the result is not quantised",
                f"{low}, {high}",
                "Quantise the result of the activation.",
            )
        attrs = ClampAttrs(low, high, codes)
    call.step(Elementwise("clamp", lambda n: ClampInputs(n[0]), attrs), [x])


def _bound(call: LogicalCall, index: int) -> float:
    missing = call.optional(index) is None
    if missing:
        return -math.inf if index == 1 else math.inf
    value = float(call.constant(index, "bound").reshape(()))
    limit = 3e38  # exporters write the largest float32 for no bound
    return math.copysign(math.inf, value) if abs(value) > limit else value


def _clipped(v: Fraction, low: Fraction | None, high: Fraction | None) -> Fraction:
    v = v if low is None else max(v, low)
    return v if high is None else min(v, high)


def _on_grid(bound: float, step: Fraction) -> bool:
    return math.isinf(bound) or (Fraction(bound) / step).denominator == 1
