"""mul: y = clamp(Zy + R((a - Za) * (b - Zb))), NumPy broadcasting."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from isobit.core import fixed
from isobit.core.dtypes import DType
from isobit.core.errors import IsobitError, raise_all
from isobit.core.fixed import Rounding
from isobit.core.types import (
    Affine,
    AnyArray,
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
from isobit.ops.requantize.op import factor_problems, rescale, rescale_carriers, right_shift
from isobit.ops.requantize.op import multiplier as nearest_multiplier
from isobit.ops.schemes import Scheme
from isobit.ops.weighted import overflow_problems

if TYPE_CHECKING:
    from torch import Tensor

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class MulAttrs(Attrs):
    """`clamp` is in output codes."""

    clamp: tuple[int, int] = (-128, 127)
    round: Rounding = Rounding.HALF_UP


@dataclass(frozen=True, slots=True)
class MulInputs(Inputs[T]):
    """a, b: activations of one rank; mult, shift: s32 [1], absent in float graphs.

    An absent `mult` means 1.
    """

    a: T
    b: T
    mult: T | None = field(default=None, kw_only=True)
    shift: T | None = field(default=None, kw_only=True)


class Mul(Op[MulAttrs, MulInputs[Any]], name="mul"):
    """a, b, y: s8 or s16; shapes equal up to axes of size 1.

    Source: docs/numerics.md; TFLite `MUL`.
    """

    constants = ("mult", "shift")
    encoding_rule = EncodingRule.FREE
    absorbs_clamp = True
    elementwise = True
    channels = Coupled()

    @staticmethod
    def infer(attrs: MulAttrs, types: MulInputs[TensorType]) -> Inferred:
        shape = broadcast_shape("mul", types.a.shape, types.b.shape)
        errors: list[IsobitError] = clamp_problems("mul", types.a, attrs.clamp)
        errors += factor_problems("mul", types.mult, types.shift)
        raise_all(errors)
        return Inferred(shape, types.a.dtype)

    @staticmethod
    def integer(attrs: MulAttrs, q: NodeTypes[Any], inputs: MulInputs[IntArray]) -> IntArray:
        product = (inputs.a - q.inputs.a.zero) * (inputs.b - q.inputs.b.zero)
        scaled = rescale(product, inputs.mult, inputs.shift, attrs.round)
        return fixed.saturate(scaled + q.output.zero, *attrs.clamp)

    @staticmethod
    def real(attrs: MulAttrs, inputs: MulInputs[FloatArray]) -> FloatArray:
        result: FloatArray = inputs.a * inputs.b
        return result

    @staticmethod
    def surrogate(attrs: MulAttrs, q: NodeTypes[Any], inputs: MulInputs[Tensor]) -> Tensor:
        wide = q.output.dtype is DType.S16
        # At most 255^2: exact in float32. Products of int16 need 31 bits.
        product = inputs.a.double() * inputs.b.double() if wide else inputs.a * inputs.b
        low, high = (c - q.output.zero for c in attrs.clamp)
        return rescale_carriers(
            product, inputs.mult, inputs.shift, attrs.round, (low, high), q.soft
        )

    @staticmethod
    def estimate(attrs: MulAttrs, q: NodeTypes[Any], inputs: MulInputs[Tensor]) -> Tensor:
        """Return `Sa * a * Sb * b`."""
        scale = scale_of(q.inputs.a.encoding) * scale_of(q.inputs.b.encoding)
        return inputs.a * inputs.b * float(scale[0])

    @staticmethod
    def cost(attrs: MulAttrs, q: NodeTypes[Any]) -> Cost:
        y = q.output.elements
        return Cost(reads=q.inputs.a.elements + q.inputs.b.elements, writes=y)

    @staticmethod
    def finest_frac(attrs: MulAttrs, inputs: MulInputs[TensorType]) -> int | None:
        """Return `fa + fb`."""
        a, b = inputs.a.encoding, inputs.b.encoding
        return a.frac[0] + b.frac[0] if isinstance(a, Pow2) and isinstance(b, Pow2) else None

    @staticmethod
    def derive(
        attrs: MulAttrs, q: NodeTypes[Any], scheme: Scheme, consts: Any
    ) -> tuple[MulAttrs, Mapping[str, AnyArray]]:
        """Return `shift = fa + fb - fy`, or `mult` and `shift` of `Sa*Sb/Sy`."""
        a, b, y = q.inputs.a.encoding, q.inputs.b.encoding, q.output.encoding
        if scheme is Scheme.POW2:
            assert isinstance(a, Pow2) and isinstance(b, Pow2) and isinstance(y, Pow2)
            return attrs, right_shift("mul", a.frac[0] + b.frac[0] - y.frac[0])
        return attrs, nearest_multiplier(scale_of(a) * scale_of(b) / scale_of(y))

    @classmethod
    def prove(
        cls, attrs: MulAttrs, q: NodeTypes[Any], consts: Any, where: str
    ) -> list[IsobitError]:
        """Prove that the largest product, requantised, fits int32."""
        sizes = [max(t.dtype.high - t.zero, t.zero - t.dtype.low) for t in (q.inputs.a, q.inputs.b)]
        bound = np.asarray([sizes[0] * sizes[1]], dtype=np.int64)
        return overflow_problems(where, bound, consts.mult, consts.shift, attrs.round)

    @staticmethod
    def samples() -> Iterator[Sample[Any]]:
        found = list(_narrow())
        yield from found
        rng, moved = np.random.default_rng(16), "row and column/tflite_double"
        yield from widened(rng, found, "mult", "shift", finer=("shift",), moved=moved)


def _narrow() -> Iterator[Sample[Any]]:
    """The samples of int8."""
    rng = np.random.default_rng(29)
    for label, a, b, clamp in _CASES:
        for rule in (None, Rounding.HALF_UP, Rounding.TFLITE_DOUBLE):
            name = f"{label}/{'shift' if rule is None else rule.value}"
            yield _sample(rng, name, (a, b), clamp, rule)


_CASES: tuple[tuple[str, Shape, Shape, tuple[int, int]], ...] = (
    ("image", (2, 3, 4, 5), (2, 3, 4, 5), (-128, 127)),
    ("squeeze and excite", (2, 3, 4, 6), (2, 1, 1, 6), (-128, 127)),
    ("mask", (2, 3, 4, 1), (2, 3, 4, 5), (-128, 127)),
    ("features, relu clamp", (3, 33), (3, 33), (0, 127)),
    ("row and column", (2, 3, 1, 5), (2, 1, 4, 5), (-90, 100)),
    ("four loops", (2, 3, 1, 4, 1), (2, 1, 5, 1, 2), (-128, 127)),
    ("four loops, exchanged", (2, 1, 5, 1, 2), (2, 3, 1, 4, 1), (-128, 127)),
)


def _sample(
    rng: sampling.Rng,
    label: str,
    shapes: tuple[Shape, Shape],
    clamp: tuple[int, int],
    rule: Rounding | None,
) -> Sample[Any]:
    ea, eb, ey = sampling.encodings(rule, rng)
    if rule is not None:  # unlike weights, the second operand has a zero point
        eb = Affine((0.03,), int(rng.integers(5, 21)))
    mult, shift = sampling.numbers(rng, 74.0 * 74.0, 1, rule)
    a, b = (sampling.kind((1, *s[1:]), e) for s, e in zip(shapes, (ea, eb), strict=True))
    arrays: MulInputs[Any] = MulInputs(
        sampling.codes(rng, shapes[0]), sampling.codes(rng, shapes[1]), mult=mult, shift=shift
    )
    one = sampling.raw32(1)
    types: MulInputs[TensorType] = MulInputs(a, b, mult=None if mult is None else one, shift=one)
    attrs = MulAttrs(clamp, rule or Rounding.HALF_UP)
    y = sampling.kind(broadcast_shape("mul", a.shape, b.shape), ey)
    return Sample(label, attrs, NodeTypes(types, (y,)), arrays)


class MulFunction(
    Layer,
    functions=(
        "operator.mul",
        "operator.imul",
        "torch.mul",
        "torch.multiply",
        "Tensor.mul",
        "Tensor.mul_",
        "Tensor.multiply",
    ),
):
    """`a * b` and `a *= b` of two values of the network."""

    @classmethod
    def lower_function(cls, build: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        def emit(a: Any, b: Any) -> Any:
            return build.node("mul", MulInputs(a.name, b.name), MulAttrs())

        return lower_pair(build, args, kwargs, emit)
