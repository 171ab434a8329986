"""The readable prelu: every core, up to four broadcast loops."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from isobit.core.dtypes import DType
from isobit.core.types import AnyArray
from isobit.ops import broadcast
from isobit.ops.base import Kernel, NodeTypes, Packed
from isobit.ops.prelu.op import PreluAttrs, PreluInputs
from isobit.ops.requantize.op import pack_factors
from isobit.ops.weighted import RULES


class Reference(Kernel, op="prelu", function="prelu_s8"):
    """Element by element, in place; both branches are computed and one is chosen."""

    code_bytes = 220

    @staticmethod
    def when(attrs: PreluAttrs, q: NodeTypes[Any]) -> str:
        dtypes = (q.inputs.x.dtype, q.output.dtype)
        if dtypes != (DType.S8, DType.S8):
            return f"want s8 in and out, got {[d.value for d in dtypes]}"
        return broadcast.when(q.inputs.x.shape, q.inputs.slope.shape)

    @staticmethod
    def geometry(attrs: PreluAttrs, q: NodeTypes[Any]) -> Mapping[str, int]:
        fields = broadcast.geometry(q.inputs.x.shape, q.inputs.slope.shape)
        # x has the output's shape: it is read in order and needs no steps.
        loops = {name: size for name, size in fields.items() if not name.startswith("a_")}
        return {**loops, "rule": RULES[attrs.round]}

    @staticmethod
    def pack(
        attrs: PreluAttrs, q: NodeTypes[Any], consts: PreluInputs[AnyArray]
    ) -> Sequence[Packed]:
        assert consts.shift is not None and consts.shift_neg is not None
        zeros = (q.inputs.x.zero, q.inputs.slope.zero, q.output.zero)
        fields = ("x_zero", "slope_zero", "y_zero", "low", "high")
        numbers = np.asarray([*zeros, *attrs.clamp], dtype=np.int32)
        below = pack_factors(consts.mult_neg, consts.shift_neg)
        return [
            Packed("quant", numbers, struct="prelu_s8_quant", fields=fields),
            Packed("slope", consts.slope.astype(np.int8)),
            *pack_factors(consts.mult, consts.shift),
            *(Packed(f"{item.name}_neg", item.data) for item in below),
        ]

    @staticmethod
    def overlap_bytes(attrs: PreluAttrs, q: NodeTypes[Any]) -> int | None:
        return 0

    @staticmethod
    def cycles(attrs: PreluAttrs, q: NodeTypes[Any]) -> float:
        return 26.0 * q.output.elements
