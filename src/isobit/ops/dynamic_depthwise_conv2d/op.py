"""dynamic_depthwise_conv2d: depthwise_conv2d whose output step is a power of two that every run
finds from its sums.

y = half_up(t * 2^-s) with the least s for which the largest t of the image fits 8 bits, t = b[o] +
sum x * w in the coarser unit of both; its exponent is the second output (docs/numerics.md).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from isobit.ir.graph import Attrs
from isobit.ops.base import Sample
from isobit.ops.depthwise_conv2d.op import DepthwiseConv2d, DepthwiseConv2dAttrs
from isobit.ops.dynamic import DynamicOp
from isobit.ops.dynamic_samples import layer_samples
from isobit.ops.window import Pair, Quad


@dataclass(frozen=True, slots=True)
class DynamicDepthwiseConv2dAttrs(Attrs):
    """`pad` is (top, left, bottom, right). `product`, `bias`: exponents of a product of codes (at
    an exponent 0 of x, where it has one) and of the bias.
    """

    stride: Pair = (1, 1)
    pad: Quad = (0, 0, 0, 0)
    dilation: Pair = (1, 1)
    product: int = 0
    bias: int = 0

    @property
    def plain(self) -> DepthwiseConv2dAttrs:
        """Those of a depthwise_conv2d with the same sums."""
        return DepthwiseConv2dAttrs(self.stride, self.pad, self.dilation)


class DynamicDepthwiseConv2d(
    DynamicOp[DynamicDepthwiseConv2dAttrs], name="dynamic_depthwise_conv2d"
):
    """x: s8 [N,H,W,C] in a power-of-two step, or with an exponent e: s16 [N,1]; w: s8 [KH,KW,O],
    O = C * multiplier; b: s32 [O]; y: s8 [N,OH,OW,O] and its exponent s16 [N,1].

    `isobit.nn.DynamicConv2d` with as many groups as input channels.
    """

    channel_axis = 2
    plain = DepthwiseConv2d

    @staticmethod
    def plain_attrs(attrs: DynamicDepthwiseConv2dAttrs) -> DepthwiseConv2dAttrs:
        return attrs.plain

    @staticmethod
    def samples() -> Iterator[Sample[Any]]:
        rng = np.random.default_rng(51)
        same = (1, 1, 1, 1)
        cases = (
            ("3x3 same", (6, 6, 5, 4), (3, 3, 4), DynamicDepthwiseConv2dAttrs(pad=same)),
            (
                "stride 2, asymmetric pad, odd channels",
                (6, 7, 8, 5),
                (3, 3, 5),
                DynamicDepthwiseConv2dAttrs((2, 2), (0, 0, 1, 1)),
            ),
            (
                "2x3, multiplier 3, no bias",
                (6, 5, 7, 2),
                (2, 3, 6),
                DynamicDepthwiseConv2dAttrs((1, 3)),
            ),
            (
                "one channel, multiplier 8",
                (6, 6, 6, 1),
                (3, 3, 8),
                DynamicDepthwiseConv2dAttrs((2, 2)),
            ),
            (
                "unlike strides, dilations and pads",
                (6, 8, 9, 2),
                (3, 2, 2),
                DynamicDepthwiseConv2dAttrs((1, 2), (2, 1, 3, 0), (2, 3)),
            ),
            ("whole image", (6, 4, 3, 6), (4, 3, 6), DynamicDepthwiseConv2dAttrs()),
        )
        for label, x, w, attrs in cases:
            yield from layer_samples(DynamicDepthwiseConv2d, rng, label, x, w, attrs)
