"""The readable avg_pool2d of int16: every core, windows of up to 5792 values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from isobit.core.dtypes import DType
from isobit.core.fixed import Average
from isobit.ops.avg_pool2d.op import AvgPool2dAttrs
from isobit.ops.avg_pool2d.reference import Reference
from isobit.ops.base import Kernel, NodeTypes, Packed

MOST = 5792
"""Largest window that a reciprocal of 40 bits divides exactly: 32768.5 * n^2 < 2^40."""


class Wide(Kernel, op="avg_pool2d", function="avg_pool2d_s16"):
    """As that of int8, with a product of 64 bits."""

    code_bytes = 150
    alignment_bytes = 2

    @staticmethod
    def when(attrs: AvgPool2dAttrs, q: NodeTypes[Any]) -> str:
        if q.inputs.x.dtype is not DType.S16:
            return f"want s16, got {q.inputs.x.dtype.value}"
        if attrs.round is Average.HALF_UP:
            return "want round=away or trunc, got half_up"
        size = attrs.kernel[0] * attrs.kernel[1]
        return "" if size <= MOST else f"want at most {MOST} values in a window, got {size}"

    @staticmethod
    def geometry(attrs: AvgPool2dAttrs, q: NodeTypes[Any]) -> Mapping[str, int]:
        fields = dict(Reference.geometry(attrs, q))
        return {name: size for name, size in fields.items() if name not in ("lift", "wide")}

    @staticmethod
    def pack(attrs: AvgPool2dAttrs, q: NodeTypes[Any], consts: Any) -> Sequence[Packed]:
        return Reference.pack(attrs, q, consts)

    @staticmethod
    def overlap_bytes(attrs: AvgPool2dAttrs, q: NodeTypes[Any]) -> int | None:
        narrow = Reference.overlap_bytes(attrs, q)
        return None if narrow is None else 2 * narrow

    @staticmethod
    def cycles(attrs: AvgPool2dAttrs, q: NodeTypes[Any]) -> float:
        return q.output.elements * (6.0 * attrs.kernel[0] * attrs.kernel[1] + 20.0)
