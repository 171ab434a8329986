"""strided_slice: y[i] = x[begin + stride * i], per axis; a negative stride runs backwards."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from isobit.core.dtypes import DType
from isobit.core.errors import BadAttribute, IsobitError, raise_all
from isobit.core.types import (
    Affine,
    AnyArray,
    Encoding,
    FloatArray,
    IntArray,
    Pow2,
    Raw,
    Shape,
    TensorType,
)
from isobit.ir.graph import Attrs, Inputs
from isobit.ops import sampling
from isobit.ops.base import Cost, Inferred, NodeTypes, Op, Sample

if TYPE_CHECKING:
    from torch import Tensor

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class StridedSliceAttrs(Attrs):
    """One entry for every axis after the batch: first index, step (not 0), number of elements."""

    begin: tuple[int, ...]
    stride: tuple[int, ...]
    size: tuple[int, ...]

    def indices(self, axis: int) -> range:
        """Return what is read along `axis`, counted without the batch."""
        begin, stride, size = self.begin[axis], self.stride[axis], self.size[axis]
        return range(begin, begin + stride * size, stride)


@dataclass(frozen=True, slots=True)
class StridedSliceInputs(Inputs[T]):
    """x: any shape."""

    x: T


class StridedSlice(Op[StridedSliceAttrs, StridedSliceInputs[Any]], name="strided_slice"):
    """x: [N,...]; y: [N,*size], the same encoding. Source: TFLite `STRIDED_SLICE`, masks
    resolved.
    """

    takes_wide = True

    @staticmethod
    def infer(attrs: StridedSliceAttrs, types: StridedSliceInputs[TensorType]) -> Inferred:
        raise_all(list(_problems(attrs, types.x.shape)))
        return Inferred((types.x.shape[0], *attrs.size), types.x.dtype, types.x.encoding)

    @staticmethod
    def integer(
        attrs: StridedSliceAttrs, q: NodeTypes[Any], inputs: StridedSliceInputs[IntArray]
    ) -> IntArray:
        return _taken(attrs, inputs.x)

    @staticmethod
    def identity(attrs: StridedSliceAttrs, q: NodeTypes[Any]) -> str:
        # A stride along one element moves nothing.
        forwards = all(s == 1 or n == 1 for s, n in zip(attrs.stride, attrs.size, strict=True))
        same = q.inputs.x.shape[1:] == attrs.size
        return "takes every element in order" if same and forwards else ""

    @staticmethod
    def real(attrs: StridedSliceAttrs, inputs: StridedSliceInputs[FloatArray]) -> FloatArray:
        return _taken(attrs, inputs.x)

    @staticmethod
    def surrogate(
        attrs: StridedSliceAttrs, q: NodeTypes[Any], inputs: StridedSliceInputs[Tensor]
    ) -> Tensor:
        import torch

        x = inputs.x  # torch has no negative strides
        for axis in range(len(attrs.size)):
            found = torch.tensor(list(attrs.indices(axis)), device=x.device)
            x = x.index_select(axis + 1, found)
        return x

    @staticmethod
    def cost(attrs: StridedSliceAttrs, q: NodeTypes[Any]) -> Cost:
        # What is skipped is not read, but counted like every element of an input.
        return Cost(reads=q.inputs.x.elements, writes=q.output.elements)

    @staticmethod
    def samples() -> Iterator[Sample[Any]]:
        rng = np.random.default_rng(37)
        for label, shape, attrs, encoding, dtype in _CASES:
            x = sampling.kind((1, *shape[1:]), encoding, dtype)
            y = sampling.kind((1, *attrs.size), encoding, dtype)
            types = NodeTypes(StridedSliceInputs(x), (y,))
            # Training carries codes in float32, which holds every integer up to 2^24.
            limit = 2**23
            codes = sampling.codes(rng, shape, max(dtype.low, -limit), min(dtype.high, limit))
            yield Sample(label, attrs, types, StridedSliceInputs(codes))


def _problems(attrs: StridedSliceAttrs, shape: Shape) -> Iterator[IsobitError]:
    """Yield what is not inside a tensor of `shape` (with the batch)."""
    counts = {len(attrs.begin), len(attrs.stride), len(attrs.size)}
    if counts != {len(shape) - 1}:
        yield BadAttribute(
            where="strided_slice",
            what="begin, stride and size",
            want=f"{len(shape) - 1} numbers each",
            got=f"{attrs.begin}, {attrs.stride}, {attrs.size}",
            fix="One of each for every axis after the batch.",
        )
        return
    for axis, whole in enumerate(shape[1:]):
        begin, stride, size = attrs.begin[axis], attrs.stride[axis], attrs.size[axis]
        last = begin + stride * (size - 1)
        if stride == 0 or size < 1 or not (0 <= begin < whole and 0 <= last < whole):
            yield BadAttribute(
                where="strided_slice",
                what=f"slice of axis {axis + 1}",
                want=f"at least one element, a stride that is not 0, indices 0..{whole - 1}",
                got=f"begin {begin}, stride {stride}, size {size}",
                fix="Negative indices and masks are resolved before; give plain indices.",
            )


def _taken(attrs: StridedSliceAttrs, x: AnyArray) -> AnyArray:
    for axis in range(len(attrs.size)):
        x = x.take(attrs.indices(axis), axis=axis + 1)
    return x


_CASES: tuple[tuple[str, Shape, StridedSliceAttrs, Encoding, DType], ...] = (
    (
        "crop",
        (2, 5, 6, 3),
        StridedSliceAttrs((1, 2, 0), (1, 1, 1), (3, 4, 3)),
        Affine((0.05,), -7),
        DType.S8,
    ),
    (
        "every second",
        (1, 7, 6, 2),
        StridedSliceAttrs((0, 1, 0), (2, 2, 1), (4, 3, 2)),
        Pow2((5,)),
        DType.S8,
    ),
    (
        "one channel",
        (2, 4, 3, 5),
        StridedSliceAttrs((0, 0, 3), (1, 1, 1), (4, 3, 1)),
        Pow2((5,)),
        DType.S8,
    ),
    ("backwards", (3, 13), StridedSliceAttrs((11,), (-3,), (4,)), Affine((0.1,), 3), DType.S8),
    (
        "turned",
        (1, 4, 3, 2),
        StridedSliceAttrs((3, 2, 1), (-1, -1, -1), (4, 3, 2)),
        Pow2((4,)),
        DType.S8,
    ),
    ("start", (2, 21), StridedSliceAttrs((0,), (1,), (9,)), Affine((0.1,), -20), DType.S8),
    ("end", (2, 21), StridedSliceAttrs((12,), (1,), (9,)), Affine((0.1,), -20), DType.S8),
    ("last", (9, 6), StridedSliceAttrs((5,), (1,), (1,)), Pow2((6,)), DType.S8),
    ("everything", (2, 3, 5), StridedSliceAttrs((0, 0), (1, 1), (3, 5)), Pow2((6,)), DType.S8),
    (
        "five axes",
        (1, 2, 3, 3, 2, 4),
        StridedSliceAttrs((1, 0, 2, 0, 1), (-1, 2, -1, 1, 1), (2, 2, 2, 2, 3)),
        Pow2((6,)),
        DType.S8,
    ),
    ("words", (2, 4, 5), StridedSliceAttrs((1, 4), (2, -2), (2, 3)), Raw(), DType.S32),
    (
        "one row, backwards",
        (3, 4, 5),
        StridedSliceAttrs((2, 1), (-1, 1), (1, 4)),
        Pow2((6,)),
        DType.S8,
    ),
)
