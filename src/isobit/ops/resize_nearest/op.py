"""resize_nearest: y[n,i,j,c] = x[n,rows[i],cols[j],c]; the indices follow from the sizes alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from isobit.core.errors import BadAttribute, BadShape, IsobitError, raise_all
from isobit.core.types import Affine, Encoding, FloatArray, IntArray, Pow2, Shape, TensorType
from isobit.ir.graph import Attrs, Inputs
from isobit.ops import sampling
from isobit.ops.base import Cost, Inferred, NodeTypes, Op, Sample
from isobit.ops.int16_samples import widened
from isobit.ops.window import Pair

if TYPE_CHECKING:
    from torch import Tensor

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class ResizeAttrs(Attrs):
    """`size`: rows and columns of the output.

    `align_corners`: the corner pixels of input and output coincide; `half_pixel_centers`: a pixel
    is the square around its centre, which lies at index + 1/2.
    """

    size: Pair
    align_corners: bool = False
    half_pixel_centers: bool = False


@dataclass(frozen=True, slots=True)
class ResizeInputs(Inputs[T]):
    """x: [N,H,W,C]."""

    x: T


class ResizeNearest(Op[ResizeAttrs, ResizeInputs[Any]], name="resize_nearest"):
    """x: s8 [N,H,W,C]; y: s8 [N,*size,C], the same encoding.

    Source: TFLite `RESIZE_NEAREST_NEIGHBOR` (`reference_ops::GetNearestNeighbor`).
    """

    @staticmethod
    def infer(attrs: ResizeAttrs, types: ResizeInputs[TensorType]) -> Inferred:
        raise_all(resize_problems("resize_nearest", attrs, types.x.shape))
        n, _, _, channels = types.x.shape
        return Inferred((n, *attrs.size, channels), types.x.dtype, types.x.encoding)

    @staticmethod
    def integer(attrs: ResizeAttrs, q: NodeTypes[Any], inputs: ResizeInputs[IntArray]) -> IntArray:
        rows, cols = sources(attrs, inputs.x.shape)
        return inputs.x[:, rows][:, :, cols]

    @staticmethod
    def identity(attrs: ResizeAttrs, q: NodeTypes[Any]) -> str:
        found = zip(sources(attrs, q.inputs.x.shape), q.inputs.x.shape[1:3], strict=True)
        same = all(np.array_equal(source, np.arange(size)) for source, size in found)
        return "every pixel stays where it is" if same else ""

    @staticmethod
    def real(attrs: ResizeAttrs, inputs: ResizeInputs[FloatArray]) -> FloatArray:
        rows, cols = sources(attrs, inputs.x.shape)
        return inputs.x[:, rows][:, :, cols]

    @staticmethod
    def surrogate(attrs: ResizeAttrs, q: NodeTypes[Any], inputs: ResizeInputs[Tensor]) -> Tensor:
        import torch

        rows, cols = (
            torch.as_tensor(index, device=inputs.x.device)
            for index in sources(attrs, q.inputs.x.shape)
        )
        return inputs.x[:, rows][:, :, cols]

    @staticmethod
    def cost(attrs: ResizeAttrs, q: NodeTypes[Any]) -> Cost:
        return Cost(reads=q.inputs.x.elements, writes=q.output.elements)

    @staticmethod
    def samples() -> Iterator[Sample[Any]]:
        found = list(_narrow())
        yield from found
        yield from widened(np.random.default_rng(16), found)


def _narrow() -> Iterator[Sample[Any]]:
    """The samples of int8."""
    rng = np.random.default_rng(44)
    zeros: tuple[Encoding, ...] = (Pow2((5,)), Affine((0.1,), -7))
    for index, (label, shape, attrs) in enumerate(_CASES):
        x = sampling.kind((1, *shape[1:]), zeros[index % 2])
        types = NodeTypes(ResizeInputs(x), (x.with_shape((1, *attrs.size, shape[3])),))
        yield Sample(label, attrs, types, ResizeInputs(sampling.codes(rng, shape)))


_CASES: tuple[tuple[str, Shape, ResizeAttrs], ...] = (
    ("twice as large", (2, 3, 4, 5), ResizeAttrs((6, 8))),
    ("half", (2, 6, 8, 3), ResizeAttrs((3, 4))),
    ("odd sizes, centres", (2, 5, 4, 3), ResizeAttrs((7, 9), half_pixel_centers=True)),
    ("odd sizes, corners", (2, 5, 4, 3), ResizeAttrs((8, 7), align_corners=True)),
    ("fewer, corners", (2, 9, 7, 2), ResizeAttrs((4, 3), align_corners=True)),
    ("corners and centres", (2, 5, 6, 3), ResizeAttrs((7, 4), True, True)),
    ("rows only", (2, 4, 5, 2), ResizeAttrs((11, 5))),
    ("one pixel", (3, 1, 1, 4), ResizeAttrs((3, 2), align_corners=True)),
    ("to one pixel", (9, 4, 5, 3), ResizeAttrs((1, 1), align_corners=True)),
    ("fewer rows, more columns", (2, 7, 3, 4), ResizeAttrs((3, 8), half_pixel_centers=True)),
)


def resize_problems(where: str, attrs: ResizeAttrs, shape: Shape) -> list[IsobitError]:
    """Return what is wrong with resizing an image of `shape`."""
    found: list[IsobitError] = []
    if len(shape) != 4:
        found.append(
            BadShape(
                where=where,
                what="input rank",
                want="4 (N, H, W, C)",
                got=f"{len(shape)} {list(shape)}",
                fix="Resize an image.",
            )
        )
    if min(attrs.size) < 1:
        found.append(
            BadAttribute(
                where=where,
                what="size",
                want="at least 1 x 1",
                got=str(attrs.size),
                fix="Correct it.",
            )
        )
    return found


def sources(attrs: ResizeAttrs, shape: Shape) -> tuple[IntArray, IntArray]:
    """Return the input rows and columns of the output's, for an input of `shape`."""
    rows, cols = (
        nearest(attrs, size, out) for size, out in zip(shape[1:3], attrs.size, strict=True)
    )
    return rows, cols


def nearest(attrs: ResizeAttrs, size: int, out: int) -> IntArray:
    """Return for each of `out` positions its source in 0..size-1, in float32 as TFLite does."""
    f32 = np.float32
    aligned = attrs.align_corners and out > 1
    scale = f32(size - 1) / f32(out - 1) if aligned else f32(size) / f32(out)
    offset = f32(0.5 if attrs.half_pixel_centers else 0.0)
    position = (np.arange(out, dtype=np.float32) + offset) * scale
    # Ties of float32 are exact in float64, where adding 1/2 rounds nothing.
    shifted = position.astype(np.float64) + (0.5 if attrs.align_corners else 0.0)
    result: IntArray = np.minimum(np.floor(shifted).astype(np.int64), size - 1)
    return result
