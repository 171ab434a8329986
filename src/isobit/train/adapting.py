"""Layers that learn from the inputs themselves: `nn.Standardize`, `nn.MeanImage` and whatever else
is a `Watcher`.
"""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn


@runtime_checkable
class Watcher(Protocol):
    """What a module has that watches the values it is called with (`Builder.observe_with`)."""

    def observe(self, x: Tensor) -> None:
        """Take one batch, channels last, into its statistics."""

    def freeze(self) -> None:
        """Put the statistics so far in force."""

    def adapt(self, x: Tensor) -> None:
        """Set the statistics from examples [N,C,...] at once and keep them."""


@torch.no_grad()
def adapt_inputs(net: nn.Module, x: Tensor) -> None:
    """Have every module of a network that watches its input take its statistics from x, the raw
    values [N, *input] of a training set.

    Such a module reads the network's input itself: nothing else is raw.
    """
    for module in net.modules():
        if isinstance(module, Watcher):
            module.adapt(x)
