"""What a training leaves with the model that it trained, for whoever deploys or reports it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from torch import Tensor, nn

from isobit.data import Dataset
from isobit.train.evaluate import classes
from isobit.train.examples import Examples
from isobit.train.history import EXACT, History
from isobit.train.twin import Twin

UNPUBLISHED = "Data files of this training are not the published ones."


@runtime_checkable
class Recorder(Protocol):
    """A model that keeps how it was trained: `isobit.Model`."""

    def record_training(
        self, history: History, *, accuracy: float, accuracy_on: str, notes: Sequence[str] = ()
    ) -> None:
        """Keep it: accuracy is a fraction of what `accuracy_on` names, by the exported integers."""


def record(
    model: nn.Module,
    history: History,
    train: Examples,
    val: Examples,
    checked: tuple[Tensor, Tensor],
) -> None:
    """Let a model keep how it was trained, where it can; the model is in its final state.

    checked: `val` as tensors on the model's device.
    """
    if not (isinstance(model, Twin) and isinstance(model, Recorder)):
        return
    x, y = checked
    last = history.epochs[-1]
    accuracy = last.val_accuracy
    if last.phase != EXACT:  # that was the float network
        accuracy = float((classes(model, x) == y).double().mean())
    given = [part for part in (train, val) if isinstance(part, Dataset)]
    on = f"{len(y):,} validation examples"
    if isinstance(val, Dataset):
        on = f"{len(y):,} {val.split} images of {val.name}"
    model.record_training(
        history,
        accuracy=accuracy,
        accuracy_on=on,
        notes=[UNPUBLISHED] if any(part.verified is False for part in given) else [],
    )
