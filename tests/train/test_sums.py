"""Sums of products in their four arithmetics, against int64 and against each other."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from isobit.core import torch_products as products
from isobit.core import torch_sums as ts
from isobit.core.dtypes import DType
from isobit.core.types import Affine, AnyArray, TensorType
from isobit.ops.schemes import Scheme
from isobit.train import norm

from .nets import SCHEMES, digits, make_twin, take_steps

needs_int8 = pytest.mark.skipif(
    not products.int8_is_exact(), reason="this CPU has no exact int8 products (AVX512-VNNI)"
)


@pytest.fixture(autouse=True)
def _default_arithmetic() -> Iterator[None]:
    yield
    ts.allow_int8(True)


def convolution(
    x: AnyArray, w: AnyArray, stride: tuple[int, int], pad: Any, dilation: tuple[int, int]
) -> AnyArray:
    """Scalar loops over output positions, in int64."""
    top, left, bottom, right = pad
    x = np.pad(x, ((0, 0), (top, bottom), (left, right), (0, 0)))
    kh, kw = w.shape[1:3]
    oh = (x.shape[1] - dilation[0] * (kh - 1) - 1) // stride[0] + 1
    ow = (x.shape[2] - dilation[1] * (kw - 1) - 1) // stride[1] + 1
    y = np.zeros((len(x), oh, ow, len(w)), np.int64)
    for i in range(oh):
        for j in range(ow):
            for a in range(kh):
                for b in range(kw):
                    row, column = i * stride[0] + a * dilation[0], j * stride[1] + b * dilation[1]
                    y[:, i, j] += x[:, row, column] @ w[:, a, b].T
    return y


GEOMETRIES = [
    pytest.param((3, 3), (1, 1), (1, 1, 1, 1), (1, 1), 32, id="3x3 same"),
    pytest.param((3, 3), (2, 2), (0, 0, 1, 1), (1, 1), 40, id="3x3 stride 2, uneven pad"),
    pytest.param((1, 1), (1, 1), (0, 0, 0, 0), (1, 1), 64, id="1x1"),
    pytest.param((1, 1), (2, 2), (0, 0, 0, 0), (1, 1), 70, id="1x1 stride 2"),
    pytest.param((5, 2), (2, 1), (2, 0, 1, 1), (1, 1), 50, id="5x2"),
    pytest.param((3, 3), (1, 1), (2, 2, 2, 2), (2, 2), 33, id="dilated"),
]


def operands(
    kernel: tuple[int, int], channels: int, zero: int, *, extreme: bool = False
) -> tuple[AnyArray, AnyArray, TensorType]:
    rng = np.random.default_rng(5)
    x = rng.integers(-128, 128, (3, 9, 8, channels)) - zero
    w = rng.integers(-127, 128, (6, *kernel, channels))
    if extreme:
        x[0], w[0], w[1] = 127 - zero, 127, -127
    return x, w, TensorType((1, 9, 8, channels), DType.S8, Affine((0.1,), zero))


@needs_int8
@pytest.mark.parametrize("zero", [-128, -5, 0, 127])
@pytest.mark.parametrize(("kernel", "stride", "pad", "dilation", "channels"), GEOMETRIES)
def test_int8_products_are_the_sums(
    kernel: Any, stride: Any, pad: Any, dilation: Any, channels: int, zero: int
) -> None:
    x, w, _ = operands(kernel, channels, zero, extreme=True)
    want = convolution(x, w, stride, pad, dilation)
    form = products.Windows(stride, pad, dilation)
    given = torch.from_numpy(x).float(), torch.from_numpy(w).to(torch.int8)
    total = torch.from_numpy(w.reshape(6, -1).sum(1)).int()
    assert np.array_equal(products.int8_products(*given, zero, form, total).numpy(), want)


@needs_int8
def test_int8_products_in_parts_of_the_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    x, w, _ = operands((3, 3), 32, 3)
    form = products.Windows((1, 1), (1, 1, 1, 1))
    given = torch.from_numpy(x).float(), torch.from_numpy(w).to(torch.int8)
    total = torch.from_numpy(w.reshape(6, -1).sum(1)).int()
    whole = products.int8_products(*given, 3, form, total)
    monkeypatch.setattr(products, "PART_BYTES", 1)
    assert torch.equal(products.int8_products(*given, 3, form, total), whole)


@pytest.mark.parametrize("int8", [pytest.param(True, marks=needs_int8), False])
@pytest.mark.parametrize("scaled", [False, True], ids=["sums", "shifted"])
@pytest.mark.parametrize(("kernel", "stride", "pad", "dilation", "channels"), GEOMETRIES)
def test_sums_and_their_gradients(
    kernel: Any, stride: Any, pad: Any, dilation: Any, channels: int, scaled: bool, int8: bool
) -> None:
    """Of every arithmetic: the numbers of int64, the gradients of a float64 convolution."""
    ts.allow_int8(int8)
    x, w, kind = operands(kernel, channels, -128)
    want = convolution(x, w, stride, pad, dilation)
    types = ts.SumTypes(kind, kind)
    combine = products.Windows(stride, pad, dilation).sums
    form = products.Windows(stride, pad, dilation)
    bias = torch.arange(6.0) - 3
    step = torch.full((6,), 0.25, dtype=torch.float64) if scaled else None
    found = []
    for dtype in (torch.float32, torch.float64):
        a = torch.from_numpy(x).to(dtype).requires_grad_()
        v = torch.from_numpy(w).to(dtype).requires_grad_()
        b = bias.to(dtype, copy=True).requires_grad_()
        if dtype is torch.float32:
            bound = ts.sum_bound(v, b, types)
            y = ts._sums(combine, (a, v, b), types, form, bound, step=step)
        else:
            y = combine(a, v * 0.25 if scaled else v, b)
        weights = torch.linspace(0.1, 1, y.numel(), dtype=torch.float64).reshape(y.shape)
        (y.double() * weights).sum().backward()  # type: ignore[no-untyped-call]  # torch's
        found.append((y.detach().double().numpy(), a.grad, v.grad, b.grad))
    assert np.array_equal(found[0][0], want * (0.25 if scaled else 1.0) + bias.numpy())
    for own, reference in zip(found[0][1:], found[1][1:], strict=True):
        assert own is not None and reference is not None
        largest = float(reference.abs().max())
        assert float((own.double() - reference).abs().max()) <= 2e-6 * largest


@pytest.mark.parametrize("int8", [pytest.param(True, marks=needs_int8), False])
@pytest.mark.parametrize("sign", ["alike", "mixed"])
def test_sums_beyond_float32(sign: str, int8: bool) -> None:
    """Fan-in 4608 at full scale: 4608 * 127 * 255 = 149 million. Mixed signs stay below 2^24 and
    come as float32; the others as float64. Both are exact.
    """
    ts.allow_int8(int8)
    rng = np.random.default_rng(0)
    x = rng.integers(0, 256, (2, 4, 4, 512))
    w = rng.integers(-127, 128, (3, 3, 3, 512))
    if sign == "alike":
        x, w = np.full_like(x, 255), np.full_like(w, 127)
        x[0, 0, 0, 0] = 254  # an odd sum: float32 could not hold it
    kind = TensorType((1, 4, 4, 512), DType.S8, Affine((0.1,), -128))
    want = convolution(x, w, (1, 1), (1, 1, 1, 1), (1, 1))
    got = ts.exact_sums(
        products.Windows((1, 1), (1, 1, 1, 1)).sums,
        torch.from_numpy(x).float(),
        torch.from_numpy(w).float(),
        ts.SumTypes(kind, kind),
        products.Windows((1, 1), (1, 1, 1, 1)),
    )
    assert np.array_equal(got.double().numpy(), want)
    if sign == "alike":
        assert np.abs(want).max() > 1 << 24 and got.dtype is torch.float64
    elif int8:
        assert got.dtype is torch.float32


def test_the_bound_of_inputs_that_are_never_negative_counts_one_sign() -> None:
    kind = TensorType((1, 2), DType.S8, Affine((0.1,), -128))
    w = torch.tensor([[3.0, -5.0], [2.0, 2.0]])
    assert ts.sum_bound(w, torch.tensor([1.0, -7.0]), ts.SumTypes(kind, kind)) == 5 * 255 + 1
    both = TensorType((1, 2), DType.S8, Affine((0.1,), 0))
    assert ts.sum_bound(w, None, ts.SumTypes(both, both)) == 8 * 128


class Wide(torch.nn.Module):
    """Convolutions that have an int8 form, one with batch norm and a pool behind it."""

    def __init__(self) -> None:
        super().__init__()
        self.first = torch.nn.Conv2d(1, 40, 3, padding=1)
        self.second = torch.nn.Conv2d(40, 32, 3, padding=1, bias=False)
        self.norm = torch.nn.BatchNorm2d(32)
        self.third = torch.nn.Conv2d(32, 10, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.nn.functional.max_pool2d(torch.relu(self.first(x)), 2, ceil_mode=True)
        x = torch.relu(torch.nn.functional.max_pool2d(self.norm(self.second(x)), 3, 2, 1))
        return self.third(torch.nn.functional.pad(x, (1, 1, 1, 1))).flatten(1)


@needs_int8
@pytest.mark.parametrize("scheme", SCHEMES, ids=lambda s: s.value)
def test_training_with_and_without_int8_is_the_same(scheme: Scheme) -> None:
    """Two steps apart from initial weights: only the order of float gradients may differ."""
    found = []
    for allowed in (True, False):
        ts.allow_int8(allowed)
        torch.manual_seed(0)
        twin = make_twin(Wide(), scheme)
        assert twin.pooled, "the network has pools behind convolutions"
        take_steps(twin, 1)
        twin.freeze()
        x, y = digits(32)
        loss = torch.nn.functional.cross_entropy(twin(x), y)
        found.append(loss.item())
    assert found[0] == pytest.approx(found[1], rel=1e-5)


@pytest.mark.parametrize("scheme", SCHEMES, ids=lambda s: s.value)
def test_pooling_before_requantising_changes_no_output(scheme: Scheme) -> None:
    torch.manual_seed(0)
    twin = make_twin(Wide(), scheme)
    take_steps(twin, 3)
    twin.freeze()
    x, _ = digits(32)
    plain, pooled = twin._run_all(x), twin._run_all(x, pooling=True)
    assert set(plain) - set(pooled) == set(twin.pooled)
    for name, value in pooled.items():
        assert torch.equal(value, plain[name]), name


def test_a_bias_that_float32_does_not_hold_beside_the_sums() -> None:
    """(1 + b) * 2^-18 + 1/2 is 2^-18 below 100; float32 rounds 1 + b, odd and above 2^24, up."""
    bias = torch.tensor([100 * 2**18 - 2**17 - 2], dtype=torch.float64)
    y = norm.frozen_shift(
        torch.ones(1, 1), bias.float(), torch.tensor([18]), (-128, 127), (False, False)
    )
    assert y.tolist() == [[99.0]]
