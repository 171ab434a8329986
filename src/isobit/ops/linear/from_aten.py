"""PyTorch's matrix products with constant weights."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from isobit.ops.aten import as_onnx
from isobit.ops.foreign import Operand, aten
from isobit.ops.linear.from_onnx import matmul as onnx_matmul
from isobit.ops.linear.from_onnx import product
from isobit.ops.logical import LogicalCall
from isobit.ops.onnx import centred


@aten("linear.default")
def linear(call: LogicalCall) -> None:
    """x: [..., I]; w: [O, I]; b: [O] or absent."""
    w = call.operand(1)
    product(call, call.activation(), w, centred(call, w), call.optional(2), 1.0, 0)


@aten("mm.default", "matmul.default")
def matmul(call: LogicalCall) -> None:
    """x: [..., I]; w: [I, O], a constant."""
    w = _matrix(call, 1)
    product(call, call.activation(), w, centred(call, w).T, None, 1.0, 1)


@aten("bmm.default")
def bmm(call: LogicalCall) -> None:
    """a: [1, M, K]; b: [1, K, N]; one of them a constant."""
    a, b = call.operand(0), call.operand(1)
    if a.is_const == b.is_const or a.shape[0] != 1:
        raise call.unsupported(
            "operands",
            "[1, M, K] and [1, K, N], one of them a constant",
            f"{list(a.shape)} and {list(b.shape)}, both computed at run time",
            "There is no product of two activations yet; multiply by parameters.",
        )
    plain = [call.viewed(x, x.shape[1:]) if x.is_const else x for x in (a, b)]
    onnx_matmul(as_onnx(call, "MatMul", plain))


@aten("addmm.default")
def addmm(call: LogicalCall) -> None:
    """`beta * b + alpha * (x @ w)` with a constant w [I, O]."""
    alpha, beta = float(call.option("alpha", 1)), float(call.option("beta", 1))
    w, b = _matrix(call, 2), call.operand(0)
    rows = centred(call, w).T
    if (alpha, beta) != (1.0, 1.0):
        if not call.is_float or b.data is None:
            raise call.unsupported(
                "alpha, beta", "1, 1", f"{alpha:g}, {beta:g}", "Scale the weights and the bias."
            )
        rows, b = rows * alpha, replace(b, data=np.asarray(b.data) * beta)
    product(call, call.activation(1), w, rows, b, 1.0, 1)


def _matrix(call: LogicalCall, index: int) -> Operand:
    found = call.operand(index)
    if found.is_const and len(found.shape) == 2:
        return found
    got = f"stored {list(found.shape)}" if found.is_const else "a value computed at run time"
    raise call.unsupported(
        "second operand", "a constant matrix", got, "Multiply by a parameter [I, O]."
    )
