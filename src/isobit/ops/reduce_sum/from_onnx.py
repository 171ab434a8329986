"""ONNX's ReduceSum, ReduceMean, and norms by them."""

from __future__ import annotations

import math
from fractions import Fraction

from isobit.ops.foreign import Operand, onnx
from isobit.ops.global_avg_pool.op import GlobalAvgPoolAttrs, GlobalAvgPoolInputs
from isobit.ops.logical import Along, Fixed, LogicalCall
from isobit.ops.onnx import (
    CODES,
    code_bounds,
    done,
    finished,
    rescaled,
    scale,
    tabulated,
    target,
)
from isobit.ops.onnx_compose import reduced as total
from isobit.ops.onnx_compose import require_reals, unary
from isobit.ops.reduce_sum.op import ReduceSumAttrs, ReduceSumInputs


@onnx("ReduceSum", "ReduceMean")
def reduce(call: LogicalCall) -> None:
    """x: any shape; axes stored."""
    x, axes, mean = call.activation(), reduced_axes(call), call.code == "ReduceMean"
    if mean and call.is_float and axes == (2, 3) and len(x.shape) == 4 and x.shape[0] == 1:
        y = target(call, (1, x.shape[1], 1, 1))
        pool = Fixed("global_avg_pool", lambda n: GlobalAvgPoolInputs(n[0]), GlobalAvgPoolAttrs())
        call.step(pool, [x], y)
        done(call, y)
        return
    reduced(call, x, axes, mean=mean)


@onnx("ReduceL1", "ReduceL2", "ReduceSumSquare")
def norm(call: LogicalCall) -> None:
    """x: any shape; axes stored. Float graphs."""
    require_reals(call, "Normalise after the network, or calibrate the float graph.")
    x, axes = call.activation(), reduced_axes(call)
    terms = unary(call, "abs" if call.code == "ReduceL1" else "square", x)
    found = total(call, terms, axes, mean=False)
    finished(call, unary(call, "sqrt", found) if call.code == "ReduceL2" else found)


def reduced(call: LogicalCall, x: Operand, axes: tuple[int, ...], *, mean: bool) -> None:
    """Record a sum or a mean; the result loses the reduced axes if the output has lost them."""
    if not axes:
        _bounded(call, x)
        return
    terms = math.prod(x.shape[axis] for axis in axes)
    names, clamp = {}, (-128, 127)
    if not call.is_float:
        real = scale(call, x) / scale(call, call.output()) * (Fraction(1, terms) if mean else 1)
        largest = max(127 - x.zero, x.zero + 128)
        names, clamp = rescaled(call, real, largest * terms), code_bounds(call, call.output())
    shape = tuple(1 if axis in axes else size for axis, size in enumerate(x.shape))
    y = target(call, shape)
    kind = Along(
        "reduce_sum",
        lambda n: ReduceSumInputs(n[0], **names),
        lambda at: ReduceSumAttrs(at.axes(axes), mean=mean, clamp=clamp),
        axes,
    )
    call.step(kind, [x], y)
    done(call, y)


def _bounded(call: LogicalCall, x: Operand) -> None:
    """Record a reduction of single elements: x itself, within the activation that is fused."""
    unbounded = call.is_float or call.bounds == (-math.inf, math.inf)
    if unbounded or code_bounds(call, call.output()) == CODES:
        finished(call, x)
        return
    y = target(call, x.shape)
    tabulated(call, lambda v: v, x, y)
    done(call, y)


def reduced_axes(call: LogicalCall) -> tuple[int, ...]:
    """Return the axes of a reduction, ascending, without those of size 1."""
    x = call.activation()
    rank = len(x.shape)
    if "axes" in call.options:
        given = tuple(call.options["axes"])
    elif call.optional(1) is not None:
        given = tuple(call.constant(1, "axes").reshape(-1).tolist())
    else:
        given = ()
    if not given and not call.option("noop_with_empty_axes", 0):
        given = tuple(range(rank))
    found = {call.axis(int(axis), rank) for axis in given}
    return tuple(sorted(axis for axis in found if x.shape[axis] > 1))
