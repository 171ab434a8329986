"""The readable negate: every core."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from isobit.core.dtypes import DType
from isobit.ops.base import Kernel, NodeTypes, Packed
from isobit_toy.negate.op import NegateAttrs


class Reference(Kernel, op="negate", function="negate_s8"):
    """Element by element, in place."""

    @staticmethod
    def when(attrs: NegateAttrs, q: NodeTypes[Any]) -> str:
        return "" if q.inputs.x.dtype is DType.S8 else f"want s8, got {q.inputs.x.dtype.value}"

    @staticmethod
    def geometry(attrs: NegateAttrs, q: NodeTypes[Any]) -> Mapping[str, int]:
        return {"size": q.output.elements}

    @staticmethod
    def pack(attrs: NegateAttrs, q: NodeTypes[Any], consts: Any) -> Sequence[Packed]:
        # Training decides the zero point, so it is data: the code is that of the untrained net.
        numbers = np.asarray([q.output.zero], dtype=np.int32)
        return [Packed("quant", numbers, struct="negate_s8_quant", fields=("zero",))]

    @staticmethod
    def overlap_bytes(attrs: NegateAttrs, q: NodeTypes[Any]) -> int | None:
        return 0

    @staticmethod
    def cycles(attrs: NegateAttrs, q: NodeTypes[Any]) -> float:
        return 6.0 * q.output.elements
