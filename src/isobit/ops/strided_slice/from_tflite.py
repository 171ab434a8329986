"""TFLite's SLICE and STRIDED_SLICE, and what is made of slices: REVERSE_V2 and GATHER."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from isobit.core.errors import IsobitError
from isobit.core.types import Shape
from isobit.ops.concat.from_tflite import joined
from isobit.ops.foreign import Call, tflite
from isobit.ops.movement import axis_of, framed, lead_of, numbers, require_one_encoding
from isobit.ops.strided_slice.op import StridedSliceAttrs, StridedSliceInputs
from isobit.ops.tflite import finish


@dataclass(frozen=True, slots=True)
class Cut:
    """What is taken along an axis of x."""

    begin: int
    stride: int
    size: int
    kept: bool = True
    """Whether the output has the axis."""


@tflite("SLICE")
def slices(call: Call) -> None:
    """begin, size: stored, one number per axis; a size of -1 reaches to the end. Source: TFLM
    `kernels/slice.cc`.
    """
    x = call.operand(0)
    require_one_encoding(call, x)
    rank = len(x.shape)
    begins, sizes = numbers(call, 1, "begin", rank), numbers(call, 2, "size", rank)
    cuts = []
    for axis, (whole, begin, size) in enumerate(zip(x.shape, begins, sizes, strict=True)):
        found = whole - begin if size == -1 else size
        if not (0 <= begin < whole and 1 <= found <= whole - begin):
            want = f"indices within 0..{whole - 1}, at least one"
            raise _outside(call, axis, want, f"begin {begin}, size {size}")
        cuts.append(Cut(begin, 1, found))
    _cut(call, tuple(cuts), tuple(cut.size for cut in cuts))


@tflite("STRIDED_SLICE")
def strided_slice(call: Call) -> None:
    """begin, end, stride: stored. Masks as in NumPy: `begin_mask` and `end_mask` leave the bound
    out, `shrink_axis_mask` takes one index and drops the axis, `ellipsis_mask` stands for all axes
    not named, `new_axis_mask` adds one of size 1.

    Source: TFLite `strided_slice_logic.h`; TensorFlow `ValidateStridedSliceOp` for the last two,
    which TFLM does not run.
    """
    x = call.operand(0)
    require_one_encoding(call, x)
    if call.option("offset", False):
        raise call.unsupported(
            "offset", "false", "true", "Runtimes disagree about it; convert with absolute ends."
        )
    cuts: list[Cut] = []
    shape: list[int] = []
    for position in _positions(call, x.shape):
        if position is None:
            shape.append(1)
            continue
        cut = _range(call, len(cuts), x.shape[len(cuts)], position)
        cuts.append(cut)
        if cut.kept:
            shape.append(cut.size)
    _cut(call, tuple(cuts), tuple(shape))


@tflite("REVERSE_V2")
def reverse(call: Call) -> None:
    """axes: stored. Source: TFLM `kernels/reverse.cc`."""
    x = call.operand(0)
    require_one_encoding(call, x)
    rank = len(x.shape)
    turned = {axis_of(call, axis, rank) for axis in call.integers(1, "axes")}
    cuts = (
        Cut(size - 1, -1, size) if axis in turned else Cut(0, 1, size)
        for axis, size in enumerate(x.shape)
    )
    _cut(call, tuple(cuts), x.shape)


@tflite("GATHER")
def gather(call: Call) -> None:
    """x: any shape; indices: stored, along one axis. Runs of indices of one step are slices, joined
    where there are several. Source: TFLM `kernels/gather.cc`.
    """
    x, y = call.operand(0), call.output()
    require_one_encoding(call, x)
    if call.operand(1).data is None:
        raise call.unsupported(
            "indices",
            "constants",
            "values computed at run time",
            "An embedding has no counterpart here: look the rows up before the network, and let it "
            "take them as its input.",
        )
    rank, batched = len(x.shape), int(call.option("batch_dims", 0))
    if batched:
        raise call.unsupported("batch_dims", "0", str(batched), "Gather along one axis.")
    axis = axis_of(call, int(call.option("axis", 0)), rank)
    whole, indices = (x.shape or (1,))[axis], call.integers(1, "indices")
    shape = (*x.shape[:axis], *call.operand(1).shape, *x.shape[axis + 1 :])
    if not indices or not all(0 <= i < whole for i in indices) or shape != y.shape:
        want = f"within 0..{whole - 1}, for the output {list(y.shape)}"
        raise call.unsupported("indices", want, str(indices), "The file is damaged.")
    name = call.boxed(x)
    parts = [_run(call, name, axis + 1, run) for run in _runs(indices)]
    call.unboxed(joined(call, parts, axis + 1))


def _runs(indices: tuple[int, ...]) -> list[range]:
    """Return the indices as as few progressions as the greedy choice makes."""
    runs: list[range] = []
    start = 0
    while start < len(indices):
        stop = start + 1
        step = indices[stop] - indices[start] if stop < len(indices) else 0
        while step and stop < len(indices) and indices[stop] - indices[stop - 1] == step:
            stop += 1
        step = step or 1
        runs.append(range(indices[start], indices[start] + (stop - start) * step, step))
        start = stop
    return runs


def _run(call: Call, name: str, axis: int, run: range) -> str:
    """Return the entries of a value at `run` along an axis."""
    kind = call.build.type_of(name)
    if run == range(kind.shape[axis]):
        return name
    whole = kind.shape[1:]
    at = axis - 1
    attrs = StridedSliceAttrs(
        tuple(run[0] if k == at else 0 for k in range(len(whole))),
        tuple(run.step if k == at else 1 for k in range(len(whole))),
        tuple(len(run) if k == at else size for k, size in enumerate(whole)),
    )
    cut = kind.with_shape((1, *attrs.size))
    return call.emit("strided_slice", StridedSliceInputs(name), attrs, cut)


def _positions(call: Call, shape: Shape) -> Iterator[int | None]:
    """Yield for every axis of x, in order, its entry in begin, end and stride, -1 where none names
    it; and None for every new axis.
    """
    count = call.operand(1).type.elements
    ellipsis, new = call.option("ellipsis_mask", 0), call.option("new_axis_mask", 0)
    named = sum(not (ellipsis | new) >> i & 1 for i in range(count))
    if named > len(shape) or bin(ellipsis).count("1") > 1:
        raise call.unsupported(
            "begin", f"at most {len(shape)} axes, one ellipsis", str(named), "The file is damaged."
        )
    free = len(shape) - named
    for i in range(count):
        if ellipsis >> i & 1:
            yield from (-1,) * free
            free = 0
        else:
            yield None if new >> i & 1 else i
    yield from (-1,) * free


def _range(call: Call, axis: int, whole: int, position: int) -> Cut:
    """Return what entry `position` takes of an axis of `whole` elements."""
    if position < 0:
        return Cut(0, 1, whole)
    count = call.operand(1).type.elements
    begin, end, stride = (
        numbers(call, index, what, count)[position]
        for index, what in ((1, "begin"), (2, "end"), (3, "stride"))
    )
    got = f"begin {begin}, end {end}, stride {stride}"
    if stride == 0:
        raise _outside(call, axis, "a stride that is not 0", got)
    open_begin, open_end, shrinks = (
        bool(call.option(mask, 0) >> position & 1)
        for mask in ("begin_mask", "end_mask", "shrink_axis_mask")
    )
    if shrinks:
        first = 0 if open_begin else begin + whole * (begin < 0)
        if not 0 <= first < whole or stride < 0:
            raise _outside(call, axis, f"one index within {-whole}..{whole - 1}", got)
        return Cut(first, 1, 1, kept=False)
    found = range(whole)[None if open_begin else begin : None if open_end else end : stride]
    if not found:
        raise _outside(call, axis, "at least one element", got)
    return Cut(found[0], stride, len(found))


def _cut(call: Call, cuts: tuple[Cut, ...], shape: Shape) -> None:
    """Emit the node; `shape` is what the output's should be."""
    x, y = call.operand(0), call.output()
    if shape != y.shape:
        raise call.unsupported(
            "shape of the output", str(list(shape)), str(list(y.shape)), "The file is damaged."
        )
    cuts = cuts or (Cut(0, 1, 1),)
    whole = x.shape or (1,)
    if all(cut.size == size and cut.stride > 0 for cut, size in zip(cuts, whole, strict=True)):
        call.unboxed(call.value(x))
        return
    # The batch has one element, and one element is all that can be taken of it.
    lead = lead_of((x,), touches_first=False)
    taken = cuts if lead else cuts[1:]
    attrs = StridedSliceAttrs(
        tuple(cut.begin for cut in taken),
        tuple(cut.stride for cut in taken),
        tuple(cut.size for cut in taken),
    )
    inputs = StridedSliceInputs(framed(call, x, lead))
    finish(call, "strided_slice", inputs, attrs, shape=(1, *attrs.size))


def _outside(call: Call, axis: int, want: str, got: str) -> IsobitError:
    fix = "Convert the model with a fixed input shape; slices then have fixed bounds."
    return call.unsupported(f"slice of axis {axis}", want, got, fix)
