"""PyTorch's activations that bound a value: ReLU, ReLU6, Hardtanh, clamp."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from isobit.ops.aten import as_onnx, real
from isobit.ops.clamp.from_onnx import clip
from isobit.ops.foreign import aten
from isobit.ops.logical import LogicalCall


@aten("relu.default", "relu6.default", "hardtanh.default")
@aten("clamp.default", "clamp_min.default", "clamp_max.default")
def bounded(call: LogicalCall) -> None:
    """`min(max(x, low), high)`."""
    _clip(call, *bounds(call.code, call.options))


@aten("threshold.default")
def threshold(call: LogicalCall) -> None:
    """`x if x > threshold else value`, of one number."""
    low, value = float(call.option("threshold")), float(call.option("value"))
    if low != value:
        raise call.unsupported(
            "value", f"the threshold, {low:g}", f"{value:g}", "The step has no exact counterpart."
        )
    _clip(call, low, math.inf)


def bounds(code: str, options: Mapping[str, Any]) -> tuple[float, float]:
    """Return the real bounds of an activation; torch lets the upper one win."""
    match code.split(".")[0]:
        case "relu":
            return (0.0, math.inf)
        case "relu6":
            return (0.0, 6.0)
        case "hardtanh":
            low, high = options.get("min_val", -1.0), options.get("max_val", 1.0)
        case _:
            low, high = options.get("min"), options.get("max")
    least = -math.inf if low is None else float(low)
    most = math.inf if high is None else float(high)
    return (min(least, most), most)


def _clip(call: LogicalCall, low: float, high: float) -> None:
    limits = [real(call, "low", (), low), real(call, "high", (), high)]
    clip(as_onnx(call, "Clip", [call.activation(), *limits]))
