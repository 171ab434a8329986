"""ONNX's Gemm and MatMul with constant weights."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from isobit.core.types import Affine, AnyArray, IntArray, TensorType
from isobit.ir.graph import Inputs
from isobit.ops.add.op import AddAttrs, AddInputs
from isobit.ops.conv2d.from_onnx import weighted_inputs
from isobit.ops.conv2d.op import Conv2dAttrs
from isobit.ops.foreign import Operand, onnx
from isobit.ops.linear.op import LinearAttrs
from isobit.ops.logical import Elementwise, Features, Last, LogicalCall, Permuted
from isobit.ops.onnx import centred, code_bounds, done, sums, target, weight_type
from isobit.ops.onnx_wide import wide
from isobit.ops.weighted import WeightedInputs


@onnx("Gemm", "QGemm")
def gemm(call: LogicalCall) -> None:
    """Y = alpha * a * b + beta * c: a [M,K] computed, b [K,N] stored, c stored or computed."""
    a, b = call.activation(), call.operand(1)
    if len(a.shape) != 2 or len(b.shape) != 2:
        raise call.unsupported("shapes", "[M,K] and [K,N]", f"{list(a.shape)}, {list(b.shape)}")
    if call.option("transA", 0):
        turned = call.temp("turned", a.shape[::-1], a.type)
        call.step(Permuted((1, 0)), [a], turned)
        a = turned
    weights = centred(call, b)
    rows = weights if call.option("transB", 0) else weights.T
    alpha, beta = float(call.option("alpha", 1.0)), float(call.option("beta", 1.0))
    c = call.optional(2)
    if call.is_float:
        rows = rows * alpha
        if c is not None and c.data is not None:
            scaled = np.asarray(c.data) * beta
            c = Operand(c.label, c.shape, c.type, c.value, scaled)
    elif alpha != 1.0 or (beta != 1.0 and c is not None):
        raise call.unsupported(
            "alpha, beta", "1 in quantised graphs", f"{alpha}, {beta}", "Fold them into scales."
        )
    product(call, a, b, rows, c, beta, 0 if call.option("transB", 0) else 1)


@onnx("MatMul", "QLinearMatMul", "MatMulInteger")
def matmul(call: LogicalCall) -> None:
    """One operand is stored: [..., K] times [K,N], or [M,K] times [..., K, N]."""
    a, b = call.operand(0), call.operand(1)
    if a.is_const and not b.is_const:
        _from_left(call, a, b)
        return
    weights = centred(call, b)
    if weights.ndim == 1:
        weights = weights[:, None]
    if weights.ndim > 2 and weights.size == weights.shape[-1] * weights.shape[-2]:
        weights = weights.reshape(weights.shape[-2:])
    if weights.ndim != 2 or a.is_const or not a.shape or a.shape[-1] != weights.shape[0]:
        got = f"{list(a.shape)} and {list(b.shape)}"
        raise call.unsupported(
            "shapes", "[..., K] and one matrix [K,N]", got, "Use one matrix for the whole batch."
        )
    product(call, a, b, weights.T, call.optional(2), 1.0, len(b.shape) - 1)


def _from_left(call: LogicalCall, w: Operand, x: Operand) -> None:
    """Record w [M,K] times x [..., K, N]: the product of the transposed ones, transposed."""
    weights, rank = centred(call, w), len(x.shape)
    if weights.ndim != 2 or rank < 2 or x.shape[-2] != weights.shape[1]:
        got = f"{list(w.shape)} and {list(x.shape)}"
        raise call.unsupported("shapes", "one matrix [M,K] and [..., K, N]", got, "Export a Gemm.")
    swap = (*range(rank - 2), rank - 1, rank - 2)
    turned = call.temp("turned", tuple(x.shape[axis] for axis in swap), x.type)
    call.step(Permuted(swap), [x], turned)
    out = call.output()
    y = call.temp("product", (*turned.shape[:-1], weights.shape[0]), out.type)
    product(call, turned, w, weights, None, 1.0, 0, y)
    call.step(Permuted(swap), [y], out)


def product(
    call: LogicalCall,
    x: Operand,
    w: Operand,
    rows: AnyArray,
    c: Operand | None,
    beta: float,
    channel: int,
    y: Operand | None = None,
) -> None:
    """Record x [..., K] times `rows` [N,K] transposed, plus c; `channel`: the axis of N in w."""
    outputs, taps = rows.shape
    shape = (*x.shape[:-1], outputs)
    fits = c is None or (c.data is not None and _is_row(c, outputs))
    if c is not None and not fits and not call.is_float:
        raise call.unsupported(
            "bias", f"stored, [{outputs}]", str(list(c.shape)), "Add it in an operator after."
        )
    numbers = sums(call, x, w, rows, c if fits else None, channel)
    aim = y or (target(call, shape) if fits else call.temp("product", shape, call.output().type))
    clamp = (-128, 127) if call.is_float else code_bounds(call, call.output())
    kind, attrs = weight_type(call, w, 0), LinearAttrs(clamp)
    if x.type.elements == taps:

        def inputs(name: str, columns: IntArray, order: IntArray) -> Inputs[str]:
            packed = wide(rows[order][:, columns])
            # Scales follow their rows, so that the annotation stays true.
            stored = call.build.const(w.value, _ordered(kind, order), packed.weights, w.label)
            found = numbers.names(call, order)
            source = packed.read(call.build, name)
            return WeightedInputs(
                source, stored, found["b"], mult=found["mult"], shift=found["shift"]
            )

        call.step(Features("linear", inputs, attrs), [x], aim)
    else:
        packed = wide(rows.reshape(outputs, 1, 1, taps))
        name = call.build.const(w.value, kind, packed.weights, w.label)
        made = weighted_inputs(call, name, numbers, packed)
        step = Last("conv2d", made, Conv2dAttrs(clamp=clamp), len(x.shape) - 1, rows=True)
        call.step(step, [x], aim)
    if c is not None and not fits:
        _added(call, aim, c, beta)
    elif y is None:
        done(call, aim)


def _is_row(c: Operand, outputs: int) -> bool:
    """Whether c has one number, or one for every output."""
    count = c.type.elements
    return count == 1 or (count == outputs and c.shape[-1] == outputs)


def _added(call: LogicalCall, y: Operand, c: Operand, beta: float) -> None:
    """Record the sum of a product and a computed or two-dimensional c."""
    if beta != 1.0 and c.data is None:
        raise call.unsupported("beta", "1 for a computed c", str(beta), "Scale c before.")
    call.step(Elementwise("add", lambda n: AddInputs(n[0], n[1]), AddAttrs()), [y, c])


def _ordered(kind: TensorType, order: IntArray) -> TensorType:
    encoding = kind.encoding
    if not isinstance(encoding, Affine) or len(encoding.scale) == 1:
        return kind
    scale = tuple(encoding.scale[row] for row in order)
    return replace(kind, encoding=replace(encoding, scale=scale))
