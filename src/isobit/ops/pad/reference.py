"""The readable pad: every core, int8, four axes after merging."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from isobit.core.dtypes import DType
from isobit.ops.base import Kernel, NodeTypes, Packed
from isobit.ops.pad.op import PadAttrs

AXES = 4


class Reference(Kernel, op="pad", function="pad_s8"):
    """Writes the output in order: a code, or the next one of the input."""

    code_bytes = 90

    @staticmethod
    def when(attrs: PadAttrs, q: NodeTypes[Any]) -> str:
        if q.inputs.x.dtype is not DType.S8:
            return f"want s8, got {q.inputs.x.dtype.value}"
        count = len(loops(attrs, q))
        return "" if count <= AXES else f"want at most {AXES} axes after merging, got {count}"

    @staticmethod
    def geometry(attrs: PadAttrs, q: NodeTypes[Any]) -> Mapping[str, int]:
        axes = loops(attrs, q)
        found: dict[str, int] = {}
        padded = [(1, 0, 0)] * (AXES - len(axes)) + axes
        for letter, (size, before, after) in zip("abcd", padded, strict=True):
            found |= {letter: size, f"{letter}_before": before, f"{letter}_after": after}
        return found

    @staticmethod
    def pack(attrs: PadAttrs, q: NodeTypes[Any], consts: Any) -> Sequence[Packed]:
        value = q.inputs.x.zero if attrs.value is None else attrs.value
        return [Packed("value", np.asarray([value], dtype=q.inputs.x.dtype.numpy))]

    @staticmethod
    def overlap_bytes(attrs: PadAttrs, q: NodeTypes[Any]) -> int | None:
        # The output leads most at the last input element: by all that is inserted before it.
        x, y = q.inputs.x.shape[1:], q.output.shape[1:]
        last = np.ravel_multi_index([p[0] + n - 1 for p, n in zip(attrs.pads, x, strict=True)], y)
        return int(last) + 1 - int(q.inputs.x.elements)

    @staticmethod
    def cycles(attrs: PadAttrs, q: NodeTypes[Any]) -> float:
        return 6.0 * q.output.elements


def loops(attrs: PadAttrs, q: NodeTypes[Any]) -> list[tuple[int, int, int]]:
    """Return (size, before, after) of the axes after the batch, merged where there are too many.

    An axis without pads is part of the elements of the one before it.
    """
    found: list[tuple[int, int, int]] = []
    shape = q.inputs.x.shape[1:]
    for size, (before, after) in zip(shape, attrs.pads, strict=True):
        if found and len(shape) > AXES and (before, after) == (0, 0):
            whole, first, last = found[-1]
            found[-1] = (whole * size, first * size, last * size)
        else:
            found.append((size, before, after))
    return found
