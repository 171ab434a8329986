"""transpose: axis k of y is axis `perm[k]` of x; the batch stays first."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from isobit.core.errors import BadAttribute
from isobit.core.types import Affine, Encoding, FloatArray, IntArray, Pow2, TensorType
from isobit.ir.graph import Attrs, Inputs
from isobit.ops import sampling
from isobit.ops.axes import moves_nothing, stored_permutation
from isobit.ops.base import Cost, Inferred, NodeTypes, Op, Sample
from isobit.ops.int16_samples import widened
from isobit.ops.layer import Layer
from isobit.ops.reshape.op import ReshapeAttrs, ReshapeInputs

if TYPE_CHECKING:
    from torch import Tensor

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class TransposeAttrs(Attrs):
    """`perm`: a permutation of all axes with `perm[0] = 0`."""

    perm: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class TransposeInputs(Inputs[T]):
    """x: any shape."""

    x: T


class Transpose(Op[TransposeAttrs, TransposeInputs[Any]], name="transpose"):
    """x, y: the same codes and encoding, `y.shape[k] = x.shape[perm[k]]`. Source: TFLite
    `TRANSPOSE`.
    """

    takes_wide = True

    @staticmethod
    def infer(attrs: TransposeAttrs, types: TransposeInputs[TensorType]) -> Inferred:
        x = types.x
        legal = sorted(attrs.perm) == list(range(len(x.shape))) and attrs.perm[0] == 0
        if not legal:
            raise BadAttribute(
                where="transpose",
                what="perm",
                want=f"a permutation of 0..{len(x.shape) - 1} that starts with 0",
                got=str(attrs.perm),
                fix="The batch axis stays whole and first.",
            )
        return Inferred(tuple(x.shape[axis] for axis in attrs.perm), x.dtype, x.encoding)

    @staticmethod
    def integer(
        attrs: TransposeAttrs, q: NodeTypes[Any], inputs: TransposeInputs[IntArray]
    ) -> IntArray:
        return np.ascontiguousarray(inputs.x.transpose(attrs.perm))

    @staticmethod
    def identity(attrs: TransposeAttrs, q: NodeTypes[Any]) -> str:
        return "moves no axis" if attrs.perm == tuple(sorted(attrs.perm)) else ""

    @staticmethod
    def real(attrs: TransposeAttrs, inputs: TransposeInputs[FloatArray]) -> FloatArray:
        return np.ascontiguousarray(inputs.x.transpose(attrs.perm))

    @staticmethod
    def surrogate(
        attrs: TransposeAttrs, q: NodeTypes[Any], inputs: TransposeInputs[Tensor]
    ) -> Tensor:
        return inputs.x.permute(attrs.perm).contiguous()

    @staticmethod
    def cost(attrs: TransposeAttrs, q: NodeTypes[Any]) -> Cost:
        return Cost(reads=q.inputs.x.elements, writes=q.output.elements)

    @staticmethod
    def samples() -> Iterator[Sample[Any]]:
        found = list(_narrow())
        yield from found
        yield from widened(np.random.default_rng(16), found)


def _lower(build: Any, x: Any, dims: tuple[int, ...]) -> Any:
    """`dims`: what torch's `permute` takes, normalised."""
    rank = len(x.type.shape)
    if sorted(dims) != list(range(rank)) or dims[0] != 0:
        raise build.refuse(
            "dims",
            f"a permutation of 0..{rank - 1} that starts with 0",
            str(dims),
            "The batch stays first; the chip runs one sample at a time.",
        )
    perm = stored_permutation(dims)
    if perm == tuple(range(rank)):
        return x
    if moves_nothing(x.type.shape, perm):
        shape = tuple(x.type.shape[axis] for axis in perm[1:])
        return build.node("reshape", ReshapeInputs(x.name), ReshapeAttrs(shape))
    return build.node("transpose", TransposeInputs(x.name), TransposeAttrs(perm))


class PermuteFunction(Layer, functions=("torch.permute", "Tensor.permute")):
    """`x.permute(dims)`, in torch's order of axes."""

    @classmethod
    def lower_function(cls, build: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        values = (*args, *(kwargs[name] for name in ("input", "dims") if name in kwargs))
        x, dims = values[0], values[1:]
        if len(dims) == 1 and isinstance(dims[0], tuple | list):
            dims = tuple(dims[0])
        rank = len(x.type.shape)
        return _lower(build, x, tuple(dim + rank if dim < 0 else dim for dim in dims))


class TransposeFunction(
    Layer, functions=("torch.transpose", "Tensor.transpose", "torch.swapaxes", "Tensor.swapaxes")
):
    """`x.transpose(dim0, dim1)`: two axes exchanged."""

    @classmethod
    def lower_function(cls, build: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        names = ("input", "dim0", "dim1")
        found = {**dict(zip(names, args, strict=False)), **kwargs}
        x = found["input"]
        rank = len(x.type.shape)
        a, b = (found.get(f"dim{i}", found.get(f"axis{i}")) for i in (0, 1))
        legal = range(-rank, rank)
        if a is None or b is None or a not in legal or b not in legal:
            raise build.refuse(
                "dims", f"two axes of {rank}", f"{a}, {b}", "Give two axes after the batch."
            )
        dims = list(range(rank))
        dims[a], dims[b] = dims[b], dims[a]
        return _lower(build, x, tuple(dims))


def _narrow() -> Iterator[Sample[Any]]:
    """The samples of int8."""
    rng = np.random.default_rng(34)
    cases: tuple[tuple[str, tuple[int, ...], tuple[int, ...], Encoding], ...] = (
        ("to channels first", (2, 3, 4, 5), (0, 3, 1, 2), Affine((0.05,), -7)),
        ("to channels last", (2, 5, 3, 4), (0, 2, 3, 1), Pow2((5,))),
        ("exchange", (3, 6, 4), (0, 2, 1), Affine((0.05,), 9)),
        ("rows and columns", (1, 4, 7, 2), (0, 2, 1, 3), Pow2((5,))),
        ("five axes", (2, 2, 3, 2, 4), (0, 4, 2, 1, 3), Pow2((5,))),
        ("identity", (2, 13), (0, 1), Pow2((6,))),
        ("six axes", (2, 2, 3, 2, 3, 2), (0, 5, 3, 1, 4, 2), Affine((0.05,), -7)),
    )
    for label, shape, perm, encoding in cases:
        x = sampling.kind((1, *shape[1:]), encoding)
        attrs = TransposeAttrs(perm)
        y = sampling.kind(Transpose.infer(attrs, TransposeInputs(x)).shape, encoding)
        types = NodeTypes(TransposeInputs(x), (y,))
        yield Sample(label, attrs, types, TransposeInputs(sampling.codes(rng, shape)))
