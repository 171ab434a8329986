"""`isobit train` of a recipe: what it trains, saves, says and refuses."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import isobit
from isobit import data
from isobit.run.golden import run_golden

from .conftest import SPEC, Run, files_below

RECIPE = """
[data]
name = "digits"
limit = 256
[net]
spec = "spec.py"
{net}
[optimizer]
name = "nesterov"
learning_rate = 0.05
[schedule]
name = "cosine"
[augment]
crop_padding = 1
{more}
[run]
epochs = 2
batch_size = 64
accelerator = "cpu"
{run}
"""


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    return written(tmp_path)


def written(folder: Path, net: str = "", run: str = "", more: str = "") -> Path:
    """Write a recipe and its SPEC.py; return the recipe's path."""
    (folder / "spec.py").write_text(SPEC)
    path = folder / "recipe.toml"
    path.write_text(RECIPE.format(net=net, run=run, more=more))
    return path


def test_a_recipe_ends_in_a_model_and_the_next_command(
    run: Run, tmp_path: Path, recipe: Path
) -> None:
    shown = run("train", recipe, "--out", tmp_path / "m.isobit")
    assert shown.code == 0, shown.err
    assert "test images, in the chip's integers" in shown.out
    assert f"Next: isobit deploy {tmp_path / 'm.isobit'} --out build/" in shown.out
    names = {p.name for p in (tmp_path / "m.run").iterdir()}
    assert names == {"last.ckpt", "previous.ckpt", "metrics.jsonl"}
    assert run("deploy", tmp_path / "m.isobit", "--out", tmp_path / "c", "--json").code == 0


def test_the_accuracy_is_that_of_the_saved_integers(run: Run, tmp_path: Path, recipe: Path) -> None:
    found = run("train", recipe, "--out", tmp_path / "m.isobit", "--json").json
    assert found["accuracy"]["surprise"] == 0
    _, test = data.load("digits")
    graph = isobit.load(tmp_path / "m.isobit")
    names = [value.name for value in graph.inputs]
    codes = test.images.astype(graph.inputs[0].type.dtype.numpy)
    outputs = run_golden(graph, codes)[graph.outputs[0]]
    assert names and found["accuracy"]["device"] == float((outputs.argmax(1) == test.labels).mean())


def test_options_come_before_the_recipe(run: Run, tmp_path: Path, recipe: Path) -> None:
    options = ["--epochs", "1", "--seed", "3", "--batch-size", "128", "--learning-rate", "0.01"]
    found = run("train", recipe, *options, "--json").json
    assert len(found["epochs"]) == 1
    other = run("train", recipe, "--epochs", "1", "--json").json
    assert found["epochs"][0]["loss"] != other["epochs"][0]["loss"]
    assert found["saved"] is None


def test_a_recipe_resumes_and_not_after_its_network_changed(
    run: Run, tmp_path: Path, recipe: Path
) -> None:
    out = tmp_path / "m.isobit"
    first = run("train", recipe, "--out", out, "--json").json
    whole = out.read_bytes()
    run_folder = tmp_path / "m.run"
    (run_folder / "previous.ckpt").replace(run_folder / "last.ckpt")  # as after one epoch
    again = run("train", recipe, "--out", out, "--resume", run_folder, "--json").json
    assert [e["loss"] for e in again["epochs"]] == [e["loss"] for e in first["epochs"]]
    assert out.read_bytes() == whole
    (tmp_path / "spec.py").write_text(SPEC + "# another\n")
    problem = run("train", recipe, "--out", out, "--resume", run_folder, "--json").error("E604")
    assert "net=" in problem["got"]
    assert out.read_bytes() == whole


def test_a_damaged_checkpoint_is_passed_over_with_a_note(
    run: Run, tmp_path: Path, recipe: Path
) -> None:
    out, folder = tmp_path / "m.isobit", tmp_path / "m.run"
    run("train", recipe, "--out", out)
    whole = out.read_bytes()
    (folder / "last.ckpt").write_bytes(b"half")
    found = run("train", recipe, "--out", out, "--resume", folder)
    assert found.code == 0 and "last.ckpt is unreadable" in found.err
    assert out.read_bytes() == whole


def test_dry_run_measures_and_writes_nothing(run: Run, tmp_path: Path, recipe: Path) -> None:
    before = files_below(tmp_path)
    found = run("train", recipe, "--out", tmp_path / "m.isobit", "--dry-run", "--json").json
    assert found["steps"] == 8 and found["images"] == 256 and found["seconds"] > 0
    assert found["measured_steps"] == 7, "of a run of 8 steps"
    assert found["parameter_bytes"] > 0 and found["optimizer_bytes"] > 0
    shown = run("train", recipe, "--dry-run")
    assert shown.out.startswith("2 epochs of 4 steps on 256 images")
    assert f"memory: {found['peak_bytes'] / 1e3:,.0f} KB at the peak: images " in shown.out
    assert files_below(tmp_path) == before


