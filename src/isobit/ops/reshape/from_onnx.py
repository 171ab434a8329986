"""ONNX's operators that move nothing: the same elements in the same order, or none at all."""

from __future__ import annotations

from isobit.ops.foreign import onnx
from isobit.ops.logical import LogicalCall, Permuted
from isobit.ops.onnx import finished


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


@onnx("Expand")
def expand(call: LogicalCall) -> None:
    """Only where nothing is repeated."""
    x, y = call.activation(), call.output()
    if x.type.elements != y.type.elements:
        raise call.unsupported(
            "shape", f"{x.type.elements} elements", str(list(y.shape)), "Operators broadcast."
        )
    finished(call, x)


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
