"""TFLite's REDUCE_MAX and REDUCE_MIN."""

from __future__ import annotations

from isobit.ops.foreign import Call, tflite
from isobit.ops.reduce_max.op import ReduceMaxAttrs, ReduceMaxInputs
from isobit.ops.reductions import foreign_axes, reduced_shape
from isobit.ops.tflite import require_computed, require_same_encoding, require_types


@tflite("REDUCE_MAX", "REDUCE_MIN")
def reduce_max(call: Call) -> None:
    """x: any shape; axes: stored; `keep_dims` only is another shape. Source: TFLM
    `kernels/reduce_common.cc`.
    """
    require_types(call, "s8")
    require_same_encoding(call, 0)
    require_computed(call, 0)
    axes, name = foreign_axes(call), call.boxed(call.operand(0))
    shape = reduced_shape(call.build.type_of(name).shape, axes)
    attrs = ReduceMaxAttrs(axes, call.code == "REDUCE_MIN")
    kind = call.output().type.with_shape(shape)
    call.unboxed(call.emit("reduce_max", ReduceMaxInputs(name), attrs, kind))
