"""The full tier: every test at `--scale full`, its outcome written to results/tests-full.json with
the commit.

    python tools/test_full.py [pytest arguments]

Exit code 1 if anything failed. Skips are listed with their reasons.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
RESULT = ROOT / "results" / "tests-full.json"


def main() -> int:
    report = ROOT / "build" / "tests-full.xml"
    report.parent.mkdir(exist_ok=True)
    began = time.monotonic()
    command = [
        sys.executable,
        "-m",
        "pytest",
        "--scale",
        "full",
        f"--junitxml={report}",
        *sys.argv[1:],
    ]
    if not any(word.startswith("-n") for word in sys.argv[1:]):
        command += ["-n", "2", "--dist", "loadgroup"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}  # as in the Makefile
    code = subprocess.run(command, cwd=ROOT, check=False, env=environment).returncode
    cases = list(ElementTree.parse(report).getroot().iter("testcase"))
    outcomes = Counter(_outcome(case) for case in cases)
    skipped = sorted(
        {
            f"{c.get('classname')}.{c.get('name')}: {s.get('message')}"
            for c in cases
            for s in c.findall("skipped")
        }
    )
    failed = sorted(
        f"{c.get('classname')}.{c.get('name')}" for c in cases if _outcome(c) == "failed"
    )
    result = {
        "schema": 1,
        "commit": _git("rev-parse", "HEAD"),
        "arguments": sys.argv[1:],
        "clean": _git("status", "--porcelain", "--untracked-files=no") == "",
        "exit_code": code,
        "outcomes": dict(sorted(outcomes.items())),
        "failed": failed,
        "skipped": skipped,
        "minutes": round((time.monotonic() - began) / 60, 1),
    }
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps({k: v for k, v in result.items() if k not in ("skipped", "failed")}))
    return 0 if code == 0 else 1


def _outcome(case: ElementTree.Element) -> str:
    if case.find("failure") is not None or case.find("error") is not None:
        return "failed"
    return "skipped" if case.find("skipped") is not None else "passed"


def _git(*arguments: str) -> str:
    done = subprocess.run(
        ["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return done.stdout.strip()


if __name__ == "__main__":
    sys.exit(main())
