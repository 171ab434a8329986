"""What a training says of itself: while it runs, after every epoch, and in the files beside it."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from isobit.core.errors import FileUnwritable, ToolMissing
from isobit.core.files import write_atomic

EXACT, FLOAT = "exact", "float"
METRICS = "metrics.jsonl"


@dataclass(frozen=True, slots=True, kw_only=True)
class Epoch:
    """What one epoch did. Accuracies are fractions; validation runs the chip's integers, of a float
    network and in a "float" phase its reals.
    """

    epoch: int
    loss: float
    train_accuracy: float
    val_accuracy: float
    learning_rate: float
    seconds: float
    phase: str = EXACT
    """"exact", or "float" where the plain float network was trained."""


@dataclass(slots=True)
class History:
    """All epochs of a run, in order."""

    epochs: list[Epoch] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    """What a reader should know, e.g. that a damaged checkpoint was passed over."""

    @property
    def best(self) -> Epoch:
        """The epoch with the highest validation accuracy, the first of equals; epochs that trained
        what is deployed come before those of a float phase.
        """
        deployed = self.epochs[-1].phase
        own = [e for e in self.epochs if e.phase == deployed]
        return max(own, key=lambda e: (e.val_accuracy, -e.epoch))


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """Where a training is, after a step. Counts are from 1; accuracy is that of the epoch so
    far.
    """

    epoch: int
    epochs: int
    step: int
    steps: int
    loss: float
    accuracy: float
    learning_rate: float
    phase: str


OnStep = Callable[[Moment], None]


class Metrics:
    """`metrics.jsonl`, one line per epoch, and TensorBoard's event files where they are wanted.

    folder: None writes nothing. first_step: steps that were taken before this process began; what
    event files say of later ones is discarded. Raises `ToolMissing` without the tensorboard
    package, and `FileUnwritable` here or later, for events are written by a thread of its own.
    """

    def __init__(self, folder: Path | None, *, tensorboard: bool, first_step: int) -> None:
        self._folder = folder
        self._writer: Any = None
        if folder is None or not tensorboard:
            return
        require_tensorboard()
        from torch.utils.tensorboard import SummaryWriter

        self._place = str(folder / "tensorboard")
        with self._unwritable():
            # TensorBoard discards this step, too: the last one that was taken shall stay.
            self._writer = SummaryWriter(self._place, purge_step=first_step + 1)

    def write(self, history: History) -> None:
        """Replace metrics.jsonl by one with a line for every epoch: a reader never sees half a
        line, and a run that was killed between checkpoint and metrics loses none.
        """
        if self._folder is not None:
            lines = "".join(json.dumps(asdict(e)) + "\n" for e in history.epochs)
            write_atomic(self._folder / METRICS, lines)

    def step(self, count: int, loss: float, rate: float) -> None:
        """Record a step; `count` of them were taken."""
        self._scalars(count, {"step/loss": loss, "step/learning_rate": rate})

    def epoch(self, count: int, epoch: Epoch) -> None:
        """Record an epoch that ended after `count` steps."""
        names = ("loss", "train_accuracy", "val_accuracy")
        self._scalars(count, {f"epoch/{name}": getattr(epoch, name) for name in names})

    def close(self) -> None:
        """Write what is buffered."""
        if self._writer is not None:
            with self._unwritable():
                self._writer.close()

    def _scalars(self, count: int, values: Mapping[str, float]) -> None:
        if self._writer is not None:
            with self._unwritable():
                for name, value in values.items():
                    self._writer.add_scalar(name, value, count)

    @contextmanager
    def _unwritable(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise FileUnwritable(
                where=self._place,
                what="cannot write",
                want="a writable folder with free space",
                got=error.strerror or str(error),
                fix="Make room, or leave tensorboard out; the last checkpoint is kept.",
            ) from error


def require_tensorboard() -> None:
    """Raise `ToolMissing` where event files are wanted and cannot be written."""
    if importlib.util.find_spec("tensorboard") is None:
        raise ToolMissing(
            where="run.tensorboard",
            what="package tensorboard",
            want="installed: it writes the event files",
            got="not installed",
            fix="pip install 'isobit[tensorboard]', or leave tensorboard out.",
        )
