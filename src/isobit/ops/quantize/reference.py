"""The readable quantize: every core, no floating-point instruction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from isobit.core.dtypes import DType
from isobit.core.types import AnyArray
from isobit.ops.base import Kernel, NodeTypes, Packed
from isobit.ops.quantize.op import QuantizeAttrs, QuantizeInputs


class Reference(Kernel, op="quantize", function="quantize_f32"):
    """Element by element, in place."""

    code_bytes = 240
    alignment_bytes = 4

    @staticmethod
    def when(attrs: QuantizeAttrs, q: NodeTypes[Any]) -> str:
        dtypes = (q.inputs.x.dtype, q.output.dtype)
        if dtypes != (DType.F32, DType.S8):
            return f"want f32 in, s8 out, got {dtypes[0].value}, {dtypes[1].value}"
        return "want mult and shift, got thresholds" if q.inputs.mult is None else ""

    @staticmethod
    def geometry(attrs: QuantizeAttrs, q: NodeTypes[Any]) -> Mapping[str, int]:
        return {"size": q.output.elements}

    @staticmethod
    def pack(
        attrs: QuantizeAttrs, q: NodeTypes[Any], consts: QuantizeInputs[AnyArray]
    ) -> Sequence[Packed]:
        assert consts.mult is not None and consts.shift is not None
        mult, shift = int(consts.mult[0]), int(consts.shift[0])
        numbers = np.asarray([mult, shift, q.output.zero, *attrs.clamp], dtype=np.int32)
        fields = ("mult", "shift", "y_zero", "low", "high")
        return [Packed("quant", numbers, struct="quantize_f32_quant", fields=fields)]

    @staticmethod
    def overlap_bytes(attrs: QuantizeAttrs, q: NodeTypes[Any]) -> int | None:
        return 0

    @staticmethod
    def cycles(attrs: QuantizeAttrs, q: NodeTypes[Any]) -> float:
        return 50.0 * q.output.elements
