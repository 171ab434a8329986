"""The readable lut_interpolated: every core."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from isobit.core.dtypes import DType
from isobit.core.types import AnyArray
from isobit.ops.base import Kernel, NodeTypes, Packed
from isobit.ops.lut_interpolated.op import LutInterpolatedAttrs, LutInterpolatedInputs
from isobit.ops.requantize.op import pack_factors


class Reference(Kernel, op="lut_interpolated", function="lut_interpolated_s16"):
    """Element by element, in place."""

    code_bytes = 155
    alignment_bytes = 2

    @staticmethod
    def when(attrs: LutInterpolatedAttrs, q: NodeTypes[Any]) -> str:
        dtypes = (q.inputs.x.dtype, q.output.dtype)
        if dtypes == (DType.S16, DType.S16):
            return ""
        return f"want s16, got {[d.value for d in dtypes]}"

    @staticmethod
    def geometry(attrs: LutInterpolatedAttrs, q: NodeTypes[Any]) -> Mapping[str, int]:
        return {"size": q.output.elements, "tanh": int(attrs.function == "tanh")}

    @staticmethod
    def pack(
        attrs: LutInterpolatedAttrs, q: NodeTypes[Any], consts: LutInterpolatedInputs[AnyArray]
    ) -> Sequence[Packed]:
        assert consts.table is not None
        entries = Packed("table", consts.table.astype(np.int16))
        return [entries, *pack_factors(consts.mult, consts.shift)]

    @staticmethod
    def overlap_bytes(attrs: LutInterpolatedAttrs, q: NodeTypes[Any]) -> int | None:
        return 0

    @staticmethod
    def cycles(attrs: LutInterpolatedAttrs, q: NodeTypes[Any]) -> float:
        return 40.0 * q.output.elements
