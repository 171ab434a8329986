"""The readable reshape: a copy, which disappears where both tensors share a buffer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from isobit.ops.base import Kernel, NodeTypes
from isobit.ops.reshape.op import ReshapeAttrs


class Reference(Kernel, op="reshape", function="reshape_bytes"):
    """Copies bytes upwards; nothing to do when source and destination are the same."""

    code_bytes = 20

    @staticmethod
    def geometry(attrs: ReshapeAttrs, q: NodeTypes[Any]) -> Mapping[str, int]:
        return {"size_bytes": q.output.size_bytes}

    @staticmethod
    def overlap_bytes(attrs: ReshapeAttrs, q: NodeTypes[Any]) -> int | None:
        return 0

    @staticmethod
    def cycles(attrs: ReshapeAttrs, q: NodeTypes[Any]) -> float:
        return 3.0 * q.output.size_bytes
