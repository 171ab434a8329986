"""What a tensor is: shape x carrier dtype x encoding x layout.

An `Encoding` says which real number a stored code stands for. It is a closed sum; a new number
format is a new member with its own `decode`, and nothing else in the IR changes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from isobit.core.dtypes import DType

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]
AnyArray = NDArray[Any]
Shape = tuple[int, ...]
"""Dimensions, outermost first. Axis 0 of an activation is the batch: 1 on the chip, N in NumPy and
torch.
"""


@dataclass(frozen=True, slots=True)
class Real:
    """The element is the number itself (float graphs)."""

    def decode(self, codes: AnyArray) -> tuple[FloatArray, int]:
        """Return the values themselves."""
        return codes.astype(np.float64), 0


@dataclass(frozen=True, slots=True)
class Raw:
    """Integers without a scale: multipliers, shifts, table entries."""

    def decode(self, codes: AnyArray) -> tuple[IntArray, int]:
        """Return the integers themselves."""
        return codes.astype(np.int64), 0


@dataclass(frozen=True, slots=True)
class Affine:
    """`r = scale * (q - zero)` (Jacob et al. 2018, eq. 1); `scale` has one entry, or one per index
    of `axis`.
    """

    scale: tuple[float, ...]
    zero: int = 0
    axis: int | None = None

    def decode(self, codes: AnyArray) -> tuple[IntArray, int]:
        """Return `q - zero`; the float scale is an annotation and not part of the exact value."""
        return codes.astype(np.int64) - self.zero, 0


@dataclass(frozen=True, slots=True)
class Pow2:
    """`r = q * 2**-frac`: Qm.n with n = `frac`; one entry, or one per index of `axis`.

    `dynamic`: `r = q * 2**(e - frac)`, where e is another value of the network, found at run time.
    """

    frac: tuple[int, ...]
    axis: int | None = None
    dynamic: bool = False

    def decode(self, codes: AnyArray) -> tuple[IntArray, int]:
        """Return `(q, -frac)`; per tensor only."""
        if len(self.frac) != 1 or self.dynamic:
            raise ValueError("per-channel and dynamic Pow2 have no single exponent")
        return codes.astype(np.int64), -self.frac[0]


Encoding = Real | Raw | Affine | Pow2


class Layout(Enum):
    """How elements are ordered in memory. ROW_MAJOR is NHWC for images, OHWI for convolution
    weights.
    """

    ROW_MAJOR = "row_major"


class Storage(Enum):
    """How a constant's logical integers are kept in flash. DENSE is the carrier, element by
    element.
    """

    DENSE = "dense"


@dataclass(frozen=True, slots=True)
class TensorType:
    """The static type of a value."""

    shape: Shape
    dtype: DType
    encoding: Encoding
    layout: Layout = Layout.ROW_MAJOR

    @property
    def elements(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def size_bytes(self) -> int:
        """Bytes of the dense carrier."""
        return self.elements * self.dtype.size_bytes

    @property
    def zero(self) -> int:
        """The code that stands for 0.0 (0 for every encoding but `Affine`)."""
        return self.encoding.zero if isinstance(self.encoding, Affine) else 0

    def with_shape(self, shape: Shape) -> TensorType:
        """Return the same type with another shape."""
        return replace(self, shape=shape)


def scale_of(encoding: Encoding) -> FloatArray:
    """The step(s) of an encoding as float64, one per channel (or one); 1.0 for `Raw` and `Real`."""
    match encoding:
        case Affine(scale=scale):
            return np.asarray(scale, dtype=np.float64)
        case Pow2(frac=frac):
            return np.exp2(-np.asarray(frac, dtype=np.float64))
        case _:
            return np.ones(1)
