"""The readable reduce_sum of int16: every core."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from isobit.core.dtypes import DType
from isobit.core.types import AnyArray
from isobit.ops import reductions
from isobit.ops.base import Kernel, NodeTypes, Packed
from isobit.ops.reduce_sum.op import ReduceSumAttrs, ReduceSumInputs
from isobit.ops.reduce_sum.reference import Reference


class Wide(Kernel, op="reduce_sum", function="reduce_sum_s16"):
    """As that of int8."""

    code_bytes = 230
    alignment_bytes = 2

    @staticmethod
    def when(attrs: ReduceSumAttrs, q: NodeTypes[Any]) -> str:
        dtypes = (q.inputs.x.dtype, q.output.dtype)
        if set(dtypes) != {DType.S16}:
            return f"want s16 in and out, got {[d.value for d in dtypes]}"
        return reductions.when(q.inputs.x.shape, attrs.axes)

    @staticmethod
    def geometry(attrs: ReduceSumAttrs, q: NodeTypes[Any]) -> Mapping[str, int]:
        return Reference.geometry(attrs, q)

    @staticmethod
    def pack(
        attrs: ReduceSumAttrs, q: NodeTypes[Any], consts: ReduceSumInputs[AnyArray]
    ) -> Sequence[Packed]:
        return Reference.pack(attrs, q, consts)

    @staticmethod
    def overlap_bytes(attrs: ReduceSumAttrs, q: NodeTypes[Any]) -> int | None:
        narrow = Reference.overlap_bytes(attrs, q)
        return None if narrow is None else 2 * narrow

    @staticmethod
    def cycles(attrs: ReduceSumAttrs, q: NodeTypes[Any]) -> float:
        return Reference.cycles(attrs, q)
