"""The readable quantize by thresholds: every core, no floating-point instruction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from isobit.core.dtypes import DType
from isobit.core.types import AnyArray
from isobit.ops.base import Kernel, NodeTypes, Packed
from isobit.ops.quantize.op import QuantizeAttrs, QuantizeInputs


class Thresholds(Kernel, op="quantize", function="quantize_f32_thresholds"):
    """Eight comparisons per element, in place."""

    code_bytes = 110
    alignment_bytes = 4

    @staticmethod
    def when(attrs: QuantizeAttrs, q: NodeTypes[Any]) -> str:
        dtypes = (q.inputs.x.dtype, q.output.dtype)
        if dtypes != (DType.F32, DType.S8):
            return f"want f32 in, s8 out, got {dtypes[0].value}, {dtypes[1].value}"
        return "want thresholds, got none" if q.inputs.thresholds is None else ""

    @staticmethod
    def geometry(attrs: QuantizeAttrs, q: NodeTypes[Any]) -> Mapping[str, int]:
        return {"size": q.output.elements}

    @staticmethod
    def pack(
        attrs: QuantizeAttrs, q: NodeTypes[Any], consts: QuantizeInputs[AnyArray]
    ) -> Sequence[Packed]:
        assert consts.thresholds is not None
        numbers = np.asarray(attrs.clamp, dtype=np.int32)
        quant = Packed(
            "quant", numbers, struct="quantize_f32_thresholds_quant", fields=("low", "high")
        )
        return [quant, Packed("thresholds", np.sort(ordered(consts.thresholds)))]

    @staticmethod
    def overlap_bytes(attrs: QuantizeAttrs, q: NodeTypes[Any]) -> int | None:
        return 0

    @staticmethod
    def cycles(attrs: QuantizeAttrs, q: NodeTypes[Any]) -> float:
        return 100.0 * q.output.elements


def ordered(values: AnyArray) -> AnyArray:
    """Return int32 numbers in the order of float32 values: the bits of the magnitude, with the
    sign.
    """
    bits = np.ascontiguousarray(values, dtype=np.float32).view(np.int32)
    result: AnyArray = np.where(bits < 0, -(bits & 0x7FFFFFFF), bits).astype(np.int32)
    return result
