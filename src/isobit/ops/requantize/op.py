"""requantize: y = clamp(Zy + R(x - Zx)), the same reals in another encoding.

The functions for one multiplier and shift serve `mul` as well.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from isobit.core import fixed
from isobit.core.dtypes import DType
from isobit.core.errors import BadAttribute, BadShape, IsobitError, raise_all
from isobit.core.fixed import Rounding
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
from isobit.ops.base import (
    Cost,
    EncodingRule,
    Inferred,
    NodeTypes,
    Op,
    Packed,
    Sample,
    is_float,
)
from isobit.ops.channels import Coupled
from isobit.ops.clamps import clamp_problems
from isobit.ops.schemes import Scheme
from isobit.ops.weighted import (
    S16_BITS,
    SATURATING,
    defined_factors,
    multipliers,
    overflow_problems,
    wide_multipliers,
)

if TYPE_CHECKING:
    from torch import Tensor

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class RequantizeAttrs(Attrs):
    """`clamp` is in output codes; `dtype`: the output's carrier in integer graphs."""

    clamp: tuple[int, int] = (-128, 127)
    round: Rounding = Rounding.HALF_UP
    dtype: DType = DType.S8


@dataclass(frozen=True, slots=True)
class RequantizeInputs(Inputs[T]):
    """x: activation; mult, shift: s32 [1], absent in float graphs. An absent `mult` means 1."""

    x: T
    mult: T | None = field(default=None, kw_only=True)
    shift: T | None = field(default=None, kw_only=True)


class Requantize(Op[RequantizeAttrs, RequantizeInputs[Any]], name="requantize"):
    """x, y: s8, u8 or s16, one shape, any two encodings.

    Source: docs/numerics.md; TFLite `QUANTIZE` of integers.
    """

    constants = ("mult", "shift")
    encoding_rule = EncodingRule.FREE
    absorbs_clamp = True
    elementwise = True
    channels = Coupled()

    @staticmethod
    def infer(attrs: RequantizeAttrs, types: RequantizeInputs[TensorType]) -> Inferred:
        dtype = types.x.dtype if is_float(types.x) else attrs.dtype
        raise_all(
            [
                *_carrier_problems(types.x.dtype, dtype),
                *clamp_problems("requantize", replace(types.x, dtype=dtype), attrs.clamp),
                *factor_problems("requantize", types.mult, types.shift),
            ]
        )
        return Inferred(types.x.shape, dtype)

    @staticmethod
    def integer(
        attrs: RequantizeAttrs, q: NodeTypes[Any], inputs: RequantizeInputs[IntArray]
    ) -> IntArray:
        scaled = rescale(inputs.x - q.inputs.x.zero, inputs.mult, inputs.shift, attrs.round)
        return fixed.saturate(scaled + q.output.zero, *attrs.clamp)

    @staticmethod
    def real(attrs: RequantizeAttrs, inputs: RequantizeInputs[FloatArray]) -> FloatArray:
        return inputs.x

    @staticmethod
    def surrogate(
        attrs: RequantizeAttrs, q: NodeTypes[Any], inputs: RequantizeInputs[Tensor]
    ) -> Tensor:
        low, high = (c - q.output.zero for c in attrs.clamp)
        fresh = inputs.x.clone()
        return rescale_carriers(fresh, inputs.mult, inputs.shift, attrs.round, (low, high), q.soft)

    @staticmethod
    def estimate(
        attrs: RequantizeAttrs, q: NodeTypes[Any], inputs: RequantizeInputs[Tensor]
    ) -> Tensor:
        """Return `Sx * x`."""
        return inputs.x * float(scale_of(q.inputs.x.encoding)[0])

    @staticmethod
    def cost(attrs: RequantizeAttrs, q: NodeTypes[Any]) -> Cost:
        return Cost(reads=q.inputs.x.elements, writes=q.output.elements)

    @staticmethod
    def derive(
        attrs: RequantizeAttrs, q: NodeTypes[Any], scheme: Scheme, consts: Any
    ) -> tuple[RequantizeAttrs, Mapping[str, AnyArray]]:
        """Return `shift = fx - fy`, or `mult = 2^(fy - fx)` if that is negative; or M = Sx/Sy."""
        x, y = q.inputs.x.encoding, q.output.encoding
        if scheme is Scheme.AFFINE and DType.S16 in (q.inputs.x.dtype, attrs.dtype):
            return attrs, wide_multipliers(scale_of(x) / scale_of(y))
        if scheme is Scheme.AFFINE:
            return attrs, multiplier(scale_of(x) / scale_of(y))
        assert isinstance(x, Pow2) and isinstance(y, Pow2)
        right = x.frac[0] - y.frac[0]
        if right >= 0:
            return attrs, right_shift("requantize", right)
        factor = min(2.0**-right, SATURATING)
        return attrs, {
            "mult": np.asarray([factor], dtype=np.int32),
            "shift": np.zeros(1, dtype=np.int32),
        }

    @classmethod
    def prove(
        cls, attrs: RequantizeAttrs, q: NodeTypes[Any], consts: Any, where: str
    ) -> list[IsobitError]:
        """Prove that the largest requantised code fits int32."""
        x = q.inputs.x
        bound = np.asarray([max(x.dtype.high - x.zero, x.zero - x.dtype.low)], dtype=np.int64)
        return overflow_problems(where, bound, consts.mult, consts.shift, attrs.round)

    @staticmethod
    def samples() -> Iterator[Sample[Any]]:
        rng = np.random.default_rng(30)
        for label, shape, x, y, attrs in _CASES:
            yield _sample(rng, label, shape, (x, y), attrs)
        for x_dtype, y_dtype in _MIXED:
            for rule in Rounding:
                yield _mixed_sample(rng, x_dtype, y_dtype, rule)
        found = _mixed_sample(rng, DType.S16, DType.S8, Rounding.TFLITE_DOUBLE)
        clamped = RequantizeAttrs((-60, 70), Rounding.TFLITE_DOUBLE, DType.S8)
        yield replace(found, label=f"{found.label}, clamp", attrs=clamped)
        even = _mixed_sample(rng, DType.S8, DType.S16, Rounding.TFLITE_DOUBLE, 12)
        yield replace(even, label=f"{even.label}, an even number")


