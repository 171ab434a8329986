"""The `torch.nn.Module` behind `isobit.nn.MeanImage`; imported only when torch is."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from isobit.ops.standardize.torch_module import Standardize


class MeanImage(Standardize):
    """Subtract an integer mean per pixel and divide by a power of two near the deviation that is
    left.

    x: [N,C,...] raw values (pixels 0..255). Both come from the first `batches` batches seen in
    training, or from `adapt`; afterwards they are constants. `mean`: one entry per pixel and
    channel, channels last, in one row.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Return `(x - mean) / 2^log2_scale` in floating point."""
        last = x.movedim(1, -1)
        mean = self.mean.reshape(last.shape[1:]) if self.mean.numel() > 1 else self.mean
        return ((last - mean) * torch.exp2(-self.log2_scale)).movedim(-1, 1)

    @staticmethod
    def entries(shape: torch.Size) -> int:
        """One mean per value of an example."""
        return math.prod(shape[1:])

    @torch.no_grad()
    def freeze(self) -> None:
        """Make what was observed so far the mean image and scale in force."""
        super().freeze()
        self.mean = self.mean.clamp(0, 255)  # as the pixels that it is subtracted from
