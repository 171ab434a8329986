"""`--runtime litert`: LiteRT's reference kernels, which round FULLY_CONNECTED once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from isobit.importers.tflite import read
from isobit.ops.foreign import Runtime
from isobit.run.golden import run_golden

from .test_mlperf import MLPERF
from .tflm import models

pytestmark = pytest.mark.data("models", "litert")


def reference(path: Path, x: np.ndarray) -> np.ndarray:
    """Return the outputs of LiteRT's reference kernels, without any delegate."""
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    interpreter = Interpreter(str(path), experimental_op_resolver_type=OpResolverType.BUILTIN_REF)
    interpreter.allocate_tensors()
    (source,), (result,) = interpreter.get_input_details(), interpreter.get_output_details()
    found = []
    for sample in x:
        interpreter.set_tensor(source["index"], sample[None])
        interpreter.invoke()
        found.append(interpreter.get_tensor(result["index"])[0].copy())
    return np.stack(found)


@pytest.mark.parametrize("name", MLPERF)
def test_runtime_litert_is_its_reference(name: str) -> None:
    path = models() / MLPERF[name]
    graph = read(path, runtime=Runtime.LITERT, name=name).graph
    shape = (12, *graph.inputs[0].type.shape[1:])
    x = np.random.default_rng(3).integers(-128, 128, size=shape).astype(np.int8)
    assert np.array_equal(run_golden(graph, x)[graph.outputs[0]], reference(path, x))


def test_runtimes_differ_where_one_rounds_once() -> None:
    path = models() / MLPERF["ad"]
    one, two = (read(path, runtime=runtime, name="ad").graph for runtime in Runtime)
    x = np.random.default_rng(3).integers(-128, 128, size=(4, 640)).astype(np.int8)
    difference = run_golden(one, x)[one.outputs[0]].astype(int) - run_golden(two, x)[two.outputs[0]]
    assert 0 < np.abs(difference).max() <= 4
