"""What a case is, and short ways to write one with `onnx.helper`."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

FLOAT = TensorProto.FLOAT
IR_VERSION = 8
"""Every runtime of the last years reads it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Port:
    """An input or output of the file; `scale` and `zero` where the network has its codes."""

    name: str
    shape: tuple[int, ...] = ()
    scale: float = 0.0
    zero: int = 0
    dtype: str = "float32"


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One model of one operator."""

    label: str
    blob: bytes
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...] = ()
    """Integer models only."""
    positive: bool = False
    """Whether the operator wants arguments above 0."""

    def feeds(self, samples: int) -> Iterator[tuple[np.ndarray, ...]]:
        """Yield reals or codes; codes are the extremes first."""
        rng = np.random.default_rng(zlib.crc32(self.label.encode()))
        for index in range(samples):
            yield tuple(self._feed(rng, port, index) for port in self.inputs)

    def _feed(self, rng: np.random.Generator, port: Port, index: int) -> np.ndarray:
        if port.scale == 0.0:
            reals = rng.normal(size=port.shape) * 2
            return (np.abs(reals) + 0.1 if self.positive else reals).astype(np.float32)
        info = np.iinfo(port.dtype)
        if index < 2:
            return np.full(port.shape, (info.min, info.max)[index], dtype=port.dtype)
        return rng.integers(info.min, info.max + 1, size=port.shape).astype(port.dtype)


Cases = Callable[[str], Iterator[Case]]


def cases(*codes: str) -> Callable[[Cases], Cases]:
    """Mark a generator of cases; it is called once with each rule's name."""

    def mark(make: Cases) -> Cases:
        make.codes = codes  # type: ignore[attr-defined]
        return make

    return mark


def serialised(
    nodes: Sequence[Any],
    inputs: Sequence[Any],
    outputs: Sequence[Any],
    constants: dict[str, np.ndarray],
    opset: int = 17,
) -> bytes:
    """Return a model as bytes."""
    stored = [numpy_helper.from_array(np.asarray(v), k) for k, v in constants.items()]
    graph = helper.make_graph(list(nodes), "case", list(inputs), list(outputs), stored)
    domains = {node.domain for node in nodes} - {""}
    imports = [helper.make_opsetid("", opset), *(helper.make_opsetid(d, 1) for d in domains)]
    model = helper.make_model(graph, opset_imports=imports, ir_version=IR_VERSION)
    return bytes(model.SerializeToString())


def info(name: str, shape: Sequence[int] | None, dtype: int = FLOAT) -> Any:
    return helper.make_tensor_value_info(name, dtype, None if shape is None else list(shape))


Given = tuple[int, ...] | np.ndarray | None
"""An input's shape, a constant, or an input left out."""


def single(
    code: str,
    label: str,
    given: Sequence[Given],
    *,
    outputs: int = 1,
    opset: int = 17,
    positive: bool = False,
    domain: str = "",
    rank: Sequence[int] | None = None,
    **options: Any,
) -> Case:
    """One float operator over computed inputs (shapes) and constants (arrays)."""
    names, ports, constants = [], [], {}
    for index, what in enumerate(given):
        name = "" if what is None else f"x{index}"
        names.append(name)
        if isinstance(what, np.ndarray):
            constants[name] = what
        elif what is not None:
            ports.append(Port(name=name, shape=what))
    results = [f"y{index}" for index in range(outputs)]
    node = helper.make_node(code, names, results, domain=domain, **options)
    blob = serialised(
        [node],
        [info(port.name, port.shape) for port in ports],
        [info(name, None) for name in results],
        constants,
        opset,
    )
    where = f"{label}, opset {opset}" if opset != 17 else label
    return Case(label=where, blob=blob, inputs=tuple(ports), positive=positive)


# Quantised models


@dataclass(frozen=True, slots=True, kw_only=True)
class Code:
    """An encoding."""

    scale: float = 0.05
    zero: int = 0
    dtype: str = "int8"


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """A stored tensor of codes; `scale` one number or one per index of `axis`."""

    data: np.ndarray
    scale: Any = 0.02
    zero: int = 0
    axis: int = 0


