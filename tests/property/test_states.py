"""Random networks with states: text, file, passes, plan, golden model, scalar oracle and C agree,
over consecutive runs.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from enum import Enum
from importlib.util import find_spec
from typing import Any

import numpy as np
import pytest

from isobit import targets
from isobit.codegen.network import generate
from isobit.ir.graph import Graph
from isobit.ir.store import Stored, parse_store, to_bytes
from isobit.ir.text import parse_graph, print_graph, scale_tensors
from isobit.ops.base import Op
from isobit.ops.check import check, node_types
from isobit.ops.registry import load_ops
from isobit.passes.base import chosen, run_passes
from isobit.plan.plan import make_plan
from isobit.run.codes import random_codes
from isobit.run.execute import build, execute
from isobit.run.golden import run_golden
from oracles.graph import evaluate

from .states import RUNS, draw

SEEDS = {"quick": 8, "full": 80}
COMPILED = {"quick": 4, "full": 30}


def test_drawn_networks_cover_the_stateful_operators() -> None:
    graphs = [draw(seed) for seed in range(SEEDS["full"])]
    found = Counter(node.op for graph in graphs for node in graph.nodes)
    ops = load_ops().ops
    stateful = {name for name, op in ops.items() if op.updates and op.integer is not Op.integer}
    assert stateful and not {name for name in stateful if found[name] < 20}
    changed = []
    for graph in graphs:
        check(graph)
        golden = run_golden(graph, random_codes(graph, RUNS, 1))
        for state in graph.states:
            runs = golden[state.next].reshape(RUNS, -1).astype(np.int64)
            changed.append((np.diff(runs, axis=0) != 0).any(axis=1).mean())
    assert np.mean(changed) > 0.98, "what is remembered changes from run to run"


def test_text_and_file_round_trip(scale: str) -> None:
    registry = load_ops()
    for seed in range(SEEDS[scale]):
        graph = draw(seed)
        data = {c.name: c.data for c in graph.consts} | scale_tensors(graph)
        assert parse_graph(print_graph(graph), data, registry.signature) == graph
        blob = to_bytes(Stored({"int": graph}))
        assert parse_store(blob, "graph", registry.signature).graphs["int"] == graph


def test_golden_equals_scalar_oracle(scale: str) -> None:
    for seed in range(SEEDS[scale]):
        graph = draw(seed)
        x = random_codes(graph, RUNS, seed)["x"]
        golden = run_golden(graph, {"x": x})
        nodes = [_plain(graph, node) for node in graph.nodes]
        consts = graph.const_map()
        states = {
            s.name: consts[s.reset].data if s.reset else np.full(s.type.shape, s.type.zero)
            for s in graph.states
        }
        for run in range(RUNS):
            given = {name: const.data.astype(np.int64) for name, const in consts.items()}
            given |= {name: np.asarray(codes, dtype=np.int64) for name, codes in states.items()}
            values = evaluate(nodes, {**given, "x": x[run : run + 1].astype(np.int64)})
            for name, codes in golden.items():
                np.testing.assert_array_equal(values[name], codes[run : run + 1], f"{seed}: {name}")
            states = {state.name: values[state.next] for state in graph.states}


def test_runs_follow_each_other(scale: str) -> None:
    """One sequence is its parts only where the second part continues; a reset starts again."""
    differing = 0  # one cell after many steps may have forgotten where it started
    for seed in range(SEEDS[scale]):
        graph = draw(seed)
        x = random_codes(graph, RUNS, seed)["x"]
        whole, again = run_golden(graph, x), run_golden(graph, x[2:])
        alone = run_golden(graph, x[:2])
        for name, codes in alone.items():
            np.testing.assert_array_equal(whole[name][:2], codes)
        differing += any((whole[s.next][2:] != again[s.next]).any() for s in graph.states)
    assert differing > 0.8 * SEEDS[scale]


def test_passes_keep_every_run(scale: str) -> None:
    for seed in range(SEEDS[scale]):
        graph = draw(seed)
        x = random_codes(graph, RUNS, seed)
        result, _ = run_passes(graph, chosen())
        before, after = run_golden(graph, x), run_golden(result, x)
        assert len(result.states) == len(graph.states)
        for name in before.keys() & after.keys():
            np.testing.assert_array_equal(before[name], after[name], f"seed {seed}: %{name}")


@pytest.mark.parametrize("core", ["host", "cortex-m4", "rv32imc"])
def test_golden_equals_c(core: str, scale: str) -> None:
    if find_spec("unicorn") is None or find_spec("ziglang") is None:
        pytest.skip("unicorn or ziglang is not installed")
    for seed in range(COMPILED[scale]):
        graph = draw(seed)
        x = random_codes(graph, RUNS, seed)
        network = generate(make_plan(graph, targets.load(core)), f"seed {seed}")
        ran = execute(network, build(network, trace=True), x)
        golden = run_golden(graph, x)
        for name, codes in {**ran.trace, **ran.outputs}.items():
            np.testing.assert_array_equal(codes, golden[name], f"seed {seed}: %{name}")


def _plain(graph: Graph, node: Any) -> Any:
    """A node in the form that the oracles take."""
    q = node_types(graph, node)
    fields = {f.name: getattr(node.inputs, f.name) for f in dataclasses.fields(node.inputs)}
    attrs = {}
    for item in dataclasses.fields(node.attrs):
        value = getattr(node.attrs, item.name)
        attrs[item.name] = value.value if isinstance(value, Enum) else value
    zeros = {
        name: kind.zero
        for name in fields
        if (kind := getattr(q.inputs, name)) is not None and not isinstance(kind, tuple)
    }
    zeros["y"] = q.outputs[0].zero
    return node.op, fields, attrs, zeros, [value.name for value in node.outputs]
