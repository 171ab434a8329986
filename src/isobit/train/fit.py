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

from isobit.core.arguments import Arguments, shown
from isobit.core.errors import BadCheckpoint, Diverged, FileMissing
from isobit.core.files import write_atomic
from isobit.core.types import AnyArray
from isobit.train.examples import Examples, check_classes, device_of, read_examples
from isobit.train.guards import as_reals
from isobit.train.twin import Twin

LARGEST_SEED = 2**31 - 1
LARGEST_RATE = 1e6
"""Far beyond use, and far enough from the end of float32, where torch's optimiser fails."""
Progress = Callable[[int, int, int, int, float], None]
"""Takes (epoch, epochs, step, steps, loss) after every step; all but the last count from 1."""


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
) -> History:
    """Train with AdamW and a cosine schedule on cross entropy; return what happened.

    train, val: a `Dataset`, or (x [N, *input] raw values, y [N] class numbers from 0) as tensors or
    NumPy arrays. A model of a foreign graph that ends in a softmax is trained on its logits.
    epochs, batch_size: at least 1; learning_rate: above 0, at most 1e6; seed: 0..2^31-1;
    weight_decay: 0..1e6; patience, freeze_epochs: at least 0.

    freeze_epochs: how many last epochs keep ranges and batch-norm statistics frozen, so that the
    loss is that of the exported integers. patience: stop after that many epochs without a better
    validation accuracy (0: never). out: folder for `metrics.jsonl` and `last.ckpt`, written
    atomically after every epoch; resume: such a folder to continue. progress: see `Progress`.

    Afterwards the model is in eval mode, where it computes what it exports, and `model.frozen` is
    what it was before: `model.train()` goes on with moving ranges. (Freezing it again would be an
    update of the ranges, which the last epochs were not trained with.)

    Works for any `nn.Module`, so the float twin `model.net` can be trained the same way. Raises
    `BadArgument` with every wrong argument before anything is computed, `FileMissing`,
    `BadCheckpoint`, and `Diverged` with the last good checkpoint kept.
    """
    given = Arguments("fit")
    epochs = given.integer("epochs", epochs, at_least=1)
    seed = given.integer("seed", seed, at_least=0, at_most=LARGEST_SEED)
    batch_size = given.integer("batch_size", batch_size, at_least=1)
    learning_rate = given.number("learning_rate", learning_rate, above=0, at_most=LARGEST_RATE)
    weight_decay = given.number("weight_decay", weight_decay, at_least=0, at_most=LARGEST_RATE)
    patience = given.integer("patience", patience, at_least=0)
    freeze_epochs = given.integer("freeze_epochs", freeze_epochs, at_least=0)
    folder = None if out is None else given.path("out", out)
    resumed = None if resume is None else given.path("resume", resume)
    given.function("progress", progress)
    if _is_trainable(given, model):
        x, y = read_examples(given, "train", train, model)
        checks = read_examples(given, "val", val, model)
        check_classes(given, model, {"train": (x, y), "val": checks})
    given.check()
    options = _Options(
        seed=seed,
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=learning_rate,
        weight_decay=weight_decay,
        freeze_epochs=freeze_epochs,
        patience=patience,
    )
    torch.manual_seed(seed)
    run = _Run(model, options, examples=len(x))
    was_frozen = isinstance(model, Twin) and model.frozen
    if resumed is not None:
        run.load(resumed)
    try:
        if isinstance(model, Twin) and model.missing_ranges():
            _adapt(model, x, batch_size)
        for epoch in range(len(run.history.epochs), epochs):
            began = time.monotonic()
            loss, right, rate = _train_epoch(run, epoch, x, y, progress)
            run.history.epochs.append(
                Epoch(
                    epoch=epoch + 1,
                    loss=loss,
                    train_accuracy=right,
                    val_accuracy=_accuracy(model, *checks),
                    learning_rate=rate,
                    seconds=time.monotonic() - began,
                )
            )
            if folder is not None:
                run.save(folder)
            if patience and epoch + 1 - run.history.best.epoch >= patience:
                break
    finally:
        model.eval()
        if isinstance(model, Twin):
            model.is_frozen.fill_(was_frozen)  # the flag alone: freeze() would update the ranges
    return run.history


