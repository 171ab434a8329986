"""A run that stopped at any moment continues to the same bits, and a checkpoint is never half."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import isobit
from isobit.core.errors import BadCheckpoint, Diverged, FileUnwritable
from isobit.train import checkpoint
from isobit.train.fit import History
from isobit.train.recipe import Augment, Distill, Optimizer, Schedule

from .runs import OPTIONS, TRAIN, VAL, build, digest

SCHEMES = ("affine", "pow2")


def run(model: torch.nn.Module, **options: Any) -> History:
    return isobit.fit(model, TRAIN, VAL, **{**OPTIONS, **options})


def stopped(folder: Path, step: int, scheme: str = "affine", **options: Any) -> None:
    """Start the run of `whole` and interrupt it after so many steps."""
    taken = 0

    def interrupt(*_: object) -> None:
        nonlocal taken
        taken += 1
        if taken == step:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(build(scheme), out=folder, progress=interrupt, **options)


@pytest.fixture(scope="module")
def whole() -> dict[str, str]:
    """Digests of the run that nothing stops."""
    found = {}
    for scheme in SCHEMES:
        model = build(scheme)
        run(model)
        found[scheme] = digest(model)
    return found


@pytest.mark.skipif(not hasattr(os, "fork"), reason="kills forks")
@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_run_killed_five_times_ends_in_the_same_bits(
    tmp_path: Path, whole: dict[str, str], scheme: str
) -> None:
    program = [sys.executable, "-m", "train.killed", scheme, str(tmp_path), "3"]
    ended = subprocess.run(
        program, cwd=Path(__file__).parents[1], capture_output=True, text=True, timeout=300
    )
    assert ended.returncode == 0, ended.stderr
    found = json.loads(ended.stdout.splitlines()[-1])
    assert found["statuses"] == [0, 0], ended.stderr
    assert found["killed"] == 5
    assert found["whole"] == found["resumed"] == whole[scheme]


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("step", [1, 2, 4, 6, 8, 9])
def test_every_step_can_be_the_last_one(
    tmp_path: Path, whole: dict[str, str], scheme: str, step: int
) -> None:
    """Steps 6 and 9 end epochs: what they left is their last step's checkpoint but one."""
    stopped(tmp_path, step, scheme, checkpoint_every=1)
    torch.manual_seed(12345)  # a fresh process has another random state
    model = build(scheme, seed=5)
    if step == 1:
        assert not any(tmp_path.iterdir()), "the step was not over"
        return
    history = run(model, out=tmp_path, resume=tmp_path, checkpoint_every=2)
    assert digest(model) == whole[scheme]
    assert len(history.epochs) == 3 and not history.notes
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["epoch"] for line in lines] == [1, 2, 3]


def test_history_is_that_of_the_whole_run(tmp_path: Path) -> None:
    expected = run(build("affine"))
    stopped(tmp_path, 5, checkpoint_every=1)
    history = run(build("affine", seed=5), resume=tmp_path)
    same = [replace(e, seconds=0.0) for e in history.epochs]
    assert same == [replace(e, seconds=0.0) for e in expected.epochs]


def test_a_finished_run_resumes_to_itself(tmp_path: Path, whole: dict[str, str]) -> None:
    run(build("pow2"), out=tmp_path)
    (tmp_path / "metrics.jsonl").unlink()  # killed between checkpoint and metrics
    model = build("pow2", seed=5)
    assert len(run(model, out=tmp_path, resume=tmp_path).epochs) == 3
    assert digest(model) == whole["pow2"]
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 3


