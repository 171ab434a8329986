"""PyTorch's indexing: slices, single indices, lists of indices, flips."""

from __future__ import annotations

from dataclasses import replace

from isobit.ops.aten import as_onnx, axes_of
from isobit.ops.concat.from_onnx import concat
from isobit.ops.foreign import aten
from isobit.ops.logical import LogicalCall
from isobit.ops.strided_slice.from_onnx import gather, taken

MOST_RUNS = 64
"""More slices would make a graph that nobody wants."""


@aten("slice.Tensor")
def slices(call: LogicalCall) -> None:
    """`x[start:end:step]` along the axis `dim`."""
    x = call.activation()
    axis = call.axis(int(call.option("dim", 0)), len(x.shape))
    start, end = call.options.get("start"), call.options.get("end")
    cut(call, {axis: range(x.shape[axis])[start : end : int(call.option("step", 1))]})


@aten("select.int")
def select(call: LogicalCall) -> None:
    """`x[index]` along the axis `dim`, which disappears."""
    x = call.activation()
    axis = call.axis(int(call.option("dim")), len(x.shape))
    index = int(call.option("index")) % x.shape[axis]
    cut(call, {axis: range(index, index + 1)})


@aten("flip.default")
def flip(call: LogicalCall) -> None:
    """The axes `dims` in reverse."""
    x = call.activation()
    over = axes_of(call, call.option("dims"), len(x.shape))
    cut(call, {axis: range(x.shape[axis])[::-1] for axis in over if x.shape[axis] > 1})


@aten("index.Tensor", "index_select.default")
def index(call: LogicalCall) -> None:
    """`x[:, [0, 2, 4]]`: one constant list of indices. Each run of indices that are equally far
    apart is a slice; several are joined, as in a roll of an axis.
    """
    given = [k for k, operand in enumerate(call.inputs[1:]) if operand is not None]
    if len(given) != 1:
        raise call.unsupported("index", "one list", f"{len(given)}", "Index one axis at a time.")
    selects = call.code.startswith("index_select")
    axis = int(call.option("dim")) if selects else given[0]
    places = call.operand(given[0] + 1)
    if places.data is None or places.data.dtype.kind not in "iu":
        raise call.unsupported("index", "a constant list of integers", "something else", "Fix it.")
    x = call.activation()
    axis = call.axis(axis, len(x.shape))
    runs = _runs([int(place) % x.shape[axis] for place in places.data.reshape(-1)])
    if places.data.ndim != 1 or len(runs) == 1 or len(runs) > MOST_RUNS:
        gather(as_onnx(call, "Gather", [call.operand(0), places], axis=axis))
        return
    parts = []
    for run in runs:
        part = call.temp("part", (*x.shape[:axis], len(run), *x.shape[axis + 1 :]), x.type)
        cut(replace(call, outputs=(part,)), {axis: run})
        parts.append(part)
    concat(as_onnx(call, "Concat", parts, axis=axis))


def _runs(places: list[int]) -> list[range]:
    """Return indices as few ranges: greedy, from the first one on. O(indices)."""
    found: list[range] = []
    for place in places:
        if found:
            last = found[-1]
            step = last.step if len(last) > 1 else place - last[0]
            if step and place == last[-1] + step:
                found[-1] = range(last[0], place + (1 if step > 0 else -1), step)
                continue
        found.append(range(place, place + 1))
    return found


def cut(call: LogicalCall, kept: dict[int, range]) -> None:
    """Record what is read along some axes of the first operand."""
    taken(call, [kept.get(axis, range(size)) for axis, size in enumerate(call.activation().shape)])
