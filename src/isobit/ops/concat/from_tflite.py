"""TFLite's CONCATENATION and PACK, and the operators that repeat: TILE and BROADCAST_TO."""

from __future__ import annotations

import numpy as np

from isobit.core.dtypes import DType
from isobit.core.types import Raw, TensorType
from isobit.ops.concat.op import ConcatAttrs, ConcatInputs
from isobit.ops.concat.reference import MAX_INPUTS
from isobit.ops.foreign import Call, Operand, tflite
from isobit.ops.lut.litert import moved
from isobit.ops.lut.op import LutAttrs, LutInputs
from isobit.ops.lut.tflm import Quantised
from isobit.ops.movement import axis_of, framed, framed_shape, lead_of, require_one_encoding
from isobit.ops.tflite import finish


@tflite("CONCATENATION")
def concatenation(call: Call) -> None:
    """Any number of tensors, any axis, one encoding; of uint8 any encodings. Source: TFLM
    `kernels/concatenation.cc`, which refuses fused activations and a second encoding as well.
    """
    y, xs = call.output(), _operands(call)
    activation = call.option("fused_activation_function", 0)
    if activation:
        raise call.unsupported(
            "fused activation",
            "NONE",
            str(activation),
            "Convert the model with the activation as an operator of its own.",
        )
    axis = axis_of(call, int(call.option("axis", 0)), len(y.shape))
    lead = lead_of((*xs, y), touches_first=axis == 0)
    _join(call, [_rescaled(call, x, framed(call, x, lead)) for x in xs], axis + lead, lead)


@tflite("PACK")
def pack(call: Call) -> None:
    """Tensors of one shape along a new axis. Source: TFLM `kernels/pack.cc`."""
    y, xs = call.output(), _operands(call)
    axis = axis_of(call, int(call.option("axis", 0)), len(y.shape))
    lead = lead_of((y,), touches_first=axis == 0)
    shape = list(framed_shape(y.shape, lead))
    shape[axis + lead] = 1
    _join(call, [call.viewed(call.value(x), tuple(shape)) for x in xs], axis + lead, lead)


@tflite("TILE", "BROADCAST_TO")
def repeat(call: Call) -> None:
    """x, repeated along axes; the output's shape in the file says how often. TFLM has no TILE.
    Sources: LiteRT `kernels/tile.cc`; TFLM `kernels/broadcast_to.cc`.
    """
    x, y = call.operand(0), call.output()
    require_one_encoding(call, x)
    shape = (1,) * (len(y.shape) - len(x.shape)) + x.shape
    legal = len(shape) == len(y.shape) and not any(
        b % a for a, b in zip(shape, y.shape, strict=True)
    )
    counts = [b // a for a, b in zip(shape, y.shape, strict=True)] if legal else []
    if call.code == "BROADCAST_TO":
        legal = legal and all(a in (1, b) for a, b in zip(shape, y.shape, strict=True))
    elif legal and call.operand(1).is_const:
        legal = tuple(counts) == call.integers(1, "multiples")
    if not legal:
        got = f"{list(y.shape)} of {list(x.shape)}"
        raise call.unsupported("shape of the output", "whole copies", got, "The file is damaged.")
    name = call.viewed(call.value(x), (1, *shape))
    # The innermost axis first, so that the copies that follow are of longer runs.
    for axis in reversed(range(len(shape))):
        name = _copies(call, name, axis + 1, counts[axis])
    call.unboxed(name)


def _copies(call: Call, name: str, axis: int, count: int) -> str:
    """Return `count` copies of a value side by side; many are copies of `MAX_INPUTS` copies."""
    if count == 1:
        return name
    many, rest = divmod(count, MAX_INPUTS)
    if not many or count == MAX_INPUTS:
        return _group(call, [name] * count, axis)
    whole = _copies(call, _group(call, [name] * MAX_INPUTS, axis), axis, many)
    return _group(call, [whole, *[name] * rest], axis) if rest else whole


def _operands(call: Call) -> tuple[Operand, ...]:
    xs = tuple(call.operand(i) for i in range(len(call.inputs)))
    if not xs:
        raise call.unsupported("inputs", "at least 1", "none", "The file is damaged.")
    if not (call.is_uint8 and call.code == "CONCATENATION"):
        require_one_encoding(call, *xs)
    return xs


def _rescaled(call: Call, x: Operand, name: str) -> str:
    """Return the value in the output's encoding; only uint8 models have another."""
    y = call.output()
    if x.type.encoding == y.type.encoding:
        return name
    table = moved(Quantised(sx=x.scale, zx=x.zero, sy=y.scale, zy=y.zero))
    kind = TensorType((), DType.S8, Raw())
    entries = call.const("table", table.astype(np.int8), kind)
    own = call.build.type_of(name)
    attrs, inputs = LutAttrs(""), LutInputs(name, table=entries)
    return call.emit("lut", inputs, attrs, y.type.with_shape(own.shape))


def _join(call: Call, names: list[str], axis: int, lead: int) -> None:
    """Concatenate; more inputs than a kernel takes are joined in groups first."""
    y = call.output()
    inputs = ConcatInputs(tuple(_few(call, names, axis)))
    finish(call, "concat", inputs, ConcatAttrs(axis), shape=framed_shape(y.shape, lead))


def joined(call: Call, names: list[str], axis: int) -> str:
    """Return values side by side along an axis of ours."""
    names = _few(call, names, axis)
    return names[0] if len(names) == 1 else _group(call, names, axis)


def _few(call: Call, names: list[str], axis: int) -> list[str]:
    """Return at most as many values as a kernel joins, which together are `names`."""
    while len(names) > MAX_INPUTS:
        starts = range(0, len(names), MAX_INPUTS)
        names = [_group(call, names[i : i + MAX_INPUTS], axis) for i in starts]
    return names


def _group(call: Call, names: list[str], axis: int) -> str:
    kinds = [call.build.type_of(name) for name in names]
    shape = list(kinds[0].shape)
    shape[axis] = sum(kind.shape[axis] for kind in kinds)
    inputs = ConcatInputs(tuple(names))
    return call.emit("concat", inputs, ConcatAttrs(axis), kinds[0].with_shape(tuple(shape)))
