"""The rule that every `clamp` attribute obeys."""

from __future__ import annotations

from isobit.core.errors import BadAttribute, IsobitError
from isobit.core.types import TensorType


def clamp_problems(where: str, kind: TensorType, clamp: tuple[int, int]) -> list[IsobitError]:
    """Return what is wrong with bounds in codes of `kind`; nothing is for float graphs."""
    low, high = clamp
    if not kind.dtype.is_integer or kind.dtype.low <= low <= high <= kind.dtype.high:
        return []
    return [
        BadAttribute(
            where=where,
            what="clamp",
            want=f"{kind.dtype.low} <= low <= high <= {kind.dtype.high}",
            got=str(clamp),
            fix="Clamps are output codes.",
        )
    ]
