"""The readable transpose: every core, every dtype, up to four axes after the batch."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from isobit.ops.base import Kernel, NodeTypes
from isobit.ops.transpose.op import TransposeAttrs

AXES = 4


class Reference(Kernel, op="transpose", function="transpose_bytes"):
    """Writes the output in order, reading with the input's strides."""

    code_bytes = 60

    @staticmethod
    def when(attrs: TransposeAttrs, q: NodeTypes[Any]) -> str:
        rank = len(attrs.perm) - 1
        return "" if rank <= AXES else f"want at most {AXES} axes after the batch, got {rank}"

    @staticmethod
    def geometry(attrs: TransposeAttrs, q: NodeTypes[Any]) -> Mapping[str, int]:
        shape, element = q.inputs.x.shape, q.inputs.x.dtype.size_bytes
        missing = AXES + 1 - len(shape)
        found = {"element": element}
        sizes = (1,) * missing + q.output.shape[1:]
        strides = [0] * missing
        strides += [element * math.prod(shape[axis + 1 :]) for axis in attrs.perm[1:]]
        for letter, size, stride in zip("abcd", sizes, strides, strict=True):
            found |= {letter: size, f"{letter}_stride": stride}
        return found

    @staticmethod
    def cycles(attrs: TransposeAttrs, q: NodeTypes[Any]) -> float:
        return 8.0 * q.output.size_bytes
