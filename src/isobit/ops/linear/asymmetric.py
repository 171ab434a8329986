"""The readable linear of weights with a zero point, as uint8 models have them: every core."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from isobit.core.types import AnyArray
from isobit.ops.base import Kernel, NodeTypes, Packed
from isobit.ops.linear.op import Linear, LinearAttrs
from isobit.ops.linear.reference import Reference
from isobit.ops.weighted import WeightedInputs, carrier_problem, pack_asymmetric


class Asymmetric(Kernel, op="linear", function="linear_s8_asymmetric"):
    """As the reference; a subtraction more for every tap."""

    code_bytes = 150

    @staticmethod
    def when(attrs: LinearAttrs, q: NodeTypes[Any]) -> str:
        return carrier_problem(q, zero=True)

    @staticmethod
    def geometry(attrs: LinearAttrs, q: NodeTypes[Any]) -> Mapping[str, int]:
        return Reference.geometry(attrs, q)

    @staticmethod
    def pack(
        attrs: LinearAttrs, q: NodeTypes[Any], consts: WeightedInputs[AnyArray]
    ) -> Sequence[Packed]:
        return pack_asymmetric(q, consts, attrs.clamp)

    @staticmethod
    def cycles(attrs: LinearAttrs, q: NodeTypes[Any]) -> float:
        return 8.0 * Linear.cost(attrs, q).macs + 30.0 * q.output.elements
