"""The `torch.nn.Module` behind `isobit.nn.DynamicConv2d`; imported only when torch is."""

from __future__ import annotations

import torch


class DynamicConv2d(torch.nn.Conv2d):
    """A `torch.nn.Conv2d`: in floating point there is no output step to find."""
