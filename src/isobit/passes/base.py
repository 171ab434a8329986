"""What a pass is, how all of them are found, and how they run one after the other.

A pass is a file `passes/<name>.py` with one `Pass` subclass, or a module that a wheel names in the
entry point group `isobit.passes`. It says what it preserves, and a generic test
(`tests/passes/test_claims.py`) holds it to that on random graphs into which it has planted what it
rewrites.
"""

from __future__ import annotations

import importlib
import pkgutil
import re
import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from functools import cache
from importlib.metadata import entry_points
from typing import ClassVar

import numpy as np

from isobit.core.errors import BadGraph, UnknownName
from isobit.ir.graph import Graph, Stage
from isobit.ops.check import check


class Claim(Enum):
    """What a pass preserves of every value that survives it and of every output."""

    BITS = "bits"
    """Every bit, of integers and of float64 alike."""
    ROUNDING = "rounding"
    """Every bit of integer graphs; of float graphs the real number: the order of float64
    operations may change. The error is bounded by
    `rounding_bound` of the test: operations x 2^-52 x the largest sum of absolute terms.
    """
    ORDER = "order"
    """Every bit of what survives, and of an output that becomes other numbers the order along the
    last axis: where an entry is now larger than another, it was not smaller before. So the largest
    entry is a largest entry of the old output; only what was a tie before may be decided now.
    """


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What a pass did at one node, or why it did nothing there."""

    node: str
    """The value that the node computes or computed."""
    text: str
    """Done: "dropped: pads by nothing". Not done: the reason."""
    data: Mapping[str, object] = field(default_factory=dict)
    """Plain data that proves the step, where there is something to prove."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rewrite:
    """The graph after a pass, what was done and what was not."""

    graph: Graph
    done: tuple[Step, ...] = ()
    kept: tuple[Step, ...] = ()
    """Nodes that looked like the pattern but had to stay."""


class Pass:
    """A rewrite. Subclasses are never instantiated."""

    name: ClassVar[str] = ""
    """The module's name."""
    claim: ClassVar[Claim] = Claim.BITS
    stages: ClassVar[frozenset[Stage]] = frozenset(Stage)
    """Stages of graphs it can rewrite; others pass through."""
    default: ClassVar[bool] = True
    """Whether it runs when nobody asks for it by name."""
    after: ClassVar[tuple[str, ...]] = ()
    """Passes that, where both run, run before this one."""

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        cls.name = cls.__module__.rsplit(".", 1)[-1]

    @staticmethod
    def run(graph: Graph) -> Rewrite:
        """Return the rewritten graph. Deterministic; the input is legal and stays untouched."""
        raise AssertionError("every pass defines run")

    @staticmethod
    def plant(graph: Graph, rng: np.random.Generator) -> Graph | None:
        """Return `graph` with something in it that `run` must rewrite, `None` where it has no
        place for it.
        """
        raise AssertionError("every pass defines plant")

    @classmethod
    def summary(cls) -> str:
        """Return what it does in one line: the first sentence of its module's docstring."""
        text = " ".join((sys.modules[cls.__module__].__doc__ or "").split("\n\n")[0].split())
        return re.split(r"\.(?=\s+[A-Z]|$)", text)[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class PassRun:
    """One pass that ran, whether it found something to consider or not."""

    name: str
    claim: Claim
    done: tuple[Step, ...]
    kept: tuple[Step, ...]
    gone: Mapping[str, str] = field(default_factory=dict)
    """Value that the pass left nobody to compute -> the next one behind it that is still computed,
    "" where there is none.
    """


@cache
def load_passes() -> dict[str, type[Pass]]:
    """Return every pass by name, in the order in which they run."""
    package = importlib.import_module("isobit.passes")
    modules = [m.name for m in pkgutil.iter_modules(package.__path__, "isobit.passes.")]
    modules += [e.module for e in sorted(entry_points(group="isobit.passes"), key=lambda e: e.name)]
    found: dict[str, type[Pass]] = {}
    for name in modules:
        for value in vars(importlib.import_module(name)).values():
            own = isinstance(value, type) and value.__module__ == name
            if own and issubclass(value, Pass) and value is not Pass:
                found.setdefault(value.name, value)
    return _ordered(found)


def _ordered(found: dict[str, type[Pass]]) -> dict[str, type[Pass]]:
    """Sort by `after`, alphabetically where it leaves a choice; a cycle is a programming error."""
    ordered: dict[str, type[Pass]] = {}
    while len(ordered) < len(found):
        ready = sorted(
            name
            for name, one in found.items()
            if name not in ordered and all(a in ordered or a not in found for a in one.after)
        )
        if not ready:
            raise AssertionError(f"passes wait for each other: {sorted(set(found) - set(ordered))}")
        ordered[ready[0]] = found[ready[0]]
    return ordered


def chosen(wanted: Collection[str] = ()) -> list[type[Pass]]:
    """Return the default passes, with `NAME` added and `-NAME` taken away, in running order.

    Raises `UnknownName` for a name that is no pass.
    """
    everything = load_passes()
    for name in wanted:
        if name.removeprefix("-") not in everything:
            raise UnknownName(
                where=f"pass {name!r}",
                what="pass",
                want="one of " + ", ".join(everything),
                got=name,
                fix="Write NAME to add a pass, -NAME to leave one out.",
            )
    return [
        one
        for name, one in everything.items()
        if (one.default or name in wanted) and f"-{name}" not in wanted
    ]


ROUNDS = 10
"""Far more than any rewrites need that follow from each other, beside those that halve a chain; a
pass that never settles is a fault.
"""


def run_passes(graph: Graph, passes: Sequence[type[Pass]]) -> tuple[Graph, tuple[PassRun, ...]]:
    """Run `passes` in order, again and again until none of them changes anything.

    The graph is checked after every pass. What was done is the sum of all rounds; reasons for what
    was not done are those of the last round. Passes for graphs of another stage are no runs.
    """
    passes = [one for one in passes if graph.stage in one.stages]
    done: dict[str, list[Step]] = {one.name: [] for one in passes}
    gone: dict[str, dict[str, str]] = {one.name: {} for one in passes}
    kept: dict[str, tuple[Step, ...]] = {}
    rounds = ROUNDS + len(graph.nodes).bit_length()
    for _ in range(rounds):
        changed = False
        for one in passes:
            rewrite = one.run(graph)
            if rewrite.done:
                check(rewrite.graph)
                gone[one.name].update(_gone(graph, rewrite.graph))
                changed = True
            graph = rewrite.graph
            done[one.name].extend(rewrite.done)
            kept[one.name] = rewrite.kept
        if not changed:
            break
    else:
        raise BadGraph(
            where=graph.name,
            what="passes",
            want=f"nothing left to rewrite after {rounds} rounds",
            got="still rewriting",
            fix="Leave one of them out (-NAME) and report it.",
        )
    return graph, tuple(
        PassRun(
            name=one.name,
            claim=one.claim,
            done=tuple(done[one.name]),
            kept=kept[one.name],
            gone=gone[one.name],
        )
        for one in passes
    )


def _gone(before: Graph, after: Graph) -> dict[str, str]:
    """Return the values that only the first graph computes, each with the next one behind it that
    both have. Linear in the size of the graph.
    """
    present, readers = after.type_map(), before.consumers()
    found: dict[str, str] = {}
    for node in reversed(before.nodes):
        for value in node.outputs:
            if value.name not in present:
                behind = (v.name for reader in readers[value.name] for v in reader.outputs)
                steps = (name if name in present else found[name] for name in behind)
                found[value.name] = next((name for name in steps if name), "")
    return dict(reversed(found.items()))
