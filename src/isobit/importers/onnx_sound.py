"""Whether an ONNX graph is one: names are text, values have one origin, operators the inputs that
their definition asks for.

The reading that follows renames and folds, and relies on all of this.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

MOST_VERSION = 1 << 16
"""Of a set of operators; there are some dozens."""


def faults(onnx: Any, model: Any) -> Iterator[str]:
    """Yield what contradicts itself in the main graph of a `ModelProto`, in a few words each."""
    graph = model.graph
    versions = {_plain(entry.domain): entry.version for entry in model.opset_import}
    for domain, version in versions.items():
        if not 0 < version < MOST_VERSION:
            yield f"version {version} of the operators {domain!r}"
            return
    known = {"", *(value.name for value in graph.input)}
    known |= {tensor.name for tensor in graph.initializer}
    known |= {tensor.values.name for tensor in graph.sparse_initializer}
    own = [value.name for value in (*graph.input, *graph.output)]
    if not all(isinstance(name, str) for name in known.union(own)):
        yield "a name that is no text"
        return
    for position, node in enumerate(graph.node):
        place = f"node {position}"
        words = (node.op_type, node.domain, node.name, *node.input, *node.output)
        if not all(isinstance(word, str) for word in words):
            yield f"{place}: a name that is no text"
            return
        if not node.op_type:
            yield f"{place}: no operator"
        for name in node.input:
            if name not in known:
                yield f"{place}: reads {name!r}, which nothing before it computes"
        for name in node.output:
            if name and name in known:
                yield f"{place}: computes {name!r}, which has a value"
            known.add(name)
        yield from _arity(onnx, node, versions, place)
    for value in graph.output:
        if value.name not in known or not value.name:
            yield f"output {value.name!r}: nothing computes it"


def _arity(onnx: Any, node: Any, versions: dict[str, int], place: str) -> Iterator[str]:
    """Yield a number of inputs or outputs that the operator's definition does not have."""
    version = versions.get(_plain(node.domain))
    if version is None or not onnx.defs.has(node.op_type, node.domain):
        return
    try:
        schema = onnx.defs.get_schema(node.op_type, version, node.domain)
    except onnx.defs.SchemaError:  # younger than the file: refused by its name later
        return
    for what, count, low, high in (
        ("inputs", len(node.input), schema.min_input, schema.max_input),
        ("outputs", len(node.output), schema.min_output, schema.max_output),
    ):
        if not low <= count <= high:
            yield f"{place}: {node.op_type} with {count} {what}"
    for index, name in enumerate(node.input[: schema.min_input]):
        required = schema.inputs[min(index, len(schema.inputs) - 1)].option
        if not name and required == onnx.defs.OpSchema.FormalParameterOption.Single:
            yield f"{place}: {node.op_type} without its input {index}"


def _plain(domain: str) -> str:
    return "" if domain == "ai.onnx" else domain
