"""The readable per_image_standardize: every core."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from isobit.core.dtypes import DType
from isobit.ops.base import Kernel, NodeTypes, Packed
from isobit.ops.per_image_standardize.op import PerImageStandardizeAttrs


class Reference(Kernel, op="per_image_standardize", function="per_image_standardize_s8"):
    """Two passes over the image, the second in place; between them a root and a reciprocal, bit by
    bit.
    """

    code_bytes = 420
    data_independent = False

    @staticmethod
    def when(attrs: PerImageStandardizeAttrs, q: NodeTypes[Any]) -> str:
        dtypes = (q.inputs.x.dtype, q.output.dtype)
        if dtypes[0] in (DType.U8, DType.S8) and dtypes[1] is DType.S8:
            return ""
        return f"want u8 or s8 in, s8 out, got {dtypes[0].value}, {dtypes[1].value}"

    @staticmethod
    def geometry(attrs: PerImageStandardizeAttrs, q: NodeTypes[Any]) -> Mapping[str, int]:
        return {"size": q.output.elements, "x_is_signed": int(q.inputs.x.dtype is DType.S8)}

    @staticmethod
    def pack(attrs: PerImageStandardizeAttrs, q: NodeTypes[Any], consts: Any) -> Sequence[Packed]:
        numbers = np.asarray([attrs.frac, q.output.zero, *attrs.clamp], dtype=np.int32)
        fields = ("frac", "y_zero", "low", "high")
        return [
            Packed("quant", numbers, struct="per_image_standardize_s8_quant", fields=fields),
            Packed("least", np.asarray([attrs.least], dtype=np.int64)),
        ]

    @staticmethod
    def overlap_bytes(attrs: PerImageStandardizeAttrs, q: NodeTypes[Any]) -> int | None:
        return 0  # every sum is complete before the first code is written

    @staticmethod
    def cycles(attrs: PerImageStandardizeAttrs, q: NodeTypes[Any]) -> float:
        return 600.0 + 28.0 * q.output.elements
