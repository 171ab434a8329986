"""The readable dynamic_linear of an input with an exponent: every core."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from isobit.core.types import AnyArray
from isobit.ops import dynamic
from isobit.ops.base import Kernel, NodeTypes, Packed
from isobit.ops.dynamic_linear.op import DynamicLinearAttrs
from isobit.ops.dynamic_linear.reference import Reference


class Chained(Kernel, op="dynamic_linear", function="dynamic_linear_s8_chained"):
    """As the reference; the unit of its sums is known at run time only."""

    code_bytes = Reference.code_bytes
    headers = Reference.headers

    @staticmethod
    def when(attrs: DynamicLinearAttrs, q: NodeTypes[Any]) -> str:
        return dynamic.carrier_problem(q, chained=True)

    @staticmethod
    def geometry(attrs: DynamicLinearAttrs, q: NodeTypes[Any]) -> Mapping[str, int]:
        return Reference.geometry(attrs, q)

    @staticmethod
    def pack(
        attrs: DynamicLinearAttrs, q: NodeTypes[Any], consts: dynamic.DynamicInputs[AnyArray]
    ) -> Sequence[Packed]:
        return dynamic.pack_dynamic(attrs, consts)

    @staticmethod
    def scratch_bytes(attrs: DynamicLinearAttrs, q: NodeTypes[Any]) -> int:
        return dynamic.scratch_bytes(q)

    @staticmethod
    def cycles(attrs: DynamicLinearAttrs, q: NodeTypes[Any]) -> float:
        return Reference.cycles(attrs, q)
