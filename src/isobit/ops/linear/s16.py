"""The readable linear of int16 activations and int8 weights: every core."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from isobit.core.dtypes import DType
from isobit.core.types import AnyArray
from isobit.ops.base import Kernel, NodeTypes, Packed
from isobit.ops.linear.op import Linear, LinearAttrs
from isobit.ops.linear.reference import Reference
from isobit.ops.weighted import WeightedInputs, carrier_problem, pack_weighted, wide_bias


class Wide(Kernel, op="linear", function="linear_s16"):
    """As the reference, with sums of 64 bits."""

    code_bytes = 220
    alignment_bytes = 2

    @staticmethod
    def when(attrs: LinearAttrs, q: NodeTypes[Any]) -> str:
        return carrier_problem(q, DType.S16)

    @staticmethod
    def geometry(attrs: LinearAttrs, q: NodeTypes[Any]) -> Mapping[str, int]:
        return {**Reference.geometry(attrs, q), "wide_bias": wide_bias(q.inputs)}

    @staticmethod
    def pack(
        attrs: LinearAttrs, q: NodeTypes[Any], consts: WeightedInputs[AnyArray]
    ) -> Sequence[Packed]:
        return pack_weighted(q, consts, attrs.clamp)

    @staticmethod
    def cycles(attrs: LinearAttrs, q: NodeTypes[Any]) -> float:
        return 10.0 * Linear.cost(attrs, q).macs + 60.0 * q.output.elements