def test_dry_run_counts_the_same_bytes_in_every_process(tmp_path: Path, recipe: Path) -> None:
    command = [sys.executable, "-m", "isobit", "train", recipe, "--dry-run", "--json"]
    runs = [subprocess.run(command, capture_output=True, check=True).stdout for _ in range(2)]
    first, second = map(json.loads, runs)
    sizes = [key for key in first if key.endswith("_bytes")]
    assert [first[key] for key in sizes] == [second[key] for key in sizes]
    assert first["peak_bytes"] == sum(first[key] for key in sizes if key != "peak_bytes")
    # 256 training and 359 test images of 64 pixels, as float32, and their labels
    assert first["data_bytes"] == (256 + 359) * (64 * 4 + 8)


def test_the_report_shows_the_training(run: Run, tmp_path: Path, recipe: Path) -> None:
    out, folder = tmp_path / "m.isobit", tmp_path / "c"
    found = run("train", recipe, "--out", out, "--json").json
    assert run("deploy", out, "--out", folder).code == 0
    report = run("report", folder, "--json").json
    assert report["accuracy"] == round(found["accuracy"]["device"], 6)
    assert report["accuracy_on"] == "359 test images of digits"
    losses = [epoch["loss"] for epoch in report["training"]]
    assert losses == [round(epoch["loss"], 6) for epoch in found["epochs"]]
    assert 'id="training"' in (folder / "report.html").read_text()
    assert "Accuracy: " in run("report", folder).out
    again = tmp_path / "again"
    assert run("deploy", folder, "--out", again, "--target", "cortex-m0plus").code == 0
    assert run("report", again, "--json").json["training"] == report["training"]


def test_a_resumed_run_is_deployed_to_the_same_bytes(run: Run, tmp_path: Path) -> None:
    recipe = written(tmp_path, run="float_epochs = 1")
    out, folder = tmp_path / "m.isobit", tmp_path / "m.run"
    assert run("train", recipe, "--epochs", 3, "--out", out).code == 0
    assert run("deploy", out, "--out", tmp_path / "whole").code == 0
    (folder / "previous.ckpt").replace(folder / "last.ckpt")
    assert run("train", recipe, "--epochs", 3, "--out", out, "--resume", folder).code == 0
    assert run("deploy", out, "--out", tmp_path / "resumed").code == 0
    assert files_below(tmp_path / "resumed") == files_below(tmp_path / "whole")
    training = run("report", tmp_path / "resumed", "--json").json["training"]
    assert [epoch["phase"] for epoch in training] == ["float", "exact", "exact"]
    assert {epoch["seconds"] for epoch in training} == {None}


def test_the_accuracy_after_float_epochs_alone_is_that_of_the_integers(
    run: Run, tmp_path: Path
) -> None:
    recipe = written(tmp_path, run="float_epochs = 2")
    out, folder = tmp_path / "m.isobit", tmp_path / "c"
    found = run("train", recipe, "--out", out, "--json").json
    _, test = data.load("digits")
    graph = isobit.load(out)
    codes = test.images.astype(graph.inputs[0].type.dtype.numpy)
    outputs = run_golden(graph, codes)[graph.outputs[0]]
    assert found["accuracy"]["device"] == float((outputs.argmax(1) == test.labels).mean())
    assert found["accuracy"]["framework"] == found["epochs"][-1]["val_accuracy"]
    assert run("deploy", out, "--out", folder).code == 0
    report = run("report", folder, "--json").json
    assert report["accuracy"] == round(found["accuracy"]["device"], 6)


def test_a_specification_that_trains_is_run_once(run: Run, tmp_path: Path) -> None:
    spec = tmp_path / "spec.py"
    own = """
train, test = isobit.data.load("digits")
isobit.fit(model, train.subset(slice(0, 128)), test, epochs=1)
with open(__file__ + ".runs", "a") as runs:
    runs.write("x")
"""
    spec.write_text(SPEC + own)
    assert run("deploy", spec, "--out", tmp_path / "c").code == 0
    assert (tmp_path / "spec.py.runs").read_text() == "x"
    assert len(run("report", tmp_path / "c", "--json").json["training"]) == 1


def test_a_float32_recipe_says_what_deployment_changes(run: Run, tmp_path: Path) -> None:
    recipe = written(tmp_path, net='scheme = "float32"')
    found = run("train", recipe, "--out", tmp_path / "m.isobit", "--json").json
    accuracy = found["accuracy"]
    assert accuracy["surprise"] == accuracy["framework"] - accuracy["device"]
    assert {e["phase"] for e in found["epochs"]} == {"float"}
    shown = run("train", recipe)
    assert "as trained, in float, it was" in shown.out
    assert run("deploy", tmp_path / "m.isobit", "--out", tmp_path / "c", "--json").code == 0


