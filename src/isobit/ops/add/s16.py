"""The readable add of int16: every core, up to four loops."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from isobit.core.dtypes import DType
from isobit.core.fixed import Rounding
from isobit.core.types import AnyArray
from isobit.ops import broadcast
from isobit.ops.add.op import AddAttrs, AddInputs
from isobit.ops.add.rescaled import Rescaled
from isobit.ops.base import Kernel, NodeTypes, Packed


class Wide(Kernel, op="add", function="add_s16"):
    """As that of int8."""

    code_bytes = 430
    alignment_bytes = 2
    overlaps_all = True

    @staticmethod
    def when(attrs: AddAttrs, q: NodeTypes[Any]) -> str:
        if attrs.round is not Rounding.TFLITE_DOUBLE:
            return f"want round=tflite_double, got {attrs.round.value}"
        dtypes = (q.inputs.a.dtype, q.inputs.b.dtype, q.output.dtype)
        if set(dtypes) != {DType.S16}:
            return f"want s16 in and out, got {[d.value for d in dtypes]}"
        return broadcast.when(q.inputs.a.shape, q.inputs.b.shape)

    @staticmethod
    def geometry(attrs: AddAttrs, q: NodeTypes[Any]) -> Mapping[str, int]:
        return Rescaled.geometry(attrs, q)

    @staticmethod
    def pack(attrs: AddAttrs, q: NodeTypes[Any], consts: AddInputs[AnyArray]) -> Sequence[Packed]:
        quant, *others = Rescaled.pack(attrs, q, consts)
        return [replace(quant, struct="add_s16_quant"), *others]

    @staticmethod
    def overlap_bytes(attrs: AddAttrs, q: NodeTypes[Any]) -> int | None:
        narrow = Rescaled.overlap_bytes(attrs, q)
        return None if narrow is None else 2 * narrow

    @staticmethod
    def cycles(attrs: AddAttrs, q: NodeTypes[Any]) -> float:
        return Rescaled.cycles(attrs, q)
