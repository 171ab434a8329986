"""The readable resize_nearest: every core, images of up to 32767 rows and columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from isobit.core.dtypes import DType
from isobit.ops.base import Kernel, NodeTypes, Packed
from isobit.ops.resize_nearest.op import ResizeAttrs, sources

LARGEST = 32767


class Reference(Kernel, op="resize_nearest", function="resize_nearest_s8"):
    """Pixel by pixel, through tables of rows and columns."""

    code_bytes = 90

    @staticmethod
    def when(attrs: ResizeAttrs, q: NodeTypes[Any]) -> str:
        if q.inputs.x.dtype is not DType.S8:
            return f"want s8, got {q.inputs.x.dtype.value}"
        most = max(q.inputs.x.shape[1:3])
        return "" if most <= LARGEST else f"want at most {LARGEST} rows and columns, got {most}"

    @staticmethod
    def geometry(attrs: ResizeAttrs, q: NodeTypes[Any]) -> Mapping[str, int]:
        return {
            "in_w": q.inputs.x.shape[2],
            "out_h": attrs.size[0],
            "out_w": attrs.size[1],
            "channels": q.output.shape[3],
        }

    @staticmethod
    def pack(attrs: ResizeAttrs, q: NodeTypes[Any], consts: Any) -> Sequence[Packed]:
        rows, cols = sources(attrs, q.inputs.x.shape)
        return [Packed("rows", rows.astype(np.int16)), Packed("cols", cols.astype(np.int16))]

    @staticmethod
    def overlap_bytes(attrs: ResizeAttrs, q: NodeTypes[Any]) -> int | None:
        """Pixel p is written whole while it and all later ones are still to be read."""
        rows, cols = sources(attrs, q.inputs.x.shape)
        channels = q.output.shape[3]
        first = ((rows[:, None] * q.inputs.x.shape[2] + cols[None, :]) * channels).ravel()
        still_needed = np.minimum.accumulate(first[::-1])[::-1]
        written = (np.arange(first.size) + 1) * channels
        return int(max(0, (written - still_needed).max()))

    @staticmethod
    def cycles(attrs: ResizeAttrs, q: NodeTypes[Any]) -> float:
        return 4.0 * q.output.elements + 12.0 * attrs.size[0] * attrs.size[1]
