from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn as torch_nn

from isobit import nn
from isobit.core.errors import BadAttribute, NotTraceable
from isobit.core.fixed import Average
from isobit.core.types import Affine
from isobit.ops import sampling
from isobit.ops.avg_pool2d.op import AvgPool2d, AvgPool2dAttrs, AvgPool2dInputs
from isobit.ops.avg_pool2d.reference import NARROW, WIDE, Reference
from isobit.ops.base import NodeTypes, Scheme
from oracles import oracle

from .nets import assert_float_equal, assert_same_bits, float_graph

OPTIONS = [
    (kernel, stride, pad, ceil, include)
    for kernel, stride, pad in (
        (2, 2, 0),
        (3, 2, 1),
        (3, 3, 0),
        (3, 1, 1),
        ((4, 3), (3, 2), (2, 1)),
        ((1, 5), (1, 3), (0, 2)),
        (2, 3, 1),
    )
    for ceil, include in itertools.product((False, True), repeat=2)
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("size", [(7, 8), (8, 11)], ids=str)
def test_layer_means_torch(options: tuple[object, ...], size: tuple[int, int]) -> None:
    """Shapes, padding and divisors; the ceil extension is never counted."""
    assert_float_equal(nn.AvgPool2d(*options), (3, *size))


def test_function_means_torch() -> None:
    class Net(torch_nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = torch.nn.functional.avg_pool2d(x, 3, 2, ceil_mode=True)
            return torch.nn.functional.avg_pool2d(x, 2, padding=1, count_include_pad=False)

    assert_float_equal(Net(), (2, 10, 11))


def test_a_window_that_is_the_image_is_a_global_pool() -> None:
    graph = assert_float_equal(nn.AvgPool2d((5, 6)), (3, 5, 6))
    assert [node.op for node in graph.nodes] == ["global_avg_pool"]


def test_divisor_override_is_refused() -> None:
    with pytest.raises(NotTraceable, match="divisor_override"):
        float_graph(nn.AvgPool2d(2, divisor_override=3), (1, 4, 4))


def test_a_window_without_a_counted_value_is_refused() -> None:
    x = sampling.kind((1, 4, 4, 1), Affine((0.1,), 5))
    attrs = AvgPool2dAttrs((2, 2), (1, 1), (2, 2, 2, 2))
    with pytest.raises(BadAttribute, match="counted"):
        AvgPool2d.infer(attrs, AvgPool2dInputs(x))
    counted = AvgPool2dAttrs((2, 2), (1, 1), (2, 2, 2, 2), True)
    assert AvgPool2d.infer(counted, AvgPool2dInputs(x)).shape == (1, 7, 7, 1)


@given(st.data())
def test_integer_equals_the_oracle(data: st.DataObject) -> None:
    """Any window, padding and extension, both divisions."""
    draw = data.draw
    size = (draw(st.integers(1, 7)), draw(st.integers(1, 7)))
    kernel = (draw(st.integers(1, 4)), draw(st.integers(1, 4)))
    stride = (draw(st.integers(1, 3)), draw(st.integers(1, 3)))
    top, bottom = (draw(st.integers(0, kernel[0] - 1)) for _ in range(2))
    left, right = (draw(st.integers(0, kernel[1] - 1)) for _ in range(2))
    extension = tuple(
        draw(st.integers(0, k - 1 - after))
        for k, after in ((kernel[0], bottom), (kernel[1], right))
    )
    attrs = AvgPool2dAttrs(
        kernel,
        stride,
        (top, left, bottom, right),
        draw(st.booleans()),
        extension,
        round=draw(st.sampled_from(Average)),
    )
    x = sampling.kind((1, *size, 2), Affine((0.1,), draw(st.integers(-128, 127))))
    padded = (size[0] + top + bottom + extension[0], size[1] + left + right + extension[1])
    if padded[0] < kernel[0] or padded[1] < kernel[1]:
        return
    out = AvgPool2d.infer(attrs, AvgPool2dInputs(x))
    q = NodeTypes(AvgPool2dInputs(x), (x.with_shape(out.shape),))
    codes = sampling.codes(np.random.default_rng(draw(st.integers(0, 99))), (2, *size, 2))
    plain = {
        "kernel": kernel,
        "stride": stride,
        "pad": attrs.pad,
        "count_include_pad": attrs.count_include_pad,
        "extension": extension,
        "round": attrs.round.value,
    }
    want = oracle("avg_pool2d")({"x": codes}, plain, {"x": x.zero})
    assert np.array_equal(AvgPool2d.integer(attrs, q, AvgPool2dInputs(codes)), want)


def test_reciprocals_divide_exactly() -> None:
    """Every count and quotient, where an error would show: at a multiple and just below."""
    quotients = np.arange(1, 130, dtype=np.uint64)
    for count in range(1, WIDE + 1):
        bits = np.uint64(24 if count <= NARROW else 31)
        inverse = np.uint64((1 << int(bits)) // count + 1)
        ends = quotients * np.uint64(count)
        ends = ends[ends <= 128 * count + count // 2]
        if count <= NARROW:
            assert int(ends.max(initial=0)) * int(inverse) < 1 << 32
        assert np.array_equal((ends * inverse) >> bits, ends // np.uint64(count))
        assert np.array_equal(
            ((ends - np.uint64(1)) * inverse) >> bits, (ends - np.uint64(1)) // np.uint64(count)
        )


def test_kernel_refuses_windows_it_cannot_divide() -> None:
    x = sampling.kind((1, 80, 80, 1), Affine((0.1,), 5))
    q = NodeTypes(AvgPool2dInputs(x), (x,))
    assert Reference.when(AvgPool2dAttrs((63, 64), (1, 1)), q) == ""
    assert "4088" in Reference.when(AvgPool2dAttrs((64, 64), (1, 1)), q)


@pytest.mark.parametrize("include", [False, True])
def test_gradient_is_that_of_the_mean(include: bool) -> None:
    attrs = AvgPool2dAttrs((3, 3), (2, 2), (1, 1, 1, 1), include)
    kind = sampling.kind((1, 7, 8, 2), Affine((0.1,), 5))
    out = AvgPool2d.infer(attrs, AvgPool2dInputs(kind))
    q = NodeTypes(AvgPool2dInputs(kind), (kind.with_shape(out.shape),))
    x = torch.randint(-100, 100, (2, 7, 8, 2)).float().requires_grad_()
    weight = torch.randn(2, *out.shape[1:])
    (AvgPool2d.surrogate(attrs, q, AvgPool2dInputs(x)) * weight).sum().backward()
    other = x.detach().clone().requires_grad_()
    mean = torch.nn.functional.avg_pool2d(
        other.permute(0, 3, 1, 2), 3, 2, 1, count_include_pad=include
    )
    (mean.permute(0, 2, 3, 1) * weight).sum().backward()
    torch.testing.assert_close(x.grad, other.grad)


@pytest.mark.parametrize("scheme", Scheme)
def test_network_has_the_same_bits_everywhere(scheme: Scheme) -> None:
    """Pools with every kind of padding; a ReLU after a pool becomes its clamp."""
    net = nn.Sequential(
        nn.Standardize(),
        nn.Conv2d(2, 5, 3),
        nn.AvgPool2d(3, 2, padding=1, ceil_mode=True),
        nn.ReLU(),
        nn.AvgPool2d(3, 1, padding=1, count_include_pad=False),
        nn.AvgPool2d((2, 1), ceil_mode=True),
        nn.Flatten(),
        nn.Linear(5 * 3 * 6, 4),
    )
    graph = assert_same_bits(net, (2, 12, 13), scheme)
    ops = [node.op for node in graph.nodes]
    assert ops.count("avg_pool2d") == 3 and "clamp" not in ops
