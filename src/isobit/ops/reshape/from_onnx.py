"""ONNX's operators that compute nothing: the same elements in the same order, or repeated."""

from __future__ import annotations

import numpy as np

from isobit.ops.foreign import Operand, onnx
from isobit.ops.logical import Elementwise, LogicalCall, Permuted
from isobit.ops.maximum.op import MaximumAttrs, MaximumInputs
from isobit.ops.onnx import finished
from isobit.ops.onnx_compose import number, plus, repeated


@onnx("Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity")
def reshape(call: LogicalCall) -> None:
    """x: any shape; that of the result was inferred when the file was read."""
    x, y = call.activation(), call.output()
    if x.type.elements != y.type.elements:
        raise call.unsupported("shape", f"{x.type.elements} elements", str(list(y.shape)))
    finished(call, x)


@onnx("Dropout")
def dropout(call: LogicalCall) -> None:
    """Nothing, in evaluation mode."""
    training = call.optional(2)
    if len(call.outputs) > 1 or (training is not None and call.constant(2, "mode").any()):
        raise call.unsupported(
            "mode", "evaluation, one output", "training", "Export the model in evaluation mode."
        )
    finished(call, call.activation())


@onnx("Expand", "Tile")
def expand(call: LogicalCall) -> None:
    """x: any shape. Axes of size 1 are broadcast, longer ones (Tile) copied behind each other."""
    x, y = call.activation(), call.output()
    x = call.viewed(x, (1,) * (len(y.shape) - len(x.shape)) + x.shape)
    if 0 in y.shape:
        raise call.unsupported("result", "elements", f"none: {list(y.shape)}", "Leave it out.")
    for axis, size in enumerate(x.shape):
        if 1 < size < y.shape[axis]:
            x = repeated(call, x, axis, y.shape[axis] // size)
    if x.shape != y.shape:
        x = _broadcast(call, x)
    finished(call, x)


def _broadcast(call: LogicalCall, x: Operand) -> Operand:
    """Return x with axes of size 1 repeated, by an operator that broadcasts and changes nothing:
    a sum with 0, or the larger one of a code and the least code.
    """
    shape = tuple(size if x.shape[a] != size else 1 for a, size in enumerate(call.output().shape))
    if call.is_float:
        return plus(call, x, number(call, "zeros", np.zeros(shape)))
    y = call.temp("broadcast", call.output().shape, x.type)
    least = Operand(
        "",
        shape,
        x.type.with_shape(shape),
        call.build.fresh(f"{call.output().value}_least"),
        np.full(shape, -128, np.int8),
    )
    kind = Elementwise("maximum", lambda n: MaximumInputs(n[0], n[1]), MaximumAttrs())
    call.step(kind, [x, least], y)
    return y


@onnx("Constant", "ConstantOfShape", "Range", "Shape", "Size")
def known(call: LogicalCall) -> None:
    """Computed when the file is read; what gets here depends on the data."""
    raise call.unsupported(
        "inputs",
        "known before the network runs",
        "values or shapes computed at run time",
        "Export with fixed shapes.",
    )


@onnx("DepthToSpace", "SpaceToDepth")
def blocks(call: LogicalCall) -> None:
    """Blocks of pixels from or to channels: a reshape, an exchange of axes, a reshape."""
    x, y, size = call.activation(), call.output(), int(call.option("blocksize"))
    if len(x.shape) != 4:
        raise call.unsupported("input", "[1,C,H,W]", str(list(x.shape)))
    n, c, h, w = x.shape
    if call.code == "SpaceToDepth":
        shape, perm = (n, c, h // size, size, w // size, size), (0, 3, 5, 1, 2, 4)
    elif call.option("mode", "DCR") == "DCR":
        shape, perm = (n, size, size, c // size**2, h, w), (0, 3, 4, 1, 5, 2)
    else:
        shape, perm = (n, c // size**2, size, size, h, w), (0, 1, 4, 2, 5, 3)
    cut = call.viewed(x, shape, "cut")
    moved = call.temp("moved", tuple(shape[axis] for axis in perm), x.type)
    call.step(Permuted(perm), [cut], moved)
    finished(call, call.viewed(moved, y.shape, "joined"))
