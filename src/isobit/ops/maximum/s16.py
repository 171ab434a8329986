"""The readable maximum of int16: every core, up to four broadcast loops."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from isobit.core.dtypes import DType
from isobit.ops import broadcast
from isobit.ops.base import Kernel, NodeTypes
from isobit.ops.maximum.op import MaximumAttrs
from isobit.ops.maximum.reference import Reference


class Wide(Kernel, op="maximum", function="maximum_s16"):
    """As that of int8."""

    code_bytes = 110
    alignment_bytes = 2
    overlaps_all = True

    @staticmethod
    def when(attrs: MaximumAttrs, q: NodeTypes[Any]) -> str:
        dtypes = (q.inputs.a.dtype, q.inputs.b.dtype, q.output.dtype)
        if set(dtypes) != {DType.S16}:
            return f"want s16 in and out, got {[d.value for d in dtypes]}"
        return broadcast.when(q.inputs.a.shape, q.inputs.b.shape)

    @staticmethod
    def geometry(attrs: MaximumAttrs, q: NodeTypes[Any]) -> Mapping[str, int]:
        return Reference.geometry(attrs, q)

    @staticmethod
    def overlap_bytes(attrs: MaximumAttrs, q: NodeTypes[Any]) -> int | None:
        narrow = Reference.overlap_bytes(attrs, q)
        return None if narrow is None else 2 * narrow

    @staticmethod
    def cycles(attrs: MaximumAttrs, q: NodeTypes[Any]) -> float:
        return Reference.cycles(attrs, q)
