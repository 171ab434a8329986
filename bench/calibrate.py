"""Published float networks as integers without training, and what training on gives back.

    python bench/calibrate.py [--only ic|kws|hello|mnist|kws-refined|ic-refined]
        [--images 10000] [--epochs 2]

Needs ISOBIT_MODELS (MLPerf Tiny, TFLite Micro, ONNX models) and ISOBIT_DATA (CIFAR-10,
MNIST). Writes
results/calibrate.json. Accuracy is that of the softmax codes which the chip returns. Every
calibrated network is compared in all values: golden model, torch, host C, Cortex-M4.
Rows of `calibrate(..., refine=STEPS)` are written one by one; those that the file has are skipped.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from speech import CLIPS, mfcc, read_wav, sounds

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
REFINED = ((512, 300), (2048, 1000))
"""Examples and steps of the refinements of kws; of ic the first alone."""
INPUTS = ("int8", "int16")
"""Codes of the input of kws."""
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


class Refinements:
    """`refine` in results/calibrate.json: every figure is written as soon as it is measured, into
    the file as it is then, so that several processes can share it.
    """

    def note(self, name: str, value: object) -> None:
        """Keep a figure beside the rows."""
        found = stored()
        found.setdefault("refine", {})[name] = value
        write(found)

    def measure(
        self,
        net: str,
        graph: Graph,
        seen: AnyArray,
        scheme: str,
        steps: int,
        score: Any,
        x: Any,
        input_dtype: str = "int8",
    ) -> None:
        """Add the row of one refinement, unless the file has it.

        score: the figures of a model. x: examples, some of which all values are compared on.
        """
        key = {"network": net, "scheme": scheme, "samples": len(seen), "steps": steps}
        key["input_dtype"] = input_dtype
        rows = stored().get("refine", {}).get("rows", [])
        if any(key.items() <= ({"input_dtype": "int8"} | row).items() for row in rows):
            return
        options: dict[str, Any] = {"samples": len(seen), "input_dtype": input_dtype}
        before = score(isobit.calibrate(graph, seen, scheme=scheme, **options))
        model = isobit.calibrate(graph, seen, scheme=scheme, refine=steps, seed=SEED, **options)
        assert model.refinement is not None
        row = {**key, **score(model), "unrefined": before, "refinement": asdict(model.refinement)}
        row["compared"] = verified(model, x)
        print(row, flush=True)
        found = stored()
        found.setdefault("refine", {}).setdefault("rows", []).append(row)
        write(found)


def stored() -> dict[str, Any]:
    """Return the file as it is."""
    found: dict[str, Any] = json.loads(RESULT.read_text()) if RESULT.is_file() else {"schema": 1}
    return found


def write(found: dict[str, Any]) -> None:
    """Write the file."""
    write_atomic(RESULT, json.dumps(found, indent=1) + "\n")


def refine_keywords(rows: Refinements) -> None:
    """DS-CNN refined on sounds of seed 0, judged on the 1000 of seed 1 and on the recordings."""
    graph = load("mlperf_tiny/models/kws_ref_model_float32.tflite")
    folder = models() / "tflite_micro"
    x = sounds(folder, 1000, seed=1)
    recorded = np.stack([mfcc(read_wav(folder / name)[:16_000]) for name in CLIPS])
    floats, classes = in_parts(graph, x), in_parts(graph, recorded).argmax(axis=1)
    top, sure = floats.argmax(axis=1), floats.max(axis=1) >= SURE

    def score(model: Any) -> dict[str, Any]:
        with torch.no_grad():
            same = model(x).numpy().argmax(axis=1) == top
            wavs = model(recorded).numpy().argmax(axis=1) == classes
        return {
            "top1": float(same.mean()),
            "top1_where_sure": float(same[sure].mean()),
            "recordings": f"{int(wavs.sum())} of {len(wavs)}",
        }

    def limit(step: float) -> float:
        """Agreement with itself of the float network on inputs rounded to steps."""
        coarse = (np.rint(x / step) * step).clip(low, high).astype(np.float32)
        return float((in_parts(graph, coarse).argmax(axis=1) == top).mean())

    largest = sounds(folder, max(samples for samples, _ in REFINED), seed=0)
    low, high = float(largest.min()), float(largest.max())
    for bits in (8, 9, 10, 12):
        rows.note(f"kws_float_on_{bits}_bit_inputs", limit((high - low) / (2**bits - 1)))
    rows.note("kws_float_on_pow2_inputs", limit(2.0 ** np.ceil(np.log2(max(high, -low) / 127.5))))
    for scheme in SCHEMES:
        rows.note(f"kws_cost_{scheme}", {dtype: cost(graph, scheme, dtype) for dtype in INPUTS})
    for dtype in INPUTS:
        for samples, steps in REFINED:
            for scheme in SCHEMES:
                rows.measure("kws", graph, largest[:samples], scheme, steps, score, x, dtype)


def cost(graph: Graph, scheme: str, input_dtype: str) -> dict[str, float | None]:
    """Return what the chip needs, whatever was calibrated: sizes do not depend on it."""
    model = isobit.Model.from_graph(
        graph, target="cortex-m4", scheme=scheme, input_dtype=input_dtype
    )
    found = model.estimate()
    return {
        "ram_bytes": found.ram_bytes,
        "flash_bytes": found.flash_bytes,
        "instructions": found.instructions,
    }


def refine_images(rows: Refinements, images: int) -> None:
    """ResNet8 refined on training images, without their labels; accuracy on the test set."""
    graph = load("mlperf_tiny/models/pretrainedResnet.tflite")
    train, test = isobit.data.load("cifar10")
    x, y = test.images[:images].astype(np.float32), test.labels[:images]
    samples, steps = REFINED[0]
    seen = train.images[:: len(train) // samples][:samples].astype(np.float32)

    def score(model: Any) -> dict[str, Any]:
        return {"images": len(y), "accuracy": float((predict(model, x).numpy() == y).mean())}

    for scheme in SCHEMES:
        rows.measure("ic", graph, seen, scheme, steps, score, x)


def main() -> None:
    """Measure what was asked for; keep the rest of the file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--only", choices=("ic", "kws", "hello", "mnist", "kws-refined", "ic-refined")
    )
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--epochs", type=int, default=2)
    options = parser.parse_args()
    parts: dict[str, Callable[[], dict[str, Any]]] = {
        "hello": sine,
        "kws": keywords,
        "mnist": lambda: digits(options.images),
        "ic": lambda: image_classification(options.images, options.epochs),
    }
    for name, part in parts.items():
        if options.only in (None, name):
            measured = part()
            write(stored() | {name: measured})
    if options.only in (None, "kws-refined"):
        refine_keywords(Refinements())
    if options.only in (None, "ic-refined"):
        refine_images(Refinements(), options.images)


if __name__ == "__main__":
    main()
