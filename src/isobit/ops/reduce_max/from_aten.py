"""PyTorch's largest and smallest over axes; the indices of them have no counterpart."""

from __future__ import annotations

from isobit.ops.aten import as_onnx, axes_of
from isobit.ops.foreign import aten
from isobit.ops.logical import LogicalCall
from isobit.ops.reduce_max.from_onnx import reduce_max


@aten("amax.default", "amin.default", "max.default", "min.default", "max.dim", "min.dim")
def extreme(call: LogicalCall) -> None:
    """`dim`: all axes where it is absent."""
    axes = axes_of(call, call.options.get("dim"), len(call.activation().shape))
    code = "ReduceMin" if "min" in call.code.split(".")[0] else "ReduceMax"
    found = as_onnx(call, code, [call.activation()], axes=axes, noop_with_empty_axes=1)
    found.outputs = call.outputs[:1]
    reduce_max(found)
