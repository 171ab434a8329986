"""docs/results.md says what the files under results/ say, and those meet their bars."""

from __future__ import annotations

import json
import subprocess
import sys

from pages import ROOT


def test_page_is_what_the_results_say() -> None:
    done = subprocess.run(
        [sys.executable, "tools/write_results.py", "--check"], cwd=ROOT, check=False
    )
    assert done.returncode == 0, "run python tools/write_results.py"


def test_fashion_meets_its_bars() -> None:
    found = json.loads((ROOT / "results" / "fashion.json").read_text())
    for scheme in ("affine", "pow2"):
        assert found["summary"][scheme] >= 0.905
        assert found["summary"][scheme] >= found["summary"]["fp32"] - 0.005
    assert set(found["verified"]) == {
        f"{scheme}-seed{seed}" for scheme in ("affine", "pow2") for seed in (0, 1)
    }
    for rows in found["verified"].values():
        assert {row["name"] for row in rows} >= {"torch", "host gcc -O0", "cortex-m55", "rv32imc"}
        assert all(row["differing"] == 0 and row["compared"] > 3_000_000 for row in rows)
        assert all(row["same_class"] == row["samples"] for row in rows)


def test_mutants_meet_their_bar() -> None:
    found = json.loads((ROOT / "results" / "mutants.json").read_text())
    assert found["faults"] >= 500
    assert found["killed_share"] >= 0.95
    assert found["unexplained"] == []
