"""conv2d: y[n,oy,ox,o] = clamp(Zy + R(b[o] + sum (x[n,iy,ix,c] - Zx) * w[o,ky,kx,c]))."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from isobit.core.dtypes import DType
from isobit.core.errors import BadAttribute, BadShape, raise_all
from isobit.core.fixed import Rounding
from isobit.core.types import AnyArray, FloatArray, IntArray, TensorType
from isobit.ir.graph import Attrs
from isobit.ops import sampling
from isobit.ops.base import Cost, Inferred, NodeTypes, Sample
from isobit.ops.channels import Mixing
from isobit.ops.depthwise_conv2d.op import DepthwiseConv2dAttrs
from isobit.ops.layer import Layer
from isobit.ops.weighted import (
    WeightedInputs,
    WeightedOp,
    exact_matmul,
    finish,
    weight_problems,
    weighted_cost,
)
from isobit.ops.weighted_samples import others
from isobit.ops.window import Pair, Quad, Window, pair, torch_padding

if TYPE_CHECKING:
    from torch import Tensor

    from isobit.core.torch_products import Windows


@dataclass(frozen=True, slots=True)
class Conv2dAttrs(Attrs):
    """`pad` is (top, left, bottom, right); `clamp` is in output codes; `dtype`: the carrier of y
    where it is not that of x.
    """

    stride: Pair = (1, 1)
    pad: Quad = (0, 0, 0, 0)
    dilation: Pair = (1, 1)
    groups: int = 1
    clamp: tuple[int, int] = (-128, 127)
    round: Rounding = Rounding.HALF_UP
    dtype: DType | None = None

    def window(self, w: tuple[int, ...]) -> Window:
        """The window of weights [O, KH, KW, C/groups]."""
        return Window(kernel=(w[1], w[2]), stride=self.stride, pad=self.pad, dilation=self.dilation)


class Conv2d(WeightedOp[Conv2dAttrs], name="conv2d"):
    """x: s8 [N,H,W,C]; w: s8 [O,KH,KW,C/groups]; b: s32 [O]; y: s8 [N,OH,OW,O]. Imported weights
    may have a zero point; x and y may be s16, with b s32 or s64.

    Padding stands for real 0, that is for the code Zx. Output channel o reads input group `o // (O
    / groups)`. Source: docs/numerics.md; TFLite `CONV_2D`; Jacob et al. 2018, eq. 7.
    """

    absorbs_pad = True
    takes_wide = True
    channels = Mixing()

    @staticmethod
    def infer(attrs: Conv2dAttrs, types: WeightedInputs[TensorType]) -> Inferred:
        x, w = types.x.shape, types.w.shape
        if len(w) != 4:
            raise BadShape(
                where="conv2d",
                what="weight rank",
                want="4 (O, KH, KW, C/groups)",
                got=str(list(w)),
                fix="Weights are OHWI.",
            )
        window = attrs.window(w)
        errors = window.problems("conv2d", x)
        if len(x) == 4 and attrs.groups >= 1 and x[3] != w[3] * attrs.groups:
            errors.append(
                BadShape(
                    where="conv2d",
                    what="input channels",
                    want=str(w[3] * attrs.groups),
                    got=str(x[3]),
                    fix="Check groups, or the layout of the input (the graph is NHWC).",
                )
            )
        if attrs.groups < 1 or w[0] % attrs.groups:
            errors.append(
                BadAttribute(
                    where="conv2d",
                    what="groups",
                    want=f"a divisor of the {w[0]} output channels",
                    got=str(attrs.groups),
                    fix="Choose groups that divide both channel counts.",
                )
            )
        errors.extend(weight_problems("conv2d", types, w[0], attrs.clamp, attrs.dtype))
        raise_all(errors)
        return Inferred((x[0], *window.out_hw(x), w[0]), attrs.dtype or types.x.dtype)

    @staticmethod
    def integer(
        attrs: Conv2dAttrs, q: NodeTypes[Any], inputs: WeightedInputs[IntArray]
    ) -> IntArray:
        centred = inputs.x - q.inputs.x.zero
        acc = _sums(attrs, centred, inputs.w - q.inputs.w.zero, exact_matmul)
        return finish(acc, inputs, attrs.clamp, attrs.round, q.output.zero)

    @staticmethod
    def real(attrs: Conv2dAttrs, inputs: WeightedInputs[FloatArray]) -> FloatArray:
        result: FloatArray = _sums(attrs, inputs.x, inputs.w, np.matmul)
        return result if inputs.b is None else result + inputs.b

    @staticmethod
    def combine(attrs: Conv2dAttrs, x: Tensor, w: Tensor, b: Tensor | None) -> Tensor:
        return Conv2d.windows(attrs).sums(x, w, b)

    @staticmethod
    def windows(attrs: Conv2dAttrs) -> Windows:
        from isobit.core.torch_products import Windows

        return Windows(attrs.stride, attrs.pad, attrs.dilation, attrs.groups)

    @staticmethod
    def cost(attrs: Conv2dAttrs, q: NodeTypes[Any]) -> Cost:
        w, y = q.inputs.w, q.output
        return weighted_cost(q, y.elements * w.elements // w.shape[0])

    @staticmethod
    def samples() -> Iterator[Sample[Any]]:
        rng = np.random.default_rng(20)
        found = [
            _sample(rng, f"{label}/{rule.value if rule else 'shift'}", x, w, attrs, rule)
            for label, x, w, attrs in _CASES
            for rule in (None, Rounding.HALF_UP, Rounding.TFLITE_DOUBLE)
        ]
        yield from found
        yield from others(rng, found)


class Conv2dLayer(Layer, name="Conv2d"):
    """`isobit.nn.Conv2d`."""

    @staticmethod
    def lower(build: Any, module: Any, x: Any) -> Any:
        if module.padding_mode != "zeros":
            raise build.refuse("padding_mode", "zeros", module.padding_mode, "Pad with zeros.")
        kernel, dilation = pair(module.kernel_size), pair(module.dilation)
        window = Window(kernel=kernel, stride=pair(module.stride), dilation=dilation)
        pads = torch_padding(module.padding, window)
        b = None if module.bias is None else build.parameter("bias")
        if module.groups == module.in_channels > 1:
            w = build.parameter("weight", view=(module.out_channels, *kernel), permute=(1, 2, 0))
            depthwise = DepthwiseConv2dAttrs(window.stride, pads, dilation)
            return build.node("depthwise_conv2d", WeightedInputs(x.name, w, b), depthwise)
        w = build.parameter("weight", permute=(0, 2, 3, 1))
        attrs = Conv2dAttrs(window.stride, pads, dilation, module.groups)
        return build.node("conv2d", WeightedInputs(x.name, w, b), attrs)


def _sums(attrs: Conv2dAttrs, x: AnyArray, w: AnyArray, matmul: Any) -> Any:
    """Return [N, OH, OW, O] sums of products of one matrix product per group."""
    windows = attrs.window(w.shape).gather(x, 0)
    n, oh, ow = windows.shape[:3]
    parts = []
    for group in range(attrs.groups):
        own = windows[..., group * w.shape[3] : (group + 1) * w.shape[3]].reshape(n * oh * ow, -1)
        size = w.shape[0] // attrs.groups
        weights = w[group * size : (group + 1) * size].reshape(size, -1)
        parts.append(matmul(own, weights.T))
    return np.concatenate(parts, axis=1).reshape(n, oh, ow, w.shape[0])


_CASES: tuple[tuple[str, tuple[int, ...], tuple[int, ...], Conv2dAttrs], ...] = (
    ("1x1", (2, 5, 4, 7), (6, 1, 1, 7), Conv2dAttrs()),
    ("1x1 word-aligned channels", (2, 4, 4, 8), (8, 1, 1, 8), Conv2dAttrs()),
    ("1x1 one pixel", (3, 1, 1, 16), (5, 1, 1, 16), Conv2dAttrs()),
    ("3x3 same", (2, 6, 5, 3), (4, 3, 3, 3), Conv2dAttrs(pad=(1, 1, 1, 1))),
    ("3x3 valid, relu clamp", (2, 6, 5, 4), (5, 3, 3, 4), Conv2dAttrs(clamp=(0, 127))),
    ("stride 2, asymmetric pad", (2, 7, 8, 2), (3, 3, 3, 2), Conv2dAttrs((2, 2), (0, 0, 1, 1))),
    ("5x5 rgb", (1, 9, 8, 3), (6, 5, 5, 3), Conv2dAttrs(pad=(2, 2, 2, 2))),
    ("10x4 audio", (1, 12, 6, 1), (4, 10, 4, 1), Conv2dAttrs((2, 2), (4, 1, 5, 1))),
    ("dilation", (2, 8, 9, 2), (3, 3, 2, 2), Conv2dAttrs((1, 1), (2, 1, 2, 1), (2, 3))),
    ("two groups", (2, 5, 5, 6), (4, 3, 3, 3), Conv2dAttrs(pad=(1, 1, 1, 1), groups=2)),
    (
        "groups, stride 2, odd",
        (1, 7, 5, 9),
        (6, 3, 1, 3),
        Conv2dAttrs((2, 1), (1, 0, 1, 0), groups=3),
    ),
    ("pad wider than kernel", (1, 3, 3, 2), (2, 2, 2, 2), Conv2dAttrs((1, 1), (3, 3, 2, 2))),
    ("row", (2, 1, 11, 5), (3, 1, 4, 5), Conv2dAttrs((1, 2), (0, 2, 0, 1))),
    ("deep, 33 channels", (1, 3, 3, 33), (7, 3, 3, 33), Conv2dAttrs(pad=(1, 1, 1, 1))),
    ("1 tap, 1 out, odd pixels", (3, 3, 5, 1), (1, 1, 1, 1), Conv2dAttrs()),
    ("4 taps, 2 out, stride 3", (3, 8, 7, 4), (2, 1, 1, 4), Conv2dAttrs((3, 3))),
    ("12 taps, 3 out, two pixels", (4, 1, 2, 12), (3, 1, 1, 12), Conv2dAttrs()),
    ("16 taps, 1 out, odd pixels", (2, 4, 4, 4), (1, 2, 2, 4), Conv2dAttrs()),
    ("5 taps, 5 out, three pixels", (3, 1, 3, 5), (5, 1, 1, 5), Conv2dAttrs()),
    ("1 tap, 12 out", (2, 3, 3, 1), (12, 1, 1, 1), Conv2dAttrs()),
    ("dilation, 4 in", (2, 7, 6, 4), (2, 2, 2, 4), Conv2dAttrs((1, 1), (1, 1, 1, 1), (2, 2))),
    ("3x2, no bias", (2, 6, 8, 3), (4, 3, 2, 3), Conv2dAttrs((1, 3), (0, 1, 1, 0))),
    ("2x3, 4 in, no bias", (2, 6, 5, 4), (3, 2, 3, 4), Conv2dAttrs((2, 1), (1, 0, 0, 1))),
)


def _sample(
    rng: sampling.Rng,
    label: str,
    x: tuple[int, ...],
    w: tuple[int, ...],
    attrs: Conv2dAttrs,
    rule: Rounding | None,
) -> Sample[Any]:
    ex, ew, ey = sampling.encodings(rule, rng)
    spread = float(np.sqrt(np.prod(w[1:]))) * 74 * 30
    per_channel = w[0] if rule else 1
    mult, shift = sampling.numbers(rng, spread, per_channel, rule)
    attrs = replace(attrs, round=rule or Rounding.HALF_UP)
    weights = np.clip(np.rint(rng.normal(0, 30, size=w)), -127, 127).astype(np.int64)
    arrays: WeightedInputs[Any] = WeightedInputs(
        x=sampling.codes(rng, x),
        w=weights,
        b=None if "no bias" in label else sampling.codes(rng, w[:1], -int(spread), int(spread)),
        mult=mult,
        shift=shift,
    )
    types: WeightedInputs[TensorType] = WeightedInputs(
        x=sampling.kind((1, *x[1:]), ex),
        w=sampling.kind(w, ew),
        b=None if arrays.b is None else sampling.raw32(w[0]),
        mult=None if mult is None else sampling.raw32(per_channel),
        shift=sampling.raw32(per_channel),
    )
    inferred = Conv2d.infer(attrs, types)
    return Sample(label, attrs, NodeTypes(types, (sampling.kind(inferred.shape, ey),)), arrays)
