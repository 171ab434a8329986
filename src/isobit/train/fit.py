"""`fit`: a training loop for those who do not want to write one. Everything it does is also open to
a plain loop.

Each epoch's shuffle comes from `(seed, epoch)` alone and a checkpoint holds model, optimiser and
history, so a run that was stopped and resumed ends in the same bits as one that was not.
"""

from __future__ import annotations

import io
import json
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F  # torch's own convention
from torch import Tensor, nn

from isobit.core.errors import BadArgument, BadCheckpoint, Diverged, FileMissing
from isobit.core.files import write_atomic
from isobit.data import Dataset
from isobit.train.twin import Twin

Examples = Dataset | tuple[Tensor, Tensor]


@dataclass(frozen=True, slots=True, kw_only=True)
class Epoch:
    """What one epoch did. Accuracies are fractions; validation runs the chip's integers."""

    epoch: int
    loss: float
    train_accuracy: float
    val_accuracy: float
    learning_rate: float
    seconds: float


@dataclass(slots=True)
class History:
    """All epochs of a run, in order."""

    epochs: list[Epoch] = field(default_factory=list)

    @property
    def best(self) -> Epoch:
        """The epoch with the highest validation accuracy, the first of equals."""
        return max(self.epochs, key=lambda e: (e.val_accuracy, -e.epoch))


def seed_weights(seed: int) -> None:
    """Make the weights of layers that are created from now on depend on `seed` alone."""
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
    progress: Callable[[int, int, int, int, float], None] | None = None,
) -> History:
    """Train with AdamW and a cosine schedule on cross entropy; return what happened.

    train, val: a `Dataset` or tensors (x [N, *input] raw values, y [N] class numbers).
    freeze_epochs: how many last epochs keep ranges and batch-norm statistics frozen, so that the
    loss is that of the exported integers. patience: stop after that many epochs without a better
    validation accuracy (0: never). out: folder for `metrics.jsonl` and `last.ckpt`, written
    atomically after every epoch; resume: such a folder to continue. progress is called with (epoch,
    epochs, step, steps, loss).

    Works for any `nn.Module`, so the float twin `model.net` can be trained the same way. Raises
    `Diverged` with the last good checkpoint kept, `BadCheckpoint`, `BadArgument`.
    """
    x, y = _tensors(train)
    checks = len(_tensors(val)[0])
    if min(epochs, batch_size, len(x), checks) < 1:
        raise BadArgument(
            where="fit",
            what="epochs, batch_size, training and validation examples",
            want="at least 1 of each",
            got=f"{epochs}, {batch_size}, {len(x)}, {checks}",
            fix="Correct the argument.",
        )
    torch.manual_seed(seed)
    steps = math.ceil(len(x) / batch_size)
    optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate, weight_decay=weight_decay)
    options = {
        "batch_size": batch_size,
        "learning_rate": learning_rate,
        "weight_decay": weight_decay,
        "freeze_epochs": freeze_epochs,
        "patience": patience,
        "examples": len(x),
    }
    run = _Run(model, optimizer, seed, epochs, options)
    if resume is not None:
        run.load(Path(resume))
    if isinstance(model, Twin) and model.missing_ranges():
        _adapt(model, x, batch_size)
    for epoch in range(len(run.history.epochs), epochs):
        # Never the first epoch: statistics would be one batch's.
        frozen = isinstance(model, Twin) and epoch >= max(1, epochs - freeze_epochs)
        if isinstance(model, Twin):
            model.freeze(frozen)
        began = time.monotonic()
        order = torch.randperm(
            len(x), generator=torch.Generator().manual_seed(seed * 100003 + epoch)
        )
        torch.manual_seed(seed * 100003 + epoch)
        model.train()
        total = right = 0.0
        for step in range(steps):
            rate = (
                learning_rate
                * 0.5
                * (1 + math.cos(math.pi * (epoch * steps + step) / (epochs * steps)))
            )
            for group in optimizer.param_groups:
                group["lr"] = rate
            index = order[step * batch_size : (step + 1) * batch_size]
            logits = model(x[index])
            loss = F.cross_entropy(logits, y[index])
            value = float(loss.detach())
            if not math.isfinite(value):
                raise Diverged(
                    where=f"epoch {epoch + 1}, step {step + 1}",
                    what="loss",
                    want="a finite number",
                    got=str(value),
                    fix="Use a smaller learning rate; the checkpoint of the last epoch is kept.",
                )
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]  # torch's backward is untyped
            optimizer.step()
            total += value * len(index)
            right += float((logits.detach().argmax(1) == y[index]).sum())
            if progress is not None:
                progress(epoch + 1, epochs, step + 1, steps, value)
        if isinstance(model, Twin) and not frozen:
            model.update_ranges()
        run.history.epochs.append(
            Epoch(
                epoch=epoch + 1,
                loss=total / len(x),
                train_accuracy=right / len(x),
                val_accuracy=accuracy(model, val),
                learning_rate=rate,
                seconds=time.monotonic() - began,
            )
        )
        if out is not None:
            run.save(Path(out))
        if patience and epoch + 1 - run.history.best.epoch >= patience:
            break
    return run.history


