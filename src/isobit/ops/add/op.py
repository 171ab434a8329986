"""add: y = clamp(Zy + half_up(ka*(a - Za) + kb*(b - Zb), 1, e)), NumPy broadcasting."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from isobit.core import fixed
from isobit.core.errors import BadAttribute, BadShape, IsobitError, Overflow, raise_all
from isobit.core.types import (
    Affine,
    AnyArray,
    Encoding,
    FloatArray,
    IntArray,
    Pow2,
    Shape,
    TensorType,
    scale_of,
)
from isobit.ir.graph import Attrs, Inputs
from isobit.ops import sampling
from isobit.ops.base import Cost, EncodingRule, Inferred, Layer, NodeTypes, Op, Sample
from isobit.ops.broadcast import broadcast_shape, lower_pair
from isobit.ops.clamps import clamp_problems
from isobit.ops.schemes import Scheme
from isobit.ops.weighted import CODES

if TYPE_CHECKING:
    from torch import Tensor

T = TypeVar("T")

MULTIPLIER_BITS = 20
"""Multipliers are below 2^20, so two products of 9-bit operands and their sum stay below 2^30."""
LARGEST_GAP = 22
"""pow2: more bits between the operands' steps and the sum of 8-bit codes could leave int32."""


@dataclass(frozen=True, slots=True)
class AddAttrs(Attrs):
    """`clamp` is in output codes."""

    clamp: tuple[int, int] = (-128, 127)


@dataclass(frozen=True, slots=True)
class AddInputs(Inputs[T]):
    """a, b: activations of one rank; mult_a, mult_b, shift: s32 [1], absent in float graphs."""

    a: T
    b: T
    mult_a: T | None = field(default=None, kw_only=True)
    mult_b: T | None = field(default=None, kw_only=True)
    shift: T | None = field(default=None, kw_only=True)


