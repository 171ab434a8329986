"""The readable reduce_sum: every core, up to three runs of kept and of reduced axes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from isobit.core.dtypes import DType
from isobit.core.types import AnyArray
from isobit.ops import reductions
from isobit.ops.base import Kernel, NodeTypes, Packed
from isobit.ops.reduce_sum.op import ReduceSumAttrs, ReduceSumInputs
from isobit.ops.requantize.op import pack_factors
from isobit.ops.weighted import QUANT, RULES


class Reference(Kernel, op="reduce_sum", function="reduce_sum_s8"):
    """One output at a time; in place."""

    code_bytes = 230

    @staticmethod
    def when(attrs: ReduceSumAttrs, q: NodeTypes[Any]) -> str:
        dtypes = (q.inputs.x.dtype, q.output.dtype)
        if dtypes != (DType.S8, DType.S8):
            return f"want s8, got {[d.value for d in dtypes]}"
        return reductions.when(q.inputs.x.shape, attrs.axes)

    @staticmethod
    def geometry(attrs: ReduceSumAttrs, q: NodeTypes[Any]) -> Mapping[str, int]:
        return {
            **reductions.geometry(q.inputs.x.shape, attrs.axes),
            "count": reductions.terms(q.inputs.x.shape, attrs.axes),
            "rule": RULES[None if q.inputs.mult is None else attrs.round],
        }

    @staticmethod
    def pack(
        attrs: ReduceSumAttrs, q: NodeTypes[Any], consts: ReduceSumInputs[AnyArray]
    ) -> Sequence[Packed]:
        numbers = np.asarray([q.inputs.x.zero, q.output.zero, *attrs.clamp], dtype=np.int32)
        quant = Packed("quant", numbers, struct="isobit_quant", fields=QUANT)
        return [quant, *pack_factors(consts.mult, consts.shift)]

    @staticmethod
    def overlap_bytes(attrs: ReduceSumAttrs, q: NodeTypes[Any]) -> int | None:
        """Output i is written after its terms are read; later ones have none before byte i + 1."""
        return 0

    @staticmethod
    def cycles(attrs: ReduceSumAttrs, q: NodeTypes[Any]) -> float:
        return 5.0 * float(q.inputs.x.elements) + 30.0 * q.output.elements
