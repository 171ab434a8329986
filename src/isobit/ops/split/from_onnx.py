"""ONNX's Split."""

from __future__ import annotations

from isobit.ops.foreign import onnx
from isobit.ops.logical import LogicalCall, View
from isobit.ops.onnx import finished
from isobit.ops.onnx_compose import parted


@onnx("Split")
def split(call: LogicalCall) -> None:
    """x: any shape; sizes follow from the shapes of the outputs."""
    x = call.activation()
    axis = call.axis(int(call.option("axis", 0)), len(x.shape))
    sizes = tuple(y.shape[axis] for y in call.outputs)
    if sum(sizes) != x.shape[axis] or min(sizes) < 1:
        raise call.unsupported("sizes", f"{x.shape[axis]} in all, each >= 1", str(sizes))
    if len(sizes) == 1:
        call.step(View(), [x])
        return
    parts = [call.temp("part", y.shape, x.type) for y in call.outputs]
    same = [call.is_float or y.type.encoding == x.type.encoding for y in call.outputs]
    results = [y if ok else part for y, part, ok in zip(call.outputs, parts, same, strict=True)]
    parted(call, x, axis, results)
    for index, ok in enumerate(same):
        if not ok:
            finished(call, parts[index], index)
