"""Learning rates and optimizers against torch's own, and what both refuse."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.optim import lr_scheduler

from isobit.core.errors import BadArgument, IsobitError
from isobit.train import optimizers
from isobit.train.recipe import Optimizer, Schedule
from isobit.train.schedule import rate

CLOSE = 1e-12
"""torch multiplies its rate up step after step: a few hundred roundings of 2^-53 each."""


def rates(schedule: Schedule, steps_per_epoch: int, epochs: int, base: float = 0.4) -> list[float]:
    steps = steps_per_epoch * epochs
    return [rate(schedule, base, step, steps_per_epoch, epochs) for step in range(steps)]


def of_torch(
    make: Callable[[torch.optim.Optimizer], lr_scheduler.LRScheduler], steps: int
) -> list[float]:
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.4)
    scheduler, found = make(optimizer), []
    for _ in range(steps):
        found.append(float(optimizer.param_groups[0]["lr"]))
        optimizer.step()
        scheduler.step()
    return found


def test_cosine_is_torchs() -> None:
    own = rates(Schedule(name="cosine", final_fraction=0.05), 10, 6)
    theirs = of_torch(lambda o: lr_scheduler.CosineAnnealingLR(o, 60, eta_min=0.02), 60)
    assert own == pytest.approx(theirs, rel=CLOSE)


def test_steps_are_torchs() -> None:
    own = rates(Schedule(name="step", milestones=(0.5, 0.7, 0.75), gamma=0.2), 10, 8)
    theirs = of_torch(lambda o: lr_scheduler.MultiStepLR(o, [40, 56, 60], gamma=0.2), 80)
    assert own == pytest.approx(theirs, rel=CLOSE)


@pytest.mark.parametrize("steps", [10, 30, 90, 170])
def test_a_milestone_is_not_a_step_late(steps: int) -> None:
    """0.7 * 10 is more than 7 in binary."""
    own = rates(Schedule(name="step", milestones=(0.7,)), steps, 1, base=1.0)
    assert [r == 1.0 for r in own] == [step < 7 * steps // 10 for step in range(steps)]


def test_warm_up_is_torchs() -> None:
    own = rates(Schedule(name="cosine", warmup_epochs=1.5), 8, 5)
    theirs = of_torch(
        lambda o: lr_scheduler.SequentialLR(
            o,
            [
                lr_scheduler.LinearLR(o, start_factor=1 / 12, total_iters=11),
                lr_scheduler.CosineAnnealingLR(o, 28),
            ],
            milestones=[12],
        ),
        40,
    )
    assert own == pytest.approx(theirs, rel=CLOSE)


def test_constant_is_constant() -> None:
    assert set(rates(Schedule(name="constant"), 7, 3)) == {0.4}
    assert rates(Schedule(name="constant", warmup_epochs=1), 4, 2, base=1.0) == [
        0.25, 0.5, 0.75, 1.0, 1.0, 1.0, 1.0, 1.0,
    ]  # fmt: skip


@given(
    name=st.sampled_from(["constant", "step", "cosine"]),
    warmup=st.floats(0, 20),
    per_epoch=st.integers(1, 50),
    epochs=st.integers(1, 20),
    final=st.floats(0, 1),
    place=st.floats(0, 1),
)
def test_every_rate_is_in_its_range(
    name: Any, warmup: float, per_epoch: int, epochs: int, final: float, place: float
) -> None:
    schedule = Schedule(
        name=name,
        warmup_epochs=warmup,
        milestones=(0.3, 0.8) if name == "step" else (),
        final_fraction=final if name == "cosine" else 0.0,
    )
    step = min(per_epoch * epochs - 1, int(place * per_epoch * epochs))
    assert 0 < rate(schedule, 2.0, step, per_epoch, epochs) <= 2.0 or (
        name == "cosine" and final == 0
    )


@pytest.mark.parametrize(
    ("changed", "what"),
    [
        ({"schedule": "cosine"}, "schedule"),
        ({"base": 0}, "base"),
        ({"step": -1}, "step"),
        ({"step": 20}, "step"),
        ({"steps_per_epoch": 0}, "steps_per_epoch"),
        ({"epochs": 1.5}, "epochs"),
    ],
)
def test_wrong_arguments_are_refused(changed: dict[str, Any], what: str) -> None:
    right = {
        "schedule": Schedule(name="constant"), "base": 1.0,
        "step": 0, "steps_per_epoch": 10, "epochs": 2,
    }  # fmt: skip
    with pytest.raises(BadArgument) as caught:
        rate(**{**right, **changed})
    assert what in {problem.what for problem in caught.value.problems}


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 3)
    )


def trained(
    make: Callable[[nn.Module], torch.optim.Optimizer], clip: Callable[[nn.Module], object]
) -> list[torch.Tensor]:
    net = network()
    optimizer = make(net)
    x = torch.randn(8, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    for _ in range(4):
        optimizer.zero_grad()
        net(x).square().sum().backward()
        clip(net)
        optimizer.step()
    return [p.detach() for p in net.parameters()]


def nothing(_: nn.Module) -> None:
    return None


RULES: list[tuple[Optimizer, Callable[[nn.Module], torch.optim.Optimizer]]] = [
    (
        Optimizer(name="sgd", learning_rate=0.01, momentum=0.8, weight_decay=0.1),
        lambda m: torch.optim.SGD(
            m.parameters(), lr=0.01, momentum=0.8, weight_decay=0.1, foreach=False
        ),
    ),
    (
        Optimizer(name="sgd", learning_rate=0.01, momentum=0),
        lambda m: torch.optim.SGD(m.parameters(), lr=0.01, foreach=False),
    ),
    (
        Optimizer(name="nesterov", learning_rate=0.01),
        lambda m: torch.optim.SGD(
            m.parameters(), lr=0.01, momentum=0.9, nesterov=True, foreach=False
        ),
    ),
    (
        Optimizer(name="adam", learning_rate=0.01, betas=(0.8, 0.95), weight_decay=0.1),
        lambda m: torch.optim.Adam(
            m.parameters(), lr=0.01, betas=(0.8, 0.95), weight_decay=0.1, foreach=False
        ),
    ),
    (
        Optimizer(name="adamw", learning_rate=0.01, weight_decay=0.1),
        lambda m: torch.optim.AdamW(m.parameters(), lr=0.01, weight_decay=0.1, foreach=False),
    ),
]


@pytest.mark.parametrize(("own", "theirs"), RULES, ids=lambda v: getattr(v, "name", ""))
def test_rules_are_torchs(
    own: Optimizer, theirs: Callable[[nn.Module], torch.optim.Optimizer]
) -> None:
    """Lists of tensors compute the bits of one tensor after the other."""
    found = trained(lambda m: optimizers.make(own, m), nothing)
    for a, b in zip(found, trained(theirs, nothing), strict=True):
        assert torch.equal(a, b)


def test_biases_and_norms_need_not_decay() -> None:
    settings = Optimizer(
        name="sgd", learning_rate=1, momentum=0, weight_decay=0.5, decay_biases_and_norms=False
    )
    net = network()
    before = [p.detach().clone() for p in net.parameters()]
    optimizer = optimizers.make(settings, net)
    for p in net.parameters():
        p.grad = torch.zeros_like(p)
    optimizer.step()
    for old, new in zip(before, net.parameters(), strict=True):
        assert torch.equal(new, old / 2 if old.dim() > 1 else old)
    assert sum(len(group["params"]) for group in optimizer.param_groups) == len(before)


def test_frozen_parameters_are_left_out() -> None:
    net = network()
    for p in net[0].parameters():
        p.requires_grad_(False)
    optimizer = optimizers.make(Optimizer(name="adam", learning_rate=1), net)
    assert sum(len(group["params"]) for group in optimizer.param_groups) == 4


def test_clipping_scales_the_whole_gradient() -> None:
    net = network()
    optimizer = Optimizer(name="sgd", learning_rate=1, clip_norm=0.5)
    generator = torch.Generator().manual_seed(0)
    grads = [torch.randn(p.shape, generator=generator) for p in net.parameters()]
    norm = float(torch.cat([g.double().flatten() for g in grads]).norm())
    for p, g in zip(net.parameters(), grads, strict=True):
        p.grad = g.clone()
    assert optimizers.clip(optimizer, net) == pytest.approx(norm, rel=1e-6)
    for p, g in zip(net.parameters(), grads, strict=True):
        assert p.grad is not None
        # float32 roundings of norm, factor and product
        assert torch.allclose(p.grad, g * (0.5 / (norm + 1e-6)), rtol=1e-6)


def test_short_gradients_and_no_limit_change_nothing() -> None:
    net = network()
    for p in net.parameters():
        p.grad = torch.full_like(p, 1e-3)
    assert optimizers.clip(Optimizer(name="sgd", learning_rate=1), net) is None
    assert optimizers.clip(Optimizer(name="sgd", learning_rate=1, clip_norm=10), net) is not None
    assert all(bool((p.grad == 1e-3).all()) for p in net.parameters() if p.grad is not None)


def test_nothing_to_train_is_refused() -> None:
    with pytest.raises(BadArgument, match="parameters to train"):
        optimizers.make(Optimizer(name="sgd", learning_rate=1), nn.ReLU())
    with pytest.raises(IsobitError) as caught:
        optimizers.make("sgd", 3)  # type: ignore[arg-type]  # on purpose
    assert [problem.what for problem in caught.value.problems] == ["optimizer", "module"]
