"""Random integer graphs: text, file, plan, golden model, scalar oracle, C and emulated chips
agree.
"""

from __future__ import annotations

import dataclasses
import shutil
from collections import Counter
from enum import Enum
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from isobit import targets
from isobit.core.types import TensorType
from isobit.ir.graph import Graph, operands
from isobit.ir.store import Stored, read_store, write_store
from isobit.ir.text import parse_graph, print_graph, scale_tensors
from isobit.ops.base import Op
from isobit.ops.registry import load_ops
from isobit.ops.schemes import Scheme
from isobit.plan.checker import verify_plan
from isobit.plan.plan import make_plan
from isobit.run.golden import run_golden
from oracles.graph import evaluate

from . import arena_sizes, programs
from .graphs import Drawn, draw
from .recipes import RECIPES

GRAPHS = 500
QUICK_GRAPHS = 60
ORACLE_SAMPLES = 2
CORE_SAMPLES = 3
ROUNDINGS = {"shift", "half_up", "tflite_double", "away", "trunc"}
PER_PROGRAM = 20
"""Networks linked into one program: what the memories of an emulated core hold."""


def seeds(scale: str, quick: int, full: int) -> range:
    return range(quick if scale == "quick" else full)


def test_recipes_cover_every_operator() -> None:
    """Whoever adds an operator adds a recipe, or says here why random graphs do without it."""
    registry = load_ops()
    integer = {name for name, op in registry.ops.items() if op.integer is not Op.integer}
    # Samples of these graphs are independent of each other; test_states.py draws what remembers.
    stateful = {name for name in integer if registry.op(name).updates}
    assert integer - stateful == set(RECIPES)


def test_random_graphs_are_informative(capsys: pytest.CaptureFixture[str]) -> None:
    """The statistics of the whole set: the other tests could pass on trivial graphs."""
    drawn = [draw(seed) for seed in range(GRAPHS)]
    found = Counter(name for d in drawn for name in {node.op for node in d.graph.nodes})
    schemes = Counter(d.scheme for d in drawn)
    rules = Counter(rule for d in drawn for rule in set(d.rules))
    branching = sum(map(branches, drawn)) / GRAPHS
    sizes = [
        n
        for d in drawn
        for t in d.graph.type_map().values()
        if len(t.shape) == 4
        for n in t.shape[1:3]
    ]
    odd = float(np.mean([n % 2 == 1 and n > 1 for n in sizes]))
    saturation = float(np.mean([s for d in drawn for s in d.saturation]))
    constant = float(np.mean([np.ptp(codes) == 0 for d in drawn for codes in integer_values(d)]))
    with capsys.disabled():
        print(
            f"\n{GRAPHS} graphs, {sum(len(d.graph.nodes) for d in drawn)} nodes, "
            f"{len(found)} operators"
        )
        print("graphs with each operator:", dict(sorted(found.items())))
        print("schemes:", {k.value: v for k, v in schemes.items()}, "roundings:", dict(rules))
        print(
            f"branching {branching:.0%}, odd sizes {odd:.0%}, saturated codes {saturation:.1%}, "
            f"constant values {constant:.1%}"
        )
    assert not {name: found[name] for name in RECIPES if found[name] < 20}
    assert branching >= 0.3
    assert odd >= 0.3
    assert min(schemes[scheme] for scheme in Scheme) >= GRAPHS // 3
    assert min(rules[rule] for rule in ROUNDINGS) >= 20
    assert saturation < 0.25
    assert constant < 0.05


def branches(drawn: Drawn) -> bool:
    """Whether a value is read at two places."""
    names = {v.name for v in drawn.graph.inputs} | {
        v.name for n in drawn.graph.nodes for v in n.outputs
    }
    read = Counter(name for node in drawn.graph.nodes for name in operands(node.inputs))
    return any(read[name] > 1 for name in names)


def integer_values(drawn: Drawn) -> list[np.ndarray]:
    """What the nodes computed, but single elements."""
    return [v for n, v in drawn.values.items() if n != "x" and v.dtype.kind == "i" and v.size > 1]


def test_text_and_file_round_trip(scale: str, tmp_path: Path) -> None:
    registry = load_ops()
    for seed in seeds(scale, QUICK_GRAPHS, GRAPHS):
        graph = draw(seed).graph
        text = print_graph(graph)
        data = {c.name: c.data for c in graph.consts} | scale_tensors(graph)
        again = parse_graph(text, data, registry.signature)
        assert again == graph, f"seed {seed}"
        assert print_graph(again) == text
        path = tmp_path / "g.isobit"
        write_store(path, Stored({"int": graph}))
        before = path.read_bytes()
        stored = read_store(path, registry.signature)
        assert stored.graphs["int"] == graph, f"seed {seed}"
        write_store(path, stored)
        assert path.read_bytes() == before


def test_golden_equals_what_was_drawn(scale: str) -> None:
    """The interpreter adds nothing to the operators: order, batches and names."""
    for seed in seeds(scale, QUICK_GRAPHS, GRAPHS):
        drawn = draw(seed)
        golden = run_golden(drawn.graph, drawn.x)
        assert set(golden) == set(drawn.values)
        for name, codes in drawn.values.items():
            assert golden[name].dtype == codes.dtype
            assert golden[name].tobytes() == codes.tobytes(), f"seed {seed}, %{name}"


def test_golden_equals_scalar_oracle(scale: str) -> None:
    for seed in seeds(scale, QUICK_GRAPHS, GRAPHS):
        drawn = draw(seed)
        x = drawn.x[:ORACLE_SAMPLES]
        found = evaluated(drawn.graph, {"x": plain(x)} | oracle_consts(drawn.graph))
        for node in drawn.graph.nodes:
            for value in node.outputs:
                want = drawn.values[value.name][:ORACLE_SAMPLES]
                same = np.array_equal(found[value.name], want)
                assert same, f"seed {seed}, {node.op} %{value.name}"