def damage(path: Path, how: str) -> None:
    content = bytearray(path.read_bytes())
    if how == "a byte":
        content[len(content) // 2] ^= 1
    path.write_bytes({"a byte": content, "truncated": content[:-900], "empty": b""}[how])


@pytest.mark.parametrize("how", ["a byte", "truncated", "empty"])
def test_a_damaged_checkpoint_is_passed_over_with_a_note(
    tmp_path: Path, whole: dict[str, str], how: str
) -> None:
    stopped(tmp_path, 5, checkpoint_every=1)
    damage(tmp_path / "last.ckpt", how)
    model = build("affine", seed=5)
    history = run(model, resume=tmp_path)
    assert digest(model) == whole["affine"]
    (note,) = history.notes
    assert "last.ckpt is unreadable" in note and "continuing from previous.ckpt" in note
    damage(tmp_path / "previous.ckpt", how)
    with pytest.raises(BadCheckpoint, match=r"E604 .*last\.ckpt: checkpoint: .*unreadable"):
        run(build("affine"), resume=tmp_path)


def test_a_checkpoint_that_was_not_renamed_yet_is_the_newest(
    tmp_path: Path, whole: dict[str, str]
) -> None:
    stopped(tmp_path, 6, checkpoint_every=1)
    (tmp_path / "last.ckpt").replace(tmp_path / "next.ckpt")
    model = build("affine", seed=5)
    run(model, out=tmp_path, resume=tmp_path)
    assert digest(model) == whole["affine"]
    assert not (tmp_path / "next.ckpt").exists()


@pytest.mark.parametrize("last_write", [2, 4])
def test_a_full_disk_keeps_the_last_checkpoint(
    tmp_path: Path, whole: dict[str, str], monkeypatch: pytest.MonkeyPatch, last_write: int
) -> None:
    writes, fsync = 0, os.fsync

    def full(handle: int) -> None:
        nonlocal writes
        writes += 1
        if writes > last_write:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        fsync(handle)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(FileUnwritable, match=r"E103 .*next\.ckpt: .*No space left"):
        run(build("affine"), out=tmp_path, checkpoint_every=1)
    monkeypatch.undo()
    assert {p.name for p in tmp_path.iterdir()} <= {"last.ckpt", "previous.ckpt", "metrics.jsonl"}
    model = build("affine", seed=5)
    run(model, out=tmp_path, resume=tmp_path)
    assert digest(model) == whole["affine"]


@pytest.mark.parametrize("write", [1, 2, 4])
def test_ctrl_c_inside_a_write_leaves_nothing_half_written(
    tmp_path: Path, whole: dict[str, str], monkeypatch: pytest.MonkeyPatch, write: int
) -> None:
    writes, fsync = 0, os.fsync

    def interrupt(handle: int) -> None:
        nonlocal writes
        writes += 1
        if writes == write:
            raise KeyboardInterrupt
        fsync(handle)

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        run(build("affine"), out=tmp_path / "run", checkpoint_every=1)
    monkeypatch.undo()
    if write == 1:
        assert not (tmp_path / "run").exists()
        return
    names = {p.name for p in (tmp_path / "run").iterdir()}
    assert names <= {"last.ckpt", "previous.ckpt", "metrics.jsonl"}
    model = build("affine", seed=5)
    run(model, out=tmp_path / "run", resume=tmp_path / "run")
    assert digest(model) == whole["affine"]


def test_a_place_that_cannot_be_written_is_refused_before_the_first_step(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    steps: list[object] = []
    with pytest.raises(FileUnwritable, match=r"E103 .*file/run: cannot write"):
        run(build("affine"), out=tmp_path / "file" / "run", progress=lambda *s: steps.append(s))
    assert not steps


@pytest.mark.skipif(os.name == "nt", reason="has no locks on folders")
def test_two_runs_do_not_share_a_folder(tmp_path: Path, whole: dict[str, str]) -> None:
    refusals: list[str] = []

    def another(*_: object) -> None:
        with pytest.raises(FileUnwritable) as caught:
            run(build("affine", seed=5), out=tmp_path, resume=tmp_path, seed=8)
        refusals.append(str(caught.value))

    model = build("affine")
    run(model, out=tmp_path, progress=another)
    assert digest(model) == whole["affine"]
    assert len(set(refusals)) == 1
    assert "want a folder that no other run writes in" in refusals[0]


@pytest.mark.skipif(os.name == "nt", reason="has no locks on folders")
def test_what_a_killed_run_left_half_written_is_removed(tmp_path: Path) -> None:
    left = [tmp_path / ".next.ckpt.x1", tmp_path / ".next.ckpt.x2"]
    for path in left:
        path.write_bytes(b"half")
    run(build("affine"), out=tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "last.ckpt",
        "metrics.jsonl",
        "previous.ckpt",
    ]


class Root(torch.nn.Module):
    """A finite loss whose gradient is infinite once the bias was 0, as it is from the start."""

    def __init__(self, bias: float) -> None:
        super().__init__()
        self.linear = torch.nn.Linear(64, 10)
        self.bias = torch.nn.Parameter(torch.full((10,), bias))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.linear(x.flatten(1) / 16) + self.bias.abs().sqrt()
        return result


@pytest.mark.parametrize("every", [0, 1])
def test_weights_that_are_no_numbers_never_replace_a_checkpoint(tmp_path: Path, every: int) -> None:
    """No later loss says so, where the step was the last one of the run or of a checkpoint."""
    options: dict[str, Any] = {"epochs": 1, "batch_size": 90, "out": tmp_path}
    isobit.fit(Root(1.0), TRAIN, VAL, **options)
    good = (tmp_path / "last.ckpt").read_bytes()
    batch = 45 if every else 90
    with pytest.raises(Diverged, match=r'E603 epoch 1, step 1: weight "bias": want a finite'):
        isobit.fit(
            Root(0.0), TRAIN, VAL, **{**options, "batch_size": batch}, checkpoint_every=every
        )
    assert (tmp_path / "last.ckpt").read_bytes() == good


def test_a_teacher_stands_still(tmp_path: Path) -> None:
    """In train mode its batch norm would move, and each checkpoint be another run's."""
    torch.manual_seed(0)
    teacher = torch.nn.Sequential(
        torch.nn.Flatten(), torch.nn.BatchNorm1d(64), torch.nn.Linear(64, 10)
    )
    before = digest(teacher)
    options = {"distill": Distill(teacher=Path("teacher.py")), "teacher": teacher}
    expected = build("affine")
    run(expected, **options)
    stopped(tmp_path, 5, checkpoint_every=1, **options)
    model = build("affine", seed=5)
    run(model, resume=tmp_path, **options)
    assert digest(model) == digest(expected)
    assert digest(teacher) == before and all(m.training for m in teacher.modules())


def test_other_validation_is_another_run_where_it_may_end_it(tmp_path: Path) -> None:
    other = (255 - VAL[0], VAL[1])
    stopped(tmp_path / "a", 4, checkpoint_every=1)
    isobit.fit(build("affine"), TRAIN, other, **OPTIONS, resume=tmp_path / "a")
    stopped(tmp_path / "b", 4, checkpoint_every=1, patience=2)
    with pytest.raises(BadCheckpoint, match=r"E604 .*a run of val="):
        isobit.fit(build("affine"), TRAIN, other, **OPTIONS, patience=2, resume=tmp_path / "b")


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"seed": 8}, "seed=7"),
        ({"ema": 0.8}, "ema=0.9"),
        ({"label_smoothing": 0.0}, "label_smoothing=0.1"),
        ({"freeze_epochs": 2}, "freeze_epochs=1"),
        ({"float_epochs": 1}, "float_epochs=0"),
        ({"augment": Augment(crop_padding=1)}, r"augment\.brightness=0\.2"),
        ({"schedule": Schedule(name="constant")}, r"schedule\.name=cosine"),
        ({"learning_rate": 0.02}, r"optimizer\.learning_rate=0\.01"),
        (
            {"learning_rate": 2e-3, "optimizer": Optimizer(name="sgd", learning_rate=0.1)},
            r"optimizer\.name=adamw",
        ),
    ],
)
def test_only_the_same_run_resumes(tmp_path: Path, change: dict[str, Any], named: str) -> None:
    stopped(tmp_path, 3, checkpoint_every=1)
    with pytest.raises(BadCheckpoint, match=rf"E604 .*a run of .*{named}"):
        run(build("affine"), resume=tmp_path, **change)


