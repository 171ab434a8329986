"""PyTorch's PReLU."""

from __future__ import annotations

from dataclasses import replace

from isobit.ops.aten import as_onnx
from isobit.ops.foreign import aten
from isobit.ops.logical import LogicalCall
from isobit.ops.prelu.from_onnx import prelu as onnx_prelu


@aten("prelu.default")
def prelu(call: LogicalCall) -> None:
    """x: [N, C, ...]; slope: [C] or one number, a constant."""
    x, slope, data = call.activation(), call.operand(1), call.constant(1, "slope")
    shape = (*data.shape, *([1] * (len(x.shape) - 2))) if data.ndim == 1 else data.shape
    kind = slope.type.with_shape(shape)
    aligned = replace(slope, shape=shape, type=kind, data=data.reshape(shape))
    onnx_prelu(as_onnx(call, "PRelu", [x, aligned]))
