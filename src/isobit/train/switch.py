"""From a float network to integers: what a twin needs before its first exact step."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from isobit.train.adapting import adapt_inputs
from isobit.train.ranges import RangeObserver
from isobit.train.twin import Twin

FEWEST = 64
"""Examples that ranges are set from, where a batch is smaller."""


@torch.no_grad()
def adapt(twin: Twin, x: Tensor, batch_size: int, part: Callable[[int], slice]) -> None:
    """Set every range from a first batch of the training set x [N, *input], before any step.

    part: this process's share of so many examples; ranges and statistics are those of all shares.
    """
    count = min(len(x), max(batch_size, FEWEST))
    twin.calibrate(x[part(count)])


@torch.no_grad()
def adapt_input(twin: Twin, x: Tensor) -> None:
    """Set input statistics from the whole training set."""
    adapt_inputs(twin.net, x)


@torch.no_grad()
def forget_ranges(twin: Twin) -> None:
    """Make a twin one whose ranges were never set: they were another network's.

    Weights, input statistics and those of batch norms stay; weight ranges follow the weights, by
    which calibration would else see wrong codes.
    """
    for observer in twin.observers.values():
        assert isinstance(observer, RangeObserver)
        observer.seen.fill_(False)
        observer.frozen.fill_(False)
    twin.steps_seen.zero_()
    twin.update_ranges()
