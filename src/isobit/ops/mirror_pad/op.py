"""mirror_pad: x surrounded by its own reflection."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
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


class Mirror(Enum):
    """Where the mirror stands: `c b | a b c | b a` or `b a | a b c | c b`."""

    REFLECT = "reflect"
    """On the border element, which is not repeated."""
    SYMMETRIC = "symmetric"
    """Behind it: it is repeated."""


@dataclass(frozen=True, slots=True)
class MirrorPadAttrs(Attrs):
    """`pads`: (before, after) of every axis after the batch, at most `size - 1` (reflect) or `size`
    (symmetric).
    """

    pads: tuple[tuple[int, int], ...]
    mode: Mirror = Mirror.REFLECT

    def indices(self, axis: int, size: int) -> list[int]:
        """Return what is read along `axis`, counted without the batch, of `size` elements."""
        before, after = self.pads[axis]
        edge = 1 if self.mode is Mirror.SYMMETRIC else 0
        found = []
        for i in range(-before, size + after):
            if i < 0:
                found.append(-i - edge)
            else:
                found.append(i if i < size else 2 * size - 2 + edge - i)
        return found


@dataclass(frozen=True, slots=True)
class MirrorPadInputs(Inputs[T]):
    """x: any shape."""

    x: T


class MirrorPad(Op[MirrorPadAttrs, MirrorPadInputs[Any]], name="mirror_pad"):
    """x: [N,...]; y: [N,...], every axis longer by its two pads; the same encoding. Source: TFLite
    `MIRROR_PAD`; NumPy `pad` with the modes of the same names.
    """

    @staticmethod
    def infer(attrs: MirrorPadAttrs, types: MirrorPadInputs[TensorType]) -> Inferred:
        x = types.x
        raise_all(list(_problems(attrs, x.shape)))
        sizes = (s + a + b for s, (a, b) in zip(x.shape[1:], attrs.pads, strict=True))
        return Inferred((x.shape[0], *sizes), x.dtype, x.encoding)

    @staticmethod
    def integer(
        attrs: MirrorPadAttrs, q: NodeTypes[Any], inputs: MirrorPadInputs[IntArray]
    ) -> IntArray:
        return _padded(attrs, inputs.x)

    @staticmethod
    def identity(attrs: MirrorPadAttrs, q: NodeTypes[Any]) -> str:
        return "" if any(map(any, attrs.pads)) else "pads by nothing"

    @staticmethod
    def real(attrs: MirrorPadAttrs, inputs: MirrorPadInputs[FloatArray]) -> FloatArray:
        return _padded(attrs, inputs.x)

    @staticmethod
    def surrogate(
        attrs: MirrorPadAttrs, q: NodeTypes[Any], inputs: MirrorPadInputs[Tensor]
    ) -> Tensor:
        import torch

        x = inputs.x  # torch's own pad knows no symmetric mode, and no padded channels
        for axis in range(len(attrs.pads)):
            found = torch.tensor(attrs.indices(axis, x.shape[axis + 1]), device=x.device)
            x = x.index_select(axis + 1, found)
        return x

    @staticmethod
    def cost(attrs: MirrorPadAttrs, q: NodeTypes[Any]) -> Cost:
        return Cost(reads=q.inputs.x.elements, writes=q.output.elements)

    @staticmethod
    def samples() -> Iterator[Sample[Any]]:
        rng = np.random.default_rng(38)
        for label, shape, attrs, encoding, dtype in _CASES:
            x = sampling.kind((1, *shape[1:]), encoding, dtype)
            y = sampling.kind(MirrorPad.infer(attrs, MirrorPadInputs(x)).shape, encoding, dtype)
            types = NodeTypes(MirrorPadInputs(x), (y,))
            # Training carries codes in float32, which holds every integer up to 2^24.
            limit = 2**23
            codes = sampling.codes(rng, shape, max(dtype.low, -limit), min(dtype.high, limit))
            yield Sample(label, attrs, types, MirrorPadInputs(codes))


def _problems(attrs: MirrorPadAttrs, shape: Shape) -> Iterator[IsobitError]:
    """Yield what a mirror cannot show of a tensor of `shape` (with the batch)."""
    if len(attrs.pads) != len(shape) - 1:
        yield BadAttribute(
            where="mirror_pad",
            what="pads",
            want=f"{len(shape) - 1} pairs",
            got=str(attrs.pads),
            fix="One pair (before, after) for every axis after the batch.",
        )
        return
    for axis, (size, pair) in enumerate(zip(shape[1:], attrs.pads, strict=True), start=1):
        most = size if attrs.mode is Mirror.SYMMETRIC else size - 1
        if not (min(pair) >= 0 and max(pair) <= most):
            yield BadAttribute(
                where="mirror_pad",
                what=f"pads of axis {axis}",
                want=f"0..{most}",
                got=str(pair),
                fix=f"A {attrs.mode.value} mirror shows at most {most} of {size} elements.",
            )


def _padded(attrs: MirrorPadAttrs, x: AnyArray) -> AnyArray:
    return np.pad(x, ((0, 0), *attrs.pads), mode=attrs.mode.value)


_CASES: tuple[tuple[str, Shape, MirrorPadAttrs, Encoding, DType], ...] = (
    (
        "border",
        (2, 4, 5, 3),
        MirrorPadAttrs(((1, 1), (1, 1), (0, 0))),
        Affine((0.05,), -7),
        DType.S8,
    ),
    (
        "border, symmetric",
        (2, 4, 5, 3),
        MirrorPadAttrs(((1, 1), (1, 1), (0, 0)), Mirror.SYMMETRIC),
        Affine((0.05,), -7),
        DType.S8,
    ),
    (
        "as much as there is",
        (1, 3, 4, 2),
        MirrorPadAttrs(((2, 2), (3, 3), (1, 1))),
        Pow2((5,)),
        DType.S8,
    ),
    (
        "as much as there is, symmetric",
        (1, 3, 4, 2),
        MirrorPadAttrs(((3, 3), (4, 4), (2, 2)), Mirror.SYMMETRIC),
        Pow2((5,)),
        DType.S8,
    ),
    ("one side", (2, 4, 4, 5), MirrorPadAttrs(((0, 2), (3, 0), (0, 0))), Pow2((5,)), DType.S8),
    ("features", (5, 11), MirrorPadAttrs(((3, 4),)), Affine((0.1,), -20), DType.S8),
    ("nothing", (3, 9), MirrorPadAttrs(((0, 0),)), Pow2((6,)), DType.S8),
    (
        "five axes",
        (1, 2, 2, 3, 2, 3),
        MirrorPadAttrs(((1, 0), (0, 0), (2, 1), (0, 1), (0, 0))),
        Affine((0.1,), 11),
        DType.S8,
    ),
    (
        "words",
        (2, 3, 4),
        MirrorPadAttrs(((1, 2), (0, 4)), Mirror.SYMMETRIC),
        Raw(),
        DType.S32,
    ),
    (
        "four axes, behind the first",
        (1, 2, 2, 3, 2),
        MirrorPadAttrs(((0, 1), (1, 0), (0, 2), (1, 1))),
        Affine((0.1,), 11),
        DType.S8,
    ),
)
