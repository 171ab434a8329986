"""The readable linear: every core, every size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from isobit.core.types import AnyArray
from isobit.ops.base import Kernel, NodeTypes, Packed
from isobit.ops.linear.op import Linear, LinearAttrs
from isobit.ops.weighted import WeightedInputs, carrier_problem, pack_weighted, rule_fields


class Reference(Kernel, op="linear", function="linear_s8"):
    """One dot product per output."""

    code_bytes = 140

    @staticmethod
    def when(attrs: LinearAttrs, q: NodeTypes[Any]) -> str:
        return carrier_problem(q)

    @staticmethod
    def geometry(attrs: LinearAttrs, q: NodeTypes[Any]) -> Mapping[str, int]:
        out, size = q.inputs.w.shape
        return {"in": size, "out": out, **rule_fields(q.inputs, attrs.round, out)}

    @staticmethod
    def pack(
        attrs: LinearAttrs, q: NodeTypes[Any], consts: WeightedInputs[AnyArray]
    ) -> Sequence[Packed]:
        return pack_weighted(q, consts, attrs.clamp)

    @staticmethod
    def cycles(attrs: LinearAttrs, q: NodeTypes[Any]) -> float:
        return 7.0 * Linear.cost(attrs, q).macs + 30.0 * q.output.elements
