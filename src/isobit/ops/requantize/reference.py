"""The readable requantize: every core."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from isobit.core.dtypes import DType
from isobit.core.types import AnyArray
from isobit.ops.base import Kernel, NodeTypes, Packed
from isobit.ops.requantize.op import RequantizeAttrs, RequantizeInputs, pack_factors
from isobit.ops.weighted import QUANT, RULES


class Reference(Kernel, op="requantize", function="requantize_s8"):
    """Element by element, in place."""

    code_bytes = 110

    @staticmethod
    def when(attrs: RequantizeAttrs, q: NodeTypes[Any]) -> str:
        dtypes = (q.inputs.x.dtype, q.output.dtype)
        wanted = (DType.S8, DType.S8)
        return "" if dtypes == wanted else f"want s8 in and out, got {[d.value for d in dtypes]}"

    @staticmethod
    def geometry(attrs: RequantizeAttrs, q: NodeTypes[Any]) -> Mapping[str, int]:
        rule = RULES[None if q.inputs.mult is None else attrs.round]
        return {"size": q.output.elements, "rule": rule}

    @staticmethod
    def pack(
        attrs: RequantizeAttrs, q: NodeTypes[Any], consts: RequantizeInputs[AnyArray]
    ) -> Sequence[Packed]:
        numbers = np.asarray([q.inputs.x.zero, q.output.zero, *attrs.clamp], dtype=np.int32)
        quant = Packed("quant", numbers, struct="isobit_quant", fields=QUANT)
        return [quant, *pack_factors(consts.mult, consts.shift)]

    @staticmethod
    def overlap_bytes(attrs: RequantizeAttrs, q: NodeTypes[Any]) -> int | None:
        return 0

    @staticmethod
    def cycles(attrs: RequantizeAttrs, q: NodeTypes[Any]) -> float:
        return 12.0 * q.output.elements
