"""TFLite's TRANSPOSE."""

from __future__ import annotations

from isobit.ops.axes import moves_nothing
from isobit.ops.foreign import Call, tflite
from isobit.ops.movement import (
    axis_of,
    framed,
    framed_shape,
    lead_of,
    numbers,
    require_one_encoding,
)
from isobit.ops.tflite import finish
from isobit.ops.transpose.op import TransposeAttrs, TransposeInputs


@tflite("TRANSPOSE")
def transpose(call: Call) -> None:
    """Any permutation of any rank. Source: TFLM `kernels/transpose.cc`."""
    x, y = call.operand(0), call.output()
    require_one_encoding(call, x)
    rank = len(x.shape)
    given = numbers(call, 1, "permutation", rank)
    perm = tuple(axis_of(call, axis, rank, "permutation") for axis in given)
    if sorted(perm) != list(range(rank)) or y.shape != tuple(x.shape[axis] for axis in perm):
        raise call.unsupported(
            "permutation",
            f"one that makes {list(y.shape)} of {list(x.shape)}",
            str(given),
            "The file is damaged.",
        )
    if moves_nothing(x.shape, perm):
        call.unboxed(call.value(x))
        return
    lead = lead_of((x, y), touches_first=perm[0] != 0)
    attrs = TransposeAttrs((*range(lead), *(axis + lead for axis in perm)))
    inputs = TransposeInputs(framed(call, x, lead))
    finish(call, "transpose", inputs, attrs, shape=framed_shape(y.shape, lead))
