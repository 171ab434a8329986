"""The readable prelu of int16: every core."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from isobit.core.dtypes import DType
from isobit.core.types import AnyArray
from isobit.ops import broadcast
from isobit.ops.base import Kernel, NodeTypes, Packed
from isobit.ops.prelu.op import PreluAttrs, PreluInputs
from isobit.ops.prelu.reference import Reference


class Wide(Kernel, op="prelu", function="prelu_s16"):
    """As that of int8."""

    code_bytes = 330
    alignment_bytes = 2

    @staticmethod
    def when(attrs: PreluAttrs, q: NodeTypes[Any]) -> str:
        dtypes = (q.inputs.x.dtype, q.output.dtype)
        if set(dtypes) != {DType.S16}:
            return f"want s16 in and out, got {[d.value for d in dtypes]}"
        return broadcast.when(q.inputs.x.shape, q.inputs.slope.shape)

    @staticmethod
    def geometry(attrs: PreluAttrs, q: NodeTypes[Any]) -> Mapping[str, int]:
        return Reference.geometry(attrs, q)

    @staticmethod
    def pack(
        attrs: PreluAttrs, q: NodeTypes[Any], consts: PreluInputs[AnyArray]
    ) -> Sequence[Packed]:
        quant, *others = Reference.pack(attrs, q, consts)
        return [replace(quant, struct="prelu_s16_quant"), *others]

    @staticmethod
    def overlap_bytes(attrs: PreluAttrs, q: NodeTypes[Any]) -> int | None:
        narrow = Reference.overlap_bytes(attrs, q)
        return None if narrow is None else 2 * narrow

    @staticmethod
    def cycles(attrs: PreluAttrs, q: NodeTypes[Any]) -> float:
        return Reference.cycles(attrs, q)
