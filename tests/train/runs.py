"""Runs with everything that draws random numbers or keeps a state of its own, in two schemes."""

from __future__ import annotations

import hashlib
from typing import Any

import torch

import isobit
from isobit import nn
from isobit.train.recipe import Augment

from .nets import digits

TRAIN, VAL = digits(90), digits(32, start=900)
"""90 examples are 3 batches of 32, the last one smaller."""
OPTIONS: dict[str, Any] = {
    "epochs": 3,
    "batch_size": 32,
    "seed": 7,
    "augment": Augment(crop_padding=1, flip=True, brightness=0.2, mixup=0.3),
    "ema": 0.9,
    "label_smoothing": 0.1,
    "learning_rate": 0.01,
}


def build(scheme: str, seed: int = 0, width: int = 4) -> isobit.Model:
    torch.manual_seed(seed)
    net = nn.Sequential(
        nn.Standardize(),
        nn.Conv2d(1, width, 3, stride=2, padding=1),
        nn.BatchNorm2d(width),
        nn.ReLU(),
        nn.Flatten(),
        nn.Dropout(0.2),
        nn.Linear(width * 16, 10),
    )
    return isobit.Model(net, input=(1, 8, 8), scheme=scheme, name="small")


def digest(module: torch.nn.Module) -> str:
    found = hashlib.sha256()
    for key, value in sorted(module.state_dict().items()):
        found.update(key.encode() + value.detach().contiguous().numpy().tobytes())
    return found.hexdigest()
