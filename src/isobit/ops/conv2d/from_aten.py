"""PyTorch's convolutions of one and two axes, plain, grouped and depthwise."""

from __future__ import annotations

from isobit.ops.aten import as_onnx, per_axis
from isobit.ops.conv2d.from_onnx import conv
from isobit.ops.foreign import aten
from isobit.ops.logical import LogicalCall
from isobit.ops.transpose_conv2d.from_aten import transposed


@aten("conv1d.default", "conv1d.padding", "conv2d.default", "conv2d.padding")
def convolution(call: LogicalCall) -> None:
    """x: [N, C, H, W] or [N, C, L]; w: [O, C/groups, KH, KW] or [O, C/groups, K], a constant."""
    dilations = per_axis(call, "dilation", (1,))
    given = call.option("padding", (0,))
    if isinstance(given, str):
        kernel = call.operand(1).shape[2:]
        spare = [(k - 1) * d for k, d in zip(kernel, dilations, strict=True)]
        spare = spare if given == "same" else [0] * len(spare)
        pads = (*(n // 2 for n in spare), *(n - n // 2 for n in spare))
    else:
        pads = per_axis(call, "padding", (0,)) * 2
    conv(
        as_onnx(
            call,
            "Conv",
            strides=per_axis(call, "stride", (1,)),
            pads=pads,
            dilations=dilations,
            group=int(call.option("groups", 1)),
        )
    )


@aten("convolution.default")
def general(call: LogicalCall) -> None:
    """`convolution` or `transposed`, as the option `transposed` says."""
    if call.option("transposed", False):
        transposed(call)
    else:
        convolution(call)
