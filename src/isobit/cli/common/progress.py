"""Progress on stderr for trainings and verifications; silent where nobody looks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from isobit.cli.common.output import err


@contextmanager
def training_progress() -> Iterator[Callable[[int, int, int, int, float], None]]:
    """Yield a callback for `fit`: epoch, epochs, step, steps, loss."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("loss {task.fields[loss]:.3f}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=err(), transient=True) as bar:
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
def stage(title: str) -> Iterator[None]:
    """Show a spinner with `title` while the block runs."""
    with err().status(title):
        yield
