from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from isobit.core.types import Affine, Encoding, Pow2
from isobit.ops import sampling
from isobit.ops.base import NodeTypes, Scheme
from isobit.ops.requantize.op import Requantize, RequantizeAttrs, RequantizeInputs
from oracles import oracle

CODES = np.arange(-128, 128, dtype=np.int64)[None]


def _check(x: Encoding, y: Encoding, scheme: Scheme) -> np.ndarray:
    """Derive, prove, and compare the definition, the oracle and the surrogate on every code."""
    kind_x, kind_y = sampling.kind((1, 256), x), sampling.kind((1, 256), y)
    q = NodeTypes(RequantizeInputs(kind_x), (kind_y,))
    attrs, derived = Requantize.derive(RequantizeAttrs(), q, scheme, None)
    constants = {name: array.astype(np.int64) for name, array in derived.items()}
    inputs = RequantizeInputs(CODES, **constants)
    assert Requantize.prove(attrs, q, inputs, "requantize") == []
    zeros = {"x": kind_x.zero, "y": kind_y.zero}
    want = oracle("requantize")({"x": CODES, **constants}, {}, zeros)
    assert np.array_equal(Requantize.integer(attrs, q, inputs), want)
    carrier = torch.as_tensor(CODES - kind_x.zero).float().requires_grad_()
    tensors = {name: torch.as_tensor(array) for name, array in constants.items()}
    got = Requantize.surrogate(attrs, q, RequantizeInputs(carrier, **tensors))
    assert np.array_equal(got.detach().numpy() + kind_y.zero, want)
    assert np.array_equal(carrier.detach().numpy(), CODES - kind_x.zero), (
        "the input was overwritten"
    )
    return want


@pytest.mark.parametrize("finer", range(-31, 31))
def test_pow2_rounds_or_multiplies(finer: int) -> None:
    """A finer output multiplies exactly; from 2^9 on every code but 0 saturates, as it should."""
    got = _check(Pow2((0,)), Pow2((finer,)), Scheme.POW2)
    exact = np.floor(CODES * 2.0**finer + 0.5)
    assert np.array_equal(got, np.clip(exact, -128, 127))


@given(
    st.tuples(*[st.floats(-6, 3).map(lambda e: 10.0**e)] * 2),
    st.tuples(*[st.integers(-128, 127)] * 2),
)
def test_affine_equals_the_oracle(scales: tuple[float, float], zeros: tuple[int, int]) -> None:
    got = _check(Affine((scales[0],), zeros[0]), Affine((scales[1],), zeros[1]), Scheme.AFFINE)
    exact = np.clip((CODES - zeros[0]) * (scales[0] / scales[1]) + zeros[1], -128, 127)
    # Half a code for rounding, and the multiplier's 2^-15 of at most 255 codes.
    assert np.abs(got - exact).max() <= 0.5 + 255 * 2.0**-15


def test_the_same_encoding_is_the_identity() -> None:
    assert np.array_equal(_check(Pow2((4,)), Pow2((4,)), Scheme.POW2), CODES)
    assert np.array_equal(_check(Affine((0.3,), 7), Affine((0.3,), 7), Scheme.AFFINE), CODES)
