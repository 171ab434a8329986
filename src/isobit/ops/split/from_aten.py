"""PyTorch's pieces along an axis."""

from __future__ import annotations

from isobit.ops.aten import as_onnx
from isobit.ops.foreign import Operand, aten
from isobit.ops.logical import LogicalCall, View
from isobit.ops.split.from_onnx import split as onnx_split


@aten("split.Tensor", "split_with_sizes.default", "unbind.int")
def split(call: LogicalCall) -> None:
    """x: any shape; `unbind` drops the axis `dim`."""
    x = call.activation()
    axis = call.axis(int(call.option("dim", 0)), len(x.shape))
    found = as_onnx(call, "Split", [x], axis=axis)
    if not call.code.startswith("unbind"):
        onnx_split(found)
        return
    shape = (*x.shape[:axis], 1, *x.shape[axis + 1 :])
    parts: list[Operand] = [call.temp("part", shape, y.type) for y in call.outputs]
    found.outputs = tuple(parts)
    onnx_split(found)
    for part, y in zip(parts, call.outputs, strict=True):
        call.step(View(), [part], y)
