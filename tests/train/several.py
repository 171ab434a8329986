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
from isobit.train.moments import moments_of
from isobit.train.plan import Plan
from isobit.train.ranges import RangeOptions
from isobit.train.recipe import Augment, Optimizer, Run

from .nets import digits
from .runs import digest

TRAIN, VAL = digits(320), digits(200, start=900)
BATCH, EPOCHS = 32, 5
STEPS = 50
"""10 steps per epoch."""
AUGMENT = Augment(crop_padding=1, flip=True, cutmix=0.5)
SMALL = Augment(crop_padding=1)


def network(normed: bool = True) -> torch.nn.Module:
    layers = [
        nn.Standardize(),
        nn.Conv2d(1, 6, 3, padding=1, bias=not normed),
        *([nn.BatchNorm2d(6)] if normed else []),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(6, 8, 3, padding=1, bias=not normed),
        *([nn.BatchNorm2d(8)] if normed else []),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(128, 10),
    ]
    return nn.Sequential(*layers)


def model(
    scheme: str, *, normed: bool = True, method: str = "minmax", seed: int = 0
) -> isobit.Model:
    torch.manual_seed(seed)
    ranges = RangeOptions(method=method)
    return isobit.Model(network(normed), input=(1, 8, 8), scheme=scheme, ranges=ranges)


def case(name: str, rank: int) -> tuple[torch.nn.Module, dict[str, Any], Augment]:
    """Return the module, options of the run and augmentation of a case; weights differ by rank
    before the run makes them one.
    """
    kind, _, scheme = name.partition("-")
    options: dict[str, Any] = {"epochs": EPOCHS}
    if kind == "float":
        return model("affine", seed=rank).net, options, SMALL
    if kind == "plain":
        return model(scheme, normed=False, seed=rank), options, AUGMENT
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


def deep(scheme: str) -> isobit.Model:
    """Batch norms behind a full, a depthwise, a pointwise convolution and a linear layer."""
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Standardize(),
        nn.Conv2d(1, 8, 3, padding=1, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, 8, 3, padding=1, groups=8, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, 12, 1, bias=False),
        nn.BatchNorm2d(12),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(192, 20, bias=False),
        nn.BatchNorm1d(20),
        nn.ReLU(),
        nn.Linear(20, 10),
    )
    return isobit.Model(net, input=(1, 8, 8), scheme=scheme)


def step_of(
    model: isobit.Model, module: torch.nn.Module, x: torch.Tensor, y: torch.Tensor
) -> dict[str, torch.Tensor]:
    """Go forward and back through one batch; return all that came of it. module: the model as it is
    called.
    """
    model.zero_grad()
    logits = module(x)
    loss = torch.nn.functional.cross_entropy(logits, y)
    loss.backward()
    grads = {f"grad {k}": p.grad.clone() for k, p in model.named_parameters() if p.grad is not None}
    buffers = {k: value.clone() for k, value in model.named_buffers()}
    return {"loss": loss.detach(), "logits": logits.detach(), **grads, **buffers}


def images_of(step: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The batch of a step, of all processes."""
    part = slice(step * BATCH % len(TRAIN[0]), step * BATCH % len(TRAIN[0]) + BATCH)
    return TRAIN[0][part], TRAIN[1][part]


def in_own_loop(scheme: str, rank: int) -> list[tuple[dict[str, Any], dict[str, torch.Tensor]]]:
    """Train in a loop of torch alone; return of every step the state before it and what came of
    it: logits of all processes, their mean loss. The learning rate is one at which separate runs
    soon part.
    """
    model = deep(scheme)
    wrapped = torch.nn.parallel.DistributedDataParallel(model, forward_sync_buffers=False)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, nesterov=True)
    found = []
    own = slice(rank * BATCH // 2, (rank + 1) * BATCH // 2)
    for step in range(STEPS):
        before = {k: v.clone() for k, v in model.state_dict().items()}
        x, y = images_of(step)
        came = step_of(model, wrapped, x[own], y[own])
        halves = [torch.empty_like(came["logits"]) for _ in range(2)]
        dist.all_gather(halves, came["logits"])
        dist.all_reduce(came["loss"])
        came.update(logits=torch.cat(halves), loss=came["loss"] / 2)
        found.append((before, came))
        optimizer.step()
    return found


def sums(which: int) -> torch.Tensor:
    """Sums of a layer for a whole batch: small and large, far from 0, constant, of one position."""
    generator = torch.Generator().manual_seed(which)
    shape, scale, offset = SUMS[which]
    wide = torch.randn(shape, generator=generator) * scale + offset
    return wide.round_()


SUMS = (
    ((16, 8, 8, 6), 300.0, 0.0),
    ((16, 25, 5, 67), 2.0e5, 1.0e5),
    ((4, 33, 31, 3), 40.0, 60000.0),
    ((32, 129), 5000.0, -700.0),
    ((8, 4, 4, 16), 0.0, 77.0),
)


def hex_of(values: torch.Tensor) -> list[list[str]]:
    """Statistics to the bit, as they are kept: in float32."""
    found = moments_of(values)
    return [[float(v).hex() for v in m] for m in (found.mean, found.var)]


def refusal(rank: int, more: int, **options: int) -> str:
    """Return what training is refused with. more: examples that the second process has more."""
    chosen = {"epochs": 1, "batch_size": BATCH, **options}
    try:
        isobit.fit(model("affine"), digits(64 + more * rank), VAL, **chosen)
    except IsobitError as error:
        return str(error)
    return "nothing"


def uneven(rank: int, scheme: str) -> list[str]:
    """Return the statistics after a step in which one process's sums leave float32: equal weights,
    and inputs that are all as large as they can be, on the second process only.
    """
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(1, 96, 1),
        nn.BatchNorm2d(96),
        nn.ReLU(),
        nn.Conv2d(96, 64, 3, padding=1, bias=False),
        nn.BatchNorm2d(64),
        nn.Flatten(),
        nn.Linear(4096, 10),
    )
    with torch.no_grad():
        net[0].weight.fill_(1.0)
        net[0].bias.zero_()
        net[3].weight.fill_(0.1)
    own = isobit.Model(net, input=(1, 8, 8), scheme=scheme)
    own.calibrate(torch.randn(32, 1, 8, 8))
    own.train()
    x = torch.full((4, 1, 8, 8), 3.5) if rank else torch.randn(4, 1, 8, 8) * 0.3
    x[:2] *= -1
    out = own(x)
    assert isinstance(out, torch.Tensor)
    out.square().sum().backward()
    return [float(v).hex() for v in net[4].running_var]


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
    found["moments"] = [hex_of(sums(i).chunk(2)[rank]) for i in range(len(SUMS))]
    steps = {scheme: in_own_loop(scheme, rank) for scheme in ("affine", "pow2")}
    if rank == 0:
        torch.save(steps, place / "steps.pt")
    found["uneven"] = [uneven(rank, scheme) for scheme in ("affine", "pow2")]
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
