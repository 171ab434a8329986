"""Refinement without labels: the integers of a calibrated network move until its outputs are those
of the float network it came from.

Two stages take turns, both against the float network's own outputs on the calibration examples.

Ranges: one end of one range at a time is drawn in while that lowers the error of the *outputs*. A
range chosen for the error of its own tensor, as `RangeMethod.MSE` does, weighs every value alike;
here a rare value counts for what it does to the result. It is a coordinate descent: O(ranges *
factors) forward passes, a local optimum.

Weights: Adam on the exact integer forward with straight-through gradients (self-distillation;
Hinton et al. 2015, arXiv 1503.02531, with the squared error of the logits, section 2.1), at a rate
in codes, so that no scale has to be chosen. It learns rounding too, as AdaRound does (Nagel et al.
2020, arXiv 2004.10568), but for the error of the outputs instead of every layer's.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from isobit.core.errors import IsobitError
from isobit.core.types import scale_of
from isobit.ops.schemes import Scheme
from isobit.ops.weighted import WeightedOp
from isobit.train.calibration import WeightRange, key_of
from isobit.train.steps import Step
from isobit.train.twin import Twin

LEAST_EXAMPLES = 8
"""Fewer cannot be parted into examples to learn from and examples to judge by."""
HELD = 4
"""Every so-manieth example is held out: seen by neither stage, it decides what is kept."""
ROUNDS = 2
"""Times that both stages follow each other: trained weights allow other ranges."""
SEARCHED = 256
"""Examples that a range is judged on at most; more cost time and change no choice worth having."""
AT_ONCE = 128
"""Examples that go through the network at once without gradients: bounds memory only."""
BATCH = 32
RATE = 0.05
"""Of Adam, in codes of the weights and of the layer's output for the biases, annealed to 0."""
FACTORS = {Scheme.AFFINE: (0.9, 0.8, 0.7, 0.6, 0.5), Scheme.POW2: (0.5, 0.25)}
"""What an end of a range is multiplied by. In `pow2` only halves change a step."""
HOPELESS = 1.3
"""An error so many times the least so far ends the search at this end of the range."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """Where a refinement is."""

    stage: str
    """"ranges" or "weights"."""
    done: float
    """Fraction of the whole work, 0..1, by the time its parts were measured to take."""
    error: float
    """Relative root mean square error of the outputs on the examples that it learns from, last
    measured."""
    seconds: float
    """What the whole was estimated to take, before it began."""


Report = Callable[[Progress], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fidelity:
    """How near the integers are to the float network on the examples held out."""

    error: float
    """Root mean square of the difference, over that of the float outputs about their mean. Of
    outputs that a softmax computes: before it."""
    top1: float
    """Fraction of examples with the same largest element of the first output."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Refinement:
    """What a refinement did. `before` and `after` are of the same examples, held out of it."""

    steps: int
    seed: int
    learned: int
    """Examples that it learned from."""
    held: int
    """Examples that it was judged by."""
    before: Fidelity
    after: Fidelity
    kept: str
    """"nothing", where no stage was better than the start, or the last stage that was kept."""
    seconds: float


def refine(
    twin: Twin,
    x: Tensor,
    wanted: Sequence[Tensor],
    *,
    steps: int,
    seed: int = 0,
    report: Report | None = None,
) -> Refinement:
    """Bring a calibrated twin of a float graph nearer to `wanted`; return what came of it.

    x: raw values [N, *input], N >= `LEAST_EXAMPLES`. wanted: what `twin.logits(x)` should be, one
    tensor [N, ...] per output. steps: training steps in all, at least 1. seed: of the order of the
    examples. On one machine and number of threads the same arguments give the same bits.

    What is kept is the state of the smallest error on the examples held out; of a network that ends
    in a softmax only one that agrees with the float network's class there at least as often as the
    start. So the result is never worse than the start there, also where `report` raises.
    """
    began = time.monotonic()
    mode = twin.training
    twin.eval()
    held = torch.arange(len(x)) % HELD == HELD - 1
    learn, judge = _Target(twin, x, wanted, ~held), _Target(twin, x, wanted, held)
    before = after = judge.fidelity()
    best, kept = _state(twin), "nothing"
    work = _Work(twin, learn, steps, report)
    try:
        for index in range(ROUNDS):
            share = steps * (index + 1) // ROUNDS - steps * index // ROUNDS
            for stage in ("ranges", "weights"):
                if stage == "ranges":
                    _search(twin, learn, work)
                else:
                    _train(twin, learn, share, seed * ROUNDS + index, work)
                found = judge.fidelity()
                agrees = found.top1 >= before.top1 or not judge.classes
                if found.error < after.error and agrees:
                    best, after, kept = _state(twin), found, stage
    finally:
        twin.load_state_dict(best)
        twin.train(mode)
    return Refinement(
        steps=steps,
        seed=seed,
        learned=len(learn.x),
        held=len(judge.x),
        before=before,
        after=after,
        kept=kept,
        seconds=time.monotonic() - began,
    )


