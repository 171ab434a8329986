"""The readable global_avg_pool: every core."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from isobit.core.dtypes import DType
from isobit.core.fixed import Average
from isobit.ops.base import Kernel, NodeTypes, Packed
from isobit.ops.global_avg_pool.op import GlobalAvgPoolAttrs
from isobit.ops.weighted import QUANT


class Reference(Kernel, op="global_avg_pool", function="global_avg_pool_s8"):
    """One channel at a time, divided by a reciprocal; in place."""

    code_bytes = 90

    @staticmethod
    def when(attrs: GlobalAvgPoolAttrs, q: NodeTypes[Any]) -> str:
        x = q.inputs.x
        if x.dtype is not DType.S8:
            return f"want s8, got {x.dtype.value}"
        pixels = x.shape[1] * x.shape[2]
        return "" if pixels < 1 << 23 else f"want fewer than 2^23 pixels, got {pixels}"

    @staticmethod
    def geometry(attrs: GlobalAvgPoolAttrs, q: NodeTypes[Any]) -> Mapping[str, int]:
        """`inverse = floor(2^shift / pixels) + 1` divides exactly, see the C source."""
        pixels = q.inputs.x.shape[1] * q.inputs.x.shape[2]
        shift = 8 + 2 * (pixels - 1).bit_length()
        return {
            "pixels": pixels,
            "channels": q.output.shape[3],
            "half": 0 if attrs.round is Average.TRUNC else pixels // 2,
            "inverse": (1 << shift) // pixels + 1,
            "shift": shift,
            "lift": 128 if attrs.round is Average.HALF_UP else 0,
        }

    @staticmethod
    def pack(attrs: GlobalAvgPoolAttrs, q: NodeTypes[Any], consts: Any) -> Sequence[Packed]:
        numbers = np.asarray([q.inputs.x.zero, q.output.zero, *attrs.clamp], dtype=np.int32)
        return [Packed("quant", numbers, struct="isobit_quant", fields=QUANT)]

    @staticmethod
    def overlap_bytes(attrs: GlobalAvgPoolAttrs, q: NodeTypes[Any]) -> int | None:
        """Byte c is written when the only bytes of pixel 0 still to be read are those after c."""
        return 0

    @staticmethod
    def cycles(attrs: GlobalAvgPoolAttrs, q: NodeTypes[Any]) -> float:
        x, y = q.inputs.x, q.output
        return 5.0 * float(x.elements) + 20.0 * y.elements
