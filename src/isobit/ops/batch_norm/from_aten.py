"""PyTorch's batch normalisation with running statistics."""

from __future__ import annotations

import numpy as np

from isobit.core.types import AnyArray
from isobit.ops.aten import as_onnx, real
from isobit.ops.batch_norm.from_onnx import batch_normalization
from isobit.ops.depthwise_conv2d.op import DepthwiseConv2dAttrs
from isobit.ops.foreign import Operand, aten
from isobit.ops.logical import Fixed, LogicalCall, View
from isobit.ops.weighted import WeightedInputs


@aten("_native_batch_norm_legit_no_training.default")
def batch_norm(call: LogicalCall) -> None:
    """x: [N, C], [N, C, L] or [N, C, H, W]; gamma and beta [C] or absent, mean and variance [C].

    alone: no operator with weights before it would take it on; then it is a depthwise convolution
    of one tap.
    """
    x, y = call.activation(), call.output()
    alone = bool(call.options.get("alone", False))
    if len(x.shape) == 4 or (len(x.shape) == 2 and not alone):
        _record(call, x, y, alone)
        return
    # An image of one row, as convolutions of sequences compute it: no reshape comes in between.
    shape = (*x.shape[:2], 1, x.shape[2] if len(x.shape) == 3 else 1)
    inner = Operand(y.label, shape, y.type.with_shape(shape), call.build.fresh(f"{y.value}_row"))
    _record(call, call.viewed(x, shape), inner, alone)
    call.step(View(), [inner], y)


def _record(call: LogicalCall, x: Operand, y: Operand, alone: bool) -> None:
    names = ("", "weight", "bias")
    numbers: list[Operand] = []
    for index in (1, 2):
        given = call.optional(index)
        numbers.append(given or real(call, names[index], x.shape[1:2], float(index == 1)))
    if alone and call.is_float:
        _depthwise(call, x, y, *(np.asarray(n.data, np.float64) for n in numbers))
        return
    inputs = [x, *numbers, call.operand(3), call.operand(4)]
    found = as_onnx(call, "BatchNormalization", inputs, epsilon=float(call.option("eps")))
    found.outputs = (y,)
    batch_normalization(found)


def _depthwise(call: LogicalCall, x: Operand, y: Operand, gamma: AnyArray, beta: AnyArray) -> None:
    mean, var = call.constant(3, "mean"), call.constant(4, "variance")
    scale = gamma / np.sqrt(var + float(call.option("eps")))
    w = call.const("scale", scale.reshape(1, 1, -1))
    b = call.const("offset", beta - mean * scale)
    kind = Fixed("depthwise_conv2d", lambda n: WeightedInputs(n[0], w, b), DepthwiseConv2dAttrs())
    call.step(kind, [x], y)
