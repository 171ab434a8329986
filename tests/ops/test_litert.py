"""FULLY_CONNECTED of LiteRT: a float64 product rounded once, as an integer multiplier."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from isobit.core import fixed
from isobit.ops.litert import MOST_CODE, _nearest


def away(total: int, real: float) -> int:
    """`total * real` to the nearest integer, ties away from zero, exactly."""
    exact = total * Fraction(real)
    nearest = int(abs(exact) + Fraction(1, 2))
    return nearest if exact >= 0 else -nearest


@pytest.mark.parametrize("seed", range(40))
def test_multiplier_agrees_at_every_threshold(seed: int) -> None:
    rng = np.random.default_rng(seed)
    real = float(10 ** rng.uniform(-5, -0.5))
    if seed % 4 == 0:  # ties: sums that are exactly half a code
        real = 2.0 ** -int(rng.integers(2, 12))
    bound = int(min(400 / real, 2**24))
    factor = _nearest(real, bound)
    assert factor is not None
    for y in range(1, MOST_CODE):
        first = -(-(2 * y - 1) // (2 * Fraction(real)))
        for total in {int(first) + d for d in (-1, 0, 1)}:
            if abs(total) <= bound:
                for signed in (total, -total):
                    got = int(fixed.half_up(np.asarray(signed), *factor))
                    assert got == away(signed, real), (real, signed)


def test_most_multipliers_stay_the_runtimes_own() -> None:
    """Where nothing is near a tie, the Q31 multiplier of QuantizeMultiplier is kept."""
    mult, left = fixed.multiplier_q31(0.0137)
    assert _nearest(0.0137, 5000) == (mult, 31 - left)


def test_sums_too_close_to_ties_have_none() -> None:
    """A bound near 2^31 leaves no room between thresholds for 31 bits."""
    rng = np.random.default_rng(1)
    reals = rng.uniform(0.9e-7, 1.1e-7, size=60)
    assert any(_nearest(float(real), 2**31 - 1) is None for real in reals)
