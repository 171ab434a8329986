"""The readable mean_image: every core."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from isobit.core.dtypes import DType
from isobit.core.types import AnyArray
from isobit.ops.base import Kernel, NodeTypes, Packed
from isobit.ops.standardize.op import StandardizeAttrs, StandardizeInputs


class Reference(Kernel, op="mean_image", function="mean_image_u8"):
    """Element by element, in place; means are bytes."""

    code_bytes = 80

    @staticmethod
    def when(attrs: StandardizeAttrs, q: NodeTypes[Any]) -> str:
        dtypes = (q.inputs.x.dtype, q.output.dtype)
        if dtypes == (DType.U8, DType.S8):
            return ""
        return f"want u8 in, s8 out, got {dtypes[0].value}, {dtypes[1].value}"

    @staticmethod
    def geometry(attrs: StandardizeAttrs, q: NodeTypes[Any]) -> Mapping[str, int]:
        return {"size": q.output.elements}

    @staticmethod
    def pack(
        attrs: StandardizeAttrs, q: NodeTypes[Any], consts: StandardizeInputs[AnyArray]
    ) -> Sequence[Packed]:
        numbers = np.asarray([attrs.left, attrs.right, q.output.zero, *attrs.clamp], dtype=np.int32)
        fields = ("left", "right", "y_zero", "low", "high")
        return [
            Packed("quant", numbers, struct="mean_image_u8_quant", fields=fields),
            Packed("mean", consts.mean.astype(np.uint8)),
        ]

    @staticmethod
    def overlap_bytes(attrs: StandardizeAttrs, q: NodeTypes[Any]) -> int | None:
        return 0

    @staticmethod
    def cycles(attrs: StandardizeAttrs, q: NodeTypes[Any]) -> float:
        return 12.0 * q.output.elements
