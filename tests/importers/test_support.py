"""The record of what can be imported is the one that the rules and their cases give."""

from __future__ import annotations

import pytest

from isobit.api.importing import support
from isobit.ops.registry import load_ops

from .support import SCANS, Scan

WRITE = "python tools/write_support.py"
STRIDE = {"quick": 6, "full": 1}
"""Of the operators whose first case is run again."""


def scan_of(source: str) -> Scan:
    for package in SCANS[source].needs:
        pytest.importorskip(package)
    return SCANS[source]


def test_the_record_lists_exactly_the_rules() -> None:
    rules: dict[str, set[str]] = {}
    for source, name in load_ops().rules:
        rules.setdefault(source, set()).add(name)
    assert {source: set(found) for source, found in support().items()} == rules, WRITE


@pytest.mark.parametrize("source", SCANS)
def test_the_record_counts_the_cases(source: str) -> None:
    cases = {name: len(found) for name, found in scan_of(source).cases().items()}
    recorded = {name: entry.cases for name, entry in support()[source].items()}
    assert recorded == {name: cases.get(name, 0) for name in recorded}, WRITE
    assert sum(recorded.values()) > 100 or source == "torch"


@pytest.mark.parametrize("source", SCANS)
def test_what_was_recorded_is_what_a_case_gives_now(source: str, scale: str) -> None:
    """The first case of some operators, or of all."""
    scan = scan_of(source)
    listed = sorted(set(scan.cases()) & set(support()[source]))
    for name in listed[:: STRIDE[scale]]:
        found, entry = scan.run(scan.cases()[name][0]), support()[source][name]
        assert found.types <= set(entry.types) and found.ours <= set(entry.ours), (name, WRITE)
        assert set(entry.ours) <= set(load_ops().ops)
