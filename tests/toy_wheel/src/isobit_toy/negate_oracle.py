"""What `negate` means, in loops that import nothing of isobit: the battery's independent oracle."""

from __future__ import annotations

from typing import Any

import numpy as np


def oracle(inputs: dict[str, Any], attrs: dict[str, Any], zeros: dict[str, int]) -> np.ndarray:
    """Return min(max(2 * Zy - x, -128), 127) for every code."""
    x = inputs["x"]
    y = np.empty(x.shape, dtype=np.int64)
    for index in np.ndindex(x.shape):
        y[index] = min(max(2 * zeros.get("y", 0) - int(x[index]), -128), 127)
    return y
