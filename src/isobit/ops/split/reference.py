"""The readable split: every core, every dtype."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from isobit.ops.axes import outer_inner
from isobit.ops.base import Kernel, NodeTypes
from isobit.ops.split.op import SplitAttrs

MAX_OUTPUTS = 16
"""Entries of the geometry's `bytes`."""


class Reference(Kernel, op="split", function="split_bytes"):
    """Copies runs of bytes to one output after the other."""

    code_bytes = 110
    gathers = True

    @staticmethod
    def when(attrs: SplitAttrs, q: NodeTypes[Any]) -> str:
        count = len(attrs.sizes)
        return "" if count <= MAX_OUTPUTS else f"want at most {MAX_OUTPUTS} outputs, got {count}"

    @staticmethod
    def geometry(attrs: SplitAttrs, q: NodeTypes[Any]) -> Mapping[str, int]:
        runs, inner = outer_inner(q.inputs.x.shape, attrs.axis)
        size = inner * q.inputs.x.dtype.size_bytes
        sizes = {f"bytes[{i}]": count * size for i, count in enumerate(attrs.sizes)}
        return {"runs": runs, "count": len(attrs.sizes), **sizes}

    @staticmethod
    def cycles(attrs: SplitAttrs, q: NodeTypes[Any]) -> float:
        runs, _ = outer_inner(q.inputs.x.shape, attrs.axis)
        return 4.0 * float(q.inputs.x.size_bytes) + 20.0 * runs * len(attrs.sizes)
