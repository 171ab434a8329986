"""The readable softmax: every core."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from isobit.core.dtypes import DType
from isobit.ops.base import Kernel, NodeTypes, Packed
from isobit.ops.softmax.op import SoftmaxAttrs


class Reference(Kernel, op="softmax", function="softmax_s8"):
    """Row by row, in place; exponentials are computed twice instead of kept."""

    code_bytes = 370
    data_independent = False

    @staticmethod
    def when(attrs: SoftmaxAttrs, q: NodeTypes[Any]) -> str:
        dtypes = (q.inputs.x.dtype, q.output.dtype)
        return "" if dtypes == (DType.S8, DType.S8) else f"want s8, got {[d.value for d in dtypes]}"

    @staticmethod
    def geometry(attrs: SoftmaxAttrs, q: NodeTypes[Any]) -> Mapping[str, int]:
        depth = q.inputs.x.shape[-1]
        return {"rows": q.inputs.x.elements // depth, "depth": depth}

    @staticmethod
    def pack(attrs: SoftmaxAttrs, q: NodeTypes[Any], consts: Any) -> Sequence[Packed]:
        numbers = np.asarray([attrs.mult, attrs.shift, attrs.diff_min], dtype=np.int32)
        fields = ("mult", "shift", "diff_min")
        return [Packed("quant", numbers, struct="softmax_s8_quant", fields=fields)]

    @staticmethod
    def overlap_bytes(attrs: SoftmaxAttrs, q: NodeTypes[Any]) -> int | None:
        return 0

    @staticmethod
    def cycles(attrs: SoftmaxAttrs, q: NodeTypes[Any]) -> float:
        return 250.0 * q.output.elements
