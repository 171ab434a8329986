"""The readable dynamic_linear of an input with a fixed step: every core."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from isobit.core.types import AnyArray
from isobit.ops import dynamic
from isobit.ops.base import Kernel, NodeTypes, Packed
from isobit.ops.dynamic_linear.op import DynamicLinear, DynamicLinearAttrs


class Reference(Kernel, op="dynamic_linear", function="dynamic_linear_s8"):
    """Every sum into scratch, then one pass that makes codes of them."""

    code_bytes = 300
    headers = ("isobit_dynamic.h",)

    @staticmethod
    def when(attrs: DynamicLinearAttrs, q: NodeTypes[Any]) -> str:
        return dynamic.carrier_problem(q, chained=False)

    @staticmethod
    def geometry(attrs: DynamicLinearAttrs, q: NodeTypes[Any]) -> Mapping[str, int]:
        out, size = q.inputs.w.shape
        return {"in": size, "out": out, "has_bias": int(q.inputs.b is not None)}

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
        return 7.0 * DynamicLinear.cost(attrs, q).macs + 50.0 * q.outputs[0].elements
