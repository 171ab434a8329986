"""Write docs/results.md from the files under results/; `--check` says whether it is up to date."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "results.md"


def page() -> str:
    """The page's text; every number is one of a file under results/."""
    fashion = _read("fashion.json")
    mutants = _read("mutants.json")
    lines = [
        "# Measured",
        "",
        "Written by `tools/write_results.py` from `results/*.json`; a test keeps it so. The scripts in",
        "`bench/` and `tools/` regenerate those files.",
        "",
        "## Accuracy: integers against float",
        "",
        "Fashion-MNIST, the network of `bench/fashion.py` (three convolutions, one depthwise, batch norms, a",
        f"residual add), {fashion['runs'][0]['epochs']} epochs, last epoch, test set of 10,000 images. fp32 is",
        "the same network in PyTorch floats, the best of three learning rates; integers use one rate.",
        "",
        "| | " + " | ".join(f"seed {seed}" for seed in _seeds(fashion)) + " | mean |",
        "|---|" + "---|" * (len(_seeds(fashion)) + 1),
    ]
    for kind, title in (("affine", "`affine` int8"), ("pow2", "`pow2` int8"), ("fp32", "fp32")):
        own = [f"{_best(fashion, kind, seed):.2%}" for seed in _seeds(fashion)]
        lines.append(f"| {title} | {' | '.join(own)} | {fashion['summary'][kind]:.2%} |")
    lines += [
        "",
        "The trained networks, every tensor against the golden model (values compared / differing):",
        "",
        "| execution | " + " | ".join(fashion["verified"]) + " |",
        "|---|" + "---|" * len(fashion["verified"]),
    ]
    rows = {row["name"]: None for found in fashion["verified"].values() for row in found}
    for name in rows:
        cells = []
        for found in fashion["verified"].values():
            row = next(r for r in found if r["name"] == name)
            cells.append(f"{row['compared']:,} / {row['differing']}")
        lines.append(f"| {name} | {' | '.join(cells)} |")
    lines += ["", *_cifar10(_read("cifar10.json")), "", *_speed(_read("train_step.json"))]
    lines += [
        "",
        "## Planted faults",
        "",
        f"`make mutants` plants {mutants['faults']:,} faults in kernels, the C run time, the planner and the",
        f"packers; {mutants['invalid']} do not compile. Of the others {mutants['killed']:,}",
        f"({mutants['killed_share']:.1%}) are found by the battery; each of the {mutants['survived']} others is",
        "listed in `tools/mutants_equivalent.toml` with the reason why it changes no result.",
        "",
    ]
    return "\n".join(lines)


def _cifar10(found: dict[str, Any]) -> list[str]:
    """The CIFAR-10 network: accuracies, the deployment surprise, the comparison of every value."""
    lines = [
        "CIFAR-10, the network of CMSIS-NN's example (32-32-64, `examples/cifar10`), one recipe for all,",
        f'{len(found["training"][0]["epochs"])} epochs, last epoch, test set of 10,000 images (`bench/cifar10.py`). "On the device" is the',
        "accuracy of the exported integers; fp32 was converted after training, as is usual.",
        "",
        "| | in training | on the device | difference |",
        "|---|---|---|---|",
    ]
    for run in found["training"]:
        title = "fp32" if run["kind"] == "float32" else f"`{run['kind']}` int8"
        there = run["accuracy"]
        lines.append(
            f"| {title} | {there['framework']:.2%} | {there['device']:.2%} | {100 * there['surprise']:.2f} pp |"
        )
    names = [run["kind"] for run in found["verified"]]
    lines += [
        "",
        "| execution (images) | " + " | ".join(names) + " |",
        "|---|" + "---|" * len(names),
    ]
    for index, row in enumerate(found["verified"][0]["rows"]):
        cells = [run["rows"][index] for run in found["verified"]]
        values = [f"{cell['compared']:,} / {cell['differing']}" for cell in cells]
        lines.append(f"| {row['name']} ({row['images']:,}) | {' | '.join(values)} |")
    return lines


def _speed(found: dict[str, Any]) -> list[str]:
    """A training step beside fp32 and the peers."""
    versions = found["versions"]
    nets = list(found["nets"])
    labels = [row["variant"] for row in found["nets"][nets[0]] if row["variant"] != "fp32"]
    lines = [
        "## A training step",
        "",
        "`bench/train_step.py`: time of a step over that of fp32 channels last in the same round, median of",
        f"{found['rounds']} rounds in each of {found['processes']} processes with its 95 % interval; {found['threads']} threads, torch {versions['torch']},",
        f"torchao {versions['torchao']}, Brevitas {versions['brevitas']}. Ours observe and update ranges, and use the batch norms they have.",
        "",
        "| | " + " | ".join(nets) + " |",
        "|---|" + "---|" * len(nets),
    ]
    for label in labels:
        cells = []
        for net in nets:
            row = next(r for r in found["nets"][net] if r["variant"] == label)
            low, high = row["interval"]
            cells.append(f"{row['ratio']:.2f} ({low:.2f} to {high:.2f})")
        lines.append(f"| {label} | {' | '.join(cells)} |")
    return lines


def _read(name: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((ROOT / "results" / name).read_text(encoding="utf-8"))
    return content


def _seeds(fashion: dict[str, Any]) -> list[int]:
    return sorted({run["seed"] for run in fashion["runs"]})


def _best(fashion: dict[str, Any], kind: str, seed: int) -> float:
    own = [r for r in fashion["runs"] if (r["kind"], r["seed"]) == (kind, seed)]
    return max(float(run["val_accuracy"]) for run in own)


def main() -> int:
    if "--check" in sys.argv:
        return 0 if PAGE.read_text(encoding="utf-8") == page() else 1
    PAGE.write_text(page(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
