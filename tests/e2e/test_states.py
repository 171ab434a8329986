"""Networks that remember, from a TFLite file to every core: consecutive runs after one reset."""

from __future__ import annotations

from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from importers.cases import all_cases
from isobit import import_file, targets
from isobit.api.bundle import Bundle
from isobit.api.deployment import write_bundle
from isobit.api.model import Model
from isobit.cli import _root
from isobit.codegen.network import generate
from isobit.codegen.project import project_files
from isobit.core.errors import BadGraph, IsobitError
from isobit.ir.graph import Const, Graph, State
from isobit.ops.check import check
from isobit.plan.checker import verify_plan
from isobit.plan.plan import make_plan
from isobit.run.codes import random_codes
from isobit.run.execute import CHUNK, build, execute
from isobit.run.golden import run_golden

RUNS = 6
CORES = ("host", "cortex-m4", "cortex-m0plus", "rv32imc")
NETS = {"svdf": ("SVDF", "rank 2"), "lstm": ("UNIDIRECTIONAL_SEQUENCE_LSTM", "clip")}

needs_tools = pytest.mark.skipif(
    find_spec("unicorn") is None or find_spec("ziglang") is None,
    reason="unicorn or ziglang is not installed",
)


def imported(net: str, folder: Path) -> Graph:
    """A network with states as the importer makes it."""
    code, label = NETS[net]
    (case,) = (c for c in all_cases()[code] if c.label == label)
    path = folder / f"{net}.tflite"
    path.write_bytes(case.blob)
    return import_file(path)


@pytest.fixture(params=sorted(NETS))
def graph(request: pytest.FixtureRequest, tmp_path: Path) -> Graph:
    return imported(request.param, tmp_path)


@pytest.fixture
def bundle(graph: Graph, tmp_path: Path) -> Bundle:
    return write_bundle(graph, targets.load("cortex-m4"), tmp_path / "bundle")


@needs_tools
def test_six_runs_are_equal_on_every_core(bundle: Bundle) -> None:
    x = random_codes(bundle.graph, RUNS, 5)
    for found in bundle.verify(x, CORES):
        assert (found.samples, found.differing) == (RUNS, 0), found
        # All tensors of a run, what the states become among them.
        values = sum(len(node.outputs) for node in bundle.graph.nodes)
        assert found.tensors == values + len(bundle.graph.inputs)


@needs_tools
def test_command_line_and_text(bundle: Bundle, tmp_path: Path) -> None:
    name = bundle.graph.name
    for arguments in (
        ["verify", str(bundle.path), "--on", "host", "--samples", str(RUNS), "--seed", "3"],
        ["report", str(bundle.path), "--out", str(tmp_path / "r.html")],
        ["explain", str(bundle.path)],
        ["show", str(bundle.path / f"{name}.isobit")],
    ):
        done = CliRunner().invoke(_root, arguments)
        assert done.exit_code == 0, done.output
    header = (bundle.path / "src" / f"{name}.h").read_text()
    readme = (bundle.path / "README.md").read_text()
    size = sum(state.type.size_bytes for state in bundle.graph.states)
    assert f"int isobit_{name}_reset(void *arena);" in header
    assert f"in the arena ({size} bytes: " in header
    assert f"isobit_{name}_reset(arena);" in readme and f"{size} bytes of the arena" in readme


@needs_tools
def test_a_long_sequence_is_one_process(tmp_path: Path) -> None:
    """A traced run is cut into processes, which would reset; one with states is not."""
    graph, count = imported("svdf", tmp_path), CHUNK + 5
    x = random_codes(graph, count, 1)
    network = generate(make_plan(graph, targets.load("host")), "")
    ran, golden = execute(network, build(network, trace=True), x), run_golden(graph, x)
    for name, codes in ran.trace.items():
        np.testing.assert_array_equal(codes, golden[name], name)


@needs_tools
def test_a_state_starts_from_its_constant(tmp_path: Path) -> None:
    graph = imported("svdf", tmp_path)
    (state,) = graph.states
    codes = np.arange(state.type.elements, dtype=np.int16).reshape(state.type.shape) * 100
    reset = Const("start", state.type, codes)
    graph = replace(graph, consts=(*graph.consts, reset), states=(replace(state, reset="start"),))
    x = random_codes(graph, 3, 2)
    network = generate(make_plan(graph, targets.load("host")), "")
    golden = run_golden(graph, x)
    np.testing.assert_array_equal(golden[state.next][0, ..., :-1], codes[0, ..., 1:])
    ran = execute(network, build(network, trace=True), x)
    for name, values in ran.trace.items():
        np.testing.assert_array_equal(values, golden[name], name)


def test_states_keep_their_place(graph: Graph) -> None:
    """Nothing else may use a state's bytes, and its next value lies where it lay."""
    plan = make_plan(graph, targets.load("cortex-m4"))
    for state in graph.states:
        assert plan.buffers[state.name] == plan.buffers[state.next]
        own = plan.buffers[state.name]
        assert (own.first, own.last) == (0, len(graph.nodes) - 1)
    moved = dict(plan.buffers)
    name = graph.states[0].next
    moved[name] = replace(moved[name], offset=moved[name].offset + 4)
    with pytest.raises(IsobitError, match="next value"):
        verify_plan(replace(plan, buffers=moved, arena_bytes=plan.arena_bytes + 4))


def test_networks_without_states_have_no_reset(tmp_path: Path) -> None:
    (case,) = (c for c in all_cases()["SOFTMAX"][:1])
    path = tmp_path / "plain.tflite"
    path.write_bytes(case.blob)
    graph = import_file(path)
    files = project_files(generate(make_plan(graph, targets.load("cortex-m4")), ""))
    ours = [text for name, text in files.items() if not name.startswith("src/board/")]
    assert not [text for text in ours if "reset(" in text.lower() or "states" in text]


def test_illegal_states_are_refused(tmp_path: Path) -> None:
    graph = imported("svdf", tmp_path)
    (state,), kind = graph.states, graph.states[0].type
    node = graph.nodes[0]
    twice = replace(node, outputs=tuple(replace(v, name=f"{v.name}_2") for v in node.outputs))
    cases = {
        "one operator that reads it": replace(graph, states=(replace(state, next="y"),)),
        "got no reader": replace(graph, states=(state, State("other", kind, "", "nothing"))),
        "reset of": replace(graph, states=(replace(state, reset="missing"),)),
        "got a state": replace(graph, outputs=(*graph.outputs, state.name)),
        "updates it to": replace(graph, nodes=(node, twice)),
        "operand state: want a state": replace(
            graph, states=(), inputs=(*graph.inputs, replace(node.outputs[1], name=state.name))
        ),
    }
    for message, broken in cases.items():
        with pytest.raises(IsobitError) as caught:
            check(broken)
        assert any(isinstance(e, BadGraph) for e in (caught.value, *caught.value.problems))
        assert message in str(caught.value), f"{message}: {caught.value}"


def test_training_refuses_states(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    (case,) = (c for c in all_cases()["SVDF"] if c.label == "float")
    path = tmp_path / "float.tflite"
    path.write_bytes(case.blob)
    with pytest.raises(IsobitError, match="state: want none, got state_before"):
        Model.from_graph(import_file(path))
