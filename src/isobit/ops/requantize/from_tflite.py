"""TFLite's QUANTIZE and DEQUANTIZE, and what they need of other operators."""

from __future__ import annotations

import numpy as np

from isobit.core.dtypes import DType
from isobit.core.fixed import Rounding
from isobit.core.types import Affine, Real, TensorType
from isobit.ops.dequantize.op import DequantizeAttrs, DequantizeInputs, table_of
from isobit.ops.foreign import Call, Operand, tflite
from isobit.ops.int16 import require_symmetric
from isobit.ops.quantize.op import QuantizeAttrs, QuantizeInputs, thresholds
from isobit.ops.requantize.op import CARRIERS, RequantizeAttrs, RequantizeInputs
from isobit.ops.tflite import computed, factors

LARGEST_DIFFERENCE = {DType.S8: 8, DType.U8: 8, DType.S16: 16}
"""Bits of the largest difference of a code and its zero point."""


@tflite("QUANTIZE")
def quantize(call: Call) -> None:
    """float32 to int8 or int16; int8, uint8 and int16 to one another. Source: TFLM
    `kernels/quantize_common.cc`.
    """
    x, y = call.operand(0), call.output()
    dtypes = (x.type.dtype, y.type.dtype)
    if x.is_float and dtypes == (DType.F32, DType.S8):
        steps = call.const("thresholds", thresholds(y.scale, y.zero), _floats())
        inputs = QuantizeInputs(computed(call), thresholds=steps)
        call.result("quantize", inputs, QuantizeAttrs())
        return
    if x.is_float and dtypes == (DType.F32, DType.S16):
        _require_float_scale(call, y)
        require_symmetric(call, y)
        divisor = call.const("divisor", np.asarray([y.scale], dtype=np.float32), _floats())
        wide = QuantizeAttrs((DType.S16.low, DType.S16.high))
        call.result("quantize", QuantizeInputs(computed(call), divisor=divisor), wide)
        return
    if x.is_float or any(dtype not in CARRIERS for dtype in dtypes) or dtypes in REFUSED:
        raise call.unsupported(
            "types",
            "float32 to int8 or int16; int8 to int8, uint8 or int16; uint8 to int8; int16 to both",
            f"{'float32' if x.is_float else dtypes[0].value} to {dtypes[1].value}",
            "Convert the model to int8.",
        )
    ratio = x.scale / y.scale
    # The clamp comes after the sum with Zy, for which the exporter keeps two bits.
    if ratio >= 2.0 ** (29 - LARGEST_DIFFERENCE[dtypes[0]]):
        raise call.unsupported(
            "scale of the input / scale of the output",
            f"below 2^{29 - LARGEST_DIFFERENCE[dtypes[0]]}",
            f"{ratio:g}",
            "The runtime's int32 would overflow; calibrate the model again.",
        )
    inputs_of = RequantizeInputs(computed(call), **factors(call, [ratio]))
    clamp = (dtypes[1].low, dtypes[1].high)
    attrs = RequantizeAttrs(clamp, Rounding.TFLITE_DOUBLE, dtypes[1])
    call.result("requantize", inputs_of, attrs)


REFUSED = (
    (DType.U8, DType.U8),
    (DType.U8, DType.S16),
    (DType.S16, DType.U8),
)
"""Pairs that TFLM has no kernel for."""


@tflite("DEQUANTIZE")
def dequantize(call: Call) -> None:
    """int8, uint8 or int16 to float32. Source: TFLM `kernels/dequantize.cc`."""
    x, y = call.operand(0), call.output()
    if call.is_float and x.is_const:  # the importer has made reals of stored codes
        call.unboxed(computed(call))
        return
    if x.type.dtype is DType.S16 and y.is_float and isinstance(x.type.encoding, Affine):
        _require_float_scale(call, x)
        require_symmetric(call, x)
        scale = call.const("scale", np.asarray([x.scale], dtype=np.float32), _floats())
        call.result("dequantize", DequantizeInputs(computed(call), scale=scale), DequantizeAttrs())
        return
    known = x.type.dtype in (DType.S8, DType.U8) and y.is_float
    if not known or not isinstance(x.type.encoding, Affine) or x.type.encoding.axis is not None:
        raise call.unsupported(
            "types",
            "int8, uint8 or int16 of one scale to float32",
            f"{x.type.dtype.value} to {y.type.dtype.value}",
            "Convert the model to int8.",
        )
    value, kind = computed(call), x.type
    if kind.dtype is DType.U8:
        value, kind = _signed(call, x)
    table = call.const("table", table_of(kind), _floats())
    call.result("dequantize", DequantizeInputs(value, table=table), DequantizeAttrs())


def _signed(call: Call, x: Operand) -> tuple[str, TensorType]:
    """Return the same reals as int8: every code less by 128."""
    kind = TensorType(x.type.shape, DType.S8, Affine((x.scale,), x.zero - 128))
    constants = {
        "mult": call.const("mult", np.ones(1, dtype=np.int32)),
        "shift": call.const("shift", np.zeros(1, dtype=np.int32)),
    }
    name = call.emit(
        "requantize", RequantizeInputs(computed(call), **constants), RequantizeAttrs(), kind
    )
    return name, kind


def _require_float_scale(call: Call, operand: Operand) -> None:
    """Refuse scales whose products with codes are no normal float32."""
    if not LEAST_SCALE <= operand.scale <= 1 / LEAST_SCALE:
        raise call.unsupported(
            f'scale of "{operand.label}"', "2^-100..2^100", f"{operand.scale:g}", "Calibrate again."
        )


LEAST_SCALE = 2.0**-100


def _floats() -> TensorType:
    return TensorType((), DType.F32, Real())
