"""Shapes that a file with a dynamic batch leaves open, found again for a batch of 1.

Converters write 1 for every axis whose size they do not know, and lose track of it where a layer
folds the batch into another axis: Dense on [N, T, C] computes on [N*T, C], which is [1, C] in the
file. What follows from the inputs' shapes is taken instead.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from isobit.core.types import AnyArray, Shape
from isobit.importers.islands import TABULATED


def inferred(
    code: str, shapes: Sequence[Shape], data: Sequence[AnyArray | None], options: Mapping[str, Any]
) -> Shape | None:
    """Return the shape of an operator's only output, `None` where its inputs' do not say it.

    shapes, data: of the inputs; data is `None` for what is computed at run time.
    """
    if not shapes:
        return None
    if code == "RESHAPE":
        stored = data[1] if len(data) > 1 else None
        wanted = np.ravel(stored).tolist() if stored is not None else options.get("new_shape")
        return _reshaped(math.prod(shapes[0]), wanted)
    if code == "FILL" and data[0] is not None and data[0].dtype.kind == "i":
        return tuple(max(int(size), 0) for size in np.ravel(data[0]))
    if code == "FULLY_CONNECTED" and len(shapes) > 1 and len(shapes[1]) == 2:
        outputs, taps = shapes[1]
        rows, rest = divmod(math.prod(shapes[0]), max(taps, 1))
        if rest or not shapes[0]:
            return None
        whole = options.get("keep_num_dims") and shapes[0][-1] == taps
        return (*shapes[0][:-1], outputs) if whole else (rows, outputs)
    if code in TABULATED or code in ("SOFTMAX", "QUANTIZE", "DEQUANTIZE"):
        try:
            return tuple(np.broadcast_shapes(*shapes))
        except ValueError:
            return None
    return None


def _reshaped(elements: int, wanted: Sequence[int] | None) -> Shape | None:
    """Return a shape with its -1 filled in."""
    sizes = [int(size) for size in wanted or ()]
    known = math.prod(size for size in sizes if size != -1)
    if not sizes or known < 1 or sizes.count(-1) > 1 or elements % known:
        return None
    found = tuple(elements // known if size == -1 else size for size in sizes)
    return found if math.prod(found) == elements else None
