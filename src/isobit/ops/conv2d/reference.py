"""The readable conv2d: every core, every shape."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from isobit.core.types import AnyArray
from isobit.ops.base import Kernel, NodeTypes, Packed
from isobit.ops.conv2d.op import Conv2d, Conv2dAttrs
from isobit.ops.weighted import WeightedInputs, carrier_problem, pack_weighted, rule_fields


class Reference(Kernel, op="conv2d", function="conv2d_s8"):
    """Direct convolution, one output pixel and channel at a time; in place where the window
    allows.
    """

    code_bytes = 250

    @staticmethod
    def when(attrs: Conv2dAttrs, q: NodeTypes[Any]) -> str:
        return carrier_problem(q)

    @staticmethod
    def geometry(attrs: Conv2dAttrs, q: NodeTypes[Any]) -> Mapping[str, int]:
        window = attrs.window(q.inputs.w.shape)
        return {
            **window.geometry(q.inputs.x.shape, q.output.shape),
            "groups": attrs.groups,
            **rule_fields(q.inputs, attrs.round, q.output.shape[3]),
        }

    @staticmethod
    def pack(
        attrs: Conv2dAttrs, q: NodeTypes[Any], consts: WeightedInputs[AnyArray]
    ) -> Sequence[Packed]:
        return pack_weighted(q, consts, attrs.clamp)

    @staticmethod
    def overlap_bytes(attrs: Conv2dAttrs, q: NodeTypes[Any]) -> int | None:
        return attrs.window(q.inputs.w.shape).overlap_bytes(q.inputs.x.shape, q.output.shape)

    @staticmethod
    def cycles(attrs: Conv2dAttrs, q: NodeTypes[Any]) -> float:
        return 8.0 * Conv2d.cost(attrs, q).macs + 30.0 * q.output.elements
