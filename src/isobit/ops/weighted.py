"""What conv2d, depthwise_conv2d and linear share: sums of products with per-channel
requantisation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import numpy as np

from isobit.core import fixed
from isobit.core.dtypes import DType
from isobit.core.errors import BadAttribute, BadShape, IsobitError, Overflow
from isobit.core.fixed import Rounding
from isobit.core.types import AnyArray, IntArray, Pow2, TensorType, scale_of
from isobit.ir.graph import Attrs, Inputs
from isobit.ops.base import Cost, EncodingRule, NodeTypes, Op, Packed
from isobit.ops.clamps import clamp_problems
from isobit.ops.schemes import Scheme

if TYPE_CHECKING:
    from torch import Tensor

    from isobit.core.torch_products import Windows
    from isobit.core.torch_sums import Between

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class WeightedInputs(Inputs[T]):
    """x: activation; w: weights; b: bias [C] s32 or absent; mult, shift: s32 [C] or [1], absent in
    float graphs.

    An absent `mult` means 1 (scheme `pow2`).
    """

    x: T
    w: T
    b: T | None = None
    mult: T | None = field(default=None, kw_only=True)
    shift: T | None = field(default=None, kw_only=True)


A = TypeVar("A", bound=Attrs)


class WeightedOp(Op[A, WeightedInputs[Any]]):
    """Base of the operators that sum products: they differ in `combine` and its NumPy twin only.

    `channel_axis` is the axis of `w` that output channels run along.
    """

    inputs_type = WeightedInputs
    constants = ("w", "b", "mult", "shift")
    encoding_rule = EncodingRule.FREE
    absorbs_clamp = True
    channel_axis: ClassVar[int] = 0
    """`takes_wide` says here that `attrs.dtype`, the carrier of y, may be s8 where x is s16."""

    @staticmethod
    def combine(attrs: A, x: Tensor, w: Tensor, b: Tensor | None) -> Tensor:
        """Torch: the plain linear map, in the dtype of its operands; channels last."""
        raise AssertionError("every weighted operator defines combine")

    @staticmethod
    def windows(attrs: A) -> Windows | None:
        """Torch: the convolution that `combine` is, if it is one."""
        return None

    @classmethod
    def surrogate(
        cls,
        attrs: A,
        q: NodeTypes[Any],
        inputs: WeightedInputs[Tensor],
        between: Between | None = None,
    ) -> Tensor:
        """Return the exact forward: sums, what is `between` (a max pool), one requantisation."""
        from isobit.core import torch_sums as ts

        options: Any = attrs
        zero = q.inputs.w.zero
        return ts.weighted(
            partial(cls.combine, attrs),
            replace(inputs, w=inputs.w - zero) if zero else inputs,
            ts.SumTypes(q.inputs.x, q.output, cls.channel_axis, q.soft),
            options.clamp,
            options.round,
            None if zero else cls.windows(attrs),
            between or ts.NOTHING,
        )

    @classmethod
    def estimate(cls, attrs: A, q: NodeTypes[Any], inputs: WeightedInputs[Tensor]) -> Tensor:
        """Return `Sx * Sw[c] * (sum + b)`."""
        import torch

        scale = scale_of(q.inputs.x.encoding) * scale_of(q.inputs.w.encoding)
        sums = cls.combine(attrs, inputs.x, inputs.w - q.inputs.w.zero, inputs.b)
        return sums * torch.as_tensor(scale, dtype=sums.dtype, device=sums.device)

    @staticmethod
    def derive(
        attrs: A, q: NodeTypes[Any], scheme: Scheme, consts: Any
    ) -> tuple[A, Mapping[str, AnyArray]]:
        """Return `mult` and `shift` for `Sx*Sw/Sy`, and the carrier of y where it is not x's."""
        options: Any = attrs
        if q.output.dtype is not q.inputs.x.dtype:
            options = replace(options, dtype=q.output.dtype)
        return options, derive_multipliers(q, scheme)

    @staticmethod
    def finest_frac(attrs: A, inputs: WeightedInputs[TensorType]) -> int | None:
        """Return `fx + fw`."""
        x, w = inputs.x.encoding, inputs.w.encoding
        return x.frac[0] + min(w.frac) if isinstance(x, Pow2) and isinstance(w, Pow2) else None

    @classmethod
    def prove(cls, attrs: A, q: NodeTypes[Any], consts: Any, where: str) -> Sequence[IsobitError]:
        """Prove from the actual weights that no partial sum and no requantised value leaves
        int32.
        """
        options: Any = attrs
        w = consts.w.astype(np.int64) - q.inputs.w.zero
        bound = accumulator_bound(q.inputs.x, w, consts.b, cls.channel_axis)
        wide = q.inputs.x.dtype is DType.S16 and options.round is Rounding.HALF_UP
        return overflow_problems(
            where,
            bound,
            consts.mult,
            consts.shift,
            options.round,
            bits=63 if wide else 31,
            codes=1 << 16 if q.output.dtype is DType.S16 else CODES,
        )


