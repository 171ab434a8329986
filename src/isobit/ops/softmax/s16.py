"""The readable softmax of int16: every core."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from isobit.core.dtypes import DType
from isobit.ops.base import Kernel, NodeTypes, Packed
from isobit.ops.softmax import int16
from isobit.ops.softmax.op import SoftmaxAttrs
from isobit.ops.softmax.reference import Reference


class Wide(Kernel, op="softmax", function="softmax_s16"):
    """Row by row, in place; the output holds the exponentials meanwhile."""

    code_bytes = 350
    alignment_bytes = 2
    data_independent = False

    @staticmethod
    def when(attrs: SoftmaxAttrs, q: NodeTypes[Any]) -> str:
        dtypes = (q.inputs.x.dtype, q.output.dtype)
        if dtypes == (DType.S16, DType.S16):
            return ""
        return f"want s16, got {[d.value for d in dtypes]}"

    @staticmethod
    def geometry(attrs: SoftmaxAttrs, q: NodeTypes[Any]) -> Mapping[str, int]:
        return Reference.geometry(attrs, q)

    @staticmethod
    def pack(attrs: SoftmaxAttrs, q: NodeTypes[Any], consts: Any) -> Sequence[Packed]:
        numbers = np.asarray([attrs.mult, attrs.shift], dtype=np.int32)
        names = ("exponentials", "reciprocals")
        tables = zip(names, int16.tables(), strict=True)
        return [
            Packed("quant", numbers, struct="softmax_s16_quant", fields=("mult", "shift")),
            *(Packed(name, table.astype(np.int16)) for name, table in tables),
        ]

    @staticmethod
    def overlap_bytes(attrs: SoftmaxAttrs, q: NodeTypes[Any]) -> int | None:
        return 0

    @staticmethod
    def cycles(attrs: SoftmaxAttrs, q: NodeTypes[Any]) -> float:
        return 70.0 * q.output.elements

    @classmethod
    def flash_bytes(cls, attrs: SoftmaxAttrs, q: NodeTypes[Any]) -> int:
        return cls.code_bytes + 2 * 2 * (int16.STEPS + 1)
