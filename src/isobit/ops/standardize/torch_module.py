"""The `torch.nn.Module` behind `isobit.nn.Standardize`; imported only when torch is."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

PART = 4096
"""Images that `adapt` takes at once."""


class Standardize(torch.nn.Module):
    """Subtract a per-channel integer mean and divide by a power of two near the standard deviation.

    x: [N,C,...] raw values (pixels 0..255). Both numbers come from the first `batches` batches seen
    in training, or from `adapt`; afterwards they are constants, so the chip only subtracts and
    shifts.
    """

    mean: Tensor
    log2_scale: Tensor
    moments: Tensor
    observed: Tensor

    def __init__(self, batches: int = 64) -> None:
        super().__init__()
        self.batches = batches
        self.register_buffer("mean", torch.zeros(1))
        self.register_buffer("log2_scale", torch.zeros(1))
        self.register_buffer("moments", torch.zeros(3, 1, dtype=torch.float64))
        self.register_buffer("observed", torch.zeros((), dtype=torch.int64))

    def forward(self, x: Tensor) -> Tensor:
        """Return `(x - mean) / 2^log2_scale` in floating point."""
        mean = self.mean.reshape(1, -1, *[1] * (x.dim() - 2))
        return (x - mean) * torch.exp2(-self.log2_scale)

    @staticmethod
    def entries(shape: torch.Size) -> int:
        """Return how many means a batch of `shape` [N,...,C], channels last, has: one per
        channel.
        """
        return shape[-1]

    def materialize(self, entries: int) -> None:
        """Give the buffers their sizes; a network knows them only once its input is known."""
        if self.mean.numel() != entries:
            self.mean = torch.zeros(entries, device=self.mean.device)
            self.moments = torch.zeros(3, entries, dtype=torch.float64, device=self.mean.device)

    @torch.no_grad()
    def observe(self, x: Tensor) -> None:
        """Take one batch, channels last, into the moments; after `batches` of them nothing changes
        any more.
        """
        if int(self.observed) >= self.batches:
            return
        self.materialize(self.entries(x.shape))
        self._take(self._moments_of(x))

    def _moments_of(self, x: Tensor) -> Tensor:
        """Return count, sum and sum of squares of every entry."""
        flat = x.reshape(-1, self.mean.numel()).to(torch.float64)
        return torch.stack([torch.full_like(flat[0], len(flat)), flat.sum(0), flat.square().sum(0)])

    def _take(self, found: Tensor) -> None:
        if dist.is_available() and dist.is_initialized():
            dist.all_reduce(found)
        self.moments = self.moments + found
        self.observed += 1

    @torch.no_grad()
    def freeze(self) -> None:
        """Make what was observed so far the mean and scale in force."""
        if int(self.observed) == 0:
            return
        count, total, squares = self.moments
        mean = total / count
        deviation = (squares / count - mean.square()).mean().clamp_min(1e-12).sqrt()
        self.mean = mean.round().float()
        self.log2_scale = deviation.log2().round().clamp(-8, 15).float().reshape(1)

    @torch.no_grad()
    def adapt(self, x: Tensor) -> None:
        """Set the statistics from images [N,C,...] at once and keep them."""
        last = x.movedim(1, -1)
        self.materialize(self.entries(last.shape))
        self.moments.zero_()
        self.observed.zero_()
        # In parts: float64 copies of a whole training set would take eight times its pixels.
        parts = [self._moments_of(last[i : i + PART]) for i in range(0, len(last), PART)]
        self._take(torch.stack(parts).sum(0))
        self.freeze()
        self.observed.fill_(self.batches)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        if prefix + "mean" in state_dict:
            self.materialize(state_dict[prefix + "mean"].numel())
        super()._load_from_state_dict(state_dict, prefix, *args)