def weighted_cost(q: NodeTypes[Any], macs: int) -> Cost:
    """Return what a node with weights does: products, elements read and written; a bias is none."""
    read = q.inputs.x.elements + q.inputs.w.elements
    return Cost(macs=macs, reads=read, writes=q.output.elements)


def exact_matmul(a: AnyArray, b: AnyArray) -> IntArray:
    """Integer matrix product through float64 BLAS, exact while every sum of absolute products is
    below 2^53.

    int8 operands satisfy this for any fan-in below 2^37.
    """
    product = np.matmul(a.astype(np.float64), b.astype(np.float64))
    result: IntArray = product.astype(np.int64)
    return result


def finish(
    acc: IntArray,
    inputs: WeightedInputs[IntArray],
    clamp: tuple[int, int],
    rounding: Rounding,
    zero: int,
) -> IntArray:
    """`clamp(zero + R(acc + b))`, channels last."""
    if inputs.b is not None:
        acc = acc + inputs.b
    if inputs.shift is None:
        raise BadAttribute(
            where="requantisation",
            what="shift",
            want="a constant",
            got="none",
            fix="This is a float graph; calibrate it first.",
        )
    mult: IntArray | int = 1 if inputs.mult is None else inputs.mult
    return fixed.saturate(fixed.requantize(acc, mult, inputs.shift, rounding) + zero, *clamp)


def weight_problems(
    where: str,
    types: WeightedInputs[TensorType],
    channels: int,
    clamp: tuple[int, int],
    dtype: DType | None = None,
) -> list[IsobitError]:
    """Check bias, multiplier and shift against the channel count, `clamp` and `dtype`, the carrier
    of y where it is not that of x.
    """
    found: list[IsobitError] = []
    if dtype is not None and (types.x.dtype, dtype) != (DType.S16, DType.S8):
        found.append(
            BadAttribute(
                where=where,
                what="dtype",
                want="none, or s8 where x is s16",
                got=f"{dtype.value} where x is {types.x.dtype.value}",
                fix="Leave it out: y has the carrier of x.",
            )
        )
    for what, kind, sizes in (
        ("bias", types.b, (channels,)),
        ("mult", types.mult, (1, channels)),
        ("shift", types.shift, (1, channels)),
    ):
        if kind is not None and (len(kind.shape) != 1 or kind.shape[0] not in sizes):
            found.append(
                BadShape(
                    where=where,
                    what=f"{what} shape",
                    want=" or ".join(f"[{size}]" for size in dict.fromkeys(sizes)),
                    got=str(list(kind.shape)),
                    fix="One entry per output channel.",
                )
            )
    return [*found, *clamp_problems(where, replace(types.x, dtype=dtype or types.x.dtype), clamp)]


def derive_multipliers(
    q: NodeTypes[Any], scheme: Scheme, extra_scale: AnyArray | None = None
) -> Mapping[str, AnyArray]:
    """Return `mult` and `shift` for `acc * Sx * Sw / Sy`, from the encodings of x, w and y.

    pow2: `shift = fx + fw - fy`, no mult. affine: the 2^-16 grid where every multiplier is on it
    (training chose weight scales so), else 15-bit multipliers.
    """
    x, w, y = q.inputs.x, q.inputs.w, q.output
    if scheme is Scheme.POW2:
        assert isinstance(x.encoding, Pow2) and isinstance(w.encoding, Pow2)
        assert isinstance(y.encoding, Pow2)
        shift = np.asarray(w.encoding.frac) + x.encoding.frac[0] - y.encoding.frac[0]
        if shift.min() < 0:
            raise BadAttribute(
                where="requantisation",
                what="output shift fx + fw - fy",
                want=">= 0",
                got=str(int(shift.min())),
                fix="Use a coarser output step; isobit chooses one when it calibrates.",
            )
        return {"shift": shift.astype(np.int32)}
    real = scale_of(x.encoding) * scale_of(w.encoding) / scale_of(y.encoding)
    if extra_scale is not None:
        real = real * extra_scale
    return wide_multipliers(real) if y.dtype is DType.S16 else multipliers(real)


