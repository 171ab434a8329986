"""The readable add: every core, up to four broadcast loops."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from isobit.core.dtypes import DType
from isobit.core.types import AnyArray
from isobit.ops import broadcast
from isobit.ops.add.op import AddAttrs, AddInputs
from isobit.ops.base import Kernel, NodeTypes, Packed


class Reference(Kernel, op="add", function="add_s8"):
    """Element by element; in place over either operand where both have the output's shape."""

    overlaps_all = True

    @staticmethod
    def when(attrs: AddAttrs, q: NodeTypes[Any]) -> str:
        dtypes = (q.inputs.a.dtype, q.inputs.b.dtype, q.output.dtype)
        if dtypes != (DType.S8,) * 3:
            return f"want s8 in and out, got {[d.value for d in dtypes]}"
        return broadcast.when(q.inputs.a.shape, q.inputs.b.shape)

    @staticmethod
    def geometry(attrs: AddAttrs, q: NodeTypes[Any]) -> Mapping[str, int]:
        return broadcast.geometry(q.inputs.a.shape, q.inputs.b.shape)

    @staticmethod
    def pack(attrs: AddAttrs, q: NodeTypes[Any], consts: AddInputs[AnyArray]) -> Sequence[Packed]:
        assert consts.mult_a is not None and consts.mult_b is not None and consts.shift is not None
        zeros = (q.inputs.a.zero, q.inputs.b.zero, q.output.zero)
        factors = (int(k[0]) for k in (consts.mult_a, consts.mult_b, consts.shift))
        fields = ("a_zero", "b_zero", "y_zero", "low", "high", "mult_a", "mult_b", "shift")
        numbers = np.asarray([*zeros, *attrs.clamp, *factors], dtype=np.int32)
        return [Packed("quant", numbers, struct="add_s8_quant", fields=fields)]

    @staticmethod
    def overlap_bytes(attrs: AddAttrs, q: NodeTypes[Any]) -> int | None:
        return 0 if q.inputs.a.shape == q.inputs.b.shape else None

    @staticmethod
    def cycles(attrs: AddAttrs, q: NodeTypes[Any]) -> float:
        return 14.0 * q.output.elements
