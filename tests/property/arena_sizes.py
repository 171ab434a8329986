"""The arena of random graphs, recorded: a planner that places worse is a fault, though no bit is
wrong.
"""

from __future__ import annotations

import hashlib
import json
from functools import cache
from pathlib import Path

from isobit.ir.text import print_graph
from isobit.plan.plan import Plan

RECORD = Path(__file__).parent / "arena_bytes.json"
SEEDS = range(120)


@cache
def recorded() -> dict[str, list[int | str]]:
    """Seed -> [digest of the graph's text, arena bytes on the host]."""
    found: dict[str, list[int | str]] = json.loads(RECORD.read_text())
    return found


def digest(plan: Plan) -> str:
    """What identifies a drawn graph."""
    return hashlib.sha256(print_graph(plan.graph).encode()).hexdigest()[:12]


def larger_than_recorded(seed: int, plan: Plan) -> str:
    """Return how a plan is worse than the record, "" where it is not."""
    name, size = recorded()[str(seed)]
    if name != digest(plan):
        return f"seed {seed} draws another graph: record again (python -m property.arena_sizes)"
    if plan.arena_bytes > int(size):
        return f"seed {seed}: an arena of {plan.arena_bytes} bytes, recorded are {size}"
    return ""


def main() -> None:
    """Record the sizes of this tree."""
    from isobit import targets
    from isobit.plan.plan import make_plan

    from .graphs import draw

    host = targets.load("host")
    rows = []
    for seed in SEEDS:
        plan = make_plan(draw(seed).graph, host)
        rows.append(f'  "{seed}": ["{digest(plan)}", {plan.arena_bytes}]')
    RECORD.write_text("{\n" + ",\n".join(rows) + "\n}\n")


if __name__ == "__main__":
    main()
