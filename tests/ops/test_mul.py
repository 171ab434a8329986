from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch import nn as torch_nn

from isobit import nn
from isobit.core.errors import BadAttribute, NotTraceable, Overflow
from isobit.core.types import Affine, Pow2
from isobit.ops import sampling
from isobit.ops.base import NodeTypes, Scheme
from isobit.ops.mul.op import Mul, MulAttrs, MulInputs
from oracles import oracle

from .nets import assert_float_equal, assert_same_bits, float_graph
from .test_add import Two


@pytest.mark.parametrize(
    "function",
    [
        lambda a, b: a * b,
        lambda a, b: torch.mul(a, b),
        lambda a, b: a.mul(other=b),
        lambda a, b: a * a,
        lambda a, b: a * b.mean((2, 3), keepdim=True),
        lambda a, b: a.flatten(1) * b.flatten(1),
    ],
)
def test_functions_mean_torch(function: Callable[[Tensor, Tensor], Tensor]) -> None:
    assert_float_equal(Two(function), (2, 4, 5))


def test_numbers_are_refused() -> None:
    with pytest.raises(NotTraceable, match="Fold numbers"):
        float_graph(Two(lambda a, b: a * 0.5), (2, 4, 5))


def _node(kinds: list) -> NodeTypes:
    return NodeTypes(MulInputs(kinds[0], kinds[1]), (kinds[2],))


def _check(kinds: list, scheme: Scheme, seed: int) -> None:
    rng = np.random.default_rng(seed)
    q = _node(kinds)
    attrs, derived = Mul.derive(MulAttrs((-120, 125)), q, scheme, None)
    constants = {name: array.astype(np.int64) for name, array in derived.items()}
    codes = [sampling.codes(rng, (4, 50)) for _ in range(2)]
    inputs = MulInputs(*codes, **constants)
    assert Mul.prove(attrs, q, inputs, "mul") == []
    zeros = {"a": kinds[0].zero, "b": kinds[1].zero, "y": kinds[2].zero}
    plain = {"a": codes[0], "b": codes[1], **constants}
    want = oracle("mul")(plain, {"clamp": attrs.clamp}, zeros)
    assert np.array_equal(Mul.integer(attrs, q, inputs), want)
    carriers = MulInputs(
        *(torch.as_tensor(c - k.zero).float() for c, k in zip(codes, kinds, strict=False)),
        **{name: torch.as_tensor(array) for name, array in constants.items()},
    )
    assert np.array_equal(Mul.surrogate(attrs, q, carriers).numpy() + kinds[2].zero, want)


@given(
    st.tuples(*[st.floats(-4, 1).map(lambda e: 10.0**e)] * 3),
    st.tuples(*[st.integers(-128, 127)] * 3),
    st.integers(0, 99),
)
def test_affine_equals_the_oracle(
    scales: tuple[float, ...], zeros: tuple[int, ...], seed: int
) -> None:
    kinds = [sampling.kind((1, 50), Affine((s,), z)) for s, z in zip(scales, zeros, strict=True)]
    _check(kinds, Scheme.AFFINE, seed)


@given(st.tuples(*[st.integers(-8, 14)] * 2), st.integers(0, 30), st.integers(0, 99))
def test_pow2_equals_the_oracle(fracs: tuple[int, int], shift: int, seed: int) -> None:
    kinds = [sampling.kind((1, 50), Pow2((f,))) for f in (*fracs, sum(fracs) - shift)]
    _check(kinds, Scheme.POW2, seed)


def test_an_output_finer_than_the_product_is_refused() -> None:
    kinds = [sampling.kind((1, 5), Pow2((f,))) for f in (3, 4, 8)]
    assert Mul.finest_frac(MulAttrs(), _node(kinds).inputs) == 7
    with pytest.raises(BadAttribute, match="shift"):
        Mul.derive(MulAttrs(), _node(kinds), Scheme.POW2, None)


def test_a_rounding_term_that_leaves_int32_is_refused() -> None:
    kinds = [sampling.kind((1, 5), Pow2((f,))) for f in (20, 20, 8)]
    _, derived = Mul.derive(MulAttrs(), _node(kinds), Scheme.POW2, None)
    (problem,) = Mul.prove(MulAttrs(), _node(kinds), MulInputs(None, None, **derived), "here")
    assert isinstance(problem, Overflow)


def test_gradient_reaches_both_operands() -> None:
    a = torch.tensor([[3.0, -4.0, 100.0]], requires_grad=True)
    b = torch.tensor([[5.0]], requires_grad=True)
    kind = sampling.kind((1, 3), Affine((0.1,), 0))
    q = NodeTypes(MulInputs(kind, kind.with_shape((1, 1))), (kind,))
    inputs = MulInputs(a, b, mult=torch.tensor([3]), shift=torch.tensor([2]))
    y = Mul.surrogate(MulAttrs((-50, 50)), q, inputs)
    y.sum().backward()
    assert y.tolist() == [[11.0, -15.0, 50.0]]
    torch.testing.assert_close(a.grad, torch.tensor([[3.75, 3.75, 0.0]]))
    torch.testing.assert_close(b.grad, torch.tensor([[(3.0 - 4.0) * 0.75]]))


class SqueezeExcite(torch_nn.Module):
    """A convolution whose channels are weighted by what the whole image says."""

    def __init__(self) -> None:
        super().__init__()
        self.start = nn.Standardize()
        self.conv = nn.Conv2d(1, 6, 3, padding=1)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.squeeze, self.excite = nn.Conv2d(6, 3, 1), nn.Conv2d(3, 6, 1)
        self.gate = nn.Hardtanh(-0.5, 1.0)
        self.head = nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.conv(self.start(x)))
        weights = self.gate(self.excite(self.squeeze(self.pool(x))))
        x = x * weights
        return self.head((x * x).mean((2, 3)))


@pytest.mark.parametrize("scheme", Scheme)
def test_squeeze_and_excite_has_the_same_bits_everywhere(scheme: Scheme) -> None:
    torch.manual_seed(1)
    graph = assert_same_bits(SqueezeExcite(), (1, 7, 8), scheme)
    assert [node.op for node in graph.nodes].count("mul") == 2
