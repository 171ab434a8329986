"""dynamic_conv2d: conv2d whose output step is a power of two that every run finds from its sums.

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
from isobit.ops.conv2d.op import Conv2d, Conv2dAttrs
from isobit.ops.dynamic import DynamicInputs, DynamicOp
from isobit.ops.dynamic_depthwise_conv2d.op import DynamicDepthwiseConv2dAttrs
from isobit.ops.dynamic_samples import layer_samples
from isobit.ops.layer import Layer
from isobit.ops.window import Pair, Quad, Window, pair, torch_padding


@dataclass(frozen=True, slots=True)
class DynamicConv2dAttrs(Attrs):
    """`pad` is (top, left, bottom, right). `product`, `bias`: exponents of a product of codes (at
    an exponent 0 of x, where it has one) and of the bias.
    """

    stride: Pair = (1, 1)
    pad: Quad = (0, 0, 0, 0)
    dilation: Pair = (1, 1)
    groups: int = 1
    product: int = 0
    bias: int = 0

    @property
    def plain(self) -> Conv2dAttrs:
        """Those of a conv2d with the same sums."""
        return Conv2dAttrs(self.stride, self.pad, self.dilation, self.groups)


class DynamicConv2d(DynamicOp[DynamicConv2dAttrs], name="dynamic_conv2d"):
    """x: s8 [N,H,W,C] in a power-of-two step, or with an exponent e: s16 [N,1]; w: s8
    [O,KH,KW,C/groups]; b: s32 [O]; y: s8 [N,OH,OW,O] and its exponent s16 [N,1].
    """

    plain = Conv2d

    @staticmethod
    def plain_attrs(attrs: DynamicConv2dAttrs) -> Conv2dAttrs:
        return attrs.plain

    @staticmethod
    def samples() -> Iterator[Sample[Any]]:
        rng = np.random.default_rng(49)
        same = (1, 1, 1, 1)
        cases = (
            ("3x3 same", (6, 6, 5, 3), (4, 3, 3, 3), DynamicConv2dAttrs(pad=same)),
            ("1x1, no bias", (6, 3, 4, 5), (6, 1, 1, 5), DynamicConv2dAttrs()),
            (
                "stride 2, asymmetric pad",
                (6, 7, 8, 2),
                (3, 3, 3, 2),
                DynamicConv2dAttrs((2, 2), (0, 0, 1, 1)),
            ),
            (
                "dilation, two groups",
                (6, 6, 7, 4),
                (4, 2, 3, 2),
                DynamicConv2dAttrs((1, 1), (1, 2, 0, 1), (2, 1), 2),
            ),
            ("deep", (6, 2, 2, 33), (3, 2, 2, 33), DynamicConv2dAttrs(pad=same)),
        )
        for label, x, w, attrs in cases:
            yield from layer_samples(DynamicConv2d, rng, label, x, w, attrs)


class DynamicConv2dLayer(Layer, name="DynamicConv2d"):
    """`isobit.nn.DynamicConv2d`: `Conv2d` whose output range every run finds; scheme `pow2`. One
    group for each input channel makes it a `dynamic_depthwise_conv2d`.
    """

    @classmethod
    def module_class(cls) -> Any:
        from isobit.ops.dynamic_conv2d.torch_module import DynamicConv2d as Module

        return Module

    @staticmethod
    def lower(build: Any, module: Any, x: Any) -> Any:
        if module.padding_mode != "zeros":
            raise build.refuse("padding_mode", "zeros", module.padding_mode, "Pad with zeros.")
        kernel, dilation = pair(module.kernel_size), pair(module.dilation)
        window = Window(kernel=kernel, stride=pair(module.stride), dilation=dilation)
        pads = torch_padding(module.padding, window)
        b = None if module.bias is None else build.parameter("bias")
        e = build.exponent(x)
        if module.groups == module.in_channels > 1:
            w = build.parameter("weight", view=(module.out_channels, *kernel), permute=(1, 2, 0))
            depthwise = DynamicDepthwiseConv2dAttrs(window.stride, pads, dilation)
            inputs = DynamicInputs(x.name, w, b, e=e)
            codes, _ = build.node("dynamic_depthwise_conv2d", inputs, depthwise)
            return codes
        w = build.parameter("weight", permute=(0, 2, 3, 1))
        attrs = DynamicConv2dAttrs(window.stride, pads, dilation, module.groups)
        codes, _ = build.node("dynamic_conv2d", DynamicInputs(x.name, w, b, e=e), attrs)
        return codes
