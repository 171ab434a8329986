"""Tables of TensorFlow Lite Micro's functions of one int8 code, by its own arithmetic.

Every function returns int64 [256], the results for the codes -128..127, and takes a `Quantised`
whose scales are float32 numbers. Where TFLM computes in float32 or in fixed point, so does this,
bit for bit and the same on every operating system. Sources: tflite-micro
`micro/kernels/*_common.cc` and `kernels/internal/reference/`, named at each function.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from isobit.core import fixed
from isobit.core.types import AnyArray, IntArray
from isobit.ops.dequantize.op import nearest_float32
from isobit.ops.lut.functions import EXACT, Parameters
from isobit.ops.softmax import gemmlowp

CODES: IntArray = np.arange(-128, 128, dtype=np.int64)
LEAST_SCALE = 2.0**-28
"""Below it 6 has no int32 code (RELU6), and 16 no number of steps in int32 (LOGISTIC, TANH)."""
LARGEST_RATIO = 2.0**22
"""From here on a difference of codes, shifted left for the multiplier, leaves int32."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantised:
    """Scale and zero point of the input (x) and of the output (y)."""

    sx: float
    zx: int
    sy: float
    zy: int
    narrow: bool = False
    """Whether multipliers are float32 quotients, as LiteRT's are."""

    @property
    def ratio(self) -> float:
        """Sx / Sy in float64, or in float32."""
        return self.quotient(self.sx, 1.0)

    def quotient(self, scale: float, factor: float) -> float:
        """`scale * factor / Sy` in float64, or in float32."""
        if self.narrow:
            return float(np.float32(scale) * np.float32(factor) / np.float32(self.sy))
        return scale * factor / self.sy

    @property
    def centred(self) -> IntArray:
        """`q - Zx` of every code."""
        return CODES - self.zx

    def codes(self, values: IntArray) -> IntArray:
        """`clamp(Zy + values)`."""
        return np.clip(values + self.zy, -128, 127)


def rescaled(values: IntArray, real: float) -> IntArray:
    """TFLite's MultiplyByQuantizedMultiplier; the result for -real is minus that for real."""
    mult, shift = fixed.multiplier_q31(abs(real))
    size = fixed.tflite_double(values, mult, shift)
    return size if real >= 0 else -size


def relu6(q: Quantised) -> IntArray:
    """`min(max(code, Zx), code of 6)` on the input's scale: TFLM never rescales here
    (`activations.cc`).
    """
    six = q.zx + fixed.round_half_away(float(np.float32(6.0) / np.float32(q.sx)))
    return np.clip(CODES, q.zx, min(max(six, -128), 127))


def absolute(q: Quantised) -> IntArray:
    """`Zy + |x - Zx|`, rescaled where the scales differ (`elementwise.cc`)."""
    size = np.abs(q.centred)
    return q.codes(size if q.sx == q.sy else rescaled(size, q.ratio))


def leaky_relu_factors(q: Quantised, alpha: float) -> tuple[float, float]:
    """The multipliers of values above and below zero (`leaky_relu_common.cc`)."""
    return q.ratio, q.quotient(q.sx, alpha)


def leaky_relu(q: Quantised, alpha: float) -> IntArray:
    """Two multipliers, one for each sign (`reference/leaky_relu.h`)."""
    above, below = (rescaled(q.centred, real) for real in leaky_relu_factors(q, alpha))
    return q.codes(np.where(q.centred >= 0, above, below))


def logistic(q: Quantised) -> IntArray:
    """Gemmlowp's logistic of Q4.27; y has S = 1/256, Z = -128 (`integer_ops/logistic.h`)."""
    inside, argument = _in_q4(q)
    result = gemmlowp.divide_by_power(gemmlowp.logistic(argument), 23) - 128
    return np.clip(np.where(inside, result, np.where(q.centred > 0, 127, -128)), -128, 127)


def tanh(q: Quantised) -> IntArray:
    """Gemmlowp's tanh of Q4.27; y has S = 1/128, Z = 0 (`integer_ops/tanh.h`)."""
    inside, argument = _in_q4(q)
    result = gemmlowp.divide_by_power(gemmlowp.tanh(argument), 24)
    return np.clip(np.where(inside, result, np.where(q.centred > 0, 127, -128)), -128, 127)


def _in_q4(q: Quantised) -> tuple[AnyArray, IntArray]:
    """Return where an argument lies within Q4.27, and it there (0 elsewhere)."""
    mantissa, shift = math.frexp(q.sx * 2.0**27)
    mult = fixed.round_half_away(mantissa * 2.0**31)
    radius = math.floor(15 * 2.0**27 / 2.0**shift)
    # With radius 0 the runtime takes the lower end for 0 itself, which `> 0` above does too.
    inside = np.abs(q.centred) < radius
    argument = fixed.tflite_double(np.where(inside, q.centred, 0), mult, min(shift, 30))
    return inside, argument


