"""The torch module behind `isobit.nn.Negate`; the scan leaves files called `torch_*.py` alone."""

from torch import Tensor, nn


class Negate(nn.Module):
    """y = -x."""

    def forward(self, x: Tensor) -> Tensor:
        """Return the opposite; what a plain float network computes."""
        return -x
