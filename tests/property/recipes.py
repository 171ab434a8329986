"""How a random graph grows by each operator. `RECIPES` has one entry per integer operator."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from isobit.core.dtypes import DType
from isobit.core.fixed import Average, Rounding, multiplier_half_up, multiplier_q31
from isobit.core.types import Affine, Encoding, Pow2, Real, TensorType, scale_of
from isobit.ops.add.op import AddAttrs, AddInputs
from isobit.ops.avg_pool2d.op import AvgPool2dAttrs, AvgPool2dInputs
from isobit.ops.base import NodeTypes
from isobit.ops.clamp.op import ClampAttrs, ClampInputs
from isobit.ops.conv2d.op import Conv2dAttrs
from isobit.ops.depthwise_conv2d.op import DepthwiseConv2dAttrs
from isobit.ops.dequantize.op import DequantizeAttrs, DequantizeInputs
from isobit.ops.global_avg_pool.op import GlobalAvgPoolAttrs, GlobalAvgPoolInputs
from isobit.ops.l2_normalization import op as l2
from isobit.ops.linear.op import LinearAttrs
from isobit.ops.lut.op import LutAttrs, LutInputs
from isobit.ops.lut_interpolated import table as interpolation
from isobit.ops.lut_interpolated.op import OUTPUT as INTERPOLATED
from isobit.ops.lut_interpolated.op import LutInterpolatedAttrs, LutInterpolatedInputs
from isobit.ops.max_pool2d.op import MaxPool2dAttrs, MaxPool2dInputs
from isobit.ops.maximum.op import MaximumAttrs, MaximumInputs
from isobit.ops.mul.op import MulAttrs, MulInputs
from isobit.ops.per_image_standardize.op import (
    PerImageStandardizeAttrs,
    PerImageStandardizeInputs,
    least_variance,
)
from isobit.ops.prelu.op import FACTORS, PreluAttrs, PreluInputs
from isobit.ops.quantize.op import QuantizeAttrs, QuantizeInputs
from isobit.ops.reduce_max.op import ReduceMaxAttrs, ReduceMaxInputs
from isobit.ops.reduce_sum.op import ReduceSumAttrs, ReduceSumInputs
from isobit.ops.registry import load_ops
from isobit.ops.requantize.op import RequantizeAttrs, RequantizeInputs
from isobit.ops.reshape.op import ReshapeAttrs, ReshapeInputs
from isobit.ops.resize_nearest.op import ResizeAttrs, ResizeInputs
from isobit.ops.schemes import Scheme
from isobit.ops.softmax.op import OUTPUT, SoftmaxAttrs, SoftmaxInputs
from isobit.ops.standardize.op import StandardizeAttrs, StandardizeInputs
from isobit.ops.transpose_conv2d.op import TransposeConv2dAttrs
from isobit.ops.weighted import WeightedInputs

from .dynamic import dynamic_conv2d, dynamic_depthwise_conv2d, dynamic_linear
from .graphs import Draft
from .moves import concat, mirror_pad, pad, reshape, split, strided_slice, transpose

Pads = tuple[int, int, int, int]


def conv2d(d: Draft) -> None:
    x = d.codes8(4)
    channels = d.values[x].shape[3]
    groups = d.choose([g for g in range(1, channels + 1) if channels % g == 0])
    outputs = groups * d.integer(1, max(1, 6 // groups))
    w = d.weights((outputs, d.integer(1, 4), d.integer(1, 4), channels // groups), 0)
    attrs = Conv2dAttrs(stride(d), pads(d, 2), dilation(d), groups)
    d.requantised("conv2d", WeightedInputs(x, w, bias(d, w, 0)), attrs, channels=outputs)


def depthwise_conv2d(d: Draft) -> None:
    x = d.codes8(4)
    outputs = d.values[x].shape[3] * d.integer(1, 3)
    w = d.weights((d.integer(1, 4), d.integer(1, 4), outputs), 2)
    attrs = DepthwiseConv2dAttrs(stride(d), pads(d, 2), dilation(d))
    inputs = WeightedInputs(x, w, bias(d, w, 2))
    d.requantised("depthwise_conv2d", inputs, attrs, channels=outputs)


def linear(d: Draft) -> None:
    x = d.codes8()
    kind = d.values[x]
    if len(kind.shape) != 2:
        (x,) = d.emit("reshape", ReshapeInputs(x), ReshapeAttrs((kind.elements,)))
    outputs = d.integer(1, 15)
    w = d.weights((outputs, d.values[x].shape[1]), 0)
    d.requantised("linear", WeightedInputs(x, w, bias(d, w, 0)), LinearAttrs(), channels=outputs)


def bias(d: Draft, w: str, axis: int) -> str | None:
    """Of the size of the sums, or none."""
    if d.chance(0.2):
        return None
    shape = d.consts[w].type.shape
    terms = math.prod(shape) / shape[axis]
    size = int(3000 * math.sqrt(terms)) + 1
    return d.const(d.rng.integers(-size, size + 1, size=shape[axis]))


def transpose_conv2d(d: Draft) -> None:
    """Cut on any side, or with rows and columns of the bias alone."""
    x = d.codes8(4)
    _, rows, columns, channels = d.values[x].shape
    outputs, kernel = d.integer(1, 5), (d.integer(1, 4), d.integer(1, 4))
    w = d.weights((outputs, *kernel, channels), 0)
    step, cut = stride(d), (d.integer(0, 2), d.integer(0, 2))
    full = ((rows - 1) * step[0] + kernel[0], (columns - 1) * step[1] + kernel[1])
    height, width = (max(1, f - c - d.integer(-1, 2)) for f, c in zip(full, cut, strict=True))
    attrs = TransposeConv2dAttrs((height, width), step, cut)
    inputs = WeightedInputs(x, w, bias(d, w, 0))
    d.requantised("transpose_conv2d", inputs, attrs, channels=outputs)


def max_pool2d(d: Draft) -> None:
    kernel = (d.integer(1, 4), d.integer(1, 4))
    attrs = MaxPool2dAttrs(kernel, stride(d), pads(d, min(kernel) - 1))
    d.emit("max_pool2d", MaxPool2dInputs(d.codes8(4)), attrs)


def avg_pool2d(d: Draft) -> None:
    attrs = AvgPool2dAttrs(
        (d.integer(1, 4), d.integer(1, 4)),
        stride(d),
        pads(d, 2),
        count_include_pad=d.chance(0.5),
        extension=(d.integer(0, 1), d.integer(0, 1)),
        clamp=d.clamp(Pow2((0,))),
        round=d.choose(Average),
    )
    d.emit("avg_pool2d", AvgPool2dInputs(d.codes8(4)), attrs)
    d.rules.append(attrs.round.value)


def global_avg_pool(d: Draft) -> None:
    attrs = GlobalAvgPoolAttrs(d.clamp(Pow2((0,))), d.choose(Average))
    d.emit("global_avg_pool", GlobalAvgPoolInputs(d.codes8(4)), attrs)
    d.rules.append(attrs.round.value)


def stride(d: Draft) -> tuple[int, int]:
    return (d.integer(1, 3), d.integer(1, 3)) if d.chance(0.4) else (1, 1)


def dilation(d: Draft) -> tuple[int, int]:
    return (d.integer(1, 2), d.integer(1, 2)) if d.chance(0.3) else (1, 1)


def pads(d: Draft, most: int) -> Pads:
    """None, the same on all sides, or four different ones."""
    style = d.integer(0, 2)
    if style == 0:
        return (0, 0, 0, 0)
    if style == 1:
        size = d.integer(0, most)
        return (size,) * 4
    return (d.integer(0, most), d.integer(0, most), d.integer(0, most), d.integer(0, most))


def add(d: Draft) -> None:
    a, b = pair(d)
    spread = [max(float(np.quantile(np.abs(centred(d, v)), 0.97)), 1.0) for v in (a, b)]
    shift = d.integer(0, 18)
    real = d.rng.uniform(25.0, 65.0, size=2) / spread * 2.0**shift
    mult = np.maximum(np.rint(real), 1).astype(np.int64)
    encoding = d.encoding()
    attrs = AddAttrs(d.clamp(encoding))
    numbers = {"mult_a": d.const(mult[:1]), "mult_b": d.const(mult[1:])}
    inputs = AddInputs(a, b, **numbers, shift=d.const(np.asarray([shift])))
    (name,) = d.emit("add", inputs, attrs, encoding)
    d.note(name, attrs.clamp, "shift")


def mul(d: Draft) -> None:
    d.requantised("mul", MulInputs(*pair(d)), MulAttrs())


def pair(d: Draft) -> tuple[str, str]:
    """Two int8 values whose shapes broadcast; a residual where nothing else fits."""
    a = d.codes8()
    shape = d.values[a].shape

    def fits(kind: TensorType) -> bool:
        return (
            kind.dtype is DType.S8
            and len(kind.shape) == len(shape)
            and all(p == q or 1 in (p, q) for p, q in zip(kind.shape, shape, strict=True))
        )

    others = [name for name in d.names(fits) if name != a]
    b = str(d.choose(others)) if others and d.chance(0.9) else a
    return (a, b) if d.chance(0.5) else (b, a)


def maximum(d: Draft) -> None:
    """Of values of one encoding; another one is requantised first."""
    a, b = pair(d)
    if d.values[b].encoding != d.values[a].encoding:
        inputs, encoding = RequantizeInputs(b), d.values[a].encoding
        b = d.requantised("requantize", inputs, RequantizeAttrs(), encoding=encoding)
    d.emit("maximum", MaximumInputs(a, b), MaximumAttrs(smallest=d.chance(0.5)))


def axes(d: Draft, x: str) -> tuple[int, ...]:
    """One axis or several, the batch never."""
    rank = len(d.values[x].shape)
    found = d.rng.permutation(rank - 1)[: d.integer(1, rank - 1)]
    return tuple(sorted(int(axis) + 1 for axis in found))


def reduce_sum(d: Draft) -> None:
    x = d.codes8()
    d.requantised("reduce_sum", ReduceSumInputs(x), ReduceSumAttrs(axes(d, x), d.chance(0.5)))


def reduce_max(d: Draft) -> None:
    x = d.codes8()
    d.emit("reduce_max", ReduceMaxInputs(x), ReduceMaxAttrs(axes(d, x), d.chance(0.5)))


def l2_normalization(d: Draft) -> None:
    encoding = Pow2((7,)) if d.scheme is Scheme.POW2 else l2.OUTPUT
    inputs = l2.L2NormalizationInputs(d.codes8())
    d.emit("l2_normalization", inputs, l2.L2NormalizationAttrs(), encoding)


def resize_nearest(d: Draft) -> None:
    attrs = ResizeAttrs((d.integer(1, 9), d.integer(1, 9)), d.chance(0.5), d.chance(0.5))
    d.emit("resize_nearest", ResizeInputs(d.codes8(4)), attrs)


def resize_bilinear(d: Draft) -> None:
    corners = d.chance(0.5)
    attrs = ResizeAttrs((d.integer(1, 9), d.integer(1, 9)), corners, not corners and d.chance(0.5))
    d.emit("resize_bilinear", ResizeInputs(d.codes8(4)), attrs)


def centred(d: Draft, name: str) -> np.ndarray:
    return d.codes[name].astype(np.int64) - d.values[name].zero


def requantize(d: Draft) -> None:
    d.requantised("requantize", RequantizeInputs(d.codes8()), RequantizeAttrs())


def clamp(d: Draft) -> None:
    low, high = sorted((d.integer(-128, -30), d.integer(30, 127)))
    d.emit("clamp", ClampInputs(d.codes8()), ClampAttrs(clamp=(low, high)))


def lut(d: Draft) -> None:
    x, encoding = d.codes8(), d.encoding()
    if d.chance(0.3):
        attrs = LutAttrs(d.choose(("hardswish", "leaky_relu", "hardsigmoid", "sigmoid")))
        table = (
            load_ops()
            .op("lut")
            .derive(
                attrs,
                NodeTypes(LutInputs(d.values[x]), (TensorType((1,), DType.S8, encoding),)),
                d.scheme,
                None,
            )[1]["table"]
        )
    else:
        attrs = LutAttrs("")
        table = d.rng.integers(-128, 128, size=256)
    d.emit("lut", LutInputs(x, table=d.const(table, DType.S8)), attrs, encoding)


def lut_interpolated(d: Draft) -> None:
    """A detour through int16: wider codes, a table of theirs, int8 again."""
    x, bounds = d.codes8(), (DType.S16.low, DType.S16.high)
    fine = Affine((2.0 ** -d.integer(11, 13),), 0)
    factors = {"mult": d.const([d.integer(100, 250)]), "shift": d.const([0])}
    wider = RequantizeAttrs(bounds, dtype=DType.S16)
    (wide,) = d.emit("requantize", RequantizeInputs(x, **factors), wider, fine)
    attrs = LutInterpolatedAttrs(d.choose(("sigmoid", "tanh")))
    mult, shift = interpolation.parameters(attrs.function, fine.scale[0])
    inputs = LutInterpolatedInputs(
        wide,
        table=d.const(interpolation.table(), DType.S16),
        mult=d.const([mult]),
        shift=d.const([shift]),
    )
    (y,) = d.emit("lut_interpolated", inputs, attrs, INTERPOLATED)
    d.emit("requantize", RequantizeInputs(y, shift=d.const([8])), RequantizeAttrs(), d.encoding())


def prelu(d: Draft) -> None:
    """Slopes along any axes; factors of either rule that keep most of the range."""
    x = d.codes8()
    own = [1, *(n if d.chance(0.5) else 1 for n in d.values[x].shape[1:])]
    slope = d.const(d.rng.integers(-127, 128, size=own), DType.S8, Pow2((6,)))
    spread = max(float(np.quantile(np.abs(centred(d, x)), 0.97)), 1.0)
    rule = d.choose((Rounding.HALF_UP, Rounding.TFLITE_DOUBLE))
    encoding = d.encoding()
    attrs = PreluAttrs(d.clamp(encoding), rule)
    real = d.rng.uniform(40.0, 90.0) / spread
    split_up = multiplier_half_up if rule is Rounding.HALF_UP else multiplier_q31
    numbers = [n for factor in (real, real / 64) for n in split_up(factor)]
    consts = {name: d.const(np.asarray([n])) for name, n in zip(FACTORS, numbers, strict=True)}
    (name,) = d.emit("prelu", PreluInputs(x, slope, **consts), attrs, encoding)
    d.note(name, attrs.clamp, rule.value)


def softmax(d: Draft) -> None:
    x = d.codes8()
    kind = d.values[x]
    spread = float(np.ptp(centred(d, x) * scale_of(kind.encoding)[0])) + 0.1
    attrs = SoftmaxAttrs(beta=float(d.rng.uniform(2.0, 9.0)) / spread)
    q = NodeTypes(SoftmaxInputs(kind), (kind,))
    attrs, _ = load_ops().op("softmax").derive(attrs, q, d.scheme, None)
    d.emit("softmax", SoftmaxInputs(x), attrs, OUTPUT)


def standardize(d: Draft) -> None:
    x = d.value(lambda t: t.dtype is DType.U8)
    _less_mean(d, "standardize", x, (d.choose((1, d.values[x].shape[-1])),))


def mean_image(d: Draft) -> None:
    x = d.value(lambda t: t.dtype is DType.U8)
    _less_mean(d, "mean_image", x, d.values[x].shape[1:])


def _less_mean(d: Draft, op: str, x: str, means: tuple[int, ...]) -> None:
    encoding: Encoding = d.encoding()
    mean = d.const(d.rng.integers(90, 166, size=means))
    left = d.integer(0, 2)
    attrs = StandardizeAttrs(left, left + d.integer(0, 1), d.clamp(encoding))
    (name,) = d.emit(op, StandardizeInputs(x, mean), attrs, encoding)
    d.note(name, attrs.clamp, "shift")


def per_image_standardize(d: Draft) -> None:
    x = d.value(lambda t: t.dtype in (DType.U8, DType.S8))
    frac = d.integer(4, 6)
    encoding: Encoding = Pow2((frac,))
    if d.scheme is Scheme.AFFINE:
        encoding = Affine((2.0**-frac,), d.integer(-30, 30))
    least = least_variance(d.values[x])
    attrs = PerImageStandardizeAttrs(frac, least, d.clamp(encoding))
    d.emit("per_image_standardize", PerImageStandardizeInputs(x), attrs, encoding)


def quantize(d: Draft) -> None:
    x = d.value(lambda t: t.dtype is DType.F32)
    zero = 0 if isinstance(d.encoding(), Pow2) else d.integer(-30, 30)
    scale = float(np.quantile(np.abs(d.codes[x][np.isfinite(d.codes[x])]), 0.97)) / 90.0
    encoding: Encoding = Affine((scale,), zero)
    if isinstance(d.encoding(), Pow2):
        encoding = Pow2((math.floor(-math.log2(scale)),))
    kind = d.values[x]
    q = NodeTypes(QuantizeInputs(kind), (TensorType(kind.shape, DType.S8, encoding),))
    attrs, numbers = (
        load_ops().op("quantize").derive(QuantizeAttrs(d.clamp(encoding)), q, d.scheme, None)
    )
    names = {key: d.const(data) for key, data in numbers.items()}
    (name,) = d.emit("quantize", QuantizeInputs(x, **names), attrs, encoding)
    d.note(name, attrs.clamp, "float")


def dequantize(d: Draft) -> None:
    x = d.codes8()
    kind = d.values[x]
    q = NodeTypes(DequantizeInputs(kind), (kind,))
    _, numbers = load_ops().op("dequantize").derive(DequantizeAttrs(), q, d.scheme, None)
    table = d.const(numbers["table"], DType.F32, Real())
    d.emit("dequantize", DequantizeInputs(x, table=table), DequantizeAttrs())


RECIPES: dict[str, Callable[[Draft], None]] = {
    recipe.__name__: recipe
    for recipe in (
        conv2d,
        depthwise_conv2d,
        linear,
        max_pool2d,
        avg_pool2d,
        global_avg_pool,
        add,
        mul,
        requantize,
        clamp,
        lut,
        lut_interpolated,
        prelu,
        softmax,
        standardize,
        mean_image,
        per_image_standardize,
        quantize,
        dequantize,
        concat,
        split,
        pad,
        mirror_pad,
        strided_slice,
        reshape,
        transpose,
        transpose_conv2d,
        maximum,
        reduce_sum,
        reduce_max,
        resize_nearest,
        resize_bilinear,
        l2_normalization,
        dynamic_conv2d,
        dynamic_depthwise_conv2d,
        dynamic_linear,
    )
}
PIXELS = ("standardize", "mean_image", "per_image_standardize")
"""What turns raw pixels into codes: the first node of their graphs."""
FLOATS = ("quantize",)
"""What turns floats into codes."""
MIDDLE = (
    *sorted(set(RECIPES) - {"standardize", "mean_image", "quantize", "dequantize"}),
    *("conv2d", "depthwise_conv2d", "linear") * 2,
    *("avg_pool2d", "max_pool2d", "avg_pool2d"),
)
"""What the nodes between are drawn from: the operators with most attributes more often."""
