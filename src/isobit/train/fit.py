"""`fit`: a training loop for those who do not want to write one. Everything it does is also open to
a plain loop.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from isobit.core.arguments import Arguments
from isobit.train.checks import check_augment, check_batches, check_parts, check_teacher
from isobit.train.distributed import connect
from isobit.train.evaluate import MODULE, accuracy, predict
from isobit.train.examples import Examples, check_classes, device_of, read_examples
from isobit.train.history import Epoch, History, Moment, OnStep, require_tensorboard
from isobit.train.loop import Training
from isobit.train.plan import NO_CHANGE, Plan
from isobit.train.recipe.types import (
    LARGEST_RATE,
    LARGEST_SEED,
    Augment,
    Distill,
    Optimizer,
    Run,
    Schedule,
)
from isobit.train.recorded import record

__all__ = [
    "LARGEST_SEED",
    "Epoch",
    "History",
    "Moment",
    "Progress",
    "accuracy",
    "fit",
    "predict",
    "seed_weights",
    "train",
]

Progress = Callable[[int, int, int, int, float], None]
"""Takes (epoch, epochs, step, steps, loss) after every step; all but the last count from 1."""
COSINE = Schedule(name="cosine")


def seed_weights(seed: int) -> None:
    """Make the weights of layers that are created from now on depend on `seed` alone.

    Raises `BadArgument` outside 0..2^31-1.
    """
    given = Arguments("seed_weights")
    seed = given.integer("seed", seed, at_least=0, at_most=LARGEST_SEED)
    given.check()
    torch.manual_seed(seed)


def fit(
    model: nn.Module,
    train: Examples,
    val: Examples,
    *,
    epochs: int,
    seed: int = 0,
    out: str | Path | None = None,
    resume: str | Path | None = None,
    batch_size: int = 64,
    learning_rate: float = 2e-3,
    weight_decay: float = 1e-4,
    patience: int = 0,
    freeze_epochs: int = 1,
    progress: Progress | None = None,
    optimizer: Optimizer | None = None,
    schedule: Schedule = COSINE,
    augment: Augment = NO_CHANGE,
    distill: Distill | None = None,
    teacher: nn.Module | None = None,
    label_smoothing: float = 0.0,
    ema: float = 0.0,
    float_epochs: int = 0,
    checkpoint_every: int = 0,
    tensorboard: bool = False,
    devices: int = 1,
) -> History:
    """Train on cross entropy, by default with AdamW and a cosine schedule; return what happened.

    train, val: a `Dataset`, or (x [N, *input] raw values, y [N] class numbers from 0) as tensors or
    NumPy arrays. A model of a foreign graph that ends in a softmax is trained on its logits.
    epochs, batch_size: at least 1; learning_rate: above 0, at most 1e6; seed: 0..2^31-1;
    weight_decay: 0..1e6; patience, freeze_epochs: at least 0.

    freeze_epochs: how many last epochs keep ranges and batch-norm statistics frozen, so that the
    loss is that of the exported integers. patience: stop after that many epochs without a better
    validation accuracy (0: never). out: folder for `metrics.jsonl` and `last.ckpt`, written
    atomically after every epoch and every `checkpoint_every` steps (0: never within an epoch);
    resume: such a folder to continue, to the same bits. progress: see `Progress`.

    optimizer (instead of learning_rate and weight_decay), schedule, augment, distill and the
    options from label_smoothing on are those of a recipe (docs/recipe.md). teacher: a module that
    returns logits [N, classes] of raw values, with `distill`; it runs in eval mode. float_epochs:
    first epochs that train `model.net` as a float network; ranges are set anew where exact training
    begins.

    Under `torchrun`, or with `devices` above 1, each process takes its part of every batch, and all
    end with the same bits; `out` is written by the first. batch_size must divide by their number.

    Afterwards the model is in eval mode, where it computes what it exports, and `model.frozen` is
    what it was before: `model.train()` goes on with moving ranges. (Freezing it again would be an
    update of the ranges, which the last epochs were not trained with.)

    An `isobit.Model` keeps its history and last validation accuracy: what `save` and `deploy` write
    has them, and so has `isobit report`.

    Works for any `nn.Module`, so the float twin `model.net` can be trained the same way. Raises
    `BadArgument` with every wrong argument before anything is computed, `FileMissing`,
    `FileUnwritable`, `BadCheckpoint`, and `Diverged` with the last good checkpoint kept.
    """
    given = Arguments("fit")
    rate = given.number("learning_rate", learning_rate, above=0, at_most=LARGEST_RATE)
    decay = given.number("weight_decay", weight_decay, at_least=0, at_most=LARGEST_RATE)
    options = Run(
        epochs=given.integer("epochs", epochs, at_least=1),
        seed=given.integer("seed", seed, at_least=0, at_most=LARGEST_SEED),
        batch_size=given.integer("batch_size", batch_size, at_least=1),
        patience=given.integer("patience", patience, at_least=0),
        freeze_epochs=given.integer("freeze_epochs", freeze_epochs, at_least=0),
        checkpoint_every=given.integer("checkpoint_every", checkpoint_every, at_least=0),
        devices=given.integer("devices", devices, at_least=1),
        tensorboard=given.flag("tensorboard", tensorboard),
    )
    with given.collect():
        options = replace(
            options, label_smoothing=label_smoothing, ema=ema, float_epochs=float_epochs
        )
    if optimizer is not None and (learning_rate, weight_decay) != (2e-3, 1e-4):
        fix = "Write learning_rate and weight_decay into the Optimizer."
        given.refuse("learning_rate", "left out beside optimizer", f"{learning_rate}", fix)
    if optimizer is None:
        optimizer = Optimizer(name="adamw", learning_rate=rate, weight_decay=decay)
    for what, part, kind in (
        ("optimizer", optimizer, Optimizer),
        ("schedule", schedule, Schedule),
        ("augment", augment, Augment),
        ("distill", distill, Distill | None),
    ):
        given.instance(what, part, kind, f"a {what} of isobit.train.recipe")
    given.function("progress", progress)
    plan = Plan(
        run=options,
        optimizer=optimizer,
        schedule=schedule,
        augment=augment,
        distill=distill,
        teacher=teacher,
    )
    return _train(given, model, train, val, plan, out, resume, _telling(progress))


def train(
    model: nn.Module,
    examples: Examples,
    val: Examples,
    plan: Plan,
    *,
    out: str | Path | None = None,
    resume: str | Path | None = None,
    on_step: OnStep | None = None,
) -> History:
    """Do what `fit` does, with the parts of a recipe; on_step: called after every step by the first
    process. Raises what `fit` raises.
    """
    given = Arguments("train")
    given.instance("plan", plan, Plan, "a Plan")
    given.check()
    given.function("on_step", on_step)
    return _train(given, model, examples, val, plan, out, resume, on_step)


def _train(
    given: Arguments,
    model: nn.Module,
    train: Examples,
    val: Examples,
    plan: Plan,
    out: str | Path | None,
    resume: str | Path | None,
    on_step: OnStep | None,
) -> History:
    """Check what is left to check, and run."""
    folder = None if out is None else given.path("out", out)
    resumed = None if resume is None else given.path("resume", resume)
    check_parts(given, model, plan)
    if _is_trainable(given, model):
        x, y = read_examples(given, "train", train, model)
        checks = read_examples(given, "val", val, model)
        check_classes(given, model, {"train": (x, y), "val": checks})
        if isinstance(plan.augment, Augment):
            check_augment(given, plan.augment, model, x)
        check_teacher(given, plan, model, x)
    given.check()
    if plan.run.tensorboard:
        require_tensorboard()
    fabric = connect(device_of(model), plan.run.devices)
    if plan.run.batch_size % fabric.world_size:
        want = f"a multiple of {fabric.world_size}, the number of processes"
        given.refuse("batch_size", want, str(plan.run.batch_size))
    else:
        check_batches(given, model, plan, x, fabric.world_size)
    given.check()
    model.to(fabric.device)
    torch.manual_seed(plan.run.seed)
    training = Training(
        fabric=fabric,
        model=model,
        plan=plan,
        train=(x.to(fabric.device), y.to(fabric.device)),
        val=(checks[0].to(fabric.device), checks[1].to(fabric.device)),
        folder=folder,
        on_step=on_step,
    )
    history = training.run(resumed)
    record(model, history, train, val, training.val)
    return history


def _telling(progress: Progress | None) -> OnStep | None:
    if progress is None:
        return None
    return lambda m: progress(m.epoch, m.epochs, m.step, m.steps, m.loss)


def _is_trainable(given: Arguments, model: nn.Module) -> bool:
    """Whether `model` is a module; a problem, too, where no parameter wants a gradient."""
    if not given.instance("model", model, nn.Module, MODULE):
        return False
    if not any(p.requires_grad for p in model.parameters()):
        given.refuse("model", "parameters to train", "none that requires a gradient")
    return True
