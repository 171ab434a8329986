"""What `isobit train --dry-run` says: bytes that are counted, and the time of both phases."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

import pytest
import torch
from torch.profiler import ProfilerActivity, profile

import isobit
from isobit import nn
from isobit.train import cost
from isobit.train.cost import Cost, measure
from isobit.train.fit import COSINE
from isobit.train.memory import Held, counting
from isobit.train.plan import Plan
from isobit.train.recipe import Distill, Optimizer, Run

from .nets import digits
from .runs import build

CPU = torch.device("cpu")
TRAIN, VAL = digits(256), digits(100, start=900)
SGD = Optimizer(name="nesterov", learning_rate=0.05)


def plan(**options: Any) -> Plan:
    run = Run(**{"epochs": 4, "batch_size": 32, "seed": 1, **options})
    return Plan(run=run, optimizer=SGD, schedule=COSINE)


def sizes(found: Cost) -> dict[str, int]:
    return {k: v for k, v in asdict(found).items() if k.endswith("_bytes")}


def convolutional(scheme: str) -> isobit.Model:
    """Activations outweigh everything else: 8x8x64 values of 4 bytes, 16 KB each image."""
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Standardize(),
        nn.Conv2d(1, 64, 3, padding=1),
        nn.BatchNorm2d(64),
        nn.ReLU(),
        nn.Conv2d(64, 32, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(512, 10),
    )
    return isobit.Model(net, input=(1, 8, 8), scheme=scheme, name="wide")


@pytest.mark.parametrize("scheme", ["affine", "pow2"])
def test_the_bytes_are_the_same_every_time(scheme: str) -> None:
    """Whatever the process did before: memory it freed, and garbage that waits in cycles."""
    first = measure(build(scheme), TRAIN, plan(float_epochs=1), steps=1)
    cycle: list[Any] = [torch.zeros(1_000_000)]
    cycle.append(cycle)
    del cycle
    again = measure(build(scheme), TRAIN, plan(float_epochs=1), steps=4)
    assert sizes(first) == sizes(again)
    assert gc.isenabled()


@pytest.mark.parametrize("float_epochs", [0, 1])
@pytest.mark.parametrize("scheme", ["affine", "pow2"])
def test_the_peak_is_what_the_profiler_sees(
    scheme: str, float_epochs: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The profiler sees every allocation, also what kernels take within one call: unfolded images
    and reordered weights, at most a quarter here. The count may never be more.
    """
    given = plan(epochs=1, float_epochs=float_epochs)
    counted = measure(convolutional(scheme), TRAIN, given, steps=1)
    profiled: list[int] = []

    @contextmanager
    def profiling(_: torch.device) -> Iterator[Held]:
        held = Held()
        with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as found:
            yield held
        results = found.profiler.kineto_results  # type: ignore[union-attr]  # it ran
        events = [e for e in results.events() if e.name() == "[memory]"]
        now = 0
        for event in sorted(events, key=lambda e: e.start_ns()):
            now += event.nbytes()
            held.peak = max(held.peak, now)
        profiled.append(held.peak)

    monkeypatch.setattr(cost, "counting", profiling)
    measure(convolutional(scheme), TRAIN, given, steps=1)
    peak = counted.optimizer_bytes + counted.activation_bytes
    assert 0.7 * profiled[-1] <= peak <= 1.01 * profiled[-1]


def test_counted_are_storages_not_views() -> None:
    kept = torch.zeros(1000)
    with counting(CPU) as held:
        a = torch.ones(1000)  # 4000 bytes
        b = a.view(10, 100).t()
        b += 1
        kept.view(-1).add_(1)
        assert (held.now, held.peak) == (4000, 4000)
        c = a.double()  # 8000 more
        del a
        assert (held.now, held.peak) == (12000, 12000)  # b keeps a's storage
        del b, c
        assert (held.now, held.peak) == (0, 12000)


def test_counted_is_what_the_gradient_needs() -> None:
    x, w = torch.ones(32, 100), torch.ones(100, 50, requires_grad=True)
    with counting(CPU) as held:
        y = x @ w  # kept by the square, which sees it again
        z = y * y
        assert held.now == 2 * 4 * 32 * 50
        z.sum().backward()
        assert w.grad is not None
        del y, z
        assert held.now == 4 * 100 * 50  # the gradient


def test_a_linear_step_costs_what_can_be_added_up() -> None:
    """Of a float network [64 -> 128 -> 10] on 32 images, at the last moment before the loss."""
    torch.manual_seed(0)
    model = torch.nn.Sequential(
        torch.nn.Flatten(), torch.nn.Linear(64, 128), torch.nn.Tanh(), torch.nn.Linear(128, 10)
    )
    found = measure(model, TRAIN, plan(), val=VAL, steps=1)
    weights = 4 * (64 * 128 + 128 + 128 * 10 + 10)
    assert found.parameter_bytes == weights
    assert found.optimizer_bytes == 2 * weights  # gradient and momentum
    assert found.data_bytes == (256 + 100) * (64 * 4 + 8)
    values = 4 * 256 * (128 + 128 + 10)  # the validation's, 256 images at once, is the larger one
    batch = 4 * 32 * (64 + 128 + 128 + 10 + 10)
    assert max(batch, values - 4 * 256 * 128) <= found.activation_bytes <= values + batch
    parts = found.parameter_bytes + found.optimizer_bytes + found.activation_bytes
    assert found.peak_bytes == parts + found.data_bytes


def test_more_images_at_once_need_more() -> None:
    many = digits(1024)  # batches above the 256 images of a validation, which is the peak else
    one, two = (
        measure(convolutional("affine"), many, plan(batch_size=n), steps=1) for n in (512, 1024)
    )
    assert 1.6 < two.activation_bytes / one.activation_bytes < 2.2
    assert (one.parameter_bytes, one.optimizer_bytes) == (two.parameter_bytes, two.optimizer_bytes)


def test_each_phase_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    """3 float epochs of 8 steps at 1 s and 1 exact one at 10 s are 104 s, not 4 times 8 s."""
    monkeypatch.setattr(cost, "_time", lambda start, phase, steps: (
        10.0 if phase.exact else 1.0, steps, 8
    ))  # fmt: skip
    peaks = {True: (5, 700), False: (5, 900)}
    monkeypatch.setattr(cost, "_count", lambda start, phase: peaks[phase.exact])
    found = measure(build("affine"), TRAIN, plan(float_epochs=3))
    assert (found.steps, found.seconds) == (32, 3 * 8 * 1.0 + 8 * 10.0)
    assert found.optimizer_bytes + found.activation_bytes == 900


def test_a_run_of_one_step_takes_time() -> None:
    found = measure(build("affine"), TRAIN, plan(epochs=1, batch_size=256))
    assert (found.steps, found.measured_steps) == (1, 1) and found.seconds > 0


def test_a_teacher_is_counted() -> None:
    torch.manual_seed(0)
    teacher = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10))
    given = Plan(
        run=plan().run,
        optimizer=SGD,
        schedule=COSINE,
        distill=Distill(teacher=__file__),  # type: ignore[arg-type]  # a name, not yet a Path
        teacher=teacher,
    )
    alone = measure(build("affine"), TRAIN, plan(), steps=1)
    found = measure(build("affine"), TRAIN, given, steps=1)
    assert found.parameter_bytes == alone.parameter_bytes + 4 * (64 * 10 + 10)
