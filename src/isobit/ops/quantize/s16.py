"""The readable quantize to int16, which divides as a float unit does: every core."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from isobit.core.dtypes import DType
from isobit.core.types import AnyArray
from isobit.ops.base import Kernel, NodeTypes, Packed
from isobit.ops.quantize.op import QuantizeAttrs, QuantizeInputs


class Wide(Kernel, op="quantize", function="quantize_f32_s16"):
    """Element by element, in place; one bit of a quotient after the other."""

    code_bytes = 200
    alignment_bytes = 4
    data_independent = False

    @staticmethod
    def when(attrs: QuantizeAttrs, q: NodeTypes[Any]) -> str:
        dtypes = (q.inputs.x.dtype, q.output.dtype)
        if dtypes != (DType.F32, DType.S16):
            return f"want f32 in, s16 out, got {dtypes[0].value}, {dtypes[1].value}"
        return "want a divisor, got none" if q.inputs.divisor is None else ""

    @staticmethod
    def geometry(attrs: QuantizeAttrs, q: NodeTypes[Any]) -> Mapping[str, int]:
        return {"size": q.output.elements}

    @staticmethod
    def pack(
        attrs: QuantizeAttrs, q: NodeTypes[Any], consts: QuantizeInputs[AnyArray]
    ) -> Sequence[Packed]:
        assert consts.divisor is not None
        numbers = np.asarray([*parts(consts.divisor), *attrs.clamp], dtype=np.int32)
        fields = ("mantissa", "exponent", "low", "high")
        return [Packed("quant", numbers, struct="quantize_f32_s16_quant", fields=fields)]

    @staticmethod
    def overlap_bytes(attrs: QuantizeAttrs, q: NodeTypes[Any]) -> int | None:
        return 0

    @staticmethod
    def cycles(attrs: QuantizeAttrs, q: NodeTypes[Any]) -> float:
        return 220.0 * q.output.elements


def parts(scale: AnyArray) -> tuple[int, int]:
    """Return (mantissa, exponent field) of a normal positive float32 [1]."""
    (bits,) = np.ascontiguousarray(scale, dtype=np.float32).view(np.int32).tolist()
    return (bits & 0x7FFFFF) | 1 << 23, bits >> 23
