"""Files of TensorFlow's own converter (`models/`): every imported tensor is the runtime's."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from isobit.importers.tflite import read
from isobit.ir.graph import Graph, Stage
from isobit.ops.foreign import Runtime
from isobit.passes.base import chosen, run_passes
from isobit.run.golden import run_golden

from .litert import Litert
from .test_tflite_ops import inputs_of, same_values
from .tflm import Wheel

pytestmark = pytest.mark.data("tflite-micro", "litert")
MODELS = Path(__file__).parent / "models"
BOTH = (Runtime.TFLM, Runtime.LITERT)
# tflite-micro takes every shape from the file, where those of a dynamic batch may be wrong
# (dilated convolutions, Dense of [N,T,C]), and has no TILE; LiteRT's reference kernels have no ELU.
RUNTIMES = {
    "activations": (Runtime.TFLM,),
    "dense_blocks": BOTH,
    "dilated": (Runtime.LITERT,),
    "keywords": BOTH,
    "spread": (Runtime.LITERT,),
    "temporal": (Runtime.LITERT,),
    "upsampled": (Runtime.LITERT,),
}
SAMPLES = {"quick": 4, "full": 40}
HYBRID_TOLERANCE = 0.05
"""Relative to the largest output: LiteRT rounds the activations to 8 bits before both layers."""


def feeds_of(graph: Graph, samples: int) -> list[tuple[np.ndarray, ...]]:
    rng = np.random.default_rng(9)
    shape = graph.inputs[0].type.shape
    if graph.stage is Stage.FLOAT:
        return [((rng.normal(size=shape)).astype(np.float32),) for _ in range(samples)]
    return [(rng.integers(-128, 128, size=shape).astype(np.int8),) for _ in range(samples)]


def tensors_of(
    blob: bytes, runtime: Runtime, feeds: list[tuple[np.ndarray, ...]]
) -> dict[str, np.ndarray]:
    """Return what a runtime computes for every tensor, by name, samples stacked."""
    found: dict[str, list[np.ndarray]] = {}
    runner = Wheel(blob) if runtime is Runtime.TFLM else Litert(blob, keeps_all=True)
    for feed in feeds:
        if isinstance(runner, Wheel):
            runner.run(*feed)
            pairs = list(runner.tensors())
        else:
            pairs = list(runner.run(*feed))
        times = Counter(name for name, _ in pairs)  # LiteRT names its temporary tensors alike
        for name, tensor in pairs:
            if times[name] == 1:
                found.setdefault(name, []).append(tensor)
    return {name: np.stack(arrays) for name, arrays in found.items()}


@pytest.mark.parametrize(
    ("name", "runtime"),
    [(name, runtime) for name, runtimes in RUNTIMES.items() for runtime in runtimes],
    ids=lambda value: value if isinstance(value, str) else value.value,
)
def test_every_tensor_is_the_runtimes(name: str, runtime: Runtime, scale: str) -> None:
    path = MODELS / f"{name}.tflite"
    found = read(path, runtime=runtime)
    feeds = feeds_of(found.graph, SAMPLES[scale])
    theirs = tensors_of(path.read_bytes(), runtime, feeds)
    ours = run_golden(found.graph, inputs_of(found.graph, feeds))
    compared = {value: label for value, label in found.names.items() if label in theirs}
    assert set(found.graph.outputs) <= compared.keys()
    for value, label in compared.items():
        if value in ours:
            same_values(ours[value], theirs[label], label)


@pytest.mark.parametrize("name", RUNTIMES)
def test_passes_keep_the_outputs(name: str, scale: str) -> None:
    graph = read(MODELS / f"{name}.tflite").graph
    inputs = inputs_of(graph, feeds_of(graph, SAMPLES[scale]))
    wanted, (got, _) = run_golden(graph, inputs), run_passes(graph, chosen())
    found = run_golden(got, inputs)
    for before, after in zip(graph.outputs, got.outputs, strict=True):
        same_values(found[after], wanted[before].astype(found[after].dtype), after)


def test_codes_of_a_float_network_are_reals_and_a_note_says_so() -> None:
    path = MODELS / "hybrid.tflite"
    found = read(path)
    assert found.graph.stage is Stage.FLOAT
    assert {note.kind for note in found.notes} == {"weights"}
    feeds = feeds_of(found.graph, 4)
    theirs = tensors_of(path.read_bytes(), Runtime.LITERT, feeds)
    ours = run_golden(found.graph, inputs_of(found.graph, feeds))
    (output,) = found.graph.outputs
    want = theirs[found.names[output]].reshape(ours[output].shape)
    assert np.abs(ours[output] - want).max() < HYBRID_TOLERANCE * np.abs(want).max()


def test_dilated_groups_become_one_convolution() -> None:
    graph = read(MODELS / "temporal.tflite", runtime=Runtime.LITERT).graph
    factors = [node.attrs.dilation for node in graph.nodes if node.op == "conv2d"]
    assert sorted(set(factors)) == [(1, 2), (1, 3), (1, 4)]


def test_islands_become_tables() -> None:
    graph, _ = run_passes(read(MODELS / "activations.tflite").graph, chosen())
    assert {"quantize", "dequantize"}.isdisjoint(node.op for node in graph.nodes)