def predict(model: nn.Module, x: Tensor, batch_size: int = 256) -> Tensor:
    """Return the arg-max class of every example, in eval mode, without gradients."""
    training = model.training
    model.eval()
    try:
        with torch.no_grad():
            parts = [model(x[i : i + batch_size]).argmax(1) for i in range(0, len(x), batch_size)]
    finally:
        model.train(training)
    return torch.cat(parts)


def accuracy(model: nn.Module, examples: Examples) -> float:
    """Return the fraction of examples classified right."""
    x, y = _tensors(examples)
    return float((predict(model, x) == y).double().mean())


def _tensors(examples: Examples) -> tuple[Tensor, Tensor]:
    if isinstance(examples, Dataset):
        return torch.from_numpy(examples.nchw()), torch.from_numpy(examples.labels)
    return examples


@torch.no_grad()
def _adapt(model: Twin, x: Tensor, batch_size: int) -> None:
    """Set input statistics from the whole training set and ranges from a first batch, before any
    step.
    """
    from isobit.ops.standardize.torch_module import Standardize

    for module in model.net.modules():
        if isinstance(module, Standardize):
            module.adapt(x)
    model.calibrate(x[: max(batch_size, 64)])


class _Run:
    """Checkpoint of a run: everything that the next epoch depends on."""

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        seed: int,
        epochs: int,
        options: dict[str, Any],
    ) -> None:
        self.model = model
        self.optimizer = optimizer
        self.identity = {"seed": seed, "epochs": epochs, **options}
        self.history = History()

    def save(self, folder: Path) -> None:
        stream = io.BytesIO()
        torch.save(
            {
                "identity": self.identity,
                "model": self.model.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "history": [asdict(e) for e in self.history.epochs],
            },
            stream,
        )
        write_atomic(folder / "last.ckpt", stream.getvalue())
        lines = "".join(json.dumps(asdict(e)) + "\n" for e in self.history.epochs)
        write_atomic(folder / "metrics.jsonl", lines)

    def load(self, folder: Path) -> None:
        path = folder / "last.ckpt"
        if not path.is_file():
            raise FileMissing(
                where=str(path),
                what="checkpoint",
                want="a folder that `fit(out=...)` wrote",
                got="nothing",
                fix="Start without resume.",
            )
        try:
            stored = torch.load(path, weights_only=True)
            identity = stored["identity"]
        except Exception as error:  # its unpickler raises anything
            raise self._foreign(path, f"unreadable ({error})") from error
        if identity != self.identity:
            other = {k: v for k, v in identity.items() if self.identity.get(k) != v}
            own = {k: self.identity[k] for k in other if k in self.identity}
            raise self._foreign(path, f"a run of {_options(other)}", _options(own))
        try:
            self.model.load_state_dict(stored["model"])
            self.optimizer.load_state_dict(stored["optimizer"])
        except (RuntimeError, ValueError, KeyError) as error:
            raise self._foreign(path, f"another network ({str(error).splitlines()[0]})") from error
        self.history = History([Epoch(**entry) for entry in stored["history"]])

    def _foreign(self, path: Path, got: str, want: str = "this run") -> BadCheckpoint:
        return BadCheckpoint(
            where=str(path),
            what="checkpoint",
            want=f"one of {want}",
            got=got,
            fix="Resume with the same arguments, or start without resume.",
        )


def _options(options: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={value}" for name, value in options.items()) or "other options"
