"""ONNX's AveragePool."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np

from isobit.core.dtypes import DType
from isobit.core.fixed import Average, divide_round_away
from isobit.core.types import Affine, Shape, TensorType
from isobit.ir.graph import Inputs
from isobit.ops.avg_pool2d.op import AvgPool2dAttrs, AvgPool2dInputs
from isobit.ops.depthwise_conv2d.op import DepthwiseConv2dAttrs
from isobit.ops.exact import half_even
from isobit.ops.foreign import Operand, onnx
from isobit.ops.logical import Fixed, LogicalCall, Names
from isobit.ops.max_pool2d.from_onnx import exact_pad, pool_window
from isobit.ops.onnx import code_bounds, done, image, image_shape, rescaled, scale, target
from isobit.ops.weighted import WeightedInputs
from isobit.ops.window import Quad, Window


@onnx("AveragePool", "QLinearAveragePool")
def average_pool(call: LogicalCall) -> None:
    """x: [1,C,H,W] or [1,C,L]; no dilation.

    Integer graphs: the average of codes, ties away from zero. Where the encoding changes and all
    windows count the same, a depthwise convolution with ones, whose multiplier is exact; else a
    table behind the average. The largest difference from the exact average is found over all sums.
    """
    x = image(call, call.activation())
    window = pool_window(call)
    shape = image_shape(call.output().shape)
    y = target(call, (1, x.shape[1], *shape[2:]), like=x)
    own, reach = window.pad, exact_pad(window, x.shape, shape)
    pad: Quad = (own[0], own[1], min(own[2], reach[2]), min(own[3], reach[3]))
    attrs = AvgPool2dAttrs(
        window.kernel,
        window.stride,
        pad,
        count_include_pad=bool(call.option("count_include_pad", 0)),
        extension=(reach[2] - pad[2], reach[3] - pad[3]),
        round=Average.AWAY,
    )
    stored: Shape = (1, x.shape[2], x.shape[3], x.shape[1])
    _require_counted(call, attrs, window, stored)
    if not call.is_float and x.type.encoding != call.output().type.encoding:
        counts = np.unique(attrs.counts(stored))
        if counts.size == 1:
            _summed(call, x, attrs, int(counts[0]), shape)
            return
    if not call.is_float:
        attrs = replace(attrs, clamp=_bounds(call, x, y))
    call.step(Fixed("avg_pool2d", lambda n: AvgPool2dInputs(n[0]), attrs), [x], y)
    if not call.is_float:
        _prove(call, x, attrs)
    done(call, y)


def _bounds(call: LogicalCall, x: Operand, y: Operand) -> tuple[int, int]:
    """Return the fused activation; before a table there is none."""
    if x.type.encoding != call.output().type.encoding:
        if call.bounds != (-np.inf, np.inf):
            raise call.unsupported(
                "activation", "one encoding before and after", "two", "Quantise in between."
            )
        return (-128, 127)
    return code_bounds(call, y)


def _summed(call: LogicalCall, x: Operand, attrs: AvgPool2dAttrs, count: int, shape: Shape) -> None:
    """Record the average as a sum with one multiplier; padding adds real 0 to it."""
    real = scale(call, x) / (scale(call, call.output()) * count)
    largest = max(127 - x.zero, x.zero + 128)
    names = rescaled(call, real, largest * count)
    window = attrs.window()
    y = target(call, (1, x.shape[1], *shape[2:]))
    kind = TensorType((), DType.S8, Affine((1 / count,)))
    ones = np.ones((*window.kernel, x.shape[1]), dtype=np.int8)
    w = call.const("ones", ones, kind)
    clamp = code_bounds(call, call.output())
    depthwise = DepthwiseConv2dAttrs(window.stride, window.pad, clamp=clamp)

    def inputs(found: Names) -> Inputs[str]:
        return WeightedInputs(found[0], w, mult=names["mult"], shift=names["shift"])

    call.step(Fixed("depthwise_conv2d", inputs, depthwise), [x], y)
    done(call, y)


def _require_counted(
    call: LogicalCall, attrs: AvgPool2dAttrs, window: Window, stored: Shape
) -> None:
    fits = min(a - b for a, b in zip(attrs.window().padded(stored), window.extent, strict=True))
    if fits < 0 or attrs.counts(stored).min() < 1:
        raise call.unsupported(
            "pads", "less than the kernel", str(attrs.pad), "A window lies on padding only."
        )


def _prove(call: LogicalCall, x: Operand, attrs: AvgPool2dAttrs) -> None:
    """Compare every sum of every count of taps with the exact average."""
    out, sx = call.output(), scale(call, x)
    sy = scale(call, out)
    stored: Shape = (1, x.shape[2], x.shape[3], x.shape[1])
    worst = 0
    for count in np.unique(attrs.counts(stored)).tolist():
        sums = np.arange(-128 * count, 127 * count + 1, dtype=np.int64)
        codes = divide_round_away(sums, count)
        for total, code in zip(sums.tolist(), codes.tolist(), strict=True):
            mean = Fraction(total, count) - x.zero
            exact = half_even(mean * sx / sy)
            ours = half_even((code - x.zero) * sx / sy)
            low, high = -128 - out.zero, 127 - out.zero
            worst = max(worst, abs(min(max(exact, low), high) - min(max(ours, low), high)))
    call.lossy(worst, "averages on a tie, or rounded before the encoding changes")
