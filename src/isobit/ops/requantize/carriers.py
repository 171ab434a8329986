"""The readable requantize between carriers, one of them not s8: every core."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from isobit.core.dtypes import DType
from isobit.core.types import AnyArray
from isobit.ops.base import Kernel, NodeTypes, Packed
from isobit.ops.requantize.op import CARRIERS, RequantizeAttrs, RequantizeInputs
from isobit.ops.requantize.reference import Reference

NUMBERS = {DType.S8: 0, DType.U8: 1, DType.S16: 2}
"""The C enum of carriers."""


class Carriers(Kernel, op="requantize", function="requantize_carriers"):
    """Element by element; in place where the output's elements are not larger."""

    code_bytes = 120
    alignment_bytes = 2

    @staticmethod
    def when(attrs: RequantizeAttrs, q: NodeTypes[Any]) -> str:
        dtypes = (q.inputs.x.dtype, q.output.dtype)
        if any(kind not in CARRIERS for kind in dtypes) or dtypes == (DType.S8, DType.S8):
            return f"want u8 or s16 in or out, got {[d.value for d in dtypes]}"
        return ""

    @staticmethod
    def geometry(attrs: RequantizeAttrs, q: NodeTypes[Any]) -> Mapping[str, int]:
        return {
            **Reference.geometry(attrs, q),
            "x_carrier": NUMBERS[q.inputs.x.dtype],
            "y_carrier": NUMBERS[q.output.dtype],
        }

    @staticmethod
    def pack(
        attrs: RequantizeAttrs, q: NodeTypes[Any], consts: RequantizeInputs[AnyArray]
    ) -> Sequence[Packed]:
        return Reference.pack(attrs, q, consts)

    @staticmethod
    def overlap_bytes(attrs: RequantizeAttrs, q: NodeTypes[Any]) -> int | None:
        # Every element but the last leaves the writes ahead of the reads by what y's are larger.
        more: int = max(q.output.dtype.size_bytes - q.inputs.x.dtype.size_bytes, 0)
        return more * (q.output.elements - 1)

    @staticmethod
    def cycles(attrs: RequantizeAttrs, q: NodeTypes[Any]) -> float:
        return 14.0 * q.output.elements
