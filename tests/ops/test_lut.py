from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from isobit import Model, nn
from isobit.core.dtypes import DType
from isobit.core.errors import BadAttribute, SeveralProblems
from isobit.core.types import Affine, Pow2, Real, TensorType
from isobit.ops import sampling
from isobit.ops.base import NodeTypes
from isobit.ops.lut import elementary
from isobit.ops.lut.elementary import ELEMENTARY
from isobit.ops.lut.functions import EXACT, Parameters, round_half_away, table
from isobit.ops.lut.op import Lut, LutAttrs, LutInputs, table_of
from isobit.ops.lut.reals import smooth
from ops.end_to_end import SCHEMES, Function, assert_same_bits, float_output, trained


class SqueezeAndExcite(nn.Module):
    """Hu et al. 2018: channels scaled by a sigmoid of their means."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.squeeze, self.excite = nn.Conv2d(8, 2, 1), nn.Conv2d(2, 8, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.hardswish(self.stem(x))
        return x * torch.sigmoid(self.excite(torch.relu(self.squeeze(self.pool(x)))))


class Every(nn.Module):
    """Each layer once, side by side."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            [
                nn.Sigmoid(),
                nn.Tanh(),
                nn.Hardswish(),
                nn.Hardsigmoid(),
                nn.SiLU(),
                nn.GELU(),
                nn.GELU(approximate="tanh"),
                nn.ELU(0.5),
                nn.LeakyReLU(0.2),
                nn.Softplus(2.0),
                nn.CELU(0.5),
                nn.SELU(),
                nn.Mish(),
                nn.Softsign(),
            ]
        )

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([torch.exp(x), *(layer(x) for layer in self.layers)], 1)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_squeeze_and_excite_has_the_same_bits(scheme: str) -> None:
    assert_same_bits(SqueezeAndExcite(), (3, 6, 5), scheme)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_dead_branch_has_the_same_bits(scheme: str) -> None:
    net = SqueezeAndExcite()
    with torch.no_grad():
        net.squeeze.bias.fill_(-1e3)
    assert_same_bits(net, (3, 6, 5), scheme, cores=())


@pytest.mark.parametrize("scheme", SCHEMES)
def test_every_function_has_the_same_bits(scheme: str) -> None:
    graph = assert_same_bits(Every(), (40,), scheme, cores=("host",))
    assert {n.attrs.function for n in graph.nodes if n.op == "lut"} == set(EXACT) - set(ELEMENTARY)


