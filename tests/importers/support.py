"""What the single-operator cases show of every foreign operator: which pass, in which types, and
what it becomes. `tools/write_support.py` records it, `test_support.py` holds the record to the
scan.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from isobit.ir.graph import Graph

SAMPLES = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Passed:
    """A case that agrees with the format's own runtime as closely as its test asks."""

    types: frozenset[str]
    """Element types of what the operator reads, and in TFLite of what it computes."""
    ours: frozenset[str]
    """Operators of ours that it became; none where it was computed when the file was read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scan:
    """The cases of one format."""

    needs: tuple[str, ...]
    """Packages of the runtime."""
    cases: Callable[[], Mapping[str, Sequence[Any]]]
    """By foreign operator."""
    run: Callable[[Any], Passed]
    """Raises `AssertionError` for a case that differs."""


def operators(graph: Graph) -> frozenset[str]:
    return frozenset(node.op for node in graph.nodes)


def tflite_cases() -> Mapping[str, Sequence[Any]]:
    from importers.cases import all_cases

    return all_cases()


def tflite(case: Any) -> Passed:
    """Hold a TFLite case to the pinned wheel."""
    from importers.test_tflite_ops import compared, same_values
    from isobit.importers.flatbuffer import parse
    from isobit.importers.tflite import read
    from isobit.ops.foreign import Runtime

    with tempfile.TemporaryDirectory() as folder:
        ours, theirs = compared(case, SAMPLES, Path(folder))
        for name, want in theirs.items():
            same_values(ours[name], want, name)
        graph = read(Path(folder) / "case.tflite", runtime=Runtime(case.runtime)).graph
    model = parse(case.blob, case.label)
    (operator, *_) = model.operators
    touched = [model.tensors[i] for i in (*operator.inputs, *operator.outputs) if i >= 0]
    types = frozenset(t.dtype.lower() for t in touched if t.data is None)
    return Passed(types=types, ours=operators(graph))


def onnx_cases() -> Mapping[str, Sequence[Any]]:
    from importers.onnx_cases import all_cases

    return all_cases()


def onnx(case: Any) -> Passed:
    """Hold an ONNX case to onnxruntime."""
    from importers.test_onnx_ops import hold

    with tempfile.TemporaryDirectory() as folder:
        imported = hold(case, SAMPLES, Path(folder))
    types = frozenset(port.dtype for port in case.inputs)
    return Passed(types=types, ours=operators(imported.graph))


def torch_cases() -> Mapping[str, Sequence[Any]]:
    from importers.torch_cases import CASES

    found: dict[str, list[Any]] = {}
    for case in CASES.values():
        found.setdefault(case.code, []).append(case)
    return found


def torch(case: Any) -> Passed:
    """Hold a torch case to torch."""
    from importers.test_torch_export import TOLERANCE, examples, largest_difference, networks_own
    from isobit.api.from_torch import from_torch

    module, xs = networks_own(case), examples(case)
    graph = from_torch(module, xs)
    assert largest_difference(graph, module, xs) < TOLERANCE
    return Passed(types=frozenset({"float32"}), ours=operators(graph))


SCANS = {
    "tflite": Scan(needs=("tflite_micro",), cases=tflite_cases, run=tflite),
    "onnx": Scan(needs=("onnx", "onnxruntime"), cases=onnx_cases, run=onnx),
    "torch": Scan(needs=("torch",), cases=torch_cases, run=torch),
}
"""By format; an operator without cases is listed with 0 of them."""
