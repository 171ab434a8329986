"""The readable transpose_conv2d: every core, every shape."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from isobit.core.types import AnyArray
from isobit.ops.base import Kernel, NodeTypes, Packed
from isobit.ops.transpose_conv2d.op import TransposeConv2d, TransposeConv2dAttrs
from isobit.ops.weighted import WeightedInputs, carrier_problem, pack_weighted, rule_fields


class Reference(Kernel, op="transpose_conv2d", function="transpose_conv2d_s8"):
    """One output at a time: the input pixels that reach it, found by a division per pixel."""

    code_bytes = 330

    @staticmethod
    def when(attrs: TransposeConv2dAttrs, q: NodeTypes[Any]) -> str:
        return carrier_problem(q)

    @staticmethod
    def geometry(attrs: TransposeConv2dAttrs, q: NodeTypes[Any]) -> Mapping[str, int]:
        _, in_h, in_w, in_c = q.inputs.x.shape
        _, out_h, out_w, out_c = q.output.shape
        _, kernel_h, kernel_w, _ = q.inputs.w.shape
        return {
            **{"in_h": in_h, "in_w": in_w, "in_c": in_c},
            **{"out_h": out_h, "out_w": out_w, "out_c": out_c},
            **{"kernel_h": kernel_h, "kernel_w": kernel_w},
            **{"stride_h": attrs.stride[0], "stride_w": attrs.stride[1]},
            **{"pad_top": attrs.pad[0], "pad_left": attrs.pad[1]},
            **rule_fields(q.inputs, attrs.round, out_c),
        }

    @staticmethod
    def pack(
        attrs: TransposeConv2dAttrs, q: NodeTypes[Any], consts: WeightedInputs[AnyArray]
    ) -> Sequence[Packed]:
        return pack_weighted(q, consts, attrs.clamp)

    @staticmethod
    def cycles(attrs: TransposeConv2dAttrs, q: NodeTypes[Any]) -> float:
        return 8.0 * TransposeConv2d.cost(attrs, q).macs + 45.0 * q.output.elements
