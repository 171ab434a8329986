"""The readable depthwise_conv2d of weights with a zero point, for uint8 models: every core."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from isobit.core.types import AnyArray
from isobit.ops.base import Kernel, NodeTypes, Packed
from isobit.ops.depthwise_conv2d.op import DepthwiseConv2d, DepthwiseConv2dAttrs
from isobit.ops.depthwise_conv2d.reference import Reference
from isobit.ops.weighted import WeightedInputs, carrier_problem, pack_asymmetric


class Asymmetric(Kernel, op="depthwise_conv2d", function="depthwise_conv2d_s8_asymmetric"):
    """As the reference; a subtraction more for every tap."""

    code_bytes = 340

    @staticmethod
    def when(attrs: DepthwiseConv2dAttrs, q: NodeTypes[Any]) -> str:
        return carrier_problem(q, zero=True)

    @staticmethod
    def geometry(attrs: DepthwiseConv2dAttrs, q: NodeTypes[Any]) -> Mapping[str, int]:
        return Reference.geometry(attrs, q)

    @staticmethod
    def pack(
        attrs: DepthwiseConv2dAttrs, q: NodeTypes[Any], consts: WeightedInputs[AnyArray]
    ) -> Sequence[Packed]:
        return pack_asymmetric(q, consts, attrs.clamp)

    @staticmethod
    def overlap_bytes(attrs: DepthwiseConv2dAttrs, q: NodeTypes[Any]) -> int | None:
        return Reference.overlap_bytes(attrs, q)

    @staticmethod
    def cycles(attrs: DepthwiseConv2dAttrs, q: NodeTypes[Any]) -> float:
        return 13.0 * DepthwiseConv2d.cost(attrs, q).macs + 40.0 * q.output.elements
