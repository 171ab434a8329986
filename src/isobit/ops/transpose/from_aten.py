"""PyTorch's operators that exchange axes; most of them cost nothing (`importers/layout`)."""

from __future__ import annotations

from isobit.core.types import Shape
from isobit.ops.aten import as_onnx
from isobit.ops.foreign import aten
from isobit.ops.logical import LogicalCall, Perm, Permuted
from isobit.ops.onnx import finished
from isobit.ops.transpose.from_onnx import transpose as onnx_transpose


@aten("permute.default")
def permute(call: LogicalCall) -> None:
    """Axis k of y is axis `dims[k]` of x."""
    rank = len(call.activation().shape)
    perm = tuple(call.axis(int(axis), rank) for axis in call.option("dims"))
    onnx_transpose(as_onnx(call, "Transpose", perm=perm))


@aten("transpose.int", "t.default")
def transpose(call: LogicalCall) -> None:
    """Two axes exchanged."""
    rank = len(call.activation().shape)
    perm = list(range(rank))
    if rank > 1:
        a, b = (call.axis(int(call.option(f"dim{k}", k)), rank) for k in (0, 1))
        perm[a], perm[b] = perm[b], perm[a]
    onnx_transpose(as_onnx(call, "Transpose", perm=tuple(perm)))


@aten("pixel_shuffle.default")
def pixel_shuffle(call: LogicalCall) -> None:
    """[N, C*r*r, H, W] to [N, C, H*r, W*r]."""
    n, c, h, w = call.operand(0).shape
    r = int(call.option("upscale_factor"))
    _moved(call, (n, c // (r * r), r, r, h, w), (0, 1, 4, 2, 5, 3))


@aten("pixel_unshuffle.default")
def pixel_unshuffle(call: LogicalCall) -> None:
    """[N, C, H*r, W*r] to [N, C*r*r, H, W]."""
    n, c, h, w = call.operand(0).shape
    r = int(call.option("downscale_factor"))
    _moved(call, (n, c, h // r, r, w // r, r), (0, 1, 3, 5, 2, 4))


@aten("channel_shuffle.default")
def channel_shuffle(call: LogicalCall) -> None:
    """Channels [groups, C/groups] in the order [C/groups, groups]."""
    n, c, *rest = call.operand(0).shape
    groups = int(call.option("groups"))
    places = range(3, 3 + len(rest))
    _moved(call, (n, groups, c // groups, *rest), (0, 2, 1, *places))


def _moved(call: LogicalCall, shape: Shape, perm: Perm) -> None:
    """Record the axes of another shape in another order, under the output's shape."""
    x = call.viewed(call.activation(), shape)
    moved = call.temp("moved", tuple(shape[axis] for axis in perm), x.type)
    call.step(Permuted(perm), [x], moved)
    finished(call, call.viewed(moved, call.output().shape))
