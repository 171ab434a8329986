"""What a training will cost, measured on copies of the model before it starts."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from isobit.core import torch_scratch
from isobit.core.arguments import Arguments
from isobit.train.checks import check_augment, check_parts
from isobit.train.distributed import alone
from isobit.train.evaluate import AT_ONCE, Scores, classes
from isobit.train.examples import Examples, device_of, read_examples
from isobit.train.history import Moment, OnStep
from isobit.train.loop import Training
from isobit.train.memory import counting, size_of
from isobit.train.plan import Plan
from isobit.train.recipe.types import Run
from isobit.train.twin import Twin

STEPS = 20
COUNTED = 2
"""Steps whose memory is counted: from the second on gradients and the optimizer's state exist."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """Of a training on one process. The bytes are counted: the same on every run on a machine."""

    steps: int
    """Of the whole run."""
    seconds: float
    """Of all steps, from the mean of those that were measured; validation not included."""
    measured_steps: int
    """In each phase, where a float one comes first."""
    parameter_bytes: int
    """Parameters and buffers, of a teacher, too."""
    optimizer_bytes: int
    """Gradients, what the optimizer keeps, and the averaged weights."""
    activation_bytes: int
    """What else there is at the peak: batch, activations kept for the gradient, temporaries."""
    data_bytes: int
    """The examples, which the whole run keeps on its device as float32, and their labels."""
    peak_bytes: int
    """The most that tensors take at one moment, all of the above. The interpreter, torch itself and
    what a kernel takes within one call come on top."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Phase:
    """Epochs of one kind: the exact ones, or those of the float network."""

    epochs: int
    float_epochs: int

    @property
    def exact(self) -> bool:
        return self.float_epochs == 0


class _EnoughSteps(Exception):
    """So many steps were measured."""


def measure(
    model: nn.Module,
    train: Examples,
    plan: Plan,
    *,
    val: Examples | None = None,
    steps: int = STEPS,
) -> Cost:
    """Train deep copies for a few steps of each phase; return what the run would cost.

    Two steps and a validation are counted in bytes, `steps` after a first one are timed. val: only
    for `data_bytes`. The model, torch's random state and every file stay as they are. Raises
    `BadArgument`, and what a first step raises.
    """
    given = Arguments("measure")
    steps = given.integer("steps", steps, at_least=1)
    held = [*read_examples(given, "train", train, model)]
    x, y = held
    if val is not None:
        held += read_examples(given, "val", val, model)
    check_parts(given, model, plan)
    check_augment(given, plan.augment, model, x)
    given.check()
    random = torch.random.get_rng_state()
    run = replace(plan.run, patience=0, tensorboard=False)
    phases = _phases(model, run)

    def training_of(phase: _Phase, on_step: OnStep) -> Training:
        own = replace(run, epochs=phase.epochs, float_epochs=phase.float_epochs)
        return Training(
            fabric=alone(device_of(model)),
            model=copy.deepcopy(model),
            plan=replace(plan, run=own),
            train=(x, y),
            val=(x[:1], y[:1]),
            on_step=on_step,
        )

    try:
        # What a process does once, self-tests among it, is no cost of the training: the first count
        # is thrown away.
        for phase in phases:
            _count(training_of, phase)
        counts = [_count(training_of, phase) for phase in phases]
        times = [_time(training_of, phase, steps) for phase in phases]
    finally:
        torch.random.set_rng_state(random)
    kept, peak = max(counts, key=lambda count: count[1])
    parameters, data = size_of(model, plan.teacher), sum(map(_bytes, held))
    per_epoch = times[0][2]
    return Cost(
        steps=per_epoch * run.epochs,
        seconds=sum(t[0] * per_epoch * p.epochs for t, p in zip(times, phases, strict=True)),
        measured_steps=min(t[1] for t in times),
        parameter_bytes=parameters,
        optimizer_bytes=kept,
        activation_bytes=peak - kept,
        data_bytes=data,
        peak_bytes=parameters + data + peak,
    )


def _phases(model: nn.Module, run: Run) -> list[_Phase]:
    exact = run.epochs - run.float_epochs
    found = [_Phase(epochs=run.float_epochs, float_epochs=run.float_epochs)]
    found += [_Phase(epochs=exact, float_epochs=0)]
    return [phase for phase in found if phase.epochs]


def _count(start: Callable[[_Phase, OnStep], Training], phase: _Phase) -> tuple[int, int]:
    """Return the bytes that stay between steps, and the peak of setting ranges, of steps and of a
    validation, both without what there was before.
    """
    left = COUNTED

    def stop(_: Moment) -> None:
        nonlocal left
        left -= 1
        if not left:
            raise _EnoughSteps

    training = start(phase, stop)
    torch_scratch.release()  # what an earlier computation left is none of this one's
    with counting(training.fabric.device) as held:
        with suppress(_EnoughSteps):
            training.run()
        scores = Scores(training.model)
        scores.exact = phase.exact and isinstance(training.model, Twin)
        classes(scores, training.train[0][:AT_ONCE])
    return training.kept_bytes(), held.peak


def _time(
    start: Callable[[_Phase, OnStep], Training], phase: _Phase, steps: int
) -> tuple[float, int, int]:
    """Return the mean seconds of a step after the first, of how many, and steps per epoch."""
    moments: list[float] = []

    def take(_: Moment) -> None:
        moments.append(time.monotonic())
        if len(moments) > steps:
            raise _EnoughSteps

    training = start(phase, take)
    began = time.monotonic()
    with suppress(_EnoughSteps):
        training.run()
    if len(moments) == 1:  # the whole run
        return moments[0] - began, 1, training.steps
    measured = len(moments) - 1
    return (moments[-1] - moments[0]) / measured, measured, training.steps


def _bytes(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()
