"""Run with `isobit_toy` installed: uses its core, kernel and operator through `isobit.Model`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch

import isobit
from isobit import nn, targets
from isobit.ops.registry import load_ops
from isobit.plan.plan import make_plan


class Net(nn.Module):
    """Both spellings of the toy operator, and a layer that only the toy kernel is made for."""

    def __init__(self) -> None:
        super().__init__()
        self.standardize = nn.Standardize()
        self.stem = nn.Conv2d(1, 6, 3, padding=1)
        self.mix = nn.Conv2d(6, 5, 1)
        self.negate = nn.Negate()
        self.classify = nn.Linear(5 * 64, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Classify."""
        x = self.mix(torch.relu(self.stem(self.standardize(x))))
        return -self.classify(torch.flatten(self.negate(x), 1))


def main(out: Path) -> None:
    found: dict[str, object] = {"targets": targets.names()}
    registry = load_ops()
    found["kernels"] = [kernel.stem for kernel in registry.kernels["conv2d"]]
    found["layer"] = "Negate" in dir(nn)
    differing = {}
    for scheme in ("affine", "pow2"):
        torch.manual_seed(0)
        name = f"toy_{scheme}"
        model = isobit.Model(Net(), input=(1, 8, 8), target="toy-m4", scheme=scheme, name=name)
        x = torch.randint(0, 17, (16, 1, 8, 8)).float()
        model.calibrate(x)
        bundle = model.deploy(out / name, samples=x)
        for comparison in bundle.verify(on=["host", "cortex-m4", "toy-m4"]):
            differing[f"{scheme} {comparison.name}"] = comparison.differing
        plan = make_plan(model.export(), model.target)
        found[f"chosen {scheme}"] = {
            f"{step.node.op} {step.name}": step.kernel.stem for step in plan.nodes if step.kernel
        }
        model(x).sum().backward()
        found[f"gradient {scheme}"] = float(model.net.mix.weight.grad.abs().sum())
    found["differing"] = differing
    try:
        isobit.Model(nn.Sequential(nn.Conv2d(1, 64, 3)), input=(1, 32, 32), target="toy-m4")
    except isobit.core.errors.DoesNotFit as error:
        found["refused"] = str(error)
    print(json.dumps(found))


main(Path(sys.argv[1]))
