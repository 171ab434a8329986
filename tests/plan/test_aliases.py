"""Concatenations and splits without code: parts of one buffer, where memory does not grow."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from isobit import targets
from isobit.core.dtypes import DType
from isobit.core.errors import IsobitError
from isobit.core.types import TensorType
from isobit.ir.graph import Const, Graph, Node, Stage, Value, operands
from isobit.ops.clamp.op import ClampAttrs, ClampInputs
from isobit.ops.concat.op import ConcatAttrs, ConcatInputs
from isobit.ops.max_pool2d.op import MaxPool2dAttrs, MaxPool2dInputs
from isobit.ops.reshape.op import ReshapeAttrs, ReshapeInputs
from isobit.ops.split.op import SplitAttrs, SplitInputs
from isobit.plan import plan as planner
from isobit.plan.checker import verify_plan
from isobit.plan.plan import Optimize, Plan, make_plan
from property.states import draw as draw_states

from . import networks

M4 = targets.load("cortex-m4")


def features(size: int) -> TensorType:
    return TensorType((1, size), DType.S8, networks.ENCODING)


def rows(count: int) -> TensorType:
    return TensorType((1, count, 3, 4), DType.S8, networks.ENCODING)


def clamp(x: str, y: Value) -> Node:
    return Node("clamp", ClampInputs(x), ClampAttrs(clamp=(-90, 80)), (y,))


def pool(x: str, y: Value) -> Node:
    attrs = MaxPool2dAttrs((2, 1), (1, 1))
    return Node("max_pool2d", MaxPool2dInputs(x), attrs, (y,))


def join(y: Value, *xs: str, axis: int = 1) -> Node:
    return Node("concat", ConcatInputs(xs), ConcatAttrs(axis), (y,))


def cut(x: str, *ys: Value, axis: int = 1) -> Node:
    sizes = tuple(y.type.shape[axis] for y in ys)
    return Node("split", SplitInputs(x), SplitAttrs(axis, sizes), ys)


def graph_of(kind: TensorType, *nodes: Node, outputs: tuple[str, ...]) -> Graph:
    return Graph(
        name="n", stage=Stage.INT, inputs=(Value("x", kind),), nodes=nodes, outputs=outputs
    )


def planned(graph: Graph) -> Plan:
    """The plan, executed: what it leaves in memory is what the golden model computes."""
    plan = make_plan(graph, M4)
    got, want = networks.execute(plan, 1), networks.golden(graph, 1)
    assert all(np.array_equal(got[name], want[name]) for name in want)
    return plan


def copies(plan: Plan) -> list[str]:
    return [s.name for s in plan.nodes if s.node.op in ("concat", "split") and s.kernel is not None]


def offsets(plan: Plan, *names: str) -> list[int]:
    least = min(plan.buffers[name].offset for name in names)
    return [plan.buffers[name].offset - least for name in names]


def branches() -> Graph:
    """Two branches of rows, joined, then cut elsewhere."""
    a, b, y = Value("a", rows(5)), Value("b", rows(5)), Value("y", rows(10))
    c, d = Value("c", rows(4)), Value("d", rows(6))
    nodes = (pool("x", a), pool("x", b), join(y, "a", "b"), cut("y", c, d))
    return graph_of(rows(6), *nodes, outputs=("d",))


def test_branches_are_written_where_they_are_joined() -> None:
    plan = planned(branches())
    assert copies(plan) == []
    assert offsets(plan, "a", "b", "y", "c", "d") == [0, 60, 0, 0, 48]
    part = plan.buffers["b"]
    assert (part.size_bytes, part.first, part.last) == (60, 1, 2)
    assert plan.arena_bytes == 72 + 120  # with copies 240: a, b and y


def test_parts_of_a_cut_are_parts_of_what_is_cut() -> None:
    p, q = Value("p", rows(4)), Value("q", rows(6))
    nodes = (cut("x", p, q), pool("p", Value("a", rows(3))), pool("q", Value("b", rows(5))))
    plan = planned(graph_of(rows(10), *nodes, outputs=("a", "b")))
    assert copies(plan) == []
    assert offsets(plan, "x", "p", "q") == [0, 0, 48]
    # %b runs into the memory of %q, at whose place in %x the kernel's lead counts.
    assert plan.arena_bytes == 120 + 36


def test_joins_of_joins_and_views_are_one_buffer() -> None:
    a, b = Value("a", features(8)), Value("b", features(4))
    flat, inner = Value("f", features(12)), Value("i", features(12))
    nodes = (
        clamp("x", a),
        clamp("x4", b),
        join(inner, "a", "b"),
        Node("reshape", ReshapeInputs("i"), ReshapeAttrs((12,)), (flat,)),
        clamp("x", Value("e", features(8))),
        join(Value("y", features(20)), "e", "f"),
    )
    graph = replace(
        graph_of(features(8), *nodes, outputs=("y",)),
        inputs=(Value("x", features(8)), Value("x4", features(4))),
    )
    plan = planned(graph)
    assert copies(plan) == []
    assert offsets(plan, "e", "a", "b", "i", "f", "y") == [0, 8, 16, 8, 8, 0]


def test_what_cannot_share_is_copied() -> None:
    twice = graph_of(
        features(8), clamp("x", Value("a", features(8))), join(Value("y", features(16)), "a", "a"),
        outputs=("y",),
    )  # fmt: skip
    odd = graph_of(
        features(7), clamp("x", Value("a", features(7))), join(Value("y", features(14)), "a", "x"),
        outputs=("y",),
    )  # fmt: skip
    part_of_another = graph_of(
        features(8),
        cut("x", Value("a", features(4)), Value("b", features(4))),
        join(Value("y", features(8)), "b", "a"),
        outputs=("y",),
    )
    columns = graph_of(
        rows(4),
        clamp("x", Value("a", rows(4))),
        join(Value("y", TensorType((1, 4, 6, 4), DType.S8, networks.ENCODING)), "a", "x", axis=2),
        outputs=("y",),
    )
    for graph, left in ((twice, "y"), (odd, "y"), (part_of_another, "y"), (columns, "y")):
        assert copies(planned(graph)) == [left]


def test_a_stored_part_is_copied_from_flash() -> None:
    stored = Const("k", features(8), np.arange(8))
    for order in (("a", "k"), ("k", "a")):
        nodes = (clamp("x", Value("a", features(8))), join(Value("y", features(16)), *order))
        graph = replace(graph_of(features(8), *nodes, outputs=("y",)), consts=(stored,))
        assert copies(make_plan(graph, M4)) == ["y"]


def test_what_a_state_becomes_is_no_part_of_anything() -> None:
    """Its place is the state's, whatever else is made of its bytes."""
    tried = 0
    for seed in range(20):
        graph = draw_states(seed)
        for state in graph.states:
            copy = join(Value("copy", state.type), state.next)
            ends = (*graph.outputs, "copy")
            plan = make_plan(replace(graph, nodes=(*graph.nodes, copy), outputs=ends), M4)
            assert copies(plan) == ["copy"]
            tried += state.type.size_bytes % 4 == 0
    assert tried


