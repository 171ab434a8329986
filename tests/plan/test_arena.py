"""Placement never lets two live buffers meet, and the independent checker refuses every plan that
does.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isobit import targets
from isobit.core.dtypes import DType
from isobit.core.errors import BadPlan, IsobitError
from isobit.core.types import TensorType
from isobit.ir.graph import Graph, Node, Stage, Value
from isobit.ops.base import Kernel
from isobit.ops.clamp.op import ClampAttrs, ClampInputs
from isobit.ops.concat.op import ConcatAttrs, ConcatInputs
from isobit.ops.reshape.op import ReshapeAttrs, ReshapeInputs
from isobit.ops.split.op import SplitAttrs, SplitInputs
from isobit.plan.arena import Buffer, Sharing, live_bound, place
from isobit.plan.checker import verify_plan
from isobit.plan.plan import Plan, make_plan

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


@pytest.mark.parametrize("part", range(4))
def test_the_checker_refuses_every_plan_that_computes_something_else(part: int) -> None:
    """Buffers are moved at random; where execution shows damage, the checker must have seen it."""
    damaged = refused = 0
    for seed in range(part, 160, 4):
        plan = make_plan(networks.random_graph(seed), M4)
        rng = np.random.default_rng(seed)
        for _ in range(12):
            changed = moved(plan, rng)
            got, want = networks.execute(changed, seed), networks.golden(plan.graph, seed)
            wrong = any(not np.array_equal(got[name], want[name]) for name in want)
            damaged += wrong
            if accepts(changed):
                assert not wrong, f"seed {seed}: accepted, {changed.buffers}"
            else:
                refused += 1
    assert damaged > 50 and refused >= damaged


def moved(plan: Plan, rng: np.random.Generator) -> Plan:
    """One buffer, and all names it has, at another offset; sometimes one name only, or a scratch
    buffer.
    """
    names = sorted(plan.buffers)
    name = str(rng.choice(names))
    old = plan.buffers[name]
    offset = int(rng.integers(0, max(plan.arena_bytes - old.size_bytes, 0) // 4 + 1)) * 4
    alone = rng.integers(4) == 0
    buffers = {
        n: replace(b, offset=offset) if (n == name if alone else b.name == old.name) else b
        for n, b in plan.buffers.items()
    }
    return replace(plan, buffers=buffers)


def accepts(plan: Plan) -> bool:
    try:
        verify_plan(plan)
    except IsobitError as error:
        assert {p.code for p in error.problems} == {BadPlan.code}
        return False
    return True


KIND = TensorType((1, 2, 2, 4), DType.S8, networks.ENCODING)


def graph_of(*nodes: Node, outputs: tuple[str, ...]) -> Graph:
    return Graph(
        name="n", stage=Stage.INT, inputs=(Value("x", KIND),), nodes=nodes, outputs=outputs
    )


def clamp(source: str, name: str, kind: TensorType = KIND) -> Node:
    return Node("clamp", ClampInputs(source), ClampAttrs(), (Value(name, kind),))


def flat(source: str, name: str) -> Node:
    return Node(
        "reshape",
        ReshapeInputs(source),
        ReshapeAttrs((16,)),
        (Value(name, KIND.with_shape((1, 16))),),
    )


def test_a_value_may_be_read_after_views_of_its_views() -> None:
    """c, its view f and f's view g are one buffer: reading c after g exists is no fault."""
    back = Node("reshape", ReshapeInputs("f"), ReshapeAttrs((2, 2, 4)), (Value("g", KIND),))
    joined = Node(
        "concat",
        ConcatInputs(("g", "c")),
        ConcatAttrs(3),
        (Value("y", KIND.with_shape((1, 2, 2, 8))),),
    )
    graph = graph_of(clamp("x", "c"), flat("c", "f"), back, joined, outputs=("y",))
    plan = make_plan(graph, M4)
    assert plan.buffers["c"] == plan.buffers["f"] == plan.buffers["g"]


