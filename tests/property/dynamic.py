"""How a random graph grows by layers whose step is found at run time: one after the other, with
what may stand between them. Nothing else reads their values (`Draft.value`).
"""

from __future__ import annotations

import math

from isobit.core.dtypes import DType
from isobit.core.types import Pow2
from isobit.ir.graph import map_inputs
from isobit.ops.avg_pool2d.op import AvgPool2dAttrs, AvgPool2dInputs
from isobit.ops.base import NodeTypes
from isobit.ops.clamp.op import ClampAttrs, ClampInputs
from isobit.ops.dynamic import FINER_BIAS, DynamicInputs
from isobit.ops.dynamic_conv2d.op import DynamicConv2dAttrs
from isobit.ops.dynamic_depthwise_conv2d.op import DynamicDepthwiseConv2dAttrs
from isobit.ops.dynamic_linear.op import DynamicLinearAttrs
from isobit.ops.max_pool2d.op import MaxPool2dAttrs, MaxPool2dInputs
from isobit.ops.registry import load_ops
from isobit.ops.reshape.op import ReshapeAttrs, ReshapeInputs
from isobit.ops.schemes import Scheme

from .graphs import Draft, Refused


def dynamic_conv2d(d: Draft) -> None:
    x, e = _start(d, 4), None
    for _ in range(d.integer(1, 3)):
        channels = d.values[x].shape[3]
        groups = d.choose([g for g in range(1, channels + 1) if channels % g == 0])
        outputs = groups * d.integer(1, max(1, 5 // groups))
        shape = (outputs, d.integer(1, 3), d.integer(1, 3), channels // groups)
        stride, pads = _places(d)
        attrs = DynamicConv2dAttrs(stride, pads, (1, 1), groups)
        x, e = _layer(d, "dynamic_conv2d", x, e, shape, attrs)
        x = _between(d, x)
    if d.chance(0.5):
        (x,) = d.emit("reshape", ReshapeInputs(x), ReshapeAttrs((d.values[x].elements,)))
        _layer(d, "dynamic_linear", x, e, (4, d.values[x].elements), DynamicLinearAttrs())


def dynamic_depthwise_conv2d(d: Draft) -> None:
    """With or without a mix of the channels before or after it, as separable convolutions have."""
    x, e = _start(d, 4), None
    if d.chance(0.5):
        x, e = _pointwise(d, x, e)
    channels = d.values[x].shape[3]
    shape = (d.integer(1, 3), d.integer(1, 3), channels * d.integer(1, max(1, 6 // channels)))
    stride, pads = _places(d)
    attrs = DynamicDepthwiseConv2dAttrs(stride, pads, (d.integer(1, 2), d.integer(1, 2)))
    x, e = _layer(d, "dynamic_depthwise_conv2d", x, e, shape, attrs)
    x = _between(d, x)
    if d.chance(0.5):
        _pointwise(d, x, e)


def _pointwise(d: Draft, x: str, e: str | None) -> tuple[str, str]:
    shape = (d.integer(1, 5), 1, 1, d.values[x].shape[3])
    return _layer(d, "dynamic_conv2d", x, e, shape, DynamicConv2dAttrs())


def _places(d: Draft) -> tuple[tuple[int, int], tuple[int, int, int, int]]:
    """Strides and pads of a window."""
    pads = (d.integer(0, 2), d.integer(0, 2), d.integer(0, 2), d.integer(0, 2))
    return (d.integer(1, 2), d.integer(1, 2)), pads


def dynamic_linear(d: Draft) -> None:
    x, e = _start(d), None
    if len(d.values[x].shape) != 2:
        (x,) = d.emit("reshape", ReshapeInputs(x), ReshapeAttrs((d.values[x].elements,)))
    for _ in range(d.integer(1, 3)):
        shape = (d.integer(2, 9), d.values[x].shape[1])
        x, e = _layer(d, "dynamic_linear", x, e, shape, DynamicLinearAttrs())
        x = _between(d, x)


def _start(d: Draft, rank: int = 0) -> str:
    if d.scheme is not Scheme.POW2:
        raise Refused
    return d.value(
        lambda t: t.dtype is DType.S8 and isinstance(t.encoding, Pow2) and rank in (0, len(t.shape))
    )


def _layer(
    d: Draft, op: str, x: str, e: str | None, shape: tuple[int, ...], attrs: object
) -> tuple[str, str]:
    axis = load_ops().op(op).channel_axis
    w = d.weights(shape, axis)
    b = None
    if d.chance(0.7):
        spread = int(math.sqrt(math.prod(shape) // shape[axis]) * 2000)
        fine = FINER_BIAS if e else d.values[x].encoding.frac[0]
        codes = d.rng.integers(-spread, spread + 1, size=shape[axis]) << (5 if e else 0)
        b = d.const(codes, DType.S32, Pow2((7 + fine,)))
    inputs = DynamicInputs(x, w, b, e=e)
    q = NodeTypes(map_inputs(inputs, d.kind), ())
    attrs, _ = load_ops().op(op).derive(attrs, q, d.scheme, None)
    codes_name, exponent = d.emit(op, inputs, attrs)
    return codes_name, exponent


def _between(d: Draft, x: str) -> str:
    """Perhaps a ReLU, perhaps a pool."""
    if d.chance(0.5):
        (x,) = d.emit("clamp", ClampInputs(x), ClampAttrs(0.0, math.inf, (0, 127)))
    shape = d.values[x].shape
    if len(shape) == 4 and min(shape[1:3]) > 1 and d.chance(0.4):
        if d.chance(0.6):
            (x,) = d.emit("max_pool2d", MaxPool2dInputs(x), MaxPool2dAttrs((2, 2), (1, 2)))
        else:
            clamp = d.choose([(-128, 127), (0, 127)])
            attrs = AvgPool2dAttrs((2, 2), (1, 2), clamp=clamp)
            (x,) = d.emit("avg_pool2d", AvgPool2dInputs(x), attrs)
    return x
