"""Networks that end-to-end tests share: built fresh on every call, from a number."""

from __future__ import annotations

from typing import Any

import torch

import isobit
from isobit import nn


class Residual(nn.Module):  # type: ignore[misc]  # isobit.nn is made at run time
    """A residual block around a depthwise-separable branch."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(channels, channels, 3, padding=1, groups=channels)
        self.pointwise = nn.Conv2d(channels, channels, 1)
        self.relu = nn.ReLU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.relu(x + self.pointwise(self.relu(self.depthwise(x))))
        return result


def make(number: int) -> Any:
    """Return model `number` of 20: ten structures in both schemes."""
    torch.manual_seed(number)
    scheme = ("affine", "pow2")[number % 2]
    builders = (
        _cnn,
        _mlp,
        _batch_norm,
        _residual,
        _strided,
        _deep,
        _wide,
        _pooled,
        _grouped,
        _tall,
    )
    net, shape = builders[number // 2]()
    return isobit.Model(net, input=shape, target="cortex-m4", scheme=scheme, name=f"net{number}")


def train_a_little(model: Any, steps: int = 5) -> None:
    """A few optimiser steps on noise: enough to change every trained number."""
    torch.manual_seed(7)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    model.train()
    for _ in range(steps):
        x = torch.randint(0, 256, (16, *model.input_shape)).float()
        loss = (model(x) - torch.randn(16, 10)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    model.freeze()


def _cnn() -> tuple[Any, tuple[int, ...]]:
    net = nn.Sequential(
        nn.Standardize(),
        nn.Conv2d(1, 8, 3, padding=1),
        nn.MaxPool2d(2),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(8 * 4 * 4, 10),
    )
    return net, (1, 8, 8)


def _mlp() -> tuple[Any, tuple[int, ...]]:
    return nn.Sequential(
        nn.Linear(20, 33), nn.ReLU(), nn.Linear(33, 17), nn.ReLU6(), nn.Linear(17, 10)
    ), (20,)


def _batch_norm() -> tuple[Any, tuple[int, ...]]:
    net = nn.Sequential(
        nn.Standardize(),
        nn.Conv2d(3, 8, 3, stride=2, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(8 * 3 * 3, 10),
    )
    return net, (3, 8, 8)


def _residual() -> tuple[Any, tuple[int, ...]]:
    net = nn.Sequential(
        nn.Standardize(),
        nn.Conv2d(1, 6, 3, padding=1),
        Residual(6),
        nn.Flatten(),
        nn.Linear(6 * 7 * 5, 10),
    )
    return net, (1, 7, 5)


def _strided() -> tuple[Any, tuple[int, ...]]:
    net = nn.Sequential(
        nn.Conv2d(2, 5, (5, 3), stride=(2, 1), padding=(2, 0)),
        nn.Hardtanh(),
        nn.Flatten(),
        nn.Linear(5 * 5 * 5, 10),
    )
    return net, (2, 9, 7)


def _deep() -> tuple[Any, tuple[int, ...]]:
    layers: list[Any] = [nn.Standardize()]
    channels = 1
    for width in (4, 6, 8, 10):
        layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU()]
        channels = width
    return nn.Sequential(
        *layers, nn.MaxPool2d(3, 2, padding=1), nn.Flatten(), nn.Linear(160, 10)
    ), (1, 8, 8)


def _wide() -> tuple[Any, tuple[int, ...]]:
    net = nn.Sequential(
        nn.Standardize(),
        nn.Conv2d(3, 40, 1),
        nn.ReLU(),
        nn.MaxPool2d(4),
        nn.Flatten(),
        nn.Linear(160, 10),
    )
    return net, (3, 8, 8)


def _pooled() -> tuple[Any, tuple[int, ...]]:
    net = nn.Sequential(
        nn.Standardize(),
        nn.Conv2d(1, 12, 5, padding=2),
        nn.ReLU(),
        nn.AvgPool2d(3, 2, padding=1),
        nn.Conv2d(12, 10, 1),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
    )
    return net, (1, 10, 6)


def _grouped() -> tuple[Any, tuple[int, ...]]:
    net = nn.Sequential(
        nn.Standardize(),
        nn.Conv2d(4, 8, 3, groups=2, dilation=2),
        nn.ReLU(),
        nn.Conv2d(8, 8, 3, groups=8, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(8 * 4 * 4, 10),
    )
    return net, (4, 8, 8)


def _tall() -> tuple[Any, tuple[int, ...]]:
    net = nn.Sequential(
        nn.Standardize(),
        nn.Conv2d(1, 8, (10, 4), stride=2, padding=(5, 1)),
        nn.ReLU(),
        Residual(8),
        nn.AvgPool2d((13, 5)),
        nn.Flatten(),
        nn.Linear(8, 10),
    )
    return net, (1, 25, 10)
