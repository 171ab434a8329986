"""How a random graph grows by each operator that moves codes and computes none."""

from __future__ import annotations

from itertools import pairwise

from isobit.core.dtypes import DType
from isobit.core.types import TensorType
from isobit.ops.concat.op import ConcatAttrs, ConcatInputs
from isobit.ops.mirror_pad.op import Mirror, MirrorPadAttrs, MirrorPadInputs
from isobit.ops.pad.op import PadAttrs, PadInputs
from isobit.ops.requantize.op import RequantizeAttrs, RequantizeInputs
from isobit.ops.reshape.op import ReshapeAttrs, ReshapeInputs
from isobit.ops.split.op import SplitAttrs, SplitInputs
from isobit.ops.strided_slice.op import StridedSliceAttrs, StridedSliceInputs
from isobit.ops.transpose.op import TransposeAttrs, TransposeInputs

from .graphs import Draft, Refused


def concat(d: Draft) -> None:
    """Values of one shape but for an axis; other encodings are requantised first."""
    x = d.value()
    kind = d.values[x]
    axis = d.integer(1, len(kind.shape) - 1)

    def fits(other: TensorType) -> bool:
        return (
            other.dtype is kind.dtype
            and len(other.shape) == len(kind.shape)
            and other.shape[:axis] == kind.shape[:axis]
            and other.shape[axis + 1 :] == kind.shape[axis + 1 :]
        )

    found = [x, *(d.choose(d.names(fits)) for _ in range(d.integer(1, 2)))]
    joined = []
    for name in found:
        if d.values[name].encoding != kind.encoding:
            if kind.dtype is not DType.S8:
                raise Refused
            inputs = RequantizeInputs(name)
            name = d.requantised("requantize", inputs, RequantizeAttrs(), encoding=kind.encoding)
        joined.append(name)
    d.rng.shuffle(joined)
    d.emit("concat", ConcatInputs(tuple(joined)), ConcatAttrs(axis))


def split(d: Draft) -> None:
    x = d.value(lambda t: max(t.shape[1:]) > 1)
    shape = d.values[x].shape
    axis = d.choose([i for i in range(1, len(shape)) if shape[i] > 1])
    cuts = sorted({d.integer(1, shape[axis] - 1) for _ in range(d.integer(1, 2))})
    edges = [0, *cuts, shape[axis]]
    sizes = tuple(b - a for a, b in pairwise(edges))
    d.emit("split", SplitInputs(x), SplitAttrs(axis, sizes))


def pad(d: Draft) -> None:
    x = d.codes8()
    widths = tuple((d.integer(0, 2), d.integer(0, 2)) for _ in d.values[x].shape[1:])
    value = None if d.chance(0.6) else d.integer(-128, 127)
    d.emit("pad", PadInputs(x), PadAttrs(widths, value))


def mirror_pad(d: Draft) -> None:
    x = d.value()
    mode = d.choose(Mirror)
    widths = []
    for size in d.values[x].shape[1:]:
        most = min(3, size if mode is Mirror.SYMMETRIC else size - 1)
        widths.append((d.integer(0, most), d.integer(0, most)) if d.chance(0.6) else (0, 0))
    d.emit("mirror_pad", MirrorPadInputs(x), MirrorPadAttrs(tuple(widths), mode))


def strided_slice(d: Draft) -> None:
    """Whole axes, crops, steps, and axes turned round."""
    x = d.value()
    taken: list[range] = []
    for size in d.values[x].shape[1:]:
        found = range(size)
        if d.chance(0.5):
            found = found[d.integer(0, min(2, size - 1)) :]
            found = found[: len(found) - d.integer(0, min(2, len(found) - 1))]
        found = found[:: 2 if d.chance(0.2) else 1]
        taken.append(found[::-1] if d.chance(0.2) else found)
    attrs = StridedSliceAttrs(
        tuple(r[0] for r in taken), tuple(r.step for r in taken), tuple(len(r) for r in taken)
    )
    d.emit("strided_slice", StridedSliceInputs(x), attrs)


def reshape(d: Draft) -> None:
    """To a vector, to an image, or another image."""
    x = d.value()
    count = d.values[x].elements
    if d.chance(0.4):
        shape: tuple[int, ...] = (count,)
    else:
        first = d.choose([n for n in range(1, count + 1) if count % n == 0])
        rest = count // first
        second = d.choose([n for n in range(1, rest + 1) if rest % n == 0])
        shape = (first, second, rest // second)
    d.emit("reshape", ReshapeInputs(x), ReshapeAttrs(shape))


def transpose(d: Draft) -> None:
    x = d.value()
    perm = (0, *(int(i) + 1 for i in d.rng.permutation(len(d.values[x].shape) - 1)))
    d.emit("transpose", TransposeInputs(x), TransposeAttrs(perm))
