"""What the kernels of all dynamic operators share: everything but the geometry of the sums.

An operator has two, since an operand that a node does not have is no parameter in C: `reference`
for inputs with a fixed step, `chained` for those with an exponent of their own. Both end in
`isobit_dynamic.h`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from isobit.core.dtypes import DType
from isobit.core.types import AnyArray
from isobit.ops.base import Kernel, NodeTypes, Packed
from isobit.ops.dynamic import DynamicInputs, DynamicOp
from isobit.ops.window import Window


class DynamicKernel(Kernel):
    """Every sum into scratch, then one pass that makes codes of them: every core.

    A subclass gives `geometry`, `definition` and `mac_cycles`; its own subclass with `chained` is
    the kernel of inputs with an exponent.
    """

    headers = ("isobit_dynamic.h",)
    definition: ClassVar[type[DynamicOp[Any]]]
    """The operator, whose cost the cycles follow."""
    mac_cycles: ClassVar[float]
    """Rough cycles of one multiply-accumulate."""
    chained: ClassVar[bool] = False
    """Whether the input has an exponent of its own; the unit of the sums is then known at run time
    only.
    """

    @classmethod
    def when(cls, attrs: Any, q: NodeTypes[Any]) -> str:
        """Whether carriers are s8, and an exponent is there or not as `chained` says."""
        dtypes = [k.dtype for k in (q.inputs.x, q.inputs.w, *q.outputs)]
        if dtypes != [DType.S8, DType.S8, DType.S8, DType.S16]:
            return f"want s8 in, s8 weights, s8 and s16 out, got {[d.value for d in dtypes]}"
        if (q.inputs.e is not None) is not cls.chained:
            return f"want an input {'with' if cls.chained else 'without'} an exponent"
        return ""

    @staticmethod
    def pack(attrs: Any, q: NodeTypes[Any], consts: DynamicInputs[AnyArray]) -> Sequence[Packed]:
        """Exponents, w, b; an absent bias is a null pointer."""
        numbers = np.asarray([attrs.product, attrs.bias], dtype=np.int32)
        return [
            Packed("quant", numbers, struct="isobit_dynamic_quant", fields=("product", "bias")),
            Packed("w", consts.w),
            Packed("b", np.empty(0, dtype=np.int32) if consts.b is None else consts.b),
        ]

    @staticmethod
    def scratch_bytes(attrs: Any, q: NodeTypes[Any]) -> int:
        """Every sum, as int32, until the largest is known."""
        found: int = 4 * q.outputs[0].elements
        return found

    @classmethod
    def cycles(cls, attrs: Any, q: NodeTypes[Any]) -> float:
        """Products, and 50 for an output: its unit, its magnitude, its code."""
        return cls.mac_cycles * cls.definition.cost(attrs, q).macs + 50.0 * q.outputs[0].elements


def window_geometry(window: Window, groups: int, q: NodeTypes[Any]) -> Mapping[str, int]:
    """Return the fields of the C type `isobit_dynamic_window`."""
    return {
        **window.geometry(q.inputs.x.shape, q.outputs[0].shape),
        "groups": groups,
        "has_bias": int(q.inputs.b is not None),
    }
