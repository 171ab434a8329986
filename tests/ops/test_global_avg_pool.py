from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor
from torch import nn as torch_nn

from isobit import nn
from isobit.core.errors import NotTraceable
from isobit.core.types import Affine
from isobit.ops import sampling
from isobit.ops.base import NodeTypes, Scheme
from isobit.ops.global_avg_pool.op import GlobalAvgPool, GlobalAvgPoolAttrs, GlobalAvgPoolInputs
from isobit.ops.global_avg_pool.reference import Reference

from .nets import assert_float_equal, assert_same_bits, float_graph


class Call(torch_nn.Module):
    """A module of one function."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


@pytest.mark.parametrize("size", [1, (1, 1), (None, 1)], ids=str)
def test_adaptive_pool_to_one_means_torch(size: object) -> None:
    assert_float_equal(nn.AdaptiveAvgPool2d(size), (3, 1, 6))


@pytest.mark.parametrize("size", [2, (1, 2), (None, None), (None, 1), (4, 3)], ids=str)
def test_adaptive_pool_to_a_divisor_means_torch(size: object) -> None:
    assert_float_equal(nn.AdaptiveAvgPool2d(size), (3, 4, 6))


@pytest.mark.parametrize("size", [3, (1, 4), (None, 5), 0], ids=str)
def test_adaptive_pool_with_unequal_windows_is_refused(size: object) -> None:
    with pytest.raises(NotTraceable, match="output size"):
        float_graph(nn.AdaptiveAvgPool2d(size), (3, 4, 6))


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x.mean((2, 3)),
        lambda x: x.mean(dim=[-1, -2], keepdim=True),
        lambda x: torch.mean(x, (2, 3), True),
        lambda x: torch.nn.functional.adaptive_avg_pool2d(x, 1),
    ],
)
def test_functions_mean_torch(function: Callable[[Tensor], Tensor]) -> None:
    assert_float_equal(Call(function), (3, 4, 6))


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x.mean(),
        lambda x: x.mean(1),
        lambda x: x.mean((1, 2)),
        lambda x: x.flatten(1).mean((2, 3)),
    ],
)
def test_other_means_are_refused(function: Callable[[Tensor], Tensor]) -> None:
    with pytest.raises(NotTraceable, match="height and width"):
        float_graph(Call(function), (3, 4, 6))


@pytest.mark.parametrize("pixels", [*range(1, 400), 4095, 4096, 4097, 9216, 2**20 + 1, 2**23 - 1])
def test_reciprocal_divides_exactly(pixels: int) -> None:
    x = sampling.kind((1, pixels, 1, 1), Affine((0.1,), 5))
    q = NodeTypes(GlobalAvgPoolInputs(x), (x.with_shape((1, 1, 1, 1)),))
    g = Reference.geometry(GlobalAvgPoolAttrs(), q)
    assert g["inverse"] < 1 << 32
    for quotient in range(1, 130):
        for size in (quotient * pixels - 1, quotient * pixels):
            if size <= 128 * pixels + pixels // 2:
                assert size * g["inverse"] < 1 << 64
                assert size * g["inverse"] >> g["shift"] == size // pixels


@pytest.mark.parametrize("code", [-128, 127])
def test_surrogate_is_exact_beyond_float32(code: int) -> None:
    """300 x 300 extreme codes sum to more than 2^24 away from the zero point."""
    x = sampling.kind((1, 300, 300, 1), Affine((0.1,), -code - 1))
    q = NodeTypes(GlobalAvgPoolInputs(x), (x.with_shape((1, 1, 1, 1)),))
    codes = np.full((2, 300, 300, 1), code, dtype=np.int64)
    codes[1, :150] -= np.sign(code)
    codes[1, 0, 0] = 0
    want = GlobalAvgPool.integer(GlobalAvgPoolAttrs(), q, GlobalAvgPoolInputs(codes))
    carriers = torch.as_tensor(codes - x.zero).float()
    got = GlobalAvgPool.surrogate(GlobalAvgPoolAttrs(), q, GlobalAvgPoolInputs(carriers))
    assert np.array_equal(got.numpy() + x.zero, want)


@pytest.mark.parametrize("scheme", Scheme)
def test_network_has_the_same_bits_everywhere(scheme: Scheme) -> None:
    class Net(torch_nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.start = nn.Standardize()
            self.conv = nn.Conv2d(1, 8, 3)
            self.pool = nn.AdaptiveAvgPool2d(1)
            self.head = nn.Linear(8, 4)
            self.side = nn.Linear(8, 4)

        def forward(self, x: Tensor) -> Tensor:
            x = torch.relu(self.conv(self.start(x)))
            return self.head(self.pool(x).flatten(1)) + self.side(x.mean((2, 3)))

    assert_same_bits(Net(), (1, 9, 7), scheme)
