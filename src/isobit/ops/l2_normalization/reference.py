"""The readable l2_normalization: every core."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from isobit.core.dtypes import DType
from isobit.ops.base import Kernel, NodeTypes, Packed
from isobit.ops.l2_normalization.op import L2NormalizationAttrs


class Reference(Kernel, op="l2_normalization", function="l2_normalization_s8"):
    """Vector by vector, in place."""

    code_bytes = 330

    @staticmethod
    def when(attrs: L2NormalizationAttrs, q: NodeTypes[Any]) -> str:
        dtypes = (q.inputs.x.dtype, q.output.dtype)
        return "" if dtypes == (DType.S8, DType.S8) else f"want s8, got {[d.value for d in dtypes]}"

    @staticmethod
    def geometry(attrs: L2NormalizationAttrs, q: NodeTypes[Any]) -> Mapping[str, int]:
        depth = q.inputs.x.shape[-1]
        return {"rows": q.inputs.x.elements // depth, "depth": depth}

    @staticmethod
    def pack(attrs: L2NormalizationAttrs, q: NodeTypes[Any], consts: Any) -> Sequence[Packed]:
        numbers = np.asarray([q.inputs.x.zero], dtype=np.int32)
        return [Packed("quant", numbers, struct="l2_normalization_s8_quant", fields=("x_zero",))]

    @staticmethod
    def overlap_bytes(attrs: L2NormalizationAttrs, q: NodeTypes[Any]) -> int | None:
        """A vector is read whole before its first element is written, and then one by one."""
        return 0

    @staticmethod
    def cycles(attrs: L2NormalizationAttrs, q: NodeTypes[Any]) -> float:
        x = q.inputs.x
        return 25.0 * float(x.elements) + 250.0 * float(x.elements // x.shape[-1])
