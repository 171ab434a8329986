"""conv2d with a 1x1 kernel: no window, so no bounds to test."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from isobit.core.types import AnyArray
from isobit.ops.base import Kernel, NodeTypes, Packed
from isobit.ops.conv2d.op import Conv2dAttrs
from isobit.ops.conv2d.reference import Reference
from isobit.ops.weighted import WeightedInputs, pack_weighted, rule_fields


class Toy1x1(Kernel, op="conv2d", function="conv2d_s8_toy_1x1"):
    """Pixel by pixel, in place where a pixel has at least as many input as output channels."""

    @staticmethod
    def when(attrs: Conv2dAttrs, q: NodeTypes[Any]) -> str:
        shape = (q.inputs.w.shape[1:3], attrs.stride, attrs.pad, attrs.groups)
        if shape != ((1, 1), (1, 1), (0, 0, 0, 0), 1):
            return "want a 1x1 kernel, stride 1, no padding, one group"
        return Reference.when(attrs, q)

    @staticmethod
    def geometry(attrs: Conv2dAttrs, q: NodeTypes[Any]) -> Mapping[str, int]:
        _, h, w, c = q.output.shape
        return {
            "pixels": h * w,
            "in_c": q.inputs.x.shape[3],
            "out_c": c,
            **rule_fields(q.inputs, attrs.round, c),
        }

    @staticmethod
    def pack(
        attrs: Conv2dAttrs, q: NodeTypes[Any], consts: WeightedInputs[AnyArray]
    ) -> Sequence[Packed]:
        return pack_weighted(q, consts, attrs.clamp)

    @staticmethod
    def overlap_bytes(attrs: Conv2dAttrs, q: NodeTypes[Any]) -> int | None:
        # The order of reads and writes is the reference's, so its proof holds.
        return Reference.overlap_bytes(attrs, q)

    @staticmethod
    def cycles(attrs: Conv2dAttrs, q: NodeTypes[Any]) -> float:
        # An estimate belongs here, such as 5 per multiply-accumulate. With 0 the planner takes this
        # kernel wherever it is legal, which is what the test wants to see.
        return 0.0
