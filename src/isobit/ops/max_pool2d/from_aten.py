"""PyTorch's maximum pools of one and two axes; `ceil_mode` shows in the shape of the result."""

from __future__ import annotations

from dataclasses import replace

from isobit.ops.aten import as_onnx, divided, image_axes, per_axis
from isobit.ops.foreign import aten
from isobit.ops.logical import LogicalCall
from isobit.ops.max_pool2d.from_onnx import max_pool


@aten("max_pool1d.default", "max_pool2d.default")
def pool(call: LogicalCall) -> None:
    """x: [N, C, H, W] or [N, C, L]; dilation 1."""
    kernel = per_axis(call, "kernel_size")
    _record(
        call,
        kernel_shape=kernel,
        strides=per_axis(call, "stride", kernel),
        pads=per_axis(call, "padding", (0,)) * 2,
        dilations=per_axis(call, "dilation", (1,)),
    )


@aten("adaptive_max_pool1d.default", "adaptive_max_pool2d.default")
def adaptive_max_pool(call: LogicalCall) -> None:
    """Output sizes that divide the input's."""
    image_axes(call)
    kernel = divided(call, call.operand(0).shape[2:], call.output().shape[2:])
    _record(call, kernel_shape=kernel, strides=kernel)


def _record(call: LogicalCall, **options: object) -> None:
    """Record the pool; the indices of the maxima have no counterpart."""
    found = replace(as_onnx(call, "MaxPool"), options=options)
    found.outputs = call.outputs[:1]
    max_pool(found)
