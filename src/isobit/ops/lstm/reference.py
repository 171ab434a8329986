"""The readable lstm: every core, every size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from isobit.core.dtypes import DType
from isobit.core.types import AnyArray
from isobit.ops.base import Kernel, NodeTypes, Packed
from isobit.ops.lstm import gates
from isobit.ops.lstm.op import Lstm, LstmAttrs, LstmInputs
from isobit.ops.weighted import defined_factors

QUANT = ("x_zero", "h_zero", "cell_low", "cell_high", "tanh_factor", "tanh_shift")


class Reference(Kernel, op="lstm", function="lstm_s8"):
    """Cell by cell; both states in place, no scratch."""

    code_bytes = 900

    @staticmethod
    def when(attrs: LstmAttrs, q: NodeTypes[Any]) -> str:
        dtypes = (q.inputs.x.dtype, q.outputs[2].dtype, q.outputs[0].dtype)
        if dtypes == (DType.S8, DType.S16, DType.S8):
            return ""
        return f"want s8 in and out, a cell state of s16, got {[d.value for d in dtypes]}"

    @staticmethod
    def geometry(attrs: LstmAttrs, q: NodeTypes[Any]) -> Mapping[str, int]:
        _, rows, cells = q.outputs[1].shape
        inputs = q.inputs.x.shape[-1]
        steps = q.inputs.x.shape[1 if attrs.time_major else 2]
        row, step = (1, rows) if attrs.time_major else (steps, 1)
        return {
            **{"rows": rows, "steps": steps, "in": inputs, "cells": cells},
            **{"x_row": row * inputs, "x_step": step * inputs},
            **{"y_row": row * cells, "y_step": step * cells},
            "from_zero": int(q.inputs.h is None),
        }

    @staticmethod
    def pack(attrs: LstmAttrs, q: NodeTypes[Any], consts: LstmInputs[AnyArray]) -> Sequence[Packed]:
        assert consts.shift is not None
        zeros = (q.inputs.x.zero, q.outputs[1].zero)
        numbers = [*zeros, *attrs.cell_clamp, *gates.argument(attrs.cell_frac)]
        mult, shift = defined_factors(consts.mult, consts.shift)
        assert mult is not None
        return [
            Packed(
                "quant", np.asarray(numbers, dtype=np.int32), struct="lstm_s8_quant", fields=QUANT
            ),
            Packed("w", consts.w),
            Packed("r", consts.r),
            Packed("b", consts.b),
            Packed("mult", mult.astype(np.int32)),
            Packed("shift", shift.astype(np.int8)),
            Packed("table", (gates.TABLE - 32768).astype(np.int16)),
        ]

    @staticmethod
    def cycles(attrs: LstmAttrs, q: NodeTypes[Any]) -> float:
        return 7.0 * Lstm.cost(attrs, q).macs + 500.0 * q.outputs[0].elements

    @classmethod
    def flash_bytes(cls, attrs: LstmAttrs, q: NodeTypes[Any]) -> int:
        return cls.code_bytes + 2 * gates.ENTRIES
