"""The readable dynamic_conv2d of an input with a fixed step: every core."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from isobit.ops.base import NodeTypes
from isobit.ops.dynamic_conv2d.op import DynamicConv2d, DynamicConv2dAttrs
from isobit.ops.dynamic_kernels import DynamicKernel, window_geometry


class Reference(DynamicKernel, op="dynamic_conv2d", function="dynamic_conv2d_s8"):
    """Every sum into scratch, then one pass that makes codes of them."""

    code_bytes = 420
    definition = DynamicConv2d
    mac_cycles = 8.0

    @staticmethod
    def geometry(attrs: DynamicConv2dAttrs, q: NodeTypes[Any]) -> Mapping[str, int]:
        return window_geometry(attrs.plain.window(q.inputs.w.shape), attrs.groups, q)
