"""What a training will cost, measured on a copy before it starts."""

from __future__ import annotations

import copy
import time

import torch
import torch.nn.functional as F  # torch's own convention

from isobit.core.arguments import Arguments
from isobit.data import Dataset
from isobit.train.examples import pixels
from isobit.train.twin import Twin

STEPS = 5


def step_seconds(model: Twin, train: Dataset, batch_size: int) -> float:
    """Return seconds per training step, the mean of a few steps of a deep copy; the model is
    untouched.
    """
    given = Arguments("step_seconds")
    given.instance("model", model, Twin, "an isobit.Model")
    given.instance("train", train, Dataset, "a Dataset")
    batch_size = given.integer("batch_size", batch_size, at_least=1)
    given.check()
    state = torch.random.get_rng_state()
    probe = copy.deepcopy(model)
    probe.train()
    x = torch.from_numpy(pixels(train.subset(slice(0, batch_size)), probe))
    y = torch.from_numpy(train.labels[:batch_size])
    optimizer = torch.optim.SGD(probe.parameters(), lr=0.0)

    def step() -> None:
        loss = F.cross_entropy(probe(x), y)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]  # torch's backward is untyped
        optimizer.step()

    step()
    began = time.monotonic()
    for _ in range(STEPS):
        step()
    torch.random.set_rng_state(state)
    return (time.monotonic() - began) / STEPS
