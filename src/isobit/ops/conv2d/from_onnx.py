"""ONNX's Conv."""

from __future__ import annotations

from collections.abc import Callable

from isobit.ir.graph import Attrs, Inputs
from isobit.ops.conv2d.op import Conv2dAttrs
from isobit.ops.depthwise_conv2d.op import DepthwiseConv2dAttrs
from isobit.ops.foreign import onnx
from isobit.ops.logical import Fixed, LogicalCall, Names
from isobit.ops.onnx import (
    Sums,
    centred,
    code_bounds,
    done,
    image,
    image_shape,
    padding,
    pair,
    sums,
    target,
    weight_type,
)
from isobit.ops.onnx_wide import Wide, fits, wide
from isobit.ops.weighted import WeightedInputs
from isobit.ops.window import Window


@onnx("Conv", "QLinearConv", "ConvInteger")
def conv(call: LogicalCall) -> None:
    """x: [1,C,H,W] or [1,C,L], w [O,C/group,KH,KW], b [O] or none. Groups of one channel are a
    depthwise convolution.
    """
    x, w = image(call, call.activation()), call.operand(1)
    rank = len(call.activation().shape)
    if len(w.shape) != rank:
        raise call.unsupported("weights", f"{rank} axes", str(list(w.shape)))
    weights = centred(call, w).reshape(w.shape[0], w.shape[1], *image_shape(w.shape)[2:])
    groups = int(call.option("group", 1))
    outputs, taps = weights.shape[:2]
    if groups < 1 or taps * groups != x.shape[1] or outputs % groups:
        got = f"{outputs} outputs, {taps} channels of {x.shape[1]}, group {groups}"
        raise call.unsupported("channels", "whole groups", got)
    window = Window(
        kernel=weights.shape[2:],
        stride=pair(call, "strides", rank),
        dilation=pair(call, "dilations", rank),
    )
    pad = padding(call, x, window)
    numbers = sums(call, x, w, weights.reshape(outputs, -1), call.optional(2), 0)
    clamp = (-128, 127) if call.is_float else code_bounds(call, call.output())
    y = target(call, (1, outputs, *image_shape(call.output().shape)[2:]))
    attrs: Attrs
    if groups == x.shape[1] > 1 and fits(weights):
        packed, axis, op = wide(weights[:, 0].transpose(1, 2, 0)), 2, "depthwise_conv2d"
        attrs = DepthwiseConv2dAttrs(window.stride, pad, window.dilation, clamp)
    else:
        packed, axis, op = wide(weights.transpose(0, 2, 3, 1), groups), 0, "conv2d"
        attrs = Conv2dAttrs(window.stride, pad, window.dilation, groups, clamp)
    name = call.build.const(w.value, weight_type(call, w, axis), packed.weights, w.label)
    call.step(Fixed(op, weighted_inputs(call, name, numbers, packed), attrs), [x], y)
    done(call, y)


def weighted_inputs(
    call: LogicalCall, w: str, numbers: Sums, packed: Wide
) -> Callable[[Names], Inputs[str]]:
    """Return how the inputs of a weighted operator are made from its activation."""
    found = numbers.names(call)
    return lambda names: WeightedInputs(
        packed.read(call.build, names[0]), w, found["b"], mult=found["mult"], shift=found["shift"]
    )
