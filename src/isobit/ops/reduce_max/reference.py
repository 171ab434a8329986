"""The readable reduce_max: every core, up to three runs of kept and of reduced axes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from isobit.core.dtypes import DType
from isobit.ops import reductions
from isobit.ops.base import Kernel, NodeTypes
from isobit.ops.reduce_max.op import ReduceMaxAttrs


class Reference(Kernel, op="reduce_max", function="reduce_max_s8"):
    """One output at a time; in place."""

    code_bytes = 160

    @staticmethod
    def when(attrs: ReduceMaxAttrs, q: NodeTypes[Any]) -> str:
        if q.inputs.x.dtype is not DType.S8:
            return f"want s8, got {q.inputs.x.dtype.value}"
        return reductions.when(q.inputs.x.shape, attrs.axes)

    @staticmethod
    def geometry(attrs: ReduceMaxAttrs, q: NodeTypes[Any]) -> Mapping[str, int]:
        loops = reductions.geometry(q.inputs.x.shape, attrs.axes)
        return {**loops, "smallest": int(attrs.smallest)}

    @staticmethod
    def overlap_bytes(attrs: ReduceMaxAttrs, q: NodeTypes[Any]) -> int | None:
        """Output i is written after its terms are read; later ones have none before byte i + 1."""
        return 0

    @staticmethod
    def cycles(attrs: ReduceMaxAttrs, q: NodeTypes[Any]) -> float:
        return 6.0 * float(q.inputs.x.elements) + 20.0 * q.output.elements
