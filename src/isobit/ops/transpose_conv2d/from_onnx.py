"""ONNX's ConvTranspose."""

from __future__ import annotations

import numpy as np

from isobit.core.types import AnyArray
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
from isobit.ops.onnx_wide import wide
from isobit.ops.transpose_conv2d.op import TransposeConv2dAttrs
from isobit.ops.window import Pair


@onnx("ConvTranspose")
def conv_transpose(call: LogicalCall) -> None:
    """x: [1,C,H,W] or [1,C,L], w [C,O/group,KH,KW], b [O] or none. Groups and dilation
    become zeros among the weights: exact, though their products are computed.

    `pads` cut rows off the sum, `output_padding` adds rows of the bias alone at its end.
    """
    x, w, out = image(call, call.activation()), call.operand(1), call.output()
    rank = len(call.activation().shape)
    groups, dilation = int(call.option("group", 1)), pair(call, "dilations", rank)
    if len(w.shape) != rank or w.shape[0] != x.shape[1] or groups < 1 or x.shape[1] % groups:
        raise call.unsupported(
            "weights, group", f"[{x.shape[1]},O,...] in whole groups", f"{list(w.shape)}, {groups}"
        )
    weights = _dense(centred(call, w).reshape(w.shape[0], *image_shape(w.shape)[1:]), groups)
    weights = _spread(weights, dilation).transpose(1, 2, 3, 0)
    stride, size = pair(call, "strides", rank), image_shape(out.shape)[2:]
    pad = []
    for axis in (0, 1):
        full = (x.shape[2 + axis] - 1) * stride[axis] + weights.shape[1 + axis]
        pad.append(_before(call, axis - (rank == 3), rank, full - size[axis]))
    numbers = sums(call, x, w, np.reshape(weights, (weights.shape[0], -1)), call.optional(2), 1)
    clamp = (-128, 127) if call.is_float else code_bounds(call, out)
    packed = wide(weights)
    name = call.build.const(w.value, weight_type(call, w, 0), packed.weights, w.label)
    attrs = TransposeConv2dAttrs((size[0], size[1]), stride, (pad[0], pad[1]), clamp)
    y = target(call, (1, weights.shape[0], *size))
    kind = Fixed("transpose_conv2d", weighted_inputs(call, name, numbers, packed), attrs)
    call.step(kind, [x], y)
    done(call, y)


def _dense(weights: AnyArray, groups: int) -> AnyArray:
    """Return weights [C,O/groups,KH,KW] as [C,O,KH,KW], zero between channels of two groups."""
    channels, outputs = weights.shape[:2]
    found = np.zeros((channels, outputs * groups, *weights.shape[2:]), dtype=weights.dtype)
    for group in range(groups):
        rows = slice(group * channels // groups, (group + 1) * channels // groups)
        found[rows, group * outputs : (group + 1) * outputs] = weights[rows]
    return found


def _spread(weights: AnyArray, dilation: Pair) -> AnyArray:
    """Return weights [C,O,KH,KW] with zeros between the taps."""
    height, width = ((k - 1) * d + 1 for k, d in zip(weights.shape[2:], dilation, strict=True))
    found = np.zeros((*weights.shape[:2], height, width), dtype=weights.dtype)
    found[:, :, :: dilation[0], :: dilation[1]] = weights
    return found


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
