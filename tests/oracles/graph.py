"""A whole graph, one oracle after the other."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from . import Attrs, Zeros, oracle

Node = tuple[str, Mapping[str, "str | list[str] | None"], Attrs, Zeros, list[str]]


def evaluate(nodes: Iterable[Node], inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Every array of the graph by name: the inputs and constants given, and what the nodes compute.

    A node is `(op, {field: name | names | None}, attrs, zeros, output names)`. They are in order:
    every name is known before it is read, and no name is written twice.
    """
    values = dict(inputs)
    for op, fields, attrs, zeros, outputs in nodes:
        arguments = {field: fetch(values, name) for field, name in fields.items()}
        results = oracle(op)(arguments, attrs, zeros)
        results = results if isinstance(results, list) else [results]
        for name, result in zip(outputs, results, strict=True):
            assert name not in values, f"{name} is written twice"
            values[name] = result
    return values


def fetch(
    values: Mapping[str, np.ndarray], name: str | list[str] | None
) -> np.ndarray | list[np.ndarray] | None:
    """What a field of a node refers to."""
    if name is None:
        return None
    return values[name] if isinstance(name, str) else [values[each] for each in name]
