"""Published float networks without training: equal in every value, and as accurate as recorded."""

from __future__ import annotations

import json
import os
from functools import cache
from pathlib import Path

import numpy as np
import pytest

import isobit
from isobit import data
from isobit.core.types import AnyArray, Real
from isobit.ir.graph import Graph
from isobit.train.fit import predict

pytestmark = [pytest.mark.data("models"), pytest.mark.xdist_group("calibrate")]

FILES = {
    "ic": "mlperf_tiny/models/pretrainedResnet.tflite",
    "kws": "mlperf_tiny/models/kws_ref_model_float32.tflite",
    "vww": "mlperf_tiny/models/vww_96_float.tflite",
    "ad": "mlperf_tiny/models/ad01_fp32.tflite",
    "hello_world": "tflite_micro/hello_world_float.tflite",
}
RECORDED = Path(__file__).resolve().parents[2] / "results" / "calibrate.json"
FLOAT = 0.8719
"""The float network on the CIFAR-10 test set, by the golden interpreter."""


@cache
def graph(name: str) -> Graph:
    return isobit.import_file(Path(os.environ["ISOBIT_MODELS"]) / FILES[name], name=name)


def examples(name: str, count: int) -> AnyArray:
    """Pixels for images, standard normal features elsewhere."""
    shape, rng = graph(name).inputs[0].type.shape[1:], np.random.default_rng(0)
    drawn = (
        rng.integers(0, 256, (count, *shape)) if name == "ic" else rng.normal(size=(count, *shape))
    )
    return drawn.astype(np.float32)


@pytest.mark.parametrize("scheme", ["affine", "pow2"])
@pytest.mark.parametrize("name", FILES)
def test_no_value_differs(name: str, scheme: str, tmp_path: Path, scale: str) -> None:
    x = examples(name, 16)
    model = isobit.calibrate(graph(name), x, scheme=scheme)
    bundle = model.deploy(tmp_path / "out", samples=x[:2])
    places = ("host", "cortex-m4") if scale == "full" else ("host",)
    assert {c.name: c.differing for c in bundle.verify(on=places)} == dict.fromkeys(
        ("golden vectors", "torch", *places), 0
    )


def test_int8_weights_of_a_float_network_are_reals() -> None:
    """The published kws float file stores convolution weights as int8 with a scale."""
    consts = graph("kws").consts
    assert all(isinstance(const.type.encoding, Real) for const in consts)
    assert all(float(np.abs(const.data).max()) < 4 for const in consts)


@pytest.mark.slow
@pytest.mark.data("cifar10")
@pytest.mark.parametrize(("scheme", "least"), [("affine", 0.867), ("pow2", 0.85)])
def test_accuracy_without_training(scheme: str, least: float) -> None:
    train, test = data.load("cifar10")
    model = isobit.calibrate(graph("ic"), train, scheme=scheme)
    classes = predict(model, test.images.astype(np.float32)).numpy()
    assert (classes == test.labels).mean() >= least


@pytest.mark.slow
@pytest.mark.data("mnist")
@pytest.mark.parametrize("scheme", ["affine", "pow2"])
def test_onnx_mnist_is_within_a_third_of_a_point(scheme: str) -> None:
    """98.91 % in float, by the golden interpreter."""
    train, test = data.load("mnist")
    floats = isobit.import_file(Path(os.environ["ISOBIT_MODELS"]) / "onnx/mnist_model_zoo.onnx")
    model = isobit.calibrate(floats, train, scheme=scheme)
    classes = predict(model, test.images.astype(np.float32)).numpy()
    assert (classes == test.labels).mean() >= 0.9891 - 0.003


def test_what_was_recorded() -> None:
    """results/calibrate.json, written by bench/calibrate.py."""
    found = json.loads(RECORDED.read_text())
    ic = found["ic"]
    assert ic["images"] == 10_000 and ic["float_accuracy"] == FLOAT
    best = {
        scheme: max(row["accuracy"] for row in ic["untrained"] if row["scheme"] == scheme)
        for scheme in ("affine", "pow2")
    }
    assert best["affine"] >= 0.867 and best["pow2"] >= 0.85
    assert ic["trained"]["epochs"] <= 3 and ic["trained"]["accuracy"] >= 0.867
    mnist = found["mnist"]
    assert min(row["accuracy"] for row in mnist["untrained"]) >= mnist["float_accuracy"] - 0.003
    ours = [row for row in found["kws"]["agreement"] if row["scheme"] == "affine"]
    assert min(row["top1_where_sure"] for row in ours) >= 0.98


def test_what_was_recorded_of_refinement() -> None:
    """Never worse where it judges itself; on data it never saw better, or as good to a third of a
    point.
    """
    rows = json.loads(RECORDED.read_text())["refine"]["rows"]
    assert {(row["network"], row["scheme"]) for row in rows} == {
        (network, scheme) for network in ("kws", "ic") for scheme in ("affine", "pow2")
    }
    for row in rows:
        told = row["refinement"]
        assert told["after"]["error"] <= told["before"]["error"]
        assert told["after"]["top1"] >= told["before"]["top1"]
        figure = "top1" if row["network"] == "kws" else "accuracy"
        assert row[figure] >= row["unrefined"][figure] - 0.003
    own = [row for row in rows if (row["network"], row["scheme"]) == ("kws", "affine")]
    wide = {row.get("input_dtype") == "int16": row["top1"] for row in own}
    assert wide[False] >= 0.97 and wide[True] >= 0.98
