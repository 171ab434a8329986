"""LSTM, GRU and RNN: directions, layouts, what may be left out."""

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


@cases("GRU", "RNN")
def unrolled(code: str) -> Iterator[Case]:
    for last in (0, 1) if code == "GRU" else (0,):
        options = {"linear_before_reset": last} if code == "GRU" else {}
        tag = f", reset {'last' if last else 'first'}" if code == "GRU" else ""

        def case(
            label: str,
            shape: tuple[int, int, int],
            size: int,
            tag: str = tag,
            own: dict[str, Any] = options,
            **more: Any,
        ) -> Case:
            return recurrent(
                code, label + tag, shape, size, **{"outputs": ("y", "h"), **own, **more}
            )

        yield case("forward", (5, 1, 3), 4)
        yield case("one step", (1, 1, 6), 3)
        yield case("one step, rows", (1, 2, 6), 3)
        yield case("several rows", (4, 3, 5), 2)
        yield case("one unit, one input", (3, 1, 1), 1)
        yield case("no bias", (6, 1, 2), 5, biased=False)
        yield case("last state only", (7, 1, 3), 4, outputs=("", "h"))
        yield case("sequence only", (7, 2, 3), 4, outputs=("y",))
        yield case("zeros to start from", (4, 1, 3), 4, initial=True)
        yield case("stored start", (4, 2, 3), 4, stored={"h0": started(1, 2, 4)})
        yield case("lengths of all", (4, 2, 3), 4, lengths=(4, 4))
        yield case("reverse", (5, 1, 3), 4, direction="reverse")
        yield case("reverse, stored start", (5, 1, 3), 4, direction="reverse", stored=H1)
        yield case("both directions", (5, 1, 3), 4, direction="bidirectional")
        yield case("both directions, rows, stored start", (3, 2, 4), 3, **BOTH)
        yield case("more steps than a join takes", (35, 1, 2), 3)
        yield case("forward, opset 7", (5, 1, 3), 4, opset=7)
        yield case("usual activations named", (4, 1, 3), 2, activations=USUAL[code])
    if code == "RNN":
        yield recurrent(code, "relu", (4, 1, 3), 4, outputs=("y", "h"), activations=["Relu"])
        named = ["Sigmoid", "Relu"]
        yield recurrent(
            code,
            "two functions",
            (4, 1, 3),
            4,
            outputs=("y", "h"),
            activations=named,
            direction="bidirectional",
        )


def started(*shape: int) -> np.ndarray:
    """Numbers of a hidden state."""
    return np.random.default_rng(7).uniform(-1, 1, shape).astype(np.float32)


H1 = {"h0": started(1, 1, 4)}
BOTH = {"direction": "bidirectional", "stored": {"h0": started(2, 2, 3)}}
USUAL = {"LSTM": ["Sigmoid", "Tanh", "Tanh"], "GRU": ["Sigmoid", "Tanh"], "RNN": ["Tanh"]}
GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}


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
    names += [""] * (5 - len(names))
    names += [name for name in stored or {} if name not in names]
    kept = [name for name in outputs if name in ("", "y", *states)]
    node = helper.make_node(code, names, kept, hidden_size=size, **options)
    found = [info(name, None) for name in kept if name]
    blob = serialised([node], [info("x", shape)], found, constants, opset)
    where = f"{label}, opset {opset}" if opset != 17 else label
    return Case(label=where, blob=blob, inputs=(Port(name="x", shape=shape),))
