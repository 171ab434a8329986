"""TFLite's SPLIT, SPLIT_V and UNPACK."""

from __future__ import annotations

from isobit.core.types import Shape
from isobit.ir.graph import Value
from isobit.ops.foreign import Call, Operand, tflite
from isobit.ops.movement import (
    axis_of,
    framed,
    framed_shape,
    lead_of,
    numbers,
    require_one_encoding,
)
from isobit.ops.split.op import SplitAttrs, SplitInputs
from isobit.ops.split.reference import MAX_OUTPUTS


@tflite("SPLIT")
def split(call: Call) -> None:
    """Input 0 is the axis. Source: TFLM `kernels/split.cc`."""
    _along(call, call.operand(1), numbers(call, 0, "axis", 1)[0])


@tflite("SPLIT_V")
def split_v(call: Call) -> None:
    """Input 2 is the axis; the outputs' shapes say the sizes. Source: TFLM `kernels/split_v.cc`."""
    _along(call, call.operand(0), numbers(call, 2, "axis", 1)[0])


@tflite("UNPACK")
def unpack(call: Call) -> None:
    """Slices of size 1, without the axis. Source: TFLM `kernels/unpack.cc`."""
    x = call.operand(0)
    require_one_encoding(call, x)
    axis = axis_of(call, int(call.option("axis", 0)), len(x.shape))
    lead = lead_of((x,), touches_first=axis == 0)
    shape = list(framed_shape(x.shape, lead))
    shape[axis + lead] = 1
    _emit_all(call, framed(call, x, lead), axis + lead, [tuple(shape)] * len(call.outputs))


def _along(call: Call, x: Operand, value: int) -> None:
    require_one_encoding(call, x)
    axis = axis_of(call, value, len(x.shape))
    lead = lead_of((x, *call.outputs), touches_first=axis == 0)
    shapes = [framed_shape(y.shape, lead) for y in call.outputs]
    _emit_all(call, framed(call, x, lead), axis + lead, shapes)


def _emit_all(call: Call, name: str, axis: int, shapes: list[Shape]) -> None:
    """Split into the outputs, which may need a view of their part."""
    whole = call.build.type_of(name).shape
    total = sum(shape[axis] for shape in shapes)
    fits = all(_others(shape, axis) == _others(whole, axis) for shape in shapes)
    if total != whole[axis] or not fits:
        raise call.unsupported(
            "shapes of the outputs",
            f"parts of {list(whole)} along axis {axis}",
            ", ".join(str(list(shape)) for shape in shapes),
            "The file is damaged.",
        )
    if len(shapes) == 1:
        call.unboxed(name)
        return
    values = []
    for y, shape in zip(call.outputs, shapes, strict=True):
        own = y.value if shape == y.type.shape else call.build.fresh(f"{y.value}_split")
        values.append(Value(own, y.type.with_shape(shape)))
    _parts(call, name, axis, values)
    for index, (y, value) in enumerate(zip(call.outputs, values, strict=True)):
        if value.name != y.value:
            call.unboxed(value.name, index)


def _parts(call: Call, name: str, axis: int, values: list[Value]) -> None:
    """Split; into more parts than a kernel writes, by way of groups of them."""
    groups = [[value] for value in values]
    if len(values) > MAX_OUTPUTS:
        size = -(-len(values) // MAX_OUTPUTS)
        groups = [values[i : i + size] for i in range(0, len(values), size)]
    wholes = [group[0] if len(group) == 1 else _whole(call, group, axis) for group in groups]
    attrs = SplitAttrs(axis, tuple(value.type.shape[axis] for value in wholes))
    call.build.node("split", SplitInputs(name), attrs, *wholes)
    for whole, group in zip(wholes, groups, strict=True):
        if len(group) > 1:
            _parts(call, whole.name, axis, group)


def _whole(call: Call, group: list[Value], axis: int) -> Value:
    """Return the value that a group is part of."""
    shape = list(group[0].type.shape)
    shape[axis] = sum(value.type.shape[axis] for value in group)
    return Value(call.build.fresh(f"{group[0].name}_group"), group[0].type.with_shape(tuple(shape)))


def _others(shape: Shape, axis: int) -> Shape:
    return (*shape[:axis], *shape[axis + 1 :])
