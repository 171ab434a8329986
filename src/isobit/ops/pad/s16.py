"""The readable pad of int16: every core."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from isobit.core.dtypes import DType
from isobit.ops.base import Kernel, NodeTypes, Packed
from isobit.ops.pad.op import PadAttrs
from isobit.ops.pad.reference import AXES, Reference, loops


class Wide(Kernel, op="pad", function="pad_s16"):
    """As that of int8."""

    code_bytes = 90
    alignment_bytes = 2

    @staticmethod
    def when(attrs: PadAttrs, q: NodeTypes[Any]) -> str:
        dtypes = (q.inputs.x.dtype, q.output.dtype)
        if set(dtypes) != {DType.S16}:
            return f"want s16 in and out, got {[d.value for d in dtypes]}"
        count = len(loops(attrs, q))
        return "" if count <= AXES else f"want at most {AXES} axes after merging, got {count}"

    @staticmethod
    def geometry(attrs: PadAttrs, q: NodeTypes[Any]) -> Mapping[str, int]:
        return Reference.geometry(attrs, q)

    @staticmethod
    def pack(attrs: PadAttrs, q: NodeTypes[Any], consts: Any) -> Sequence[Packed]:
        return Reference.pack(attrs, q, consts)

    @staticmethod
    def overlap_bytes(attrs: PadAttrs, q: NodeTypes[Any]) -> int | None:
        narrow = Reference.overlap_bytes(attrs, q)
        return None if narrow is None else 2 * narrow

    @staticmethod
    def cycles(attrs: PadAttrs, q: NodeTypes[Any]) -> float:
        return Reference.cycles(attrs, q)
