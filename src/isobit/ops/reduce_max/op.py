"""reduce_max: y = the largest element of x over `axes`; with `smallest`, the smallest."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from isobit.core.errors import raise_all
from isobit.core.types import Affine, Encoding, FloatArray, IntArray, Pow2, Shape, TensorType
from isobit.ir.graph import Attrs, Inputs
from isobit.ops import sampling
from isobit.ops.base import Cost, Inferred, NodeTypes, Op, Sample
from isobit.ops.reductions import axes_problems, reduced_shape, terms

if TYPE_CHECKING:
    from torch import Tensor

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class ReduceMaxAttrs(Attrs):
    """`axes` ascending, counted with the batch as 0."""

    axes: tuple[int, ...]
    smallest: bool = False


@dataclass(frozen=True, slots=True)
class ReduceMaxInputs(Inputs[T]):
    """x: any rank."""

    x: T


class ReduceMax(Op[ReduceMaxAttrs, ReduceMaxInputs[Any]], name="reduce_max"):
    """x: s8 of any rank; y: s8, size 1 on the reduced axes, the same encoding.

    Source: TFLite `REDUCE_MAX`, `REDUCE_MIN`; ONNX `ReduceMax`, `ReduceMin`.
    """

    @staticmethod
    def infer(attrs: ReduceMaxAttrs, types: ReduceMaxInputs[TensorType]) -> Inferred:
        x = types.x
        raise_all(axes_problems("reduce_max", x.shape, attrs.axes))
        return Inferred(reduced_shape(x.shape, attrs.axes), x.dtype, x.encoding)

    @staticmethod
    def integer(
        attrs: ReduceMaxAttrs, q: NodeTypes[Any], inputs: ReduceMaxInputs[IntArray]
    ) -> IntArray:
        choose = np.min if attrs.smallest else np.max
        result: IntArray = choose(inputs.x, axis=attrs.axes, keepdims=True)
        return result

    @staticmethod
    def identity(attrs: ReduceMaxAttrs, q: NodeTypes[Any]) -> str:
        one = terms(q.inputs.x.shape, attrs.axes) == 1
        return "the axes it reduces have size 1" if one else ""

    @staticmethod
    def real(attrs: ReduceMaxAttrs, inputs: ReduceMaxInputs[FloatArray]) -> FloatArray:
        choose = np.min if attrs.smallest else np.max
        result: FloatArray = choose(inputs.x, axis=attrs.axes, keepdims=True)
        return result

    @staticmethod
    def surrogate(
        attrs: ReduceMaxAttrs, q: NodeTypes[Any], inputs: ReduceMaxInputs[Tensor]
    ) -> Tensor:
        x = inputs.x
        if attrs.smallest:
            return x.amin(attrs.axes, keepdim=True)
        return x.amax(attrs.axes, keepdim=True)

    @staticmethod
    def cost(attrs: ReduceMaxAttrs, q: NodeTypes[Any]) -> Cost:
        return Cost(reads=q.inputs.x.elements, writes=q.output.elements)

    @staticmethod
    def samples() -> Iterator[Sample[Any]]:
        rng = np.random.default_rng(42)
        for label, shape, axes, encoding in _CASES:
            for smallest in (False, True):
                x = sampling.kind((1, *shape[1:]), encoding)
                y = x.with_shape(reduced_shape(x.shape, axes))
                # Extremes of many uniform codes are all near the end: every row has its own offset.
                offset = rng.integers(-90, 91, size=reduced_shape(shape, axes))
                codes = np.clip(offset + sampling.codes(rng, shape) // 4, -128, 127)
                types = NodeTypes(ReduceMaxInputs(x), (y,))
                name = f"{label}/{'min' if smallest else 'max'}"
                yield Sample(name, ReduceMaxAttrs(axes, smallest), types, ReduceMaxInputs(codes))


_CASES: tuple[tuple[str, Shape, tuple[int, ...], Encoding], ...] = (
    ("image", (8, 3, 4, 5), (1, 2), Affine((0.1,), 3)),
    ("channels", (3, 3, 4, 7), (3,), Pow2((5,))),
    ("rows", (4, 5, 3, 6), (1,), Affine((0.1,), -7)),
    ("everything", (40, 2, 3, 5), (1, 2, 3), Pow2((4,))),
    ("features", (40, 17), (1,), Affine((0.1,), 0)),
    ("every other axis", (2, 3, 2, 4, 5, 3), (1, 3, 5), Affine((0.1,), 0)),
    ("the axes between", (2, 2, 3, 2, 5, 3), (2, 4), Pow2((6,))),
)
