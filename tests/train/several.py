"""What one process of `torchrun` does for `test_distributed`: train in every way, write what came
out.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

import isobit
from isobit import nn
from isobit.core.errors import IsobitError
from isobit.train.evaluate import accuracy
from isobit.train.fit import COSINE, train
from isobit.train.history import Moment
from isobit.train.plan import Plan
from isobit.train.ranges import RangeOptions
from isobit.train.recipe import Augment, Optimizer, Run

from .nets import digits
from .runs import digest

TRAIN, VAL = digits(320), digits(200, start=900)
BATCH, EPOCHS = 32, 5
"""10 steps per epoch: 50 in all."""
AUGMENT = Augment(crop_padding=1, flip=True, cutmix=0.5)
SMALL = Augment(crop_padding=1)


def network(norm: bool = True) -> torch.nn.Module:
    layers = [
        nn.Standardize(),
        nn.Conv2d(1, 6, 3, padding=1, bias=not norm),
        *([nn.BatchNorm2d(6)] if norm else []),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(6, 8, 3, padding=1, bias=not norm),
        *([nn.BatchNorm2d(8)] if norm else []),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(128, 10),
    ]
    return nn.Sequential(*layers)


def model(scheme: str, *, norm: bool = True, method: str = "minmax", seed: int = 0) -> isobit.Model:
    torch.manual_seed(seed)
    ranges = RangeOptions(method=method)
    return isobit.Model(network(norm), input=(1, 8, 8), scheme=scheme, ranges=ranges)


def case(name: str, rank: int) -> tuple[torch.nn.Module, dict[str, Any], Augment]:
    """Return the module, options of the run and augmentation of a case; weights differ by rank
    before the run makes them one.
    """
    kind, _, scheme = name.partition("-")
    options: dict[str, Any] = {"epochs": EPOCHS}
    if kind == "float":
        return model("affine", seed=rank).net, options, SMALL
    if kind == "plain":
        return model(scheme, norm=False, seed=rank), options, AUGMENT
    if kind in ("mse", "percentile"):
        return model(scheme, method=kind, seed=rank), {"epochs": 2}, AUGMENT
    if kind == "odd":
        return model(scheme, seed=rank), {"epochs": 2}, AUGMENT
    if kind == "hybrid":
        return model(scheme, seed=rank), {"epochs": 4, "float_epochs": 2, "ema": 0.9}, AUGMENT
    return model(scheme, seed=rank), options, SMALL


LIKE_ONE = ("norm-affine", "norm-pow2", "plain-affine", "plain-pow2", "float-")
ALIKE = ("odd-affine", "mse-affine", "percentile-pow2", "hybrid-affine", "hybrid-pow2")


def ran(name: str, rank: int, **places: Path) -> dict[str, Any]:
    """Train one case; return what can be compared."""
    module, options, augment = case(name, rank)
    losses: list[float] = []

    def take(moment: Moment) -> None:
        losses.append(moment.loss)

    plan = Plan(
        run=Run(batch_size=BATCH, seed=3, checkpoint_every=7, **options),
        optimizer=Optimizer(name="adamw", learning_rate=2e-3, weight_decay=1e-4),
        schedule=COSINE,
        augment=augment,
    )
    # 65 examples: two whole batches, and one example that cannot be shared
    examples = digits(65) if name.startswith("odd") else TRAIN
    history = train(module, examples, VAL, plan, on_step=take, **places)  # type: ignore[arg-type]
    text = str(module.export()) if isinstance(module, isobit.Model) else ""
    consts = module.export().consts if isinstance(module, isobit.Model) else ()
    exported = hashlib.sha256(text.encode())
    for const in consts:
        exported.update(const.data.tobytes())
    return {
        "losses": losses,
        "digest": digest(module),
        "export": exported.hexdigest(),
        "accuracy": history.epochs[-1].val_accuracy,
        "own_accuracy": accuracy(module, VAL),
        "train_accuracy": [e.train_accuracy for e in history.epochs],
    }


def refusal(rank: int, more: int, **options: int) -> str:
    """Return what training is refused with. more: examples that the second process has more."""
    chosen = {"epochs": 1, "batch_size": BATCH, **options}
    try:
        isobit.fit(model("affine"), digits(64 + more * rank), VAL, **chosen)
    except IsobitError as error:
        return str(error)
    return "nothing"


def main(place: Path) -> None:
    torch.set_num_threads(1)
    found: dict[str, Any] = {}
    rank = int(os.environ["RANK"])
    for name in (*LIKE_ONE, *ALIKE):
        found[name] = ran(name, rank)
    whole = place / "whole"
    found["whole"] = ran("hybrid-affine", rank, out=whole)
    if rank == 0:  # what a run that was killed in the middle leaves
        (place / "cut").mkdir()
        (whole / "previous.ckpt").rename(place / "cut" / "last.ckpt")
    dist.barrier()
    found["resumed"] = ran("hybrid-affine", rank, resume=place / "cut")
    found["refusal"] = refusal(rank, 32)
    found["batch"] = refusal(rank, 0, batch_size=33)
    found["devices"] = refusal(rank, 0, devices=3)
    try:
        ran("norm-affine", rank, resume=place / "nothing")
    except IsobitError as error:
        found["missing"] = str(error)
    (place / f"{rank}.json").write_text(json.dumps(found))
    dist.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
