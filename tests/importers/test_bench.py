"""results/import.json, written by bench/import.py, meets its bar."""

from __future__ import annotations

import json
import statistics
from pathlib import Path

RESULTS = Path(__file__).resolve().parents[2] / "results" / "import.json"


def test_imports_meet_their_bar() -> None:
    found = json.loads(RESULTS.read_text(encoding="utf-8"))
    assert set(found["models"]) == {"kws", "vww", "ic", "ad"}
    assert found["torch"] == "not importable" and found["bar_seconds"] == 2.0
    for row in found["models"].values():
        assert len(row["seconds"]) >= 5
        assert row["median_seconds"] == round(statistics.median(row["seconds"]), 3) < 2