def test_a_value_alone_keeps_its_buffer() -> None:
    """A state lives through the whole run, also before it is first read."""
    late = 0
    for seed in range(8):
        plan = make_plan(draw_states(seed), M4)
        last = len(plan.graph.nodes) - 1
        for state in plan.graph.states:
            buffer = plan.buffers[state.name]
            assert (buffer.first, buffer.last) == (0, last)
            late += state.name not in operands(plan.graph.nodes[0].inputs)
    assert late


def test_parts_live_from_the_start_and_to_the_end_where_the_network_does() -> None:
    """What is cut is an input, read last; what is cut off is an output, written first."""
    nodes = (
        clamp("x", Value("early", features(12))),
        clamp("early", Value("a", features(12))),
        cut("z", Value("p", features(4)), Value("q", features(8))),
        clamp("a", Value("b", features(12))),
    )
    graph = graph_of(features(12), *nodes, outputs=("b", "p"))
    graph = replace(graph, inputs=(*graph.inputs, Value("z", features(12))))
    plan = planned(graph)
    assert copies(plan) == []
    lives = {name: (plan.buffers[name].first, plan.buffers[name].last) for name in ("z", "p", "q")}
    assert lives == {"z": (0, 2), "p": (2, 3), "q": (2, 2)}


def test_nothing_is_shared_at_the_price_of_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """A buffer lives from its first part to its last use: with copies each part lives shorter."""
    shared = alone = 0
    for seed in range(150):
        graph = random_graph(seed)
        plan = planned(graph)
        with monkeypatch.context() as without:
            without.setattr(
                planner, "without_copies", lambda graph, chosen, groups, _: (chosen, groups)
            )
            copied = make_plan(graph, M4)
        assert plan.arena_bytes <= copied.arena_bytes
        kinds = Counter(step.node.op for step in plan.nodes if step.kernel is None)
        shared += kinds["concat"] + kinds["split"]
        alone += len(copies(plan))
        for optimize in Optimize:
            verify_plan(make_plan(graph, M4, optimize))
    assert shared > 150 and alone > 50


