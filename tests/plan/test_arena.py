"""Placement never lets two live buffers meet."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isobit import targets
from isobit.plan.arena import Buffer, Sharing, live_bound, place
from isobit.plan.plan import make_plan

from . import networks

M4 = targets.load("cortex-m4")


@dataclass(frozen=True)
class Problem:
    buffers: tuple[Buffer, ...]
    sharing: tuple[Sharing, ...]


@st.composite
def problems(draw: st.DrawFn) -> Problem:
    """Buffers with random lifetimes; an output may share with a source that dies where the output
    is born.
    """
    buffers = []
    for number in range(draw(st.integers(0, 10))):
        first = draw(st.integers(0, 8))
        last = first + draw(st.integers(0, 4))
        size, alignment = draw(st.integers(1, 60)), draw(st.sampled_from([1, 4, 4, 8]))
        buffers.append(Buffer(f"b{number}", size, first, last, alignment))
    sharing = [
        Sharing(a.name, b.name, draw(st.integers(0, 70)))
        for a in buffers
        for b in buffers
        if a is not b and a.last == b.first and a.first < b.first and draw(st.booleans())
    ]
    return Problem(tuple(buffers), tuple(sharing))


def conflicts(placed: dict[str, Buffer], sharing: tuple[Sharing, ...]) -> list[str]:
    """Pairs that are alive together and meet in memory without a permission. Written from `Sharing`
    alone.
    """
    leads = {(s.source, s.output): s.lead_bytes for s in sharing}
    found = []
    for a, b in combinations(placed.values(), 2):
        alive = range(max(a.first, b.first), min(a.last, b.last) + 1)
        common = range(
            max(a.offset, b.offset), min(a.offset + a.size_bytes, b.offset + b.size_bytes)
        )
        if not alive or not common:
            continue
        permitted = any(
            pair in leads and out.offset + leads[pair] <= source.offset
            for source, out in ((a, b), (b, a))
            for pair in [(source.name, out.name)]
        )
        if not permitted:
            found.append(f"{a} meets {b}")
    return found


@settings(max_examples=150)
@given(problems())
def test_place_keeps_live_buffers_apart(problem: Problem) -> None:
    placed, size = place(problem.buffers, problem.sharing)
    assert set(placed) == {b.name for b in problem.buffers}
    assert conflicts(placed, problem.sharing) == []
    assert all(b.offset >= 0 and b.offset % b.alignment_bytes == 0 for b in placed.values())
    assert size == max((b.end for b in placed.values()), default=0)
    leads = {(s.source, s.output): s.lead_bytes for s in problem.sharing}
    assert size >= live_bound(problem.buffers, leads)
    assert place(problem.buffers, problem.sharing) == (placed, size)


@given(problems())
def test_sharing_never_costs_memory(problem: Problem) -> None:
    apart = sum(-(-b.size_bytes // 8) * 8 for b in problem.buffers)
    assert place(problem.buffers, problem.sharing)[1] <= apart


def test_in_place_needs_no_second_buffer() -> None:
    buffers = [Buffer("x", 100, 0, 1, 4), Buffer("y", 100, 1, 2, 4)]
    assert place(buffers, [])[1] == 200
    assert place(buffers, [Sharing("x", "y", 0)])[1] == 100
    placed, size = place(buffers, [Sharing("x", "y", 10)])
    assert size == 112 and placed["x"].offset == 12 and placed["y"].offset == 0


def test_the_checker_of_this_test_sees_conflicts() -> None:
    x, y = Buffer("x", 10, 0, 1), Buffer("y", 10, 1, 2, offset=5)
    assert conflicts({"x": x, "y": y}, ())
    assert conflicts({"x": x, "y": y}, (Sharing("x", "y", 0),))
    assert not conflicts({"x": replace(x, offset=9), "y": y}, (Sharing("x", "y", 4),))
    assert conflicts({"x": replace(x, offset=9), "y": y}, (Sharing("x", "y", 5),))


@pytest.mark.parametrize("part", range(4))
def test_a_plan_computes_what_its_graph_means(part: int) -> None:
    for seed in range(part, 200, 4):
        graph = networks.random_graph(seed)
        plan = make_plan(graph, M4)
        got, want = networks.execute(plan, seed), networks.golden(graph, seed)
        for name in graph.outputs:
            assert np.array_equal(got[name], want[name]), f"seed {seed}, %{name}"
