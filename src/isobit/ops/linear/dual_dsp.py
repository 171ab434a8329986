"""linear with SMLAD: four outputs per pass over the input."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from isobit.core.features import Feature
from isobit.core.types import AnyArray
from isobit.ops.base import Kernel, NodeTypes, Packed
from isobit.ops.linear.op import Linear, LinearAttrs
from isobit.ops.weighted import WeightedInputs, carrier_problem, pack_weighted, rule_fields


class DualDsp(Kernel, op="linear", function="linear_s8_dual_dsp"):
    """Two products per instruction; no scratch."""

    features = frozenset({Feature.DSP})
    headers = ("isobit_dsp.h",)
    code_bytes = 460

    @staticmethod
    def when(attrs: LinearAttrs, q: NodeTypes[Any]) -> str:
        return carrier_problem(q)

    @staticmethod
    def geometry(attrs: LinearAttrs, q: NodeTypes[Any]) -> Mapping[str, int]:
        out, size = q.inputs.w.shape
        fields = rule_fields(q.inputs, attrs.round, out)
        has_zero, has_bias = fields.pop("x_has_zero"), fields.pop("has_bias")
        return {"in": size, "out": out, **fields, "has_bias": has_zero | has_bias}

    @staticmethod
    def pack(
        attrs: LinearAttrs, q: NodeTypes[Any], consts: WeightedInputs[AnyArray]
    ) -> Sequence[Packed]:
        packed = {p.name: p for p in pack_weighted(q, consts, attrs.clamp)}
        packed["w"] = replace(packed["w"], data=_words(consts.w), alignment_bytes=4)
        if rule_fields(q.inputs, attrs.round, 1)["x_has_zero"]:
            packed["b"] = replace(packed["b"], data=_bias(q, consts))
        return list(packed.values())

    @staticmethod
    def overlap_bytes(attrs: LinearAttrs, q: NodeTypes[Any]) -> int | None:
        """Bytes written before the last pass begins: a pass reads all inputs, then writes."""
        out = int(q.inputs.w.shape[0])
        return out - (1 if out % 4 else 4)

    @staticmethod
    def cycles(attrs: LinearAttrs, q: NodeTypes[Any]) -> float:
        """Fitted to the cycle model of cortex-m4, zig's code: within 10 %, 1 -> 1 to 256 -> 64."""
        return 24.0 + 41.0 * q.output.elements + 2.05 * Linear.cost(attrs, q).macs

    @classmethod
    def flash_bytes(cls, attrs: LinearAttrs, q: NodeTypes[Any]) -> int:
        out, size = q.inputs.w.shape
        fields = rule_fields(q.inputs, attrs.round, out)
        bias = 4 * out if fields["x_has_zero"] and not fields["has_bias"] else 0
        return int(cls.code_bytes + out * (-size % 4) + bias)


def _words(w: AnyArray) -> AnyArray:
    """Return rows padded with zeros to words; words of four rows alternate, the rest follow."""
    words = np.pad(w, ((0, 0), (0, -w.shape[1] % 4))).reshape(w.shape[0], -1, 4)
    fours = w.shape[0] // 4 * 4
    together = words[:fours].reshape(-1, 4, *words.shape[1:]).transpose(0, 2, 1, 3)
    ordered: AnyArray = np.concatenate([together.ravel(), words[fours:].ravel()])
    return ordered


def _bias(q: NodeTypes[Any], consts: WeightedInputs[AnyArray]) -> AnyArray:
    """Return `b - Zx * sum(w)` [O], s32: the sum for codes of 0, which is proven to fit."""
    folded = -q.inputs.x.zero * consts.w.astype(np.int64).sum(axis=1)
    if consts.b is not None:
        folded = folded + consts.b
    narrow: AnyArray = folded.astype(np.int32)
    assert np.array_equal(narrow, folded), "the exporter proves that every sum fits int32"
    return narrow