def test_a_hybrid_recipe_with_a_teacher(run: Run, tmp_path: Path) -> None:
    more = '[distill]\nteacher = "teacher.py"'
    (tmp_path / "teacher.py").write_text(SPEC)
    recipe = written(tmp_path, net='scheme = "pow2"', run="float_epochs = 1", more=more)
    found = run("train", recipe, "--json").json
    assert [e["phase"] for e in found["epochs"]] == ["float", "exact"]


def test_a_float_model_is_fine_tuned(run: Run, tmp_path: Path) -> None:
    spec = tmp_path / "spec.py"
    spec.write_text(SPEC)
    from isobit.cli.common.subject import read_spec
    from isobit.ir.store import Stored, write_store

    write_store(tmp_path / "float.isobit", Stored({"float": read_spec(spec).float_graph()}, {}, {}))
    recipe = written(tmp_path)
    recipe.write_text(recipe.read_text().replace('spec = "spec.py"', 'model = "float.isobit"'))
    found = run("train", recipe, "--out", tmp_path / "m.isobit", "--json")
    assert found.code == 0, found.err
    assert found.json["accuracy"]["device"] > 0.1
    recipe.write_text(recipe.read_text().replace("[net]", '[net]\nscheme = "float32"'))
    assert "isobit calibrate" in run("train", recipe, "--json").error("E105")["fix"]


@pytest.mark.parametrize(
    ("text", "replaced", "code"),
    [
        ("epochs = 2", "epoch = 2", None),
        ("epochs = 2", "epochs = 0", "E105"),
        ('name = "digits"', 'name = "digit"', "E104"),
        ('spec = "spec.py"', 'spec = "absent.py"', "E101"),
        ("[data]", "[data", "E102"),
    ],
)
def test_a_wrong_recipe_writes_nothing(
    run: Run, tmp_path: Path, recipe: Path, text: str, replaced: str, code: str | None
) -> None:
    recipe.write_text(recipe.read_text().replace(text, replaced))
    before = files_below(tmp_path)
    found = run("train", recipe, "--out", tmp_path / "m.isobit", "--json")
    assert found.code == 1
    assert code is None or code in {p["code"] for p in found.json["errors"]}
    assert files_below(tmp_path) == before
    assert run("train", tmp_path / "absent.toml", "--json").error("E101")


def test_a_full_disk_keeps_the_last_checkpoint(
    run: Run, tmp_path: Path, recipe: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writes, fsync = 0, os.fsync

    def full(handle: int) -> None:
        nonlocal writes
        writes += 1
        if writes > 3:  # the probe, a checkpoint and its metrics fit
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        fsync(handle)

    out, folder = tmp_path / "m.isobit", tmp_path / "m.run"
    monkeypatch.setattr(os, "fsync", full)
    assert "No space left" in run("train", recipe, "--out", out, "--json").error("E103")["got"]
    monkeypatch.undo()
    assert sorted(p.name for p in folder.iterdir()) == ["last.ckpt", "metrics.jsonl"]
    assert not out.exists()
    resumed = run("train", recipe, "--out", out, "--resume", folder, "--json")
    assert resumed.code == 0 and len(resumed.json["epochs"]) == 2


def test_a_loss_that_diverges_keeps_the_last_checkpoint(
    run: Run, tmp_path: Path, recipe: Path
) -> None:
    recipe.write_text(recipe.read_text().replace("0.05", "1e12"))
    out = tmp_path / "m.isobit"
    found = run("train", recipe, "--out", out, "--epochs", "9", "--json")
    assert found.code == 1 and len(found.json["errors"]) == 1
    assert found.json["errors"][0]["code"] in ("E603", "E205", "E105")
    assert not out.exists()


def test_a_missing_device_is_refused(run: Run, tmp_path: Path, recipe: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a CUDA device: nothing to refuse")
    recipe.write_text(recipe.read_text().replace('"cpu"', '"cuda"'))
    assert "CUDA" in run("train", recipe, "--json").error("E105")["want"]
    recipe.write_text(recipe.read_text().replace('"cuda"', '"auto"'))
    assert run("train", recipe, "--dry-run", "--json").code == 0


def test_a_specification_needs_data(run: Run, tmp_path: Path) -> None:
    (tmp_path / "spec.py").write_text(SPEC)
    found = run("train", tmp_path / "spec.py", "--json")
    assert found.code == 2 and "--data" in found.json["errors"][0]["got"]


def test_classes_are_counted_before_the_first_step(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "own"
    folder.mkdir()
    for split in ("train", "test"):
        images = np.zeros((24, 8, 8, 1), np.uint8)
        np.savez(folder / f"{split}.npz", images=images, labels=np.arange(24) % 12)
    recipe = written(tmp_path)
    recipe.write_text(recipe.read_text().replace('"digits"', '"own"').replace("limit = 256", ""))
    before = files_below(tmp_path)
    assert run("train", recipe, "--out", tmp_path / "m.isobit", "--json").error("E105")
    assert files_below(tmp_path) == before
