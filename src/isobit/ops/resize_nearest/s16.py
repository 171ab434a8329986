"""The readable resize_nearest of int16: every core."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from isobit.core.dtypes import DType
from isobit.ops.base import Kernel, NodeTypes, Packed
from isobit.ops.resize_nearest.op import ResizeAttrs
from isobit.ops.resize_nearest.reference import LARGEST, Reference


class Wide(Kernel, op="resize_nearest", function="resize_nearest_s16"):
    """As that of int8."""

    code_bytes = 90
    alignment_bytes = 2

    @staticmethod
    def when(attrs: ResizeAttrs, q: NodeTypes[Any]) -> str:
        dtypes = (q.inputs.x.dtype, q.output.dtype)
        if set(dtypes) != {DType.S16}:
            return f"want s16 in and out, got {[d.value for d in dtypes]}"
        most = max(q.inputs.x.shape[1:3])
        return "" if most <= LARGEST else f"want at most {LARGEST} rows and columns, got {most}"

    @staticmethod
    def geometry(attrs: ResizeAttrs, q: NodeTypes[Any]) -> Mapping[str, int]:
        return Reference.geometry(attrs, q)

    @staticmethod
    def pack(attrs: ResizeAttrs, q: NodeTypes[Any], consts: Any) -> Sequence[Packed]:
        return Reference.pack(attrs, q, consts)

    @staticmethod
    def overlap_bytes(attrs: ResizeAttrs, q: NodeTypes[Any]) -> int | None:
        narrow = Reference.overlap_bytes(attrs, q)
        return None if narrow is None else 2 * narrow

    @staticmethod
    def cycles(attrs: ResizeAttrs, q: NodeTypes[Any]) -> float:
        return Reference.cycles(attrs, q)