def test_an_output_that_the_last_node_reads_survives() -> None:
    graph = graph_of(clamp("x", "c"), clamp("c", "d"), outputs=("d", "c", "x"))
    plan = make_plan(graph, M4)
    assert len({plan.buffers[name].offset for name in ("d", "c", "x")}) == 3


def with_offset(plan: Plan, name: str, offset: int) -> Plan:
    return replace(plan, buffers={**plan.buffers, name: replace(plan.buffers[name], offset=offset)})


def test_a_view_elsewhere_is_refused() -> None:
    """No code runs for a view, so nothing would move its bytes."""
    graph = graph_of(clamp("x", "c"), flat("c", "f"), outputs=("f",))
    plan = make_plan(graph, M4)
    larger = replace(plan, arena_bytes=plan.arena_bytes + 64)
    with pytest.raises(IsobitError, match="view of %c"):
        verify_plan(with_offset(larger, "f", plan.arena_bytes))


def test_outputs_of_one_node_must_not_meet() -> None:
    half = KIND.with_shape((1, 2, 2, 2))
    split = Node(
        "split", SplitInputs("x"), SplitAttrs(3, (2, 2)), (Value("a", half), Value("b", half))
    )
    for kept in ("a", "b"):  # the other one is never read
        plan = make_plan(graph_of(split, outputs=(kept,)), M4)
        with pytest.raises(IsobitError, match="output %b over %a"):
            verify_plan(with_offset(plan, "a", plan.buffers["b"].offset))


def test_a_buffer_must_lie_inside_the_arena_on_its_alignment() -> None:
    plan = make_plan(graph_of(clamp("x", "c"), outputs=("c",)), M4)
    with pytest.raises(IsobitError, match="outside the arena"):
        verify_plan(replace(plan, arena_bytes=plan.arena_bytes - 1))
    with pytest.raises(IsobitError, match="not aligned"):
        verify_plan(with_offset(replace(plan, arena_bytes=plan.arena_bytes + 64), "c", 18))


def test_output_over_input_needs_the_kernels_lead() -> None:
    graph = graph_of(clamp("x", "c"), outputs=("c",))
    plan = make_plan(graph, M4)
    assert plan.buffers["c"].offset == plan.buffers["x"].offset  # clamp works in place
    roomy = replace(plan, arena_bytes=plan.arena_bytes + 64)
    verify_plan(with_offset(with_offset(roomy, "x", 8), "c", 4))
    with pytest.raises(BadPlan, match="output over input %x"):
        verify_plan(with_offset(with_offset(roomy, "x", 4), "c", 8))


def test_a_kernels_own_alignment_is_checked() -> None:
    plan = make_plan(graph_of(clamp("x", "c"), outputs=("c",)), M4)
    (step,) = plan.nodes
    assert step.kernel is not None

    class Wide(step.kernel):  # type: ignore[misc, name-defined]
        alignment_bytes = 8

    wide: type[Kernel] = Wide
    changed = replace(plan, nodes=(replace(step, kernel=wide),), arena_bytes=plan.arena_bytes + 64)
    verify_plan(changed)
    with pytest.raises(IsobitError, match="aligned to 8"):
        verify_plan(with_offset(with_offset(changed, "x", 4), "c", 4))


def test_scratch_must_not_meet_what_its_node_touches() -> None:
    plan = make_plan(graph_of(clamp("x", "c"), clamp("c", "d"), outputs=("d", "x")), M4)
    first, second = plan.nodes

    def scratch(offset: int, index: int) -> Plan:
        buffer = Buffer("c.scratch", 4, index, index, 4, offset)
        nodes: list[Any] = [first, second]
        nodes[index] = replace(nodes[index], scratch=buffer)
        return replace(plan, nodes=tuple(nodes), arena_bytes=plan.arena_bytes + 16)

    verify_plan(scratch(plan.arena_bytes, 0))
    for name in ("x", "c"):
        with pytest.raises(IsobitError, match=f"scratch over %{name}"):
            verify_plan(scratch(plan.buffers[name].offset, 0))
    # %x lives on as an output although the second node does not touch it.
    with pytest.raises(IsobitError, match="overwritten before the end"):
        verify_plan(scratch(plan.buffers["x"].offset, 1))
