"""Networks that no chip can hold are refused before anything of their size is made."""

from __future__ import annotations

import resource
import tracemalloc
from pathlib import Path

import pytest

from isobit import targets
from isobit.api.deployment import write_bundle
from isobit.api.importing import import_model, survey_file
from isobit.core.dtypes import DType
from isobit.core.errors import DoesNotFit, Unsupported
from isobit.core.types import Affine, TensorType
from isobit.importers.tflite import MOST_ELEMENTS
from isobit.ir.graph import Graph, Node, Stage, Value
from isobit.ops.clamp.op import ClampAttrs, ClampInputs
from isobit.run.estimate import estimate
from tflite_builder import Operator, Tensor, build

SIDE = 1 << 14
"""Squared it is 2^28 elements."""


def relu(shape: tuple[int, ...]) -> bytes:
    tensors = [
        Tensor(name=name, shape=shape, dtype="int8", scale=(0.1,), zero_point=(0,)) for name in "xy"
    ]
    operator = Operator(code="RELU", inputs=("x",), outputs=("y",))
    return build(tensors=tensors, operators=[operator], inputs=["x"], outputs=["y"])


def clamped(shape: tuple[int, ...]) -> Graph:
    kind = TensorType(shape, DType.S8, Affine((0.5,), 0))
    node = Node("clamp", ClampInputs("x"), ClampAttrs(clamp=(0, 127)), (Value("y", kind),))
    return Graph(
        name="large", stage=Stage.INT, inputs=(Value("x", kind),), nodes=(node,), outputs=("y",)
    )


def test_a_file_with_huge_tensors_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "huge.tflite"
    path.write_bytes(relu((1, SIDE, SIDE, 1)))
    with pytest.raises(Unsupported) as caught:
        import_model(path)
    (problem,) = caught.value.problems
    assert problem.where == 'tensor "x"' and f"{SIDE * SIDE:,}" in problem.got
    assert f"{MOST_ELEMENTS:,}" in problem.want
    assert survey_file(path).problems == (problem,)


@pytest.mark.parametrize("target", ["cortex-m4", "host"])
@pytest.mark.parametrize("side", [SIDE, 2 * SIDE])
def test_deploying_what_cannot_fit_costs_nothing(target: str, side: int, tmp_path: Path) -> None:
    graph, chip = clamped((1, side, side, 1)), targets.load(target)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    tracemalloc.start()
    try:
        with pytest.raises(DoesNotFit) as caught:
            write_bundle(graph, chip, tmp_path / "out")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert "too many" in str(caught.value) and not (tmp_path / "out").exists()
    assert peak < 50_000_000
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000  # kilobytes


def test_an_estimate_refuses_it_too() -> None:
    with pytest.raises(DoesNotFit):
        estimate(clamped((1, SIDE, SIDE, 1)), targets.load("cortex-m4"))


def test_a_limit_of_the_target_is_known_before_anything_is_compiled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("isobit.run.estimate.build", None)  # nothing may call the compiler
    with pytest.raises(DoesNotFit) as caught:
        write_bundle(clamped((1, 64, 64, 64)), targets.load("nucleo-l432kc"), tmp_path / "out")
    (problem,) = caught.value.problems
    assert problem.what == "RAM" and "largest" in problem.fix.lower()
