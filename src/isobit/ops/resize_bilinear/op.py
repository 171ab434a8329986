"""resize_bilinear: y = round_away(2^-20 * sum of four pixels times their 20-bit weights)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from isobit.core.errors import BadAttribute, IsobitError, raise_all
from isobit.core.types import Affine, AnyArray, Encoding, FloatArray, IntArray, Pow2, Shape
from isobit.ops import sampling
from isobit.ops.base import Cost, Inferred, NodeTypes, Op, Sample
from isobit.ops.resize_nearest.op import ResizeAttrs, ResizeInputs, resize_problems

if TYPE_CHECKING:
    from torch import Tensor

    from isobit.core.types import TensorType

BITS = 10
ONE = 1 << BITS
"""Positions and weights along an axis are in units of 2^-10 pixel."""


@dataclass(frozen=True, slots=True)
class Line:
    """Where the outputs along one axis lie on the input: between `low` and `high`, `weight` (in
    2^-10, or a real) of the way.
    """

    low: IntArray
    high: IntArray
    weight: AnyArray


class ResizeBilinear(Op[ResizeAttrs, ResizeInputs[Any]], name="resize_bilinear"):
    """x: s8 [N,H,W,C]; y: s8 [N,*size,C], the same encoding.

    Source: docs/numerics.md; TFLite `RESIZE_BILINEAR` (`reference_ops::ResizeBilinearInteger`).
    """

    @staticmethod
    def infer(attrs: ResizeAttrs, types: ResizeInputs[TensorType]) -> Inferred:
        errors = resize_problems("resize_bilinear", attrs, types.x.shape)
        if attrs.align_corners and attrs.half_pixel_centers:
            errors.append(
                BadAttribute(
                    where="resize_bilinear",
                    what="align_corners and half_pixel_centers",
                    want="at most one of them",
                    got="both",
                    fix="Leave one out.",
                )
            )
        raise_all(errors or _outside(attrs, types.x.shape))
        n, _, _, channels = types.x.shape
        return Inferred((n, *attrs.size, channels), types.x.dtype, types.x.encoding)

    @staticmethod
    def integer(attrs: ResizeAttrs, q: NodeTypes[Any], inputs: ResizeInputs[IntArray]) -> IntArray:
        rows, cols = lines(attrs, q.inputs.x.shape)
        total = _interpolated(inputs.x, rows, cols, ONE)
        half = 1 << (2 * BITS - 1)
        result: IntArray = np.sign(total) * ((np.abs(total) + half) >> (2 * BITS))
        return result

    @staticmethod
    def identity(attrs: ResizeAttrs, q: NodeTypes[Any]) -> str:
        found = zip(lines(attrs, q.inputs.x.shape), q.inputs.x.shape[1:3], strict=True)
        same = all(
            np.array_equal(line.low, np.arange(size)) and not line.weight.any()
            for line, size in found
        )
        return "every pixel stays where it is" if same else ""

    @staticmethod
    def real(attrs: ResizeAttrs, inputs: ResizeInputs[FloatArray]) -> FloatArray:
        rows, cols = (
            _real_line(attrs, size, out)
            for size, out in zip(inputs.x.shape[1:3], attrs.size, strict=True)
        )
        result: FloatArray = _interpolated(inputs.x, rows, cols, 1)
        return result

    @staticmethod
    def surrogate(attrs: ResizeAttrs, q: NodeTypes[Any], inputs: ResizeInputs[Tensor]) -> Tensor:
        """Return the interpolated codes, rounded; sums stay below 2^29, exact in float64."""
        import torch

        from isobit.core import fixed_torch as ft

        def on_device(line: Line) -> tuple[Tensor, Tensor, Tensor]:
            low, high = (torch.as_tensor(i, device=inputs.x.device) for i in (line.low, line.high))
            weight = torch.as_tensor(line.weight, dtype=torch.float64, device=inputs.x.device)
            return low, high, weight

        (top, bottom, down), (left, right, over) = map(on_device, lines(attrs, q.inputs.x.shape))
        x, zero = inputs.x.to(torch.float64), q.output.zero
        down, over = down[:, None, None] / ONE, over[:, None] / ONE
        rows = x[:, top] * (1 - down) + x[:, bottom] * down
        smooth = rows[:, :, left] * (1 - over) + rows[:, :, right] * over
        codes = smooth.detach() + zero  # multiples of 2^-20: exact
        exact = codes.sign() * (codes.abs() + 0.5).floor() - zero
        return ft.straight_through(exact.to(torch.float32), smooth.to(torch.float32))

    @staticmethod
    def cost(attrs: ResizeAttrs, q: NodeTypes[Any]) -> Cost:
        return Cost(reads=q.inputs.x.elements, writes=q.output.elements)

    @staticmethod
    def samples() -> Iterator[Sample[Any]]:
        rng = np.random.default_rng(45)
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
    ("twice as large, centres", (2, 3, 5, 3), ResizeAttrs((6, 10), half_pixel_centers=True)),
    ("rows only", (2, 4, 5, 2), ResizeAttrs((10, 5))),
    ("one pixel", (3, 1, 1, 4), ResizeAttrs((3, 2), align_corners=True)),
    ("to one pixel", (9, 4, 5, 3), ResizeAttrs((1, 1), align_corners=True)),
    ("fewer rows, more columns", (2, 7, 3, 4), ResizeAttrs((3, 8), half_pixel_centers=True)),
)


def factor(attrs: ResizeAttrs, size: int, out: int) -> int:
    """Return the step between outputs in 2^-10 pixel, rounded, ties up."""
    if attrs.align_corners and out > 1:
        size, out = size - 1, out - 1
    return (ONE * size + out // 2) // out


def first(attrs: ResizeAttrs, step: int) -> int:
    """Return the position of output 0 in 2^-10 pixel; only half-pixel centres have one below 0."""
    return step // 2 - ONE // 2 if attrs.half_pixel_centers else 0


def lines(attrs: ResizeAttrs, shape: Shape) -> tuple[Line, Line]:
    """Return rows and columns of the outputs on an input of `shape`, in 2^-10 pixel."""
    rows, cols = (_line(attrs, size, out) for size, out in zip(shape[1:3], attrs.size, strict=True))
    return rows, cols


def _line(attrs: ResizeAttrs, size: int, out: int) -> Line:
    step = factor(attrs, size, out)
    position = np.arange(out, dtype=np.int64) * step + first(attrs, step)
    low = np.maximum(position, 0) >> BITS
    high = np.clip((position + ONE - 1) >> BITS, 0, size - 1)
    return Line(low, high, position - ONE * low)


def _real_line(attrs: ResizeAttrs, size: int, out: int) -> Line:
    aligned = attrs.align_corners and out > 1
    scale = (size - 1) / (out - 1) if aligned else size / out
    offset = 0.5 if attrs.half_pixel_centers else 0.0
    position = (np.arange(out) + offset) * scale - offset
    low = np.clip(np.floor(position).astype(np.int64), 0, size - 1)
    high = np.clip(np.ceil(position).astype(np.int64), 0, size - 1)
    return Line(low, high, position - low)


def _interpolated(x: AnyArray, rows: Line, cols: Line, one: int) -> AnyArray:
    """Return the four pixels' sum, times `one` squared."""
    down, over = rows.weight[:, None, None], cols.weight[:, None]
    lines_of = x[:, rows.low] * (one - down) + x[:, rows.high] * down
    result: AnyArray = lines_of[:, :, cols.low] * (one - over) + lines_of[:, :, cols.high] * over
    return result


def _outside(attrs: ResizeAttrs, shape: Shape) -> list[IsobitError]:
    """Return where the rounded step leads beyond the input: TFLite reads outside it there."""
    found: list[IsobitError] = []
    for line, size, out in zip(lines(attrs, shape), shape[1:3], attrs.size, strict=True):
        if int(line.low.max()) >= size:
            found.append(
                BadAttribute(
                    where="resize_bilinear",
                    what="size",
                    want=f"one whose step of 2^-10 pixel stays within the {size} input pixels",
                    got=str(out),
                    fix="Resize in two steps, or to a size that 1024 times the input's divides.",
                )
            )
    return found
