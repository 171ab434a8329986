"""Compiled kernels against NumPy."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from isobit.core.types import AnyArray
from isobit.train import (
    channels,
    norm,
)

from .compiled import kernels, needs_vectors

pytestmark = needs_vectors


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("shape", [(3, 5, 7, 1), (40, 9, 9, 31), (64, 16, 16, 48)])
def test_sums_are_exact_in_any_parts(shape: tuple[int, ...], threads: int) -> None:
    """Squares up to 2^40, of 16384 values: below 2^54, so all but the last bits of 2^53 are free;
    these draws stay below it.
    """
    rng = np.random.default_rng(0)
    x = rng.integers(-(1 << 19), 1 << 19, shape)
    torch.set_num_threads(threads)  # back to one: `conftest.one_thread`
    try:
        values = torch.from_numpy(x).float()
        whole = kernels().moments(values)
        parts = [kernels().moments(part) for part in values.chunk(3)]
    finally:
        torch.set_num_threads(1)
    flat = x.reshape(-1, shape[-1])
    assert np.array_equal(whole.numpy(), [flat.sum(0), np.square(flat).sum(0)])
    assert torch.equal(torch.stack(parts).sum(0), whole)


def gains(rng: np.random.Generator, size: float) -> channels.Gains:
    gamma = rng.normal(0, size, 40).astype(np.float32)
    gamma[:3] = (0.0, -1e-9, 3e4)
    beta, bias = rng.normal(0, 3, (2, 40)).astype(np.float32)
    own = channels.Arrays(gamma, beta, bias, 1e-5)
    return channels.gains(own, 2.0 ** rng.integers(-14, -4, 40), 0.013)


@pytest.mark.parametrize("size", [1.0, 1e-4, 300.0], ids=["usual", "off the grid", "large"])
@pytest.mark.parametrize("seed", range(20))
def test_folding_is_numpys_to_the_bit(size: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    own = gains(rng, size)
    count = 640
    mean, deviation = rng.normal(0, 900, 40), rng.gamma(2, 400, 40)
    sums = np.array([mean * count, (mean**2 + deviation**2) * count]).round()
    rows = np.array([getattr(own, name) for name in own.__slots__])
    statistics, line = kernels().fold(torch.from_numpy(sums), count, torch.from_numpy(rows))
    found = channels.statistics_of(norm_moments(sums, count), own)
    assert np.array_equal(statistics.numpy(), [found.mean, found.var])
    folded = channels.fold(own, found)
    offset = folded.bias * folded.real + 0.5
    assert np.array_equal(line.double().numpy(), [offset, folded.real])
    assert (line.dtype is torch.float32) == (folded.on_grid and np.abs(offset).max() <= 256)


def norm_moments(sums: AnyArray, count: int) -> channels.Moments:
    mean, square = sums / count
    return channels.Moments(mean, np.maximum(square - mean**2, 0))


@pytest.mark.parametrize("wide", [False, True], ids=["float32", "float64"])
def test_codes_at_every_threshold(wide: bool) -> None:
    """Beside each threshold of each multiplier, against the integers of the chip."""
    mult = np.array([37, 32, 65535, 4097, 300, 9363, 21, 77777])
    shift = np.array([16] * 8 if not wide else [24, 20, 30, 27, 18, 31, 22, 33])
    bias = np.array([0, 5, -77, 1000, -123, 3, 0, -9])
    thresholds = np.arange(-130, 131)[:, None] * 2.0**shift / mult - bias
    acc = (np.floor(thresholds)[None] + np.arange(-2, 3)[:, None, None]).reshape(-1, 8)
    acc = np.clip(acc, -(1 << 23), 1 << 23).astype(np.int64)
    half = 1 << (shift - 1)
    want = np.clip(((acc + bias) * mult + half) >> shift, -100, 127)
    dtype = torch.float64 if wide else torch.float32
    real = mult * 2.0**-shift
    line = [torch.from_numpy(part).to(dtype) for part in (bias * real + 0.5, real)]
    found, packed = kernels().codes(torch.from_numpy(acc).float(), *line, -100, 127)
    assert np.array_equal(found.numpy(), want)
    assert np.array_equal(packed.bytes.numpy(), want + 100)
    assert np.array_equal(kernels().unpack(packed).numpy(), want)


def test_lines_beyond_float32_are_the_same_with_and_without_kernels() -> None:
    folded = channels.Folded(
        np.array([20000.0, 30000.0]),
        np.array([26.0, 40.0]),
        np.array([20000.0 * 2.0**-26, 30000.0 * 2.0**-40]),
        np.array([-7.0, 2.0**29]),
        on_grid=False,
    )
    acc = torch.randint(-(1 << 23), 1 << 23, (500, 2), generator=torch.Generator().manual_seed(0))
    line = norm.line_of(folded, acc.float(), (-128, 127), (False, False))
    assert line.add.dtype is torch.float64
    product = (acc.numpy() + folded.bias.astype(np.int64)) * folded.mult.astype(np.int64)
    shift = folded.shift.astype(np.int64)
    want = np.clip((product + (1 << (shift - 1))) >> shift, -128, 127)
    assert np.array_equal(line.floored(acc.float()).numpy(), want)
    assert np.array_equal(norm.codes_of(acc.float(), line, kernels())[0].numpy(), want)
