"""ONNX's normalisations: of a batch, and of layers, instances and groups."""

from __future__ import annotations

from fractions import Fraction

import numpy as np

from isobit.ir.graph import Inputs
from isobit.ops.batch_norm.op import BatchNormAttrs, BatchNormInputs
from isobit.ops.foreign import Operand, onnx
from isobit.ops.logical import Fixed, Last, LogicalCall, Names
from isobit.ops.onnx import finished, stored_reals
from isobit.ops.onnx_channels import per_channel
from isobit.ops.onnx_compose import number, plus, require_reals, standardised, times


@onnx("BatchNormalization")
def batch_normalization(call: LogicalCall) -> None:
    """x: [1,C,...]; scale, bias, mean and variance [C], stored. Float graphs, where the pass
    `fold_batch_norm` folds it; in quantised ones a multiplier and a bias for every channel.
    """
    x = call.activation()
    if call.option("training_mode", 0) or len(call.outputs) > 1:
        raise call.unsupported(
            "training_mode", "0, one output", "1", "Export the model in evaluation mode."
        )
    if len(x.shape) < 2 or x.shape[0] != 1:
        raise call.unsupported("input", "[1,C,...]", str(list(x.shape)), "Use a batch of 1.")
    if not call.is_float:
        _quantised(call, x)
        return
    names = []
    for index, what in enumerate(("scale", "bias", "mean", "variance"), start=1):
        data = call.constant(index, what).reshape(-1)
        if data.size != x.shape[1]:
            raise call.unsupported(what, f"[{x.shape[1]}]", str(list(data.shape)))
        names.append(call.const(what, data))
    gamma, beta, mean, var = names
    attrs = BatchNormAttrs(float(call.option("epsilon", 1e-5)))

    def inputs(found: Names) -> Inputs[str]:
        return BatchNormInputs(found[0], gamma, beta, mean, var)

    if len(x.shape) == 4:
        call.step(Fixed("batch_norm", inputs, attrs), [x])
    else:
        call.step(Last("batch_norm", inputs, attrs, 1), [x])


def _quantised(call: LogicalCall, x: Operand) -> None:
    """Record `x * scale + (bias - mean * scale)`; the square root is float64's."""
    numbers = [
        np.asarray([float(v) for v in stored_reals(call, _stored(call, index))])
        for index in (1, 2, 3, 4)
    ]
    if any(n.size != x.shape[1] for n in numbers):
        got = str([n.size for n in numbers])
        raise call.unsupported("scale, bias, mean, variance", f"{x.shape[1]} each", got)
    gamma, beta, mean, var = numbers
    factors = gamma / np.sqrt(var + float(call.option("epsilon", 1e-5)))
    offsets = beta - mean * factors
    exact = ([Fraction(float(v)) for v in row] for row in (factors, offsets))
    if len(x.shape) > 4 or not per_channel(call, x, *exact):
        raise call.unsupported(
            "scale and bias",
            "numbers whose quotient is an int32",
            f"bias up to {float(np.abs(offsets).max()):g}",
            "Fold batch normalisation before quantising.",
        )


def _stored(call: LogicalCall, index: int) -> Operand:
    call.constant(index, "scale, bias, mean, variance")
    return call.operand(index)


FIX = "Train with batch normalisation, which folds into weights, or calibrate the float graph."


@onnx("LayerNormalization")
def layer_normalization(call: LogicalCall) -> None:
    """x: any shape, over all axes from `axis` on; scale and bias stored. Float graphs."""
    require_reals(call, FIX)
    if len(call.outputs) > 1:
        raise call.unsupported("outputs", "1", "mean or deviation too", "Leave them out.")
    x = call.activation()
    rank = len(x.shape)
    axes = tuple(range(call.axis(int(call.option("axis", -1)), rank), rank))
    found = standardised(call, x, axes, float(call.option("epsilon", 1e-5)))
    _affine(call, found, ())


@onnx("InstanceNormalization")
def instance_normalization(call: LogicalCall) -> None:
    """x: [1,C,...]; scale and bias [C] stored. Float graphs."""
    require_reals(call, FIX)
    x = call.activation()
    axes = tuple(range(2, len(x.shape)))
    found = standardised(call, x, axes, float(call.option("epsilon", 1e-5)))
    _affine(call, found, (1,) * len(axes))


@onnx("GroupNormalization")
def group_normalization(call: LogicalCall) -> None:
    """x: [1,C,...] in `num_groups` groups; scale and bias of channels or, before opset 21, groups.
    Float graphs.
    """
    require_reals(call, FIX)
    x = call.activation()
    groups, channels = int(call.option("num_groups")), x.shape[1]
    if groups < 1 or channels % groups:
        raise call.unsupported("num_groups", f"a divisor of {channels}", str(groups))
    cut = call.viewed(x, (x.shape[0], groups, channels // groups, *x.shape[2:]), "groups")
    axes = tuple(range(2, len(cut.shape)))
    found = standardised(call, cut, axes, float(call.option("epsilon", 1e-5)))
    if call.constant(1, "scale").size == groups:
        y = call.temp("scaled", cut.shape, cut.type)
        _affine(call, found, (1,) * len(axes), y)
        finished(call, y)
    else:
        _affine(call, call.viewed(found, x.shape, "joined"), (1,) * (len(x.shape) - 2))


def _affine(
    call: LogicalCall, x: Operand, behind: tuple[int, ...], y: Operand | None = None
) -> None:
    """Record the product with the stored scale and the sum with the bias, if there is one.

    behind: axes of size 1 that both get, so that they run along an axis further in front.
    """
    out = y or call.output()
    scale = call.constant(1, "scale")
    bias = None if call.optional(2) is None else call.constant(2, "bias")
    factor = number(call, "scale", scale.reshape(*scale.shape, *behind))
    found = times(call, x, factor, None if bias is not None else out)
    if bias is not None:
        plus(call, found, number(call, "bias", bias.reshape(*bias.shape, *behind)), out)
