"""How far outputs may lead inputs, recorded: to declare more wastes memory, though no bit is wrong.

`python -m mutants.leads` (in tests/) records again; a smaller number needs no new record.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from isobit.ops.base import Kernel, load_ops

RECORD = Path(__file__).with_name("overlap_bytes.json")


def declared(op: str) -> Iterator[tuple[str, int | None]]:
    """Every kernel's `overlap_bytes` of every sample that it takes."""
    registry = load_ops()
    for kernel in registry.kernels.get(op, ()):
        if kernel.overlap_bytes is Kernel.overlap_bytes:
            continue
        for sample in registry.op(op).samples():
            if not kernel.when(sample.attrs, sample.types):
                name = f"{op} {kernel.stem}: {sample.label}"
                yield name, kernel.overlap_bytes(sample.attrs, sample.types)


def lead_problems(op: str) -> Iterator[str]:
    """Yield samples for which a kernel declares more than recorded; new samples are free."""
    recorded: dict[str, Any] = json.loads(RECORD.read_text())
    for name, lead in declared(op):
        if name in recorded:
            most = recorded[name]
            if most is not None and (lead is None or lead > most):
                yield f"{name}: {most} bytes are recorded, {lead} declared"


def main() -> None:
    """Record this tree's kernels."""
    rows = {name: lead for op in load_ops().ops for name, lead in declared(op)}
    RECORD.write_text(json.dumps(rows, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