@pytest.mark.parametrize(
    "function",
    [
        torch.sigmoid,
        torch.tanh,
        torch.exp,
        lambda x: x.sigmoid(),
        lambda x: x.tanh(),
        lambda x: x.exp(),
        functional.sigmoid,
        functional.tanh,
        functional.hardswish,
        functional.hardsigmoid,
        functional.silu,
        functional.gelu,
        functional.elu,
        functional.leaky_relu,
        functional.softplus,
        functional.celu,
        torch.selu,
        functional.mish,
        functional.softsign,
        lambda x: functional.celu(x, alpha=2.0),
        lambda x: functional.gelu(x, approximate="tanh"),
        lambda x: functional.elu(x, 0.25),
        lambda x: functional.leaky_relu(x, negative_slope=0.25),
        lambda x: functional.softplus(x, beta=3.0, threshold=1.0),
    ],
)
def test_functions_are_torchs(function: Callable[[Tensor], Tensor]) -> None:
    x = torch.linspace(-4, 4, 17).reshape(1, -1)
    got = float_output(Function(function), (17,), x)
    # 1 + tanh cancels down to one unit of float64 in gelu's approximation.
    np.testing.assert_allclose(got, function(x.double()).numpy(), rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("name", sorted(EXACT))
def test_exact_values_are_torchs_to_float64(name: str) -> None:
    parameters = Parameters(negative_slope=0.125, alpha=0.75, beta=2.0)
    attrs = LutAttrs(name, negative_slope=0.125, alpha=0.75, beta=2.0)
    xs = [Fraction(k, 16) for k in range(-400, 401, 7)] + [Fraction(0)]
    want = smooth(attrs, torch.tensor([float(x) for x in xs], dtype=torch.float64)).numpy()
    got = np.array([float(EXACT[name](x, parameters)) for x in xs])
    # Torch rounds a handful of float64 operations; gelu's 1 + erf cancels down to 2^-53 of x.
    np.testing.assert_allclose(got, want, rtol=1e-13, atol=1e-14)


def test_erf_has_sixty_digits() -> None:
    """Against the exact Taylor series in Fractions: sum (-1)^n z^(2n+1) / (n! (2n+1))."""
    for z in (Fraction(1, 8), Fraction(1), Fraction(5, 2)):
        total, n = Fraction(0), 0
        while True:
            term = z ** (2 * n + 1) / math.factorial(n) / (2 * n + 1)
            total += term if n % 2 == 0 else -term
            if term < Fraction(1, 10**60):
                break
            n += 1
        want = total * Fraction(elementary.TWO_OVER_ROOT_PI)
        assert abs(elementary.erf(z) - want) < Fraction(1, 10**55)
        assert elementary.erf(-z) == -elementary.erf(z)


def test_ties_round_away_from_zero() -> None:
    assert [round_half_away(Fraction(n, 2)) for n in (-5, -3, -1, 1, 3, 5)] == [-3, -2, -1, 1, 2, 3]
    # hardsigmoid(x) = (x + 3) / 6 with S = 1/8 in and out: (q + 24) / 6 has ties at q = 3 + 6 k.
    entries = table("hardsigmoid", Parameters(), (1 / 8, 0), (1 / 8, 0))
    for q in (-21, -15, -9, -3, 3, 9, 15, 21):
        assert entries[q + 128] == math.floor((q + 24) / 6 + 0.5)
    entries = table("leaky_relu", Parameters(negative_slope=0.5), (1.0, 0), (1.0, 0))
    assert [entries[q + 128] for q in (-1, -2, -3, -4, 5)] == [-1, -1, -2, -2, 5]


def test_table_saturates_and_stays_monotone() -> None:
    for name in ("sigmoid", "tanh", "exp", "softplus", "leaky_relu", "elu"):
        entries = table(name, Parameters(), (0.5, -7), (1 / 128, 3))
        assert list(entries) == sorted(entries)
        assert max(entries) == 127
    assert table("exp", Parameters(), (1e4, 0), (1.0, -128))[:2] == (-128, -128)


def test_bounded_functions_have_one_encoding() -> None:
    for scheme, sigmoid, tanh in (
        ("affine", Affine((1 / 256,), -128), Affine((1 / 128,), 0)),
        ("pow2", Pow2((7,)), Pow2((7,))),
    ):
        net = nn.Sequential(nn.Sigmoid(), nn.Tanh())
        model, _ = trained(net, (5,), scheme)
        encodings = [n.output.type.encoding for n in model.export().nodes]
        assert encodings == [sigmoid, tanh]


@pytest.mark.parametrize("name", sorted(EXACT))
def test_gradient_is_the_functions_slope_in_codes(name: str) -> None:
    ex, ey = Affine((0.05,), 4), Affine((0.02,), -20)
    x, y = sampling.kind((1, 256), ex), sampling.kind((1, 256), ey)
    attrs = LutAttrs(name)
    carriers = (torch.arange(-128, 128) - 4).float().reshape(1, -1).requires_grad_()
    entries = torch.as_tensor(table_of(attrs, x, y))
    inputs = LutInputs(carriers, table=entries)
    Lut.surrogate(attrs, NodeTypes(LutInputs(x), (y,)), inputs).sum().backward()
    real = (carriers.detach() * 0.05).requires_grad_()
    smooth(attrs, real).sum().backward()
    torch.testing.assert_close(carriers.grad, real.grad * (0.05 / 0.02))


def test_training_moves_through_a_lut() -> None:
    model = Model(nn.Sequential(nn.Linear(4, 4), nn.GELU(), nn.Linear(4, 1)), input=(4,))
    model.train()
    model(torch.randn(16, 4)).sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.net.parameters())


def test_what_is_no_table_is_refused() -> None:
    x = sampling.kind((1, 5), Pow2((3,)))
    with pytest.raises(BadAttribute, match="function"):
        Lut.infer(LutAttrs("cosine"), LutInputs(x))
    with pytest.raises(BadAttribute, match="function"):
        Lut.infer(LutAttrs(""), LutInputs(TensorType((1, 5), DType.F32, Real())))
    with pytest.raises(SeveralProblems, match="table"):
        wrong = TensorType((255,), DType.S8, Real())
        Lut.infer(LutAttrs("softplus", beta=0.0), LutInputs(x, table=wrong))
    with pytest.raises(BadAttribute, match="alpha: want > 0"):
        Lut.infer(LutAttrs("celu", alpha=-1.0), LutInputs(x))
    with pytest.raises(BadAttribute, match="negative_slope: want a finite number"):
        Lut.infer(LutAttrs("leaky_relu", negative_slope=math.nan), LutInputs(x))
