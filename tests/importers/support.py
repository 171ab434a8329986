"""What the single-operator cases show of every foreign operator: which pass, in which types, and
what it becomes. `tools/write_support.py` records it, `test_support.py` holds the record to the scan.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from importers.cases import Case, all_cases
from importers.test_tflite_ops import compared, same_values
from isobit.importers.flatbuffer import parse
from isobit.importers.tflite import read
from isobit.ops.foreign import Runtime

SAMPLES = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Passed:
    """A case whose every value is the runtime's."""

    types: frozenset[str]
    """Element types of what the operator reads and computes, as the format names them."""
    ours: frozenset[str]
    """Operators of ours that it became; none where it was computed when the file was read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scan:
    """The cases of one format."""

    cases: Callable[[], Mapping[str, Sequence[Any]]]
    """By foreign operator."""
    run: Callable[[Any], Passed]
    """Raises `AssertionError` for a case that differs."""


def tflite(case: Case) -> Passed:
    """Hold a TFLite case to the pinned runtime."""
    with tempfile.TemporaryDirectory() as folder:
        ours, theirs = compared(case, SAMPLES, Path(folder))
        for name, want in theirs.items():
            same_values(ours[name], want, name)
        path = Path(folder) / "case.tflite"
        graph = read(path, runtime=Runtime(case.runtime)).graph
    model = parse(case.blob, case.label)
    (operator, *_) = model.operators
    touched = [model.tensors[i] for i in (*operator.inputs, *operator.outputs) if i >= 0]
    return Passed(
        types=frozenset(t.dtype for t in touched if t.data is None),
        ours=frozenset(node.op for node in graph.nodes),
    )


SCANS: dict[str, Scan] = {"tflite": Scan(cases=all_cases, run=tflite)}
"""By format; an operator of a format without a scan is listed with 0 cases."""
