"""The readable concat: every core, every dtype."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from isobit.ops.axes import outer_inner
from isobit.ops.base import Kernel, NodeTypes
from isobit.ops.concat.op import ConcatAttrs

MAX_INPUTS = 16
"""Entries of the geometry's `bytes`."""


class Reference(Kernel, op="concat", function="concat_bytes"):
    """Copies one run of each input after the other."""

    code_bytes = 110
    gathers = True

    @staticmethod
    def when(attrs: ConcatAttrs, q: NodeTypes[Any]) -> str:
        count = len(q.inputs.xs)
        return "" if count <= MAX_INPUTS else f"want at most {MAX_INPUTS} inputs, got {count}"

    @staticmethod
    def geometry(attrs: ConcatAttrs, q: NodeTypes[Any]) -> Mapping[str, int]:
        runs, inner = outer_inner(q.output.shape, attrs.axis)
        size = inner * q.output.dtype.size_bytes
        sizes = {f"bytes[{i}]": x.shape[attrs.axis] * size for i, x in enumerate(q.inputs.xs)}
        return {"runs": runs, "count": len(q.inputs.xs), **sizes}

    @staticmethod
    def cycles(attrs: ConcatAttrs, q: NodeTypes[Any]) -> float:
        runs, _ = outer_inner(q.output.shape, attrs.axis)
        return 4.0 * q.output.size_bytes + 20.0 * runs * len(q.inputs.xs)
