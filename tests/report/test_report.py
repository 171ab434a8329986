"""The report's data: what it takes, what it refuses, and its JSON."""

from __future__ import annotations

import json

import numpy as np
import pytest

from isobit.core.errors import BadArgument, IsobitError
from isobit.report.making import make_report
from isobit.report.report import Report
from isobit.run.verify import Difference
from report.cases import (
    HISTORY,
    comparison,
    full_report,
    planned_estimate,
    small_plan,
)


def test_json_round_trips_and_names_its_schema(full: Report) -> None:
    data = full.to_json()
    assert data["schema"] == 1
    assert json.loads(json.dumps(data)) == data
    assert list(data)[:3] == ["schema", "name", "target"]


def test_json_of_equal_reports_is_equal_text() -> None:
    assert json.dumps(full_report().to_json()) == json.dumps(full_report().to_json())


def test_json_has_every_key_without_data(full: Report, bare: Report) -> None:
    assert list(bare.to_json()) == list(full.to_json())
    assert bare.to_json()["confusion"] is None
    assert bare.to_json()["training"] == []


def test_json_keeps_the_first_difference() -> None:
    first = Difference(value="act", index=(0, 1, 2, 3), golden=4, other=5, location="", count=2)
    report = full_report(comparisons=[comparison("host", first, 2)])
    verified = json.loads(json.dumps(report.to_json()))["verified"]
    assert verified["differing"] == 2
    assert verified["executions"][0]["first"]["index"] == [0, 1, 2, 3]


def test_json_rounds_measurements_only(full: Report) -> None:
    sizes = full.to_json()["sizes"]
    assert isinstance(sizes, dict)
    assert sizes["milliseconds"] == 0.0383
    assert sizes["instructions"] == 3101.5
    assert sizes["instructions_max"] == 3105


def test_json_says_the_phase_and_no_time_that_was_not_kept() -> None:
    kept = {k: v for k, v in HISTORY[0].items() if k != "seconds"}
    history = [HISTORY[0], {**kept, "epoch": 2, "phase": "float"}]
    report = full_report(history=history)
    training = report.to_json()["training"]
    assert isinstance(training, list)
    assert [(e["seconds"], e["phase"]) for e in training] == [(1.25, "exact"), (None, "float")]
    assert report.seconds is None and report.float_epochs == 1


def test_an_unknown_phase_is_refused() -> None:
    with pytest.raises(BadArgument, match=r"entry 1: want phase \"exact\" or \"float\""):
        full_report(history=[{**HISTORY[0], "phase": "half"}])


def test_steps_follow_the_graph(full: Report) -> None:
    assert [(s.op, s.reads, s.writes) for s in full.steps] == [
        ("clamp", ("x",), ("act",)),
        ("max_pool2d", ("act",), ("pool",)),
        ("reshape", ("pool",), ("flat",)),
    ]
    assert [s.source for s in full.steps] == ["net.py:7", "", "net.py:9"]
    assert full.steps[2].is_view


def test_lifetimes_hold_every_value_once(full: Report) -> None:
    values = [v for life in full.lifetimes for v in life.values]
    assert sorted(values) == ["act", "flat", "pool", "x"]
    assert max(life.end for life in full.lifetimes) == full.estimate.arena_bytes
    (pool,) = [life for life in full.lifetimes if life.name == "pool"]
    assert pool.values == ("pool", "flat")


def test_flash_of_no_layer_is_the_remainder(full: Report, bare: Report) -> None:
    layers = full.estimate.layers
    owned = sum(c.constant_bytes + (c.code_bytes or 0) for c in layers)
    assert full.remainder_bytes == (full.estimate.flash_bytes or 0) - owned
    assert bare.remainder_bytes is None


def test_accuracy_comes_from_the_confusion(full: Report) -> None:
    assert full.accuracy == 24 / 30


def test_class_numbers_stand_in_for_names() -> None:
    report = full_report(classes=())
    assert report.confusion is not None
    assert report.confusion.classes == ("0", "1", "2")
    assert report.confusion.errors()[0] == (3, "2", "0")


def test_pieces_that_do_not_belong_together_are_refused_at_once() -> None:
    other = planned_estimate(small_plan("other_"))
    with pytest.raises(IsobitError) as caught:
        make_report(
            small_plan(),
            other,
            history=[*HISTORY, {"epoch": 11}],
            confusion=np.zeros((2, 3), np.int64),
            accuracy=1.5,
        )
    told = [problem.what for problem in caught.value.problems]
    assert told == ["estimate", "history, entry 11", "confusion", "accuracy"]


@pytest.mark.parametrize(
    "counts", [np.zeros((3, 3)), np.full((3, 3), -1), np.zeros(3, np.int64), np.zeros((2, 2), int)]
)
def test_confusion_must_be_counts_by_class(counts: np.ndarray) -> None:
    with pytest.raises(BadArgument, match="one row per class"):
        full_report(confusion=counts)
