"""transpose_conv2d: input pixel (p, q) adds its products with every tap (u, v) to the output at
(p*sh + u - top, q*sw + v - left).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from isobit.core.errors import BadAttribute, BadShape, IsobitError, raise_all
from isobit.core.fixed import Rounding
from isobit.core.types import AnyArray, FloatArray, IntArray, Shape, TensorType
from isobit.ir.graph import Attrs
from isobit.ops import sampling
from isobit.ops.base import Cost, Inferred, NodeTypes, Sample
from isobit.ops.weighted import (
    WeightedInputs,
    WeightedOp,
    exact_matmul,
    finish,
    weight_problems,
    weighted_cost,
)
from isobit.ops.weighted_samples import others
from isobit.ops.window import Pair

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True)
class TransposeConv2dAttrs(Attrs):
    """`size`: rows and columns of the output; `pad`: rows above and columns left of it that are cut
    off; `clamp` is in output codes.

    Of the (H-1)*sh + KH rows that have sums, the output starts at row `pad[0]`; rows beyond the
    last one have the bias alone.
    """

    size: Pair
    stride: Pair = (1, 1)
    pad: Pair = (0, 0)
    clamp: tuple[int, int] = (-128, 127)
    round: Rounding = Rounding.HALF_UP


class TransposeConv2d(WeightedOp[TransposeConv2dAttrs], name="transpose_conv2d"):
    """x: s8 [N,H,W,C]; w: s8 [O,KH,KW,C]; b: s32 [O]; y: s8 [N,*size,O].

    Source: docs/numerics.md; TFLite `TRANSPOSE_CONV` (`reference_integer_ops::TransposeConv`).
    """

    @staticmethod
    def infer(attrs: TransposeConv2dAttrs, types: WeightedInputs[TensorType]) -> Inferred:
        x, w = types.x.shape, types.w.shape
        errors: list[IsobitError] = []
        if len(x) != 4 or len(w) != 4 or x[3] != w[3]:
            raise BadShape(
                where="transpose_conv2d",
                what="shapes",
                want="[N,H,W,C] and weights [O,KH,KW,C]",
                got=f"{list(x)} and {list(w)}",
                fix="Weights are OHWI: the last axis is the input's channels.",
            )
        if min(attrs.size) < 1 or min(attrs.stride) < 1 or min(attrs.pad) < 0:
            errors.append(
                BadAttribute(
                    where="transpose_conv2d",
                    what="size, stride, pad",
                    want=">= 1, >= 1, >= 0",
                    got=f"{attrs.size}, {attrs.stride}, {attrs.pad}",
                    fix="Correct the option.",
                )
            )
        raise_all([*errors, *weight_problems("transpose_conv2d", types, w[0], attrs.clamp)])
        return Inferred((x[0], *attrs.size, w[0]), types.x.dtype)

    @staticmethod
    def integer(
        attrs: TransposeConv2dAttrs, q: NodeTypes[Any], inputs: WeightedInputs[IntArray]
    ) -> IntArray:
        centred = inputs.x - q.inputs.x.zero
        acc = _sums(attrs, centred, inputs.w - q.inputs.w.zero, exact_matmul)
        return finish(acc, inputs, attrs.clamp, attrs.round, q.output.zero)

    @staticmethod
    def real(attrs: TransposeConv2dAttrs, inputs: WeightedInputs[FloatArray]) -> FloatArray:
        result: FloatArray = _sums(attrs, inputs.x, inputs.w, np.matmul)
        return result if inputs.b is None else result + inputs.b

    @staticmethod
    def combine(attrs: TransposeConv2dAttrs, x: Tensor, w: Tensor, b: Tensor | None) -> Tensor:
        from torch.nn.functional import conv_transpose2d, pad

        full = conv_transpose2d(x.permute(0, 3, 1, 2), w.permute(3, 0, 1, 2), None, attrs.stride)
        top, left = attrs.pad
        more = [attrs.size[i] + attrs.pad[i] - full.shape[2 + i] for i in (0, 1)]
        # A negative padding cuts off.
        y = pad(full, (-left, more[1], -top, more[0])).permute(0, 2, 3, 1)
        return y if b is None else y + b

    @staticmethod
    def cost(attrs: TransposeConv2dAttrs, q: NodeTypes[Any]) -> Cost:
        x, w = q.inputs.x, q.inputs.w
        return weighted_cost(q, x.elements * w.elements // w.shape[3])

    @staticmethod
    def samples() -> Iterator[Sample[Any]]:
        rng = np.random.default_rng(46)
        found = [
            _sample(rng, f"{label}/{rule.value if rule else 'shift'}", x, w, attrs, rule)
            for label, x, w, attrs in _CASES
            for rule in (None, Rounding.HALF_UP, Rounding.TFLITE_DOUBLE)
        ]
        yield from found
        yield from others(rng, found)


def _sums(attrs: TransposeConv2dAttrs, x: AnyArray, w: AnyArray, matmul: Any) -> Any:
    """Return [N, *size, O]: each input pixel's products with all taps, added where they land."""
    n, rows, cols, channels = x.shape
    out, kernel_h, kernel_w, _ = w.shape
    (stride_h, stride_w), (top, left) = attrs.stride, attrs.pad
    height = max((rows - 1) * stride_h + kernel_h, top + attrs.size[0])
    width = max((cols - 1) * stride_w + kernel_w, left + attrs.size[1])
    taps = matmul(x.reshape(-1, channels), w.reshape(-1, channels).T)
    taps = taps.reshape(n, rows, cols, out, kernel_h, kernel_w)
    full = np.zeros((n, height, width, out), dtype=taps.dtype)
    for u in range(kernel_h):
        for v in range(kernel_w):
            last_h, last_w = u + (rows - 1) * stride_h + 1, v + (cols - 1) * stride_w + 1
            full[:, u:last_h:stride_h, v:last_w:stride_w] += taps[..., u, v]
    return full[:, top : top + attrs.size[0], left : left + attrs.size[1]]


