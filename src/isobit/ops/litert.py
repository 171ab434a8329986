"""What LiteRT's reference kernels (BUILTIN_REF) compute otherwise than TFLM.

FULLY_CONNECTED multiplies its sum by a float64 and rounds to nearest, ties away from zero. That is
monotone, so a `half_up` multiplier is the same function on the sums that can occur if, and only if,
it agrees at every threshold; `nearest_factors` finds one by exact integer arithmetic.
"""

from __future__ import annotations

from isobit.core import fixed
from isobit.core.types import IntArray
from isobit.ops.foreign import Call

MOST_CODE = 256
"""Requantised sums beyond it are clamped whatever the zero point."""
BITS = 31
"""Of a multiplier."""
MOST_SHIFT = 62


def nearest_factors(call: Call, reals: list[float], bounds: IntArray) -> list[tuple[int, int]]:
    """Return `half_up` (mult, shift) equal to `round_half_away(sum * real)` for |sum| <= bound, for
    every channel; one real may serve all. Refuses a real without such a multiplier.
    """
    found = []
    spread = reals if len(reals) == len(bounds) else reals * len(bounds)
    for real, bound in zip(spread, bounds.tolist(), strict=True):
        factor = _nearest(real, bound)
        if factor is None:
            raise call.unsupported(
                "Sx * Sw / Sy",
                f"a 31-bit multiplier that rounds all sums up to {bound} as float64 does",
                f"{real!r}",
                "Sums lie too close to ties; calibrate the output again.",
            )
        found.append(factor)
    return found


def _nearest(real: float, bound: int) -> tuple[int, int] | None:
    """Return mult and shift between the two ends that all thresholds leave open.

    `real = p * 2^-s`. The result is at least y from the sum t = ceil((y - 1/2) / real) on, so a
    multiplier K needs `t * K > y - 1/2` (greater: -t must round down) and `(t - 1) * K < y - 1/2`.
    O(256) big integers.
    """
    p, q = real.as_integer_ratio()
    low, high = (0, 1), (1 << BITS, 1)  # fractions (numerator, denominator)
    for y in range(1, MOST_CODE + 1):
        t = -(-(2 * y - 1) * q // (2 * p))
        below = min(t - 1, bound)
        if t <= bound and (2 * y - 1) * low[1] > low[0] * 2 * t:
            low = (2 * y - 1, 2 * t)
        if below and (2 * y - 1) * high[1] < high[0] * 2 * below:
            high = (2 * y - 1, 2 * below)
        if t > bound:
            break
    mult, left = fixed.multiplier_q31(min(real, 2.0**31 - 1))
    for k, e in ((mult, 31 - left), _simplest(low, real)):
        fits = 0 <= e <= MOST_SHIFT and 0 <= k < 1 << BITS
        if fits and low[0] << e < k * low[1] and k * high[1] < high[0] << e:
            return k, e
    return None


def _simplest(low: tuple[int, int], real: float) -> tuple[int, int]:
    """Return the least multiplier above `low` on the finest grid."""
    e = MOST_SHIFT
    while e and real * 2.0**e >= (1 << BITS) - 1:
        e -= 1
    return (low[0] << e) // low[1] + 1, e
