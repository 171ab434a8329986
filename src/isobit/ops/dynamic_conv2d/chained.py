"""The readable dynamic_conv2d of an input with an exponent: every core."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from isobit.core.types import AnyArray
from isobit.ops import dynamic
from isobit.ops.base import Kernel, NodeTypes, Packed
from isobit.ops.dynamic_conv2d.op import DynamicConv2dAttrs
from isobit.ops.dynamic_conv2d.reference import Reference


class Chained(Kernel, op="dynamic_conv2d", function="dynamic_conv2d_s8_chained"):
    """As the reference; the unit of its sums is known at run time only."""

    code_bytes = Reference.code_bytes
    headers = Reference.headers

    @staticmethod
    def when(attrs: DynamicConv2dAttrs, q: NodeTypes[Any]) -> str:
        return dynamic.carrier_problem(q, chained=True)

    @staticmethod
    def geometry(attrs: DynamicConv2dAttrs, q: NodeTypes[Any]) -> Mapping[str, int]:
        return Reference.geometry(attrs, q)

    @staticmethod
    def pack(
        attrs: DynamicConv2dAttrs, q: NodeTypes[Any], consts: dynamic.DynamicInputs[AnyArray]
    ) -> Sequence[Packed]:
        return dynamic.pack_dynamic(attrs, consts)

    @staticmethod
    def scratch_bytes(attrs: DynamicConv2dAttrs, q: NodeTypes[Any]) -> int:
        return dynamic.scratch_bytes(q)

    @staticmethod
    def cycles(attrs: DynamicConv2dAttrs, q: NodeTypes[Any]) -> float:
        return Reference.cycles(attrs, q)
