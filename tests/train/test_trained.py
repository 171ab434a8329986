"""A model keeps how it was trained, through files and deployment, and no other one's accuracy."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import isobit
from isobit import data
from isobit.api.reporting import bundle_report
from isobit.api.trained import CHANGED, NOTE, read_trained_file
from isobit.core.errors import BadArgument, FileDamaged
from isobit.ir.store import Stored, read_store, write_store
from isobit.ops.registry import load_ops
from isobit.train.evaluate import accuracy
from isobit.train.float_baseline import float_baseline
from isobit.train.plan import Plan
from isobit.train.recipe import Optimizer, Run, Schedule

from .nets import digits
from .runs import build

TRAIN, VAL = digits(96), digits(100, start=900)


def fit(model: isobit.Model, **options: Any) -> isobit.History:
    return isobit.fit(model, TRAIN, VAL, **{"epochs": 2, "batch_size": 32, **options})


def read(path: Path) -> Stored:
    return read_store(path, load_ops().signature)


def test_a_fit_is_kept_without_its_times() -> None:
    model = build("affine")
    assert model.trained == {}
    history = fit(model)
    kept = model.trained
    assert kept["accuracy"] == history.epochs[-1].val_accuracy == accuracy(model, VAL)
    assert kept["accuracy_on"] == "100 validation examples" and kept["notes"] == []
    assert [e["loss"] for e in kept["history"]] == [e.loss for e in history.epochs]
    assert all("seconds" not in epoch for epoch in kept["history"])


def test_data_sets_are_named_and_unpublished_files_noted() -> None:
    train, test = data.load("digits")
    model = build("pow2")
    isobit.fit(model, train.subset(slice(0, 64)), test, epochs=1)
    assert model.trained["accuracy_on"] == "359 test images of digits"
    assert model.trained["notes"] == []
    isobit.fit(model, replace(train.subset(slice(0, 64)), verified=False), test, epochs=1)
    (note,) = model.trained["notes"]
    assert "not the published ones" in note
    assert len(model.trained["history"]) == 1, "that of the last fit"


@pytest.mark.parametrize("float_epochs", [1, 2])
def test_the_accuracy_is_the_integers_in_a_hybrid_training(float_epochs: int) -> None:
    model = build("affine")
    fit(model, float_epochs=float_epochs)
    phases = [epoch["phase"] for epoch in model.trained["history"]]
    assert phases == ["float"] * float_epochs + ["exact"] * (2 - float_epochs)
    assert model.trained["accuracy"] == accuracy(model, VAL)


def test_the_baseline_keeps_the_accuracy_on_the_device() -> None:
    model = build("affine")
    plan = Plan(
        run=Run(epochs=1, batch_size=32),
        optimizer=Optimizer(name="adamw", learning_rate=0.01),
        schedule=Schedule(name="constant"),
    )
    found = float_baseline(model, TRAIN, VAL, plan)
    assert model.trained["accuracy"] == found.device
    assert [epoch["phase"] for epoch in model.trained["history"]] == ["float"]


def test_it_travels_through_files_and_deployment(tmp_path: Path) -> None:
    model = build("affine")
    fit(model)
    model.save(tmp_path / "m.isobit")
    assert read_trained_file(tmp_path / "m.isobit") == model.trained
    again = build("affine", seed=5)
    again.restore(tmp_path / "m.isobit")
    assert again.trained == model.trained
    again.save(tmp_path / "n.isobit")
    assert (tmp_path / "m.isobit").read_bytes() == (tmp_path / "n.isobit").read_bytes()
    bundle = again.deploy(tmp_path / "deployed")
    assert bundle.training == model.trained
    report = bundle_report(bundle)
    assert report.accuracy == model.trained["accuracy"]
    assert len(report.epochs) == 2 and report.seconds is None and report.confusion is None


def test_what_is_trained_on_has_no_accuracy(tmp_path: Path) -> None:
    model = build("affine")
    fit(model)
    before = model.trained
    with torch.no_grad():
        model.net[6].weight.add_(0.05)
    kept = model.trained
    assert kept["accuracy"] is None and kept["notes"] == [CHANGED]
    assert kept["history"] == before["history"]
    model.save(tmp_path / "m.isobit")
    again = build("affine")
    again.restore(tmp_path / "m.isobit")
    assert again.trained == kept
    report = bundle_report(again.deploy(tmp_path / "deployed"))
    assert report.accuracy is None and len(report.epochs) == 2 and CHANGED in report.notes
    with torch.no_grad():
        model.net[6].weight.zero_()
    assert model.trained["notes"] == [CHANGED], "said once"


def test_a_resumed_run_saves_the_same_bytes(tmp_path: Path) -> None:
    whole, resumed = build("affine"), build("affine", seed=3)
    fit(whole, epochs=3, float_epochs=1, out=tmp_path / "run")
    whole.save(tmp_path / "whole.isobit")
    (tmp_path / "run" / "previous.ckpt").replace(tmp_path / "run" / "last.ckpt")
    fit(resumed, epochs=3, float_epochs=1, resume=tmp_path / "run")
    resumed.save(tmp_path / "resumed.isobit")
    assert len(resumed.trained["history"]) == 3
    whole_bytes = (tmp_path / "whole.isobit").read_bytes()
    assert (tmp_path / "resumed.isobit").read_bytes() == whole_bytes


def test_an_imported_network_keeps_it(tmp_path: Path) -> None:
    model = isobit.Model.from_graph(build("affine").float_graph(), name="taken")
    x, y = TRAIN[0].permute(0, 2, 3, 1), TRAIN[1]
    isobit.fit(model, (x, y), (x, y), epochs=1, batch_size=32)
    model.save(tmp_path / "m.isobit")
    again = isobit.Model.from_file(tmp_path / "m.isobit")
    assert again.trained == model.trained != {}


def test_files_without_it_load(tmp_path: Path) -> None:
    """What earlier versions wrote, and models that were never trained by fit."""
    model = build("affine")
    fit(model)
    model.save(tmp_path / "m.isobit")
    stored = read(tmp_path / "m.isobit")
    notes = {key: text for key, text in stored.notes.items() if key != NOTE}
    write_store(tmp_path / "old.isobit", replace(stored, notes=notes))
    model.restore(tmp_path / "old.isobit")
    assert model.trained == {} and read_trained_file(tmp_path / "old.isobit") == {}
    assert not (model.deploy(tmp_path / "deployed").path / "training.json").exists()


@pytest.mark.parametrize("text", ["[]", "{", '{"schema": 1}', "null"])
def test_a_damaged_note_is_refused_and_changes_nothing(tmp_path: Path, text: str) -> None:
    model = build("affine")
    fit(model)
    model.save(tmp_path / "m.isobit")
    stored = read(tmp_path / "m.isobit")
    write_store(tmp_path / "bad.isobit", replace(stored, notes={**stored.notes, NOTE: text}))
    before = model.trained
    with pytest.raises(FileDamaged, match="history of the training"):
        model.restore(tmp_path / "bad.isobit")
    assert model.trained == before


def test_what_cannot_be_recorded_is_refused() -> None:
    model = build("affine")
    history = fit(model)
    with pytest.raises(BadArgument, match=r"accuracy: want .*got 95"):
        model.record_training(history, accuracy=95, accuracy_on="")
    with pytest.raises(BadArgument, match="a History"):
        model.record_training([], accuracy=1, accuracy_on="")  # type: ignore[arg-type]  # on purpose
