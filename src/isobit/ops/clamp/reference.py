"""The readable clamp: every core."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from isobit.core.dtypes import DType
from isobit.ops.base import Kernel, NodeTypes, Packed
from isobit.ops.clamp.op import ClampAttrs
from isobit.ops.weighted import QUANT


class Reference(Kernel, op="clamp", function="clamp_s8"):
    """Element by element, in place."""

    code_bytes = 40

    @staticmethod
    def when(attrs: ClampAttrs, q: NodeTypes[Any]) -> str:
        return "" if q.inputs.x.dtype is DType.S8 else f"want s8, got {q.inputs.x.dtype.value}"

    @staticmethod
    def geometry(attrs: ClampAttrs, q: NodeTypes[Any]) -> Mapping[str, int]:
        return {"size": q.output.elements}

    @staticmethod
    def pack(attrs: ClampAttrs, q: NodeTypes[Any], consts: Any) -> Sequence[Packed]:
        numbers = np.asarray([q.inputs.x.zero, q.output.zero, *attrs.clamp], dtype=np.int32)
        return [Packed("quant", numbers, struct="isobit_quant", fields=QUANT)]

    @staticmethod
    def overlap_bytes(attrs: ClampAttrs, q: NodeTypes[Any]) -> int | None:
        return 0

    @staticmethod
    def cycles(attrs: ClampAttrs, q: NodeTypes[Any]) -> float:
        return 6.0 * q.output.elements
