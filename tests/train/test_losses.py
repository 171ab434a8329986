"""Losses against float64 NumPy written from their equations, and the average of the weights."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

import isobit
from isobit import nn
from isobit.core.errors import BadArgument, BadCheckpoint
from isobit.run.golden import run_golden
from isobit.train.ema import Ema
from isobit.train.losses import classification, distillation

from .nets import digits, take_steps

N, K = 12, 5
CLOSE = 1e-5
"""float32 logarithms and exponentials of a few ulps each (6e-8), over sums of K + N terms."""


def logits(seed: int) -> torch.Tensor:
    return torch.randn(N, K, generator=torch.Generator().manual_seed(seed)) * 3


def log_softmax(z: NDArray[np.float64]) -> NDArray[np.float64]:
    out = np.empty_like(z)
    for n in range(len(z)):
        out[n] = z[n] - np.log(sum(np.exp(v) for v in z[n]))
    return out


def labels(seed: int) -> torch.Tensor:
    return torch.randint(0, K, (N,), generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_classification_is_its_equation(smoothing: float) -> None:
    z, a, b = logits(0), labels(1), labels(2)
    lam = torch.rand(N, generator=torch.Generator().manual_seed(3))
    logs, total = log_softmax(z.double().numpy()), 0.0
    for n in range(N):
        for label, share in ((int(a[n]), float(lam[n])), (int(b[n]), 1 - float(lam[n]))):
            target = np.full(K, smoothing / K)
            target[label] += 1 - smoothing
            total -= share * float((target * logs[n]).sum())
    found = classification(z, a, b, lam, smoothing)
    assert float(found) == pytest.approx(total / N, rel=CLOSE)


def test_unmixed_labels_are_torchs_cross_entropy_in_every_bit() -> None:
    z, y = logits(0).requires_grad_(), labels(1)
    own = classification(z, y, y, torch.ones(N))
    (gradient,) = torch.autograd.grad(own, z)
    theirs = F.cross_entropy(z, y)
    assert torch.equal(own, theirs)
    assert torch.equal(gradient, torch.autograd.grad(theirs, z)[0])


def test_a_share_of_one_is_the_first_label() -> None:
    z, a, b = logits(0), labels(1), labels(2)
    assert torch.allclose(classification(z, a, b, torch.ones(N)), F.cross_entropy(z, a))
    assert torch.allclose(classification(z, a, b, torch.zeros(N)), F.cross_entropy(z, b))


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_distillation_is_its_equation(temperature: float) -> None:
    student, teacher = logits(0), logits(1)
    p = log_softmax(teacher.double().numpy() / temperature)
    q = log_softmax(student.double().numpy() / temperature)
    want = temperature**2 * float((np.exp(p) * (p - q)).sum()) / N
    found = distillation(student, teacher, temperature)
    assert float(found) == pytest.approx(want, rel=CLOSE)


def test_distillation_has_hintons_gradient() -> None:
    """Equation 2 of arXiv 1503.02531: (q - p) / T per logit, times T^2, over N images."""
    student, teacher = logits(0).requires_grad_(), logits(1).requires_grad_()
    distillation(student, teacher, 4.0).backward()  # type: ignore[no-untyped-call]  # torch's
    q = (student.detach().double() / 4).softmax(1)
    p = (teacher.detach().double() / 4).softmax(1)
    assert student.grad is not None and teacher.grad is None
    assert torch.allclose(student.grad.double(), 4 * (q - p) / N, atol=1e-7)


def test_distillation_of_the_teacher_itself_is_nothing() -> None:
    assert float(distillation(logits(0), logits(0), 3.0)) == 0.0


def model(scheme: str = "affine") -> isobit.Model:
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(256, 10),
    )
    return isobit.Model(net, input=(1, 8, 8), scheme=scheme)


def test_the_average_is_its_recurrence() -> None:
    one = torch.nn.Linear(3, 2)
    ema = Ema(one, 0.3)
    want = {name: p.detach().double().numpy() for name, p in one.named_parameters()}
    for n in range(1, 6):
        with torch.no_grad():
            for p in one.parameters():
                p.add_(n)
        ema.update(one)
        decay = min(0.3, (1 + n) / (10 + n))
        for name, p in one.named_parameters():
            new = p.detach().double().numpy()
            want[name] = decay * want[name] + (1 - decay) * new
    for name, average in ema.weights.items():
        assert np.allclose(average.numpy(), want[name], rtol=1e-6), name  # 5 float32 roundings


@pytest.mark.parametrize("scheme", ["affine", "pow2"])
def test_an_applied_average_is_exact_and_leaves_no_trace(scheme: str) -> None:
    one = model(scheme)
    x, _ = digits(64)
    take_steps(one, 3)
    ema = Ema(one, 0.9)
    with torch.no_grad():
        one.net[4].weight.mul_(1.7)  # beyond the range that weights had
    ema.update(one)
    one.eval()
    before = {name: value.clone() for name, value in one.state_dict().items()}
    raw = one(x)
    with ema.applied(one):
        averaged = one(x)
        golden = run_golden(one.export(), one.quantize_input(x))
        assert all(np.array_equal(golden[n], codes) for n, codes in one.trace(x).items())
        largest = one.net[4].weight.detach().abs().amax(1).double()
        weights = next(m for m in one.weight_ranges.values() if m.largest.shape == (10,))
        assert torch.equal(weights.largest, largest)
    assert not torch.equal(raw, averaged)
    after = one.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert torch.equal(one(x), raw)
    ema.copy_to(one)
    assert torch.equal(one(x), averaged)


def test_an_average_continues_in_the_same_bits() -> None:
    torch.manual_seed(0)
    one = torch.nn.Linear(4, 4)
    straight, stopped = Ema(one, 0.99), Ema(one, 0.99)
    for step in range(6):
        if step == 3:
            stream = io.BytesIO()
            torch.save(stopped.state_dict(), stream)
            stream.seek(0)
            stopped = Ema(torch.nn.Linear(4, 4), 0.99)
            stopped.load_state_dict(torch.load(stream, weights_only=True))
        with torch.no_grad():
            one.weight.add_(torch.randn(4, 4))
        straight.update(one)
        stopped.update(one)
    assert all(torch.equal(straight.weights[n], stopped.weights[n]) for n in straight.weights)


def test_foreign_averages_are_refused() -> None:
    own = Ema(torch.nn.Linear(4, 4), 0.99)
    before = {name: w.clone() for name, w in own.weights.items()}
    for other in (Ema(torch.nn.Linear(4, 3), 0.99), Ema(torch.nn.Linear(4, 4), 0.9)):
        with pytest.raises(BadCheckpoint, match="average of the weights"):
            own.load_state_dict(other.state_dict())
    with pytest.raises(BadCheckpoint):
        own.load_state_dict({})
    assert all(torch.equal(before[n], own.weights[n]) for n in before)


def test_wrong_arguments_of_an_average_are_refused() -> None:
    for decay in (0, 1, -0.5, None):
        with pytest.raises(BadArgument, match="decay"):
            Ema(torch.nn.Linear(2, 2), decay)  # type: ignore[arg-type]  # on purpose
    with pytest.raises(BadArgument, match="parameters to train"):
        Ema(torch.nn.ReLU(), 0.5)
