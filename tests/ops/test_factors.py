"""Multipliers and shifts that no rule gives a meaning are refused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from isobit.core.errors import BadAttribute, Overflow
from isobit.core.fixed import Rounding
from isobit.ops.conv2d.op import Conv2d
from isobit.ops.weighted import defined_factors, overflow_problems
from oracles.rounding import tflite_double

BOUND = np.array([1000])
SHIFT = np.array([4])


def test_double_rounding_needs_a_multiplier() -> None:
    (problem,) = overflow_problems("here", BOUND, None, SHIFT, Rounding.TFLITE_DOUBLE)
    assert isinstance(problem, BadAttribute) and "tflite_double" in str(problem)
    assert not overflow_problems("here", BOUND, None, SHIFT, Rounding.HALF_UP)


@pytest.mark.parametrize("bound", [2**31 - 8, 2**31])
def test_a_rounding_term_counts_towards_int32(bound: int) -> None:
    (problem,) = overflow_problems("here", np.array([bound]), None, SHIFT, Rounding.HALF_UP)
    assert isinstance(problem, Overflow)
    assert not overflow_problems("here", np.array([2**31 - 9]), None, SHIFT, Rounding.HALF_UP)


def test_a_requantised_value_stays_below_two_to_the_thirty() -> None:
    """The C clamps by differences, which then fit int32."""
    zero = np.array([0])
    assert not overflow_problems("here", np.array([2**30 - 257]), None, zero, Rounding.HALF_UP)
    (problem,) = overflow_problems("here", np.array([2**30 - 256]), None, zero, Rounding.HALF_UP)
    assert isinstance(problem, Overflow)


def test_vanishing_shifts_become_zero_as_the_rule_says() -> None:
    mult, shift = defined_factors(np.array([2**30, 2**30]), np.array([-32, -31]))
    assert mult is not None
    assert mult.tolist() == [0, 2**30] and shift.tolist() == [0, -31]
    for m, s, old in zip(mult.tolist(), shift.tolist(), (-32, -31), strict=True):
        for value in (-(2**30), -1, 0, 1, 2**30):
            assert tflite_double(value, m, s) == tflite_double(value, 2**30, old)


def test_overflowing_weights_are_refused_with_the_bound() -> None:
    sample = next(iter(Conv2d.samples()))
    consts = replace(
        sample.inputs, x=None, b=np.full(sample.inputs.b.shape, 2**31 - 1, dtype=np.int64)
    )
    (problem,) = Conv2d.prove(sample.attrs, sample.types, consts, "conv2d")
    assert isinstance(problem, Overflow)
