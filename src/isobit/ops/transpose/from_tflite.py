"""TFLite's TRANSPOSE, DEPTH_TO_SPACE and SPACE_TO_DEPTH."""

from __future__ import annotations

from isobit.core.types import Shape
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


@tflite("DEPTH_TO_SPACE", "SPACE_TO_DEPTH")
def blocks(call: Call) -> None:
    """x: [N,H,W,C]; blocks of b x b pixels become channels, or come from them, block row first.
    Sources: TFLM `kernels/depth_to_space.cc`, `kernels/space_to_depth.cc`.

    In both the block's row changes places with the columns: [H,W,b,bC] and [H,b,W,bC].
    """
    x, y = call.operand(0), call.output()
    require_one_encoding(call, x)
    size, grows = int(call.option("block_size", 0)), call.code == "DEPTH_TO_SPACE"
    deep, wide = (x.shape, y.shape) if grows else (y.shape, x.shape)
    fits = len(deep) == len(wide) == 4 and size > 0
    if not fits or wide != _unfolded(deep, size) or deep[3] % size**2:
        raise call.unsupported(
            "shapes",
            f"[N,H,W,{size * size}C] and [N,{size}H,{size}W,C]",
            f"{list(deep)} and {list(wide)}",
            "The file is damaged.",
        )
    count, rows, columns, channels = deep
    lines = (1, count * rows, columns, size, channels // size)
    if not grows:
        lines = (1, count * rows, size, columns, channels // size)
    name = call.viewed(call.value(x), lines)
    kind = y.type.with_shape((*lines[:2], lines[3], lines[2], lines[4]))
    attrs = TransposeAttrs((0, 1, 3, 2, 4))
    call.unboxed(call.emit("transpose", TransposeInputs(name), attrs, kind))


def _unfolded(deep: Shape, size: int) -> Shape:
    """Return the shape whose blocks of `size` x `size` pixels are the channels of `deep`."""
    return (deep[0], deep[1] * size, deep[2] * size, deep[3] // size**2)