def qdq(
    code: str,
    label: str,
    given: Sequence[tuple[tuple[int, ...], Code] | Stored | np.ndarray | None],
    result: Code | None,
    *,
    opset: int = 17,
    after: Sequence[Any] = (),
    constants: dict[str, np.ndarray] | None = None,
    outputs: int = 1,
    **options: Any,
) -> Case:
    """One operator between DequantizeLinear and QuantizeLinear.

    result: `None` for no QuantizeLinear behind it: the result keeps the operand's encoding. after:
    nodes from "y0" to "r0" in between, such as Relu.
    """
    nodes: list[Any] = []
    names: list[str] = []
    ports: list[Port] = []
    kept: dict[str, np.ndarray] = dict(constants or {})
    for index, what in enumerate(given):
        name = f"x{index}"
        if what is None or isinstance(what, np.ndarray):
            names.append("" if what is None else name)
            if what is not None:
                kept[name] = what
            continue
        if isinstance(what, Stored):
            kept[f"{name}_codes"] = what.data
            scale = np.asarray(what.scale, np.float32)
            zero = np.full(scale.shape, what.zero, what.data.dtype)
            axis = {"axis": what.axis} if scale.ndim else {}
        else:
            shape, own = what
            scale, zero = np.float32(own.scale), np.asarray(own.zero, own.dtype)
            axis = {}
            ports.append(
                Port(name=name, shape=shape, scale=own.scale, zero=own.zero, dtype=own.dtype)
            )
        kept |= {f"{name}_s": np.asarray(scale), f"{name}_z": zero}
        numbers = [f"{name}_s", f"{name}_z"]
        if not isinstance(what, Stored):
            nodes.append(helper.make_node("QuantizeLinear", [name, *numbers], [f"{name}_codes"]))
        nodes.append(
            helper.make_node("DequantizeLinear", [f"{name}_codes", *numbers], [f"{name}_r"], **axis)
        )
        names.append(f"{name}_r")
    results = [f"y{index}" for index in range(outputs)]
    nodes.append(helper.make_node(code, names, results, **options))
    nodes.extend(after)
    first = given[0]
    keeps = first[1] if isinstance(first, tuple) else Code()
    code_of = result or keeps
    last = ["r0"] if after else results
    ports_out = []
    if result is not None:
        kept |= {"y_s": np.float32(result.scale), "y_z": np.asarray(result.zero, result.dtype)}
        for name in last:
            nodes.append(helper.make_node("QuantizeLinear", [name, "y_s", "y_z"], [f"{name}_q"]))
            nodes.append(
                helper.make_node("DequantizeLinear", [f"{name}_q", "y_s", "y_z"], [f"{name}_d"])
            )
        last = [f"{name}_d" for name in last]
    for name in last:
        ports_out.append(
            Port(name=name, scale=code_of.scale, zero=code_of.zero, dtype=code_of.dtype)
        )
    blob = serialised(
        nodes,
        [info(port.name, port.shape) for port in ports],
        [info(name, None) for name in last],
        kept,
        opset,
    )
    where = f"QDQ {label}" + (f", opset {opset}" if opset != 17 else "")
    return Case(label=where, blob=blob, inputs=tuple(ports), outputs=tuple(ports_out))


def rng(label: str) -> np.random.Generator:
    return np.random.default_rng(zlib.crc32(label.encode()))


def reals(label: str, *shape: int) -> np.ndarray:
    return rng(label).normal(size=shape).astype(np.float32)


def codes(label: str, *shape: int, dtype: str = "int8") -> np.ndarray:
    limit = np.iinfo(dtype)
    return rng(label).integers(max(limit.min, -127), limit.max + 1, size=shape).astype(dtype)


def ints(*values: int) -> np.ndarray:
    return np.asarray(values, np.int64)


def model_of(blob: bytes) -> Any:
    return onnx.load_model_from_string(blob)
