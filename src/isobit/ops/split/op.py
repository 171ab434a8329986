"""split: consecutive slices of given sizes along `axis`; one output per slice."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from isobit.core.errors import BadAttribute
from isobit.core.types import (
    Affine,
    AnyArray,
    Encoding,
    FloatArray,
    IntArray,
    Pow2,
    Shape,
    TensorType,
)
from isobit.ir.graph import Attrs, Inputs
from isobit.ops import sampling
from isobit.ops.axes import outer_inner, require_axis
from isobit.ops.base import Cost, Inferred, NodeTypes, Op, Sample
from isobit.ops.int16_samples import widened
from isobit.ops.layer import Layer

if TYPE_CHECKING:
    from torch import Tensor

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class SplitAttrs(Attrs):
    """`axis` >= 1, counted with the batch as 0; `sizes` add up to the input's size along it."""

    axis: int
    sizes: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class SplitInputs(Inputs[T]):
    """x: any shape."""

    x: T


class Split(Op[SplitAttrs, SplitInputs[Any]], name="split"):
    """x: [N,...]; output k: [N,...] with `sizes[k]` along `axis`; the same encoding. Source: TFLite
    `SPLIT_V`.
    """

    takes_wide = True

    @staticmethod
    def infer(attrs: SplitAttrs, types: SplitInputs[TensorType]) -> tuple[Inferred, ...]:
        shape, axis = types.x.shape, attrs.axis
        if not 1 <= axis < len(shape):
            raise BadAttribute(
                where="split",
                what="axis",
                want=f"1..{len(shape) - 1}",
                got=str(axis),
                fix="The batch axis stays whole and first.",
            )
        if not attrs.sizes or min(attrs.sizes) < 1 or sum(attrs.sizes) != shape[axis]:
            raise BadAttribute(
                where="split",
                what="sizes",
                want=f"positive numbers that add up to {shape[axis]}",
                got=str(attrs.sizes),
                fix=f"The input is {list(shape)} (NHWC), split along axis {axis}.",
            )
        return tuple(
            Inferred((*shape[:axis], size, *shape[axis + 1 :]), types.x.dtype, types.x.encoding)
            for size in attrs.sizes
        )

    @staticmethod
    def integer(
        attrs: SplitAttrs, q: NodeTypes[Any], inputs: SplitInputs[IntArray]
    ) -> tuple[IntArray, ...]:
        return _slices(attrs, inputs.x)

    @classmethod
    def permuted(cls, attrs: SplitAttrs, q: NodeTypes[Any], perm: Shape) -> SplitAttrs:
        return SplitAttrs(perm[attrs.axis], attrs.sizes)

    @staticmethod
    def contiguous(attrs: SplitAttrs, q: NodeTypes[Any]) -> bool:
        return outer_inner(q.inputs.x.shape, attrs.axis)[0] == 1

    @staticmethod
    def identity(attrs: SplitAttrs, q: NodeTypes[Any]) -> str:
        return "is one part" if len(attrs.sizes) == 1 else ""

    @staticmethod
    def real(attrs: SplitAttrs, inputs: SplitInputs[FloatArray]) -> tuple[FloatArray, ...]:
        return _slices(attrs, inputs.x)

    @staticmethod
    def surrogate(
        attrs: SplitAttrs, q: NodeTypes[Any], inputs: SplitInputs[Tensor]
    ) -> tuple[Tensor, ...]:
        import torch

        parts: tuple[Tensor, ...] = torch.split_with_sizes(inputs.x, attrs.sizes, dim=attrs.axis)
        return parts

    @staticmethod
    def cost(attrs: SplitAttrs, q: NodeTypes[Any]) -> Cost:
        return Cost(reads=q.inputs.x.elements, writes=sum(y.elements for y in q.outputs))

    @staticmethod
    def samples() -> Iterator[Sample[Any]]:
        found = list(_narrow())
        yield from found
        yield from widened(np.random.default_rng(16), found)


def _slices(attrs: SplitAttrs, x: AnyArray) -> tuple[AnyArray, ...]:
    starts = np.cumsum((0, *attrs.sizes)).tolist()
    return tuple(x.take(range(a, b), axis=attrs.axis) for a, b in pairwise(starts))


