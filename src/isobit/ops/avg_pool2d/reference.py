"""The readable avg_pool2d: every core, windows of up to 4088 values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from isobit.core.dtypes import DType
from isobit.core.fixed import Average
from isobit.ops.avg_pool2d.op import AvgPool2dAttrs
from isobit.ops.base import Kernel, NodeTypes, Packed
from isobit.ops.weighted import QUANT

NARROW, WIDE = 361, 4088
"""Largest windows that reciprocals of 24 and 31 bits divide exactly: 128.5 * n^2 < 2^bits."""
LIFTED_NARROW, LIFTED_WIDE = 256, 2899
"""The same for `half_up`, whose sums of codes + 128 are larger: 255.5 * n^2 < 2^bits."""


class Reference(Kernel, op="avg_pool2d", function="avg_pool2d_s8"):
    """One output at a time, one reciprocal per window; in place where the window allows."""

    code_bytes = 220

    @staticmethod
    def when(attrs: AvgPool2dAttrs, q: NodeTypes[Any]) -> str:
        if q.inputs.x.dtype is not DType.S8:
            return f"want s8, got {q.inputs.x.dtype.value}"
        size, most = attrs.kernel[0] * attrs.kernel[1], _largest(attrs)[1]
        return "" if size <= most else f"want at most {most} values in a window, got {size}"

    @staticmethod
    def geometry(attrs: AvgPool2dAttrs, q: NodeTypes[Any]) -> Mapping[str, int]:
        top, left, bottom, right = attrs.counted(q.inputs.x.shape)
        return {
            **attrs.window().geometry(q.inputs.x.shape, q.output.shape),
            "counted_top": top,
            "counted_left": left,
            "counted_bottom": bottom,
            "counted_right": right,
            "rounded": int(attrs.round is not Average.TRUNC),
            "lift": 128 if attrs.round is Average.HALF_UP else 0,
            "wide": int(attrs.kernel[0] * attrs.kernel[1] > _largest(attrs)[0]),
        }

    @staticmethod
    def pack(attrs: AvgPool2dAttrs, q: NodeTypes[Any], consts: Any) -> Sequence[Packed]:
        numbers = np.asarray([q.inputs.x.zero, q.output.zero, *attrs.clamp], dtype=np.int32)
        return [Packed("quant", numbers, struct="isobit_quant", fields=QUANT)]

    @staticmethod
    def overlap_bytes(attrs: AvgPool2dAttrs, q: NodeTypes[Any]) -> int | None:
        return attrs.window().overlap_bytes(q.inputs.x.shape, q.output.shape)

    @staticmethod
    def cycles(attrs: AvgPool2dAttrs, q: NodeTypes[Any]) -> float:
        return q.output.elements * (6.0 * attrs.kernel[0] * attrs.kernel[1] + 15.0)


def _largest(attrs: AvgPool2dAttrs) -> tuple[int, int]:
    """Return the largest windows for reciprocals of 24 and of 31 bits."""
    lifted = attrs.round is Average.HALF_UP
    return (LIFTED_NARROW, LIFTED_WIDE) if lifted else (NARROW, WIDE)