CARRIERS = (DType.S8, DType.U8, DType.S16)


def _carrier_problems(x: DType, y: DType) -> list[IsobitError]:
    """Check the carriers of an integer node."""
    wrong = [kind for kind in (x, y) if kind.is_integer and kind not in CARRIERS]
    return [
        BadAttribute(
            where="requantize",
            what="dtype",
            want=", ".join(kind.value for kind in CARRIERS),
            got=", ".join(kind.value for kind in wrong),
            fix="Wider sums are requantised by the operator that adds them.",
        )
        for _ in wrong[:1]
    ]


def factor_problems(
    where: str, mult: TensorType | None, shift: TensorType | None
) -> list[IsobitError]:
    """Return what is wrong with the types of `mult` and `shift`: one entry each, mult optional."""
    return [
        BadShape(
            where=where,
            what=f"{name} shape",
            want="[1]",
            got=str(list(kind.shape)),
            fix="One multiplier and one shift serve the whole tensor.",
        )
        for name, kind in (("mult", mult), ("shift", shift))
        if kind is not None and kind.shape != (1,)
    ]


def right_shift(where: str, shift: int) -> dict[str, AnyArray]:
    """Return the `pow2` constant of a rounding shift; raises `BadAttribute` for a negative one."""
    if shift < 0:
        raise BadAttribute(
            where=where,
            what="output shift",
            want=">= 0",
            got=str(shift),
            fix="Use a coarser output step; isobit chooses one when it calibrates.",
        )
    return {"shift": np.asarray([shift], dtype=np.int32)}


def multiplier(real: AnyArray) -> dict[str, AnyArray]:
    """Return `mult` and `shift` (int32) nearest to a positive real, shape [1]."""
    return multipliers(real)


def rescale(
    acc: IntArray, mult: IntArray | None, shift: IntArray | None, rounding: Rounding
) -> IntArray:
    """`R(acc)`; without `mult`, a rounding shift."""
    assert shift is not None, "a float graph has no shift"
    return fixed.requantize(acc, 1 if mult is None else mult, shift, rounding)


def rescale_carriers(
    acc: Tensor,
    mult: Tensor | None,
    shift: Tensor | None,
    rounding: Rounding,
    bounds: tuple[int, int],
    soft: tuple[bool, bool],
) -> Tensor:
    """Torch: `clamp(R(acc))` of a fresh integer-valued tensor, |acc| < 2^31."""
    import torch

    from isobit.core import fixed_torch as ft

    assert shift is not None, "a float graph has no shift"
    factor = torch.ones_like(shift) if mult is None else mult
    return ft.requantize(acc, factor, shift, rounding, *bounds, soft)


