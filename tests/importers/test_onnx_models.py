"""Models as torch and onnxruntime write them (`models/onnx`): what was refused or wrong once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from isobit.api.importing import import_model
from isobit.importers.onnx import read
from isobit.ir.graph import Stage

from .test_onnx_nets import encoding, ours, theirs, transposes

FOLDER = Path(__file__).resolve().parent / "models" / "onnx"
FLOAT = ("shuffle_torchscript_11", "dense_dynamo_20", "next_torchscript_13", "next_dynamo_20")
CODES = (
    "shuffle_qoperator_quint8",
    "dense_qdq_quint8",
    "encoder_qdq_qint8",
    "decoder_qdq_quint8",
)
SHUFFLES = 2
SAMPLES = {"quick": 3, "full": 20}
TOLERANCE = 1e-5
"""Relative to the largest value: float64 here, float32 there."""


def shape_of(name: str) -> tuple[int, ...]:
    import onnx

    value = onnx.load(str(FOLDER / f"{name}.onnx")).graph.input[0]
    return tuple(max(dim.dim_value, 1) for dim in value.type.tensor_type.shape.dim)


@pytest.mark.parametrize("name", FLOAT)
def test_float_models_are_onnxruntime_s(name: str, scale: str) -> None:
    path = FOLDER / f"{name}.onnx"
    imported = read(path)
    assert transposes(imported) == (SHUFFLES if name.startswith("shuffle") else 0)
    rng = np.random.default_rng(5)
    for _ in range(SAMPLES[scale]):
        x = rng.normal(size=shape_of(name)).astype(np.float32)
        want = theirs(path, x)
        got = ours(imported, x).reshape(want.shape)
        assert np.abs(got - want).max() <= TOLERANCE * max(1.0, float(np.abs(want).max()))


@pytest.mark.parametrize("name", CODES)
def test_quantised_models_give_onnxruntime_s_codes(name: str, scale: str) -> None:
    path = FOLDER / f"{name}.onnx"
    imported = read(path)
    graph = imported.graph
    assert graph.stage is Stage.INT
    assert transposes(imported) == (SHUFFLES if name.startswith("shuffle") else 0)
    step, zero = encoding(graph.inputs[0].type)
    out_step, out_zero = encoding(graph.type_map()[graph.outputs[0]])
    rng, gaps = np.random.default_rng(7), []
    for _ in range(SAMPLES[scale]):
        x = rng.normal(size=shape_of(name)).astype(np.float32)
        codes = np.clip(np.rint(x / np.float32(step)) + zero, -128, 127)
        y = theirs(path, ((codes - zero) * np.float32(step)).astype(np.float32))
        want = np.rint(y / np.float32(out_step)).astype(np.int64) + out_zero
        gaps.append(np.abs(ours(imported, codes).reshape(want.shape) - want))
    gap = np.concatenate([g.ravel() for g in gaps])
    # One code of one layer, on a tie or where a bound is noted, moves a few of those behind it.
    assert gap.max() <= 1 and gap.mean() <= 0.3


def test_weights_of_nine_bits_are_the_same_in_c(tmp_path: Path) -> None:
    from isobit.api.deployment import write_bundle
    from isobit.targets import load as load_target

    model = import_model(FOLDER / "shuffle_qoperator_quint8.onnx")
    rng = np.random.default_rng(9)
    x = rng.integers(-128, 128, (2, *model.graph.inputs[0].type.shape[1:])).astype(np.int8)
    bundle = write_bundle(model.graph, load_target("cortex-m4"), tmp_path / "out", inputs=x)
    (comparison,) = bundle.verify(x, on=["host"])
    assert comparison.differing == 0 and comparison.compared > 0


@pytest.mark.parametrize("name", ["dense_dynamo_20", "next_torchscript_13"])
def test_float_models_calibrate_and_deploy(name: str, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    from isobit.api.calibrate import calibrate

    graph = import_model(FOLDER / f"{name}.onnx").graph
    assert "batch_norm" not in {node.op for node in graph.nodes}
    rng = np.random.default_rng(3)
    shape = graph.inputs[0].type.shape[1:]
    model = calibrate(graph, rng.normal(size=(16, *shape)).astype(np.float32))
    bundle = model.deploy(tmp_path / "out")
    x = rng.integers(-128, 128, (2, *shape)).astype(np.int8)
    (comparison,) = bundle.verify(x, on=["host"])
    assert comparison.differing == 0 and comparison.compared > 0


@pytest.mark.parametrize("name", [*FLOAT, *CODES])
def test_every_tensor_of_the_file_is_found_again(name: str) -> None:
    """A name is that of a value, or of a part of one; what is neither is stored or its type."""
    import onnx

    imported = read(FOLDER / f"{name}.onnx")
    values = imported.graph.type_map()
    assert set(imported.fused.values()) <= set(imported.names)
    assert set(imported.names) <= set(values)
    known = {*imported.names.values(), *imported.fused}
    nodes = onnx.load(str(FOLDER / f"{name}.onnx")).graph.node
    computing = ("Conv", "Relu", "Concat", "Gemm", "Transpose", "Erf", "Reshape")
    wanted = [n.output[0] for n in nodes if n.op_type in computing and n.input[0] in known]
    assert wanted and [label for label in wanted if label not in known] == []
