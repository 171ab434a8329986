"""The readable mul of int16: every core, up to four broadcast loops."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from isobit.core.dtypes import DType
from isobit.core.types import AnyArray
from isobit.ops import broadcast
from isobit.ops.base import Kernel, NodeTypes, Packed
from isobit.ops.mul.op import MulAttrs, MulInputs
from isobit.ops.mul.reference import Reference


class Wide(Kernel, op="mul", function="mul_s16"):
    """As that of int8."""

    code_bytes = 180
    alignment_bytes = 2
    overlaps_all = True

    @staticmethod
    def when(attrs: MulAttrs, q: NodeTypes[Any]) -> str:
        dtypes = (q.inputs.a.dtype, q.inputs.b.dtype, q.output.dtype)
        if set(dtypes) != {DType.S16}:
            return f"want s16 in and out, got {[d.value for d in dtypes]}"
        return broadcast.when(q.inputs.a.shape, q.inputs.b.shape)

    @staticmethod
    def geometry(attrs: MulAttrs, q: NodeTypes[Any]) -> Mapping[str, int]:
        return Reference.geometry(attrs, q)

    @staticmethod
    def pack(attrs: MulAttrs, q: NodeTypes[Any], consts: MulInputs[AnyArray]) -> Sequence[Packed]:
        quant, *others = Reference.pack(attrs, q, consts)
        return [replace(quant, struct="mul_s16_quant"), *others]

    @staticmethod
    def overlap_bytes(attrs: MulAttrs, q: NodeTypes[Any]) -> int | None:
        narrow = Reference.overlap_bytes(attrs, q)
        return None if narrow is None else 2 * narrow

    @staticmethod
    def cycles(attrs: MulAttrs, q: NodeTypes[Any]) -> float:
        return Reference.cycles(attrs, q)