class _Target:
    """Examples, and what the outputs should be on them."""

    def __init__(self, twin: Twin, x: Tensor, wanted: Sequence[Tensor], chosen: Tensor) -> None:
        self.twin = twin
        self.x = x[chosen.to(x.device)]
        self.wanted = [w[chosen.to(w.device)] for w in wanted]
        self.spread = [float((w - w.mean(0)).square().mean()) or 1.0 for w in self.wanted]
        """Of a constant output every error counts as it is."""
        ends = {step.name: step.op.name for step in twin.steps}
        self.classes = ends.get(twin.outputs[0]) == "softmax"

    def outputs(self, chosen: Tensor | slice) -> tuple[Tensor, ...]:
        found = self.twin.logits(self.x[chosen])
        return found if isinstance(found, tuple) else (found,)

    def loss(self, chosen: Tensor | slice) -> Tensor:
        """Return the mean squared error of all outputs, each over its own variance."""
        parts = [
            (own - wanted[chosen]).square().mean() / spread
            for own, wanted, spread in zip(
                self.outputs(chosen), self.wanted, self.spread, strict=True
            )
        ]
        return torch.stack(parts).sum()

    @torch.no_grad()
    def error(self, count: int) -> float:
        """Return the loss over the first `count` examples."""
        count = min(count, len(self.x))
        parts = [slice(i, min(i + AT_ONCE, count)) for i in range(0, count, AT_ONCE)]
        return sum(float(self.loss(part)) * (part.stop - part.start) for part in parts) / count

    @torch.no_grad()
    def fidelity(self) -> Fidelity:
        right = 0
        for i in range(0, len(self.x), AT_ONCE):
            part = slice(i, i + AT_ONCE)
            own, wanted = self.outputs(part)[0].flatten(1), self.wanted[0][part].flatten(1)
            right += int((own.argmax(1) == wanted.argmax(1)).sum())
        error = math.sqrt(self.error(len(self.x)))
        return Fidelity(error=error, top1=right / len(self.x))


class _Work:
    """What is done, and what all of it takes: measured on one pass of each kind before it
    starts.
    """

    def __init__(self, twin: Twin, learn: _Target, steps: int, report: Report | None) -> None:
        self.report = report
        self.error = math.sqrt(learn.error(SEARCHED))
        began = time.monotonic()
        learn.error(SEARCHED)
        self.trial = time.monotonic() - began
        began = time.monotonic()
        parameters = [parameter for parameter, _ in _units(twin)]
        if parameters:
            torch.autograd.grad(learn.loss(slice(0, BATCH)), parameters, allow_unused=True)
        self.step = time.monotonic() - began
        self.trials = ROUNDS * sum(len(FACTORS[twin.scheme]) for _ in _ends(twin))
        self.seconds = self.trials * self.trial + steps * self.step
        self.spent = 0.0
        self.tell("ranges", 0.0)

    def tell(self, stage: str, spent: float, error: float | None = None) -> None:
        """Count work of `spent` measured seconds, and say so."""
        self.spent += spent
        self.error = self.error if error is None else math.sqrt(error)
        if self.report is not None:
            done = min(1.0, self.spent / self.seconds) if self.seconds else 1.0
            seen = Progress(stage=stage, done=done, error=self.error, seconds=self.seconds)
            self.report(seen)


def _state(twin: Twin) -> dict[str, Any]:
    return {name: value.detach().clone() for name, value in twin.state_dict().items()}


