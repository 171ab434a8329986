"""add: y = clamp(Zy + half_up(ka*(a - Za) + kb*(b - Zb), 1, e)), NumPy broadcasting; also a - b.

Imported networks round three times, as TensorFlow Lite does (`round=tflite_double`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from isobit.core import fixed
from isobit.core.dtypes import DType
from isobit.core.errors import BadAttribute, BadShape, IsobitError, Overflow, raise_all
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
from isobit.ops.base import Cost, EncodingRule, Inferred, NodeTypes, Op, Sample
from isobit.ops.broadcast import broadcast_shape, lower_pair
from isobit.ops.channels import Coupled
from isobit.ops.clamps import clamp_problems
from isobit.ops.int16_samples import widened
from isobit.ops.layer import Layer
from isobit.ops.schemes import Scheme
from isobit.ops.weighted import CODES, overflow_problems

if TYPE_CHECKING:
    from torch import Tensor

T = TypeVar("T")

MULTIPLIER_BITS = 20
"""Multipliers are below 2^20, so two products of 9-bit operands and their sum stay below 2^30."""
LEFT_SHIFT = {DType.S8: 20, DType.S16: 15}
"""Bits by which `tflite_double` widens operands."""
LARGEST_GAP = 22
"""pow2: more bits between the operands' steps and the sum of 8-bit codes could leave int32."""


@dataclass(frozen=True, slots=True)
class AddAttrs(Attrs):
    """`clamp` is in output codes; `subtract`: a - b."""

    clamp: tuple[int, int] = (-128, 127)
    round: Rounding = Rounding.HALF_UP
    subtract: bool = False


@dataclass(frozen=True, slots=True)
class AddInputs(Inputs[T]):
    """a, b: activations of one rank; mult_a, mult_b, shift: s32 [1], absent in float graphs.

    `tflite_double` has in addition shift_a and shift_b of the operands, and mult of the sum.
    """

    a: T
    b: T
    mult_a: T | None = field(default=None, kw_only=True)
    mult_b: T | None = field(default=None, kw_only=True)
    shift: T | None = field(default=None, kw_only=True)
    shift_a: T | None = field(default=None, kw_only=True)
    shift_b: T | None = field(default=None, kw_only=True)
    mult: T | None = field(default=None, kw_only=True)


class Add(Op[AddAttrs, AddInputs[Any]], name="add"):
    """a, b, y: s8 or s16 (`tflite_double` only); shapes equal up to axes of size 1.

    The sum is rounded once, ties towards +infinity; with `tflite_double` both operands, shifted
    left by 20 (s16: 15), and their sum are. Source: docs/numerics.md; TFLite `ADD`, `SUB`
    (`reference_integer_ops::AddElementwise`).
    """

    constants = ("mult_a", "mult_b", "shift", "shift_a", "shift_b", "mult")
    encoding_rule = EncodingRule.FREE
    absorbs_clamp = True
    elementwise = True
    channels = Coupled()

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
        errors.extend(_missing(attrs, types))
        raise_all(errors)
        return Inferred(shape, types.a.dtype)

    @staticmethod
    def integer(attrs: AddAttrs, q: NodeTypes[Any], inputs: AddInputs[IntArray]) -> IntArray:
        assert inputs.mult_a is not None and inputs.mult_b is not None and inputs.shift is not None
        a, b = inputs.a - q.inputs.a.zero, inputs.b - q.inputs.b.zero
        sign = -1 if attrs.subtract else 1
        if attrs.round is Rounding.TFLITE_DOUBLE:
            assert inputs.shift_a is not None and inputs.shift_b is not None
            assert inputs.mult is not None
            bits = LEFT_SHIFT[q.inputs.a.dtype]
            a = fixed.tflite_double(a << bits, inputs.mult_a, inputs.shift_a)
            b = fixed.tflite_double(b << bits, inputs.mult_b, inputs.shift_b)
            total = fixed.tflite_double(a + sign * b, inputs.mult, inputs.shift)
        else:
            total = fixed.half_up(inputs.mult_a * a + sign * inputs.mult_b * b, 1, inputs.shift)
        return fixed.saturate(total + q.output.zero, *attrs.clamp)

    @staticmethod
    def real(attrs: AddAttrs, inputs: AddInputs[FloatArray]) -> FloatArray:
        result: FloatArray = inputs.a - inputs.b if attrs.subtract else inputs.a + inputs.b
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
        from isobit.ops.add import torch_tflite

        assert inputs.mult_a is not None and inputs.mult_b is not None and inputs.shift is not None
        sign = -1.0 if attrs.subtract else 1.0
        if attrs.round is Rounding.TFLITE_DOUBLE:
            return torch_tflite.rescaled_sum(attrs, q, inputs, sign)
        ka, kb, e = float(inputs.mult_a), sign * float(inputs.mult_b), int(inputs.shift)
        bound = 2.0 * 255.0 * (ka + abs(kb)) + 2.0**e
        carrier = torch.float32 if bound <= ft.F32_EXACT else torch.float64
        step = 2.0**-e
        total = inputs.a.to(carrier) * (ka * step) + inputs.b.to(carrier) * (kb * step) + 0.5
        low, high = (c - q.output.zero for c in attrs.clamp)
        return ft.floor_clamp(total, low, high, q.soft).to(torch.float32)

    @staticmethod
    def estimate(attrs: AddAttrs, q: NodeTypes[Any], inputs: AddInputs[Tensor]) -> Tensor:
        """Return `Sa * a + Sb * b`, or the difference."""
        scale_a, scale_b = (float(scale_of(t.encoding)[0]) for t in (q.inputs.a, q.inputs.b))
        b = inputs.b * scale_b
        return inputs.a * scale_a - b if attrs.subtract else inputs.a * scale_a + b

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
        if attrs.round is Rounding.TFLITE_DOUBLE:
            return prove_rescaled(q, consts, where)
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
        found, rng = list(_narrow()), np.random.default_rng(16)
        yield from found
        for sample in widened(rng, found, *Add.constants, moved="image/tflite sum"):
            # 2^-15 in the last multiplier instead of 2^-20.
            arrays: Any = sample.inputs
            coarser = arrays.shift + LEFT_SHIFT[DType.S8] - LEFT_SHIFT[DType.S16]
            yield replace(sample, inputs=replace(arrays, shift=coarser))


