"""`isobit passes` lists what `isobit import --pass` takes."""

from __future__ import annotations

import json

from isobit.passes.base import load_passes

from .conftest import Run


def test_passes_are_listed_in_running_order(run: Run) -> None:
    shown = run("passes", "--json")
    rows = json.loads(shown.out)["passes"]
    assert [row["name"] for row in rows] == list(load_passes())
    (softmax,) = (row for row in rows if row["name"] == "elide_softmax")
    assert (softmax["claim"], softmax["default"]) == ("order", False)
    assert all(row["summary"] and row["stages"] for row in rows)


def test_one_pass_is_shown_and_an_unknown_one_refused(run: Run) -> None:
    shown = run("passes", "merge_views")
    assert shown.code == 0 and "merge_views" in shown.out and "drop_noop" not in shown.out
    refused = run("passes", "nonsense")
    assert refused.code == 1 and "E104" in refused.err and "merge_views" in refused.err
