"""PyTorch's average pools of one and two axes; `ceil_mode` shows in the shape of the result."""

from __future__ import annotations

from isobit.ops.aten import as_onnx, divided, image_axes, per_axis
from isobit.ops.avg_pool2d.from_onnx import average_pool
from isobit.ops.foreign import aten
from isobit.ops.global_avg_pool.from_onnx import global_average_pool
from isobit.ops.logical import LogicalCall


@aten("avg_pool1d.default", "avg_pool2d.default")
def avg_pool(call: LogicalCall) -> None:
    """x: [N, C, H, W] or [N, C, L]."""
    if call.options.get("divisor_override") is not None:
        raise call.unsupported(
            "divisor_override",
            "None",
            str(call.options["divisor_override"]),
            "Scale in the layer behind the pool.",
        )
    kernel, padding = per_axis(call, "kernel_size"), per_axis(call, "padding", (0,))
    average_pool(
        as_onnx(
            call,
            "AveragePool",
            kernel_shape=kernel,
            strides=per_axis(call, "stride", kernel),
            pads=padding * 2,
            count_include_pad=int(call.option("count_include_pad", True) and any(padding)),
        )
    )


@aten("adaptive_avg_pool1d.default", "adaptive_avg_pool2d.default")
def adaptive_avg_pool(call: LogicalCall) -> None:
    """Output sizes that divide the input's."""
    image_axes(call)
    size = call.output().shape[2:]
    if set(size) == {1}:
        global_average_pool(as_onnx(call, "GlobalAveragePool"))
        return
    kernel = divided(call, call.operand(0).shape[2:], size)
    average_pool(as_onnx(call, "AveragePool", kernel_shape=kernel, strides=kernel))
