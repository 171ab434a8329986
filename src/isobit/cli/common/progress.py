"""Progress on stderr for trainings and verifications; silent where nobody looks."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from isobit.cli.common.output import err

if TYPE_CHECKING:
    from isobit.train.history import Moment

SMOOTHED = 30
"""Steps over which the loss that is shown is averaged."""


FIRST = (TextColumn("{task.description}"), BarColumn(), TextColumn("loss {task.fields[loss]:.3f}"))
MORE = (
    TextColumn("accuracy {task.fields[accuracy]:.1%}"),
    TextColumn("rate {task.fields[rate]:.2e}"),
    TextColumn("step {task.fields[step]}/{task.fields[steps]}"),
)


@contextmanager
def training_progress() -> Iterator[Callable[[int, int, int, int, float], None]]:
    """Yield a callback for `fit`: epoch, epochs, step, steps, loss."""
    with Progress(*FIRST, TimeRemainingColumn(), console=err(), transient=True) as bar:
        task = bar.add_task("training", total=None, loss=float("nan"))

        def step(epoch: int, epochs: int, done: int, steps: int, loss: float) -> None:
            bar.update(
                task,
                description=f"epoch {epoch}/{epochs}",
                total=epochs * steps,
                completed=(epoch - 1) * steps + done,
                loss=loss,
            )

        yield step


@contextmanager
def moments(shown: bool = True) -> Iterator[Callable[[Moment], None]]:
    """Yield what `isobit.train.fit.train` calls after every step: epoch and step, the loss of late,
    accuracy, learning rate, and the time that is left.

    shown: False for all processes of a training but the first.
    """
    late = nan = float("nan")
    columns = (*FIRST, *MORE, TimeRemainingColumn())
    with Progress(*columns, console=err(), transient=True, disable=not shown) as bar:
        task = bar.add_task(
            "training", total=None, loss=nan, accuracy=nan, rate=nan, step=0, steps=0
        )

        def step(now: Moment) -> None:
            nonlocal late
            late = now.loss if math.isnan(late) else late + (now.loss - late) / SMOOTHED
            bar.update(
                task,
                description=f"epoch {now.epoch}/{now.epochs}"
                + (" (float)" if now.phase == "float" else ""),
                total=now.epochs * now.steps,
                completed=(now.epoch - 1) * now.steps + now.step,
                step=now.step,
                steps=now.steps,
                loss=late,
                accuracy=now.accuracy,
                rate=now.learning_rate,
            )

        yield step


@contextmanager
def stage(title: str) -> Iterator[None]:
    """Show a spinner with `title` while the block runs."""
    with err().status(title):
        yield
