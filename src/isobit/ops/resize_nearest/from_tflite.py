"""TFLite's RESIZE_NEAREST_NEIGHBOR."""

from __future__ import annotations

from isobit.ops.foreign import Call, tflite
from isobit.ops.resize_nearest.op import ResizeAttrs, ResizeInputs
from isobit.ops.tflite import computed, require_same_encoding, require_types
from isobit.ops.window import Pair


@tflite("RESIZE_NEAREST_NEIGHBOR")
def resize_nearest_neighbor(call: Call) -> None:
    """x: [1,H,W,C]; size: stored. Source: TFLM `kernels/resize_nearest_neighbor.cc`."""
    attrs = resized(call, "s16")
    call.result("resize_nearest", ResizeInputs(computed(call)), attrs)


def resized(call: Call, *others: str) -> ResizeAttrs:
    """Return the attributes of either resize operator; others: its carriers beside s8."""
    require_types(call, "s8", *others)
    require_same_encoding(call, 0)
    x, y = call.operand(0), call.output()
    if len(x.shape) != 4 or x.shape[0] != 1:
        raise call.unsupported("shape", "[1,H,W,C]", str(list(x.shape)), "Use a batch of 1.")
    size = call.integers(1, "size")
    if len(size) != 2 or y.shape != (1, *size, x.shape[3]):
        got = f"{list(size)} for an output of {list(y.shape)}"
        raise call.unsupported("size", "rows and columns of the output", got, "")
    pair: Pair = (size[0], size[1])
    aligned = bool(call.option("align_corners", False))
    return ResizeAttrs(pair, aligned, bool(call.option("half_pixel_centers", False)))
