"""Fashion-MNIST, both number systems against their float twin: accuracy, and equality of every
value.

    python bench/fashion.py [--seeds 2] [--epochs 12] [--only train|verify]

Writes results/fashion.json and the trained networks results/fashion/*.isobit. A run that was killed
resumes: each training keeps a checkpoint under build/fashion/. The float twin is the same network
in fp32 with the same epochs, the best of three learning rates; integers use one.
"""

from __future__ import annotations

import argparse
import json
import runpy
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

import isobit
from isobit import targets
from isobit.codegen.network import generate
from isobit.core.files import write_atomic
from isobit.plan.plan import make_plan
from isobit.run.execute import build, execute
from isobit.run.golden import run_golden
from isobit.run.verify import compare
from isobit.train.fit import fit, predict

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "results"
BUILD = ROOT / "build" / "fashion"
RATES = (1e-3, 2e-3, 4e-3)
RATE = 2e-3
CORES = (
    "cortex-m0plus",
    "cortex-m3",
    "cortex-m4",
    "cortex-m7",
    "cortex-m33",
    "cortex-m55",
    "rv32imc",
)


Net = runpy.run_path(str(ROOT / "examples" / "fashion" / "net.py"))["Net"]
"""Three convolutions, one depthwise, batch norms, a residual add."""


def make(kind: str, seed: int) -> Any:
    """Return the float network, or the model of a scheme."""
    torch.manual_seed(seed)
    net = Net().to(memory_format=torch.channels_last)
    if kind == "fp32":
        return net
    return isobit.Model(net, input=(1, 28, 28), target="cortex-m4", scheme=kind, name="fashion")


def train_one(kind: str, seed: int, rate: float, epochs: int) -> dict[str, Any]:
    """Train one network, or continue it; return what its last epoch reached."""
    train, test = isobit.data.load("fashion-mnist")
    model = make(kind, seed)
    if kind == "fp32":
        model.standardize.adapt(torch.from_numpy(train.nchw()))
    folder = BUILD / f"{kind}-seed{seed}-rate{rate}-epochs{epochs}"
    resume = folder if (folder / "last.ckpt").is_file() else None
    history = fit(
        model,
        train,
        test,
        epochs=epochs,
        seed=seed,
        out=folder,
        resume=resume,
        batch_size=128,
        learning_rate=rate,
    )
    if kind != "fp32":
        model.save(RESULTS / "fashion" / f"{kind}-seed{seed}.isobit")
    last = history.epochs[-1]
    print(f"{kind} seed {seed} rate {rate}: {last.val_accuracy:.4f}", flush=True)
    return {"kind": kind, "seed": seed, "rate": rate, "epochs": epochs, **asdict(last)}


def verify_one(kind: str, seed: int, images: int, per_core: int) -> list[dict[str, Any]]:
    """Compare torch, golden and C: all images on the host with both compilers, some on each
    core.
    """
    _, test = isobit.data.load("fashion-mnist")
    model = make(kind, seed)
    model.restore(RESULTS / "fashion" / f"{kind}-seed{seed}.isobit")
    model.eval()
    x = torch.from_numpy(test.nchw()[:images])
    graph, codes = model.export(), model.quantize_input(x)
    golden = run_golden(graph, codes)
    rows = [asdict(compare(graph, golden, model.trace(x), name="torch"))]
    classes = predict(model, x).numpy()
    rows[0]["same_class"] = int((golden[graph.outputs[0]].argmax(1) == classes).sum())
    host = generate(make_plan(graph, targets.load("host")), "")
    for compiler in ("gcc", "zig"):
        for level in ("-O0", "-O2"):
            built = build(host, compiler=compiler, trace=True, optimize=level)
            ran = execute(host, built, codes)
            row = asdict(
                compare(
                    graph,
                    golden,
                    ran.trace,
                    name=f"host {compiler} {level}",
                    compiler=built.compiler,
                )
            )
            rows.append({**row, "same_class": int((ran.output.argmax(1) == classes).sum())})
    for core in CORES:
        network = generate(make_plan(graph, targets.load(core)), "")
        on_qemu = not network.plan.target.unicorn_model
        built = build(network, trace=True, qemu=on_qemu)
        ran = execute(network, built, codes[:per_core], use_qemu=on_qemu, timeout_s=1800)
        part = {name: array[:per_core] for name, array in golden.items()}
        row = asdict(compare(graph, part, ran.trace, name=core, emulator=ran.emulator))
        rows.append({**row, "same_class": int((ran.output.argmax(1) == classes[:per_core]).sum())})
    for row in rows:
        print(
            f"  {kind} seed {seed} {row['name']}: {row['differing']} of {row['compared']}",
            flush=True,
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--images", type=int, default=10000)
    parser.add_argument("--per-core", type=int, default=100)
    parser.add_argument("--only", choices=("train", "verify"))
    options = parser.parse_args()
    path = RESULTS / "fashion.json"
    found = (
        json.loads(path.read_text())
        if path.is_file()
        else {"schema": 1, "runs": [], "verified": {}}
    )

    def save() -> None:
        found["summary"] = summary(found["runs"])
        write_atomic(path, json.dumps(found, indent=1) + "\n")

    for seed in range(options.seeds):
        jobs = [("affine", RATE), ("pow2", RATE), *(("fp32", rate) for rate in RATES)]
        for kind, rate in jobs:
            done = any(
                (r["kind"], r["seed"], r["rate"], r["epochs"]) == (kind, seed, rate, options.epochs)
                for r in found["runs"]
            )
            if options.only != "verify" and not done:
                found["runs"].append(train_one(kind, seed, rate, options.epochs))
                save()
        if options.only != "train":
            for kind in ("affine", "pow2"):
                found["verified"][f"{kind}-seed{seed}"] = verify_one(
                    kind, seed, options.images, options.per_core
                )
                save()


def summary(runs: list[dict[str, Any]]) -> dict[str, float]:
    """Mean accuracy over seeds by kind; for fp32 the best rate of each seed."""
    result = {}
    for kind in ("affine", "pow2", "fp32"):
        own = [r for r in runs if r["kind"] == kind]
        best = [
            max(r["val_accuracy"] for r in own if r["seed"] == s)
            for s in sorted({r["seed"] for r in own})
        ]
        if best:
            result[kind] = sum(best) / len(best)
    return result


if __name__ == "__main__":
    main()
