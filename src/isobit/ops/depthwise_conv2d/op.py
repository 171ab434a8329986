"""depthwise_conv2d: y[n,oy,ox,o] = clamp(Zy + R(b[o] + sum (x[n,iy,ix,o/m] - Zx) * w[ky,kx,o]))."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from isobit.core.dtypes import DType
from isobit.core.errors import BadShape, raise_all
from isobit.core.fixed import Rounding
from isobit.core.types import AnyArray, FloatArray, IntArray, TensorType
from isobit.ir.graph import Attrs
from isobit.ops import sampling
from isobit.ops.base import Cost, Inferred, NodeTypes, Sample
from isobit.ops.channels import Depthwise
from isobit.ops.weighted import WeightedInputs, WeightedOp, finish, weight_problems, weighted_cost
from isobit.ops.weighted_samples import others
from isobit.ops.window import Pair, Quad, Window

if TYPE_CHECKING:
    from torch import Tensor

    from isobit.core.torch_products import Windows


@dataclass(frozen=True, slots=True)
class DepthwiseConv2dAttrs(Attrs):
    """`pad` is (top, left, bottom, right); `clamp` is in output codes; `dtype`: the carrier of y
    where it is not that of x.
    """

    stride: Pair = (1, 1)
    pad: Quad = (0, 0, 0, 0)
    dilation: Pair = (1, 1)
    clamp: tuple[int, int] = (-128, 127)
    round: Rounding = Rounding.HALF_UP
    dtype: DType | None = None

    def window(self, w: tuple[int, ...]) -> Window:
        """The window of weights [KH, KW, O]."""
        return Window(kernel=(w[0], w[1]), stride=self.stride, pad=self.pad, dilation=self.dilation)


class DepthwiseConv2d(WeightedOp[DepthwiseConv2dAttrs], name="depthwise_conv2d"):
    """x: s8 [N,H,W,C]; w: s8 [KH,KW,O], O = C * multiplier; b: s32 [O]; y: s8 [N,OH,OW,O].

    `conv2d` with as many groups as input channels. Source: docs/numerics.md; TFLite
    `DEPTHWISE_CONV_2D`.
    """

    channel_axis = 2
    absorbs_pad = True
    takes_wide = True
    channels = Depthwise()

    @staticmethod
    def infer(attrs: DepthwiseConv2dAttrs, types: WeightedInputs[TensorType]) -> Inferred:
        x, w = types.x.shape, types.w.shape
        if len(w) != 3:
            raise BadShape(
                where="depthwise_conv2d",
                what="weight rank",
                want="3 (KH, KW, O)",
                got=str(list(w)),
                fix="Drop the axis of input channels, which has one entry.",
            )
        window = attrs.window(w)
        errors = window.problems("depthwise_conv2d", x)
        if len(x) == 4 and (w[2] == 0 or w[2] % x[3]):
            errors.append(
                BadShape(
                    where="depthwise_conv2d",
                    what="output channels",
                    want=f"a multiple of the {x[3]} input channels",
                    got=str(w[2]),
                    fix="Set out_channels to a multiple of in_channels.",
                )
            )
        errors.extend(weight_problems("depthwise_conv2d", types, w[2], attrs.clamp, attrs.dtype))
        raise_all(errors)
        return Inferred((x[0], *window.out_hw(x), w[2]), attrs.dtype or types.x.dtype)

    @staticmethod
    def integer(
        attrs: DepthwiseConv2dAttrs, q: NodeTypes[Any], inputs: WeightedInputs[IntArray]
    ) -> IntArray:
        acc = _sums(attrs, inputs.x - q.inputs.x.zero, inputs.w - q.inputs.w.zero)
        return finish(acc, inputs, attrs.clamp, attrs.round, q.output.zero)

    @staticmethod
    def real(attrs: DepthwiseConv2dAttrs, inputs: WeightedInputs[FloatArray]) -> FloatArray:
        result: FloatArray = _sums(attrs, inputs.x, inputs.w)
        return result if inputs.b is None else result + inputs.b

    @staticmethod
    def combine(attrs: DepthwiseConv2dAttrs, x: Tensor, w: Tensor, b: Tensor | None) -> Tensor:
        return DepthwiseConv2d.windows(attrs).sums(x, w, b)

    @staticmethod
    def windows(attrs: DepthwiseConv2dAttrs) -> Windows:
        from isobit.core.torch_products import Windows

        return Windows(attrs.stride, attrs.pad, attrs.dilation, depthwise=True)

    @staticmethod
    def cost(attrs: DepthwiseConv2dAttrs, q: NodeTypes[Any]) -> Cost:
        w, y = q.inputs.w, q.output
        return weighted_cost(q, y.elements * w.shape[0] * w.shape[1])

    @staticmethod
    def samples() -> Iterator[Sample[Any]]:
        rng = np.random.default_rng(25)
        found = [
            _sample(rng, f"{label}/{rule.value if rule else 'shift'}", x, w, attrs, rule)
            for label, x, w, attrs in _CASES
            for rule in (None, Rounding.HALF_UP, Rounding.TFLITE_DOUBLE)
        ]
        yield from found
        yield from others(rng, found)


def _sums(attrs: DepthwiseConv2dAttrs, x: AnyArray, w: AnyArray) -> AnyArray:
    """Return [N, OH, OW, O] sums of products, tap by tap."""
    windows = attrs.window(w.shape).gather(x, 0)
    multiplier = w.shape[2] // x.shape[3]
    total: AnyArray = np.zeros((*windows.shape[:3], w.shape[2]), dtype=x.dtype)
    for ky in range(w.shape[0]):
        for kx in range(w.shape[1]):
            total += np.repeat(windows[:, :, :, ky, kx], multiplier, axis=3) * w[ky, kx]
    return total


_CASES: tuple[tuple[str, tuple[int, ...], tuple[int, ...], DepthwiseConv2dAttrs], ...] = (
    ("3x3 same", (2, 6, 5, 4), (3, 3, 4), DepthwiseConv2dAttrs(pad=(1, 1, 1, 1))),
    ("3x3 same, odd channels", (1, 5, 6, 7), (3, 3, 7), DepthwiseConv2dAttrs(pad=(1, 1, 1, 1))),
    (
        "3x3 stride 2, relu clamp",
        (2, 7, 8, 8),
        (3, 3, 8),
        DepthwiseConv2dAttrs((2, 2), (0, 0, 1, 1), clamp=(0, 127)),
    ),
    ("5x5", (1, 8, 7, 3), (5, 5, 3), DepthwiseConv2dAttrs(pad=(2, 2, 2, 2))),
    ("multiplier 2", (2, 5, 4, 3), (3, 3, 6), DepthwiseConv2dAttrs(pad=(1, 1, 1, 1))),
    ("one channel, multiplier 8", (2, 6, 6, 1), (3, 3, 8), DepthwiseConv2dAttrs((2, 2))),
    ("dilation", (1, 8, 9, 2), (3, 2, 2), DepthwiseConv2dAttrs((1, 1), (2, 1, 2, 1), (2, 3))),
    ("row", (2, 1, 11, 5), (1, 4, 5), DepthwiseConv2dAttrs((1, 2), (0, 2, 0, 1))),
    ("whole image", (2, 4, 3, 6), (4, 3, 6), DepthwiseConv2dAttrs()),
    ("3x2, no bias", (2, 7, 6, 3), (3, 2, 3), DepthwiseConv2dAttrs((2, 1), (1, 0, 0, 1))),
    ("2x3, multiplier 3, no bias", (2, 5, 7, 2), (2, 3, 6), DepthwiseConv2dAttrs((1, 3))),
)


def _sample(
    rng: sampling.Rng,
    label: str,
    x: tuple[int, ...],
    w: tuple[int, ...],
    attrs: DepthwiseConv2dAttrs,
    rule: Rounding | None,
) -> Sample[Any]:
    ex, ew, ey = sampling.encodings(rule, rng)
    spread = float(np.sqrt(w[0] * w[1])) * 74 * 30
    per_channel = w[2] if rule else 1
    mult, shift = sampling.numbers(rng, spread, per_channel, rule)
    attrs = replace(attrs, round=rule or Rounding.HALF_UP)
    arrays: WeightedInputs[Any] = WeightedInputs(
        x=sampling.codes(rng, x),
        w=np.clip(np.rint(rng.normal(0, 30, size=w)), -127, 127).astype(np.int64),
        b=None if "no bias" in label else sampling.codes(rng, w[2:], -int(spread), int(spread)),
        mult=mult,
        shift=shift,
    )
    types: WeightedInputs[TensorType] = WeightedInputs(
        x=sampling.kind((1, *x[1:]), ex),
        w=sampling.kind(w, ew),
        b=None if arrays.b is None else sampling.raw32(w[2]),
        mult=None if mult is None else sampling.raw32(per_channel),
        shift=sampling.raw32(per_channel),
    )
    inferred = DepthwiseConv2d.infer(attrs, types)
    return Sample(label, attrs, NodeTypes(types, (sampling.kind(inferred.shape, ey),)), arrays)
