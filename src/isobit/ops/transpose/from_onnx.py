"""ONNX's Transpose."""

from __future__ import annotations

from isobit.ops.foreign import onnx
from isobit.ops.logical import LogicalCall, Permuted
from isobit.ops.onnx import finished


@onnx("Transpose")
def transpose(call: LogicalCall) -> None:
    """x: any shape. What it costs follows from who reads it: often nothing."""
    x, y = call.activation(), call.output()
    rank = len(x.shape)
    perm = tuple(int(axis) for axis in call.option("perm", tuple(range(rank))[::-1]))
    if sorted(perm) != list(range(rank)):
        raise call.unsupported("perm", f"a permutation of {rank} axes", str(perm))
    if call.is_float or x.type.encoding == y.type.encoding:
        call.step(Permuted(perm), [x])
        return
    moved = call.temp("moved", y.shape, x.type)
    call.step(Permuted(perm), [x], moved)
    finished(call, moved)
