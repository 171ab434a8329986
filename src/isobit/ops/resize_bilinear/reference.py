"""The readable resize_bilinear: every core, every size."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from isobit.core.dtypes import DType
from isobit.ops.base import Kernel, NodeTypes
from isobit.ops.resize_bilinear.op import factor, first
from isobit.ops.resize_nearest.op import ResizeAttrs


class Reference(Kernel, op="resize_bilinear", function="resize_bilinear_s8"):
    """Pixel by pixel, four products each."""

    code_bytes = 330

    @staticmethod
    def when(attrs: ResizeAttrs, q: NodeTypes[Any]) -> str:
        dtype = q.inputs.x.dtype
        return "" if dtype is DType.S8 else f"want s8, got {dtype.value}"

    @staticmethod
    def geometry(attrs: ResizeAttrs, q: NodeTypes[Any]) -> Mapping[str, int]:
        _, rows, cols, channels = q.inputs.x.shape
        step_h, step_w = (
            factor(attrs, size, out) for size, out in zip((rows, cols), attrs.size, strict=True)
        )
        return {
            "in_h": rows,
            "in_w": cols,
            "out_h": attrs.size[0],
            "out_w": attrs.size[1],
            "channels": channels,
            "first_h": first(attrs, step_h),
            "first_w": first(attrs, step_w),
            "step_h": step_h,
            "step_w": step_w,
        }

    @staticmethod
    def cycles(attrs: ResizeAttrs, q: NodeTypes[Any]) -> float:
        return 24.0 * q.output.elements + 30.0 * attrs.size[0] * attrs.size[1]