def _lower(build: Any, x: Any, axis: int, sizes: tuple[int, ...]) -> Any:
    if len(sizes) == 1:
        return (x,)
    return build.node("split", SplitInputs(x.name), SplitAttrs(axis, sizes))


def _arguments(
    args: tuple[Any, ...], kwargs: Mapping[str, Any], names: tuple[str, ...]
) -> tuple[Any, Any, Any]:
    """Return (tensor, what to split by, dim) of a call; `names` are what torch calls the second
    one.
    """
    found = dict(zip(("input", names[0], "dim"), args, strict=False))
    found.update({names[0] if key in names else key: value for key, value in kwargs.items()})
    return found.get("input", found.get("tensor")), found[names[0]], found.get("dim", 0)


class SplitFunction(Layer, functions=("torch.split", "Tensor.split")):
    """`torch.split(x, size or sizes, dim)`: slices of one size (the last may be smaller), or of
    these sizes.
    """

    @classmethod
    def lower_function(cls, build: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        x, by, dim = _arguments(args, kwargs, ("split_size_or_sections", "split_size"))
        axis = require_axis(build, dim, len(x.type.shape))
        total = x.type.shape[axis]
        if isinstance(by, int):
            if by < 1:
                raise build.refuse("split size", ">= 1", str(by), "Give the size of one slice.")
            by = [min(by, total - start) for start in range(0, total, by)]
        return _lower(build, x, axis, tuple(int(size) for size in by))


class ChunkFunction(Layer, functions=("torch.chunk", "Tensor.chunk")):
    """`torch.chunk(x, chunks, dim)`: slices of `ceil(size / chunks)`; there may be fewer than asked
    for.
    """

    @classmethod
    def lower_function(cls, build: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        x, chunks, dim = _arguments(args, kwargs, ("chunks",))
        axis = require_axis(build, dim, len(x.type.shape))
        total = x.type.shape[axis]
        if not isinstance(chunks, int) or chunks < 1:
            raise build.refuse("chunks", ">= 1", str(chunks), "Give the number of slices.")
        size = -(-total // chunks)
        sizes = tuple(min(size, total - start) for start in range(0, total, size))
        return _lower(build, x, axis, sizes)


class GetItemFunction(Layer, functions=("operator.getitem",)):
    """`parts[k]`: one of the several results of an operator."""

    takes_several = True

    @classmethod
    def lower_function(cls, build: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        values, index = args
        if not isinstance(values, tuple | list) or not isinstance(index, int):
            raise build.refuse(
                "indexing of a tensor",
                "the number of one of several results (of split or chunk)",
                str(index),
                "Write slices of tensors with torch.split.",
            )
        if not -len(values) <= index < len(values):
            raise build.refuse(
                "index", f"less than {len(values)}", str(index), "There are fewer results."
            )
        return values[index]


def _narrow() -> Iterator[Sample[Any]]:
    """The samples of int8."""
    rng = np.random.default_rng(32)
    cases: tuple[tuple[str, tuple[int, ...], SplitAttrs, Encoding], ...] = (
        ("channels", (2, 3, 4, 6), SplitAttrs(3, (2, 1, 3)), Affine((0.05,), -7)),
        ("rows", (2, 5, 3, 2), SplitAttrs(1, (4, 1)), Pow2((5,))),
        ("columns", (1, 2, 6, 3), SplitAttrs(2, (3, 3)), Pow2((5,))),
        ("features", (4, 20), SplitAttrs(1, (9, 7, 4)), Affine((0.1,), 3)),
        ("one slice", (3, 9), SplitAttrs(1, (9,)), Pow2((6,))),
        ("many slices", (2, 32), SplitAttrs(1, (2,) * 16), Pow2((6,))),
    )
    for label, shape, attrs, encoding in cases:
        x = sampling.kind((1, *shape[1:]), encoding)
        outputs = tuple(
            sampling.kind(out.shape, encoding) for out in Split.infer(attrs, SplitInputs(x))
        )
        types = NodeTypes(SplitInputs(x), outputs)
        yield Sample(label, attrs, types, SplitInputs(sampling.codes(rng, shape)))
