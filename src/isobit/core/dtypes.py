"""Carrier dtypes: what a tensor's elements are stored as on the chip."""

from __future__ import annotations

from enum import Enum
from functools import cache

import numpy as np
from numpy.typing import DTypeLike


class DType(Enum):
    """A carrier. The value is its name in IR text."""

    S8 = "s8"
    U8 = "u8"
    S16 = "s16"
    S32 = "s32"
    S64 = "s64"
    F32 = "f32"
    F64 = "f64"

    @property
    def numpy(self) -> np.dtype[np.generic]:
        """The NumPy dtype with the same range and size."""
        return np.dtype(_NUMPY[self])

    @property
    def size_bytes(self) -> int:
        """Bytes per element, also the natural alignment on every target."""
        return int(self.numpy.itemsize)

    @property
    def is_integer(self) -> bool:
        """Whether the carrier holds integers."""
        return self.value[0] in "su"

    @property
    @cache
    def low(self) -> int:
        """Smallest integer the carrier holds; integers only."""
        return int(np.iinfo(self.numpy).min)  # type: ignore[type-var]  # floats have no iinfo

    @property
    @cache
    def high(self) -> int:
        """Largest integer the carrier holds; integers only."""
        return int(np.iinfo(self.numpy).max)  # type: ignore[type-var]  # floats have no iinfo

    @property
    def c_name(self) -> str:
        """The C11 type."""
        return _C[self]


_NUMPY: dict[DType, DTypeLike] = {
    DType.S8: np.int8,
    DType.U8: np.uint8,
    DType.S16: np.int16,
    DType.S32: np.int32,
    DType.S64: np.int64,
    DType.F32: np.float32,
    DType.F64: np.float64,
}
_C = {
    DType.S8: "int8_t",
    DType.U8: "uint8_t",
    DType.S16: "int16_t",
    DType.S32: "int32_t",
    DType.S64: "int64_t",
    DType.F32: "float",
    DType.F64: "double",
}


def of_numpy(dtype: DTypeLike) -> DType:
    """The carrier for a NumPy dtype; `KeyError` for one that has none."""
    wanted = np.dtype(dtype)
    return {np.dtype(numpy): carrier for carrier, numpy in _NUMPY.items()}[wanted]
