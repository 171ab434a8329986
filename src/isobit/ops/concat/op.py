"""concat: the inputs one after the other along `axis`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from isobit.core.errors import BadAttribute, BadShape, IsobitError, raise_all
from isobit.core.types import Affine, Encoding, FloatArray, IntArray, Pow2, Shape, TensorType
from isobit.ir.graph import Attrs, Inputs
from isobit.ops import sampling
from isobit.ops.axes import outer_inner, require_axis
from isobit.ops.base import Cost, Inferred, NodeTypes, Op, Sample, is_float
from isobit.ops.channels import Joined
from isobit.ops.int16_samples import widened
from isobit.ops.layer import Layer

if TYPE_CHECKING:
    from torch import Tensor

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class ConcatAttrs(Attrs):
    """`axis` >= 1, counted with the batch as 0."""

    axis: int


@dataclass(frozen=True, slots=True)
class ConcatInputs(Inputs[T]):
    """xs: at least one tensor; all shapes equal but for `axis`."""

    xs: tuple[T, ...]


class Concat(Op[ConcatAttrs, ConcatInputs[Any]], name="concat"):
    """xs: [N,...]; y: [N,...], sizes along `axis` added; one encoding.

    Training gives all producers of a concatenation one range (`train/ties`), so that nothing is
    rescaled; where a producer's encoding is fixed, a `requantize` node stands between. Source:
    TFLite `CONCATENATION`.
    """

    same_encoding = True
    channels = Joined()

    @staticmethod
    def infer(attrs: ConcatAttrs, types: ConcatInputs[TensorType]) -> Inferred:
        if not types.xs:
            raise BadShape(
                where="concat",
                what="number of inputs",
                want="at least 1",
                got="0",
                fix="Give it tensors to join.",
            )
        first = types.xs[0]
        if not 1 <= attrs.axis < len(first.shape):
            raise BadAttribute(
                where="concat",
                what="axis",
                want=f"1..{len(first.shape) - 1}",
                got=str(attrs.axis),
                fix="The batch axis stays whole and first.",
            )
        raise_all(list(_mismatches(attrs.axis, types.xs)))
        shape = list(first.shape)
        shape[attrs.axis] = sum(x.shape[attrs.axis] for x in types.xs)
        return Inferred(tuple(shape), first.dtype, first.encoding)

    @staticmethod
    def integer(attrs: ConcatAttrs, q: NodeTypes[Any], inputs: ConcatInputs[IntArray]) -> IntArray:
        return np.concatenate(inputs.xs, axis=attrs.axis)

    @classmethod
    def permuted(cls, attrs: ConcatAttrs, q: NodeTypes[Any], perm: Shape) -> ConcatAttrs:
        return ConcatAttrs(perm[attrs.axis])

    @staticmethod
    def contiguous(attrs: ConcatAttrs, q: NodeTypes[Any]) -> bool:
        return outer_inner(q.output.shape, attrs.axis)[0] == 1

    @staticmethod
    def identity(attrs: ConcatAttrs, q: NodeTypes[Any]) -> str:
        return "joins one tensor" if len(q.inputs.xs) == 1 else ""

    @staticmethod
    def real(attrs: ConcatAttrs, inputs: ConcatInputs[FloatArray]) -> FloatArray:
        return np.concatenate(inputs.xs, axis=attrs.axis)

    @staticmethod
    def surrogate(attrs: ConcatAttrs, q: NodeTypes[Any], inputs: ConcatInputs[Tensor]) -> Tensor:
        import torch

        return torch.cat(inputs.xs, dim=attrs.axis)

    @staticmethod
    def cost(attrs: ConcatAttrs, q: NodeTypes[Any]) -> Cost:
        return Cost(reads=q.output.elements, writes=q.output.elements)

    @staticmethod
    def samples() -> Iterator[Sample[Any]]:
        found = list(_narrow())
        yield from found
        yield from widened(np.random.default_rng(16), found)


def _mismatches(axis: int, kinds: tuple[TensorType, ...]) -> Iterator[IsobitError]:
    """Yield what differs from the first input but the size along `axis`."""
    first = kinds[0]
    for position, kind in enumerate(kinds[1:], start=1):
        same_rank = len(kind.shape) == len(first.shape)
        others = [i for i in range(len(first.shape)) if i != axis]
        if not same_rank or any(kind.shape[i] != first.shape[i] for i in others):
            yield BadShape(
                where="concat",
                what=f"shape of input {position}",
                want=f"{list(first.shape)} but for axis {axis}",
                got=str(list(kind.shape)),
                fix="Shapes are NHWC and must agree outside the joined axis.",
            )
        elif kind.dtype is not first.dtype or (
            not is_float(kind) and kind.encoding != first.encoding
        ):
            yield BadShape(
                where="concat",
                what=f"type of input {position}",
                want=f"{first.dtype.value} {first.encoding}",
                got=f"{kind.dtype.value} {kind.encoding}",
                fix="Insert a requantize node: codes of two encodings cannot stand side by side.",
            )


class ConcatFunction(Layer, functions=("torch.cat", "torch.concat", "torch.concatenate")):
    """`torch.cat(tensors, dim)`; no module has this meaning."""

    takes_several = True

    @classmethod
    def lower_function(cls, build: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        values = (*args, *(kwargs[k] for k in ("tensors",) if k in kwargs))
        tensors = tuple(values[0])
        dim = args[1] if len(args) > 1 else kwargs.get("dim", kwargs.get("axis", 0))
        axis = require_axis(build, dim, len(tensors[0].type.shape))
        if len(tensors) == 1:
            return tensors[0]
        return build.node("concat", ConcatInputs(tuple(t.name for t in tensors)), ConcatAttrs(axis))


def _narrow() -> Iterator[Sample[Any]]:
    """The samples of int8."""
    rng = np.random.default_rng(31)
    cases: tuple[tuple[str, int, tuple[tuple[int, ...], ...], Encoding], ...] = (
        ("channels", 3, ((2, 3, 4, 5), (2, 3, 4, 1), (2, 3, 4, 2)), Affine((0.05,), -7)),
        ("rows", 1, ((1, 2, 3, 4), (1, 5, 3, 4)), Pow2((5,))),
        ("columns", 2, ((3, 2, 1, 3), (3, 2, 4, 3)), Pow2((5,))),
        ("features", 1, ((4, 7), (4, 1), (4, 12), (4, 3)), Affine((0.1,), 11)),
        ("one input", 1, ((3, 9),), Pow2((6,))),
        ("many inputs", 1, tuple((2, k + 1) for k in range(16)), Pow2((4,))),
    )
    for label, axis, shapes, encoding in cases:
        kinds = tuple(sampling.kind((1, *s[1:]), encoding) for s in shapes)
        attrs = ConcatAttrs(axis)
        inferred = Concat.infer(attrs, ConcatInputs(kinds))
        arrays = tuple(sampling.codes(rng, s) for s in shapes)
        types = NodeTypes(ConcatInputs(kinds), (sampling.kind(inferred.shape, encoding),))
        yield Sample(label, attrs, types, ConcatInputs(arrays))