SATURATING = 512.0
"""From here on any non-zero sum saturates int8, so a larger multiplier (a range of almost 0)
changes nothing.
"""


def multipliers(real: AnyArray) -> dict[str, AnyArray]:
    """`mult`, `shift` (int32) nearest to positive reals: on the 2^-16 grid if that is exact, else
    15 bits.
    """
    real = np.minimum(real, SATURATING)
    grid = real * 65536.0
    nearest = np.rint(grid)
    if np.all(np.abs(grid - nearest) < 1e-6 * np.maximum(nearest, 1)) and nearest.min() >= 1:
        return {
            "mult": nearest.astype(np.int32),
            "shift": np.full(real.shape, 16, dtype=np.int32),
        }
    found = [fixed.multiplier_half_up(float(r)) for r in real]
    return {
        "mult": np.asarray([m for m, _ in found], dtype=np.int32),
        "shift": np.asarray([s for _, s in found], dtype=np.int32),
    }


S16_BITS = 22
"""Of a multiplier of 16-bit codes: 15 would be wrong by a whole step."""


def wide_multipliers(real: AnyArray) -> dict[str, AnyArray]:
    """`mult`, `shift` (int32) nearest to positive reals in front of 16-bit codes."""
    found = [fixed.multiplier_half_up(float(r), S16_BITS) for r in np.ravel(real)]
    return {
        "mult": np.asarray([m for m, _ in found], dtype=np.int32),
        "shift": np.asarray([s for _, s in found], dtype=np.int32),
    }


def accumulator_bound(x: TensorType, w: AnyArray, b: AnyArray | None, axis: int) -> IntArray:
    """Per channel: `sum|w| * max|x - Zx| + |b|`, an upper bound of every partial sum in any order.
    w: without its zero point.
    """
    largest = max(x.dtype.high - x.zero, x.zero - x.dtype.low)
    axes = tuple(i for i in range(w.ndim) if i != axis)
    bound: IntArray = np.abs(w.astype(np.int64)).sum(axis=axes) * largest
    return bound if b is None else bound + np.abs(b.astype(np.int64))


CODES = 256
"""Room for a zero point and a clamp bound."""
MOST_SHIFT = 62
"""Of a 64-bit product."""


def overflow_problems(
    where: str,
    bound: IntArray,
    mult: AnyArray | None,
    shift: AnyArray,
    rounding: Rounding,
    *,
    bits: int = 31,
    codes: int = CODES,
) -> list[IsobitError]:
    """Refuse sums that may leave int32 before requantisation, or 2^30 - 256 after it: then zero
    point and clamp bounds keep every difference below 2^30.

    bits: 63 where sums and their products with multipliers have 64 bits (`half_up` only). codes:
    room for a zero point and a clamp bound.
    """
    if mult is None and rounding is not Rounding.HALF_UP:
        return [
            BadAttribute(
                where=where,
                what="mult",
                want=f"a constant: round={rounding.value} has no plain shift",
                got="none",
                fix="Give mult, or use round=half_up.",
            )
        ]
    least = -MOST_SHIFT if mult is not None and rounding is Rounding.TFLITE_DOUBLE else 0
    if int(shift.min()) < least or int(shift.max()) > MOST_SHIFT:
        return [
            BadAttribute(
                where=where,
                what="shift",
                want=f"{least}..{MOST_SHIFT}",
                got=f"{int(shift.min())}..{int(shift.max())}",
                fix="The file is damaged; export the model again.",
            )
        ]
    count = max(bound.size, shift.size)
    worst = before = 0
    for acc, m, s in zip(
        np.broadcast_to(bound, count).tolist(),
        np.broadcast_to(1 if mult is None else mult, count).tolist(),
        np.broadcast_to(shift, count).tolist(),
        strict=True,
    ):
        if bits == 63:
            total = acc * (1 if mult is None else m) + (1 << s >> 1)
            before, worst = max(before, acc, total), max(worst, 2 * ((total >> s) + codes))
        elif mult is None:
            rounded = acc + (1 << s >> 1)
            worst = max(worst, rounded, 2 * ((rounded >> s) + codes))
        elif rounding is Rounding.HALF_UP:
            worst = max(worst, acc, 2 * ((acc * m >> s) + codes))
        else:
            high = ((acc << max(s, 0)) * m >> 31) + 1
            worst = max(worst, acc << max(s, 0), high, 2 * ((high >> max(-s, 0)) + 1 + codes))
    if worst < 2**31 and before < 2**bits:
        return []
    return [
        Overflow(
            where=where,
            what="largest possible sum (or twice its requantised value)",
            want="below 2^31" if worst >= 2**31 else f"below 2^{bits}",
            got=str(worst if worst >= 2**31 else before),
            fix="Use fewer input channels, smaller weights or a coarser weight scale.",
        )
    ]


