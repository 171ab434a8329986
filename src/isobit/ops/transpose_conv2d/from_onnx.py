"""ONNX's ConvTranspose."""

from __future__ import annotations

import numpy as np

from isobit.ops.conv2d.from_onnx import weighted_inputs
from isobit.ops.foreign import onnx
from isobit.ops.logical import Fixed, LogicalCall
from isobit.ops.onnx import (
    centred,
    code_bounds,
    done,
    image,
    image_shape,
    pair,
    sums,
    target,
    weight_type,
)
from isobit.ops.transpose_conv2d.op import TransposeConv2dAttrs


@onnx("ConvTranspose")
def conv_transpose(call: LogicalCall) -> None:
    """x: [1,C,H,W] or [1,C,L], w [C,O/group,KH,KW], b [O] or none; group 1, no dilation.

    `pads` cut rows off the sum, `output_padding` adds rows of the bias alone at its end.
    """
    x, w, out = image(call, call.activation()), call.operand(1), call.output()
    rank = len(call.activation().shape)
    groups, dilation = int(call.option("group", 1)), pair(call, "dilations", rank)
    if groups != 1 or dilation != (1, 1) or len(w.shape) != rank or w.shape[0] != x.shape[1]:
        raise call.unsupported(
            "weights, group, dilations",
            f"[{x.shape[1]},O,...], 1, 1",
            f"{list(w.shape)}, {groups}, {dilation}",
            "Use an upsampling and a convolution.",
        )
    data = centred(call, w)
    weights = data.reshape(w.shape[0], w.shape[1], *image_shape(w.shape)[2:]).transpose(1, 2, 3, 0)
    stride, size = pair(call, "strides", rank), image_shape(out.shape)[2:]
    pad = []
    for axis in (0, 1):
        full = (x.shape[2 + axis] - 1) * stride[axis] + weights.shape[1 + axis]
        pad.append(_before(call, axis - (rank == 3), rank, full - size[axis]))
    numbers = sums(call, x, w, np.reshape(weights, (weights.shape[0], -1)), call.optional(2), 1)
    clamp = (-128, 127) if call.is_float else code_bounds(call, out)
    name = call.build.const(w.value, weight_type(call, w, 0), weights, w.label)
    attrs = TransposeConv2dAttrs((size[0], size[1]), stride, (pad[0], pad[1]), clamp)
    y = target(call, (1, weights.shape[0], *size))
    kind = Fixed("transpose_conv2d", weighted_inputs(call, name, numbers), attrs)
    call.step(kind, [x], y)
    done(call, y)


def _before(call: LogicalCall, axis: int, rank: int, total: int) -> int:
    """Return how many rows are cut off at the beginning; `total`: of both ends together, less
    `output_padding`.
    """
    if axis < 0:
        return 0
    mode = call.option("auto_pad", "NOTSET")
    if mode == "VALID":
        return 0
    if mode == "NOTSET" and "output_shape" not in call.options:
        pads = tuple(call.option("pads", (0,) * (2 * (rank - 2))))
        return int(pads[axis])
    extra = int(tuple(call.option("output_padding", (0,) * (rank - 2)))[axis])
    both = total + extra
    if both < 0:
        raise call.unsupported(
            "output shape", "at most the full sum", f"{-both} more", "Use output_padding."
        )
    return both // 2 if mode == "SAME_UPPER" else both - both // 2
