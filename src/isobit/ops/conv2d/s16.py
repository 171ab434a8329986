"""The readable conv2d of int16 activations and int8 weights: every core."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from isobit.core.dtypes import DType
from isobit.core.types import AnyArray
from isobit.ops.base import Kernel, NodeTypes, Packed
from isobit.ops.conv2d.op import Conv2d, Conv2dAttrs
from isobit.ops.conv2d.reference import Reference
from isobit.ops.weighted import WeightedInputs, carrier_problem, pack_weighted, wide_bias


class Wide(Kernel, op="conv2d", function="conv2d_s16"):
    """As the reference, with sums of 64 bits."""

    code_bytes = 330
    alignment_bytes = 2

    @staticmethod
    def when(attrs: Conv2dAttrs, q: NodeTypes[Any]) -> str:
        return carrier_problem(q, DType.S16)

    @staticmethod
    def geometry(attrs: Conv2dAttrs, q: NodeTypes[Any]) -> Mapping[str, int]:
        return {**Reference.geometry(attrs, q), "wide_bias": wide_bias(q.inputs)}

    @staticmethod
    def pack(
        attrs: Conv2dAttrs, q: NodeTypes[Any], consts: WeightedInputs[AnyArray]
    ) -> Sequence[Packed]:
        return pack_weighted(q, consts, attrs.clamp)

    @staticmethod
    def overlap_bytes(attrs: Conv2dAttrs, q: NodeTypes[Any]) -> int | None:
        narrow = Reference.overlap_bytes(attrs, q)
        return None if narrow is None else 2 * narrow

    @staticmethod
    def cycles(attrs: Conv2dAttrs, q: NodeTypes[Any]) -> float:
        return 11.0 * Conv2d.cost(attrs, q).macs + 60.0 * q.output.elements