def rescaling(sa: float, sb: float, sy: float, dtype: DType = DType.S8) -> dict[str, int]:
    """Return the constants of `tflite_double` from scales: both operands are brought to half a step
    of the coarser one, in float64 (TFLite `kernels/add.cc`). dtype: of the operands.
    """
    twice = 2.0 * max(sa, sb)
    mult_a, shift_a = fixed.multiplier_q31(sa / twice)
    mult_b, shift_b = fixed.multiplier_q31(sb / twice)
    mult, shift = fixed.multiplier_q31(twice / ((1 << LEFT_SHIFT[dtype]) * sy))
    return {
        "mult_a": mult_a,
        "mult_b": mult_b,
        "shift": shift,
        "shift_a": shift_a,
        "shift_b": shift_b,
        "mult": mult,
    }


def _missing(attrs: AddAttrs, types: AddInputs[TensorType]) -> list[IsobitError]:
    """Check that an integer node has the constants of its rule."""
    extra = [name for name in ("shift_a", "shift_b", "mult") if getattr(types, name) is not None]
    wanted = 3 if attrs.round is Rounding.TFLITE_DOUBLE and types.shift is not None else 0
    if len(extra) == wanted:
        return []
    return [
        BadAttribute(
            where="add",
            what=f"constants of round={attrs.round.value}",
            want="shift_a, shift_b and mult" if wanted else "mult_a, mult_b and shift only",
            got=", ".join(extra) or "none of them",
            fix="Import or export the model again.",
        )
    ]


def prove_rescaled(q: NodeTypes[Any], consts: Any, where: str) -> list[IsobitError]:
    """Prove that shifted operands fit int32 and that the sum leaves room for zero point and
    bounds.
    """
    wide = [k.dtype.value for k in (q.inputs.a, q.inputs.b) if k.dtype not in LEFT_SHIFT]
    if wide:
        return [
            BadShape(
                where=where,
                what="dtype of the operands",
                want=" or ".join(dtype.value for dtype in LEFT_SHIFT),
                got=", ".join(wide),
                fix="Import the model again.",
            )
        ]
    total = 0
    for kind, mult, shift in (
        (q.inputs.a, consts.mult_a, consts.shift_a),
        (q.inputs.b, consts.mult_b, consts.shift_b),
    ):
        largest = (
            max(kind.dtype.high - kind.zero, kind.zero - kind.dtype.low) << LEFT_SHIFT[kind.dtype]
        )
        total += abs(int(fixed.tflite_double(np.asarray(largest), mult[0], shift[0]))) + 1
    found = overflow_problems(
        where, np.asarray([total]), consts.mult, consts.shift, Rounding.TFLITE_DOUBLE
    )
    left = [int(k[0]) for k in (consts.shift_a, consts.shift_b) if int(k[0]) > 0]
    if left:
        found.append(
            BadAttribute(
                where=where,
                what="shift_a, shift_b",
                want="<= 0: multipliers of operands are at most 1/2",
                got=str(left),
                fix="Import the model again.",
            )
        )
    return found


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


