"""The readable transpose_conv2d of weights with a zero point, for uint8 models: every core."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from isobit.core.types import AnyArray
from isobit.ops.base import Kernel, NodeTypes, Packed
from isobit.ops.transpose_conv2d.op import TransposeConv2d, TransposeConv2dAttrs
from isobit.ops.transpose_conv2d.reference import Reference
from isobit.ops.weighted import WeightedInputs, carrier_problem, pack_asymmetric


class Asymmetric(Kernel, op="transpose_conv2d", function="transpose_conv2d_s8_asymmetric"):
    """As the reference; a subtraction more for every tap."""

    code_bytes = 340

    @staticmethod
    def when(attrs: TransposeConv2dAttrs, q: NodeTypes[Any]) -> str:
        return carrier_problem(q, zero=True)

    @staticmethod
    def geometry(attrs: TransposeConv2dAttrs, q: NodeTypes[Any]) -> Mapping[str, int]:
        return Reference.geometry(attrs, q)

    @staticmethod
    def pack(
        attrs: TransposeConv2dAttrs, q: NodeTypes[Any], consts: WeightedInputs[AnyArray]
    ) -> Sequence[Packed]:
        return pack_asymmetric(q, consts, attrs.clamp)

    @staticmethod
    def cycles(attrs: TransposeConv2dAttrs, q: NodeTypes[Any]) -> float:
        return 9.0 * TransposeConv2d.cost(attrs, q).macs + 45.0 * q.output.elements
