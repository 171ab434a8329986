"""softmax over the last axis: the int8 arithmetic of TensorFlow Lite Micro (docs/numerics.md)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from isobit.core.dtypes import DType
from isobit.core.errors import BadAttribute, BadShape, IsobitError, raise_all
from isobit.core.types import (
    Affine,
    AnyArray,
    Encoding,
    FloatArray,
    IntArray,
    Pow2,
    TensorType,
    scale_of,
)
from isobit.ir.graph import Attrs, Inputs
from isobit.ops import sampling
from isobit.ops.axes import stored_axis
from isobit.ops.base import Cost, EncodingRule, Inferred, NodeTypes, Op, Sample, is_float
from isobit.ops.layer import Layer
from isobit.ops.schemes import Scheme
from isobit.ops.softmax import gemmlowp, int16

if TYPE_CHECKING:
    from torch import Tensor

T = TypeVar("T")

OUTPUT = Affine((1 / 256,), -128)
MAX_DEPTH = 4095
"""Every exponential adds at most 2^19 to an int32 sum."""


@dataclass(frozen=True, slots=True)
class SoftmaxAttrs(Attrs):
    """`beta`: real factor of the exponents; `mult`, `shift`, `diff_min` follow from it and the
    input's scale.
    """

    beta: float = 1.0
    mult: int = 0
    shift: int = 0
    diff_min: int = 0


@dataclass(frozen=True, slots=True)
class SoftmaxInputs(Inputs[T]):
    """x: [N,...,D], D <= 4095."""

    x: T


class Softmax(Op[SoftmaxAttrs, SoftmaxInputs[Any]], name="softmax"):
    """x: s8 [N,...,D]; y: s8, the same shape, scale 1/256, zero point -128. Or both s16, y of scale
    2^-15, zero point 0. Source: TFLite `SOFTMAX`, gemmlowp.
    """

    encoding_rule = EncodingRule.FIXED

    @staticmethod
    def fixed_encoding(attrs: SoftmaxAttrs, inputs: Any, scheme: Scheme) -> Encoding:
        return OUTPUT

    @staticmethod
    def infer(attrs: SoftmaxAttrs, types: SoftmaxInputs[TensorType]) -> Inferred:
        x = types.x
        errors: list[IsobitError] = []
        if len(x.shape) < 2 or not 1 <= x.shape[-1] <= MAX_DEPTH:
            errors.append(
                BadShape(
                    where="softmax",
                    what="size of the last axis",
                    want=f"1..{MAX_DEPTH}",
                    got=str(list(x.shape)),
                    fix="The sum of more exponentials leaves int32.",
                )
            )
        low, high = (-31, 14) if x.dtype is DType.S16 else (0, 31)
        legal = 0 <= attrs.mult < 2**31 and low <= attrs.shift <= high and attrs.diff_min <= 0
        if not legal or attrs.beta <= 0:
            errors.append(
                BadAttribute(
                    where="softmax",
                    what="beta, mult, shift, diff_min",
                    want=f"> 0, 0..2^31-1, {low}..{high}, <= 0",
                    got=f"{attrs.beta}, {attrs.mult}, {attrs.shift}, {attrs.diff_min}",
                    fix="docs/numerics.md says how they follow from beta and the input's scale.",
                )
            )
        raise_all(errors)
        return Inferred(x.shape, x.dtype)

    @staticmethod
    def integer(
        attrs: SoftmaxAttrs, q: NodeTypes[Any], inputs: SoftmaxInputs[IntArray]
    ) -> IntArray:
        if q.inputs.x.dtype is DType.S16:
            return int16.softmax(inputs.x, attrs.mult, attrs.shift)
        d = inputs.x - inputs.x.max(axis=-1, keepdims=True)
        counted = d >= attrs.diff_min
        # Where an element does not count, 0 stands in, so that every intermediate stays in range.
        scaled = gemmlowp.product(np.where(counted, d, 0) << attrs.shift, attrs.mult)
        e = np.where(counted, gemmlowp.exp_of_negative(scaled), 0)
        total = gemmlowp.divide_by_power(e, 12).sum(axis=-1, keepdims=True)
        r, bits = gemmlowp.reciprocal(total)
        y = gemmlowp.divide_by_power(gemmlowp.product(r, e), bits + 23) - 128
        return np.where(counted, np.clip(y, -128, 127), -128)

    @staticmethod
    def keeps_order(attrs: SoftmaxAttrs, q: NodeTypes[Any]) -> bool:
        """Try all 256 exponents; what follows them (one factor, one rounding) is monotone."""
        if is_float(q.inputs.x):
            return True
        if q.inputs.x.dtype is DType.S16:
            return bool(np.all(np.diff(int16.tables()[0]) >= 0))
        d = np.arange(max(-255, attrs.diff_min), 1)
        scaled = gemmlowp.product(d << attrs.shift, attrs.mult)
        return bool(np.all(np.diff(gemmlowp.exp_of_negative(scaled)) >= 0))

    @staticmethod
    def real(attrs: SoftmaxAttrs, inputs: SoftmaxInputs[FloatArray]) -> FloatArray:
        x = inputs.x * attrs.beta
        e = np.exp(x - x.max(axis=-1, keepdims=True))
        result: FloatArray = e / e.sum(axis=-1, keepdims=True)
        return result

    @staticmethod
    def surrogate(attrs: SoftmaxAttrs, q: NodeTypes[Any], inputs: SoftmaxInputs[Tensor]) -> Tensor:
        import torch

        from isobit.core import fixed_torch as ft
        from isobit.ops.softmax import torch_gemmlowp

        wide = q.inputs.x.dtype is DType.S16
        if wide:  # no network is trained in int16 yet: by the definition itself
            codes = inputs.x.detach().cpu().numpy().astype(np.int64)
            defined = int16.softmax(codes, attrs.mult, attrs.shift)
            exact = torch.as_tensor(defined, device=inputs.x.device).float()
        else:
            exact = torch_gemmlowp.softmax(inputs.x, attrs.mult, attrs.shift, attrs.diff_min)
        if not inputs.x.requires_grad:
            return exact
        step = float(scale_of(q.inputs.x.encoding)[0]) * attrs.beta
        return ft.straight_through(
            exact, torch.softmax(inputs.x * step, dim=-1) * (32768.0 if wide else 256.0)
        )

    @staticmethod
    def cost(attrs: SoftmaxAttrs, q: NodeTypes[Any]) -> Cost:
        return Cost(reads=q.inputs.x.elements, writes=q.output.elements)

    @staticmethod
    def derive(
        attrs: SoftmaxAttrs, q: NodeTypes[Any], scheme: Scheme, consts: Any
    ) -> tuple[SoftmaxAttrs, Mapping[str, AnyArray]]:
        scale = float(scale_of(q.inputs.x.encoding)[0])
        if q.inputs.x.dtype is DType.S16:
            mult, shift = int16.parameters(attrs.beta * scale)
            return replace(attrs, mult=mult, shift=shift), {}
        mult, shift, diff_min = gemmlowp.parameters(attrs.beta * scale)
        return replace(attrs, mult=mult, shift=shift, diff_min=diff_min), {}

    @staticmethod
    def samples() -> Iterator[Sample[Any]]:
        rng = np.random.default_rng(36)
        cases: tuple[tuple[str, tuple[int, ...], Encoding, float, int], ...] = (
            ("ten classes", (9, 10), Affine((0.02,), 3), 1.0, 128),
            ("pow2", (9, 5), Pow2((6,)), 1.0, 128),
            ("beta", (6, 12), Affine((0.05,), -20), 0.4, 100),
            ("wide scale, some below diff_min", (24, 6), Affine((0.25,), 0), 1.0, 5),
            ("two classes", (60, 2), Affine((0.03,), 7), 1.0, 128),
            ("image", (1, 3, 4, 5), Pow2((5,)), 1.0, 100),
            ("fine scale", (8, 4), Affine((1e-3,), 0), 1.0, 128),
            ("two among tiny", (8, 302), Affine((0.1,), 0), 1.0, 128),
            ("sharp quotient", (4, 4), Affine((0.010389827556871194,), 0), 1.0, 128),
            ("steep, at diff_min", (11, 40), Affine((8.5,), 0), 1.0, 128),
        )
        for label, shape, encoding, beta, spread in cases:
            x = sampling.kind((1, *shape[1:]), encoding)
            y = sampling.kind((1, *shape[1:]), OUTPUT, DType.S8)
            types = NodeTypes(SoftmaxInputs(x), (y,))
            attrs, _ = Softmax.derive(SoftmaxAttrs(beta), types, Scheme.AFFINE, None)
            codes = sampling.codes(rng, shape, -spread, min(spread, 127))
            if label == "sharp quotient":  # 65: a reciprocal less by 2^-31 gives 64
                codes[0] = (0, -1, -1, -1)
            if label == "steep, at diff_min":  # exp(-8.5) still counts
                largest = np.asarray([1, 2, 3, 4, 5, 30, 36, 38, 40, 40, 40])
                codes[:] = 49 + (np.arange(40) < largest[:, None])
            if label == "two among tiny":  # only the rounding of each summand makes them count
                codes[0] = -36
                codes[0, :2] = (100, 75)
                codes[1:] = sampling.codes(rng, (7, 302), 60, 75)
                codes[1, :6] = (100, 98, 96, 94, 92, 90)
            if label.startswith("wide"):
                codes[::4, 0] -= 120  # far below diff_min
            yield Sample(label, attrs, types, SoftmaxInputs(codes))
        yield from _wide_samples(rng)


class SoftmaxLayer(
    Layer,
    name="Softmax",
    functions=("torch.softmax", "torch.nn.functional.softmax", "Tensor.softmax"),
):
    """`isobit.nn.Softmax(dim)` over the channels of an image or the last axis of anything else."""

    @staticmethod
    def lower(build: Any, module: Any, x: Any) -> Any:
        return _lower(build, x, module.dim)

    @classmethod
    def lower_function(cls, build: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        return _lower(build, args[0], args[1] if len(args) > 1 else kwargs.get("dim"))


def _wide_samples(rng: sampling.Rng) -> Iterator[Sample[Any]]:
    """int16: scales from no multiplier to a left shift."""
    cases: tuple[tuple[str, tuple[int, ...], float, float], ...] = (
        ("ten classes", (9, 10), 1e-4, 1.0),
        ("beta", (6, 12), 3e-4, 0.5),
        ("two classes", (60, 2), 1e-4, 1.0),
        ("image", (1, 3, 4, 5), 2.0**-13, 1.0),
        ("one class far above", (8, 6), 4e-4, 1.0),
        ("many classes", (4, 300), 5e-5, 1.0),
        ("a class alone", (9, 1), 1e-4, 1.0),
        ("all lowest", (6, 6), 0.02, 1.0),
    )
    for label, shape, scale, beta in cases:
        x = sampling.kind((1, *shape[1:]), Affine((scale,), 0), DType.S16)
        y = sampling.kind((1, *shape[1:]), int16.OUTPUT, DType.S16)
        types = NodeTypes(SoftmaxInputs(x), (y,))
        attrs, _ = Softmax.derive(SoftmaxAttrs(beta), types, Scheme.AFFINE, None)
        codes = sampling.codes(rng, shape, DType.S16.low, DType.S16.high)
        if label.startswith("one"):
            codes[:2, 0], codes[:2, 1:] = 32767, codes[:2, 1:] // 2
        if label == "all lowest":
            codes[:] = DType.S16.low + codes % 100
            codes[0] = DType.S16.low
        yield Sample(f"{label}, int16", attrs, types, SoftmaxInputs(codes))


def _lower(build: Any, x: Any, dim: Any) -> Any:
    rank = len(x.type.shape)
    known = isinstance(dim, int) and -rank <= dim < rank
    if not known or stored_axis(dim, rank) != rank - 1:
        raise build.refuse(
            "dim",
            "1, the channels" if rank == 4 else "-1, the last axis",
            str(dim),
            "Name the axis that is last on the chip; permute others there first.",
        )
    return build.node("softmax", SoftmaxInputs(x.name), SoftmaxAttrs())
