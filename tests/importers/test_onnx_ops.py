"""Every ONNX operator that can be imported, in models of its own, against onnxruntime."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from isobit.importers.base import Imported
from isobit.ir.graph import Stage
from isobit.ops.registry import load_ops
from isobit.run.golden import run_golden

pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

from isobit.importers.onnx import read  # noqa: E402

from . import onnx_exact  # noqa: E402
from .onnx_cases import all_cases  # noqa: E402
from .onnx_cases.base import Case, Port  # noqa: E402

LEAST = 6
"""Cases of every operator of reals; those on codes are the same rules under other names."""
LEAST_CODES = 2
SAMPLES = {"quick": 4, "full": 40}
FLOAT_TOLERANCE = 1e-5
"""Relative to the largest value: float graphs are computed in float64 here, in float32 there."""
NEAR_TIES = 0.01
"""onnxruntime multiplies by a float32 scale, so next to a tie it may choose the other code. Cases
that the exact oracle covers need no such share: there it says which of the two is right.
"""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "case" in metafunc.fixturenames:
        found = [(code, case) for code, group in all_cases().items() for case in group]
        metafunc.parametrize(
            ("code", "case"), found, ids=[f"{code}-{case.label}" for code, case in found]
        )


def test_case(code: str, case: Case, scale: str, tmp_path: Path) -> None:
    hold(case, SAMPLES[scale], tmp_path)


def hold(case: Case, samples: int, folder: Path) -> Imported:
    """Compare every output with onnxruntime; return what was imported. Where codes differ from it
    by more than is reported and the exact oracle knows the operators, ours must be the exact ones.
    """
    imported = imported_case(case.blob, folder)
    feeds = list(case.feeds(samples))
    found = (ours_of(imported, feed) for feed in feeds)
    ours = [np.concatenate(parts) for parts in zip(*found, strict=True)]
    worst = max((note.lsb for note in imported.notes if note.kind == "lsb"), default=0)
    is_float = imported.graph.stage is Stage.FLOAT
    for position, (got, want) in enumerate(zip(ours, reference(case, feeds), strict=True)):
        got = got.reshape(want.shape)
        off = np.abs(got.astype(np.float64) - want) > worst
        if not is_float and off.any() and onnx_exact.covers(case.blob, case.outputs):
            assert (got[off] == exact_codes(case, feeds, position).reshape(want.shape)[off]).all()
        else:
            same_values(got, want, worst, is_float)
    return imported


def exact_codes(case: Case, feeds: list[tuple[np.ndarray, ...]], position: int) -> np.ndarray:
    """Return the codes less 128 for uint8, of one output, by exact rationals."""
    port = case.outputs[position]
    shift = 128 if port.dtype == "uint8" else 0
    found = [onnx_exact.codes(case.blob, case.inputs, feed, port) - shift for feed in feeds]
    return np.stack(found)


def same_values(got: np.ndarray, want: np.ndarray, worst: int, is_float: bool) -> None:
    """Reals within the tolerance; codes equal but for what is reported, or next to a tie."""
    if is_float:
        largest = max(1.0, float(np.abs(want).max(initial=0.0)))
        np.testing.assert_allclose(got, want, rtol=0, atol=FLOAT_TOLERANCE * largest)
        return
    gap = np.abs(got.astype(np.int64) - want)
    assert gap.max() <= max(worst, 1), f"{gap.max()} codes"
    assert (gap > worst).mean() <= NEAR_TIES, f"{(gap > worst).sum()} of {gap.size} differ"


def imported_case(blob: bytes, folder: Path) -> Imported:
    path = folder / "case.onnx"
    path.write_bytes(blob)
    return read(path, name="case")


def ours_of(imported: Imported, feed: tuple[np.ndarray, ...]) -> list[np.ndarray]:
    """Return the outputs for one sample, every axis where the file has it."""
    graph, perms = imported.graph, perms_of(imported)
    given = {}
    for value, array in zip(graph.inputs, feed, strict=True):
        if array.dtype == np.uint8 and graph.stage is Stage.INT:
            array = (array.astype(np.int16) - 128).astype(np.int8)
        form = array if array.ndim == len(value.type.shape) else array[None]
        moved = form.transpose(perms[value.name]) if value.name in perms else form
        carrier = np.float64 if graph.stage is Stage.FLOAT else array.dtype
        given[value.name] = moved.reshape(value.type.shape).astype(carrier)
    values = run_golden(graph, given)
    found = []
    for name in graph.outputs:
        array = values[name]
        if name in perms:
            array = array.transpose(np.argsort(perms[name]))
        found.append(array[None])
    return found


def perms_of(imported: Imported) -> dict[str, tuple[int, ...]]:
    return {note.value: note.perm for note in imported.notes if note.perm}


def reference(case: Case, feeds: list[tuple[np.ndarray, ...]]) -> list[np.ndarray]:
    """Return what onnxruntime computes, unoptimised: reals, or codes as int8."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(case.blob, options, providers=["CPUExecutionProvider"])
    kinds = [entry.type != "tensor(float)" for entry in session.get_inputs()]
    found = []
    for feed in feeds:
        given = {
            port.name: as_given(port, x, codes_inside=kind)
            for port, x, kind in zip(case.inputs, feed, kinds, strict=True)
        }
        found.append(session.run(None, given))
    stacked = [np.stack(parts) for parts in zip(*found, strict=True)]
    if not case.outputs:
        return stacked
    return [codes_of(port, y) for port, y in zip(case.outputs, stacked, strict=True)]


def as_given(port: Port, x: np.ndarray, *, codes_inside: bool) -> np.ndarray:
    """Return what the file wants: codes, or the reals that codes stand for."""
    if port.scale == 0.0 or codes_inside:
        return x
    return ((x.astype(np.float64) - port.zero) * np.float32(port.scale)).astype(np.float32)


def codes_of(port: Port, y: np.ndarray) -> np.ndarray:
    if y.dtype.kind == "f":
        y = np.rint(y.astype(np.float64) / np.float32(port.scale)).astype(np.int64) + port.zero
    shift = 128 if port.dtype == "uint8" else 0
    return y.astype(np.int64) - shift


def test_every_rule_has_cases() -> None:
    rules = {code for source, code in load_ops().rules if source == "onnx"}
    counts = {code: len(all_cases().get(code, ())) for code in rules}
    on_codes = {code for code in rules if code.startswith("Q") or code.endswith("Integer")}
    least = {code: LEAST_CODES if code in on_codes else LEAST for code in rules}
    assert {code: count for code, count in counts.items() if count < least[code]} == {}
