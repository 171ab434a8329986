"""A float graph without a user's module: its constants become torch parameters, so that an
imported network trains like a written one.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import fields, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from isobit.core.dtypes import DType
from isobit.core.errors import BadArgument, BadWeights, IsobitError, NoKernel, raise_all
from isobit.core.types import Real, Shape
from isobit.ir.graph import Const, Graph, Node, Stage, operands
from isobit.ops.base import EncodingRule, Op
from isobit.ops.check import activations, check, where
from isobit.ops.pad.op import PadAttrs
from isobit.ops.registry import load_ops
from isobit.ops.weighted import WeightedOp
from isobit.train.builder import Binding, Traced


class GraphNet(nn.Module):
    """The constants of a float graph, for a `Twin` to train.

    `state_dict` has one entry per constant, `<node>.<field>` (`conv1.w`, `conv1.b`) in the graph's
    own layout: parameters where an operator sums products with them, buffers elsewhere. Constants
    that several nodes read are one tensor under several names. The graph stays NHWC, as its file
    wrote it. Raises `BadArgument` for a graph that is not float, or not of one input and no state,
    `NoKernel` naming every operator that cannot be calibrated, `BadWeights`, all at once.
    """

    def __init__(self, graph: Graph) -> None:
        super().__init__()
        check(graph)
        raise_all(list(_problems(graph)))
        (source,) = graph.inputs
        self.input_shape: Shape = source.type.shape[1:]
        """Of one example, in the graph's own order of axes."""
        self._bindings: dict[str, Binding] = {}
        self._tensors: dict[str, Tensor] = {}
        self._consts: list[Const] = []
        found = graph.const_map()
        nodes = tuple(self._node(node, found) for node in graph.nodes)
        stored = [name for name in found if name in _flowing(graph)]
        if stored:
            holder = self._child("stored")
            for index, name in enumerate(stored):
                self._bind(found[name], name, holder, f"tensor{index}", trained=False)
        self._graph = replace(graph, nodes=nodes, consts=tuple(self._consts))
        del self._tensors

    def traced(self, name: str, target: str) -> Traced:
        """Return the graph under a name and a target, with where its constants live in here."""
        graph = replace(self._graph, name=name, target=target)
        return Traced(graph, dict(self._bindings), {}, {})

    def forward(self, x: Any) -> Any:
        """Refuse: the reals of a graph are computed by the golden interpreter."""
        raise BadArgument(
            where=f"the float network of {self._graph.name}",
            what="call",
            want="a call of the Model, which computes in integers",
            got="a call of model.net",
            fix="For reals, run isobit.run.golden.run_golden(model.float_graph(), x).",
        )

    def _node(self, node: Node, found: dict[str, Const]) -> Node:
        """Return the node reading constants of its own: two readers of one constant may quantise it
        differently.
        """
        op, names, name = load_ops().op(node.op), {}, node.outputs[0].name
        holder: tuple[str, nn.Module] | None = None
        for item in fields(node.inputs):
            const = getattr(node.inputs, item.name)
            if item.name in op.constants and const is not None:
                holder = holder or self._child(name)
                own = f"{name}.{item.name}"
                trained = issubclass(op, WeightedOp)
                self._bind(found[const], own, holder, item.name, trained=trained)
                names[item.name] = own
        return replace(node, inputs=replace(node.inputs, **names))

    def _child(self, wanted: str) -> tuple[str, nn.Module]:
        key = wanted.replace(".", "_")
        while hasattr(self, key):
            key += "_"
        self.add_module(key, nn.Module())
        return key, self.get_submodule(key)

    def _bind(
        self, const: Const, own: str, holder: tuple[str, nn.Module], key: str, *, trained: bool
    ) -> None:
        path, module = holder
        if const.name not in self._tensors:
            data = torch.from_numpy(const.data.astype(np.float32))
            self._tensors[const.name] = nn.Parameter(data) if trained else data
        tensor = self._tensors[const.name]
        if isinstance(tensor, nn.Parameter):
            module.register_parameter(key, tensor)
        else:
            module.register_buffer(key, tensor)
        self._consts.append(replace(const, name=own))
        self._bindings[own] = Binding(f"{path}.{key}")


