"""The readable mul: every core, up to four broadcast loops."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from isobit.core.dtypes import DType
from isobit.core.types import AnyArray
from isobit.ops import broadcast
from isobit.ops.base import Kernel, NodeTypes, Packed
from isobit.ops.mul.op import MulAttrs, MulInputs
from isobit.ops.requantize.op import pack_factors
from isobit.ops.weighted import RULES


class Reference(Kernel, op="mul", function="mul_s8"):
    """Element by element; in place over either operand where both have the output's shape."""

    code_bytes = 180
    overlaps_all = True

    @staticmethod
    def when(attrs: MulAttrs, q: NodeTypes[Any]) -> str:
        dtypes = (q.inputs.a.dtype, q.inputs.b.dtype, q.output.dtype)
        if dtypes != (DType.S8,) * 3:
            return f"want s8 in and out, got {[d.value for d in dtypes]}"
        return broadcast.when(q.inputs.a.shape, q.inputs.b.shape)

    @staticmethod
    def geometry(attrs: MulAttrs, q: NodeTypes[Any]) -> Mapping[str, int]:
        return {
            **broadcast.geometry(q.inputs.a.shape, q.inputs.b.shape),
            "rule": RULES[None if q.inputs.mult is None else attrs.round],
        }

    @staticmethod
    def pack(attrs: MulAttrs, q: NodeTypes[Any], consts: MulInputs[AnyArray]) -> Sequence[Packed]:
        zeros = (q.inputs.a.zero, q.inputs.b.zero, q.output.zero)
        fields = ("a_zero", "b_zero", "y_zero", "low", "high")
        numbers = np.asarray([*zeros, *attrs.clamp], dtype=np.int32)
        quant = Packed("quant", numbers, struct="mul_s8_quant", fields=fields)
        return [quant, *pack_factors(consts.mult, consts.shift)]

    @staticmethod
    def overlap_bytes(attrs: MulAttrs, q: NodeTypes[Any]) -> int | None:
        return 0 if q.inputs.a.shape == q.inputs.b.shape else None

    @staticmethod
    def cycles(attrs: MulAttrs, q: NodeTypes[Any]) -> float:
        return 16.0 * q.output.elements