RULES = {None: 0, Rounding.HALF_UP: 1, Rounding.TFLITE_DOUBLE: 2}
"""The C enum `isobit_rule`; None stands for a plain rounding shift (no multiplier)."""


def rule_fields(
    types: WeightedInputs[TensorType], rounding: Rounding, channels: int
) -> dict[str, int]:
    """Geometry fields that say how a kernel requantises, from types alone."""
    assert types.shift is not None
    return {
        "rule": RULES[None if types.mult is None else rounding],
        "per_channel": int(types.shift.shape[0] == channels and channels > 1),
        "x_has_zero": int(not isinstance(types.x.encoding, Pow2)),
        "has_bias": int(types.b is not None),
    }


def carrier_problem(
    q: NodeTypes[Any],
    carrier: DType = DType.S8,
    out: DType | None = None,
    *,
    zero: bool = False,
) -> str:
    """Return "" where a kernel of `carrier` activations and s8 weights is legal, else why not.

    out: carrier of y, that of x by default. zero: whether it subtracts the weights' zero point;
    then it is for those that have one.
    """
    out = out or carrier
    dtypes = (q.inputs.x.dtype, q.inputs.w.dtype, q.output.dtype)
    if dtypes != (carrier, DType.S8, out):
        wanted = f"want {carrier.value} in, s8 weights, {out.value} out"
        return f"{wanted}, got {[d.value for d in dtypes]}"
    if bool(q.inputs.w.zero) is not zero:
        return f"want weights {'with' if zero else 'without'} a zero point, got {q.inputs.w.zero}"
    return ""


def wide_bias(types: WeightedInputs[TensorType]) -> int:
    """Return 1 where the bias has 64 bits."""
    return int(types.b is not None and types.b.dtype is DType.S64)


QUANT = ("x_zero", "y_zero", "low", "high")


def defined_factors(mult: AnyArray | None, shift: AnyArray) -> tuple[AnyArray | None, AnyArray]:
    """Return factors that C's shifts are defined for: below -31 `tflite_double` means (0, 0)."""
    if mult is None:
        return None, shift
    vanishing = shift < -31
    return np.where(vanishing, 0, mult).astype(mult.dtype), np.where(vanishing, 0, shift)


def pack_weighted(
    q: NodeTypes[Any], consts: WeightedInputs[AnyArray], clamp: tuple[int, int]
) -> list[Packed]:
    """The reference kernels' constants: quant, w, b, mult, shift; an empty array is passed as a
    null pointer.
    """
    numbers = np.asarray([q.inputs.x.zero, q.output.zero, *clamp], dtype=np.int32)
    assert consts.shift is not None
    mult, shift = defined_factors(consts.mult, consts.shift)
    empty = np.empty(0, dtype=np.int32)
    return [
        Packed("quant", numbers, struct="isobit_quant", fields=QUANT),
        Packed("w", consts.w),
        Packed("b", empty if consts.b is None else consts.b),
        Packed("mult", empty if mult is None else mult),
        Packed("shift", shift.astype(np.int8)),
    ]


def pack_asymmetric(
    q: NodeTypes[Any], consts: WeightedInputs[AnyArray], clamp: tuple[int, int]
) -> list[Packed]:
    """As `pack_weighted`, with the zero point of the weights before them."""
    quant, *others = pack_weighted(q, consts, clamp)
    return [quant, Packed("w_zero", np.asarray([q.inputs.w.zero], dtype=np.int32)), *others]
