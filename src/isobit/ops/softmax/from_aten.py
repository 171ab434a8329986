"""PyTorch's softmax."""

from __future__ import annotations

from isobit.ops.aten import as_onnx
from isobit.ops.foreign import aten
from isobit.ops.logical import LogicalCall
from isobit.ops.softmax.from_onnx import softmax as onnx_softmax


@aten("softmax.int")
def softmax(call: LogicalCall) -> None:
    """x: any shape; over the axis `dim`."""
    onnx_softmax(as_onnx(call, "Softmax", axis=int(call.option("dim"))))
