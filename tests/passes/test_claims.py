"""Every pass keeps its claim on random graphs that contain what it rewrites."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from isobit.core.errors import UnknownName
from isobit.ir.graph import Graph, Stage
from isobit.ir.text import parse_graph, print_graph, scale_tensors
from isobit.ops.check import check
from isobit.ops.registry import load_ops
from isobit.passes.base import Claim, Pass, chosen, load_passes, run_passes
from isobit.run.golden import run_golden
from property.graphs import draw

from .graphs import floated, is_dynamic, rounding_bound

PASSES = sorted(load_passes())
WANTED = {"quick": 20, "full": 200}
"""Graphs that every pass must have rewritten, per stage it works on."""


def cases(one: type[Pass], stage: Stage, count: int) -> list[tuple[int, Graph, np.ndarray]]:
    """Return graphs with the pass's pattern planted, and inputs."""
    found: list[tuple[int, Graph, np.ndarray]] = []
    for seed in range(80 * count):
        if stage is Stage.INT:
            graph, x = draw(seed).graph, draw(seed).x
            if is_dynamic(graph):
                continue
        else:
            floats = floated(seed)
            if floats is None:
                continue
            graph = floats
            shape = (3, *graph.inputs[0].type.shape[1:])
            x = np.random.default_rng(seed).normal(size=shape)
        planted = one.plant(graph, np.random.default_rng([22, seed]))
        if planted is None:
            continue
        check(planted)
        found.append((seed, planted, x))
        if len(found) == count:
            return found
    raise AssertionError(f"{one.name}: only {len(found)} graphs have a place for it")


@pytest.mark.parametrize("name", PASSES)
def test_claim(name: str, scale: str) -> None:
    one = load_passes()[name]
    for stage in sorted(one.stages, key=lambda s: s.value):
        for seed, graph, x in cases(one, stage, WANTED[scale]):
            text = print_graph(graph)
            rewrite = one.run(graph)
            assert rewrite.done, f"{name} did not fire on its own pattern, seed {seed}"
            assert print_graph(graph) == text, "the input graph was changed"
            check(rewrite.graph)
            again = one.run(graph).graph
            assert print_graph(again) == print_graph(rewrite.graph), "not deterministic"
            _same_values(one, graph, rewrite.graph, x, f"seed {seed}")


def _same_values(one: type[Pass], old: Graph, new: Graph, x: np.ndarray, label: str) -> None:
    before, after = run_golden(old, x), run_golden(new, x)
    assert new.outputs == old.outputs
    survivors = before.keys() & after.keys()
    assert set(new.outputs) <= survivors
    rounds = one.claim is Claim.ROUNDING and old.stage is Stage.FLOAT
    bound = rounding_bound(old, x) if rounds else 0.0
    types = (old.type_map(), new.type_map())
    for value in sorted(survivors):
        a, b, place = before[value], after[value], f"{label}: %{value}"
        if rounds:
            assert np.abs(a - b).max() <= bound, place
        elif one.claim is Claim.ORDER and _replaced(old, new, value):
            _same_order(a, b, place)
        else:
            assert a.dtype == b.dtype and types[0][value] == types[1][value], place
            assert a.tobytes() == b.tobytes(), place


def _replaced(old: Graph, new: Graph, value: str) -> bool:
    """Whether an output is computed in another way than before."""
    return value in new.outputs and old.producers()[value] != new.producers()[value]


def _same_order(old: np.ndarray, new: np.ndarray, place: str) -> None:
    """Where a new entry is at least another, so was the old one; so is the largest."""
    assert old.shape == new.shape, place
    a, b = (values[..., :, None] - values[..., None, :].astype(np.float64) for values in (old, new))
    assert np.all(a[b >= 0] >= 0), place
    chosen = new.argmax(axis=-1)[..., None]
    assert np.array_equal(np.take_along_axis(old, chosen, -1)[..., 0], old.max(axis=-1)), place
    unique = (old == old.max(axis=-1, keepdims=True)).sum(axis=-1) == 1
    assert np.array_equal(old.argmax(axis=-1)[unique], new.argmax(axis=-1)[unique]), place


def test_all_together(scale: str) -> None:
    """Patterns of every pass in one graph; what comes out is settled and has nothing left."""
    for seed in range(WANTED[scale]):
        graph = draw(seed).graph
        rng = np.random.default_rng([23, seed])
        planted = not is_dynamic(graph)
        for name in PASSES if planted else ():
            one = load_passes()[name]
            if Stage.INT in one.stages:
                graph = one.plant(graph, rng) or graph
        result, runs = run_passes(graph, chosen())
        before, after = run_golden(graph, draw(seed).x), run_golden(result, draw(seed).x)
        for value in before.keys() & after.keys():
            assert before[value].tobytes() == after[value].tobytes(), f"seed {seed}: %{value}"
        assert {step.node for run in runs for step in run.done} or not planted
        assert run_passes(result, chosen())[0] is result
        tensors = {c.name: c.data for c in result.consts} | dict(scale_tensors(result))
        text = print_graph(result)
        assert print_graph(parse_graph(text, tensors, load_ops().signature)) == text


def test_a_broken_pass_is_caught() -> None:
    """The claim test can fail: a fault in a rewrite is seen."""

    class Wrong(load_passes()["fuse_clamp"]):  # type: ignore[misc]
        @staticmethod
        def run(graph: Graph) -> object:
            rewrite = load_passes()["fuse_clamp"].run(graph)
            nodes = tuple(
                replace(n, attrs=replace(n.attrs, clamp=(n.attrs.clamp[0] + 1, n.attrs.clamp[1])))
                if hasattr(n.attrs, "clamp") and n.attrs.clamp[0] < n.attrs.clamp[1]
                else n
                for n in rewrite.graph.nodes
            )
            return replace(rewrite, graph=replace(rewrite.graph, nodes=nodes))

    with pytest.raises(AssertionError):
        for _, graph, x in cases(Wrong, Stage.INT, 5):
            _same_values(Wrong, graph, Wrong.run(graph).graph, x, "wrong")


def test_names_choose_passes() -> None:
    everything = [one.name for one in chosen()]
    assert "drop_noop" in everything
    assert [one.name for one in chosen(["-drop_noop"])] == [
        name for name in everything if name != "drop_noop"
    ]
    with pytest.raises(UnknownName, match="nonsense"):
        chosen(["nonsense"])


def test_order_holds() -> None:
    order = list(load_passes())
    for name, one in load_passes().items():
        for earlier in one.after:
            assert order.index(earlier) < order.index(name)


def test_outputs_keep_their_names() -> None:
    """A noop that is the output of the network gives its name to what it copied."""
    one = load_passes()["drop_noop"]
    for seed in range(60):
        graph = draw(seed).graph
        if is_dynamic(graph):
            continue
        planted = one.plant(graph, np.random.default_rng(seed))
        assert planted is not None
        result = one.run(planted)
        assert result.graph.outputs == planted.outputs