class Add(Op[AddAttrs, AddInputs[Any]], name="add"):
    """a, b: s8, shapes equal up to axes of size 1; y: s8.

    The sum is rounded once, ties towards +infinity. Source: docs/numerics.md.
    """

    constants = ("mult_a", "mult_b", "shift")
    encoding_rule = EncodingRule.FREE
    absorbs_clamp = True
    elementwise = True

    @staticmethod
    def infer(attrs: AddAttrs, types: AddInputs[TensorType]) -> Inferred:
        shape = broadcast_shape("add", types.a.shape, types.b.shape)
        errors: list[IsobitError] = clamp_problems("add", types.a, attrs.clamp)
        for name in Add.constants:
            kind = getattr(types, name)
            if kind is not None and kind.shape != (1,):
                errors.append(
                    BadShape(
                        where="add",
                        what=f"{name} shape",
                        want="[1]",
                        got=str(list(kind.shape)),
                        fix="Operands of add have one encoding each.",
                    )
                )
        raise_all(errors)
        return Inferred(shape, types.a.dtype)

    @staticmethod
    def integer(attrs: AddAttrs, q: NodeTypes[Any], inputs: AddInputs[IntArray]) -> IntArray:
        assert inputs.mult_a is not None and inputs.mult_b is not None and inputs.shift is not None
        a, b = inputs.a - q.inputs.a.zero, inputs.b - q.inputs.b.zero
        total = fixed.half_up(inputs.mult_a * a + inputs.mult_b * b, 1, inputs.shift)
        return fixed.saturate(total + q.output.zero, *attrs.clamp)

    @staticmethod
    def real(attrs: AddAttrs, inputs: AddInputs[FloatArray]) -> FloatArray:
        result: FloatArray = inputs.a + inputs.b
        return result

    @staticmethod
    def surrogate(attrs: AddAttrs, q: NodeTypes[Any], inputs: AddInputs[Tensor]) -> Tensor:
        """Return floor(a * ka/2^e + b * kb/2^e + 1/2), clamped.

        Everything is an integer multiple of 2^-(e+1); scaled by 2^(e+1) no term or sum exceeds
        `bound`, so float32 is exact up to 2^24. Otherwise float64: ka, kb < 2^23 and e <= 31 keep
        the bound far below 2^53.
        """
        import torch

        from isobit.core import fixed_torch as ft

        assert inputs.mult_a is not None and inputs.mult_b is not None and inputs.shift is not None
        ka, kb, e = float(inputs.mult_a), float(inputs.mult_b), int(inputs.shift)
        bound = 2.0 * 255.0 * (ka + kb) + 2.0**e
        carrier = torch.float32 if bound <= ft.F32_EXACT else torch.float64
        step = 2.0**-e
        total = inputs.a.to(carrier) * (ka * step) + inputs.b.to(carrier) * (kb * step) + 0.5
        low, high = (c - q.output.zero for c in attrs.clamp)
        return ft.floor_clamp(total, low, high, q.soft).to(torch.float32)

    @staticmethod
    def estimate(attrs: AddAttrs, q: NodeTypes[Any], inputs: AddInputs[Tensor]) -> Tensor:
        """Return `Sa * a + Sb * b`."""
        scale_a, scale_b = (float(scale_of(t.encoding)[0]) for t in (q.inputs.a, q.inputs.b))
        return inputs.a * scale_a + inputs.b * scale_b

    @staticmethod
    def cost(attrs: AddAttrs, q: NodeTypes[Any]) -> Cost:
        return Cost(reads=q.inputs.a.elements + q.inputs.b.elements, writes=q.output.elements)

    @staticmethod
    def finest_frac(attrs: AddAttrs, inputs: AddInputs[TensorType]) -> int | None:
        """Return `max(fa, fb)`."""
        fracs = [e.frac[0] for e in (inputs.a.encoding, inputs.b.encoding) if isinstance(e, Pow2)]
        return max(fracs, default=None)

    @staticmethod
    def derive(
        attrs: AddAttrs, q: NodeTypes[Any], scheme: Scheme, consts: Any
    ) -> tuple[AddAttrs, Mapping[str, AnyArray]]:
        """Return `mult_a`, `mult_b`, `shift` of `Sa/Sy` and `Sb/Sy`."""
        a, b, y = q.inputs.a.encoding, q.inputs.b.encoding, q.output.encoding
        if scheme is Scheme.POW2:
            assert isinstance(a, Pow2) and isinstance(b, Pow2) and isinstance(y, Pow2)
            found = _shifts(a.frac[0], b.frac[0], y.frac[0])
        else:
            found = _multipliers(*(float(scale_of(e)[0]) for e in (a, b, y)))
        names = ("mult_a", "mult_b", "shift")
        return attrs, {
            n: np.asarray([v], dtype=np.int32) for n, v in zip(names, found, strict=True)
        }

    @classmethod
    def prove(
        cls, attrs: AddAttrs, q: NodeTypes[Any], consts: Any, where: str
    ) -> list[IsobitError]:
        """Prove that the sum with its rounding term fits int32, and 30 bits after the shift."""
        worst = sum(
            max(t.dtype.high - t.zero, t.zero - t.dtype.low) * abs(int(k[0]))
            for t, k in ((q.inputs.a, consts.mult_a), (q.inputs.b, consts.mult_b))
        )
        shift = int(consts.shift[0])
        worst += 1 << shift >> 1
        worst = max(worst, 2 * ((worst >> shift) + CODES))
        if worst < 2**31:
            return []
        return [
            Overflow(
                where=where,
                what="largest possible sum (or twice its shifted value)",
                want="below 2^31",
                got=str(worst),
                fix="Bring the operands' ranges closer together.",
            )
        ]

    @staticmethod
    def samples() -> Iterator[Sample[Any]]:
        rng = np.random.default_rng(28)
        pow2 = (Pow2((5,)), Pow2((3,)), Pow2((2,)))
        affine = (Affine((0.031,), -12), Affine((0.072,), 9), Affine((0.09,), 4))
        for label, a, b, clamp in _CASES:
            for scheme, (ea, eb, ey) in ((Scheme.POW2, pow2), (Scheme.AFFINE, affine)):
                yield _sample(rng, f"{label}/{scheme.value}", (a, b), (ea, eb, ey), clamp, scheme)
        same = (Pow2((4,)),) * 3
        yield _sample(rng, "no shift", ((2, 5), (2, 5)), same, (-128, 127), Scheme.POW2)
        finer = (Affine((0.09,), 3), Affine((0.0002,), -50), Affine((0.1,), 0))
        yield _sample(
            rng, "unlike ranges", ((2, 8, 3), (2, 8, 3)), finer, (-128, 127), Scheme.AFFINE
        )


