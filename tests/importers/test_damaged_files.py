"""A damaged file is refused with an error or is a network: no crash, no hang, no 2 GB."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from . import damage

HERE = Path(__file__).resolve().parent
LEAST_REFUSED = 0.4
"""Damage that mostly goes unnoticed would test nothing."""


def _groups() -> list[object]:
    marks = {"operators": ()}
    return [
        pytest.param(group, marks=marks.get(group, (pytest.mark.data("models"),)))
        for group in damage.groups()
    ]


@pytest.mark.parametrize("group", _groups())
def test_a_damaged_file_is_an_error_or_a_network(group: str, scale: str) -> None:
    amount = damage.count(group, scale)
    command = [sys.executable, "-m", "importers.damaged_child", group, str(amount)]
    source = HERE.parents[1] / "src"
    path = os.pathsep.join(
        [str(HERE.parent), str(source), *filter(None, [os.getenv("PYTHONPATH")])]
    )
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(found) == amount
    faults = [
        f"{one['fault']}\nThe file: cd tests && python -m importers.damage write "
        f"{one['name']!r} {one['seed']} damaged{damage.suffix(one['name'])}"
        for one in found
        if "fault" in one
    ]
    assert not faults, f"{len(faults)} of {amount}\n\n" + "\n\n".join(faults[:5])
    codes = Counter(one.get("code", "valid") for one in found)
    refused = amount - codes["valid"]
    assert refused >= LEAST_REFUSED * amount, codes
    assert len(codes) > 1, codes


def test_the_files_add_up() -> None:
    assert sum(damage.SHARES.values()) == damage.TOTALS["quick"] == 300
    assert sum(damage.count(group, "full") for group in damage.SHARES) == 5000