def _train_epoch(
    run: _Run, epoch: int, x: Tensor, y: Tensor, progress: Progress | None
) -> tuple[float, float, float]:
    """Train one epoch, `epoch` counted from 0; return mean loss, accuracy and the last learning
    rate.
    """
    model, options = run.model, run.options
    # Never the first epoch: statistics would be one batch's.
    frozen = epoch >= max(1, options.epochs - options.freeze_epochs)
    if isinstance(model, Twin):
        model.freeze(frozen)
    seed = options.seed * 100003 + epoch
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(seed))
    torch.manual_seed(seed)
    model.train()
    steps = math.ceil(len(x) / options.batch_size)
    total = right = rate = 0.0
    for step in range(steps):
        done = (epoch * steps + step) / (options.epochs * steps)
        rate = options.learning_rate * 0.5 * (1 + math.cos(math.pi * done))
        for group in run.optimizer.param_groups:
            group["lr"] = rate
        index = order[step * options.batch_size : (step + 1) * options.batch_size]
        logits = _scores(model, x[index])
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
        run.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]  # torch's backward is untyped
        run.optimizer.step()
        total += value * len(index)
        right += float((logits.detach().argmax(1) == y[index]).sum())
        if progress is not None:
            progress(epoch + 1, options.epochs, step + 1, steps, value)
    if isinstance(model, Twin) and not frozen:
        model.update_ranges()
    return total / len(x), right / len(x), rate


def _scores(model: nn.Module, x: Tensor) -> Tensor:
    """Return what cross entropy takes.

    Of a module that is what its forward returns, as in torch. Classifiers of other tools end in a
    softmax: a second one inside the loss would hardly train, so the loss takes their logits.
    """
    if isinstance(model, Twin) and model.channels_last:
        own = model.logits(x)
        assert isinstance(own, Tensor)  # check_classes asked for one output
        return own
    scores: Tensor = model(x)
    return scores


def _is_trainable(given: Arguments, model: nn.Module) -> bool:
    """Whether `model` is a module; a problem, too, where no parameter wants a gradient."""
    if not given.instance("model", model, nn.Module, "an isobit.Model or another torch module"):
        return False
    if not any(p.requires_grad for p in model.parameters()):
        given.refuse("model", "parameters to train", "none that requires a gradient")
    return True


def predict(model: nn.Module, x: Tensor | AnyArray, batch_size: int = 256) -> Tensor:
    """Return the arg-max class of every example of x [N, *input], in eval mode, without gradients.

    batch_size: at least 1. Raises `BadArgument`, `BadRunInput`.
    """
    given = Arguments("predict")
    values = None
    if given.instance("model", model, nn.Module, "an isobit.Model or another torch module"):
        values = as_reals(x, device_of(model))
    batch_size = given.integer("batch_size", batch_size, at_least=1)
    if values is None or values.dim() == 0 or len(values) == 0:
        given.refuse("x", "a tensor or NumPy array [N, *input] of real numbers, N > 0", shown(x))
        values = torch.zeros(0)
    given.check()
    return _predict(model, values, batch_size)


def accuracy(model: nn.Module, examples: Examples) -> float:
    """Return the fraction of examples classified right. Raises `BadArgument`, `BadRunInput`."""
    given = Arguments("accuracy")
    x, y = torch.zeros(0), torch.zeros(0)
    if given.instance("model", model, nn.Module, "an isobit.Model or another torch module"):
        x, y = read_examples(given, "examples", examples, model)
        check_classes(given, model, {"examples": (x, y)})
    given.check()
    return _accuracy(model, x, y)


def _predict(model: nn.Module, x: Tensor, batch_size: int) -> Tensor:
    training = model.training
    model.eval()
    try:
        with torch.no_grad():
            parts = [model(x[i : i + batch_size]).argmax(1) for i in range(0, len(x), batch_size)]
    finally:
        model.train(training)
    return torch.cat(parts)


def _accuracy(model: nn.Module, x: Tensor, y: Tensor) -> float:
    return float((_predict(model, x, 256) == y).double().mean())


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


@dataclass(frozen=True, slots=True, kw_only=True)
class _Options:
    """What decides the bits of a run beside the data: a checkpoint belongs to one of these."""

    seed: int
    epochs: int
    batch_size: int
    learning_rate: float
    weight_decay: float
    freeze_epochs: int
    patience: int


class _Run:
    """Checkpoint of a run: everything that the next epoch depends on."""

    def __init__(self, model: nn.Module, options: _Options, *, examples: int) -> None:
        self.model = model
        self.options = options
        self.optimizer = torch.optim.AdamW(
            model.parameters(), lr=options.learning_rate, weight_decay=options.weight_decay
        )
        self.identity = {**asdict(options), "examples": examples}
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
