"""The readable maximum: every core, up to four broadcast loops."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from isobit.core.dtypes import DType
from isobit.ops import broadcast
from isobit.ops.base import Kernel, NodeTypes
from isobit.ops.maximum.op import MaximumAttrs


class Reference(Kernel, op="maximum", function="maximum_s8"):
    """Element by element; in place over either operand where both have the output's shape."""

    code_bytes = 110
    overlaps_all = True

    @staticmethod
    def when(attrs: MaximumAttrs, q: NodeTypes[Any]) -> str:
        dtypes = (q.inputs.a.dtype, q.inputs.b.dtype, q.output.dtype)
        if dtypes != (DType.S8,) * 3:
            return f"want s8 in and out, got {[d.value for d in dtypes]}"
        return broadcast.when(q.inputs.a.shape, q.inputs.b.shape)

    @staticmethod
    def geometry(attrs: MaximumAttrs, q: NodeTypes[Any]) -> Mapping[str, int]:
        loops = broadcast.geometry(q.inputs.a.shape, q.inputs.b.shape)
        return {**loops, "smallest": int(attrs.smallest)}

    @staticmethod
    def overlap_bytes(attrs: MaximumAttrs, q: NodeTypes[Any]) -> int | None:
        return 0 if q.inputs.a.shape == q.inputs.b.shape else None

    @staticmethod
    def cycles(attrs: MaximumAttrs, q: NodeTypes[Any]) -> float:
        return 9.0 * q.output.elements
