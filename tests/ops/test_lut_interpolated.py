"""lut_interpolated: int16 sigmoid and tanh."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from isobit.core.dtypes import DType
from isobit.core.errors import BadAttribute, BadShape, SeveralProblems
from isobit.core.types import Affine, Raw, TensorType
from isobit.ops.lut_interpolated.op import (
    LutInterpolated,
    LutInterpolatedAttrs,
    LutInterpolatedInputs,
)
from isobit.ops.lut_interpolated.table import parameters, table

X = TensorType((1, 5), DType.S16, Affine((2.0**-12,), 0))


def test_every_code_is_near_the_real_function() -> None:
    """The table and its interpolation err by less than two steps of 2^-15; odd symmetry but for one
    step.
    """
    samples = {s.label: s for s in LutInterpolated.samples()}
    codes = np.arange(-32768, 32768)
    for function in ("sigmoid", "tanh"):
        sample = samples[f"{function}, step 2^-12"]
        inputs = replace(sample.inputs, x=codes.reshape(1, -1))
        found = LutInterpolated.integer(sample.attrs, sample.types, inputs)[0]
        reals = LutInterpolatedInputs(codes * 2.0**-12)
        real = LutInterpolated.real(sample.attrs, reals) * 2**15
        assert np.abs(found - real).max() < 2
        assert np.all(np.diff(found) >= 0)


def test_powers_of_two_have_a_multiplier_of_their_own() -> None:
    assert parameters("sigmoid", 2.0**-12) == (3, 0)
    assert parameters("tanh", 2.0**-11) == (6, 0)
    assert parameters("sigmoid", 2.0**-11) == (24576, 12)
    assert parameters("sigmoid", 0.001) == (25165, 11)


def test_wrong_types_are_refused() -> None:
    with pytest.raises(BadAttribute, match="sigmoid or tanh"):
        LutInterpolated.infer(LutInterpolatedAttrs("exp"), LutInterpolatedInputs(X))
    with pytest.raises(BadAttribute, match="s16 with zero point 0"):
        moved = replace(X, encoding=Affine((0.1,), 3))
        LutInterpolated.infer(LutInterpolatedAttrs("tanh"), LutInterpolatedInputs(moved))
    with pytest.raises(BadShape, match=r"want \[256\]"):
        short = TensorType((255,), DType.S16, Raw())
        inputs = LutInterpolatedInputs(X, table=short)
        LutInterpolated.infer(LutInterpolatedAttrs("tanh"), inputs)
    with pytest.raises(SeveralProblems):
        many = LutInterpolatedInputs(X, table=TensorType((3,), DType.S16, Raw()))
        LutInterpolated.infer(LutInterpolatedAttrs("exp"), many)


@pytest.mark.parametrize(
    ("mult", "shift", "falls"), [(1 << 15, 0, False), (3, 32, False), (3, 0, True)]
)
def test_what_may_overflow_is_not_proven(mult: int, shift: int, falls: bool) -> None:
    entries = table()[::-1] if falls else table()
    consts = LutInterpolatedInputs(
        None, table=entries, mult=np.asarray([mult]), shift=np.asarray([shift])
    )
    sample = next(LutInterpolated.samples())
    (problem,) = LutInterpolated.prove(sample.attrs, sample.types, consts, "here")
    assert isinstance(problem, BadAttribute)
