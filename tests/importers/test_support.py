"""The record of what can be imported is the one that the rules and their cases give."""

from __future__ import annotations

import pytest

from isobit.api.importing import support
from isobit.ops.registry import load_ops

from .support import SCANS

pytestmark = pytest.mark.data("tflite-micro")
WRITE = "python tools/write_support.py"


def test_the_record_lists_exactly_the_rules() -> None:
    rules: dict[str, set[str]] = {}
    for source, name in load_ops().rules:
        rules.setdefault(source, set()).add(name)
    assert {source: set(found) for source, found in support().items()} == rules, WRITE


@pytest.mark.parametrize("source", sorted(SCANS))
def test_the_record_counts_the_cases(source: str) -> None:
    cases = {name: len(found) for name, found in SCANS[source].cases().items()}
    recorded = {name: entry.cases for name, entry in support()[source].items()}
    assert recorded == cases, WRITE


def test_what_was_recorded_is_what_a_case_gives_now() -> None:
    """One case of every operator: the first."""
    for source, scan in SCANS.items():
        for name, cases in scan.cases().items():
            found = scan.run(cases[0])
            entry = support()[source][name]
            assert found.types <= set(entry.types) and found.ours <= set(entry.ours), (name, WRITE)
            assert set(entry.ours) <= set(load_ops().ops)
