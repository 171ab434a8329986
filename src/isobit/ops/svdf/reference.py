"""The readable svdf: every core, every size, states of int8 and int16."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from isobit.core.dtypes import DType
from isobit.core.types import AnyArray
from isobit.ops.base import Kernel, NodeTypes, Packed
from isobit.ops.svdf.op import Svdf, SvdfAttrs, SvdfInputs
from isobit.ops.weighted import QUANT, defined_factors


class Reference(Kernel, op="svdf", function="svdf_s8"):
    """One filter at a time: its feature, its state, its part of the sum; the state in place."""

    code_bytes = 330

    @staticmethod
    def when(attrs: SvdfAttrs, q: NodeTypes[Any]) -> str:
        dtypes = (q.inputs.x.dtype, q.inputs.w.dtype, q.outputs[0].dtype)
        if dtypes == (DType.S8,) * 3:
            return ""
        return f"want s8 in, weights and out, got {[d.value for d in dtypes]}"

    @staticmethod
    def geometry(attrs: SvdfAttrs, q: NodeTypes[Any]) -> Mapping[str, int]:
        filters, memory = q.inputs.t.shape
        return {
            "rows": q.inputs.state.elements // (filters * memory),
            "in": q.inputs.x.shape[-1],
            "units": filters // attrs.rank,
            "rank": attrs.rank,
            "memory": memory,
            "has_bias": int(q.inputs.b is not None),
            "wide": int(q.inputs.state.dtype is DType.S16),
        }

    @staticmethod
    def pack(attrs: SvdfAttrs, q: NodeTypes[Any], consts: SvdfInputs[AnyArray]) -> Sequence[Packed]:
        assert consts.shift is not None
        zeros, ends = (q.inputs.x.zero, q.outputs[0].zero), (*attrs.clamp, *attrs.feature_clamp)
        numbers = np.asarray([*zeros, *ends], dtype=np.int32)
        fields = (*QUANT, "feature_low", "feature_high")
        mult, shift = defined_factors(consts.mult, consts.shift)
        assert mult is not None
        return [
            Packed("quant", numbers, struct="svdf_s8_quant", fields=fields),
            Packed("w", consts.w),
            Packed("t", consts.t),
            Packed("b", np.empty(0, dtype=np.int32) if consts.b is None else consts.b),
            Packed("mult", mult.astype(np.int32)),
            Packed("shift", shift.astype(np.int8)),
        ]

    @staticmethod
    def cycles(attrs: SvdfAttrs, q: NodeTypes[Any]) -> float:
        return 8.0 * Svdf.cost(attrs, q).macs + 60.0 * q.outputs[0].elements
