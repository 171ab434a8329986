"""The readable lut: every core."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from isobit.core.dtypes import DType
from isobit.core.types import AnyArray
from isobit.ops.base import Kernel, NodeTypes, Packed
from isobit.ops.lut.op import LutAttrs, LutInputs


class Reference(Kernel, op="lut", function="lut_s8"):
    """One load per element, in place."""

    code_bytes = 20

    @staticmethod
    def when(attrs: LutAttrs, q: NodeTypes[Any]) -> str:
        dtypes = (q.inputs.x.dtype, q.output.dtype)
        return "" if dtypes == (DType.S8, DType.S8) else f"want s8, got {[d.value for d in dtypes]}"

    @staticmethod
    def geometry(attrs: LutAttrs, q: NodeTypes[Any]) -> Mapping[str, int]:
        return {"size": q.output.elements}

    @staticmethod
    def pack(attrs: LutAttrs, q: NodeTypes[Any], consts: LutInputs[AnyArray]) -> Sequence[Packed]:
        assert consts.table is not None
        return [Packed("table", consts.table.astype(np.int8))]

    @staticmethod
    def overlap_bytes(attrs: LutAttrs, q: NodeTypes[Any]) -> int | None:
        return 0

    @staticmethod
    def cycles(attrs: LutAttrs, q: NodeTypes[Any]) -> float:
        return 6.0 * q.output.elements