def random_graph(seed: int) -> Graph:
    """Clamps, joins, cuts and views of feature vectors, mostly of whole words."""
    rng = np.random.default_rng([3, seed])
    build = networks.Builder()
    build.add("x", (1, 4 * int(rng.integers(1, 8))))
    for _ in range(int(rng.integers(3, 10))):
        names = list(build.types)
        x = names[max(0, len(names) - 1 - int(rng.integers(0, 4)))]
        size = build.types[x].shape[1]
        choice = int(rng.integers(5))
        if choice == 0 and size >= 8:
            first = 4 * int(rng.integers(1, size // 4)) + int(rng.random() < 0.1)
            build.node("split", SplitInputs(x), SplitAttrs(1, (first, size - first)))
        elif choice in (1, 2):
            others = tuple(str(n) for n in rng.choice(names, size=int(rng.integers(1, 3))))
            build.node("concat", ConcatInputs((x, *others)), ConcatAttrs(1))
        elif choice == 3:
            build.node("reshape", ReshapeInputs(x), ReshapeAttrs((size,)))
        else:
            build.node("clamp", ClampInputs(x), ClampAttrs(clamp=(-50, 90)))
    names = list(build.types)[1:]
    late = [str(n) for n in rng.choice(names, size=int(rng.integers(0, 3)))]
    outputs = tuple(dict.fromkeys([names[-1], *late]))
    return Graph(
        name="n",
        stage=Stage.INT,
        inputs=(Value("x", build.types["x"]),),
        nodes=tuple(build.nodes),
        outputs=outputs,
    )


def test_the_checker_refuses_parts_elsewhere() -> None:
    plan = make_plan(branches(), M4)
    roomy = replace(plan, arena_bytes=plan.arena_bytes + 256)

    def moved(name: str, offset: int) -> Plan:
        buffer = replace(plan.buffers[name], offset=offset)
        return replace(roomy, buffers={**plan.buffers, name: buffer})

    verify_plan(roomy)
    with pytest.raises(IsobitError, match="%b to be joined"):
        verify_plan(moved("b", plan.arena_bytes + 64))
    with pytest.raises(IsobitError, match="view of %y"):
        verify_plan(moved("d", plan.arena_bytes + 64))
    swapped = {**plan.buffers, "a": plan.buffers["b"], "b": plan.buffers["a"]}
    with pytest.raises(IsobitError, match="to be joined"):
        verify_plan(replace(roomy, buffers=swapped))
    half = replace(plan.nodes[2], node=replace(plan.nodes[2].node, inputs=ConcatInputs(("a",))))
    with pytest.raises(IsobitError, match="120 bytes of 60 in the arena"):
        verify_plan(replace(plan, nodes=(*plan.nodes[:2], half, plan.nodes[3])))


def test_random_moves_are_refused_where_they_do_damage() -> None:
    """As for copied networks (`test_checker`): what executes wrongly must have been seen."""
    damaged = 0
    for seed in range(60):
        plan = make_plan(random_graph(seed), M4)
        rng = np.random.default_rng(seed)
        for _ in range(8):
            name = str(rng.choice(sorted(plan.buffers)))
            offset = 4 * int(rng.integers(0, plan.arena_bytes // 4 + 1))
            buffer = replace(plan.buffers[name], offset=offset)
            changed = replace(plan, buffers={**plan.buffers, name: buffer})
            got, want = networks.execute(changed, seed), networks.golden(plan.graph, seed)
            wrong = any(not np.array_equal(got[name], want[name]) for name in want)
            damaged += wrong
            try:
                verify_plan(changed)
            except IsobitError:
                continue
            assert not wrong, f"seed {seed}: accepted, {changed.buffers}"
    assert damaged > 60
