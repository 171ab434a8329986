"""Multipliers for exact real scales: proven against every accumulator."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from isobit.core import fixed
from isobit.ops.exact import largest_gap, match, match_sum, nearest

BOUND = 700
SCALES = st.floats(2.0**-13, 1.0, width=32)


def gap(
    real: Fraction, beta: Fraction, zero: int, codes: tuple[int, int], bound: int
) -> tuple[int, int]:
    """Return the largest difference over all accumulators, and what was claimed."""
    found = match(real, beta, codes, zero, bound)
    acc = np.arange(-bound, bound + 1)
    ours = zero + fixed.half_up(acc + found.offset, found.mult, found.shift)
    exact = np.asarray([zero + round(real * (int(a) + beta)) for a in acc])
    worst = np.abs(np.clip(ours, *codes) - np.clip(exact, *codes)).max()
    return int(worst), found.lsb


@settings(max_examples=60, deadline=None)
@given(SCALES, SCALES, SCALES, st.integers(-128, 127), st.integers(-300, 300))
def test_the_claim_is_the_largest_difference(
    a: float, b: float, c: float, zero: int, beta: int
) -> None:
    real = Fraction(a) * Fraction(b) / Fraction(c)
    worst, claimed = gap(real, Fraction(beta), zero, (-128, 127), BOUND)
    assert worst == claimed


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 9), st.integers(0, 6), st.integers(-128, 127))
def test_ties_differ_by_one_and_say_so(numerator: int, bits: int, zero: int) -> None:
    real = Fraction(numerator, 1 << bits)
    worst, claimed = gap(real, Fraction(0), zero, (-128, 127), BOUND)
    assert worst == claimed <= 1
    if bits == 0:
        assert claimed == 0


@settings(max_examples=30, deadline=None)
@given(SCALES, st.fractions(-200, 200, max_denominator=97), st.integers(-128, 127))
def test_a_bias_between_two_integers_is_matched_or_reported(
    a: float, beta: Fraction, zero: int
) -> None:
    worst, claimed = gap(Fraction(a) / 3, beta, zero, (-128, 127), BOUND)
    assert worst == claimed <= 1


def test_a_clamp_to_one_code_and_a_vanishing_scale_are_constants() -> None:
    assert gap(Fraction(1, 3), Fraction(0), 5, (7, 7), 100) == (0, 0)
    assert gap(Fraction(1, 1 << 80), Fraction(0), 5, (-128, 127), 1000) == (0, 0)


def test_nearest_has_31_bits() -> None:
    for real in (Fraction(1, 3), Fraction(1, 1 << 20), Fraction(5), Fraction(1 << 20)):
        mult, shift = nearest(real)
        assert 0 < mult < 1 << 31 and 0 <= shift <= 62
        assert abs(Fraction(mult, 1 << shift) / real - 1) < Fraction(1, 1 << 29)


@settings(max_examples=15, deadline=None)
@given(SCALES, SCALES, SCALES, st.integers(-100, 100), st.booleans())
def test_sums_are_compared_on_every_pair(
    a: float, b: float, y: float, zero: int, subtract: bool
) -> None:
    step = max(a, b, y)  # ranges of codes that a sum of the two can have
    real_a, real_b = Fraction(a) / Fraction(step), Fraction(b) / Fraction(step)
    codes_a, codes_b = np.arange(-128, 128) - 7, np.arange(-128, 128) + 30
    signed = -real_b if subtract else real_b
    found = match_sum(real_a, signed, codes_a, codes_b, (-128, 127), zero)
    rng = np.random.default_rng(0)
    sign = -1 if subtract else 1
    for _ in range(200):
        p, q = int(rng.choice(codes_a)), int(rng.choice(codes_b))
        total = found.mult_a * p + sign * found.mult_b * q
        assert abs(total) + (1 << found.shift >> 1) < 1 << 31
        ours = zero + int(fixed.half_up(np.int64(total), 1, found.shift))
        want = zero + round(real_a * p + signed * q)
        assert abs(min(max(ours, -128), 127) - min(max(want, -128), 127)) <= found.lsb


def test_the_gap_counts_codes_between_thresholds() -> None:
    assert largest_gap([1, 5, 9], [1, 5, 9]) == 0
    assert largest_gap([1, 5, 9], [1, 6, 9]) == 1
    assert largest_gap([1, 2, 3], [4, 5, 6]) == 3
