"""The readable max_pool2d of int16: every core."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from isobit.core.dtypes import DType
from isobit.ops.base import Kernel, NodeTypes
from isobit.ops.max_pool2d.op import MaxPool2dAttrs
from isobit.ops.max_pool2d.reference import Reference


class Wide(Kernel, op="max_pool2d", function="max_pool2d_s16"):
    """As that of int8."""

    code_bytes = 270
    alignment_bytes = 2

    @staticmethod
    def when(attrs: MaxPool2dAttrs, q: NodeTypes[Any]) -> str:
        dtypes = (q.inputs.x.dtype, q.output.dtype)
        if set(dtypes) != {DType.S16}:
            return f"want s16 in and out, got {[d.value for d in dtypes]}"
        return ""

    @staticmethod
    def geometry(attrs: MaxPool2dAttrs, q: NodeTypes[Any]) -> Mapping[str, int]:
        return Reference.geometry(attrs, q)

    @staticmethod
    def overlap_bytes(attrs: MaxPool2dAttrs, q: NodeTypes[Any]) -> int | None:
        narrow = Reference.overlap_bytes(attrs, q)
        return None if narrow is None else 2 * narrow

    @staticmethod
    def cycles(attrs: MaxPool2dAttrs, q: NodeTypes[Any]) -> float:
        return Reference.cycles(attrs, q)
