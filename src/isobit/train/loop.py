"""The one training loop, under `isobit.fit` and `isobit train`.

What a step computes follows from the state at its start, the run's options and (seed, step) alone:
the order of images, augmentation and dropout are drawn anew from a hash of those. So a checkpoint
needs no random state, a run may stop after any step and continue to the same bits, and several
processes that share a batch take the images, augmented alike, that one process would.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from isobit.core import torch_products, torch_scratch
from isobit.core.errors import BadArgument, Diverged
from isobit.core.torch_sums import allow_int8
from isobit.train import augment, checkpoint, losses, optimizers, schedule, weights
from isobit.train.distributed import (
    exact_arithmetic,
    from_first,
    part_of,
    require_same,
    share_state,
    shared_norms,
    slice_of,
    total,
)
from isobit.train.ema import Ema
from isobit.train.evaluate import Scores, classes
from isobit.train.examples import evaluating
from isobit.train.history import EXACT, FLOAT, Epoch, History, Metrics, Moment, OnStep
from isobit.train.plan import NO_CHANGE, Plan, seeded
from isobit.train.selftest import require_exact
from isobit.train.switch import adapt, adapt_input, forget_ranges
from isobit.train.twin import Twin

if TYPE_CHECKING:
    from lightning_fabric import Fabric

Examples = tuple[Tensor, Tensor]
"""x [N, *input] float32 and y [N] int64, checked, on one device."""


@contextmanager
def int8_forward(switch: str) -> Iterator[None]:
    """Run sums in int8 instructions or not while the body runs: the same bits, another speed.

    Raises `BadArgument` for "on" where this CPU has none that are exact.
    """
    if switch == "on" and not torch_products.int8_is_exact():
        raise BadArgument(
            where="run.int8_forward",
            what="CPU",
            want="int8 products with int32 sums (VNNI) that pass the exactness test",
            got="none",
            fix='Write "auto".',
        )
    if switch == "off":
        allow_int8(False)
    try:
        yield
    finally:
        allow_int8(True)


@dataclass(slots=True)
class _Sums:
    """The epoch so far, over all processes."""

    loss: float = 0.0
    right: float = 0.0
    seen: float = 0.0
    seconds: float = 0.0


@dataclass(slots=True, kw_only=True)
class Training:
    """A run in progress; `run` does all of it. The model is changed in place.

    train, val: on the model's device, the same on every process. folder: for checkpoints and
    metrics, None for neither. on_step: called by the first process after every step.
    """

    fabric: Fabric
    model: nn.Module
    plan: Plan
    train: Examples
    val: Examples
    folder: Path | None = None
    on_step: OnStep | None = None
    history: History = field(default_factory=History)
    at: int = 0
    """Steps taken."""
    steps: int = 0
    """Of one epoch."""
    _order: Tensor = field(init=False)
    """Of the examples, in this epoch."""
    _sums: _Sums = field(default_factory=_Sums)
    _scores: Scores = field(init=False)
    _wrapped: Callable[[Tensor], Tensor] = field(init=False)
    _optimizer: torch.optim.Optimizer = field(init=False)
    _stepping: Any = field(init=False)
    _average: Ema | None = None
    _metrics: Metrics = field(init=False)
    _identity: dict[str, Any] = field(init=False)

    def run(self, resume: Path | None = None) -> History:
        """Train to the end, from the start or from the newest checkpoint in `resume`.

        Afterwards the model is in eval mode with the final weights (the averaged ones, where the
        run averages) and `frozen` as it was. Raises `FileMissing`, `BadCheckpoint`,
        `FileUnwritable` (also where another run writes in `folder`), and `Diverged` with the last
        good checkpoint kept. Examples that are fewer than the processes are a `BadArgument`.
        """
        model, run, teacher = self.model, self.plan.run, self.plan.teacher
        was_frozen = isinstance(model, Twin) and model.frozen
        whole, rest = divmod(len(self.train[0]), run.batch_size)
        # A rest that leaves a process without an example is left out.
        self.steps = whole + (rest >= self.fabric.world_size)
        if not self.steps:
            raise BadArgument(
                where="fit",
                what="train",
                want=f"an example for each of the {self.fabric.world_size} processes",
                got=str(len(self.train[0])),
                fix="Use fewer processes.",
            )
        try:
            with (
                ExitStack() as stack,
                nullcontext() if teacher is None else evaluating(teacher),
                exact_arithmetic(self.fabric.device),
                int8_forward(run.int8_forward),
                weights.in_order(model) if isinstance(model, Twin) else nullcontext(),
                shared_norms(self.fabric, self._float_net()),
            ):
                if isinstance(model, Twin):
                    require_exact(self.fabric.device)
                torch_scratch.keep_freed_memory()
                self._claim(stack)
                self._prepare(resume)
                try:
                    self._epochs()
                finally:
                    self._metrics.close()
                self._finish()
        finally:
            model.eval()
            if isinstance(model, Twin):
                model.is_frozen.fill_(was_frozen)  # the flag alone: freeze() would update ranges
            torch_scratch.release()
        return self.history

    def kept_bytes(self) -> int:
        """Return the size of gradients, of what the optimizer keeps and of the averaged weights."""
        held = [p.grad for p in self.model.parameters() if p.grad is not None]
        for state in self._optimizer.state.values():
            held += [value for value in state.values() if isinstance(value, Tensor)]
        if self._average is not None:
            held += list(self._average.weights.values())
        return sum(tensor.numel() * tensor.element_size() for tensor in held)

    def _float_net(self) -> nn.Module:
        return self.model.net if isinstance(self.model, Twin) else self.model

    def _claim(self, stack: ExitStack) -> None:
        """Have the folder to ourselves until the stack is left, before anything is computed."""
        if self.folder is not None:
            claim = checkpoint.claimed(self.folder)
            from_first(self.fabric, lambda: stack.enter_context(claim))

    def _prepare(self, resume: Path | None) -> None:
        """Set up what the steps need, from the first process's weights or a checkpoint."""
        fabric, run = self.fabric, self.plan.run
        identity = self._identity = self._identify()
        require_same(fabric, "options and examples of the run", identity)
        share_state(fabric, self.model)
        self._optimizer = optimizers.make(self.plan.optimizer, self.model)
        self._average = Ema(self.model, run.ema) if run.ema else None
        if resume is not None:
            self._load(resume, identity)
        self._scores = Scores(self.model)
        self._wrapped, self._stepping = fabric.setup(self._scores, self._optimizer)
        self._metrics = Metrics(None, tensorboard=False, first_step=self.at)
        from_first(fabric, self._open_metrics)

    def _open_metrics(self) -> None:
        run = self.plan.run
        self._metrics = Metrics(self.folder, tensorboard=run.tensorboard, first_step=self.at)
        if self.history.epochs:
            self._metrics.write(self.history)

    def _identify(self) -> dict[str, Any]:
        """Return what decides the bits; validation does where it may end the run."""
        found = {
            **self.plan.identity(),
            "examples": len(self.train[0]),
            "data": _sampled(self.train),
        }
        if self.plan.run.patience:
            found["val"] = _sampled(self.val)
        if self.fabric.world_size > 1:
            found["processes"] = self.fabric.world_size
        return found

    def _epochs(self) -> None:
        run = self.plan.run
        for epoch in range(self.at // self.steps, run.epochs):
            if run.patience and self.history.epochs and self._is_stale():
                return
            self._begin(epoch)
            rate = 0.0
            for step in range(self.at % self.steps, self.steps):
                began = time.monotonic()
                rate = self._step(epoch, step)
                self._sums.seconds += time.monotonic() - began
                # An epoch's last checkpoint comes after its validation.
                due = run.checkpoint_every and self.at % run.checkpoint_every == 0
                if due and step + 1 < self.steps:
                    self._require_finite(epoch, step)
                    self._save()
            self._end(epoch, rate)

    def _is_stale(self) -> bool:
        """Whether `patience` epochs brought nothing better; a float phase goes on to its end."""
        run, epochs = self.plan.run, self.history.epochs
        last = epochs[-1].phase == self._phase(run.epochs - 1)
        return last and len(epochs) - self.history.best.epoch >= run.patience

    def _is_exact(self, epoch: int) -> bool:
        return isinstance(self.model, Twin) and epoch >= self.plan.run.float_epochs

    def _is_frozen(self, epoch: int) -> bool:
        """Whether ranges and statistics stand still; never in the first exact epoch, when they are
        one batch's.
        """
        run = self.plan.run
        return epoch >= max(run.float_epochs + 1, run.epochs - run.freeze_epochs)

    def _begin(self, epoch: int) -> None:
        """Set the mode of an epoch, and ranges where they were never set."""
        model, run = self.model, self.plan.run
        self._scores.exact = self._is_exact(epoch)
        generator = torch.Generator().manual_seed(run.seed * 100003 + epoch)
        self._order = torch.randperm(len(self.train[0]), generator=generator)
        model.train()
        if not isinstance(model, Twin):
            return
        if self.at == 0 and model.missing_ranges():
            adapt_input(model, self.train[0])
        if not self._scores.exact:
            return
        if self.at == run.float_epochs * self.steps:  # the first exact step of the run
            if run.float_epochs:
                forget_ranges(model)
            if model.missing_ranges():
                adapt(model, self.train[0], run.batch_size, partial(slice_of, self.fabric))
        model.freeze(self._is_frozen(epoch))

    def _step(self, epoch: int, step: int) -> float:
        """Take one step; return its learning rate."""
        plan, run = self.plan, self.plan.run
        base = plan.optimizer.learning_rate
        rate = schedule.rate(plan.schedule, base, self.at, self.steps, run.epochs)
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        x, y_a, y_b, lam = self._batch(step)
        torch.manual_seed(seeded(run.seed, self.at, self.fabric.global_rank, "dropout"))
        logits = self._wrapped(x)
        loss = losses.classification(logits, y_a, y_b, lam, run.label_smoothing)
        if plan.distill is not None and plan.teacher is not None:
            with torch.no_grad():
                wanted = plan.teacher(x)
            soft = losses.distillation(logits, wanted, plan.distill.temperature)
            loss = (1 - plan.distill.weight) * loss + plan.distill.weight * soft
        right = float((logits.detach().argmax(1) == y_a).sum())
        own = len(x)
        summed, right, seen = total(self.fabric, float(loss.detach()) * own, right, own)
        value = float(loss.detach()) if self.fabric.world_size == 1 else summed / seen
        if not math.isfinite(value):
            raise _diverged(epoch, step, "loss", str(value))
        self._stepping.zero_grad()
        self.fabric.backward(loss)
        norm = optimizers.clip(plan.optimizer, self.model)
        if norm is not None and not math.isfinite(norm):
            raise _diverged(epoch, step, "gradient", str(norm))
        self._stepping.step()
        if self._average is not None:
            self._average.update(self.model)
        self.at += 1
        sums = self._sums
        sums.loss, sums.right, sums.seen = sums.loss + summed, sums.right + right, sums.seen + seen
        self._tell(epoch, step, value, rate)
        return rate

    def _batch(self, step: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return this process's part of a step's images: x, two labels and the first one's share.

        Every process augments the whole batch, so that the draws are those of one process.
        """
        run, (x, y) = self.plan.run, self.train
        index = self._order[step * run.batch_size : (step + 1) * run.batch_size]
        own = slice_of(self.fabric, len(index))
        if self.plan.augment == NO_CHANGE:
            labels = y[index][own]
            return x[index[own]], labels, labels, torch.ones(len(labels), device=x.device)
        generator = torch.Generator().manual_seed(seeded(run.seed, self.at, "augment"))
        swap = isinstance(self.model, Twin) and self.model.channels_last and x.dim() == 4
        images = x[index].permute(0, 3, 1, 2) if swap else x[index]
        images, y_a, y_b, lam = augment.apply(self.plan.augment, images, y[index], generator)
        images = images.permute(0, 2, 3, 1) if swap else images
        mixed = None if y_b is y_a else y_b[own]
        y_a = y_a[own]
        return images[own], y_a, y_a if mixed is None else mixed, lam[own]

    def _tell(self, epoch: int, step: int, loss: float, rate: float) -> None:
        if self.fabric.global_rank != 0:
            return
        self._metrics.step(self.at, loss, rate)
        if self.on_step is not None:
            self.on_step(
                Moment(
                    epoch=epoch + 1,
                    epochs=self.plan.run.epochs,
                    step=step + 1,
                    steps=self.steps,
                    loss=loss,
                    accuracy=self._sums.right / self._sums.seen,
                    learning_rate=rate,
                    phase=self._phase(epoch),
                )
            )

    def _phase(self, epoch: int) -> str:
        return EXACT if self._is_exact(epoch) else FLOAT

    def _end(self, epoch: int, rate: float) -> None:
        """Validate, and record the epoch."""
        model, began, sums = self.model, time.monotonic(), self._sums
        self._require_finite(epoch, self.steps - 1)
        if isinstance(model, Twin) and self._scores.exact and not model.frozen:
            model.update_ranges()
        val_accuracy = self._validate()
        self.history.epochs.append(
            Epoch(
                epoch=epoch + 1,
                loss=sums.loss / sums.seen,
                train_accuracy=sums.right / sums.seen,
                val_accuracy=val_accuracy,
                learning_rate=rate,
                seconds=sums.seconds + time.monotonic() - began,
                phase=self._phase(epoch),
            )
        )
        self._sums = _Sums()
        self._metrics.epoch(self.at, self.history.epochs[-1])
        self._save()
        from_first(self.fabric, lambda: self._metrics.write(self.history))

    def _require_finite(self, epoch: int, step: int) -> None:
        """Stop before weights that are no numbers are validated, or replace a good checkpoint: a
        finite loss can have a gradient that is not, and the next loss would say so too late.
        """
        for name, weight in self.model.named_parameters():
            if not bool(torch.isfinite(weight).all()):
                raise _diverged(epoch, step, f'weight "{name}"', "NaN or infinite")

    def _validate(self) -> float:
        """Return the accuracy of what would be deployed now."""
        (x, y), module = self.val, self.model if self._scores.exact else self._scores
        part = part_of(self.fabric, len(x))
        with nullcontext() if self._average is None else self._average.applied(self.model):
            right = float((classes(module, x[part]) == y[part]).sum())
        (found,) = total(self.fabric, right)
        return found / len(x)

    def _finish(self) -> None:
        """Leave the model with its final weights, able to export."""
        if self._average is not None:
            self._average.copy_to(self.model)
        if isinstance(self.model, Twin) and not self._is_exact(self.plan.run.epochs - 1):
            forget_ranges(self.model)
            share = partial(slice_of, self.fabric)
            adapt(self.model, self.train[0], self.plan.run.batch_size, share)

    def _save(self) -> None:
        if self.folder is None:
            return
        folder, average = self.folder, self._average
        state = checkpoint.Checkpoint(
            identity=self._identity,
            model=self.model.state_dict(),
            optimizer=self._optimizer.state_dict(),
            average=None if average is None else average.state_dict(),
            progress={"at": self.at, **asdict(self._sums)},
            history=[asdict(e) for e in self.history.epochs],
        )
        from_first(self.fabric, lambda: checkpoint.save(folder, state))

    def _load(self, folder: Path, identity: checkpoint.Tree) -> None:
        def check(path: Path, stored: checkpoint.Tree) -> None:
            names = sorted(k for k in {**stored, **identity} if stored.get(k) != identity.get(k))
            if names:
                got = f"a run of {_named(stored, names)}"
                raise checkpoint.foreign(path, got, _named(identity, names))

        found = from_first(self.fabric, lambda: checkpoint.load(folder, check))
        state = found.checkpoint
        try:
            self.model.load_state_dict(dict(state.model))
            self._optimizer.load_state_dict(dict(state.optimizer))
            if self._average is not None:
                self._average.load_state_dict(dict(state.average or {}))
            progress = dict(state.progress)
            self.at = progress.pop("at")
            self._sums = _Sums(**progress)
            self.history = History([Epoch(**e) for e in state.history], list(found.notes))
        except (RuntimeError, ValueError, KeyError, TypeError) as error:
            reason = str(error).splitlines()[0]
            got = f"another network ({reason})"
            raise checkpoint.foreign(found.path, got, "this run") from error


def _sampled(examples: Examples) -> str:
    """Return a digest of all labels and of some 64 examples."""
    x, y = examples
    return checkpoint.digest([x[:: max(1, len(x) // 64)], y])[:16]


def _named(options: checkpoint.Tree, names: list[str]) -> str:
    return ", ".join(f"{name}={options.get(name, 'nothing')}" for name in names)


def _diverged(epoch: int, step: int, what: str, got: str) -> Diverged:
    return Diverged(
        where=f"epoch {epoch + 1}, step {step + 1}",
        what=what,
        want="a finite number",
        got=got,
        fix="Use a smaller learning rate; the last checkpoint is kept.",
    )
