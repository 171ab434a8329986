"""The readable max_pool2d: every core, every window."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from isobit.core.dtypes import DType
from isobit.ops.base import Kernel, NodeTypes
from isobit.ops.max_pool2d.op import MaxPool2dAttrs


class Reference(Kernel, op="max_pool2d", function="max_pool2d_s8"):
    """One output at a time; in place where the window allows."""

    code_bytes = 270

    @staticmethod
    def when(attrs: MaxPool2dAttrs, q: NodeTypes[Any]) -> str:
        return "" if q.inputs.x.dtype is DType.S8 else f"want s8, got {q.inputs.x.dtype.value}"

    @staticmethod
    def geometry(attrs: MaxPool2dAttrs, q: NodeTypes[Any]) -> Mapping[str, int]:
        return attrs.window().geometry(q.inputs.x.shape, q.output.shape)

    @staticmethod
    def overlap_bytes(attrs: MaxPool2dAttrs, q: NodeTypes[Any]) -> int | None:
        return attrs.window().overlap_bytes(q.inputs.x.shape, q.output.shape)

    @staticmethod
    def cycles(attrs: MaxPool2dAttrs, q: NodeTypes[Any]) -> float:
        return 6.0 * q.output.elements * attrs.kernel[0] * attrs.kernel[1]
