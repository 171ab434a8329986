from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch import nn as torch_nn

from isobit import nn
from isobit.core.errors import BadAttribute, BadShape, NotTraceable, Overflow
from isobit.core.types import Affine, Pow2
from isobit.ops import sampling
from isobit.ops.add.op import Add, AddAttrs, AddInputs
from isobit.ops.base import NodeTypes, Scheme
from isobit.ops.broadcast import broadcast_shape, loops
from oracles import oracle

from .nets import assert_float_equal, assert_same_bits, float_graph


class Two(torch_nn.Module):
    """A function of two convolutions of the input."""

    def __init__(self, function: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.left, self.right = nn.Conv2d(2, 3, 1), nn.Conv2d(2, 3, 1)
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self.left(x), self.right(x))


@pytest.mark.parametrize(
    "function",
    [
        lambda a, b: a + b,
        lambda a, b: torch.add(a, other=b),
        lambda a, b: a.add(b),
        lambda a, b: a + a,
        lambda a, b: a + b.mean((2, 3), keepdim=True),
        lambda a, b: b.mean((2, 3), True) + a,
        lambda a, b: a.flatten(1) + b.flatten(1),
        lambda a, b: a.mean((2, 3)) + b.mean((2, 3)),
    ],
)
def test_functions_mean_torch(function: Callable[[Tensor, Tensor], Tensor]) -> None:
    assert_float_equal(Two(function), (2, 4, 5))


@pytest.mark.parametrize(
    "function",
    [lambda a, b: a + 1.0, lambda a, b: 2 + a, lambda a, b: torch.add(a, b, alpha=2)],
)
def test_numbers_and_scaled_sums_are_refused(function: Callable[[Tensor, Tensor], Tensor]) -> None:
    with pytest.raises(NotTraceable):
        float_graph(Two(function), (2, 4, 5))


