"""The usual way to a microcontroller, as a baseline: train in float, then convert.

What the framework reports is then not what the device does. The difference is measured here; where
training is exact it is 0 by construction, for validation runs the exported integers.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from isobit.core.arguments import Arguments
from isobit.train.evaluate import accuracy
from isobit.train.examples import Examples, read_examples
from isobit.train.fit import train as train_float
from isobit.train.graph_net import GraphNet
from isobit.train.history import History, OnStep
from isobit.train.plan import Plan
from isobit.train.recorded import record
from isobit.train.switch import adapt_input, forget_ranges
from isobit.train.twin import Twin

SAMPLES = 512
"""Examples that ranges are set from, as `isobit.calibrate` takes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """Accuracies, as fractions of the validation examples."""

    framework: float
    """In float, as the framework reports it."""
    device: float
    """Of the converted integers, as the device computes them."""
    history: History

    @property
    def surprise(self) -> float:
        """What deployment changes: accuracy in the framework minus on the device, a fraction."""
        return self.framework - self.device


def float_baseline(
    model: Twin,
    train: Examples,
    val: Examples,
    plan: Plan,
    *,
    out: str | Path | None = None,
    resume: str | Path | None = None,
    on_step: OnStep | None = None,
) -> Deployment:
    """Train `model.net` as a float network with a plan, convert it, and compare.

    The conversion is post-training calibration: ranges from `SAMPLES` training examples, evenly
    spread, by the model's own method, batch norms folded with their running statistics. Afterwards
    the model is in eval mode, with its ranges, ready to export. Raises `BadArgument` for an
    imported network, whose weights are a float training's already (`isobit.calibrate` converts it),
    and what `fit` raises.
    """
    given = Arguments("float_baseline")
    given.instance("model", model, Twin, "an isobit.Model")
    if isinstance(model, Twin) and isinstance(model.net, GraphNet):
        fix = "isobit.calibrate converts it; isobit.fit trains it in integers."
        given.refuse("model", "a network of isobit.nn layers", "an imported one", fix)
    if given.instance("plan", plan, Plan, "a Plan") and plan.run.float_epochs:
        given.refuse("run.float_epochs", "0: every epoch is a float one", "more")
    x = read_examples(given, "train", train, model)[0] if not given.problems else None
    given.check()
    assert x is not None
    if resume is None:
        adapt_input(model, x)
    history = train_float(model.net, train, val, plan, out=out, resume=resume, on_step=on_step)
    framework = accuracy(model.net, val)
    convert(model, x)
    record(model, history, train, val, read_examples(given, "val", val, model))
    return Deployment(framework=framework, device=accuracy(model, val), history=history)


def convert(model: Twin, x: torch.Tensor) -> None:
    """Set the ranges of a float-trained model from training examples x [N, *input]."""
    forget_ranges(model)
    model.eval()
    spread = torch.linspace(0, len(x) - 1, min(len(x), SAMPLES)).round().long()
    model.calibrate(x[spread].to(model.device))
