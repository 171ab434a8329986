"""Straight-through gradients against values derived by hand, and batch norm's against torch's own
in float64.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # torch's own convention
from torch import Tensor

from isobit.core import fixed_torch
from isobit.core.fixed import Rounding
from isobit.core.fixed_torch import HARD
from isobit.core.types import FloatArray, scale_of
from isobit.ops.schemes import Scheme
from isobit.train import channels, norm
from isobit.train.moments import moments_of
from isobit.train.ste import round_all, ste_round

from .nets import SCHEMES, digits, make_twin, trained_twin

both_schemes = pytest.mark.parametrize("scheme", SCHEMES, ids=lambda s: s.value)


def test_rounding_of_a_parameter_passes_one_over_step() -> None:
    w = torch.tensor([0.2, -0.37, 5.0], requires_grad=True)
    codes = ste_round(w, torch.tensor([2.0, 4.0, 100.0]), -127, 127)
    assert codes.tolist() == [0.0, -1.0, 127.0]
    codes.backward(torch.tensor([1.0, 2.0, 3.0]))
    assert w.grad is not None
    assert w.grad.tolist() == pytest.approx([2.0, 8.0, 300.0])


def test_rounding_several_parameters_is_rounding_each() -> None:
    generator = torch.Generator().manual_seed(2)
    shapes = [(4, 3, 3, 2), (5, 7), (1, 3, 3, 4)]
    x = [torch.randn(shape, generator=generator) * 90 for shape in shapes]
    inverses = [torch.rand(4, 1, 1, 1, generator=generator), torch.ones(5, 1), torch.rand(1)]
    factors = [torch.ones(1), torch.randn(5, 1, generator=generator), torch.full((4,), -0.7)]
    upstream = [torch.randn(shape, generator=generator) for shape in shapes]
    found: list[list[Tensor]] = []
    for together in (True, False):
        leaves = [tensor.clone().requires_grad_() for tensor in x]
        if together:
            codes = round_all(leaves, inverses, factors, -127, 127)
        else:
            each = zip(leaves, inverses, factors, strict=True)
            codes = tuple(ste_round(a, inverse, -127, 127, factor) for a, inverse, factor in each)
        torch.autograd.backward(codes, upstream)
        found.append([*codes, *(leaf.grad for leaf in leaves if leaf.grad is not None)])
    assert len(found[0]) == len(found[1]) == 6
    for one, other in zip(*found, strict=True):
        assert torch.equal(one, other)


def test_requantisation_passes_the_multiplier_strictly_inside() -> None:
    """Y = clamp(floor(acc * 3/16 + 1/2), -6, 6): dy/dacc = 3/16 for |y| < 6, else 0."""
    acc = torch.tensor([[10.0, -20.0, 100.0, -100.0, 32.0]], requires_grad=True)
    mult, shift = torch.tensor([3]), torch.tensor([4])
    for rounding_path in (acc * 1.0, acc.double()):
        acc.grad = None
        y = fixed_torch.requantize(rounding_path, mult, shift, Rounding.HALF_UP, -6, 6)
        assert y.tolist() == [[2.0, -4.0, 6.0, -6.0, 6.0]]
        y.sum().backward()
        assert acc.grad is not None
        assert acc.grad.tolist() == [[0.1875, 0.1875, 0.0, 0.0, 0.0]]


@both_schemes
@pytest.mark.parametrize("limited", [False, True], ids=["range", "activation"])
def test_linear_gradients_are_those_of_the_real_layer(scheme: Scheme, limited: bool) -> None:
    """With y = sum w x + b in real units: dy/dw = x and dy/db = 1, x as quantised.

    Nothing passes an activation's limit, as in torch; the end of a range is no limit of the
    user's and passes.
    """
    layer = torch.nn.Linear(3, 2)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[0.5, -0.25, 0.75], [1.0, 0.5, -0.5]]))
        layer.bias.copy_(torch.tensor([0.125, -0.25]))
    layers = [layer, torch.nn.Hardtanh(-0.42, 0.5)] if limited else [layer]
    twin = make_twin(torch.nn.Sequential(*layers), scheme, shape=(3,))
    x = torch.tensor([[0.5, -0.5, 0.25], [0.25, 0.5, -0.75], [0.99, -0.99, 0.99]])
    twin.calibrate(x[:2])
    twin.freeze()
    y = twin(x)
    (step,) = twin.steps
    q = twin.numbers.around(step)
    low, high = twin.numbers.attrs[step.name].clamp
    codes = torch.from_numpy(twin.trace(x)[step.name]).double()
    inside = (codes > low) & (codes < high)
    assert not inside[2, 0] and inside[2, 1], "one output is meant to be clamped"
    seen = (torch.from_numpy(twin.trace(x)["input"]).double() - q.inputs.x.zero) * float(
        scale_of(q.inputs.x.encoding)[0]
    )
    upstream = torch.tensor([[1.0, 2.0], [-1.0, 0.5], [3.0, 3.0]])
    y.backward(upstream)
    passed = upstream.double() * inside if limited else upstream.double()
    assert layer.weight.grad is not None and layer.bias.grad is not None
    # float32 gradients of a handful of terms: 1e-5 is a hundred roundings of 2^-24 each.
    assert torch.allclose(layer.weight.grad.double(), passed.T @ seen, rtol=1e-5, atol=1e-7)
    assert torch.allclose(layer.bias.grad.double(), passed.sum(0), rtol=1e-5, atol=1e-7)


def test_outputs_below_a_relu_pass_nothing_and_above_the_range_everything() -> None:
    layer = torch.nn.Linear(4, 3)
    twin = make_twin(torch.nn.Sequential(layer, torch.nn.ReLU()), Scheme.AFFINE, shape=(4,))
    twin.calibrate(torch.rand(8, 4))
    with torch.no_grad():
        layer.bias.copy_(torch.tensor([-50.0, 50.0, -50.0]))  # below the ReLU, above the range
    twin.eval()  # keeps the ranges of before
    twin(torch.rand(5, 4)).sum().backward()
    assert layer.weight.grad is not None and layer.bias.grad is not None
    assert not layer.weight.grad[[0, 2]].any()
    # float32, five terms
    assert layer.bias.grad.tolist() == pytest.approx([0.0, 5.0, 0.0], rel=1e-5)


Y_STEP = 2.0**-6
COARSE = 2.0**-7
"""Largest difference of a forward value to the real one: half a step of `Y_STEP`, so 2^-7."""


def normed(gamma: list[float]) -> tuple[Tensor, channels.Affine, FloatArray]:
    """Integer sums [N, H, W, C] of a layer with step `Sx * Sw` = 2^-10, and learned parameters."""
    generator = torch.Generator().manual_seed(3)
    count = len(gamma)
    acc = torch.randint(-3000, 3000, (6, 3, 3, count), generator=generator).double()
    acc[..., -1] += 500
    learned = channels.Affine(
        torch.tensor(gamma, requires_grad=True),
        torch.linspace(-0.3, 0.4, count).requires_grad_(),
        torch.linspace(0.1, -0.1, count),
        1e-5,
    )
    return acc, learned, np.full(count, 2.0**-10)


def sign(gamma: Tensor) -> Tensor:
    return torch.where(gamma.detach() < 0, -1.0, 1.0).double()


def torch_gradients(
    acc: Tensor, learned: channels.Affine, step: FloatArray, upstream: Tensor
) -> tuple[Tensor, ...]:
    """Value and gradients of F.batch_norm in float64 on c = sign(gamma) * step * acc + bias, in
    units of Y_STEP.
    """
    x = acc.clone().requires_grad_()
    gamma = learned.gamma.detach().double().requires_grad_()
    beta = learned.beta.detach().double().requires_grad_()
    c = x * torch.from_numpy(step) * sign(learned.gamma) + learned.bias.double()
    y = F.batch_norm(
        c.permute(0, 3, 1, 2), None, None, gamma, beta, training=True, eps=learned.eps
    ).permute(0, 2, 3, 1)
    (y / Y_STEP).backward(upstream)
    assert x.grad is not None and gamma.grad is not None and beta.grad is not None
    return y.detach() / Y_STEP, x.grad, gamma.grad, beta.grad


@pytest.mark.parametrize("carrier", [torch.float32, torch.float64])
def test_batch_norm_gradient_is_torchs(carrier: torch.dtype) -> None:
    """Nothing is clamped and only the multiplier is rounded, so both agree far better than 1 %.

    The multiplier has at least 15 bits or lies on the 2^-16 grid above 32 (relative 2^-6), here M
    >= 0.05, that is k >= 3000: 2^-12 relative. The gradient itself uses float statistics (2^-24),
    so 1e-3 leaves room for both.
    """
    acc, learned, step = normed([0.8, -0.5, 1.3, -1.1])
    x = acc.clone().to(carrier).requires_grad_()
    gains = channels.gains(learned.arrays, step, Y_STEP)
    statistics = channels.statistics_of(moments_of(x), gains)
    folded = channels.fold(gains, statistics)
    y = norm.norm_requantize(
        x * 1.0, learned, folded, statistics, step, Y_STEP, (-(2**14), 2**14), HARD, moving=True
    )
    upstream = torch.randn(y.shape, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    y.backward(upstream.float())
    want, to_acc, to_gamma, to_beta = torch_gradients(acc, learned, step, upstream)
    # One rounding of y (1/2), one of the bias (M / 2 < 1/2), and the multiplier's 2^-12 of |y| <
    # 256.
    assert (y.double() - want).abs().max() < 1.1
    assert x.grad is not None and learned.gamma.grad is not None and learned.beta.grad is not None
    for got, wanted in (
        (x.grad, to_acc),
        (learned.gamma.grad, to_gamma),
        (learned.beta.grad, to_beta),
    ):
        assert (got.double() - wanted).abs().max() <= 1e-3 * wanted.abs().max()


@pytest.mark.parametrize("soft", [(False, False), (True, False), (False, True), (True, True)])
def test_batch_norm_gradient_is_masked_where_clamped(soft: tuple[bool, bool]) -> None:
    acc, learned, step = normed([0.8, -0.5])
    x = acc.float().requires_grad_()
    gains = channels.gains(learned.arrays, step, Y_STEP)
    statistics = channels.statistics_of(moments_of(x), gains)
    folded = channels.fold(gains, statistics)
    y = norm.norm_requantize(
        x * 1.0, learned, folded, statistics, step, Y_STEP, (-20, 40), soft, moving=True
    )
    assert 0.1 < ((y > -20) & (y < 40)).double().mean() < 0.9
    inside = ((y > -20) | soft[0]) & ((y < 40) | soft[1])
    upstream = torch.randn(y.shape, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    y.backward(upstream.float())
    _, to_acc, to_gamma, to_beta = torch_gradients(acc, learned, step, upstream * inside)
    assert x.grad is not None and learned.gamma.grad is not None and learned.beta.grad is not None
    assert (x.grad.double() - to_acc).abs().max() <= 1e-3 * to_acc.abs().max()
    assert torch.allclose(learned.gamma.grad.double(), to_gamma, rtol=1e-3, atol=1e-3)
    assert torch.allclose(learned.beta.grad.double(), to_beta, rtol=1e-3, atol=1e-3)


def test_batch_norm_with_gamma_zero_stays_finite_and_can_leave_zero() -> None:
    acc, learned, step = normed([0.0, 1.0])
    x = acc.float().requires_grad_()
    gains = channels.gains(learned.arrays, step, Y_STEP)
    statistics = channels.statistics_of(moments_of(x), gains)
    folded = channels.fold(gains, statistics)
    assert int(folded.mult.min()) > 0 and np.abs(folded.bias).max() < 2**29
    y = norm.norm_requantize(
        x * 1.0, learned, folded, statistics, step, Y_STEP, (-127, 127), HARD, moving=True
    )
    beta = float(learned.beta.detach()[0])
    assert (y[..., 0] - beta / Y_STEP).abs().max() <= 1, "a channel without slope is its offset"
    upstream = torch.randn(y.shape, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    inside = (y > -127) & (y < 127)
    y.backward(upstream.float())
    _, to_acc, to_gamma, _ = torch_gradients(acc, learned, step, upstream * inside)
    assert x.grad is not None and learned.gamma.grad is not None
    assert x.grad[..., 0].abs().max() == 0, "gamma = 0 passes nothing on, as in torch"
    assert (x.grad.double() - to_acc).abs().max() <= 1e-3 * to_acc.abs().max()
    assert to_gamma[0] != 0
    assert torch.allclose(learned.gamma.grad.double(), to_gamma, rtol=1e-3, atol=1e-3)


def test_frozen_batch_norm_gradient_is_a_plain_slope() -> None:
    """With fixed statistics y = gamma (c - mu) / sigma + beta: no part of the batch's own
    moments.
    """
    acc, learned, step = normed([0.8, -0.5])
    x = acc.float().requires_grad_()
    gains = channels.gains(learned.arrays, step, Y_STEP)
    statistics = channels.statistics_of(moments_of(x), gains)
    folded = channels.fold(gains, statistics)
    y = norm.norm_requantize(
        x * 1.0, learned, folded, statistics, step, Y_STEP, (-(2**14), 2**14), HARD, moving=False
    )
    upstream = torch.randn(y.shape, generator=torch.Generator().manual_seed(4))
    y.backward(upstream)
    sigma = (torch.from_numpy(statistics.var).double() + learned.eps).sqrt()
    sizes = torch.from_numpy(step)
    slope = learned.gamma.detach().abs().double() * sizes / sigma / Y_STEP
    c = acc * sizes * sign(learned.gamma) + learned.bias.double()
    hat = (c - torch.from_numpy(statistics.mean).double()) / sigma / Y_STEP
    assert x.grad is not None and learned.gamma.grad is not None and learned.beta.grad is not None
    assert torch.allclose(x.grad.double(), upstream.double() * slope, rtol=1e-4, atol=1e-9)
    want = (upstream.double() * hat).sum((0, 1, 2))
    assert torch.allclose(learned.gamma.grad.double(), want, rtol=1e-4, atol=1e-3)
    want = upstream.double().sum((0, 1, 2)) / Y_STEP
    assert torch.allclose(learned.beta.grad.double(), want, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("gamma", [0.8, -0.5], ids=["positive", "negative"])
def test_pow2_batch_norm_gradient_is_torchs(gamma: float) -> None:
    """Folded weights: sums are gamma / sigma times the plain layer's. The gradient is that of a
    batch norm on them.

    With the running statistics equal to the batch's, the slope it hands to the sums is 2^-shift (1
    in real units over `Sx * Sw`), less its parts along the batch's mean and scale; gamma's gradient
    is that of the plain layer.
    """
    generator = torch.Generator().manual_seed(5)
    plain = torch.randn(8, 3, 3, 1, generator=generator, dtype=torch.float64) * 900
    var, mean = torch.var_mean(plain, correction=0)
    sums_step = 2.0**-10  # of the folded sums
    folded = (plain * gamma / var.sqrt() / sums_step).round()
    beta = 0.25
    offset = ((beta - gamma * float(mean) / float(var.sqrt())) / sums_step).__round__()
    learned = channels.Affine(
        torch.tensor([gamma], requires_grad=True),
        torch.tensor([beta], requires_grad=True),
        torch.zeros(1),
        1e-5,
    )
    x = folded.clone().requires_grad_()
    y = norm.shift_requantize(
        x * 1.0,
        moments_of(x),
        learned,
        np.array([float(offset)]),
        np.array([4]),
        Y_STEP,
        (-(2**14), 2**14),
        HARD,
    )
    upstream = torch.randn(y.shape, generator=generator, dtype=torch.float64)
    y.backward(upstream.float())
    p = plain.clone().requires_grad_()
    g = torch.tensor([gamma], dtype=torch.float64, requires_grad=True)
    b = torch.tensor([beta], dtype=torch.float64, requires_grad=True)
    want = F.batch_norm(p.permute(0, 3, 1, 2), None, None, g, b, training=True, eps=1e-5)
    want = want.permute(0, 2, 3, 1) / Y_STEP
    want.backward(upstream)
    assert (
        y.double() - want
    ).abs().max() < 1.1  # y, bias and sums are rounded: 1/2 + 2 * 1/2 * 2^-4
    assert p.grad is not None and x.grad is not None
    to_folded = p.grad * var.sqrt() * sums_step / gamma
    # `shift_requantize` adds 1e-3 (in squared sums) to the variance: relative 1e-3 / var(sums) <
    # 1e-8 here.
    assert (x.grad - to_folded).abs().max() <= 1e-2 * to_folded.abs().max()
    assert learned.gamma.grad is not None and g.grad is not None
    assert learned.beta.grad is not None and b.grad is not None
    assert torch.allclose(learned.gamma.grad.double(), g.grad, rtol=1e-2, atol=1e-2)
    assert torch.allclose(learned.beta.grad.double(), b.grad, rtol=1e-2, atol=1e-2)


def test_pow2_batch_norm_with_gamma_zero_stays_finite() -> None:
    learned = channels.Affine(
        torch.zeros(1, requires_grad=True), torch.ones(1, requires_grad=True), torch.zeros(1), 1e-5
    )
    x = torch.zeros(4, 2, 2, 1, requires_grad=True)
    y = norm.shift_requantize(
        x * 1.0,
        moments_of(x),
        learned,
        np.array([64.0]),
        np.array([4]),
        Y_STEP,
        (-128, 127),
        HARD,
    )
    y.sum().backward()
    for grad in (x.grad, learned.gamma.grad, learned.beta.grad):
        assert grad is not None and torch.isfinite(grad).all()


@both_schemes
def test_every_parameter_gets_a_finite_gradient(scheme: Scheme) -> None:
    """A convolution's own bias under a batch norm is the exception: the norm subtracts it again."""
    twin = trained_twin(scheme)
    x, y = digits(32)
    twin.zero_grad()
    F.cross_entropy(twin(x), y).backward()
    for name, parameter in twin.net.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
        if name in ("1.bias", "9.bias"):
            assert not parameter.grad.any(), name
        else:
            assert parameter.grad.any(), name


def test_a_shared_batch_norm_moves_once_for_each_layer() -> None:
    generator = torch.Generator().manual_seed(5)
    batches = [torch.randn(64, 3, generator=generator) * scale + 1 for scale in (1, 4, 2)]
    ours, torchs = torch.nn.BatchNorm1d(3), torch.nn.BatchNorm1d(3)
    means, variances = [], []
    for count, batch in enumerate(batches):
        var, mean = torch.var_mean(batch, dim=0, correction=0)
        means.append(mean.numpy())
        variances.append(var.numpy())
        torchs.momentum = 0.1 if count else 1.0  # the first batch replaces what was there
        torchs(batch)
    found = channels.Statistics(np.concatenate(means), np.concatenate(variances))
    channels.update_running([ours] * 3, [0.1] * 3, found, [len(batch) for batch in batches])
    for name, want in torchs.named_buffers():
        # Each move rounds to float32 a few times.
        assert torch.allclose(ours.get_buffer(name).float(), want.float(), rtol=1e-6), name
