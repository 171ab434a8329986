"""Write src/isobit/importers/support.json: which foreign operators were shown to be exact.

    python tools/write_support.py [--source tflite]

Runs every single-operator case of tests/importers against the runtime that defines the format, and
records for every rule how many passed, the element types they had and the operators they became. A
case that differs is printed and nothing is written. `isobit ops --source` shows the record.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
RECORD = ROOT / "src/isobit/importers/support.json"
sys.path[:0] = [str(ROOT / "src"), str(ROOT / "tests")]


def entry(source: str, name: str, failed: list[str]) -> dict[str, Any]:
    """Return what is recorded of one operator; cases that differ go to `failed`."""
    from importers.support import SCANS

    types: set[str] = set()
    ours: Counter[str] = Counter()
    passed = 0
    cases = SCANS[source].cases().get(name, ()) if source in SCANS else ()
    for number, case in enumerate(cases):
        try:
            found = SCANS[source].run(case)
        except Exception as error:  # whatever a case meets, the others are still run
            failed.append(f"{source} {name}, case {number}: {type(error).__name__}: {error}")
            continue
        passed += 1
        types |= found.types
        ours.update(found.ours)
    most = [op for op, _ in sorted(ours.items(), key=lambda item: (-item[1], item[0]))]
    return {"cases": passed, "types": sorted(types), "ours": most}


def main() -> None:
    from isobit.ops.registry import load_ops

    sources = sorted({source for source, _ in load_ops().rules})
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--source", choices=sources, action="append")
    chosen = parser.parse_args().source or sources
    record = json.loads(RECORD.read_text()) if RECORD.is_file() else {"schema": 1, "sources": {}}
    failed: list[str] = []
    for source in chosen:
        names = sorted(name for known, name in load_ops().rules if known == source)
        record["sources"][source] = {name: entry(source, name, failed) for name in names}
        print(f"{source}: {len(names)} operators", file=sys.stderr)
    if failed:
        sys.exit("\n".join([*failed, f"{len(failed)} cases differ; nothing was written"]))
    record["sources"] = dict(sorted(record["sources"].items()))
    RECORD.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
