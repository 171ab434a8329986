"""`fit`: resumes to the same bits, stops when told, and refuses what it cannot train."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import isobit
from isobit import nn
from isobit.core.errors import BadArgument, BadCheckpoint, Diverged, FileMissing, NotExact
from isobit.ops.registry import load_ops
from isobit.run.golden import run_golden
from isobit.train import selftest
from isobit.train.fit import Epoch, History, accuracy, fit, predict

from .nets import digits, take_steps


def model(seed: int = 0, width: int = 4) -> isobit.Model:
    torch.manual_seed(seed)
    net = nn.Sequential(
        nn.Standardize(),
        nn.Conv2d(1, width, 3, stride=2, padding=1),
        nn.BatchNorm2d(width),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(width * 16, 10),
    )
    return isobit.Model(net, input=(1, 8, 8), name="small")


def digest(module: torch.nn.Module) -> str:
    found = hashlib.sha256()
    for key, value in sorted(module.state_dict().items()):
        found.update(key.encode() + value.detach().contiguous().numpy().tobytes())
    return found.hexdigest()


TRAIN, VAL = digits(96), digits(32, start=900)


def run(one: torch.nn.Module, epochs: int = 3, **options: Any) -> History:
    return fit(one, TRAIN, VAL, epochs=epochs, batch_size=32, seed=7, **options)


def test_the_same_seed_gives_the_same_bits() -> None:
    first, second, other = model(), model(), model()
    run(first)
    run(second)
    fit(other, TRAIN, VAL, epochs=3, batch_size=32, seed=8)
    assert digest(first) == digest(second) != digest(other)


@pytest.mark.parametrize("stop_after", [1, 2])
def test_resume_at_an_epoch_boundary_equals_no_interruption(
    tmp_path: Path, stop_after: int
) -> None:
    whole = model()
    history = run(whole, out=tmp_path / "whole")

    def interrupt(epoch: int, epochs: int, step: int, steps: int, loss: float) -> None:
        if epoch == stop_after + 1 and step == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(model(), out=tmp_path / "run", progress=interrupt)
    torch.manual_seed(12345)  # a fresh process has another random state
    resumed = model(seed=5)
    again = run(resumed, out=tmp_path / "run", resume=tmp_path / "run")
    assert digest(resumed) == digest(whole)
    assert [e.loss for e in again.epochs] == [e.loss for e in history.epochs]
    assert len((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()) == 3


def test_metrics_are_one_json_object_per_epoch(tmp_path: Path) -> None:
    history = run(model(), epochs=2, out=tmp_path)
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert [Epoch(**json.loads(line)) for line in lines] == history.epochs
    names = sorted(p.name for p in tmp_path.iterdir())
    assert names == ["last.ckpt", "metrics.jsonl", "previous.ckpt"]


def test_validation_is_that_of_the_export() -> None:
    one = model()
    history = run(one, epochs=2)
    x, y = VAL
    assert history.epochs[-1].val_accuracy == accuracy(one, VAL)
    graph = one.export()
    outputs = run_golden(graph, one.quantize_input(x))[graph.outputs[0]]
    right = torch.from_numpy(outputs).argmax(1) == y
    assert history.epochs[-1].val_accuracy == float(right.double().mean())


def test_patience_stops_early() -> None:
    """A learning rate of (almost) nothing cannot improve: epoch 1 stays the best."""
    history = fit(model(), TRAIN, VAL, epochs=9, batch_size=96, patience=2, learning_rate=1e-12)
    best = history.best.epoch
    assert len(history.epochs) == best + 2 < 9


def test_a_loss_that_is_not_a_number_keeps_the_last_checkpoint(tmp_path: Path) -> None:
    one = model()

    def poison(epoch: int, epochs: int, step: int, steps: int, loss: float) -> None:
        if epoch == 2 and step == 1:
            with torch.no_grad():
                one.net.get_parameter("5.bias").fill_(float("nan"))

    with pytest.raises(Diverged, match=r"E603 epoch 2, step 2: loss: want a finite number"):
        run(one, out=tmp_path, progress=poison)
    stored = torch.load(tmp_path / "last.ckpt", weights_only=True)
    assert len(stored["history"]) == 1
    assert all(torch.isfinite(v).all() for v in stored["model"].values() if v.is_floating_point())
    resumed, whole = model(), model()
    run(resumed, resume=tmp_path)
    run(whole)
    assert digest(resumed) == digest(whole)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"epochs": 4}, "a run of"),
        ({"learning_rate": 1e-3}, "a run of"),
        ({"model": 6}, "another network"),
    ],
)
def test_a_checkpoint_of_another_run_is_refused(
    tmp_path: Path, change: dict[str, Any], reason: str
) -> None:
    run(model(), epochs=2, out=tmp_path)
    width = change.pop("model", 4)
    options = {"epochs": 2, **change}
    with pytest.raises(BadCheckpoint, match=rf"E604 .*{reason}"):
        run(model(width=width), resume=tmp_path, **options)


@pytest.mark.parametrize("content", [b"", b"no checkpoint", None])
def test_a_damaged_checkpoint_is_refused(tmp_path: Path, content: bytes | None) -> None:
    run(model(), epochs=1, out=tmp_path)
    path = tmp_path / "last.ckpt"
    path.write_bytes(path.read_bytes()[:-500] if content is None else content)
    with pytest.raises(BadCheckpoint, match=r"E604 .*unreadable"):
        run(model(), epochs=1, resume=tmp_path)


def test_resume_without_a_checkpoint_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileMissing, match=r"E101 .*checkpoint"):
        run(model(), resume=tmp_path)


@pytest.mark.parametrize(
    ("train", "options"),
    [
        ((torch.zeros(0, 1, 8, 8), torch.zeros(0, dtype=torch.int64)), {}),
        (TRAIN, {"epochs": 0}),
        (TRAIN, {"batch_size": 0}),
    ],
)
def test_nothing_to_train_is_refused(train: tuple[Tensor, Tensor], options: dict[str, int]) -> None:
    with pytest.raises(BadArgument, match=r"E105 fit: "):
        fit(model(), train, VAL, **{"epochs": 1, **options})  # type: ignore[arg-type]


def test_no_validation_images_are_refused() -> None:
    empty = (torch.zeros(0, 1, 8, 8), torch.zeros(0, dtype=torch.int64))
    with pytest.raises(BadArgument, match=r"E105 fit: "):
        fit(model(), TRAIN, empty, epochs=1)


def test_fit_trains_the_float_network_too() -> None:
    one = model()
    before = digest(one.net)
    history = run(one.net, epochs=2)
    assert len(history.epochs) == 2 and digest(one.net) != before
    assert predict(one.net, VAL[0]).shape == (32,)


def test_predict_leaves_the_mode_alone() -> None:
    one = model()
    take_steps(one, 1)
    assert one.training
    predict(one, VAL[0])
    assert one.training


@pytest.mark.parametrize("op", ["conv2d", "linear", "standardize"])
def test_an_inexact_backend_is_refused(monkeypatch: pytest.MonkeyPatch, op: str) -> None:
    """Operators that share a surrogate fail together; the first of them is named."""
    one = model()
    run(one, epochs=1)
    cls = load_ops().op(op)
    named = "|".join(n for n, o in load_ops().ops.items() if issubclass(o, cls))
    named, exact = f"(?:{named})", cls.surrogate

    def off_by_one(attrs: Any, q: Any, inputs: Any) -> Any:
        result = exact(attrs, q, inputs).clone()
        result.view(-1)[0] += 1 if float(result.view(-1)[0]) < 0 else -1
        return result

    monkeypatch.setattr(cls, "surrogate", staticmethod(off_by_one))
    monkeypatch.setattr(selftest, "_passed", set())
    with pytest.raises(NotExact, match=rf"E601 device cpu: {named} .*want 0 differing values"):
        one.eval()(VAL[0])
    monkeypatch.undo()
    one.eval()(VAL[0])
