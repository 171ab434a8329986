"""Published float networks as integers without training, and what training on gives back.

    python bench/calibrate.py [--only ic|kws|hello|mnist] [--images 10000] [--epochs 2]

Needs ISOBIT_MODELS (MLPerf Tiny, TFLite Micro, ONNX models) and ISOBIT_DATA (CIFAR-10,
MNIST). Writes
results/calibrate.json. Accuracy is that of the softmax codes which the chip returns. Every
calibrated network is compared in all values: golden model, torch, host C, Cortex-M4.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from speech import sounds

import isobit
from isobit.core.files import write_atomic
from isobit.core.types import AnyArray
from isobit.ir.graph import Graph
from isobit.run.golden import run_golden
from isobit.train.fit import fit, predict

ROOT = Path(__file__).resolve().parent.parent
RESULT = ROOT / "results" / "calibrate.json"
METHODS = ("minmax", "percentile", "mse")
SCHEMES = ("affine", "pow2")
RATE, BATCH, SEED = 1e-4, 128, 0
VERIFIED = 4
"""Inputs on which all values are compared; the Cortex-M4 is emulated."""
SURE = 0.5
"""From this largest output on the float network counts as sure of its class."""


def models() -> Path:
    """The folder of published models."""
    return Path(os.environ["ISOBIT_MODELS"])


def load(file: str) -> Graph:
    """Import a published model."""
    return isobit.import_file(models() / file)


def in_parts(graph: Graph, x: AnyArray) -> AnyArray:
    """Return the first output of the golden model."""
    parts = (run_golden(graph, x[i : i + 50])[graph.outputs[0]] for i in range(0, len(x), 50))
    return np.concatenate(list(parts))


def verified(model: Any, x: AnyArray) -> dict[str, int]:
    """Return how many values were compared by place, and that none differs (else it raises)."""
    with tempfile.TemporaryDirectory() as folder:
        bundle = model.deploy(Path(folder) / "out", samples=x[:VERIFIED])
        return {c.name: c.compared for c in bundle.verify(on=("host", "cortex-m4"))}


def image_classification(images: int, epochs: int) -> dict[str, Any]:
    """ResNet8 of MLPerf Tiny on CIFAR-10: raw pixels in, 10 classes out."""
    graph = load("mlperf_tiny/models/pretrainedResnet.tflite")
    train, test = isobit.data.load("cifar10")
    test = test.subset(slice(0, images))
    x, y = test.images.astype(np.float32), test.labels
    rows: list[dict[str, Any]] = []
    for scheme in SCHEMES:
        for method in METHODS:
            for correct in (False, True):
                model = isobit.calibrate(
                    graph, train, scheme=scheme, method=method, bias_correction=correct
                )
                right = float((predict(model, x).numpy() == y).mean())
                rows.append({"scheme": scheme, "method": method, "bias_correction": correct})
                rows[-1] |= {"accuracy": right, "compared": verified(model, x)}
                print(rows[-1], flush=True)
    model = isobit.calibrate(graph, train, scheme="pow2", method="mse")
    history = fit(
        model,
        train,
        test,
        epochs=epochs,
        seed=SEED,
        batch_size=BATCH,
        learning_rate=RATE,
        weight_decay=0.0,
    )
    model.eval()
    trained = {"scheme": "pow2", "method": "mse", "epochs": epochs, "learning_rate": RATE}
    trained |= {"seed": SEED, "batch_size": BATCH, "compared": verified(model, x)}
    trained["accuracy"] = float((predict(model, x).numpy() == y).mean())
    trained["by_epoch"] = [epoch.val_accuracy for epoch in history.epochs]
    print(trained, flush=True)
    right = float((in_parts(graph, x).argmax(axis=1) == y).mean())
    return {"images": len(y), "float_accuracy": right, "untrained": rows, "trained": trained}


def keywords() -> dict[str, Any]:
    """DS-CNN of MLPerf Tiny on speech-like sound: agreement with its own float form.

    Beside it the int8 file that was published with it.
    """
    graph = load("mlperf_tiny/models/kws_ref_model_float32.tflite")
    published = load("mlperf_tiny/models/kws_ref_model.tflite")
    folder = models() / "tflite_micro"
    seen, x = sounds(folder, 512, seed=0), sounds(folder, 1000, seed=1)
    floats = in_parts(graph, x)
    sure = floats.max(axis=1) >= SURE

    def agreement(outputs: AnyArray) -> dict[str, float]:
        same = outputs.argmax(axis=1) == floats.argmax(axis=1)
        return {"top1": float(same.mean()), "top1_where_sure": float(same[sure].mean())}

    kind = published.inputs[0].type
    encoding: Any = kind.encoding
    codes = np.clip(np.rint(x / encoding.scale[0]) + kind.zero, -128, 127).astype(np.int8)
    rows: list[dict[str, Any]] = [
        {"scheme": "int8 file of MLPerf Tiny", **agreement(in_parts(published, codes))}
    ]
    for scheme in SCHEMES:
        for method in METHODS:
            for equalise in (False, True):
                model = isobit.calibrate(
                    graph, seen, scheme=scheme, method=method, equalise=equalise
                )
                with torch.no_grad():
                    own = model(x)
                assert isinstance(own, torch.Tensor)
                rows.append({"scheme": scheme, "method": method, "equalise": equalise})
                rows[-1] |= {**agreement(own.numpy()), "compared": verified(model, x)}
                print(rows[-1], flush=True)
    return {"clips": len(x), "sure": float(sure.mean()), "agreement": rows}


def sine() -> dict[str, Any]:
    """hello_world of TFLite Micro: sin(x) on 0..2 pi."""
    graph = load("tflite_micro/hello_world_float.tflite")
    x = np.linspace(0, 2 * np.pi, 1000, dtype=np.float32)[:, None]
    floats = in_parts(graph, x)
    rows: list[dict[str, Any]] = []
    for scheme in SCHEMES:
        model = isobit.calibrate(graph, x, scheme=scheme)
        with torch.no_grad():
            own = model(x)
        assert isinstance(own, torch.Tensor)
        error = float(np.abs(own.numpy() - floats).max())
        rows.append({"scheme": scheme, "largest_error": error, "compared": verified(model, x)})
        print(rows[-1], flush=True)
    return {"inputs": len(x), "largest": float(np.abs(floats).max()), "schemes": rows}


def digits(images: int) -> dict[str, Any]:
    """mnist-8 of the ONNX model zoo: raw pixels in, ten scores out."""
    graph = load("onnx/mnist_model_zoo.onnx")
    train, test = isobit.data.load("mnist")
    x, y = test.images[:images].astype(np.float32), test.labels[:images]
    rows: list[dict[str, Any]] = []
    for scheme in SCHEMES:
        model = isobit.calibrate(graph, train, scheme=scheme)
        right = float((predict(model, x).numpy() == y).mean())
        rows.append({"scheme": scheme, "accuracy": right, "compared": verified(model, x)})
        print(rows[-1], flush=True)
    right = float((in_parts(graph, x).argmax(axis=1) == y).mean())
    return {"images": len(y), "float_accuracy": right, "untrained": rows}


def main() -> None:
    """Measure what was asked for; keep the rest of the file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=("ic", "kws", "hello", "mnist"))
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--epochs", type=int, default=2)
    options = parser.parse_args()
    found = json.loads(RESULT.read_text()) if RESULT.is_file() else {"schema": 1}
    if options.only in (None, "hello"):
        found["hello"] = sine()
    if options.only in (None, "kws"):
        found["kws"] = keywords()
    if options.only in (None, "mnist"):
        found["mnist"] = digits(options.images)
    if options.only in (None, "ic"):
        found["ic"] = image_classification(options.images, options.epochs)
    write_atomic(RESULT, json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