_CASES: tuple[tuple[str, Shape, Shape, TransposeConv2dAttrs], ...] = (
    ("3x3 stride 2, same", (2, 3, 4, 5), (4, 3, 3, 5), TransposeConv2dAttrs((6, 8), (2, 2))),
    ("3x3 stride 2, valid", (2, 3, 4, 3), (5, 3, 3, 3), TransposeConv2dAttrs((7, 9), (2, 2))),
    (
        "2x2 stride 2, clamp",
        (2, 3, 3, 4),
        (3, 2, 2, 4),
        TransposeConv2dAttrs((6, 6), (2, 2), clamp=(-40, 90)),
    ),
    ("3x3 stride 1", (2, 4, 5, 3), (4, 3, 3, 3), TransposeConv2dAttrs((4, 5), (1, 1), (1, 1))),
    ("4x4 stride 2", (1, 3, 4, 6), (5, 4, 4, 6), TransposeConv2dAttrs((6, 8), (2, 2), (1, 1))),
    (
        "5x3, unlike strides",
        (2, 3, 4, 2),
        (3, 5, 3, 2),
        TransposeConv2dAttrs((9, 5), (3, 1), (1, 1)),
    ),
    ("1x1", (2, 4, 3, 7), (6, 1, 1, 7), TransposeConv2dAttrs((4, 3))),
    ("2x2 stride 3, no bias", (2, 2, 3, 8), (3, 2, 2, 8), TransposeConv2dAttrs((5, 8), (3, 3))),
    (
        "2x2 stride 3, rows of the bias alone",
        (2, 2, 3, 8),
        (3, 2, 2, 8),
        TransposeConv2dAttrs((6, 9), (3, 3)),
    ),
    ("row", (2, 1, 9, 5), (3, 1, 4, 5), TransposeConv2dAttrs((1, 18), (1, 2), (0, 1))),
)


def _sample(
    rng: sampling.Rng,
    label: str,
    x: Shape,
    w: Shape,
    attrs: TransposeConv2dAttrs,
    rule: Rounding | None,
) -> Sample[Any]:
    ex, ew, ey = sampling.encodings(rule, rng)
    terms = np.prod(w[1:]) / (attrs.stride[0] * attrs.stride[1])
    spread = float(np.sqrt(max(terms, w[3]))) * 74 * 30
    per_channel = w[0] if rule else 1
    mult, shift = sampling.numbers(rng, spread, per_channel, rule)
    attrs = replace(attrs, round=rule or Rounding.HALF_UP)
    arrays: WeightedInputs[Any] = WeightedInputs(
        x=sampling.codes(rng, x),
        w=np.clip(np.rint(rng.normal(0, 30, size=w)), -127, 127).astype(np.int64),
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
    inferred = TransposeConv2d.infer(attrs, types)
    return Sample(label, attrs, NodeTypes(types, (sampling.kind(inferred.shape, ey),)), arrays)
