"""The readable linear of an int16 input and int8 weights to int8: every core."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from isobit.core.dtypes import DType
from isobit.core.types import AnyArray
from isobit.ops.base import Kernel, NodeTypes, Packed
from isobit.ops.linear.op import Linear, LinearAttrs
from isobit.ops.linear.reference import Reference
from isobit.ops.weighted import WeightedInputs, carrier_problem, pack_weighted, wide_bias


class Narrowing(Kernel, op="linear", function="linear_s16_to_s8"):
    """As of int16 alone, with one requantisation to int8."""

    code_bytes = 220
    alignment_bytes = 2

    @staticmethod
    def when(attrs: LinearAttrs, q: NodeTypes[Any]) -> str:
        return carrier_problem(q, DType.S16, DType.S8)

    @staticmethod
    def geometry(attrs: LinearAttrs, q: NodeTypes[Any]) -> Mapping[str, int]:
        # Calibration gives 16 bits no zero point, whatever the ranges; a graph file may.
        own = {"x_has_zero": int(q.inputs.x.zero != 0), "wide_bias": wide_bias(q.inputs)}
        return {**Reference.geometry(attrs, q), **own}

    @staticmethod
    def pack(
        attrs: LinearAttrs, q: NodeTypes[Any], consts: WeightedInputs[AnyArray]
    ) -> Sequence[Packed]:
        return pack_weighted(q, consts, attrs.clamp)

    @staticmethod
    def cycles(attrs: LinearAttrs, q: NodeTypes[Any]) -> float:
        return 10.0 * Linear.cost(attrs, q).macs + 60.0 * q.output.elements
