"""PyTorch's sums and differences."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from isobit.ops.add.from_onnx import record
from isobit.ops.aten import second
from isobit.ops.foreign import Operand, aten
from isobit.ops.logical import LogicalCall


@aten("add.Tensor", "add.Scalar", "sub.Tensor", "sub.Scalar", "rsub.Scalar", "rsub.Tensor")
def add(call: LogicalCall) -> None:
    """`a + alpha * b`, `a - alpha * b`, `b - alpha * a`; NumPy broadcasting."""
    a, b = call.operand(0), second(call)
    if call.code.startswith("rsub"):
        a, b = b, a
    subtract = not call.code.startswith("add")
    alpha = float(call.option("alpha", 1))
    if alpha == -1.0:
        subtract, alpha = not subtract, 1.0
    if alpha != 1.0:
        b = _scaled(call, b, alpha)
    record(call, a, b, call.output(), subtract=subtract)


def _scaled(call: LogicalCall, operand: Operand, alpha: float) -> Operand:
    if operand.data is None or not call.is_float:
        raise call.unsupported("alpha", "1 or -1", f"{alpha:g}", "Multiply in an operator before.")
    return replace(operand, data=np.asarray(operand.data) * alpha)
