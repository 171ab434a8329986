"""What the pools share: means of codes, and torch's adaptive output sizes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from isobit.core import fixed
from isobit.core.errors import IsobitError, Overflow
from isobit.core.fixed import Average
from isobit.core.types import AnyArray, IntArray, TensorType

if TYPE_CHECKING:
    import torch
    from torch import Tensor


def mean_codes(
    centred: IntArray, count: AnyArray, y: TensorType, clamp: tuple[int, int], rounding: Average
) -> IntArray:
    """`clamp(D(sum, count))` from the sums of `x - Zx`; the division is of the codes' own sum."""
    total = centred + count * y.zero
    return fixed.saturate(fixed.average(total, count, rounding), *clamp)


def sum_carrier(terms: int, kind: TensorType) -> torch.dtype:
    """The torch dtype in which `terms` centred codes of `kind` add up exactly in any order."""
    import torch

    from isobit.core.fixed_torch import F32_EXACT

    return (
        torch.float32 if terms * (kind.dtype.high - kind.dtype.low) <= F32_EXACT else torch.float64
    )


def mean_carriers(
    centred: Tensor, count: AnyArray, y: TensorType, clamp: tuple[int, int], rounding: Average
) -> Tensor:
    """Torch: the same from sums of carriers, in the sums' dtype, as centred float32 carriers."""
    import torch

    from isobit.core import fixed_torch as ft

    counts = torch.as_tensor(count, dtype=centred.dtype, device=centred.device)
    # A mean never leaves the carrier: a bound at its end clips nothing and takes no gradient away.
    low = clamp[0] if clamp[0] > y.dtype.low else -np.inf
    high = clamp[1] if clamp[1] < y.dtype.high else np.inf
    codes = ft.average(centred + counts * y.zero, counts, rounding, float(low), float(high))
    return (codes - y.zero).to(torch.float32)


def overflow_problems(where: str, terms: int, kind: TensorType) -> list[IsobitError]:
    """Refuse means of so many codes of `kind` that sum and rounding term may leave int32."""
    worst = -kind.dtype.low * terms + terms // 2
    if worst < 2**31:
        return []
    return [
        Overflow(
            where=where,
            what="largest possible sum of a window",
            want="below 2^31",
            got=f"{worst} ({terms} values)",
            fix="Pool in two steps.",
        )
    ]


def adaptive_kernel(build: Any, size: Any, x: Any) -> tuple[int, int]:
    """Return kernel = stride of an adaptive pool of the image `x` to torch's output `size`.

    torch's windows are all equal, and do not overlap, exactly where the size divides the input's.
    """
    shape = x.type.shape
    if len(shape) != 4:
        raise build.refuse(
            "input", "an image", f"shape {list(shape)}", "Pool before the image is flattened."
        )
    wanted = tuple(size) if isinstance(size, tuple | list) else (size, size)
    sizes = [own if w is None else w for w, own in zip(wanted, shape[1:3], strict=False)]
    if len(sizes) != 2 or any(w < 1 or own % w for w, own in zip(sizes, shape[1:3], strict=True)):
        raise build.refuse(
            "output size",
            f"1, or divisors of the image's {shape[1]}x{shape[2]}",
            str(size),
            "Use AvgPool2d or MaxPool2d with a kernel and stride that give about this size.",
        )
    return shape[1] // sizes[0], shape[2] // sizes[1]
