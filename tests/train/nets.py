"""Small networks and data for the tests of this folder, and the comparison they all end in."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from isobit import data, nn
from isobit.core.types import AnyArray
from isobit.ops.schemes import Scheme
from isobit.run.golden import run_golden
from isobit.train.ranges import RangeOptions
from isobit.train.twin import Twin

SCHEMES = tuple(Scheme)


def digits(count: int = 32, start: int = 0) -> tuple[Tensor, Tensor]:
    """Raw pixels [N, 1, 8, 8] and labels [N] of the packed data set."""
    train, _ = data.load("digits")
    part = train.subset(slice(start, start + count))
    return torch.from_numpy(part.nchw()), torch.from_numpy(part.labels)


def mixed_net() -> torch.nn.Module:
    """Convolutions with and without batch norm, both pools, ReLU on both sides of one, a hidden
    linear layer.
    """
    return nn.Sequential(
        nn.Standardize(),
        nn.Conv2d(1, 6, 3, padding=1),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(6, 8, 3, stride=2, padding=1),
        nn.ReLU6(),
        nn.AvgPool2d(2),
        nn.Flatten(),
        nn.Linear(8, 12),
        nn.BatchNorm1d(12),
        nn.ReLU(),
        nn.Linear(12, 10),
    )


def plain_net() -> torch.nn.Module:
    """No batch norm and no standardisation: the input has an observed range."""
    return nn.Sequential(
        nn.Conv2d(1, 4, 3),
        nn.MaxPool2d(2),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(36, 10),
    )


def make_twin(
    net: torch.nn.Module,
    scheme: Scheme,
    *,
    shape: tuple[int, ...] = (1, 8, 8),
    ranges: RangeOptions | None = None,
) -> Twin:
    """Return a twin of `net` for the Cortex-M4."""
    return Twin(net, input=shape, target="cortex-m4", scheme=scheme, name="small", ranges=ranges)


def take_steps(
    model: torch.nn.Module, count: int = 3, *, rate: float = 0.05, batch: int = 16
) -> None:
    """Train a few steps of plain SGD: what any loop of a user's does."""
    optimizer = torch.optim.SGD(model.parameters(), lr=rate)
    model.train()
    for step in range(count):
        x, y = digits(batch, start=step * batch)
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()


def trained_twin(scheme: Scheme, net: torch.nn.Module | None = None, *, seed: int = 0) -> Twin:
    """Return a twin after a few steps and an update of its ranges, in training mode."""
    torch.manual_seed(seed)
    twin = make_twin(mixed_net() if net is None else net, scheme)
    take_steps(twin)
    twin.update_ranges()
    return twin


def assert_equals_export(twin: Twin, x: Tensor, got: dict[str, AnyArray]) -> None:
    """Compare every value of a forward pass with the golden model of the twin's export: 0 may
    differ.
    """
    graph = twin.export()
    golden = run_golden(graph, twin.quantize_input(x))
    assert set(golden) - set(twin.pooled) <= set(got) <= set(golden)
    for name, want in golden.items():
        if name not in got:  # training pools before it requantises, and never makes this value
            continue
        assert np.array_equal(got[name], want), name
        if name != graph.inputs[0].name:
            assert len(np.unique(want)) > 2, f"{name} says nothing: nearly constant"


def training_codes(twin: Twin, x: Tensor, *, moving: bool) -> dict[str, AnyArray]:
    """Return the codes of a forward pass with gradients enabled: the path that training takes."""
    values = twin._run_all(x, training=moving, pooling=True)
    return twin._codes({name: tensor.detach() for name, tensor in values.items()})
