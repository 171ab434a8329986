"""Quantised ONNX operators equal their definition in exact rationals, or differ by no more than is
reported.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from isobit.core.dtypes import DType
from isobit.core.types import Affine, TensorType
from isobit.ir.graph import Stage
from isobit.ops.base import NodeTypes
from isobit.ops.schemes import Scheme
from isobit.ops.softmax.op import OUTPUT, Softmax, SoftmaxAttrs, SoftmaxInputs

from . import onnx_exact
from .onnx_cases import all_cases
from .onnx_cases.base import Case
from .test_onnx_ops import imported_case, ours_of

SAMPLES = {"quick": 3, "full": 12}


def exact_cases() -> list[tuple[str, Case]]:
    found = []
    for code, group in all_cases().items():
        for case in group:
            if onnx_exact.covers(case.blob, case.outputs):
                found.append((code, case))
    return found


@pytest.mark.parametrize(
    ("code", "case"), exact_cases(), ids=[f"{code}-{case.label}" for code, case in exact_cases()]
)
def test_codes_are_those_of_the_definition(
    code: str, case: Case, scale: str, tmp_path: Path
) -> None:
    imported = imported_case(case.blob, tmp_path)
    assert imported.graph.stage is Stage.INT
    worst = max((note.lsb for note in imported.notes if note.kind == "lsb"), default=0)
    seen, counts = 0, set()
    for feed in case.feeds(SAMPLES[scale]):
        for port, got in zip(case.outputs, ours_of(imported, feed), strict=True):
            want = onnx_exact.codes(case.blob, case.inputs, feed, port)
            shift = 128 if port.dtype == "uint8" else 0
            gap = np.abs(got.reshape(want.shape).astype(np.int64) + shift - want)
            assert gap.max() <= worst
            seen = max(seen, int(gap.max()))
            counts |= set(want.ravel().tolist())
    assert len(counts) > 2, "a case whose codes all saturate shows nothing"


def test_enough_cases_are_compared() -> None:
    assert len(exact_cases()) >= 40


@pytest.mark.parametrize("depth", [2, 3, 10, 100, 1000, 2000])
@pytest.mark.parametrize("step", [0.004, 0.03, 0.2, 1.0])
def test_softmax_is_within_a_step_of_the_real_one(depth: int, step: float) -> None:
    """What `ops/softmax/from_onnx.py` derives: less than 1 in steps of 1/256."""
    x = TensorType((1, depth), DType.S8, Affine((step,), 3))
    types = NodeTypes(SoftmaxInputs(x), (TensorType((1, depth), DType.S8, OUTPUT),))
    attrs, _ = Softmax.derive(SoftmaxAttrs(), types, Scheme.AFFINE, SoftmaxInputs(None))
    rng = np.random.default_rng(depth)
    codes = rng.integers(-128, 128, (40, depth))
    codes[1] = codes[2, 0]
    codes[3, 1:] = -128
    got = Softmax.integer(attrs, types, SoftmaxInputs(codes))
    e = np.exp((codes - codes.max(axis=1, keepdims=True)) * step)
    real = 256 * e / e.sum(axis=1, keepdims=True)
    assert np.abs(got + 128 - real).max() <= 1.0