def _ends(twin: Twin) -> Iterator[tuple[Tensor, ...]]:
    """Yield what is searched: an end of a range, in force and observed, or the magnitudes of one
    layer's weights.

    Ranges that a pad's number must lie in are left alone, and ends at 0, where factors do nothing.
    """
    fixed = twin.filled
    (source,) = twin.traced.graph.inputs
    for name in (source.name, *(step.name for step in twin.steps)):
        observer = twin.observer(name)
        if observer is not None and name not in fixed:
            ends = ((observer.frozen_low, observer.low), (observer.frozen_high, observer.high))
            yield from ((frozen, moving) for frozen, moving in ends if float(frozen) != 0)
        if key_of(name) in twin.weight_ranges:
            holder = twin.weight_ranges[key_of(name)]
            assert isinstance(holder, WeightRange)
            yield (holder.largest,)


@torch.no_grad()
def _search(twin: Twin, learn: _Target, work: _Work) -> None:
    """Draw in one range after another, each as far as the error falls; what is set stays set."""
    factors = FACTORS[twin.scheme]
    least = learn.error(SEARCHED)
    for ends in _ends(twin):
        start = ends[0].clone()
        keep = start
        for index, factor in enumerate(factors):
            ends[0].copy_(start * factor)
            error = _judged(twin, learn)
            if error < least:
                least, keep = error, start * factor
            hopeless = not error <= HOPELESS * least
            work.tell("ranges", work.trial * (len(factors) - index if hopeless else 1), least)
            if hopeless:
                break
        if keep is start:
            ends[0].copy_(start)
        else:
            for end in ends:  # the observed one too: an update of the ranges keeps the choice
                end.copy_(keep)
    twin.forget_numbers()


def _judged(twin: Twin, learn: _Target) -> float:
    """Return the error under the ranges in force, infinite where no integers suit them."""
    twin.forget_numbers()
    try:
        return learn.error(SEARCHED)
    except IsobitError:
        return math.inf


def _units(twin: Twin) -> list[tuple[torch.nn.Parameter, Tensor]]:
    """Return what is trained, each with its step per element: the weights' own, and for a bias the
    output's, because its own is far finer.
    """
    found: dict[int, tuple[torch.nn.Parameter, Tensor]] = {}

    def add(value: Tensor, sizes: Tensor) -> None:
        if isinstance(value, torch.nn.Parameter) and value.requires_grad:
            found.setdefault(id(value), (value, sizes.to(value).expand_as(value)))

    for step in twin.steps:
        if not issubclass(step.op, WeightedOp):
            continue
        inputs: Any = step.inputs
        w = twin.parameter(inputs.w)
        axes = [-1 if i == step.op.channel_axis else 1 for i in range(w.dim())]
        sizes = torch.as_tensor(scale_of(twin.numbers.types[inputs.w].encoding))
        add(w, sizes.reshape(axes))
        if inputs.b is not None:
            add(twin.parameter(inputs.b), _output_step(twin, step))
    return list(found.values())


def _output_step(twin: Twin, step: Step) -> Tensor:
    return torch.tensor(float(scale_of(twin.numbers.types[step.name].encoding)[0]))


def _train(twin: Twin, learn: _Target, steps: int, seed: int, work: _Work) -> None:
    """Adam on what every parameter moved by, in codes, under constant ranges."""
    trained = [(parameter, unit, parameter.detach().clone()) for parameter, unit in _units(twin)]
    moved = [torch.zeros_like(start, requires_grad=True) for _, _, start in trained]
    if not trained:
        return
    optimizer = torch.optim.Adam(moved, lr=RATE)
    generator = torch.Generator().manual_seed(seed)
    order = torch.zeros(0, dtype=torch.int64)
    batch = min(BATCH, len(learn.x))
    for index in range(steps):
        if len(order) < batch:
            order = torch.cat([order, torch.randperm(len(learn.x), generator=generator)])
        chosen, order = order[:batch], order[batch:]
        for group in optimizer.param_groups:
            group["lr"] = RATE * 0.5 * (1 + math.cos(math.pi * index / steps))
        loss = learn.loss(chosen.to(learn.x.device))
        wanted = [parameter for parameter, _, _ in trained]
        gradients = torch.autograd.grad(loss, wanted, allow_unused=True)
        for change, gradient, (_, unit, _) in zip(moved, gradients, trained, strict=True):
            change.grad = None if gradient is None else gradient * unit
        optimizer.step()
        with torch.no_grad():
            for change, (parameter, unit, start) in zip(moved, trained, strict=True):
                parameter.copy_(start + change * unit)
        work.tell("weights", work.step, float(loss.detach()))
