"""Every operator that can be imported, in files of its own: all tensors equal the runtime's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from isobit.importers.tflite import read
from isobit.ir.graph import Graph, Stage
from isobit.ops.foreign import Runtime
from isobit.ops.registry import load_ops
from isobit.run.golden import run_golden

from .cases import Case, all_cases
from .litert import Litert
from .tflm import Wheel

pytestmark = pytest.mark.data("tflite-micro")
LEAST = 12
"""Cases of every operator."""
SAMPLES = {"quick": 8, "full": 40}
FLOAT_TOLERANCE = 1e-5
"""Relative to the largest value: float graphs are computed in float64 here, in float32 there."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "case" in metafunc.fixturenames:
        found = [(code, case) for code, group in all_cases().items() for case in group]
        metafunc.parametrize(
            ("code", "case"), found, ids=[f"{code}-{case.label}" for code, case in found]
        )


def test_case(code: str, case: Case, scale: str, tmp_path: Path) -> None:
    ours, theirs = compared(case, SAMPLES[scale], tmp_path)
    for name, want in theirs.items():
        same_values(ours[name], want, name)


def same_values(got: np.ndarray, want: np.ndarray, name: str) -> None:
    """Integers are equal; float32 results lie within the tolerance."""
    got = got.reshape(want.shape)
    if want.dtype.kind == "f":
        finite = np.abs(want[np.isfinite(want)])
        largest = max(1.0, float(finite.max(initial=0.0)))
        np.testing.assert_allclose(got, want, rtol=0, atol=FLOAT_TOLERANCE * largest, err_msg=name)
        return
    assert got.dtype == want.dtype, name
    differing = int((got != want).sum())
    assert differing == 0, f"%{name}: {differing} of {want.size} differ: {got[got != want][:5]}"


def compared(
    case: Case, samples: int, folder: Path
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Return our values and the runtime's, both by value name, samples stacked."""
    path = folder / "case.tflite"
    path.write_bytes(case.blob)
    found = read(path, runtime=Runtime(case.runtime), name="case")
    feeds = list(case.feeds(samples))
    theirs = reference(case, feeds)
    ours = run_golden(found.graph, inputs_of(found.graph, feeds))
    value_of = {label: value for value, label in found.names.items()}
    return ours, {value_of[label]: arrays for label, arrays in theirs.items()}


def inputs_of(graph: Graph, feeds: list[tuple[np.ndarray, ...]]) -> dict[str, np.ndarray]:
    """Return the samples by input name, in our shapes."""
    found = {}
    for position, value in enumerate(graph.inputs):
        stacked = np.stack([feed[position] for feed in feeds])
        if graph.stage is Stage.FLOAT:
            stacked = stacked.astype(np.float64)
        found[value.name] = stacked.reshape(len(feeds), *value.type.shape[1:])
    return found


def reference(case: Case, feeds: list[tuple[np.ndarray, ...]]) -> dict[str, np.ndarray]:
    """Return what the case's pinned runtime computes for every output, by tensor name."""
    found: dict[str, list[np.ndarray]] = {}
    if Runtime(case.runtime) is Runtime.LITERT:
        pytest.importorskip("ai_edge_litert")
        litert = Litert(case.blob)
        for feed in feeds:
            for name, tensor in litert.run(*feed):
                found.setdefault(name, []).append(tensor)
        return {name: np.stack(arrays) for name, arrays in found.items()}
    wheel = Wheel(case.blob)
    for feed in feeds:
        wheel.run(*feed)
        for name, tensor in wheel.tensors():
            found.setdefault(name, []).append(tensor)
    return {name: np.stack(arrays) for name, arrays in found.items()}


def test_every_rule_has_cases() -> None:
    rules = {code for source, code in load_ops().rules if source == "tflite"}
    short = {code: len(all_cases().get(code, ())) for code in rules}
    assert {code: count for code, count in short.items() if count < LEAST} == {}
