"""per_image_standardize: y = (x - mean) / max(deviation, 1 / sqrt(N)) of every image, in integers
(docs/numerics.md).

Source: KANJI's Table 3 and `tf.image.per_image_standardization`: both statistics are those of the
image itself, all of its pixels and channels.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from isobit.core import fixed
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
from isobit.ops.base import Cost, EncodingRule, Inferred, NodeTypes, Op, Sample
from isobit.ops.clamps import clamp_problems
from isobit.ops.layer import Layer
from isobit.ops.per_image_standardize import factors
from isobit.ops.schemes import Scheme, pixel_step

if TYPE_CHECKING:
    from torch import Tensor

T = TypeVar("T")

COARSEST, FINEST = -4, 7
"""Fracs of the output: no pixel is further than sqrt(N) <= 2^10 deviations from the mean, and in an
image that is not constant one is as far as one deviation.
"""


@dataclass(frozen=True, slots=True)
class PerImageStandardizeAttrs(Attrs):
    """`frac`: one deviation is 2^frac codes. `least`: the smallest N^2 * variance, in codes, that
    is divided by; N for pixels.
    """

    frac: int = 5
    least: int = 1
    clamp: tuple[int, int] = (-128, 127)


@dataclass(frozen=True, slots=True)
class PerImageStandardizeInputs(Inputs[T]):
    """x: u8 or s8 [N,...], up to 2^20 elements an image."""

    x: T


class PerImageStandardize(
    Op[PerImageStandardizeAttrs, PerImageStandardizeInputs[Any]], name="per_image_standardize"
):
    """x: u8 (raw pixels, scale 1) or s8 [N,...]; y: s8, the same shape, step 2^-frac.

    Real meaning: `(x - m) / max(s, 1 / sqrt(N))` with mean m and standard deviation s of the N
    values of an image.
    """

    encoding_rule = EncodingRule.FREE
    absorbs_clamp = True
    takes_any_encoding = True
    takes_pixels = True

    @staticmethod
    def infer(
        attrs: PerImageStandardizeAttrs, types: PerImageStandardizeInputs[TensorType]
    ) -> Inferred:
        x = types.x
        errors: list[IsobitError] = []
        pixels = math.prod(x.shape[1:])
        if not (len(x.shape) > 1 and 1 < pixels <= factors.MOST_PIXELS):
            errors.append(
                BadShape(
                    where="per_image_standardize",
                    what="values of an image",
                    want=f"2..{factors.MOST_PIXELS}",
                    got=str(list(x.shape)),
                    fix="Reduce the image before it is standardised.",
                )
            )
        legal = COARSEST <= attrs.frac <= FINEST and 1 <= attrs.least <= factors.MOST_VARIANCE
        if not legal:
            errors.append(
                BadAttribute(
                    where="per_image_standardize",
                    what="frac, least",
                    want=f"{COARSEST}..{FINEST}, 1..{factors.MOST_VARIANCE}",
                    got=f"{attrs.frac}, {attrs.least}",
                    fix="docs/numerics.md says how they follow from the encodings.",
                )
            )
        y = TensorType(x.shape, DType.S8, x.encoding) if x.dtype.is_integer else x
        raise_all([*errors, *clamp_problems("per_image_standardize", y, attrs.clamp)])
        return Inferred(x.shape, y.dtype)

    @staticmethod
    def integer(
        attrs: PerImageStandardizeAttrs,
        q: NodeTypes[Any],
        inputs: PerImageStandardizeInputs[IntArray],
    ) -> IntArray:
        distance, variance = factors.variances(inputs.x, attrs.least)
        found = [factors.reciprocal(v, attrs.frac) for v in variance.ravel().tolist()]
        mult, shift = (np.reshape(part, variance.shape) for part in zip(*found, strict=True))
        codes = fixed.half_up(distance, mult, shift)
        return fixed.saturate(codes + q.output.zero, *attrs.clamp)

    @staticmethod
    def real(
        attrs: PerImageStandardizeAttrs, inputs: PerImageStandardizeInputs[FloatArray]
    ) -> FloatArray:
        axes = tuple(range(1, inputs.x.ndim))
        least = 1 / math.sqrt(math.prod(inputs.x.shape[1:]))
        deviation = np.maximum(inputs.x.std(axis=axes, keepdims=True), least)
        result: FloatArray = (inputs.x - inputs.x.mean(axis=axes, keepdims=True)) / deviation
        return result

    @staticmethod
    def surrogate(
        attrs: PerImageStandardizeAttrs,
        q: NodeTypes[Any],
        inputs: PerImageStandardizeInputs[Tensor],
    ) -> Tensor:
        from isobit.core import fixed_torch as ft
        from isobit.ops.per_image_standardize import torch_factors

        # Distances from the mean are those of the codes, whatever the zero point.
        codes = inputs.x.detach().long()
        distance, variance = torch_factors.variances(codes, attrs.least)
        mult, shift = torch_factors.reciprocal(variance, attrs.frac)
        low, high = (bound - q.output.zero for bound in attrs.clamp)
        exact = ft.integers(distance, mult, shift, fixed.Rounding.HALF_UP).clamp(low, high)
        if not inputs.x.requires_grad:
            return exact.float()
        smooth = _standardized(inputs.x, math.sqrt(attrs.least)) * 2.0**attrs.frac
        return ft.straight_through(exact.float(), smooth.clamp(low, high))

    @staticmethod
    def estimate(
        attrs: PerImageStandardizeAttrs,
        q: NodeTypes[Any],
        inputs: PerImageStandardizeInputs[Tensor],
    ) -> Tensor:
        least = least_variance(q.inputs.x)
        return _standardized(inputs.x, math.sqrt(least))

    @staticmethod
    def cost(attrs: PerImageStandardizeAttrs, q: NodeTypes[Any]) -> Cost:
        return Cost(reads=q.inputs.x.elements, writes=q.output.elements)

    @classmethod
    def permuted(
        cls, attrs: PerImageStandardizeAttrs, q: NodeTypes[Any], perm: tuple[int, ...]
    ) -> PerImageStandardizeAttrs | None:
        """The statistics are those of all pixels, in any order."""
        return attrs

    @classmethod
    def choose_encoding(
        cls,
        attrs: PerImageStandardizeAttrs,
        inputs: PerImageStandardizeInputs[TensorType],
        scheme: Scheme,
        consts: PerImageStandardizeInputs[AnyArray],
        low: float,
        high: float,
    ) -> Encoding:
        return pixel_step(scheme, max(low, -1024.0), min(high, 1024.0), FINEST)

    @staticmethod
    def derive(
        attrs: PerImageStandardizeAttrs,
        q: NodeTypes[Any],
        scheme: Scheme,
        consts: Any,
    ) -> tuple[PerImageStandardizeAttrs, Mapping[str, AnyArray]]:
        """Take `frac` from the output's step, and `least` from the input's."""
        step = float(scale_of(q.output.encoding)[0])
        frac = -round(math.log2(step))
        if 2.0**-frac != step:
            raise BadAttribute(
                where="per_image_standardize",
                what="output step",
                want="a power of two",
                got=str(step),
                fix="It needs an output encoding with a power-of-two scale.",
            )
        return replace(attrs, frac=frac, least=least_variance(q.inputs.x)), {}

    @staticmethod
    def samples() -> Iterator[Sample[Any]]:
        rng = np.random.default_rng(48)
        u8, s8 = DType.U8, DType.S8
        pixels = Affine((1.0,), 0)
        cases: tuple[tuple[str, tuple[int, ...], DType, Encoding, Encoding, int, int], ...] = (
            ("pixels, pow2", (3, 5, 4, 3), u8, pixels, Pow2((5,)), 0, 255),
            ("pixels, affine", (3, 7, 3, 1), u8, pixels, Affine((1 / 32,), -9), 20, 240),
            ("dark, flat images", (4, 3, 3, 2), u8, pixels, Pow2((4,)), 3, 5),
            ("codes", (3, 4, 3, 2), s8, Affine((0.05,), -20), Pow2((5,)), -128, 127),
            ("vector of codes", (4, 11), s8, Pow2((4,)), Affine((1 / 16,), 30), -50, 40),
            ("fine codes, below the bound", (4, 9), s8, Pow2((9,)), Pow2((6,)), -90, 90),
            ("three values", (12, 3), u8, pixels, Pow2((6,)), 0, 255),
            ("larger", (2, 17, 19, 3), u8, pixels, Pow2((5,)), 0, 255),
        )
        for label, shape, dtype, encoding, output, low, high in cases:
            x = sampling.kind((1, *shape[1:]), encoding, dtype)
            y = sampling.kind((1, *shape[1:]), output, s8)
            types = NodeTypes(PerImageStandardizeInputs(x), (y,))
            blank = PerImageStandardizeAttrs()
            if label == "vector of codes":
                blank = replace(blank, clamp=(-20, 90))
            attrs, _ = PerImageStandardize.derive(blank, types, Scheme.AFFINE, None)
            codes = sampling.codes(rng, shape, low, high)
            if label == "larger":  # one nearly constant, with a speck far away
                codes[1] = 100 + codes[1] % 3
                codes[1, 3, 3] = 110
            if label == "three values":  # the bound decides where their squares sum to one
                codes[:4] = codes[:4, :1] + np.asarray(
                    [[0, 0, 0], [0, 1, 0], [0, 0, -1], [0, 1, 2]]
                )
            yield Sample(label, attrs, types, PerImageStandardizeInputs(codes))


class PerImageStandardizeLayer(Layer, name="PerImageStandardize"):
    """`isobit.nn.PerImageStandardize()`: there is nothing to adapt; every image has its own
    statistics.
    """

    @classmethod
    def module_class(cls) -> Any:
        from isobit.ops.per_image_standardize.torch_module import PerImageStandardize as Module

        return Module

    @staticmethod
    def lower(build: Any, module: Any, x: Any) -> Any:
        return build.node(
            "per_image_standardize", PerImageStandardizeInputs(x.name), PerImageStandardizeAttrs()
        )


def least_variance(x: TensorType) -> int:
    """Return N^2 times the smallest variance, in codes: of a deviation of 1 / sqrt(N) in real
    units.
    """
    step = float(scale_of(x.encoding)[0])
    wanted = math.prod(x.shape[1:]) / step**2
    return max(1, min(factors.MOST_VARIANCE, math.floor(wanted + 0.5)))


def _standardized(x: Tensor, least: float) -> Tensor:
    """Return `(x - mean) / deviation` of every image; the deviation is at least `least / N`."""
    axes = list(range(1, x.dim()))
    centred = x - x.mean(axes, keepdim=True)
    # The bound is inside the root: the derivative of a root at 0 is infinite.
    variance = centred.square().mean(axes, keepdim=True).clamp_min((least / x[0].numel()) ** 2)
    return centred / variance.sqrt()
