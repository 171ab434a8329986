"""The add of imported networks, which rounds three times: every core, up to four loops."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from isobit.core.fixed import Rounding
from isobit.core.types import AnyArray
from isobit.ops import broadcast
from isobit.ops.add.op import AddAttrs, AddInputs
from isobit.ops.add.reference import carriers
from isobit.ops.base import Kernel, NodeTypes, Packed
from isobit.ops.weighted import defined_factors


class Rescaled(Kernel, op="add", function="add_s8_rescaled"):
    """Element by element; in place over either operand where both have the output's shape."""

    code_bytes = 320
    overlaps_all = True

    @staticmethod
    def when(attrs: AddAttrs, q: NodeTypes[Any]) -> str:
        if attrs.round is not Rounding.TFLITE_DOUBLE:
            return f"want round=tflite_double, got {attrs.round.value}"
        return carriers(q) or broadcast.when(q.inputs.a.shape, q.inputs.b.shape)

    @staticmethod
    def geometry(attrs: AddAttrs, q: NodeTypes[Any]) -> Mapping[str, int]:
        loops = broadcast.geometry(q.inputs.a.shape, q.inputs.b.shape)
        return {**loops, "subtract": int(attrs.subtract)}

    @staticmethod
    def pack(attrs: AddAttrs, q: NodeTypes[Any], consts: AddInputs[AnyArray]) -> Sequence[Packed]:
        numbers: dict[str, int] = {
            "a_zero": q.inputs.a.zero,
            "b_zero": q.inputs.b.zero,
            "y_zero": q.output.zero,
            "low": attrs.clamp[0],
            "high": attrs.clamp[1],
        }
        for suffix in ("_a", "_b", ""):
            mult, shift = getattr(consts, f"mult{suffix}"), getattr(consts, f"shift{suffix}")
            known, right = defined_factors(mult, shift)
            assert known is not None
            numbers |= {f"mult{suffix}": int(known[0]), f"shift{suffix}": int(right[0])}
        data = np.asarray(list(numbers.values()), dtype=np.int32)
        fields = tuple(numbers)
        return [Packed("quant", data, struct="add_s8_rescaled_quant", fields=fields)]

    @staticmethod
    def overlap_bytes(attrs: AddAttrs, q: NodeTypes[Any]) -> int | None:
        return 0 if q.inputs.a.shape == q.inputs.b.shape else None

    @staticmethod
    def cycles(attrs: AddAttrs, q: NodeTypes[Any]) -> float:
        return 60.0 * q.output.elements
