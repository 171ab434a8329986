"""The readable dynamic_depthwise_conv2d of an input with a fixed step: every core."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from isobit.ops.base import NodeTypes
from isobit.ops.dynamic_depthwise_conv2d.op import (
    DynamicDepthwiseConv2d,
    DynamicDepthwiseConv2dAttrs,
)
from isobit.ops.dynamic_kernels import DynamicKernel, window_geometry


class Reference(
    DynamicKernel, op="dynamic_depthwise_conv2d", function="dynamic_depthwise_conv2d_s8"
):
    """All channels of a pixel tap by tap into scratch, then one pass that makes codes."""

    code_bytes = 440
    definition = DynamicDepthwiseConv2d
    mac_cycles = 7.0

    @staticmethod
    def geometry(attrs: DynamicDepthwiseConv2dAttrs, q: NodeTypes[Any]) -> Mapping[str, int]:
        window = attrs.plain.window(q.inputs.w.shape)
        return window_geometry(window, q.inputs.x.shape[3], q)