def test_other_examples_are_another_run(tmp_path: Path) -> None:
    stopped(tmp_path, 3, checkpoint_every=1)
    x, y = TRAIN
    with pytest.raises(BadCheckpoint, match=r"E604 .*a run of data="):
        isobit.fit(build("affine"), (255 - x, y), VAL, **OPTIONS, resume=tmp_path)


def test_a_file_of_another_program_is_no_checkpoint(tmp_path: Path) -> None:
    torch.save({"model": build("affine").state_dict()}, tmp_path / "last.ckpt")
    with pytest.raises(BadCheckpoint, match=r"E604 .*of another version, or of another program"):
        run(build("affine"), resume=tmp_path)


def test_another_network_is_refused(tmp_path: Path) -> None:
    stopped(tmp_path, 3, checkpoint_every=1)
    with pytest.raises(BadCheckpoint, match=r"E604 .*another network"):
        run(build("affine", width=6), resume=tmp_path)


def test_the_digest_sees_every_part() -> None:
    tree = {"a": torch.zeros(2), "b": [1, None, {"c": True}], "d": torch.tensor(1.0)}
    base = checkpoint.digest(tree)
    for changed in (
        {**tree, "a": torch.tensor([0.0, -0.0])},
        {**tree, "a": torch.zeros(2, dtype=torch.int32)},
        {**tree, "a": torch.zeros(2, 1)},
        {**tree, "b": [1, None, {"c": False}]},
        {**tree, "b": [1, None]},
        {**tree, "d": torch.tensor(2.0)},
        {"a": tree["a"], "b": tree["b"]},
    ):
        assert checkpoint.digest(changed) != base
    assert checkpoint.digest(dict(reversed(tree.items()))) == base


def test_copies_of_a_folder_resume(tmp_path: Path, whole: dict[str, str]) -> None:
    stopped(tmp_path / "a", 4, checkpoint_every=3)
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    model = build("affine", seed=5)
    run(model, out=tmp_path / "b", resume=tmp_path / "b")
    assert digest(model) == whole["affine"]
