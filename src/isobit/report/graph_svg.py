"""The picture of a graph as one SVG file, before anything is planned: no kernels, no costs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from isobit.core.types import TensorType
from isobit.ir.graph import Graph, Node, operands
from isobit.ops.check import node_types
from isobit.ops.registry import load_ops
from isobit.report import units
from isobit.report.pictures.network import WIDE, Box, column_breaks, drawing, edges_between
from isobit.report.svg import Markup, tag, text

PADDING = 14


def graph_style() -> str:
    """Return the style sheet of the picture: colours for light and dark, boxes, edges."""
    return (Path(__file__).parent / "graph.css").read_text(encoding="utf-8")


def render_graph(graph: Graph, tensors: Mapping[str, str] | None = None) -> str:
    """Return a graph as an SVG document: a box per node in execution order, an arrow per value.

    tensors: value -> its name in the file that was imported, shown under the pointer. Equal graphs
    give equal bytes.
    """
    known = tensors or {}
    types = graph.type_map()
    boxes = [_port("input", value.name, value.type, known) for value in graph.inputs]
    boxes += [_node(index, node, graph, known) for index, node in enumerate(graph.nodes)]
    boxes += [_port("output", name, types[name], known) for name in graph.outputs]
    edges = edges_between(boxes)
    columns = min(3, -(-len(boxes) // 4))
    breaks = column_breaks(len(boxes), edges, columns)
    body, width, height = drawing(boxes, edges, breaks, WIDE, alone=True)
    width, height = width + 2 * PADDING, height + 2 * PADDING
    listed = ", ".join(node.op for node in graph.nodes)
    size = f"{width:.0f} {height:.0f}"
    whole = tag(
        "svg",
        tag("title", text(f"{graph.name}: the network's graph")),
        tag("desc", text(f"{len(graph.nodes)} nodes in execution order: {listed}")),
        tag("style", Markup(f"\n{graph_style()}")),
        tag("rect", width="100%", height="100%", style="fill:var(--page)"),
        tag("g", body, transform=f"translate({PADDING} {PADDING})"),
        xmlns="http://www.w3.org/2000/svg",
        class_="picture",
        role="img",
        width=round(width),
        height=round(height),
        viewBox=f"0 0 {size}",
    )
    return f"{whole}\n"


def _port(title: str, name: str, kind: TensorType, tensors: Mapping[str, str]) -> Box:
    shape = _shape(kind)
    reads, writes = ((), (name,)) if title == "input" else ((name,), ())
    tip = _tip([f"{title} {name}: {shape}"], name, tensors)
    return Box("", title, name, shape, "", "box port", reads, writes, tip)


def _node(index: int, node: Node, graph: Graph, tensors: Mapping[str, str]) -> Box:
    op = load_ops().op(node.op)
    macs = op.cost(node.attrs, node_types(graph, node)).macs
    kind = "view" if op.view else "weighted" if macs else "plain"
    value = node.outputs[0]
    lines = [f"{index}  {node.op}  {value.name}", f"output {_shape(value.type)}"]
    lines += [f"{units.count(macs)} MACs"] if macs else []
    lines += [str(node.location)] if str(node.location) else []
    stored = graph.const_map()
    return Box(
        str(index),
        node.op,
        value.name,
        _shape(value.type),
        f"{units.count(macs)} MACs" if macs else "view" if op.view else "",
        f"box {kind}",
        tuple(name for name in operands(node.inputs) if name not in stored),
        tuple(value.name for value in node.outputs),
        _tip(lines, value.name, tensors),
    )


def _shape(kind: TensorType) -> str:
    return f"{units.shape(kind.shape)} {kind.dtype.value}"


def _tip(lines: list[str], name: str, tensors: Mapping[str, str]) -> str:
    return "\n".join([*lines, *([f"tensor {tensors[name]}"] if name in tensors else [])])