@pytest.mark.parametrize(
    "function", [lambda a, b: a + b.mean((2, 3)), lambda a, b: a + nn.functional_pool(b)]
)
def test_shapes_that_do_not_broadcast_are_refused(
    function: Callable[[Tensor, Tensor], Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    def pool(b: Tensor) -> Tensor:
        return torch.nn.functional.avg_pool2d(b, 2)

    monkeypatch.setattr(nn, "functional_pool", pool, raising=False)
    with pytest.raises(BadShape, match="shapes of the operands"):
        float_graph(Two(function), (2, 4, 5))


SHAPES = st.lists(
    st.tuples(st.integers(1, 3), st.sampled_from(("both", "a", "b"))), min_size=1, max_size=5
)


@given(SHAPES)
def test_loops_visit_what_numpy_broadcasts(axes: list[tuple[int, str]]) -> None:
    a = (1, *(n if who in ("both", "a") else 1 for n, who in axes))
    b = (1, *(n if who in ("both", "b") else 1 for n, who in axes))
    found = loops(a, b)
    index_a, index_b = np.zeros(1, dtype=int), np.zeros(1, dtype=int)
    for size, step_a, step_b in found:
        steps = np.arange(size)
        index_a = (index_a[:, None] + steps * step_a).ravel()
        index_b = (index_b[:, None] + steps * step_b).ravel()
    shape = broadcast_shape("test", a, b)
    for index, own in ((index_a, a), (index_b, b)):
        numbered = np.arange(math.prod(own)).reshape(own)
        assert np.array_equal(index, np.broadcast_to(numbered, shape).ravel())
    if a == b:
        assert len(found) <= 1


@given(
    st.tuples(*[st.floats(-4, 1).map(lambda e: 10.0**e)] * 3),
    st.tuples(*[st.integers(-128, 127)] * 3),
    st.integers(0, 99),
)
def test_affine_equals_the_oracle(
    scales: tuple[float, ...], zeros: tuple[int, ...], seed: int
) -> None:
    """Any three encodings: derived constants as documented, then all four meanings of them."""
    kinds = [sampling.kind((1, 50), Affine((s,), z)) for s, z in zip(scales, zeros, strict=True)]
    _check(kinds, Scheme.AFFINE, seed)
    _, derived = Add.derive(AddAttrs(), _node(kinds), Scheme.AFFINE, None)
    ka, kb, e = (int(derived[name][0]) for name in ("mult_a", "mult_b", "shift"))
    assert 0 <= e <= 20 and max(ka, kb) < 1 << 20
    assert ka == math.floor(scales[0] / scales[2] * 2**e + 0.5)
    assert kb == math.floor(scales[1] / scales[2] * 2**e + 0.5)
    if e < 20:  # the largest: one more bit would not fit
        assert max(scales[:2]) / scales[2] * 2 ** (e + 1) + 0.5 >= 1 << 20


@given(st.tuples(*[st.integers(-8, 14)] * 2), st.integers(0, 9), st.integers(0, 99))
def test_pow2_equals_the_oracle(fracs: tuple[int, int], coarser: int, seed: int) -> None:
    kinds = [sampling.kind((1, 50), Pow2((f,))) for f in (*fracs, max(fracs) - coarser)]
    _check(kinds, Scheme.POW2, seed)


def _node(kinds: list) -> NodeTypes:
    return NodeTypes(AddInputs(kinds[0], kinds[1]), (kinds[2],))


def _check(kinds: list, scheme: Scheme, seed: int) -> None:
    rng = np.random.default_rng(seed)
    attrs, derived = Add.derive(AddAttrs((-120, 125)), _node(kinds), scheme, None)
    constants = {name: array.astype(np.int64) for name, array in derived.items()}
    codes = [sampling.codes(rng, (4, 50)) for _ in range(2)]
    q = _node(kinds)
    inputs = AddInputs(*codes, **constants)
    assert Add.prove(attrs, q, inputs, "add") == []
    zeros = {"a": kinds[0].zero, "b": kinds[1].zero, "y": kinds[2].zero}
    plain = {"a": codes[0], "b": codes[1], **constants}
    want = oracle("add")(plain, {"clamp": attrs.clamp}, zeros)
    assert np.array_equal(Add.integer(attrs, q, inputs), want)
    carriers = AddInputs(
        *(torch.as_tensor(c - k.zero).float() for c, k in zip(codes, kinds, strict=False)),
        **{name: torch.as_tensor(array) for name, array in constants.items()},
    )
    got = Add.surrogate(attrs, q, carriers)
    assert got.dtype == torch.float32
    assert np.array_equal(got.numpy() + kinds[2].zero, want)


def test_an_output_finer_than_both_operands_is_refused() -> None:
    kinds = [sampling.kind((1, 5), Pow2((f,))) for f in (3, 4, 5)]
    assert Add.finest_frac(AddAttrs(), _node(kinds).inputs) == 4
    with pytest.raises(BadAttribute, match="fracs"):
        Add.derive(AddAttrs(), _node(kinds), Scheme.POW2, None)


def test_operands_far_apart_are_refused() -> None:
    kinds = [sampling.kind((1, 5), Pow2((f,))) for f in (-3, 20, -3)]
    with pytest.raises(BadAttribute, match="fracs"):
        Add.derive(AddAttrs(), _node(kinds), Scheme.POW2, None)


def test_a_rounding_term_that_leaves_int32_is_refused() -> None:
    kinds = [sampling.kind((1, 5), Pow2((f,))) for f in (24, 24, -8)]
    _, derived = Add.derive(AddAttrs(), _node(kinds), Scheme.POW2, None)
    (problem,) = Add.prove(AddAttrs(), _node(kinds), AddInputs(None, None, **derived), "here")
    assert isinstance(problem, Overflow)


def test_an_output_range_of_nothing_saturates() -> None:
    kinds = [sampling.kind((1, 3), Affine((s,), 0)) for s in (0.1, 0.1, 1e-12)]
    _, derived = Add.derive(AddAttrs(), _node(kinds), Scheme.AFFINE, None)
    inputs = AddInputs(np.asarray([[1, -1, 0]]), np.zeros((1, 3), int), **derived)
    assert Add.integer(AddAttrs(), _node(kinds), inputs).tolist() == [[127, -128, 0]]


@pytest.mark.parametrize("ka", [3, (1 << 20) - 1], ids=["float32", "float64"])
def test_gradient_reaches_both_operands(ka: int) -> None:
    """The real multipliers, summed over broadcast axes; nothing where the clamp holds."""
    a = torch.tensor([[1.0, 2.0, 100.0]], requires_grad=True)
    b = torch.tensor([[5.0]], requires_grad=True)
    kind = sampling.kind((1, 3), Affine((0.1,), 0))
    q = NodeTypes(AddInputs(kind, kind.with_shape((1, 1))), (kind,))
    e = 2 if ka == 3 else 20
    constants = {"mult_a": ka, "mult_b": 2, "shift": e}
    inputs = AddInputs(a, b, **{n: torch.tensor([v]) for n, v in constants.items()})
    y = Add.surrogate(AddAttrs((-50, 50)), q, inputs)
    y.sum().backward()
    ratio = ka / 2**e
    assert y.tolist()[0][2] == 50
    torch.testing.assert_close(a.grad, torch.tensor([[ratio, ratio, 0.0]]))
    torch.testing.assert_close(b.grad, torch.tensor([[2 * 2 / 2**e]]))


class Residual(torch_nn.Module):
    """Two residual blocks, the second with a convolution on the shortcut, and a doubled value."""

    def __init__(self) -> None:
        super().__init__()
        self.start = nn.Standardize()
        self.stem = nn.Conv2d(1, 6, 3, padding=1)
        self.one, self.two = (nn.Conv2d(6, 6, 3, padding=1) for _ in range(2))
        self.three = nn.Conv2d(6, 8, 3, stride=2, padding=1)
        self.shortcut = nn.Conv2d(6, 8, 1, stride=2)
        self.head = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.stem(self.start(x)))
        x = torch.relu(x + self.two(torch.relu(self.one(x))))
        x = torch.relu(self.three(x) + self.shortcut(x))
        x = x + x
        return self.head(x.mean((2, 3)))


@pytest.mark.parametrize("scheme", Scheme)
def test_residual_network_has_the_same_bits_everywhere(scheme: Scheme) -> None:
    graph = assert_same_bits(Residual(), (1, 9, 8), scheme)
    ops = [node.op for node in graph.nodes]
    assert ops.count("add") == 3 and "clamp" not in ops
