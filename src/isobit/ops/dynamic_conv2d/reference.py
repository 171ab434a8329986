"""The readable dynamic_conv2d of an input with a fixed step: every core."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from isobit.core.types import AnyArray
from isobit.ops import dynamic
from isobit.ops.base import Kernel, NodeTypes, Packed
from isobit.ops.dynamic_conv2d.op import DynamicConv2d, DynamicConv2dAttrs


class Reference(Kernel, op="dynamic_conv2d", function="dynamic_conv2d_s8"):
    """Every sum into scratch, then one pass that makes codes of them."""

    code_bytes = 420
    headers = ("isobit_dynamic.h",)

    @staticmethod
    def when(attrs: DynamicConv2dAttrs, q: NodeTypes[Any]) -> str:
        return dynamic.carrier_problem(q, chained=False)

    @staticmethod
    def geometry(attrs: DynamicConv2dAttrs, q: NodeTypes[Any]) -> Mapping[str, int]:
        window = attrs.plain.window(q.inputs.w.shape)
        return {
            **window.geometry(q.inputs.x.shape, q.outputs[0].shape),
            "groups": attrs.groups,
            "has_bias": int(q.inputs.b is not None),
        }

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
        return 8.0 * DynamicConv2d.cost(attrs, q).macs + 50.0 * q.outputs[0].elements
