"""Axes of torch's tensors and of ours: images are NCHW there, NHWC here; all else is the same."""

from __future__ import annotations

import math
from typing import Any

from isobit.core.types import Shape

STORED = (0, 3, 1, 2)
"""Where the axes N, C, H, W of a torch image lie in an NHWC tensor."""
ROWS_FOR_COLUMNS = (0, 2, 1, 3)
"""The permutation of an NHWC tensor that exchanges height and width."""


def stored_axis(dim: int, rank: int) -> int:
    """Return our axis for torch's `dim` (negative ones count from the end) of `rank` axes.

    Raises IndexError for a `dim` outside the tensor, as torch does.
    """
    if not -rank <= dim < rank:
        raise IndexError(f"dim {dim} of a tensor of {rank} axes")
    dim %= rank
    return STORED[dim] if rank == 4 else dim


def require_axis(build: Any, dim: Any, rank: int) -> int:
    """`stored_axis`; refuses what is no number, outside the tensor, or the batch."""
    if isinstance(dim, int) and -rank <= dim < rank and dim % rank != 0:
        return stored_axis(dim, rank)
    raise build.refuse(
        "dim",
        f"an axis after the batch: 1..{rank - 1}, or negative",
        str(dim),
        "The batch stays whole and first; the chip runs one sample at a time.",
    )


def stored_permutation(dims: tuple[int, ...]) -> tuple[int, ...]:
    """Return our `perm` for torch's `permute(dims)`, both of all axes, batch first."""
    rank = len(dims)
    if rank != 4:
        return dims
    # Our axis i holds torch's axis order[i]; y's torch axis d is x's torch axis dims[d].
    order = (0, 2, 3, 1)
    return tuple(STORED[dims[torch_axis]] for torch_axis in order)


def moves_nothing(shape: Shape, perm: tuple[int, ...]) -> bool:
    """Whether a permutation leaves every element at its place: long axes keep their order."""
    kept = [axis for axis in perm if shape[axis] > 1]
    return kept == sorted(kept)


def outer_inner(shape: Shape, axis: int) -> tuple[int, int]:
    """Return the element counts before and after `axis`."""
    return math.prod(shape[:axis]), math.prod(shape[axis + 1 :])
