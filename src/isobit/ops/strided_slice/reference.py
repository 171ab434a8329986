"""The readable strided slice: every core, every dtype, four axes after merging."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from isobit.ops.base import Kernel, NodeTypes
from isobit.ops.strided_slice.op import StridedSliceAttrs

AXES = 4


class Reference(Kernel, op="strided_slice", function="strided_slice_bytes"):
    """Writes the output in order, reading runs of bytes with strides of the input."""

    code_bytes = 90

    @staticmethod
    def when(attrs: StridedSliceAttrs, q: NodeTypes[Any]) -> str:
        count = len(loops(attrs, q)[0])
        return "" if count <= AXES else f"want at most {AXES} loops, got {count}"

    @staticmethod
    def geometry(attrs: StridedSliceAttrs, q: NodeTypes[Any]) -> Mapping[str, int]:
        found, run = loops(attrs, q)
        geometry = {"start": start_bytes(attrs, q), "run": run}
        padded = [(1, 0)] * (AXES - len(found)) + found
        for letter, (size, stride) in zip("abcd", padded, strict=True):
            geometry |= {letter: size, f"{letter}_stride": stride}
        return geometry

    @staticmethod
    def overlap_bytes(attrs: StridedSliceAttrs, q: NodeTypes[Any]) -> int | None:
        # Forwards, byte k of the output comes from byte k of the input or a later one.
        turned = any(s < 0 and n > 1 for s, n in zip(attrs.stride, attrs.size, strict=True))
        return None if turned else 0

    @staticmethod
    def cycles(attrs: StridedSliceAttrs, q: NodeTypes[Any]) -> float:
        _, run = loops(attrs, q)
        return 4.0 * q.output.size_bytes + 6.0 * q.output.size_bytes / run


def steps(q: NodeTypes[Any]) -> list[int]:
    """Bytes between neighbours along every axis of x after the batch."""
    shape, element = q.inputs.x.shape, q.inputs.x.dtype.size_bytes
    return [element * math.prod(shape[axis + 1 :]) for axis in range(1, len(shape))]


def start_bytes(attrs: StridedSliceAttrs, q: NodeTypes[Any]) -> int:
    """Where the first element of the output lies in x."""
    return sum(step * begin for step, begin in zip(steps(q), attrs.begin, strict=True))


def loops(attrs: StridedSliceAttrs, q: NodeTypes[Any]) -> tuple[list[tuple[int, int]], int]:
    """Return (count, stride in bytes) of every loop, outermost first, and the bytes of a run.

    Axes that continue each other are one loop, and the innermost one is a run if it has no gaps.
    """
    found: list[tuple[int, int]] = []
    for size, stride, step in zip(attrs.size, attrs.stride, steps(q), strict=True):
        if size == 1:
            continue
        if found and found[-1][1] == size * stride * step:
            found[-1] = (found[-1][0] * size, stride * step)
        else:
            found.append((size, stride * step))
    element = int(q.inputs.x.dtype.size_bytes)
    if found and found[-1][1] == element:
        return found[:-1], found[-1][0] * element
    return found, element