MOVERS = {"reshape", "transpose", "concat", "split", "strided_slice", "mirror_pad"}
"""Operators that move elements of any carrier; their oracles take integers: floats go as bits."""


def evaluated(graph: Graph, values: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Every array by name, one oracle after the other."""
    for node in oracle_nodes(graph):
        names = operands(graph.producers()[node[4][0]].inputs)
        known = {name: values[name] for name in names}
        as_bits = node[0] in MOVERS and all(array.dtype == np.float32 for array in known.values())
        if as_bits:
            known = {
                name: np.ascontiguousarray(array).view(np.int32).astype(np.int64)
                for name, array in known.items()
            }
        results = evaluate([node], known)
        for name in node[4]:
            result = results[name]
            values[name] = result.astype(np.int32).view(np.float32) if as_bits else result
    return values


def oracle_consts(graph: Graph) -> dict[str, np.ndarray]:
    return {const.name: plain(const.data) for const in graph.consts}


def plain(array: np.ndarray) -> np.ndarray:
    return array if array.dtype.kind == "f" else array.astype(np.int64)


def oracle_nodes(graph: Graph) -> list:
    """The graph in the words of `tests/oracles`."""
    types, nodes = graph.type_map(), []
    for node in graph.nodes:
        fields, zeros = {}, {"y": node.outputs[0].type.zero}
        for item in dataclasses.fields(node.inputs):
            name = getattr(node.inputs, item.name)
            fields[item.name] = list(name) if isinstance(name, tuple) else name
            first = name[0] if isinstance(name, tuple) else name
            if first is not None and isinstance(types[first], TensorType):
                zeros[item.name] = types[first].zero
        attrs = {
            item.name: value.value
            if isinstance(value := getattr(node.attrs, item.name), Enum)
            else value
            for item in dataclasses.fields(node.attrs)
        }
        nodes.append((node.op, fields, attrs, zeros, [v.name for v in node.outputs]))
    return nodes


def test_plans_are_verified(scale: str) -> None:
    """`make_plan` verifies; here also: inside the arena, aligned, no larger than all buffers
    apart.
    """
    for name in ("host", "cortex-m4", "cortex-m0plus", "rv32imc"):
        target = targets.load(name)
        for seed in seeds(scale, QUICK_GRAPHS, GRAPHS):
            plan = make_plan(draw(seed).graph, target)
            verify_plan(plan)
            buffers = {id(b): b for b in plan.buffers.values()}
            scratch = [step.scratch for step in plan.nodes if step.scratch is not None]
            everything = [*buffers.values(), *scratch]
            assert all(b.offset >= 0 and b.end <= plan.arena_bytes for b in everything)
            assert all(b.offset % b.alignment_bytes == 0 for b in everything)
            assert plan.arena_bytes <= sum(-(-b.size_bytes // 4) * 4 for b in everything)
            assert plan.arena_bytes == max(b.end for b in everything)


def test_arenas_are_no_larger_than_recorded() -> None:
    """The planner is deterministic, so a larger arena is a change of the planner or of a kernel."""
    host = targets.load("host")
    plans = [(seed, make_plan(draw(seed).graph, host)) for seed in arena_sizes.SEEDS]
    worse = [said for plan in plans if (said := arena_sizes.larger_than_recorded(*plan))]
    assert not worse, "\n".join(worse)


VARIANTS = {
    "gcc-O0": ("gcc", "-O0", ()),
    "gcc-O2": ("gcc", "-O2", ()),
    "undefined": ("zig", "", ("-fsanitize=undefined", "-fsanitize-trap=undefined")),
}


@pytest.mark.parametrize(
    "variant",
    [
        "gcc-O0",
        pytest.param("gcc-O2", marks=pytest.mark.slow),
        pytest.param("undefined", marks=pytest.mark.slow),
    ],
)
def test_golden_equals_host_c(variant: str, scale: str) -> None:
    kind, optimize, flags = VARIANTS[variant]
    if kind == "gcc" and shutil.which("gcc") is None:
        pytest.skip("gcc is not installed")
    if find_spec("ziglang") is None and kind == "zig":
        pytest.skip("ziglang is not installed")
    every = [draw(seed) for seed in seeds(scale, QUICK_GRAPHS, GRAPHS)]
    for start in range(0, len(every), 2 * PER_PROGRAM):
        part = every[start : start + 2 * PER_PROGRAM]
        found = programs.compare_many(
            part, targets.load("host"), kind, samples=6, flags=flags, optimize=optimize
        )
        assert not found.problems, "\n".join(found.problems)
        assert found.values > 1000 * len(part)


@pytest.mark.parametrize(
    "core",
    [
        "cortex-m4",
        pytest.param("cortex-m0plus", marks=pytest.mark.slow),
        pytest.param("rv32imc", marks=pytest.mark.slow),
    ],
)
def test_golden_equals_core(core: str, scale: str) -> None:
    if find_spec("unicorn") is None or find_spec("ziglang") is None:
        pytest.skip("unicorn or ziglang is not installed")
    every = [draw(seed) for seed in seeds(scale, PER_PROGRAM, 5 * PER_PROGRAM)]
    for start in range(0, len(every), PER_PROGRAM):
        part = every[start : start + PER_PROGRAM]
        found = programs.compare_many(part, targets.load(core), "zig", samples=CORE_SAMPLES)
        assert not found.problems, "\n".join(found.problems)