def _narrow() -> Iterator[Sample[Any]]:
    """The samples of int8."""
    rng = np.random.default_rng(28)
    pow2 = (Pow2((5,)), Pow2((3,)), Pow2((2,)))
    affine = (Affine((0.031,), -12), Affine((0.072,), 9), Affine((0.09,), 4))
    for label, a, b, clamp in _CASES:
        for scheme, (ea, eb, ey) in ((Scheme.POW2, pow2), (Scheme.AFFINE, affine)):
            yield _sample(rng, f"{label}/{scheme.value}", (a, b), (ea, eb, ey), clamp, scheme)
    same = (Pow2((4,)),) * 3
    yield _sample(rng, "no shift", ((2, 5), (2, 5)), same, (-128, 127), Scheme.POW2)
    finer = (Affine((0.09,), 3), Affine((0.0002,), -50), Affine((0.1,), 0))
    yield _sample(rng, "unlike ranges", ((2, 8, 3), (2, 8, 3)), finer, (-128, 127), Scheme.AFFINE)
    for label, a, b, clamp in _CASES:
        for subtract in (False, True):
            yield _rescaled_sample(rng, label, (a, b), affine, clamp, subtract)
    shapes, both = ((2, 7), (2, 7)), (-128, 127)
    yield _sample(rng, "difference", shapes, affine, both, Scheme.AFFINE, subtract=True)


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
    *,
    subtract: bool = False,
) -> Sample[Any]:
    a, b = (
        sampling.kind((1, *shape[1:]), e) for shape, e in zip(shapes, encodings[:2], strict=True)
    )
    shape = broadcast_shape("add", a.shape, b.shape)
    y = sampling.kind(shape, encodings[2])
    attrs = AddAttrs(clamp, subtract=subtract)
    _, derived = Add.derive(attrs, NodeTypes(AddInputs(a, b), (y,)), scheme, None)
    one = sampling.raw32(1)
    types: AddInputs[TensorType] = AddInputs(a, b, mult_a=one, mult_b=one, shift=one)
    arrays: AddInputs[Any] = AddInputs(
        sampling.codes(rng, shapes[0]),
        sampling.codes(rng, shapes[1]),
        **{name: array.astype(np.int64) for name, array in derived.items()},
    )
    return Sample(label, attrs, NodeTypes(types, (y,)), arrays)


def _rescaled_sample(
    rng: sampling.Rng,
    label: str,
    shapes: tuple[Shape, Shape],
    encodings: tuple[Encoding, ...],
    clamp: tuple[int, int],
    subtract: bool,
) -> Sample[Any]:
    a, b = (
        sampling.kind((1, *shape[1:]), e) for shape, e in zip(shapes, encodings[:2], strict=True)
    )
    y = sampling.kind(broadcast_shape("add", a.shape, b.shape), encodings[2])
    sa, sb, sy = (float(scale_of(t.encoding)[0]) for t in (a, b, y))
    derived = rescaling(sa, sb, sy)
    one = sampling.raw32(1)
    types: AddInputs[TensorType] = AddInputs(a, b, **dict.fromkeys(derived, one))
    arrays: AddInputs[Any] = AddInputs(
        sampling.codes(rng, shapes[0]),
        sampling.codes(rng, shapes[1]),
        **{name: np.asarray([number], dtype=np.int64) for name, number in derived.items()},
    )
    attrs = AddAttrs(clamp, Rounding.TFLITE_DOUBLE, subtract)
    sign = "difference" if subtract else "sum"
    return Sample(f"{label}/tflite {sign}", attrs, NodeTypes(types, (y,)), arrays)


class AddFunction(
    Layer,
    functions=("operator.add", "operator.iadd", "torch.add", "Tensor.add", "Tensor.add_"),
):
    """`a + b` and `a += b` of two values of the network."""

    @classmethod
    def lower_function(cls, build: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        def emit(a: Any, b: Any) -> Any:
            return build.node("add", AddInputs(a.name, b.name), AddAttrs())

        return lower_pair(build, args, kwargs, emit)


class SubFunction(
    Layer,
    functions=(
        "operator.sub",
        "operator.isub",
        "torch.sub",
        "torch.subtract",
        "Tensor.sub",
        "Tensor.sub_",
        "Tensor.subtract",
    ),
):
    """`a - b` and `a -= b` of two values of the network."""

    @classmethod
    def lower_function(cls, build: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        def emit(a: Any, b: Any) -> Any:
            return build.node("add", AddInputs(a.name, b.name), AddAttrs(subtract=True))

        return lower_pair(build, args, kwargs, emit)
