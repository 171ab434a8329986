"""Mean and variance of a layer's sums, over a batch that several processes may share."""

from __future__ import annotations

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from isobit.core.types import FloatArray
from isobit.train.channels import Moments, host

PARTS = 2
"""Of a batch, whose statistics are added up in their order: then one process and two that share a
batch, of as many threads each, find the same bits.
"""


@torch.no_grad()
def moments_of(values: Tensor) -> Moments:
    """Return mean and biased variance over all but the last axis of values [N,...,C], of all
    processes that share a batch.
    """
    return combined(torch.stack(parts_of(values)))


def parts_of(values: Tensor) -> list[Tensor]:
    """Return mean and biased variance [C] of every part of this process's batch, in their order."""
    parts = max(1, PARTS // processes())
    size = len(values) // parts if len(values) % parts == 0 else len(values)
    return [m for at in range(0, len(values), size) for m in _moments(values[at : at + size])]


def combined(parts: Tensor) -> Moments:
    """Return the moments of a batch from those of its parts in all processes. parts: this
    process's, [2 * parts, C].
    """
    found, world = parts, processes()
    if world > 1:
        own = parts.double()
        found = own.new_empty(world * len(own), own.shape[1])
        dist.all_gather_into_tensor(found, own)
    numbers = host(found).astype(np.float64)
    means, variances = numbers[::2], numbers[1::2]
    mean = means.sum(0) / len(means)
    return Moments(mean, (variances + np.square(means - mean)).sum(0) / len(means))


def of_sums(sums: Tensor, count: float | FloatArray) -> Moments:
    """Return the moments of a batch from the sums of values and of their squares, [2, C], of all
    processes. count: how many values of a channel they have.
    """
    mean, square = host(sums) / count
    return Moments(mean, np.maximum(square - np.square(mean), 0.0))


def shared_sums(sums: Tensor) -> Tensor:
    """Return sums over all processes."""
    if processes() == 1:
        return sums
    total = sums.clone()
    dist.all_reduce(total)
    return total


def _moments(values: Tensor) -> tuple[Tensor, Tensor]:
    """Return `moments_of` one part.

    On the CPU batch norm's own reduction is some 25 times faster than `var_mean`.
    """
    if values.device.type == "cpu" and values.dtype is torch.float32:
        second = channels_second(values)
        mean, var = torch.ops.aten.batch_norm_update_stats(second, None, None, 0.0)
        return mean, var
    var, mean = torch.var_mean(values.reshape(-1, values.shape[-1]), dim=0, correction=0)
    return mean, var


def anywhere(flag: bool) -> bool:
    """Return whether a flag is set in any process that shares the batch; all of them ask."""
    if processes() == 1:
        return flag
    found = torch.tensor(int(flag))
    dist.all_reduce(found, dist.ReduceOp.MAX)
    return bool(found)


def count_of(values: Tensor) -> int:
    """Return how many values [N,...,C] a channel has, over all processes."""
    return values.numel() // values.shape[-1] * processes()


def processes() -> int:
    """Return how many processes share a batch."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def channels_second(x: Tensor) -> Tensor:
    """Return an image as torch's operators take it; a view."""
    return x.permute(0, 3, 1, 2) if x.dim() == 4 else x


def channels_last(x: Tensor) -> Tensor:
    """Undo `channels_second`."""
    return x.permute(0, 2, 3, 1) if x.dim() == 4 else x
