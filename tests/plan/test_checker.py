"""The independent checker refuses every plan that computes something else, and says why.

`tools/mutants.py` calls these tests without pytest: no fixtures, no parameters.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from isobit import targets
from isobit.core.dtypes import DType
from isobit.core.errors import BadPlan, IsobitError
from isobit.core.types import Raw, TensorType
from isobit.ir.graph import Const, Graph, Node, Stage, Value
from isobit.ops.add.op import AddAttrs, AddInputs
from isobit.ops.base import Kernel
from isobit.ops.clamp.op import ClampAttrs, ClampInputs
from isobit.ops.concat.op import ConcatAttrs, ConcatInputs
from isobit.ops.reshape.op import ReshapeAttrs, ReshapeInputs
from isobit.ops.split.op import SplitAttrs, SplitInputs
from isobit.plan.arena import Buffer
from isobit.plan.checker import verify_plan
from isobit.plan.plan import Plan, make_plan
from property.states import draw as draw_states

from . import networks

M4 = targets.load("cortex-m4")


def test_every_plan_that_computes_something_else_is_refused() -> None:
    """Buffers are moved at random; where execution shows damage, the checker must have seen it."""
    damaged = refused = 0
    for seed in range(160):
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
    assert damaged > 200 and refused >= damaged


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
NUMBERS = ("mult_a", "mult_b", "shift")


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


def test_a_state_is_written_where_it_was_read() -> None:
    """One buffer, and no lead between the two is needed."""
    for seed in range(2):
        plan = make_plan(draw_states(seed), M4)
        assert plan.graph.states
        for state in plan.graph.states:
            assert plan.buffers[state.name] == plan.buffers[state.next]
        verify_plan(plan)


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


def with_kernel(plan: Plan, **declared: Any) -> Plan:
    """The plan of one node, its kernel declaring something else."""
    (step,) = plan.nodes
    assert step.kernel is not None
    return replace(plan, nodes=(replace(step, kernel=type("Other", (step.kernel,), declared)),))


def test_a_lead_is_kept_between_output_and_input() -> None:
    plan = make_plan(graph_of(clamp("x", "c"), outputs=("c",)), M4)
    changed = with_kernel(plan, overlap_bytes=staticmethod(lambda attrs, q: 4))
    changed = replace(changed, arena_bytes=plan.arena_bytes + 64)
    verify_plan(with_offset(with_offset(changed, "x", 8), "c", 4))
    with pytest.raises(BadPlan, match="output over input %x"):
        verify_plan(with_offset(with_offset(changed, "x", 8), "c", 8))


def test_only_the_first_input_may_be_written_over_unless_declared() -> None:
    joined = Node(
        "add", AddInputs("x", "z", **dict.fromkeys(NUMBERS, "one")), AddAttrs(), (Value("y", KIND),)
    )
    numbers = TensorType((1,), DType.S32, Raw())
    graph = replace(
        graph_of(joined, outputs=("y",)),
        inputs=(Value("x", KIND), Value("z", KIND)),
        consts=(Const("one", numbers, np.ones(1, dtype=np.int32)),),
    )
    plan = make_plan(graph, M4)
    for all_, refused in ((True, set()), (False, {"z"})):
        changed = with_kernel(plan, overlaps_all=all_)
        for name in ("x", "z"):
            moved_ = with_offset(changed, "y", plan.buffers[name].offset)
            assert accepts(moved_) == (name not in refused), (all_, name)


def test_scratch_beside_what_its_node_touches_is_fine() -> None:
    plan = make_plan(graph_of(clamp("x", "c"), outputs=("c",)), M4)
    (step,) = plan.nodes
    roomy = with_offset(with_offset(replace(plan, arena_bytes=64), "x", 16), "c", 16)
    for offset, fine in ((8, True), (12, True), (13, False), (31, False), (32, True)):
        scratch = Buffer("c.scratch", 4, 0, 0, 1, offset)
        assert accepts(replace(roomy, nodes=(replace(step, scratch=scratch),))) == fine, offset


def test_scratch_over_a_value_that_is_read_later_is_refused() -> None:
    """Of any value, the one that the arena holds first or a later one."""
    graph = graph_of(clamp("x", "c"), clamp("x", "d"), clamp("x", "e"), outputs=("c", "d", "e"))
    plan = make_plan(graph, M4)
    for name in ("c", "d"):
        buffer = Buffer("e.scratch", 4, 2, 2, 4, plan.buffers[name].offset)
        nodes = (*plan.nodes[:2], replace(plan.nodes[2], scratch=buffer))
        with pytest.raises(IsobitError, match="overwritten before the end"):
            verify_plan(replace(plan, nodes=nodes))


def test_scratch_over_one_byte_is_seen() -> None:
    """The very first byte that is written has a number of its own too."""
    plan = make_plan(graph_of(clamp("x", "c"), clamp("c", "d"), outputs=("d", "x")), M4)
    buffer = Buffer("d.scratch", 1, 1, 1, 1, plan.buffers["x"].offset)
    nodes = (plan.nodes[0], replace(plan.nodes[1], scratch=buffer))
    with pytest.raises(IsobitError, match="overwritten before the end"):
        verify_plan(replace(plan, nodes=nodes))
