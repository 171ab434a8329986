"""prelu: y = clamp(Zy + R(v)) for v = x - Zx >= 0, clamp(Zy + Rneg(v * (slope - Zs))) below.

The slopes are stored and broadcast: one for every channel, for every element, or for all.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from isobit.core import fixed
from isobit.core.errors import BadAttribute, BadShape, IsobitError, raise_all
from isobit.core.fixed import Rounding
from isobit.core.types import (
    Affine,
    AnyArray,
    FloatArray,
    IntArray,
    Raw,
    Shape,
    TensorType,
    scale_of,
)
from isobit.ir.graph import Attrs, Inputs
from isobit.ops import sampling
from isobit.ops.base import Cost, EncodingRule, Inferred, NodeTypes, Op, Sample
from isobit.ops.broadcast import broadcast_shape
from isobit.ops.clamps import clamp_problems
from isobit.ops.int16_samples import widened
from isobit.ops.schemes import Scheme
from isobit.ops.weighted import multipliers, overflow_problems

if TYPE_CHECKING:
    from torch import Tensor

T = TypeVar("T")

LEAST_STEP = 2.0**-20
"""Of slopes that all are about 0: any step would do."""
FACTORS = ("mult", "shift", "mult_neg", "shift_neg")


@dataclass(frozen=True, slots=True)
class PreluAttrs(Attrs):
    """`clamp` is in output codes."""

    clamp: tuple[int, int] = (-128, 127)
    round: Rounding = Rounding.HALF_UP


@dataclass(frozen=True, slots=True)
class PreluInputs(Inputs[T]):
    """x: activation; slope: constant of the same rank, broadcast to x; mult, shift: s32 [1], of
    values above zero; mult_neg, shift_neg: s32 [1], of those below. The four are absent in float
    graphs.
    """

    x: T
    slope: T
    mult: T | None = field(default=None, kw_only=True)
    shift: T | None = field(default=None, kw_only=True)
    mult_neg: T | None = field(default=None, kw_only=True)
    shift_neg: T | None = field(default=None, kw_only=True)


class Prelu(Op[PreluAttrs, PreluInputs[Any]], name="prelu"):
    """x, y: s8 or s16, one shape; slope: codes -128..127, shape equal to x's up to axes of size 1.

    Source: docs/numerics.md; He et al. 2015, equation 1; TFLite `PRELU`.
    """

    constants = ("slope", *FACTORS)
    encoding_rule = EncodingRule.FREE
    absorbs_clamp = True
    elementwise = True

    @staticmethod
    def infer(attrs: PreluAttrs, types: PreluInputs[TensorType]) -> Inferred:
        errors: list[IsobitError] = clamp_problems("prelu", types.x, attrs.clamp)
        shape = broadcast_shape("prelu", types.x.shape, types.slope.shape)
        if shape != types.x.shape:
            errors.append(
                BadShape(
                    where="prelu",
                    what="slope shape",
                    want=f"{list(types.x.shape)} up to axes of size 1",
                    got=str(list(types.slope.shape)),
                    fix="Slopes are broadcast to the activation, not the other way round.",
                )
            )
        present = [name for name in FACTORS if getattr(types, name) is not None]
        if len(present) not in (0, len(FACTORS)):
            errors.append(
                BadAttribute(
                    where="prelu",
                    what="constants",
                    want=f"{', '.join(FACTORS)}, or none of them",
                    got=", ".join(present),
                    fix="Import or export the model again.",
                )
            )
        for name in present:
            kind = getattr(types, name)
            if kind.shape != (1,):
                errors.append(
                    BadShape(
                        where="prelu",
                        what=f"{name} shape",
                        want="[1]",
                        got=str(list(kind.shape)),
                        fix="One multiplier and one shift serve the whole tensor.",
                    )
                )
        raise_all(errors)
        return Inferred(types.x.shape, types.x.dtype)

    @staticmethod
    def integer(attrs: PreluAttrs, q: NodeTypes[Any], inputs: PreluInputs[IntArray]) -> IntArray:
        assert inputs.mult is not None and inputs.shift is not None
        assert inputs.mult_neg is not None and inputs.shift_neg is not None
        v = inputs.x - q.inputs.x.zero
        product = v * (inputs.slope.astype(np.int64) - q.inputs.slope.zero)
        above = fixed.requantize(v, inputs.mult, inputs.shift, attrs.round)
        below = fixed.requantize(product, inputs.mult_neg, inputs.shift_neg, attrs.round)
        return fixed.saturate(np.where(v >= 0, above, below) + q.output.zero, *attrs.clamp)

    @staticmethod
    def real(attrs: PreluAttrs, inputs: PreluInputs[FloatArray]) -> FloatArray:
        result: FloatArray = np.where(inputs.x >= 0, inputs.x, inputs.x * inputs.slope)
        return result

    @staticmethod
    def surrogate(attrs: PreluAttrs, q: NodeTypes[Any], inputs: PreluInputs[Tensor]) -> Tensor:
        """Return the exact forward; both branches fit float32: |v * slope| < 2^17."""
        import torch

        from isobit.core import fixed_torch as ft

        assert inputs.mult is not None and inputs.shift is not None
        assert inputs.mult_neg is not None and inputs.shift_neg is not None
        low, high = (c - q.output.zero for c in attrs.clamp)
        ends = (low, high, q.soft)
        x, slope = inputs.x, inputs.slope.to(inputs.x.dtype) - q.inputs.slope.zero
        above = ft.requantize(x.clone(), inputs.mult, inputs.shift, attrs.round, *ends)
        below = ft.requantize(x * slope, inputs.mult_neg, inputs.shift_neg, attrs.round, *ends)
        return torch.where(x >= 0, above, below)

    @staticmethod
    def estimate(attrs: PreluAttrs, q: NodeTypes[Any], inputs: PreluInputs[Tensor]) -> Tensor:
        """Return `Sx * x`, times the slope below zero."""
        import torch

        real = inputs.x * float(scale_of(q.inputs.x.encoding)[0])
        step = float(scale_of(q.inputs.slope.encoding)[0])
        slope = (inputs.slope.to(real.dtype) - q.inputs.slope.zero) * step
        return torch.where(real >= 0, real, real * slope)

    @staticmethod
    def cost(attrs: PreluAttrs, q: NodeTypes[Any]) -> Cost:
        reads = q.inputs.x.elements + q.inputs.slope.elements
        return Cost(reads=reads, writes=q.output.elements)

    @staticmethod
    def derive(
        attrs: PreluAttrs, q: NodeTypes[Any], scheme: Scheme, consts: Any
    ) -> tuple[PreluAttrs, Mapping[str, AnyArray]]:
        """Return slope codes of the encoding that is given, or of step max|slope| / 127; and the
        factors `Sx/Sy`, `Sx*Ss/Sy`.
        """
        slope, kind = np.asarray(consts.slope, dtype=np.float64), q.inputs.slope
        step = max(float(np.abs(slope).max()) / 127.0, LEAST_STEP)
        if not isinstance(kind.encoding, Raw):
            step = float(scale_of(kind.encoding)[0])
        ratio = scale_of(q.inputs.x.encoding) / scale_of(q.output.encoding)
        above, below = multipliers(ratio), multipliers(ratio * step)
        return attrs, {
            "slope": np.clip(np.rint(slope / step) + kind.zero, -128, 127).astype(np.int8),
            **above,
            "mult_neg": below["mult"],
            "shift_neg": below["shift"],
        }

    @classmethod
    def prove(
        cls, attrs: PreluAttrs, q: NodeTypes[Any], consts: Any, where: str
    ) -> list[IsobitError]:
        """Prove that both branches fit int32 for every code: a kernel computes both."""
        x = q.inputs.x
        largest = max(x.dtype.high - x.zero, x.zero - x.dtype.low)
        slopes = np.abs(consts.slope.astype(np.int64) - q.inputs.slope.zero)
        above = np.asarray([largest], dtype=np.int64)
        below = above * int(slopes.max())
        return [
            *overflow_problems(where, above, consts.mult, consts.shift, attrs.round),
            *overflow_problems(where, below, consts.mult_neg, consts.shift_neg, attrs.round),
        ]

    @staticmethod
    def samples() -> Iterator[Sample[Any]]:
        found = list(_narrow())
        yield from found
        kept = ("slope", "mult", "shift", "mult_neg", "shift_neg")
        moved = "channels/tflite_double"
        yield from widened(np.random.default_rng(16), found, *kept, moved=moved)


def _narrow() -> Iterator[Sample[Any]]:
    """The samples of int8."""
    rng = np.random.default_rng(53)
    for label, x, slope, clamp in _CASES:
        for rule in Rounding:
            yield _sample(rng, f"{label}/{rule.value}", (x, slope), clamp, rule)


_CASES: tuple[tuple[str, Shape, Shape, tuple[int, int]], ...] = (
    ("channels", (2, 3, 4, 6), (1, 1, 1, 6), (-128, 127)),
    ("one slope", (3, 33), (1, 1), (-128, 127)),
    ("every element", (2, 3, 4, 5), (1, 3, 4, 5), (-128, 127)),
    ("features, clamp", (3, 33), (1, 33), (-90, 100)),
    ("rows", (2, 3, 4, 5), (1, 3, 1, 1), (-128, 127)),
    ("four loops", (2, 3, 5, 4, 2), (1, 3, 1, 4, 1), (-128, 127)),
    ("four loops, exchanged", (2, 3, 5, 4, 2), (1, 1, 5, 1, 2), (-128, 127)),
)


def _sample(
    rng: sampling.Rng,
    label: str,
    shapes: tuple[Shape, Shape],
    clamp: tuple[int, int],
    rule: Rounding,
) -> Sample[Any]:
    ex, es, ey = Affine((0.05,), -9), Affine((0.009,), 11), Affine((0.043,), -4)
    x, y = (sampling.kind((1, *shapes[0][1:]), e) for e in (ex, ey))
    slope = sampling.kind(shapes[1], es)
    reals = (ex.scale[0] / ey.scale[0], ex.scale[0] * es.scale[0] / ey.scale[0])
    if rule is Rounding.TFLITE_DOUBLE:
        pairs = [fixed.multiplier_q31(real) for real in reals]
    else:
        pairs = [fixed.multiplier_half_up(real) for real in reals]
    numbers = [np.asarray([n], dtype=np.int64) for pair in pairs for n in pair]
    one = sampling.raw32(1)
    types: PreluInputs[TensorType] = PreluInputs(x, slope, **dict.fromkeys(FACTORS, one))
    arrays: PreluInputs[Any] = PreluInputs(
        sampling.codes(rng, shapes[0]),
        sampling.codes(rng, shapes[1]),
        **dict(zip(FACTORS, numbers, strict=True)),
    )
    return Sample(label, PreluAttrs(clamp, rule), NodeTypes(types, (y,)), arrays)
