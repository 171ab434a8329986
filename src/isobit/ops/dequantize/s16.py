"""The readable dequantize of int16: every core."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from isobit.core.dtypes import DType
from isobit.core.types import AnyArray
from isobit.ops.base import Kernel, NodeTypes, Packed
from isobit.ops.dequantize.op import DequantizeAttrs, DequantizeInputs
from isobit.ops.quantize.s16 import parts


class Wide(Kernel, op="dequantize", function="dequantize_s16"):
    """One product of 40 bits per element."""

    code_bytes = 130
    alignment_bytes = 4
    data_independent = False

    @staticmethod
    def when(attrs: DequantizeAttrs, q: NodeTypes[Any]) -> str:
        dtypes = (q.inputs.x.dtype, q.output.dtype)
        if dtypes == (DType.S16, DType.F32):
            return ""
        return f"want s16 in, f32 out, got {dtypes[0].value}, {dtypes[1].value}"

    @staticmethod
    def geometry(attrs: DequantizeAttrs, q: NodeTypes[Any]) -> Mapping[str, int]:
        return {"size": q.output.elements}

    @staticmethod
    def pack(
        attrs: DequantizeAttrs, q: NodeTypes[Any], consts: DequantizeInputs[AnyArray]
    ) -> Sequence[Packed]:
        assert consts.scale is not None
        numbers = np.asarray(parts(consts.scale), dtype=np.int32)
        fields = ("mantissa", "exponent")
        return [Packed("quant", numbers, struct="dequantize_s16_quant", fields=fields)]

    @staticmethod
    def overlap_bytes(attrs: DequantizeAttrs, q: NodeTypes[Any]) -> int | None:
        # After element i, 4 * (i + 1) bytes are written and the input is read up to 2 * (i + 1).
        return 2 * (q.output.elements - 1)

    @staticmethod
    def cycles(attrs: DequantizeAttrs, q: NodeTypes[Any]) -> float:
        return 60.0 * q.output.elements
