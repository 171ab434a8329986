"""PyTorch's means and sums over axes."""

from __future__ import annotations

from isobit.ops.aten import as_onnx, axes_of
from isobit.ops.foreign import aten
from isobit.ops.logical import LogicalCall
from isobit.ops.reduce_sum.from_onnx import reduce


@aten("mean.default", "mean.dim", "sum.default", "sum.dim_IntList")
def mean_or_sum(call: LogicalCall) -> None:
    """`dim`: all axes where it is absent. A mean over rows and columns is `global_avg_pool`."""
    axes = axes_of(call, call.options.get("dim"), len(call.activation().shape))
    code = "ReduceMean" if call.code.startswith("mean") else "ReduceSum"
    reduce(as_onnx(call, code, [call.activation()], axes=axes, noop_with_empty_axes=1))
