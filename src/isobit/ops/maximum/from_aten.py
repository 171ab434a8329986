"""PyTorch's larger and smaller of two tensors."""

from __future__ import annotations

from isobit.ops.aten import as_onnx
from isobit.ops.foreign import aten
from isobit.ops.logical import LogicalCall
from isobit.ops.maximum.from_onnx import extremes


@aten("maximum.default", "minimum.default", "max.other", "min.other")
def maximum(call: LogicalCall) -> None:
    """a, b: NumPy broadcasting."""
    extremes(as_onnx(call, "Min" if call.code.startswith("min") else "Max"))
