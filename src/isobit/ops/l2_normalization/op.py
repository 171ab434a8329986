"""l2_normalization over the last axis: y = x / |x|, the int8 arithmetic of TensorFlow Lite
(docs/numerics.md).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from isobit.core import fixed
from isobit.core.errors import BadShape, raise_all
from isobit.core.types import Affine, Encoding, FloatArray, IntArray, Pow2, Shape, TensorType
from isobit.ir.graph import Attrs, Inputs
from isobit.ops import sampling
from isobit.ops.base import Cost, EncodingRule, Inferred, NodeTypes, Op, Sample
from isobit.ops.l2_normalization import newton
from isobit.ops.schemes import Scheme

if TYPE_CHECKING:
    from torch import Tensor

T = TypeVar("T")

OUTPUT = Affine((1 / 128,), 0)
MAX_DEPTH = (2**31 - 1) // 255**2
"""Every square adds at most 255^2 to an int32 sum."""
EPSILON = 1e-6
"""Of float graphs: the least length that is divided by."""


@dataclass(frozen=True, slots=True)
class L2NormalizationAttrs(Attrs):
    """None."""


@dataclass(frozen=True, slots=True)
class L2NormalizationInputs(Inputs[T]):
    """x: [N,...,D], D <= 33025."""

    x: T


class L2Normalization(
    Op[L2NormalizationAttrs, L2NormalizationInputs[Any]], name="l2_normalization"
):
    """x: s8 [N,...,D]; y: s8, the same shape, scale 1/128, zero point 0.

    Source: docs/numerics.md; TFLite `L2_NORMALIZATION`
    (`reference_integer_ops::L2Normalization`, `GetInvSqrtQuantizedMultiplierExp`).
    """

    encoding_rule = EncodingRule.FIXED

    @staticmethod
    def fixed_encoding(
        attrs: L2NormalizationAttrs, inputs: L2NormalizationInputs[TensorType], scheme: Scheme
    ) -> Encoding:
        return Pow2((7,)) if scheme is Scheme.POW2 else OUTPUT

    @staticmethod
    def infer(attrs: L2NormalizationAttrs, types: L2NormalizationInputs[TensorType]) -> Inferred:
        x = types.x
        if len(x.shape) < 2 or not 1 <= x.shape[-1] <= MAX_DEPTH:
            raise_all(
                [
                    BadShape(
                        where="l2_normalization",
                        what="size of the last axis",
                        want=f"1..{MAX_DEPTH}",
                        got=str(list(x.shape)),
                        fix="The sum of more squares leaves int32.",
                    )
                ]
            )
        return Inferred(x.shape, x.dtype)

    @staticmethod
    def integer(
        attrs: L2NormalizationAttrs, q: NodeTypes[Any], inputs: L2NormalizationInputs[IntArray]
    ) -> IntArray:
        centred = inputs.x - q.inputs.x.zero
        mult, shift = newton.inverse_root((centred * centred).sum(axis=-1, keepdims=True))
        return fixed.saturate(fixed.tflite_double(centred, mult, 7 - shift), -128, 127)

    @staticmethod
    def real(attrs: L2NormalizationAttrs, inputs: L2NormalizationInputs[FloatArray]) -> FloatArray:
        x = inputs.x
        result: FloatArray = x / np.maximum(np.sqrt((x * x).sum(axis=-1, keepdims=True)), EPSILON)
        return result

    @staticmethod
    def surrogate(
        attrs: L2NormalizationAttrs, q: NodeTypes[Any], inputs: L2NormalizationInputs[Tensor]
    ) -> Tensor:
        from torch.nn.functional import normalize

        from isobit.core import fixed_torch as ft
        from isobit.ops.l2_normalization import torch_newton

        exact = torch_newton.normalized(inputs.x)
        if not inputs.x.requires_grad:
            return exact
        # Below length 1 codes all are 0: the bound only keeps the gradient finite.
        return ft.straight_through(exact, normalize(inputs.x, dim=-1, eps=1.0) * 128.0)

    @staticmethod
    def cost(attrs: L2NormalizationAttrs, q: NodeTypes[Any]) -> Cost:
        return Cost(reads=q.inputs.x.elements, writes=q.output.elements)

    @staticmethod
    def samples() -> Iterator[Sample[Any]]:
        rng = np.random.default_rng(47)
        for label, shape, encoding, spread in _CASES:
            x = sampling.kind((1, *shape[1:]), encoding)
            output = Pow2((7,)) if isinstance(encoding, Pow2) else OUTPUT
            types = NodeTypes(L2NormalizationInputs(x), (sampling.kind(x.shape, output),))
            codes = np.clip(sampling.codes(rng, shape, -spread, spread) + x.zero, -128, 127)
            if "nearly 0" in label:  # sums of squares 0, 1 and 2
                codes[:3] = x.zero
                codes[1, 0] += 1
                codes[2, :2] -= 1
            yield Sample(label, L2NormalizationAttrs(), types, L2NormalizationInputs(codes))


_CASES: tuple[tuple[str, Shape, Encoding, int], ...] = (
    ("embedding", (4, 64), Affine((0.05,), -9), 128),
    ("pow2", (9, 5), Pow2((6,)), 128),
    ("image", (2, 3, 4, 5), Affine((0.02,), 33), 128),
    ("short vectors", (30, 4), Pow2((5,)), 6),
    ("nearly 0", (60, 6), Affine((0.1,), 3), 2),
    ("zero point at the end", (9, 12), Affine((0.05,), -128), 255),
    ("long", (3, 1000), Affine((0.05,), 0), 127),
)
