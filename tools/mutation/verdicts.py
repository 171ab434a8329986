"""What the checks share: verdicts and places."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
KILLED, SURVIVED, INVALID = "killed", "survived", "invalid"


@dataclass(frozen=True, slots=True)
class Verdict:
    """`invalid`: the mutated C does not compile, so there is nothing to find."""

    status: str
    by: str = ""


def use_repository() -> None:
    """Import isobit and the tests from this repository."""
    for folder in (ROOT / "tests", ROOT / "src"):
        if str(folder) not in sys.path:
            sys.path.insert(0, str(folder))
