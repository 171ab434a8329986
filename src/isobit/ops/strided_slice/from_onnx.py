"""ONNX's Slice, and Gather of constant indices that follow each other evenly."""

from __future__ import annotations

import numpy as np

from isobit.ops.foreign import onnx
from isobit.ops.logical import Along, LogicalCall, Placed
from isobit.ops.onnx import finished
from isobit.ops.strided_slice.op import StridedSliceAttrs, StridedSliceInputs


@onnx("Slice")
def slice_(call: LogicalCall) -> None:
    """x: any shape; starts, ends, axes and steps stored."""
    x = call.activation()
    rank = len(x.shape)
    starts, ends = (call.constant(i, "bounds").reshape(-1).tolist() for i in (1, 2))
    given = call.optional(3)
    axes = range(len(starts)) if given is None else call.constant(3, "axes").reshape(-1).tolist()
    steps = [1] * len(starts)
    if call.optional(4) is not None:
        steps = call.constant(4, "steps").reshape(-1).tolist()
    ranges = [range(size) for size in x.shape]
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        own = call.axis(int(axis), rank)
        ranges[own] = range(x.shape[own])[slice(int(start), _end(int(end), int(step)), int(step))]
    taken(call, ranges)


@onnx("Gather")
def gather(call: LogicalCall) -> None:
    """x: computed; indices stored, evenly spaced; one index takes its axis away."""
    x = call.activation()
    axis = call.axis(int(call.option("axis", 0)), len(x.shape))
    indices = call.constant(1, "indices")
    size = x.shape[axis]
    beyond = [int(i) for i in indices.reshape(-1) if not -size <= i < size]
    if beyond:
        wanted = f"from {-size} to {size - 1}"
        raise call.unsupported("indices", wanted, str(beyond[:4]), "The file is damaged.")
    flat = [int(i) % size for i in indices.reshape(-1)]
    steps = set(np.diff(flat).tolist())
    if len(steps) > 1 or not flat or 0 in steps:
        raise call.unsupported("indices", "evenly spaced", str(flat[:4]), "Use Slice and Concat.")
    step = steps.pop() if steps else 1
    ranges = [range(size) for size in x.shape]
    ranges[axis] = range(flat[0], flat[-1] + (1 if step > 0 else -1), step)
    taken(call, ranges)


def taken(call: LogicalCall, ranges: list[range]) -> None:
    """Record that of every axis a range of indices is taken."""
    x, out = call.activation(), call.output()
    shape = tuple(len(r) for r in ranges)
    if 0 in shape:
        raise call.unsupported("result", "elements", f"none: {list(shape)}", "Leave it out.")
    touched = tuple(a for a, r in enumerate(ranges) if r != range(x.shape[a]))
    if not touched:
        finished(call, call.viewed(x, out.shape) if x.shape != out.shape else x)
        return
    y = out if shape == out.shape and x.type.encoding == out.type.encoding else None
    aim = y or call.temp("taken", shape, x.type)

    def attrs(at: Placed) -> StridedSliceAttrs:
        placed = at.spread(ranges)
        return StridedSliceAttrs(
            tuple(r.start for r in placed), tuple(r.step for r in placed), tuple(map(len, placed))
        )

    call.step(Along("strided_slice", lambda n: StridedSliceInputs(n[0]), attrs, touched), [x], aim)
    if y is None:
        finished(call, aim)


def _end(end: int, step: int) -> int | None:
    """ONNX writes a large negative end for "through the first element"."""
    return None if step < 0 and end < -(1 << 31) + 2 else end
