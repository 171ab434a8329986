"""What compiled kernels have to compute before they are used: codes, sums and rounded weights
exactly, gradients nearly; for whole vectors, what is left over, and several threads.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from isobit.core.types import AnyArray
from isobit.train import channels

if TYPE_CHECKING:
    from isobit.train.native import Kernels

ENDS = (-100, 127)
"""Of the codes that are tried."""
SIZES = ((1, 1), (5, 3), (40, 16), (7, 33), (90, 50))
"""Rows and channels."""


def first_fault(found: Kernels) -> str:
    """Return which kernel is wrong; "" where none is."""
    checks: dict[str, Callable[[Kernels, np.random.Generator, int, int], bool]] = {
        "moments": _moments,
        "fold": _fold,
        "codes": _codes,
        "weights": _weights,
        "gradient": _gradient,
    }
    try:
        for threads in (1, 3) if found.has_threads else (1,):
            found.threads = threads
            for rows, width in SIZES:
                for name, check in checks.items():
                    if not check(found, np.random.default_rng(0), rows, width):
                        return f"{name} of {rows} x {width} in {threads} threads"
    finally:
        found.threads = None
    return ""


def _single(values: AnyArray) -> Tensor:
    return torch.from_numpy(values.astype(np.float32))


def _moments(found: Kernels, rng: np.random.Generator, rows: int, width: int) -> bool:
    x = rng.integers(-(1 << 20), 1 << 20, (rows, width))
    return np.array_equal(found.moments(_single(x)), [x.sum(0), np.square(x).sum(0)])


def _fold(found: Kernels, rng: np.random.Generator, rows: int, width: int) -> bool:
    """On the grid of 2^-16 and off it; with a parameter that is not a number."""
    for size in (1.0, 1e-4, np.nan):
        gamma, beta, bias = rng.normal(0, 1, (3, width)).astype(np.float32)
        gamma[0] *= size
        own = channels.Arrays(gamma * np.float32(min(size, 1.0)), beta, bias, 1e-5)
        gains = channels.gains(own, np.full(width, 2.0**-9), 0.02)
        mean, deviation = rng.normal(0, 900, width), rng.gamma(2, 400, width)
        sums = np.array([mean, mean**2 + deviation**2]) * rows
        moments = channels.Moments(
            sums[0] / rows, np.maximum(sums[1] / rows - np.square(sums[0] / rows), 0)
        )
        stacked = torch.from_numpy(np.array([getattr(gains, name) for name in gains.__slots__]))
        statistics, line = found.fold(torch.from_numpy(sums), rows, stacked)
        wanted = channels.statistics_of(moments, gains)
        folded = channels.fold(gains, wanted)
        wanted_line = [folded.bias * folded.real + 0.5, folded.real]
        if not (
            np.array_equal(statistics, [wanted.mean, wanted.var])
            and np.array_equal(line, wanted_line, equal_nan=True)
        ):
            return False
    return True


def _codes(found: Kernels, rng: np.random.Generator, rows: int, width: int) -> bool:
    x = rng.integers(-(1 << 20), 1 << 20, (rows, width)).astype(np.float64)
    mult = rng.integers(1 << 4, 1 << 12, width) * 2.0**-16
    add = np.floor(-x[0] * mult) + rng.integers(0, 1 << 16, width) * 2.0**-16
    add = np.clip(np.floor(add * 16) / 16, -(2.0**18), 2.0**18)
    wanted = np.clip(np.floor(x * mult + add), *ENDS)
    for line in ((_single(add), _single(mult)), (torch.from_numpy(add), torch.from_numpy(mult))):
        codes, packed = found.codes(_single(x), *line, *ENDS)
        if not (np.array_equal(codes, wanted) and np.array_equal(found.unpack(packed), wanted)):
            return False
    return True


def _weights(found: Kernels, rng: np.random.Generator, rows: int, width: int) -> bool:
    w, slope = _single(rng.standard_normal((width, rows)) * 70), _single(rng.normal(0, 1, width))
    rounded = found.rounded(w, slope, -127)
    wanted = (w * slope[:, None]).round().clamp(-127, 127)
    if rounded is None or not torch.equal(rounded[0].float(), wanted):
        return False
    real = found.real(rounded[0], slope)
    w[-1, -1] = torch.nan
    return (
        torch.equal(rounded[1].float(), wanted.sum(1))
        and torch.equal(real, wanted * slope[:, None])
        and found.rounded(w, slope, -127) is None
    )


def _gradient(found: Kernels, rng: np.random.Generator, rows: int, width: int) -> bool:
    """Sums and products are in float32: a few roundings of 2^-24 each."""
    grad, away = rng.standard_normal((2, rows, width)).astype(np.float32)
    layer = rng.uniform(0.5, 2, (6, width)).astype(np.float32)
    _, scaled, mean, inverse, turn, lift = layer.astype(np.float64)
    x = _single(away + mean)
    codes = rng.integers(0, 4, (rows, width))
    y = torch.from_numpy(codes.astype(np.uint8))
    for own_y, inside in ((y, (0, 3)), (y, (-1, 3)), (y, (0, 256)), (None, (0, 0))):
        given = torch.from_numpy(grad), own_y, x, torch.from_numpy(layer), inside
        sums = found.gradient_sums(*given)
        out, gamma, beta = found.gradient(*given, sums, sums, rows)
        low, high = inside
        passed = grad if own_y is None else grad * ((codes > low) & (codes < high))
        centred = x.numpy().astype(np.float64) - mean
        exact = np.array([passed.sum(0, np.float64), (passed * centred).sum(0)])
        wanted = (passed - exact[0] / rows - centred * exact[1] / rows * inverse**2) * inverse
        pairs = (
            (sums, exact),
            (out, wanted * scaled),
            (gamma, exact[1] * inverse * turn),
            (beta, exact[0] * lift),
        )
        # Values are of the size of 1, sums of `rows` of them, factors up to 2^4.
        room = 1e-6 * 16 * (rows + 8)
        if any(np.abs(own.numpy() - value).max() > room for own, value in pairs):
            return False
    return True
