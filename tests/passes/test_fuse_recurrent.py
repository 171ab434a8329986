"""Unrolled LSTMs in the spellings of frameworks, and what must stay."""

from __future__ import annotations

import numpy as np
import pytest

from isobit.core.dtypes import DType
from isobit.core.types import Real, TensorType
from isobit.ir.graph import Const, Graph, Node, Stage, Value
from isobit.ops.check import check
from isobit.ops.lstm.unrolled import spelled
from isobit.ops.reshape.op import ReshapeAttrs, ReshapeInputs
from isobit.passes.base import chosen, load_passes, run_passes
from isobit.run.golden import run_golden

from . import nets

KIND = TensorType((1, 12), DType.F64, Real())


def unrolled(seed: int) -> Graph:
    """A graph whose only content is an unrolled LSTM."""
    x = Value("x", KIND)
    empty = Graph(name="net", stage=Stage.FLOAT, inputs=(x,), nodes=(), outputs=())
    consts: list[Const] = []
    nodes = spelled(empty, x, "y", np.random.default_rng(seed), consts)
    graph = Graph(
        name="net",
        stage=Stage.FLOAT,
        inputs=(x,),
        consts=tuple(consts),
        nodes=tuple(nodes),
        outputs=("y",),
    )
    check(graph)
    return graph


@pytest.mark.parametrize("seed", range(24))
def test_every_spelling_becomes_one_node(seed: int) -> None:
    rewrite = nets.run("fuse_recurrent", unrolled(seed))
    assert nets.ops(rewrite.graph).count("lstm") == 1
    assert not {"lut", "mul", "add"} & set(nets.ops(rewrite.graph))
    assert len(rewrite.done) == 1
    graph, _ = run_passes(unrolled(seed), chosen())
    assert nets.ops(graph).count("lstm") == 1


def with_output(graph: Graph, name: str) -> Graph:
    return Graph(
        name=graph.name,
        stage=graph.stage,
        inputs=graph.inputs,
        consts=graph.consts,
        nodes=graph.nodes,
        outputs=(*graph.outputs, name),
    )


def ends(graph: Graph) -> tuple[list[str], list[str]]:
    """The hidden and cell states of all steps but the last, in order."""
    producers = graph.producers()
    tanhs = [n for n in graph.nodes if n.op == "lut" and n.attrs.function == "tanh"]  # type: ignore[attr-defined]
    gates = [n for n in tanhs if producers[n.inputs.x].op in ("mul", "add")]  # type: ignore[attr-defined]
    cells = [n.inputs.x for n in gates if _is_cell(graph, n.inputs.x)]  # type: ignore[attr-defined]
    readers = graph.consumers()
    hidden = []
    for cell in cells:
        (squashed,) = (n for n in readers[cell] if n.op == "lut")
        hidden.append(readers[squashed.output.name][0].output.name)
    return hidden[:-1], cells[:-1]


def _is_cell(graph: Graph, name: str) -> bool:
    node = graph.producers()[name]
    names = [node.inputs.a, node.inputs.b]  # type: ignore[attr-defined]
    kinds = {graph.producers()[n].op for n in names if n in graph.producers()}
    return kinds <= {"mul", "lut"}


@pytest.mark.parametrize("seed", range(6))
def test_a_hidden_state_that_others_read_becomes_a_slice(seed: int) -> None:
    graph = unrolled(seed)
    hidden, _ = ends(graph)
    rewrite = nets.run("fuse_recurrent", with_output(graph, hidden[0]))
    assert nets.ops(rewrite.graph).count("lstm") == 1
    assert "strided_slice" in nets.ops(rewrite.graph)


@pytest.mark.parametrize("seed", range(6))
def test_a_cell_state_that_others_read_keeps_the_steps(seed: int) -> None:
    graph = unrolled(seed)
    _, cells = ends(graph)
    rewrite = nets.run("fuse_recurrent", with_output(graph, cells[0]))
    assert "lstm" not in nets.ops(rewrite.graph)
    assert "read elsewhere" in rewrite.kept[0].text


def test_other_weights_in_one_step_keep_the_steps() -> None:
    graph = unrolled(1)
    last = max(i for i, node in enumerate(graph.nodes[:-2]) if node.op == "linear")
    name = graph.nodes[last].inputs.w  # type: ignore[attr-defined]
    consts = tuple(
        Const(c.name, c.type, c.data * 1.5) if c.name == name else c for c in graph.consts
    )
    changed = Graph(
        name="net",
        stage=Stage.FLOAT,
        inputs=graph.inputs,
        consts=consts,
        nodes=graph.nodes,
        outputs=graph.outputs,
    )
    rewrite = nets.run("fuse_recurrent", changed)
    assert "lstm" not in nets.ops(rewrite.graph)
    assert rewrite.kept[0].text == "its steps have different weights"


def test_two_layers_become_two_nodes() -> None:
    """The second one reads the steps of the first."""
    first = unrolled(2)
    consts = list(first.consts)
    between = Value("between", KIND)
    hidden, _ = ends(first)
    assert hidden
    nodes: list[Node] = [*first.nodes]
    nodes.append(Node("reshape", ReshapeInputs("y"), ReshapeAttrs((12,)), (between,)))
    base = Graph(
        name="net",
        stage=Stage.FLOAT,
        inputs=first.inputs,
        consts=tuple(consts),
        nodes=tuple(nodes),
        outputs=("between",),
    )
    more: list[Const] = []
    nodes += spelled(base, between, "z", np.random.default_rng(9), more)
    graph = Graph(
        name="net",
        stage=Stage.FLOAT,
        inputs=first.inputs,
        consts=(*consts, *more),
        nodes=tuple(nodes),
        outputs=("z",),
    )
    check(graph)
    rewrite = load_passes()["fuse_recurrent"].run(graph)
    assert nets.ops(rewrite.graph).count("lstm") == 2
    x = np.random.default_rng(4).normal(size=(5, 12))
    want, got = run_golden(graph, x)["z"], run_golden(rewrite.graph, x)["z"]
    assert np.allclose(want, got, rtol=1e-12, atol=1e-12)
