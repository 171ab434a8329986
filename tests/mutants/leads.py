"""What kernels declare, recorded: to ask for more wastes memory, though no bit is wrong.

`python -m mutants.leads` (in tests/) records again; smaller numbers need no new record.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from contract.calls import packed_of
from isobit.ops.registry import load_ops

RECORD = Path(__file__).with_name("declared_bytes.json")
NEVER = 1 << 30
"""Stands for `overlap_bytes` None."""


def declared(op: str) -> Iterator[tuple[str, dict[str, int]]]:
    """Lead, scratch and constants of every kernel for every sample that it takes, in bytes."""
    registry = load_ops()
    definition = registry.op(op)
    for kernel in registry.kernels.get(op, ()):
        for sample in definition.samples():
            attrs, types = sample.attrs, sample.types
            if kernel.when(attrs, types):
                continue
            lead = kernel.overlap_bytes(attrs, types)
            packed = packed_of(definition, kernel, sample)
            yield (
                f"{op} {kernel.stem}: {sample.label}",
                {
                    "lead": NEVER if lead is None else lead,
                    "scratch": kernel.scratch_bytes(attrs, types),
                    "constants": sum(p.data.nbytes for p in packed),
                    "odd_alignments": sum(p.alignment_bytes not in POWERS for p in packed),
                },
            )


POWERS = (0, 1, 2, 4, 8, 16)


def lead_problems(op: str) -> Iterator[str]:
    """Yield samples for which a kernel declares more than recorded; new samples are free."""
    recorded: dict[str, dict[str, int]] = json.loads(RECORD.read_text())
    for name, found in declared(op):
        for what, size in found.items():
            most = recorded.get(name, found)[what]
            if size > most:
                yield f"{name}: {what}: {most} recorded, {size} declared"


def main() -> None:
    """Record this tree's kernels."""
    rows = dict(row for op in load_ops().ops for row in declared(op))
    lines = [f"{json.dumps(name)}: {json.dumps(found)}" for name, found in sorted(rows.items())]
    RECORD.write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    main()
