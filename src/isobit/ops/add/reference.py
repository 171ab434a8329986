"""The readable add: every core, up to four broadcast loops."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from isobit.core.dtypes import DType
from isobit.core.fixed import Rounding
from isobit.core.types import AnyArray
from isobit.ops import broadcast
from isobit.ops.add.op import AddAttrs, AddInputs
from isobit.ops.base import Kernel, NodeTypes, Packed


class Reference(Kernel, op="add", function="add_s8"):
    """Element by element; in place over either operand where both have the output's shape."""

    code_bytes = 140
    overlaps_all = True

    @staticmethod
    def when(attrs: AddAttrs, q: NodeTypes[Any]) -> str:
        if attrs.round is not Rounding.HALF_UP:
            return f"want round=half_up, got {attrs.round.value}"
        return carriers(q) or broadcast.when(q.inputs.a.shape, q.inputs.b.shape)

    @staticmethod
    def geometry(attrs: AddAttrs, q: NodeTypes[Any]) -> Mapping[str, int]:
        return broadcast.geometry(q.inputs.a.shape, q.inputs.b.shape)

    @staticmethod
    def pack(attrs: AddAttrs, q: NodeTypes[Any], consts: AddInputs[AnyArray]) -> Sequence[Packed]:
        assert consts.mult_a is not None and consts.mult_b is not None and consts.shift is not None
        zeros = (q.inputs.a.zero, q.inputs.b.zero, q.output.zero)
        sign = -1 if attrs.subtract else 1
        factors = (int(consts.mult_a[0]), sign * int(consts.mult_b[0]), int(consts.shift[0]))
        fields = ("a_zero", "b_zero", "y_zero", "low", "high", "mult_a", "mult_b", "shift")
        numbers = np.asarray([*zeros, *attrs.clamp, *factors], dtype=np.int32)
        return [Packed("quant", numbers, struct="add_s8_quant", fields=fields)]

    @staticmethod
    def overlap_bytes(attrs: AddAttrs, q: NodeTypes[Any]) -> int | None:
        return 0 if q.inputs.a.shape == q.inputs.b.shape else None

    @staticmethod
    def cycles(attrs: AddAttrs, q: NodeTypes[Any]) -> float:
        return 14.0 * q.output.elements


def carriers(q: NodeTypes[Any]) -> str:
    """Return what is wrong with the carriers, "" where all are int8."""
    dtypes = (q.inputs.a.dtype, q.inputs.b.dtype, q.output.dtype)
    return (
        "" if set(dtypes) == {DType.S8} else f"want s8 in and out, got {[d.value for d in dtypes]}"
    )
