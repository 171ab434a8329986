"""The CIFAR-10 network of CMSIS-NN, 20 epochs: both number systems and fp32 with one recipe.

    python bench/cifar10.py [--seeds 1] [--only train|verify] [--images 10000] [--on-chip 200]

Trains examples/cifar10/recipe.toml with `scheme` affine, pow2 and float32; float32 is what people
do today: trained in float, then converted, so that its accuracy on the device is measured beside
what the framework said. Then compares torch, golden model and host C (gcc and zig) on the test
images, every value of every tensor, and the emulated Cortex-M4 on some. Writes results/cifar10.json
and the trained networks results/cifar10/*.isobit. A killed run resumes from build/cifar10/.
"""

from __future__ import annotations

import argparse
import json
import runpy
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

import isobit
from isobit import targets
from isobit.codegen.network import generate
from isobit.core.files import json_text, write_atomic
from isobit.plan.plan import make_plan
from isobit.run.execute import build, execute
from isobit.run.golden import run_golden
from isobit.run.verify import compare
from isobit.train.fit import predict

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "results"
BUILD = ROOT / "build" / "cifar10"
EXAMPLE = ROOT / "examples" / "cifar10"
EXACT = ("affine", "pow2")
KINDS = (*EXACT, "float32")
BAR = -0.005
"""Least accuracy of integers minus that of fp32, fractions."""


def train_one(kind: str, seed: int) -> dict[str, Any]:
    """Train one network with the command line, or continue it; return what it printed."""
    name = f"{kind}-seed{seed}"
    BUILD.mkdir(parents=True, exist_ok=True)
    recipe = (EXAMPLE / "recipe.toml").read_text(encoding="utf-8")
    recipe = recipe.replace('spec = "net.py"', f'spec = "{EXAMPLE / "net.py"}"\nscheme = "{kind}"')
    write_atomic(BUILD / f"{name}.toml", recipe)
    saved = BUILD / f"{name}.isobit"
    words = ["train", str(BUILD / f"{name}.toml"), "--seed", str(seed), "--out", str(saved)]
    if (BUILD / f"{name}.run" / "last.ckpt").is_file():
        words += ["--resume", str(BUILD / f"{name}.run")]
    command = [sys.executable, "-m", "isobit", *words, "--json"]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True)
    found = json.loads(done.stdout)
    if kind in EXACT:
        target = RESULTS / "cifar10" / saved.name
        target.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(target, saved.read_bytes())
    last = found["epochs"][-1]
    print(f"{name}: {last['val_accuracy']:.4f}", flush=True)
    return {"kind": kind, "seed": seed, **{k: v for k, v in found.items() if k != "saved"}}


def trained(kind: str, seed: int) -> isobit.Model:
    """Return a trained network: the example's, in the scheme, with the numbers of the file."""
    found = runpy.run_path(str(EXAMPLE / "net.py"))
    model = isobit.Model(
        found["net"],
        input=(3, 32, 32),
        target="nucleo-l4r5zi",
        scheme=kind,
        name="cifar10",
        ranges=found["model"].options,
    )
    model.restore(RESULTS / "cifar10" / f"{kind}-seed{seed}.isobit")
    return model.eval()


def verify_one(kind: str, seed: int, images: int, on_chip: int) -> dict[str, Any]:
    """Compare torch, golden and C: all images on the host with both compilers, some on the M4."""
    _, test = isobit.data.load("cifar10")
    model = trained(kind, seed)
    images = min(images, len(test))
    x = torch.from_numpy(test.images[:images] if model.channels_last else test.nchw()[:images])
    graph, codes = model.export(), model.quantize_input(x)
    golden = run_golden(graph, codes)
    classes = predict(model, x).numpy()
    (name,) = graph.outputs
    rows = [{**asdict(compare(graph, golden, model.trace(x), name="torch")), "images": images}]
    right = int((golden[name].argmax(1) == test.labels[:images]).sum())
    same = [int((golden[name].argmax(1) == classes).sum())]
    host = generate(make_plan(graph, targets.load("host")), "")
    for compiler in ("gcc", "zig"):
        built = build(host, compiler=compiler, trace=True)
        ran = execute(host, built, codes)
        row = compare(graph, golden, ran.trace, name=f"host {compiler}", compiler=built.compiler)
        rows.append({**asdict(row), "images": images})
        same.append(int((ran.output.argmax(1) == classes).sum()))
    part = {key: values[:on_chip] for key, values in golden.items()}
    chip = generate(make_plan(graph, targets.load("cortex-m4")), "")
    built = build(chip, trace=True)
    ran = execute(chip, built, codes[:on_chip])
    row = compare(graph, part, ran.trace, name="cortex-m4", compiler=built.compiler)
    rows.append({**asdict(row), "images": on_chip})
    for row_ in rows:
        print(f"{kind} seed {seed}: {row_['name']}: {row_['differing']} of {row_['compared']:,}")
    return {
        "kind": kind,
        "seed": seed,
        "images": images,
        "accuracy": right / images,
        "same_class_as_torch": same,
        "rows": rows,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--only", choices=("train", "verify"))
    parser.add_argument("--images", type=int, default=10000)
    parser.add_argument("--on-chip", type=int, default=200)
    options = parser.parse_args()
    path = RESULTS / "cifar10.json"
    found: dict[str, Any] = (
        json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {"schema": 1}
    )
    runs = [(kind, seed) for seed in range(options.seeds) for kind in KINDS]
    if options.only != "verify":
        found["training"] = [train_one(*run) for run in runs]
        write_atomic(path, json_text(found))
    if options.only != "train":
        exact = [run for run in runs if run[0] in EXACT]
        found["verified"] = [verify_one(*run, options.images, options.on_chip) for run in exact]
        write_atomic(path, json_text(found))
    reached: dict[str, list[float]] = {}
    for row in found.get("training", ()):
        reached.setdefault(row["kind"], []).append(row["epochs"][-1]["val_accuracy"])
    mean = {kind: sum(values) / len(values) for kind, values in reached.items()}
    missed = [kind for kind in EXACT if kind in mean and mean[kind] - mean["float32"] < BAR]
    for kind, value in mean.items():
        print(f"{kind}: {value:.2%}, {100 * (value - mean['float32']):+.2f} pp of fp32")
    wrong = sum(row["differing"] for run in found.get("verified", ()) for row in run["rows"])
    sys.exit(f"missed: {missed}, {wrong} differing" if missed or wrong else 0)


if __name__ == "__main__":
    main()