def _flowing(graph: Graph) -> set[str]:
    """Return what nodes read as activations."""
    registry = load_ops()
    return {name for node in graph.nodes for name in activations(registry.op(node.op), node)}


def _problems(graph: Graph) -> Iterator[IsobitError]:
    if graph.stage is not Stage.FLOAT:
        yield _refused(graph, "graph", "a float graph", "integers", "It is quantised already.")
        return
    if len(graph.inputs) != 1:
        names = ", ".join(value.name for value in graph.inputs)
        yield _refused(graph, "inputs", "one", names, "Join them into one and split it inside.")
    if graph.states:
        names = ", ".join(state.name for state in graph.states)
        yield _refused(graph, "state", "none", names, "Export one step without state.")
    consts = graph.const_map()
    missing = [node for node in graph.nodes if _missing(node)]
    if missing:
        yield NoKernel(
            where=", ".join(where(node) for node in missing),
            what="operators to calibrate",
            want="an integer meaning that follows from ranges, for every operator",
            got=", ".join(sorted({f"{node.op} ({_missing(node)})" for node in missing})),
            fix="Replace them in the source model, or import a model that is quantised already.",
        )
    for node in graph.nodes:
        op = load_ops().op(node.op)
        stored = [name for name in activations(op, node) if name in consts]
        if stored and op.same_encoding:
            yield NoKernel(
                where=where(node),
                what="operands",
                want="values that the network computes",
                got=f"the constant {', '.join(stored)}",
                fix="Calibration cannot join a constant to computed values.",
            )
    wide = _wide(graph)
    for node in graph.nodes:
        found = [name for name in operands(node.inputs) if name in wide]
        if found:
            yield NoKernel(
                where=where(node),
                what="operands",
                want="values of int8",
                got=f"{', '.join(found)}, which has 16 bits",
                fix="Make a cell state an output of the network, or leave it out.",
            )
    for node in graph.nodes:
        if isinstance(node.attrs, PadAttrs) and not math.isfinite(node.attrs.real):
            yield NoKernel(
                where=where(node),
                what="value to pad with",
                want="a finite number, which a range can hold",
                got=str(node.attrs.real),
                fix="Pad with a number just beyond the values, or let the pool pad.",
            )
    for const in graph.consts:
        bad = int((~np.isfinite(const.data)).sum())
        if bad:
            yield BadWeights(
                where=f'"{const.label or const.name}"',
                what="values",
                want="finite numbers",
                got=f"{bad} of {const.data.size} are NaN or infinite",
                fix="Export the model from a checkpoint from before training diverged.",
            )


def _wide(graph: Graph) -> set[str]:
    """Return the values that calibration gives no codes of 8 bits: what other operators cannot
    read.
    """
    found: set[str] = set()
    for node in graph.nodes:
        op = load_ops().op(node.op)
        kinds = op.output_codes(node.attrs, Real(), len(node.outputs))
        pairs = zip(node.outputs, kinds, strict=True)
        found |= {value.name for value, (carrier, _) in pairs if carrier is not DType.S8}
    return found


def _missing(node: Node) -> str:
    """Return what a node lacks to be calibrated, "" for nothing."""
    op = load_ops().op(node.op)
    if op.name == "batch_norm":
        return "it does not follow a convolution or linear layer that only it reads"
    if op.surrogate is Op.surrogate:
        return "no trainable forward"
    if op.rule(node.attrs) is EncodingRule.FREE and op.estimate is Op.estimate:
        return "no real result to take a range from"
    return ""


def _refused(graph: Graph, what: str, want: str, got: str, fix: str) -> BadArgument:
    return BadArgument(where=graph.name, what=what, want=want, got=got, fix=fix)
