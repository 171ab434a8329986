"""int16 activations with int8 weights (16x8), as TFLM computes them: symmetric codes.

With a bias of int64, or none, sums have 64 bits and the Q31 multiplier m becomes 15 bits:
`k = (m + 2^15) >> 16`, at most 0x7FFF, and `(sum * k + 2^(14 - s)) >> (15 - s)`, which is `half_up`
with e = 15 - s. With a bias of int32 sums have 32 bits and round twice, as those of int8. Source:
TensorFlow Lite `kernels/internal/common.cc`, MultiplyByQuantizedMultiplier of int64 and of int32.
"""

from __future__ import annotations

from isobit.core.dtypes import DType
from isobit.core.fixed import Rounding
from isobit.ops.foreign import Call, Operand, Runtime
from isobit.ops.tflite import factors, quantized, stored_factors, weighted_reals

LARGEST_SHIFT = 7
"""Of a multiplier of 64-bit sums; the runtime asserts it."""
LARGEST_MULT = 0x7FFF0000


def is_int16(call: Call) -> bool:
    """Whether the operator computes int16 of int16."""
    return not call.is_float and call.output().type.dtype is DType.S16


def require_symmetric(call: Call, *operands: Operand) -> None:
    """Refuse zero points of int16, and a runtime whose int16 arithmetic is not known here."""
    for operand in operands:
        if operand.zero:
            raise call.unsupported(
                f'zero point of "{operand.label}"', "0", str(operand.zero), "int16 is symmetric."
            )
    if call.runtime is Runtime.LITERT:
        raise call.unsupported(
            "runtime", "tflm", "litert", "int16x8 is imported with TFLM's arithmetic only."
        )


def reduced(real: float) -> tuple[int, int]:
    """Return `half_up` (mult, shift) of a multiplier of 64-bit sums."""
    mult, shift = quantized(real)
    narrow = (mult + (1 << 15)) >> 16 if mult < LARGEST_MULT else 0x7FFF
    return (narrow, 15 - shift) if narrow else (0, 0)


def weighted_rule(
    call: Call, x: Operand, w: Operand, y: Operand, bias: int, *, narrow_bias: bool = False
) -> tuple[dict[str, str], Rounding]:
    """Return the constants `mult`, `shift` and the rule of a sum of products.

    bias: the index of that input; narrow_bias: whether the runtime takes one of int32 with int16.
    """
    reals = weighted_reals(x, w, y, narrow=call.is_uint8)
    if y.type.dtype is not DType.S16:
        return factors(call, reals), Rounding.TFLITE_DOUBLE
    require_symmetric(call, x, w, y)
    b = call.optional(bias)
    if b is not None and b.type.dtype is DType.S32:
        if narrow_bias:
            return factors(call, reals), Rounding.TFLITE_DOUBLE
        raise call.unsupported(
            "bias", "int64", "int32", "The runtime computes nothing useful; convert it again."
        )
    pairs = [reduced(real) for real in reals]
    if any(not 0 <= shift <= 62 or shift < 15 - LARGEST_SHIFT for mult, shift in pairs if mult):
        raise call.unsupported(
            "Sx * Sw / Sy", "below 2^7", f"{max(reals):g}", "Calibrate the output again."
        )
    return stored_factors(call, pairs), Rounding.HALF_UP
