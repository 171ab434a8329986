"""TFLite's SUM and MEAN."""

from __future__ import annotations

import numpy as np

from isobit.core.fixed import Rounding
from isobit.ops.foreign import Call, Runtime, tflite
from isobit.ops.int16 import is_int16, require_symmetric
from isobit.ops.reduce_sum.op import ReduceSumAttrs, ReduceSumInputs
from isobit.ops.reductions import foreign_axes, terms
from isobit.ops.tflite import quantized, require_computed, require_types


@tflite("SUM", "MEAN")
def reduce_sum(call: Call) -> None:
    """x: any shape; axes: stored; `keep_dims` only is another shape. Source: TFLM
    `kernels/reduce_common.cc`, TFLite `reference_ops::QuantizedMeanOrSum`.
    """
    require_types(call, "s8", "s16")
    require_computed(call, 0)
    if (
        call.code == "SUM"
        and call.runtime is Runtime.LITERT
        and not (call.is_float or call.is_uint8)
    ):
        raise call.unsupported(
            "types",
            "uint8 or float32",
            "int8",
            "LiteRT rounds a sum of int8 in another way than TFLM; import it with --runtime tflm.",
        )
    mean, axes, name = call.code == "MEAN", foreign_axes(call), call.boxed(call.operand(0))
    box = call.build.type_of(name).shape
    attrs = ReduceSumAttrs(axes, mean)
    inputs = ReduceSumInputs(name)
    if not call.is_float:
        real = call.operand(0).scale / call.output().scale
        mult, shift = _mean_factor(real, terms(box, axes)) if mean else quantized(real)
        if is_int16(call):
            require_symmetric(call, call.operand(0), call.output())
        dtype = call.output().type.dtype
        attrs = ReduceSumAttrs(axes, mean, (dtype.low, dtype.high), Rounding.TFLITE_DOUBLE)
        inputs = ReduceSumInputs(
            name,
            mult=call.const("mult", np.asarray([mult], dtype=np.int32)),
            shift=call.const("shift", np.asarray([shift], dtype=np.int32)),
        )
    shape = tuple(1 if axis in axes else size for axis, size in enumerate(box))
    call.unboxed(call.emit("reduce_sum", inputs, attrs, call.output().type.with_shape(shape)))


def _mean_factor(real: float, count: int) -> tuple[int, int]:
    """Return mult and shift of `real / count`: the quantised multiplier of `real`, shifted left so
    that its quotient by `count` keeps the top bit, as far as shift stays >= -31; rounded down.
    """
    mult, shift = quantized(real)
    more = min(count.bit_length() - 1, 32, 31 + shift)
    return (mult << more) // count, shift - more
