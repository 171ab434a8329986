"""linear with SMLAD: four outputs per pass over the input."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from isobit.core.dtypes import DType
from isobit.core.features import Feature
from isobit.core.types import AnyArray
from isobit.ops.base import Kernel, NodeTypes, Packed
from isobit.ops.linear.op import LinearAttrs
from isobit.ops.weighted import WeightedInputs, pack_weighted, rule_fields


class DualDsp(Kernel, op="linear", function="linear_s8_dual_dsp"):
    """Two products per instruction; no scratch."""

    features = frozenset({Feature.DSP})
    headers = ("isobit_dsp.h",)

    @staticmethod
    def when(attrs: LinearAttrs, q: NodeTypes[Any]) -> str:
        dtypes = (q.inputs.x.dtype, q.inputs.w.dtype, q.output.dtype)
        wanted = (DType.S8,) * 3
        return "" if dtypes == wanted else f"want s8 in, weights and out, got {[d.value for d in dtypes]}"

    @staticmethod
    def geometry(attrs: LinearAttrs, q: NodeTypes[Any]) -> Mapping[str, int]:
        out, size = q.inputs.w.shape
        return {"in": size, "out": out, **rule_fields(q.inputs, attrs.round, out)}

    @staticmethod
    def pack(
        attrs: LinearAttrs, q: NodeTypes[Any], consts: WeightedInputs[AnyArray]
    ) -> Sequence[Packed]:
        packed = pack_weighted(q, consts, attrs.clamp)
        return [replace(p, data=_rows(p.data), alignment_bytes=4) if p.name == "w" else p for p in packed]

    @staticmethod
    def overlap_bytes(attrs: LinearAttrs, q: NodeTypes[Any]) -> int | None:
        """Bytes written before the last pass begins: a pass reads all inputs, then writes its outputs."""
        out = int(q.inputs.w.shape[0])
        return out - (1 if out % 4 else 4)

    @staticmethod
    def cycles(attrs: LinearAttrs, q: NodeTypes[Any]) -> float:
        return 0.0


def _rows(w: AnyArray) -> AnyArray:
    """Return [O * row] weights: rows padded with zeros to whole words."""
    padded: AnyArray = np.pad(w, ((0, 0), (0, -w.shape[1] % 4))).ravel()
    return padded