def pack_factors(mult: AnyArray | None, shift: AnyArray | None) -> list[Packed]:
    """The kernels' constants mult (a null pointer where absent) and shift."""
    assert shift is not None
    mult, shift = defined_factors(mult, shift)
    factors = np.empty(0, dtype=np.int32) if mult is None else mult
    return [Packed("mult", factors), Packed("shift", shift.astype(np.int8))]


_CASES: tuple[tuple[str, Shape, Encoding, Encoding, RequantizeAttrs], ...] = (
    ("coarser", (2, 3, 4, 5), Pow2((5,)), Pow2((3,)), RequantizeAttrs()),
    ("finer, clamp", (2, 65), Pow2((5,)), Pow2((6,)), RequantizeAttrs((-128, 120))),
    ("no shift, clamp", (3, 4, 4, 3), Pow2((5,)), Pow2((5,)), RequantizeAttrs((-100, 90))),
    ("affine", (2, 3, 4, 5), Affine((0.05,), -9), Affine((0.07,), 14), RequantizeAttrs()),
    (
        "affine, finer",
        (2, 77),
        Affine((0.05,), 3),
        Affine((0.041,), -4),
        RequantizeAttrs((-120, 99)),
    ),
    (
        "tflite",
        (2, 3, 4, 5),
        Affine((0.05,), -9),
        Affine((0.07,), 14),
        RequantizeAttrs(round=Rounding.TFLITE_DOUBLE),
    ),
    (
        "tflite, finer",
        (2, 77),
        Affine((0.05,), 3),
        Affine((0.038,), -4),
        RequantizeAttrs(round=Rounding.TFLITE_DOUBLE),
    ),
)


def _sample(
    rng: sampling.Rng,
    label: str,
    shape: Shape,
    encodings: tuple[Encoding, Encoding],
    attrs: RequantizeAttrs,
) -> Sample[Any]:
    x, y = (sampling.kind((1, *shape[1:]), e) for e in encodings)
    scheme = Scheme.POW2 if isinstance(encodings[0], Pow2) else Scheme.AFFINE
    _, found = Requantize.derive(attrs, NodeTypes(RequantizeInputs(x), (y,)), scheme, None)
    if attrs.round is Rounding.TFLITE_DOUBLE:
        ratio = scale_of(encodings[0])[0] / scale_of(encodings[1])[0]
        mult, shift = fixed.multiplier_q31(float(ratio))
        found = {"mult": np.asarray([mult]), "shift": np.asarray([shift])}
    constants = {name: array.astype(np.int64) for name, array in found.items()}
    kinds = {name: sampling.raw32(1) for name in found}
    types: RequantizeInputs[TensorType] = RequantizeInputs(x, **kinds)
    arrays: RequantizeInputs[Any] = RequantizeInputs(sampling.codes(rng, shape), **constants)
    return Sample(label, attrs, NodeTypes(types, (y,)), arrays)


_MIXED = (
    (DType.U8, DType.S8),
    (DType.S8, DType.U8),
    (DType.S16, DType.S8),
    (DType.S8, DType.S16),
    (DType.S16, DType.S16),
)


def _mixed_sample(
    rng: sampling.Rng, x_dtype: DType, y_dtype: DType, rule: Rounding, width: int = 11
) -> Sample[Any]:
    """Another carrier, with a factor near that of the ranges' widths."""
    wide, narrow = (k.high - k.low for k in (x_dtype, y_dtype))
    step = 0.05 * 255 / wide
    zero = {DType.U8: 119, DType.S8: 5, DType.S16: 0}
    x = sampling.kind((1, 3, width), Affine((step,), zero[x_dtype]), x_dtype)
    y = sampling.kind((1, 3, width), Affine((0.06 * 255 / narrow,), zero[y_dtype]), y_dtype)
    real = float(scale_of(x.encoding)[0] / scale_of(y.encoding)[0])
    if rule is Rounding.TFLITE_DOUBLE:
        mult, shift = fixed.multiplier_q31(real)
    else:
        mult, shift = fixed.multiplier_half_up(real, S16_BITS)
    one = sampling.raw32(1)
    attrs = RequantizeAttrs((y_dtype.low, y_dtype.high), rule, y_dtype)
    types: RequantizeInputs[TensorType] = RequantizeInputs(x, mult=one, shift=one)
    arrays: RequantizeInputs[Any] = RequantizeInputs(
        sampling.codes(rng, (2, 3, width), x_dtype.low, x_dtype.high),
        mult=np.asarray([mult]),
        shift=np.asarray([shift]),
    )
    label = f"{x_dtype.value} to {y_dtype.value}/{rule.value}"
    return Sample(label, attrs, NodeTypes(types, (y,)), arrays)
