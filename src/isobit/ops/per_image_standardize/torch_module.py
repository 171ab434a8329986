"""The `torch.nn.Module` behind `isobit.nn.PerImageStandardize`; imported only when torch is."""

from __future__ import annotations

import math

import torch
from torch import Tensor


class PerImageStandardize(torch.nn.Module):
    """Bring every image to mean 0 and deviation 1: `(x - m) / max(s, 1 / sqrt(N))`.

    x: [N,C,...] raw values (pixels 0..255). m, s: mean and standard deviation of an image's N
    values, all channels together, as `tf.image.per_image_standardization` has them. No state.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Return it in floating point."""
        axes = list(range(1, x.dim()))
        deviation = x.std(axes, correction=0, keepdim=True)
        least = 1 / math.sqrt(x[0].numel())
        return (x - x.mean(axes, keepdim=True)) / deviation.clamp_min(least)
