"""The readable depthwise_conv2d: every core, every shape."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from isobit.core.types import AnyArray
from isobit.ops.base import Kernel, NodeTypes, Packed
from isobit.ops.depthwise_conv2d.op import DepthwiseConv2d, DepthwiseConv2dAttrs
from isobit.ops.weighted import WeightedInputs, carrier_problem, pack_weighted, rule_fields


class Reference(Kernel, op="depthwise_conv2d", function="depthwise_conv2d_s8"):
    """One output pixel and channel at a time; in place where the window allows."""

    code_bytes = 250

    @staticmethod
    def when(attrs: DepthwiseConv2dAttrs, q: NodeTypes[Any]) -> str:
        return carrier_problem(q)

    @staticmethod
    def geometry(attrs: DepthwiseConv2dAttrs, q: NodeTypes[Any]) -> Mapping[str, int]:
        window = attrs.window(q.inputs.w.shape)
        return {
            **window.geometry(q.inputs.x.shape, q.output.shape),
            **rule_fields(q.inputs, attrs.round, q.output.shape[3]),
        }

    @staticmethod
    def pack(
        attrs: DepthwiseConv2dAttrs, q: NodeTypes[Any], consts: WeightedInputs[AnyArray]
    ) -> Sequence[Packed]:
        return pack_weighted(q, consts, attrs.clamp)

    @staticmethod
    def overlap_bytes(attrs: DepthwiseConv2dAttrs, q: NodeTypes[Any]) -> int | None:
        return attrs.window(q.inputs.w.shape).overlap_bytes(q.inputs.x.shape, q.output.shape)

    @staticmethod
    def cycles(attrs: DepthwiseConv2dAttrs, q: NodeTypes[Any]) -> float:
        return 12.0 * DepthwiseConv2d.cost(attrs, q).macs + 40.0 * q.output.elements
