"""The readable dequantize: every core, no floating-point instruction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from isobit.core.dtypes import DType
from isobit.core.types import AnyArray
from isobit.ops.base import Kernel, NodeTypes, Packed
from isobit.ops.dequantize.op import DequantizeAttrs, DequantizeInputs


class Reference(Kernel, op="dequantize", function="dequantize_f32"):
    """One load per element."""

    code_bytes = 20
    alignment_bytes = 4

    @staticmethod
    def when(attrs: DequantizeAttrs, q: NodeTypes[Any]) -> str:
        dtypes = (q.inputs.x.dtype, q.output.dtype)
        if dtypes == (DType.S8, DType.F32):
            return ""
        return f"want s8 in, f32 out, got {dtypes[0].value}, {dtypes[1].value}"

    @staticmethod
    def geometry(attrs: DequantizeAttrs, q: NodeTypes[Any]) -> Mapping[str, int]:
        return {"size": q.output.elements}

    @staticmethod
    def pack(
        attrs: DequantizeAttrs, q: NodeTypes[Any], consts: DequantizeInputs[AnyArray]
    ) -> Sequence[Packed]:
        assert consts.table is not None
        return [Packed("table", consts.table.astype(np.float32).view(np.int32))]

    @staticmethod
    def overlap_bytes(attrs: DequantizeAttrs, q: NodeTypes[Any]) -> int | None:
        # After element i, 4 * (i + 1) bytes are written and the input is read up to i + 1.
        return 3 * (q.output.elements - 1)

    @staticmethod
    def cycles(attrs: DequantizeAttrs, q: NodeTypes[Any]) -> float:
        return 7.0 * q.output.elements
