"""ONNX's ReduceMax, ReduceMin and GlobalMaxPool."""

from __future__ import annotations

from isobit.ops.foreign import Operand, onnx
from isobit.ops.logical import Along, LogicalCall
from isobit.ops.onnx import done, finished, image, target
from isobit.ops.reduce_max.op import ReduceMaxAttrs, ReduceMaxInputs
from isobit.ops.reduce_sum.from_onnx import reduced_axes


@onnx("ReduceMax", "ReduceMin")
def reduce_max(call: LogicalCall) -> None:
    """x: any shape; axes stored."""
    _record(call, call.activation(), reduced_axes(call), smallest=call.code == "ReduceMin")


@onnx("GlobalMaxPool")
def global_max_pool(call: LogicalCall) -> None:
    """x: [1,C,H,W] or [1,C,L]."""
    x = image(call, call.activation())
    _record(call, x, tuple(axis for axis in (2, 3) if x.shape[axis] > 1), smallest=False)


def _record(call: LogicalCall, x: Operand, axes: tuple[int, ...], *, smallest: bool) -> None:
    if not axes:
        finished(call, x)
        return
    shape = tuple(1 if axis in axes else size for axis, size in enumerate(x.shape))
    y = target(call, shape, like=x)
    kind = Along(
        "reduce_max",
        lambda n: ReduceMaxInputs(n[0]),
        lambda at: ReduceMaxAttrs(at.axes(axes), smallest),
        axes,
    )
    call.step(kind, [x], y)
    done(call, y)
