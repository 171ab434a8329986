"""What a training will cost, measured on a copy of the model before it starts."""

from __future__ import annotations

import copy
import time
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import nn

from isobit.core.arguments import Arguments
from isobit.train.distributed import alone
from isobit.train.examples import Examples, device_of, read_examples
from isobit.train.history import Moment, OnStep
from isobit.train.loop import Training
from isobit.train.plan import Plan
from isobit.train.recipe.types import Run

STEPS = 20
RESET = Path("/proc/self/clear_refs")
STATUS = Path("/proc/self/status")


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """Of a training on one process."""

    steps: int
    """Of the whole run."""
    seconds: float
    """Of all steps, from the mean of those that were measured; validation not included."""
    measured_steps: int
    parameter_bytes: int
    """Parameters and buffers."""
    optimizer_bytes: int
    """Gradients, what the optimizer keeps, and the averaged weights."""
    activation_bytes: int | None
    """How much more the process (on CUDA: the device) held at its peak while it trained; None where
    the system does not say."""


class _EnoughSteps(Exception):
    """So many steps were measured."""


def _stop(_: Moment) -> None:
    raise _EnoughSteps


def measure(model: nn.Module, train: Examples, plan: Plan, *, steps: int = STEPS) -> Cost:
    """Train a deep copy for `steps` steps after a first one; return what the run would cost.

    The model, torch's random state and every file stay as they are. Raises `BadArgument`, and what
    a first step raises.
    """
    given = Arguments("measure")
    steps = given.integer("steps", steps, at_least=1)
    x, y = read_examples(given, "train", train, model)
    given.check()
    random = torch.random.get_rng_state()
    moments: list[float] = []

    def take(moment: Moment) -> None:
        moments.append(time.monotonic())
        if len(moments) > steps:
            raise _EnoughSteps

    run = replace(plan.run, patience=0, tensorboard=False)

    def training_of(run: Run, on_step: OnStep) -> Training:
        return Training(
            fabric=alone(device_of(model)),
            model=copy.deepcopy(model),
            plan=replace(plan, run=run),
            train=(x, y),
            val=(x[:1], y[:1]),
            on_step=on_step,
        )

    try:
        # What torch loads late is no memory of the training: a step on two examples comes first.
        with suppress(_EnoughSteps):
            training_of(replace(run, batch_size=2), _stop).run()
        training = training_of(run, take)
        before = _reset_peak(device_of(model))
        with suppress(_EnoughSteps):
            training.run()
    finally:
        torch.random.set_rng_state(random)
    peak = _peak(device_of(model))
    measured = max(1, len(moments) - 1)
    own = (moments[-1] - moments[0]) / measured
    total = training.steps * plan.run.epochs
    kept = training.kept_bytes()
    held = None if before is None or peak is None else max(0, peak - before - kept)
    return Cost(
        steps=total,
        seconds=own * total,
        measured_steps=measured,
        parameter_bytes=_bytes(model),
        optimizer_bytes=kept,
        activation_bytes=held,
    )


def _bytes(model: nn.Module) -> int:
    tensors = [*model.parameters(), *model.buffers()]
    return sum(t.numel() * t.element_size() for t in tensors)


def _reset_peak(device: torch.device) -> int | None:
    """Forget the largest memory use so far; return the present one in bytes."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return int(torch.cuda.memory_allocated(device))
    try:
        RESET.write_text("5")  # Linux: VmHWM starts again at the present size
    except OSError:
        return None
    return _status("VmRSS")


def _peak(device: torch.device) -> int | None:
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    return _status("VmHWM")


def _status(name: str) -> int | None:
    """Return a line of the kernel's account of this process, in bytes."""
    try:
        lines = STATUS.read_text().splitlines()
    except OSError:
        return None
    found = next((line.split() for line in lines if line.startswith(f"{name}:")), None)
    return None if found is None else int(found[1]) * 1024
