"""PyTorch's transposed convolutions of one and two axes."""

from __future__ import annotations

from isobit.ops.aten import as_onnx, per_axis
from isobit.ops.foreign import aten
from isobit.ops.logical import LogicalCall
from isobit.ops.transpose_conv2d.from_onnx import conv_transpose


@aten("conv_transpose1d.default", "conv_transpose2d.input")
def transposed(call: LogicalCall) -> None:
    """x: [N, C, H, W] or [N, C, L]; w: [C, O, KH, KW] or [C, O, K], a constant."""
    conv_transpose(
        as_onnx(
            call,
            "ConvTranspose",
            strides=per_axis(call, "stride", (1,)),
            pads=per_axis(call, "padding", (0,)) * 2,
            output_padding=per_axis(call, "output_padding", (0,)),
            dilations=per_axis(call, "dilation", (1,)),
            group=int(call.option("groups", 1)),
        )
    )
