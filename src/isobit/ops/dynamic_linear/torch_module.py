"""The `torch.nn.Module` behind `isobit.nn.DynamicLinear`; imported only when torch is."""

from __future__ import annotations

import torch


class DynamicLinear(torch.nn.Linear):
    """A `torch.nn.Linear`: in floating point there is no output step to find."""