def hard_swish_exponents(q: Quantised) -> tuple[tuple[int, int], tuple[int, int]]:
    """Return (16-bit multiplier, exponent) of the output and of the factor in [0, 1]
    (`hard_swish_common.cc`); TFLM takes an output exponent <= 0 only.
    """
    fine = np.float32(1.0 / 128.0) * np.float32(q.sx)
    found = []
    for step in (np.float32(q.sy), np.float32(3.0) / np.float32(32768.0)):
        mult, exponent = fixed.multiplier_q31(min(float(fine / step), 2.0**31 - 1))
        found.append((min((mult + (1 << 15)) >> 16, 32767), exponent))
    return found[0], found[1]


def hard_swish(q: Quantised) -> IntArray:
    """`x * relu6(x + 3) / 6` in 16-bit fixed point (`reference/hard_swish.h`)."""
    (scale, exponent), (reluish_scale, reluish_exponent) = hard_swish_exponents(q)
    fine = q.centred << 7
    preshift = _high_mul_16(fine, scale)
    # The factor: 2^15 stands for x = 3. The last bit of a left shift comes after the product, so
    # that what saturates before it saturates in any case.
    factor = fine
    if reluish_exponent > 0:
        factor = _saturated_16(factor << min(reluish_exponent - 1, 31))
    factor = _high_mul_16(factor, reluish_scale)
    if reluish_exponent > 0:
        factor = _saturated_16(factor << 1)
    elif reluish_exponent < 0:
        factor = _divide_16(factor, -reluish_exponent)
    factor = (factor + (1 << 15)) >> 1
    unrounded = fixed.divide_trunc(factor * preshift, 1 << 15)
    return q.codes(_divide_16(unrounded, -exponent))


def _divide_16(values: IntArray, power: int) -> IntArray:
    """Gemmlowp's RoundingDivideByPOT of int16. From 2^16 on its 16-bit mask is -1, and what should
    be 0 is 1 for values from 0 on, else -1.
    """
    if power < 16:
        return gemmlowp.divide_by_power(values, power)
    return np.where(values >= 0, 1, -1)


def _saturated_16(values: IntArray) -> IntArray:
    return np.clip(values, -(1 << 15), (1 << 15) - 1)


def _high_mul_16(a: IntArray, b: int) -> IntArray:
    """Gemmlowp's SaturatingRoundingDoublingHighMul of int16, b >= 0."""
    return (a * np.int64(b) + (1 << 14)) >> 15


def elu(q: Quantised) -> IntArray:
    """A table that TFLM computes in float32 (`elu.cc`); exp is the float32 nearest to it."""
    inverse = np.float32(1.0) / np.float32(q.sy)
    x: AnyArray = np.float32(q.sx) * q.centred.astype(np.float32)
    exp = [
        nearest_float32(EXACT["exp"](Fraction(float(v)), Parameters())) for v in np.minimum(x, 0)
    ]
    y = np.where(x < 0, np.asarray(exp, np.float32) - np.float32(1.0), x) * inverse
    return q.codes(np.asarray([fixed.round_half_away(float(v)) for v in y], dtype=np.int64))


RSQRT_BITS = 20
"""Fraction bits of 1/sqrt(code) before the output's multiplier."""


def rsqrt_factor(q: Quantised) -> float:
    """`1 / (sqrt(Sx) * Sy)` in float64 (`elementwise.cc`)."""
    return 1.0 / (math.sqrt(q.sx) * q.sy)


def rsqrt(q: Quantised) -> IntArray:
    """`1 / sqrt(x)` by Newton steps; 0 gives 127. TFLM fails on codes below the zero point; they
    have 127 here, the end they lie at.
    """
    mult, shift = fixed.multiplier_q31(rsqrt_factor(q))
    found = np.full(256, 127, dtype=np.int64)
    for index, value in enumerate(q.centred.tolist()):
        if value > 0:
            root, root_shift = _inverse_root(value)
            data = fixed.tflite_double(np.asarray(1), root, root_shift + RSQRT_BITS)
            result = fixed.tflite_double(data, mult, shift - RSQRT_BITS)
            found[index] = min(max(int(result) + q.zy, -128), 127)
    return found


def _inverse_root(value: int) -> tuple[int, int]:
    """Return (mult, shift) of 1 / sqrt(value), 1 <= value < 2^16
    (GetInvSqrtQuantizedMultiplierExp).

    The value, brought to [1/4, 1) by pairs of bits, goes through five steps of
    `x = 3/2 x - value/2 x^3` in Q3.28, from x = 1.
    """
    if value == 1:
        return fixed.INT32_MAX, 0
    pairs = (31 - value.bit_length()) // 2 - 1
    right = 11 - pairs
    scaled = np.asarray(value << 2 * pairs) >> 1
    half = gemmlowp.divide_by_power(scaled, 1)
    x = np.asarray(1 << 28)
    for _ in range(5):
        cube = gemmlowp.product(gemmlowp.product(x, x), x) << 6
        x = (gemmlowp.product(np.asarray(3 << 27), x) - gemmlowp.product(half, cube)) << 3
    root = int(gemmlowp.product(x, HALF_ROOT_2))
    return (root << -right, 0) if right < 0 else (root, -right)


HALF_ROOT_2 = 1518500250
"""sqrt(2) / 2 in Q0.31."""
