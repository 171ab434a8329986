"""Sums of products in their four arithmetics, against int64 and against each other."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
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
        torch.autograd.backward((y.double() * weights).sum())
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
    else:
        assert got.dtype is torch.float32


def wide_operands(case: str) -> tuple[AnyArray, AnyArray, int]:
    """Return x [6, K], w [5, K] and a zero point: sums whose bound is far above 2^24."""
    rng = np.random.default_rng(7)
    x, w = rng.integers(0, 256, (6, 6000)), rng.integers(-127, 128, (5, 6000))
    if case == "uneven":  # most of the bound in a few columns
        w[:, 3000:] = rng.integers(-2, 3, (5, 3000))
    elif case == "cancels":  # up to 4 * 2^24 and back, in odd steps
        x[:], w[:, :3000], w[:, 3000:] = 255, 127, -127
        x[:, 0] = 254
    elif case == "beyond":
        x[:], w[:] = 255, 127
        x[:, 0] = 254
    elif case == "both signs":
        return x - 128, w, 0
    return x, w, -128


WIDE = ("even", "uneven", "cancels", "beyond", "both signs")


@pytest.mark.parametrize("bias", [None, 3, (1 << 23) + 1], ids=["", "bias", "large bias"])
@pytest.mark.parametrize("scaled", [False, True], ids=["sums", "shifted"])
@pytest.mark.parametrize("windows", [True, False], ids=["convolution", "matrix"])
@pytest.mark.parametrize("case", WIDE)
def test_sums_in_parts(case: str, windows: bool, scaled: bool, bias: int | None) -> None:
    """Exact whatever the parts add up to, with the gradients of a float64 product."""
    ts.allow_int8(False)
    x, w, zero = wide_operands(case)
    want = (x @ w.T) * (0.25 if scaled else 1.0) + (bias or 0)
    step = torch.full((5,), 0.25, dtype=torch.float64) if scaled else None
    shape = (1, 1) if windows else ()
    kind = TensorType((1, *shape, 6000), DType.S8, Affine((0.1,), zero))
    form = products.Windows() if windows else None
    combine = products.Windows().sums if windows else torch.nn.functional.linear
    found = []
    for dtype in (torch.float32, torch.float64):
        a = torch.from_numpy(x).to(dtype).reshape(6, *shape, 6000).requires_grad_()
        v = torch.from_numpy(w).to(dtype).reshape(5, *shape, 6000).requires_grad_()
        b = None if bias is None else torch.full((5,), bias, dtype=dtype, requires_grad=True)
        if dtype is torch.float32:
            types = ts.SumTypes(kind, kind)
            in_sums = b * 4 if scaled and b is not None else b
            bound = ts.sum_bound(v, in_sums, types)
            assert bound > 1 << 24
            y = ts._sums(combine, (a, v, b), types, form, bound, step=step)
        else:
            y = combine(a, v * 0.25 if scaled else v, b)
        y.add_(1).sub_(1)  # as a quantiser does that works in place
        torch.autograd.backward((y.double() * torch.arange(1.0, 6)).sum())
        found.append((y.detach(), a.grad, v.grad, None if b is None else b.grad))
    assert np.array_equal(found[0][0].double().numpy().reshape(6, 5), want)
    in_float32 = case not in ("cancels", "beyond")
    if scaled:  # a matrix product with powers of two is float64; a large bias / 0.25 is too large
        in_float32 &= windows and (bias or 0) < 1 << 22
    assert (found[0][0].dtype is torch.float32) == in_float32
    for own, reference in zip(found[0][1:], found[1][1:], strict=True):
        assert (own is None) == (reference is None)
        if own is not None and reference is not None:
            error = float((own.double() - reference).abs().max())
            assert error <= 2e-6 * float(reference.abs().max())


@pytest.mark.parametrize("case", WIDE)
def test_parts_are_as_long_as_is_certain_to_fit(case: str) -> None:
    _, w, zero = wide_operands(case)
    high, low = 127 - zero, zero + 128
    kind = TensorType((1, 6000), DType.S8, Affine((0.1,), zero))
    ends = ts._ends_of_parts(torch.from_numpy(w).float(), ts.SumTypes(kind, kind))
    assert ends is not None and ends[-1] == 6000

    def bound(start: int, end: int) -> int:
        most = np.maximum(w[:, start:end], 0).sum(1), np.maximum(-w[:, start:end], 0).sum(1)
        if low == 0:
            return int(np.maximum(*most).max()) * high
        return int(sum(most).max()) * max(high, low)

    for start, end in pairwise([0, *ends]):
        assert bound(start, end) <= 1 << 24
        assert end == 6000 or bound(start, end + 1) > 1 << 24


def test_sums_that_cannot_be_parted() -> None:
    """A window of one channel, and more parts than are worth it: float64, still exact."""
    form = products.Windows()
    kind = TensorType((1, 30, 30, 1), DType.S8, Affine((0.1,), -128))
    x, w = torch.full((1, 30, 30, 1), 255.0), torch.full((2, 30, 30, 1), 127.0)
    types = ts.SumTypes(kind, kind)
    assert ts._ends_of_parts(w, types) is None and ts.plain_sums(x, w, None, types, form) is None
    got = ts.exact_sums(form.sums, x, w, types, form)
    assert got.dtype is torch.float64 and got.flatten().tolist() == [900 * 255 * 127] * 2
    many = torch.full((2, 1, 1, 518 * (ts.MOST_PARTS + 1)), 127.0)
    assert ts._ends_of_parts(many, types) is None


@pytest.mark.parametrize("sign", ["alike", "mixed"])
def test_sums_of_a_layer_beyond_float32(sign: str) -> None:
    """As a layer with batch norm takes them: float32, or None where only float64 holds them."""
    rng = np.random.default_rng(0)
    x, w = rng.integers(0, 256, (2, 4, 4, 512)), rng.integers(-127, 128, (3, 3, 3, 512))
    if sign == "alike":
        x, w = np.full_like(x, 255), np.full_like(w, 127)
    kind = TensorType((1, 4, 4, 512), DType.S8, Affine((0.1,), -128))
    form = products.Windows((1, 1), (1, 1, 1, 1))
    given = torch.from_numpy(x).float(), torch.from_numpy(w).float()
    got = ts.plain_sums(*given, None, ts.SumTypes(kind, kind), form)
    if sign == "alike":
        assert got is None
    else:
        want = convolution(x, w, (1, 1), (1, 1, 1, 1), (1, 1))
        assert got is not None and np.array_equal(got.numpy(), want)


def test_the_bound_of_inputs_that_are_never_negative_counts_one_sign() -> None:
    kind = TensorType((1, 2), DType.S8, Affine((0.1,), -128))
    w = torch.tensor([[3.0, -5.0], [2.0, 2.0]])
    assert ts.sum_bound(w, torch.tensor([1.0, -7.0]), ts.SumTypes(kind, kind)) == 5 * 255 + 1
    both = TensorType((1, 2), DType.S8, Affine((0.1,), 0))
    assert ts.sum_bound(w, None, ts.SumTypes(both, both)) == 8 * 128
    w = torch.full((1, 519), 127.0)
    w[0, 0] = 7.0
    just_beyond = ts.sum_bound(w, torch.tensor([2.0]), ts.SumTypes(kind, kind))
    assert just_beyond == (1 << 24) + 1, "which float32 would round to 2^24"


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
