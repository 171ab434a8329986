"""Transposes of more axes than the reference has loops."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from isobit.ops.base import Kernel, NodeTypes
from isobit.ops.transpose.op import TransposeAttrs
from isobit.ops.transpose.reference import AXES

MOST = 8
"""Entries of the geometry's arrays."""


class ManyAxes(Kernel, op="transpose", function="transpose_many_axes"):
    """Finds the place of every element by dividing its number; five to eight axes."""

    code_bytes = 90

    @staticmethod
    def when(attrs: TransposeAttrs, q: NodeTypes[Any]) -> str:
        rank = len(attrs.perm) - 1
        fits = AXES < rank <= MOST
        return "" if fits else f"want {AXES + 1}..{MOST} axes after the batch, got {rank}"

    @staticmethod
    def geometry(attrs: TransposeAttrs, q: NodeTypes[Any]) -> Mapping[str, int]:
        shape, element = q.inputs.x.shape, q.inputs.x.dtype.size_bytes
        found = {"element": element, "elements": q.output.elements, "axes": len(attrs.perm) - 1}
        for k, axis in enumerate(attrs.perm[1:]):
            found[f"size[{k}]"] = shape[axis]
            found[f"stride[{k}]"] = element * math.prod(shape[axis + 1 :])
        return found

    @staticmethod
    def cycles(attrs: TransposeAttrs, q: NodeTypes[Any]) -> float:
        return 4.0 * q.output.size_bytes + 20.0 * len(attrs.perm) * q.output.elements
