"""Two processes end with the same bits, and do what one process with the whole batch does."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from isobit.train.moments import moments_of

from . import several

Found = list[dict[str, Any]]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where two processes write."""
    return tmp_path_factory.mktemp("several")


@pytest.fixture(scope="module")
def found(place: Path) -> Found:
    """What each of two processes says of every case."""
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    ended = subprocess.run(
        [sys.executable, *launcher, "-m", "train.several", str(place)],
        cwd=Path(__file__).parents[1],
        capture_output=True,
        text=True,
        timeout=600,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert ended.returncode == 0, ended.stderr[-4000:]
    return [json.loads((place / f"{rank}.json").read_text()) for rank in range(2)]


@pytest.mark.parametrize("name", [*several.LIKE_ONE, *several.ALIKE])
def test_every_buffer_and_the_export_are_equal_on_all_processes(found: Found, name: str) -> None:
    first, second = (one[name] for one in found)
    for key in ("digest", "export", "accuracy", "own_accuracy", "train_accuracy"):
        assert first[key] == second[key], key
    assert first["accuracy"] == first["own_accuracy"], "validation is shared, not halved"
    assert first["losses"] and not second["losses"], "the first process reports"


@pytest.mark.parametrize("which", range(len(several.SUMS)))
def test_statistics_of_two_halves_are_those_of_the_whole(found: Found, which: int) -> None:
    values = several.sums(which)
    whole = several.hex_of(values)
    assert [one["moments"][which] for one in found] == [whole, whole]
    exact = values.double().reshape(-1, values.shape[-1])
    moments = moments_of(values)
    mean, var = torch.from_numpy(moments.mean), torch.from_numpy(moments.var)
    # float32 sums of up to 2046 positions; the mean of the third is 1500 deviations from 0.
    assert torch.allclose(mean, exact.mean(0), rtol=1e-6, atol=1e-5 * float(exact.std()))
    assert torch.allclose(var, exact.var(0, correction=0), rtol=1e-4)


@pytest.mark.parametrize("scheme", ["affine", "pow2"])
def test_every_step_of_two_processes_is_one_with_the_whole_batch(
    found: Found, place: Path, scheme: str
) -> None:
    """From the same state: logits, ranges and statistics equal in every bit, gradients but for the
    order in which float32 adds over the batch.

    2048 numbers of a gradient in another order: up to 2048 / 2^24 = 1.2e-4 of their magnitudes'
    sum, of which a gradient is a part; 1e-3 of the largest one.
    """
    model = several.deep(scheme)
    steps = torch.load(place / "steps.pt")[scheme]
    assert len(steps) == several.STEPS
    for step, (state, two) in enumerate(steps):
        model.load_state_dict(state)
        one = several.step_of(model, model, *several.images_of(step))
        assert set(one) == set(two)
        assert abs(float(one.pop("loss") - two["loss"])) <= 1e-6, step
        for name, value in one.items():
            if not name.startswith("grad "):
                assert torch.equal(value, two[name]), (step, name)
                continue
            largest = float(value.abs().max())
            assert float((value - two[name]).abs().max()) <= 1e-3 * largest, (step, name)


@pytest.mark.parametrize("name", several.LIKE_ONE)
def test_two_processes_train_as_one_with_the_whole_batch(found: Found, name: str) -> None:
    """Each for itself, 50 steps: 5e-7 in a loss. In other integer networks rounding may bring a
    weight to the next code, and from there two runs part (docs/training.md).
    """
    one, two = several.ran(name, 0), found[0][name]
    assert len(one["losses"]) == len(two["losses"]) == several.STEPS
    differences = [abs(a - b) for a, b in zip(one["losses"], two["losses"], strict=True)]
    assert differences[0] <= 1e-6, "the first step is the same"
    assert max(differences) <= 1e-4
    assert abs(one["accuracy"] - two["accuracy"]) <= 0.005 + 1e-9


def test_sums_that_leave_float32_in_one_process_hang_none(found: Found) -> None:
    assert found[0]["uneven"] == found[1]["uneven"]


def test_a_run_of_two_processes_resumes_to_the_same_bits(found: Found) -> None:
    for one in found:
        assert one["resumed"]["digest"] == one["whole"]["digest"] == one["hybrid-affine"]["digest"]
        assert one["resumed"]["export"] == one["whole"]["export"]


def test_different_examples_are_refused_on_every_process(found: Found) -> None:
    for one in found:
        assert one["refusal"].startswith("E105 process 1: options and examples of the run")


def test_numbers_that_do_not_go_with_the_processes_are_refused(found: Found) -> None:
    for one in found:
        assert one["batch"].startswith("E105 fit: batch_size: want a multiple of 2")
        assert one["devices"].startswith("E105 run.devices: processes: want 1 or 2")


def test_a_rest_that_cannot_be_shared_is_left_out(found: Found) -> None:
    assert len(found[0]["odd-affine"]["losses"]) == 2 * 2


def test_what_the_first_process_cannot_read_stops_all(found: Found) -> None:
    for one in found:
        assert one["missing"].startswith("E101") and "checkpoint" in one["missing"]
