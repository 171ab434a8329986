"""maximum: y = max(a, b), with `smallest` min(a, b); NumPy broadcasting."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from isobit.core.errors import BadAttribute, raise_all
from isobit.core.types import Affine, Encoding, FloatArray, IntArray, Pow2, Shape, TensorType
from isobit.ir.graph import Attrs, Inputs
from isobit.ops import sampling
from isobit.ops.base import Cost, Inferred, NodeTypes, Op, Sample, is_float
from isobit.ops.broadcast import broadcast_shape
from isobit.ops.int16_samples import widened

if TYPE_CHECKING:
    from torch import Tensor

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class MaximumAttrs(Attrs):
    """`smallest`: the smaller one instead."""

    smallest: bool = False


@dataclass(frozen=True, slots=True)
class MaximumInputs(Inputs[T]):
    """a, b: activations of one rank."""

    a: T
    b: T


class Maximum(Op[MaximumAttrs, MaximumInputs[Any]], name="maximum"):
    """a, b, y: s8 or s16, one encoding; shapes equal up to axes of size 1.

    Source: TFLite `MAXIMUM`, `MINIMUM`; ONNX `Max`, `Min`.
    """

    same_encoding = True
    elementwise = True

    @staticmethod
    def infer(attrs: MaximumAttrs, types: MaximumInputs[TensorType]) -> Inferred:
        shape = broadcast_shape("maximum", types.a.shape, types.b.shape)
        if types.a.encoding != types.b.encoding and not is_float(types.a):
            raise_all(
                [
                    BadAttribute(
                        where="maximum",
                        what="encodings of the operands",
                        want="the same",
                        got=f"{types.a.encoding} and {types.b.encoding}",
                        fix="Codes are compared; requantise one of the operands.",
                    )
                ]
            )
        return Inferred(shape, types.a.dtype, types.a.encoding)

    @staticmethod
    def integer(
        attrs: MaximumAttrs, q: NodeTypes[Any], inputs: MaximumInputs[IntArray]
    ) -> IntArray:
        choose = np.minimum if attrs.smallest else np.maximum
        result: IntArray = choose(inputs.a, inputs.b)
        return result

    @staticmethod
    def real(attrs: MaximumAttrs, inputs: MaximumInputs[FloatArray]) -> FloatArray:
        choose = np.minimum if attrs.smallest else np.maximum
        result: FloatArray = choose(inputs.a, inputs.b)
        return result

    @staticmethod
    def surrogate(attrs: MaximumAttrs, q: NodeTypes[Any], inputs: MaximumInputs[Tensor]) -> Tensor:
        import torch

        choose = torch.minimum if attrs.smallest else torch.maximum
        return choose(inputs.a, inputs.b)

    @staticmethod
    def cost(attrs: MaximumAttrs, q: NodeTypes[Any]) -> Cost:
        return Cost(reads=q.inputs.a.elements + q.inputs.b.elements, writes=q.output.elements)

    @staticmethod
    def samples() -> Iterator[Sample[Any]]:
        found = list(_narrow())
        yield from found
        yield from widened(np.random.default_rng(16), found)


def _narrow() -> Iterator[Sample[Any]]:
    """The samples of int8."""
    rng = np.random.default_rng(43)
    for index, (label, a, b) in enumerate(_CASES):
        encoding: Encoding = Affine((0.05,), -7) if index % 2 else Pow2((5,))
        for smallest in (False, True):
            kinds = [sampling.kind((1, *shape[1:]), encoding) for shape in (a, b)]
            y = kinds[0].with_shape(broadcast_shape("maximum", kinds[0].shape, kinds[1].shape))
            arrays = MaximumInputs(sampling.codes(rng, a), sampling.codes(rng, b))
            name = f"{label}/{'min' if smallest else 'max'}"
            types = NodeTypes(MaximumInputs(*kinds), (y,))
            yield Sample(name, MaximumAttrs(smallest), types, arrays)


_CASES: tuple[tuple[str, Shape, Shape], ...] = (
    ("image", (2, 3, 4, 5), (2, 3, 4, 5)),
    ("features", (3, 33), (3, 33)),
    ("one channel to all", (2, 3, 4, 1), (2, 3, 4, 5)),
    ("one value", (4, 17), (4, 1)),
    ("row and column", (2, 3, 1, 5), (2, 1, 4, 5)),
    ("four loops", (2, 3, 1, 4, 1), (2, 1, 5, 1, 2)),
    ("four loops, exchanged", (2, 1, 5, 1, 2), (2, 3, 1, 4, 1)),
)
