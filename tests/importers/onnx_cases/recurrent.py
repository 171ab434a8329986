"""LSTM: directions, layouts, what may be left out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from onnx import helper

from .base import Case, Port, cases, info, serialised


@cases("LSTM")
def lstm(code: str) -> Iterator[Case]:
    yield recurrent(code, "forward, all outputs", (5, 1, 3), 4)
    yield recurrent(code, "one step", (1, 1, 6), 3)
    yield recurrent(code, "several rows", (4, 3, 5), 2)
    yield recurrent(code, "no bias", (6, 1, 2), 5, biased=False)
    yield recurrent(code, "last state only", (7, 1, 3), 4, outputs=("", "h"))
    yield recurrent(code, "sequence only", (7, 1, 3), 4, outputs=("y",))
    yield recurrent(code, "cell only", (3, 1, 3), 4, outputs=("", "", "c"))
    yield recurrent(code, "zeros to start from", (4, 1, 3), 4, initial=True)
    yield recurrent(code, "lengths of all", (4, 2, 3), 4, lengths=(4, 4))
    yield recurrent(code, "reverse", (5, 1, 3), 4, direction="reverse")
    yield recurrent(code, "both directions", (5, 1, 3), 4, direction="bidirectional")
    yield recurrent(code, "both directions, rows", (3, 2, 4), 3, direction="bidirectional")
    yield recurrent(code, "usual activations named", (4, 1, 3), 2, activations=USUAL[code])
    yield recurrent(code, "forward", (5, 1, 3), 4, opset=7)
    yield recurrent(code, "forward", (5, 1, 3), 4, opset=14)


USUAL = {"LSTM": ["Sigmoid", "Tanh", "Tanh"], "GRU": ["Sigmoid", "Tanh"]}
GATES = {"LSTM": 4, "GRU": 3}


def recurrent(
    code: str,
    label: str,
    shape: tuple[int, int, int],
    size: int,
    *,
    biased: bool = True,
    outputs: Sequence[str] = ("y", "h", "c"),
    initial: bool = False,
    lengths: Sequence[int] = (),
    opset: int = 17,
    stored: dict[str, np.ndarray] | None = None,
    **options: Any,
) -> Case:
    """One layer over x [T,B,I] with `size` cells; `outputs`: names, "" for one left out."""
    rng = np.random.default_rng(len(label))
    _, rows, inputs = shape
    ways = 2 if options.get("direction") == "bidirectional" else 1
    lines, states = GATES[code] * size, ("h", "c") if code == "LSTM" else ("h",)

    def drawn(*sizes: int) -> np.ndarray:
        return (rng.normal(size=sizes) / np.sqrt(sizes[-1])).astype(np.float32)

    constants = {"w": drawn(ways, lines, inputs), "r": drawn(ways, lines, size)}
    names = ["x", "w", "r", "", ""]
    if biased:
        constants["b"], names[3] = drawn(ways, 2 * lines), "b"
    if lengths:
        constants["n"], names[4] = np.asarray(lengths, np.int32), "n"
    if initial:
        for state in states:
            constants[f"{state}0"] = np.zeros((ways, rows, size), np.float32)
            names.append(f"{state}0")
    constants |= stored or {}
    names += [name for name in stored or {} if name not in names]
    kept = [name for name in outputs if name in ("", "y", *states)]
    node = helper.make_node(code, names, kept, hidden_size=size, **options)
    found = [info(name, None) for name in kept if name]
    blob = serialised([node], [info("x", shape)], found, constants, opset)
    where = f"{label}, opset {opset}" if opset != 17 else label
    return Case(label=where, blob=blob, inputs=(Port(name="x", shape=shape),))
