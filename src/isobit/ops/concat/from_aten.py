"""PyTorch's joins along an axis, and copies of a tensor."""

from __future__ import annotations

from isobit.ops.aten import as_onnx
from isobit.ops.concat.from_onnx import concat
from isobit.ops.foreign import Operand, aten
from isobit.ops.logical import LogicalCall
from isobit.ops.onnx import finished
from isobit.ops.onnx_compose import joined

MOST_COPIES = 64
"""More are a sign that an operator behind should broadcast instead."""


@aten("cat.default", "stack.default")
def cat(call: LogicalCall) -> None:
    """xs: one shape but for the axis `dim`; `stack` puts a new axis there."""
    axis = call.axis(int(call.option("dim", 0)), len(call.output().shape))
    xs = [call.operand(index) for index in range(len(call.inputs))]
    if call.code.startswith("stack"):
        xs = [call.viewed(x, (*x.shape[:axis], 1, *x.shape[axis:])) for x in xs]
    concat(as_onnx(call, "Concat", xs, axis=axis))


@aten("expand.default", "repeat.default", "tile.default")
def expand(call: LogicalCall) -> None:
    """Copies along axes. An `expand` that the operator behind repeats anyway is not needed."""
    x, y = call.activation(), call.output()
    aligned = (1,) * (len(y.shape) - len(x.shape)) + x.shape
    counts = [after // before for before, after in zip(aligned, y.shape, strict=True)]
    if max(counts) > MOST_COPIES:
        raise call.unsupported(
            "copies", f"at most {MOST_COPIES}", str(max(counts)), "Let the operator broadcast."
        )
    found = call.viewed(x, aligned)
    for axis, count in enumerate(counts):
        if count > 1:
            found = _copied(call, found, axis, count)
    finished(call, found)


def _copied(call: LogicalCall, x: Operand, axis: int, count: int) -> Operand:
    """Record copies of x one after the other along an axis."""
    shape = tuple(size * (count if a == axis else 1) for a, size in enumerate(x.shape))
    y = call.temp("copies", shape, x.type)
    joined(call, [x] * count, axis, y)
    return y
