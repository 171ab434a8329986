"""The readable dynamic_linear of an input with a fixed step: every core."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from isobit.ops.base import NodeTypes
from isobit.ops.dynamic_kernels import DynamicKernel
from isobit.ops.dynamic_linear.op import DynamicLinear, DynamicLinearAttrs


class Reference(DynamicKernel, op="dynamic_linear", function="dynamic_linear_s8"):
    """Every sum into scratch, then one pass that makes codes of them."""

    code_bytes = 300
    definition = DynamicLinear
    mac_cycles = 7.0

    @staticmethod
    def geometry(attrs: DynamicLinearAttrs, q: NodeTypes[Any]) -> Mapping[str, int]:
        out, size = q.inputs.w.shape
        return {"in": size, "out": out, "has_bias": int(q.inputs.b is not None)}
