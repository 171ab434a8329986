"""reduce_sum: y = clamp(Zy + R(sum of x - Zx over `axes`)); with `mean`, R divides as well."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from isobit.core import fixed
from isobit.core.errors import IsobitError, raise_all
from isobit.core.fixed import Rounding
from isobit.core.types import AnyArray, FloatArray, IntArray, Pow2, Shape, TensorType, scale_of
from isobit.ir.graph import Attrs, Inputs
from isobit.ops import sampling
from isobit.ops.base import Cost, EncodingRule, Inferred, NodeTypes, Op, Sample
from isobit.ops.clamps import clamp_problems
from isobit.ops.int16_samples import widened
from isobit.ops.pooling import sum_carrier
from isobit.ops.reductions import axes_problems, reduced_shape, terms
from isobit.ops.requantize.op import factor_problems, rescale, rescale_carriers, right_shift
from isobit.ops.requantize.op import multiplier as nearest_multiplier
from isobit.ops.schemes import Scheme
from isobit.ops.weighted import overflow_problems

if TYPE_CHECKING:
    from torch import Tensor

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class ReduceSumAttrs(Attrs):
    """`axes` ascending, counted with the batch as 0; `mean`: of n terms, so that M = Sx/(Sy*n)
    instead of Sx/Sy; `clamp` is in output codes.
    """

    axes: tuple[int, ...]
    mean: bool = False
    clamp: tuple[int, int] = (-128, 127)
    round: Rounding = Rounding.HALF_UP


@dataclass(frozen=True, slots=True)
class ReduceSumInputs(Inputs[T]):
    """x: activation; mult, shift: s32 [1], absent in float graphs. An absent `mult` means 1."""

    x: T
    mult: T | None = field(default=None, kw_only=True)
    shift: T | None = field(default=None, kw_only=True)


class ReduceSum(Op[ReduceSumAttrs, ReduceSumInputs[Any]], name="reduce_sum"):
    """x: s8 or s16 of any rank; y: the same, size 1 on the reduced axes.

    Source: docs/numerics.md; TFLite `SUM`, `MEAN`
    (`reference_ops::QuantizedMeanOrSum`); ONNX `ReduceSum`, `ReduceMean`.
    """

    constants = ("mult", "shift")
    encoding_rule = EncodingRule.FREE
    absorbs_clamp = True

    @staticmethod
    def infer(attrs: ReduceSumAttrs, types: ReduceSumInputs[TensorType]) -> Inferred:
        x = types.x
        raise_all(
            [
                *axes_problems("reduce_sum", x.shape, attrs.axes),
                *clamp_problems("reduce_sum", x, attrs.clamp),
                *factor_problems("reduce_sum", types.mult, types.shift),
            ]
        )
        return Inferred(reduced_shape(x.shape, attrs.axes), x.dtype)

    @staticmethod
    def integer(
        attrs: ReduceSumAttrs, q: NodeTypes[Any], inputs: ReduceSumInputs[IntArray]
    ) -> IntArray:
        sums: IntArray = (inputs.x - q.inputs.x.zero).sum(axis=attrs.axes, keepdims=True)
        scaled = rescale(sums, inputs.mult, inputs.shift, attrs.round)
        return fixed.saturate(scaled + q.output.zero, *attrs.clamp)

    @staticmethod
    def real(attrs: ReduceSumAttrs, inputs: ReduceSumInputs[FloatArray]) -> FloatArray:
        sums: FloatArray = inputs.x.sum(axis=attrs.axes, keepdims=True)
        return sums / terms(inputs.x.shape, attrs.axes) if attrs.mean else sums

    @staticmethod
    def surrogate(
        attrs: ReduceSumAttrs, q: NodeTypes[Any], inputs: ReduceSumInputs[Tensor]
    ) -> Tensor:
        carrier = sum_carrier(terms(q.inputs.x.shape, attrs.axes), q.inputs.x)
        sums = inputs.x.to(carrier).sum(attrs.axes, keepdim=True)
        bounds = (attrs.clamp[0] - q.output.zero, attrs.clamp[1] - q.output.zero)
        return rescale_carriers(sums, inputs.mult, inputs.shift, attrs.round, bounds, q.soft)

    @staticmethod
    def estimate(
        attrs: ReduceSumAttrs, q: NodeTypes[Any], inputs: ReduceSumInputs[Tensor]
    ) -> Tensor:
        """Return `Sx` times the sum or mean of `x`."""
        scale = float(scale_of(q.inputs.x.encoding)[0])
        if attrs.mean:
            scale /= terms(q.inputs.x.shape, attrs.axes)
        return inputs.x.sum(attrs.axes, keepdim=True) * scale

    @staticmethod
    def cost(attrs: ReduceSumAttrs, q: NodeTypes[Any]) -> Cost:
        return Cost(reads=q.inputs.x.elements, writes=q.output.elements)

    @staticmethod
    def finest_frac(attrs: ReduceSumAttrs, inputs: ReduceSumInputs[TensorType]) -> int | None:
        """Return `fx`: sums have no finer step; a mean is divided by a multiplier, of any step."""
        x = inputs.x.encoding
        return x.frac[0] if isinstance(x, Pow2) and not attrs.mean else None

    @staticmethod
    def derive(
        attrs: ReduceSumAttrs, q: NodeTypes[Any], scheme: Scheme, consts: Any
    ) -> tuple[ReduceSumAttrs, Mapping[str, AnyArray]]:
        """Return `shift = fx - fy` of pow2 sums; else `mult` and `shift` of Sx/Sy, or Sx/(Sy*n)."""
        x, y = q.inputs.x.encoding, q.output.encoding
        if scheme is Scheme.POW2 and not attrs.mean:
            assert isinstance(x, Pow2) and isinstance(y, Pow2)
            return attrs, right_shift("reduce_sum", x.frac[0] - y.frac[0])
        count = terms(q.inputs.x.shape, attrs.axes) if attrs.mean else 1
        return attrs, nearest_multiplier(scale_of(x) / scale_of(y) / count)

    @classmethod
    def prove(
        cls, attrs: ReduceSumAttrs, q: NodeTypes[Any], consts: Any, where: str
    ) -> list[IsobitError]:
        """Prove that the largest sum, requantised, fits int32."""
        x = q.inputs.x
        largest = max(x.dtype.high - x.zero, x.zero - x.dtype.low)
        bound = np.asarray([terms(x.shape, attrs.axes) * largest], dtype=np.int64)
        return overflow_problems(where, bound, consts.mult, consts.shift, attrs.round)

    @staticmethod
    def samples() -> Iterator[Sample[Any]]:
        found = list(_narrow())
        yield from found
        rng, moved = np.random.default_rng(16), "channels/tflite_double"
        yield from widened(rng, found, "mult", "shift", moved=moved)


def _narrow() -> Iterator[Sample[Any]]:
    """The samples of int8."""
    rng = np.random.default_rng(41)
    for label, shape, axes, mean, clamp in _CASES:
        for rule in (None, Rounding.HALF_UP, Rounding.TFLITE_DOUBLE):
            if rule is None and mean:
                continue  # a mean needs a multiplier
            name = f"{label}/{'shift' if rule is None else rule.value}"
            yield _sample(rng, name, shape, ReduceSumAttrs(axes, mean, clamp), rule)


_CASES: tuple[tuple[str, Shape, tuple[int, ...], bool, tuple[int, int]], ...] = (
    ("image", (20, 3, 4, 5), (1, 2), False, (-128, 127)),
    ("mean of an image", (20, 3, 4, 5), (1, 2), True, (-128, 127)),
    ("channels", (3, 3, 4, 7), (3,), False, (-100, 90)),
    ("mean of rows, relu clamp", (4, 5, 3, 6), (1,), True, (4, 127)),
    ("everything", (40, 2, 3, 5), (1, 2, 3), True, (-128, 127)),
    ("features", (40, 17), (1,), False, (-128, 127)),
    ("every other axis", (2, 3, 2, 4, 5, 3), (1, 3, 5), True, (-128, 127)),
    ("the axes between", (2, 2, 3, 2, 5, 3), (2, 4), False, (-128, 127)),
    ("an axis of one", (3, 1, 4, 5), (1,), True, (-128, 127)),
)


def _sample(
    rng: sampling.Rng, label: str, shape: Shape, attrs: ReduceSumAttrs, rule: Rounding | None
) -> Sample[Any]:
    ex, _, ey = sampling.encodings(rule, rng)
    count = terms(shape, attrs.axes)
    mult, shift = sampling.numbers(rng, 74.0 * np.sqrt(count), 1, rule)
    x = sampling.kind((1, *shape[1:]), ex)
    one = sampling.raw32(1)
    types: ReduceSumInputs[TensorType] = ReduceSumInputs(
        x, mult=None if mult is None else one, shift=one
    )
    # Uniform codes have mean -1/2; the zero point would shift long sums to an end of the range.
    codes = np.clip(sampling.codes(rng, shape) + x.zero, -128, 127)
    arrays: ReduceSumInputs[Any] = ReduceSumInputs(codes, mult=mult, shift=shift)
    attrs = ReduceSumAttrs(attrs.axes, attrs.mean, attrs.clamp, rule or Rounding.HALF_UP)
    y = sampling.kind(reduced_shape(x.shape, attrs.axes), ey)
    return Sample(label, attrs, NodeTypes(types, (y,)), arrays)
