"""The demo: from a composed network to a proven chip program, on the digits, offline."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from isobit import data, nn
from isobit.api.bundle import Bundle
from isobit.api.model import Model
from isobit.core.arguments import Arguments, shown
from isobit.run.estimate import Estimate
from isobit.run.verify import Comparison
from isobit.train.fit import LARGEST_SEED, Epoch, fit, predict, seed_weights

EPOCHS = 15
CORES = ("host", "cortex-m4", "cortex-m0plus", "rv32imc")


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoResult:
    """What the demo found. `agreeing`: test images whose class is the same in torch and in the
    deployed C.
    """

    estimate: Estimate
    accuracy: float
    agreeing: int
    images: int
    comparisons: tuple[Comparison, ...]
    bundle: Bundle
    history: tuple[Epoch, ...]
    confusion: tuple[tuple[int, ...], ...]
    classes: tuple[str, ...]

    @property
    def compared(self) -> int:
        """Values compared over all executions."""
        return sum(c.compared for c in self.comparisons)

    @property
    def differing(self) -> int:
        """Values that differ."""
        return sum(c.differing for c in self.comparisons)


def build_model(seed: int = 0) -> Model:
    """Return the demo's network for a Cortex-M4: two convolutions on 8x8 digits."""
    seed_weights(seed)
    net = nn.Sequential(
        nn.Standardize(),
        nn.Conv2d(1, 16, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(16, 24, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(384, 10),
    )
    return Model(net, input=(1, 8, 8), target="cortex-m4", scheme="affine", name="digits")


def run_demo(
    out: Path,
    *,
    seed: int = 0,
    say: Callable[[str], None] = lambda _: None,
    estimated: Callable[[Estimate], None] = lambda _: None,
    progress: Callable[[int, int, int, int, float], None] | None = None,
) -> DemoResult:
    """Compose, size, train, deploy and verify; write everything below `out`.

    seed: 0..2^31-1. Raises `BadArgument` before anything is computed.
    """
    given = Arguments("run_demo")
    out = given.path("out", out)
    seed = given.integer("seed", seed, at_least=0, at_most=LARGEST_SEED)
    for what, function in (("say", say), ("estimated", estimated), ("progress", progress)):
        given.function(what, function)
    given.check()
    train, test = data.load("digits")
    say("composing the network and running it, untrained, on an emulated Cortex-M4")
    model = build_model(seed)
    estimate = model.estimate()
    estimated(estimate)
    say(f"training on {len(train)} digits with the chip's integers")
    history = fit(model, train, test, epochs=EPOCHS, seed=seed, progress=progress)
    images = torch.from_numpy(test.nchw())
    classes = predict(model, images).numpy()
    accuracy = float((classes == test.labels).mean())
    say("writing the C project")
    bundle = model.deploy(out, samples=images[:20])
    say(f"running all {len(test)} held-out digits through the deployed C")
    codes = model.quantize_input(images)
    deployed = bundle.run(codes, "host").output.argmax(axis=1)
    say("comparing every value of every tensor: torch, golden model, " + ", ".join(CORES))
    comparisons = bundle.verify(on=CORES)
    return DemoResult(
        estimate=estimate,
        accuracy=accuracy,
        agreeing=int((deployed == classes).sum()),
        images=len(test),
        comparisons=tuple(comparisons),
        bundle=bundle,
        history=tuple(history.epochs),
        confusion=confusion_matrix(test.labels, deployed, len(test.classes)),
        classes=test.classes,
    )


def confusion_matrix(
    labels: np.ndarray[tuple[int], np.dtype[np.int64]],
    predicted: np.ndarray[tuple[int], np.dtype[np.int64]],
    count: int,
) -> tuple[tuple[int, ...], ...]:
    """Rows: true class, columns: predicted class, both of 0..count-1."""
    given = Arguments("confusion_matrix")
    count = given.integer("count", count, at_least=1)
    for what, found in (("labels", labels), ("predicted", predicted)):
        array = np.asarray(found)
        fits = array.dtype.kind in "iu" and array.ndim == 1 and array.shape == np.shape(labels)
        if not fits or (array.size and not 0 <= array.min() <= array.max() < count):
            given.refuse(what, f"integers [N] in 0..{count - 1}, as many of both", shown(found))
    given.check()
    table = np.zeros((count, count), dtype=np.int64)
    np.add.at(table, (labels, predicted), 1)
    return tuple(tuple(int(v) for v in row) for row in table)