def _shifts(fa: int, fb: int, fy: int) -> tuple[int, int, int]:
    finest = max(fa, fb)
    if fy > finest or abs(fa - fb) > LARGEST_GAP:
        raise BadAttribute(
            where="add",
            what="fracs of the operands and the sum (fa, fb, fy)",
            want=f"fy <= max(fa, fb) and |fa - fb| <= {LARGEST_GAP}",
            got=str((fa, fb, fy)),
            fix="Bring the operands' ranges closer together, e.g. with a layer on one branch.",
        )
    return 1 << (finest - fa), 1 << (finest - fb), finest - fy


def _multipliers(sa: float, sb: float, sy: float) -> tuple[int, int, int]:
    """Return (ka, kb, e) with the largest e <= 20 that keeps both multipliers below 2^20.

    A ratio from 2^20 on, which only an output range of about nothing has, becomes 2^20 - 1: both
    saturate.
    """
    limit = (1 << MULTIPLIER_BITS) - 1
    ratios = (sa / sy, sb / sy)
    for e in range(MULTIPLIER_BITS, -1, -1):
        ka, kb = (fixed.round_half_away(ratio * 2.0**e) for ratio in ratios)
        if max(ka, kb) <= limit:
            return ka, kb, e
    return min(ka, limit), min(kb, limit), 0


_CASES: tuple[tuple[str, Shape, Shape, tuple[int, int]], ...] = (
    ("image", (2, 3, 4, 5), (2, 3, 4, 5), (-128, 127)),
    ("features, relu clamp", (3, 33), (3, 33), (0, 127)),
    ("one pixel to all", (2, 3, 4, 5), (2, 1, 1, 5), (-128, 127)),
    ("one channel to all", (2, 3, 1, 1), (2, 3, 4, 5), (-100, 90)),
    ("row and column", (2, 3, 1, 5), (2, 1, 4, 5), (-128, 127)),
    ("one value", (4, 1), (4, 17), (-128, 127)),
    ("four loops", (2, 3, 1, 4, 1), (2, 1, 5, 1, 2), (-128, 127)),
    ("four loops, exchanged", (2, 1, 5, 1, 2), (2, 3, 1, 4, 1), (-128, 127)),
)


def _sample(
    rng: sampling.Rng,
    label: str,
    shapes: tuple[Shape, Shape],
    encodings: tuple[Encoding, ...],
    clamp: tuple[int, int],
    scheme: Scheme,
) -> Sample[Any]:
    a, b = (
        sampling.kind((1, *shape[1:]), e) for shape, e in zip(shapes, encodings[:2], strict=True)
    )
    shape = broadcast_shape("add", a.shape, b.shape)
    y = sampling.kind(shape, encodings[2])
    attrs = AddAttrs(clamp)
    _, derived = Add.derive(attrs, NodeTypes(AddInputs(a, b), (y,)), scheme, None)
    one = sampling.raw32(1)
    types: AddInputs[TensorType] = AddInputs(a, b, mult_a=one, mult_b=one, shift=one)
    arrays: AddInputs[Any] = AddInputs(
        sampling.codes(rng, shapes[0]),
        sampling.codes(rng, shapes[1]),
        **{name: array.astype(np.int64) for name, array in derived.items()},
    )
    return Sample(label, attrs, NodeTypes(types, (y,)), arrays)


class AddFunction(Layer, functions=("operator.add", "torch.add", "Tensor.add")):
    """`a + b` of two values of the network."""

    @classmethod
    def lower_function(cls, build: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        def emit(a: Any, b: Any) -> Any:
            return build.node("add", AddInputs(a.name, b.name), AddAttrs())

        return lower_pair(build, args, kwargs, emit)
