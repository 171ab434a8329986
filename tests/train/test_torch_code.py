"""What ordinary torch code writes around layers means what it means in torch, or is refused with
what to write instead.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from isobit import nn
from isobit.core.errors import BadAttribute, IsobitError, NoKernel
from isobit.ops.schemes import Scheme
from isobit.run.golden import run_golden
from isobit.train.trace import trace

from .nets import SCHEMES, assert_equals_export, make_twin

SHAPE = (3, 4, 6)


class Wrapped(torch.nn.Module):
    """A function of one layer's result, of the layer, and of a second branch."""

    def __init__(self, function: Callable[..., Any], inputs: int = 1) -> None:
        super().__init__()
        torch.manual_seed(5)
        self.stem, self.side = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(3, 4, 1)
        self.function, self.inputs = function, inputs

    def forward(self, x: Tensor) -> Any:
        branches = [self.stem(x), self.side(x)]
        return self.function(*branches[: self.inputs])


def assert_means_torch(net: torch.nn.Module, shape: tuple[int, ...] = SHAPE) -> list[str]:
    """Compare the traced float graph with torch; return the operators of the graph."""
    torch.manual_seed(3)
    net = net.double().eval()
    x = torch.randn(2, *shape, dtype=torch.float64)
    graph = trace(net, shape, "net", "cortex-m4").graph
    stored = x.permute(0, 2, 3, 1) if x.dim() == 4 else x
    y = run_golden(graph, stored.numpy())[graph.outputs[0]]
    y = y.transpose(0, 3, 1, 2) if y.ndim == 4 else y
    with torch.no_grad():
        want = net(x).numpy()
    assert y.shape == want.shape
    # Sums of a few dozen float64 products in two orders.
    np.testing.assert_allclose(y, want, rtol=1e-9, atol=1e-9)
    return [node.op for node in graph.nodes]


def refused(net: torch.nn.Module, shape: tuple[int, ...] = SHAPE) -> str:
    """The text of the one problem of a network."""
    with pytest.raises(IsobitError) as caught:
        trace(net, shape, "net", "cortex-m4")
    (problem,) = caught.value.problems
    return str(problem)


def twice_the_sum(y: Tensor) -> Tensor:
    """In torch `before` is the same tensor as the sum."""
    before = y
    y += torch.sigmoid(y)
    return y + before


FLATTENS: tuple[Callable[[Tensor], Tensor], ...] = (
    lambda y: y.flatten(1),
    lambda y: torch.flatten(y, 1),
    lambda y: torch.flatten(y, start_dim=1, end_dim=-1),
    lambda y: torch.flatten(input=y, start_dim=1),
    lambda y: y.view(y.size(0), -1),
    lambda y: y.view(y.shape[0], -1),
    lambda y: y.reshape(y.size()[0], y.size(1) * y.size(2) * y.size(3)),
    lambda y: y.view(-1, 96),
    lambda y: y.view((-1, 96)),
    lambda y: torch.reshape(y, (y.size(0), -1)),
    lambda y: torch.reshape(y, shape=(y.shape[0], 96)),
    lambda y: y.contiguous().view(-1, y.shape[1] * y.shape[-1] * 4),
)


@pytest.mark.parametrize("flatten", FLATTENS)
def test_every_way_to_flatten(flatten: Callable[[Tensor], Tensor]) -> None:
    net = nn.Sequential(Wrapped(flatten), nn.Linear(96, 5))
    assert assert_means_torch(net) == ["conv2d", "reshape", "linear"]


@pytest.mark.parametrize(
    "function",
    [
        lambda y: y.view(y.size(0), 4, 4, 6),
        lambda y: y.flatten(1).view(y.size(0), 4, 4, 6),
        lambda y: y.flatten(1).view(-1, 2, 12, 4),
        lambda y: y.view(y.shape[0], 6, 4, 4),
        lambda y: y.flatten(1).reshape(-1, 1, 8, 12),
        lambda y: y.mean((2, 3)).view(y.size(0), y.size(1), 1, 1) * y,
        lambda y: torch.relu(y.flatten(1)).view(y.size(0), 4, 4, 6) + y,
    ],
)
def test_views_of_images(function: Callable[[Tensor], Tensor]) -> None:
    assert_means_torch(Wrapped(function))


def test_unpacked_sizes() -> None:
    def scale(y: Tensor) -> Tensor:
        b, c, _, _ = y.shape
        return y * F.adaptive_avg_pool2d(y, 1).view(b, c).view(b, c, 1, 1)

    assert_means_torch(Wrapped(scale))


def test_unflatten() -> None:
    operators = assert_means_torch(
        nn.Sequential(nn.Linear(8, 12), nn.Unflatten(1, (3, 2, 2))), (8,)
    )
    assert operators == ["linear", "reshape", "transpose"]
    assert "dim=1 of features" in refused(nn.Sequential(nn.Unflatten(1, (1, 3, 1))))


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (lambda y: torch.flatten(y), "start_dim=0"),
        (lambda y: y.flatten(), "start_dim=0"),
        (lambda y: y.view(-1), "sizes (-1) of [4, 4, 6]"),
        (lambda y: y.view(-1, 48), "then 96 features"),
        (lambda y: y.view(2, -1), "the batch x.size(0) or -1 first"),
        (lambda y: y.view(y.size(0), 2, 2, 4, 6), "other shapes have no layout"),
        (lambda y: y.view(y.size(0), 4, -1), "other shapes have no layout"),
        (lambda y: y.view(y.size(0) * 4, -1), "numbers that do not depend on the batch"),
        (lambda y: y.view(y.size(7), -1), "sizes"),
        (lambda y: y.size(1), "a forward that returns sizes or numbers"),
        (lambda y: y.squeeze(3), "Flatten with x.flatten(1)"),
        (lambda y: y - 1.5, "Fold numbers into the weights"),
        (lambda y: 1 - y, "Fold numbers into the weights"),
        (lambda y: -y, "learn the other sign"),
        (lambda y: y / 2, "Fold the factor"),
        (lambda y: y * 2, "Fold numbers into the weights"),
        (lambda y: F.log_softmax(y, 1), "Return the logits"),
        (lambda y: F.dropout(y, 0.5), "nn.Dropout(p)"),
        (lambda y: F.dropout2d(y), "nn.Dropout2d(p)"),
        (lambda y: F.interpolate(y, scale_factor=2), "enlarges an image"),
        (lambda y: F.softmax(y, dim=None), "1, the channels"),
        (lambda y: F.softmax(y, 3), "1, the channels"),
        (lambda y: y.sum((2, 3)), "nn.AvgPool2d"),
        (lambda y: y.mean(3), "dim=(2, 3)"),
        (lambda y: y.clamp(), "a number for min, max or both"),
        (lambda y: y.clamp(y), "min=a tensor"),
        (lambda y: torch.relu(torch.chunk(y, 2, 1)), "2 values"),
        (lambda y: torch.relu(y.size(1)), "got 4."),
        (lambda y: y.pow(2), "x * x"),
        (lambda y: y.device, "Tensor.device"),
        (lambda y: F.max_pool2d(y, 2, return_indices=True), "return_indices"),
    ],
)
def test_what_has_no_operator_says_what_to_write(function: Any, said: str) -> None:
    assert said in refused(Wrapped(function))


@pytest.mark.parametrize(
    "function",
    [operator.sub, operator.isub, torch.sub, lambda a, b: a.sub_(b), lambda a, b: a.sub(other=b)],
)
def test_every_way_to_subtract(function: Callable[[Tensor, Tensor], Tensor]) -> None:
    assert assert_means_torch(Wrapped(function, inputs=2)) == ["conv2d", "conv2d", "add"]


@pytest.mark.parametrize("scheme", SCHEMES, ids=lambda s: s.value)
def test_a_difference_has_the_same_bits(scheme: Scheme) -> None:
    torch.manual_seed(2)
    net = Wrapped(lambda a, b: torch.relu(a) - b, inputs=2)
    twin = make_twin(net, scheme, shape=SHAPE)
    x = torch.randn(16, *SHAPE)
    twin.calibrate(x)
    assert_equals_export(twin.eval(), x, twin.trace(x))
    want = net(x)
    assert (twin(x) - want).abs().mean() < 0.05 * want.std()


@pytest.mark.parametrize(
    "function",
    [
        operator.add,
        operator.iadd,
        torch.add,
        lambda a, b: a.add(b),
        lambda a, b: a.add_(b),
        lambda a, b: torch.add(input=a, other=b),
        lambda a, b: a.add(other=b),
    ],
)
def test_every_way_to_add(function: Callable[[Tensor, Tensor], Tensor]) -> None:
    assert assert_means_torch(Wrapped(function, inputs=2)) == ["conv2d", "conv2d", "add"]


@pytest.mark.parametrize("function", [operator.imul, torch.mul, lambda a, b: a.mul_(b)])
def test_every_way_to_multiply(function: Callable[[Tensor, Tensor], Tensor]) -> None:
    assert assert_means_torch(Wrapped(function, inputs=2)) == ["conv2d", "conv2d", "mul"]


CLAMPS: tuple[Callable[[Tensor], Tensor], ...] = (
    lambda y: torch.clamp(y, -0.3, 0.2),
    lambda y: y.clamp(min=0.1),
    lambda y: y.clamp(max=0.1),
    lambda y: y.clamp_(0, 1),
    lambda y: torch.clip(y, 0, 1),
    lambda y: y.clamp_min(0),
    lambda y: F.hardtanh(y, -0.2, 0.4),
    lambda y: F.hardtanh(y, min_val=-0.2),
    lambda y: F.hardtanh_(y),
    lambda y: F.relu6(y, True),
    lambda y: F.relu(y, inplace=True),
    lambda y: torch.relu_(y),
    lambda y: y.relu_(),
    lambda y: F.relu(input=y),
)


@pytest.mark.parametrize("function", CLAMPS)
def test_every_way_to_clamp(function: Callable[[Tensor], Tensor]) -> None:
    assert assert_means_torch(Wrapped(function)) == ["conv2d", "clamp"]


@pytest.mark.parametrize(
    "function",
    [
        lambda y: F.max_pool2d(y, 3, 2, 1, 1, True),
        lambda y: F.avg_pool2d(y, 3, 2, 1, True, False),
        lambda y: F.adaptive_avg_pool2d(y, (1, 1)),
        lambda y: F.adaptive_avg_pool2d(y, (2, 3)),
        lambda y: F.adaptive_max_pool2d(y, 1),
        lambda y: y.mean((2, 3)),
        lambda y: y.mean(dim=[-1, -2], keepdim=True),
        lambda y: torch.mean(y, (2, 3), True),
        lambda y: y.permute(0, 2, 3, 1).contiguous(),
    ],
)
def test_functions_take_torchs_arguments(function: Callable[[Tensor], Tensor]) -> None:
    assert_means_torch(Wrapped(function))


@pytest.mark.parametrize(
    "function",
    [
        lambda y: (y.relu_(), y + y)[1],
        lambda y: (y.flatten(1), y.relu_())[0],
        lambda y: (z := y.flatten(1), z.relu_(), y)[2],
        lambda y: operator.iadd(y, torch.sigmoid(y)) + y,
        twice_the_sum,
        lambda y: y.chunk(2, 1)[0].relu_() + y.chunk(2, 1)[1],
        lambda y: F.relu(y, True) + y,
    ],
)
def test_an_in_place_call_that_something_else_sees_is_refused(function: Any) -> None:
    assert "in-place call on a value that is read later" in refused(Wrapped(function))


def test_an_in_place_call_after_the_last_reader_is_as_in_torch() -> None:
    assert_means_torch(Wrapped(lambda y: torch.sigmoid(y) + y.relu_()))

    def residual(a: Tensor, b: Tensor) -> Tensor:
        out = torch.relu(a)
        out += b
        return out.relu_()

    assert_means_torch(Wrapped(residual, inputs=2))


def test_identity_disappears() -> None:
    net = nn.Sequential(nn.Identity(), nn.Conv2d(3, 2, 3), nn.Identity(7, unused=True), nn.ReLU())
    assert assert_means_torch(net) == ["conv2d", "clamp"]


class Called(torch.nn.Module):
    def __init__(self, call: Callable[..., Any]) -> None:
        super().__init__()
        self.conv, self.call = nn.Conv2d(3, 2, 3), call

    def forward(self, x: Tensor) -> Any:
        return self.call(self.conv, x)


def test_layers_take_their_argument_by_name() -> None:
    assert_means_torch(Called(lambda conv, x: conv(input=x)))
    assert "arguments: want one tensor, got none" in refused(Called(lambda conv, x: conv()))
    assert "one tensor, got x, x" in refused(Called(lambda conv, x: conv(x, x)))
    assert "want one tensor" in refused(Called(lambda conv, x: conv(y=x)))
    assert "got 3 values" in refused(Called(lambda conv, x: conv(x.split(1, 1))))
    assert "got 3." in refused(Called(lambda conv, x: conv(3)))


class Optional(Wrapped):
    def forward(  # type: ignore[override]  # as users do
        self, x: Tensor, scale: bool = True, mask: Tensor | None = None, *rest: Any, **more: Any
    ) -> Any:
        y = self.stem(x) if scale else x
        return y if mask is None else y * mask


class TwoInputs(Wrapped):
    def forward(self, a: Tensor, b: Tensor) -> Any:  # type: ignore[override]
        return self.stem(a) + self.stem(b)


class NoInput(Wrapped):
    def forward(self) -> Any:  # type: ignore[override]
        return 3


def test_arguments_with_defaults_are_taken_as_given() -> None:
    assert assert_means_torch(Optional(lambda y: y)) == ["conv2d"]


def test_a_network_has_one_input() -> None:
    assert "inputs: want one tensor, got 2: a, b" in refused(TwoInputs(lambda y: y))
    assert "inputs: want one tensor, got none" in refused(NoInput(lambda y: y))


def test_a_module_without_forward_is_refused() -> None:
    said = refused(nn.ModuleList([nn.Conv2d(3, 2, 1)]))
    assert "want a module with a forward, got ModuleList. Write nn.Sequential" in said


def test_lazy_layers_say_their_size() -> None:
    net = nn.Sequential(torch.nn.LazyConv2d(4, 3), nn.Flatten(), torch.nn.LazyLinear(5))
    with pytest.raises(IsobitError) as caught:
        trace(net, SHAPE, "net", "cortex-m4")
    assert "Write Conv2d(3, ...), or call net(torch.zeros(1, 3, 4, 6)) once" in str(caught.value)
    net(torch.zeros(1, *SHAPE))
    assert_means_torch(net)
    half = nn.Sequential(nn.Conv2d(3, 2, 3), nn.Flatten(), torch.nn.LazyLinear(5))
    assert "Write Linear(16, ...)" in refused(half)


@pytest.mark.parametrize(
    "layer",
    [
        nn.LeakyReLU(float("nan")),
        nn.LeakyReLU(float("inf")),
        nn.ELU(float("nan")),
        nn.Softplus(float("nan")),
        nn.Softplus(1.0, float("nan")),
        nn.Softplus(float("inf")),
    ],
    ids=str,
)
def test_options_that_are_no_numbers_are_refused(layer: torch.nn.Module) -> None:
    with pytest.raises(BadAttribute, match=r"E204 lut .*want a finite number, got (nan|inf)"):
        trace(nn.Sequential(nn.Conv2d(3, 2, 1), layer), SHAPE, "net", "cortex-m4")


def test_bounds_that_are_no_numbers_are_refused() -> None:
    assert "bounds: want low <= high, got nan" in refused(Wrapped(lambda y: y.clamp(float("nan"))))


def test_batch_norm_after_batch_norm_says_so() -> None:
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.BatchNorm2d(2))
    with pytest.raises(NoKernel, match=r"got after conv2d and batchnorm2d_1, already folded"):
        make_twin(net, Scheme.AFFINE)


def test_batch_norms_take_the_ranks_that_torchs_do() -> None:
    net = nn.Sequential(nn.Conv2d(3, 2, 1), nn.BatchNorm1d(2))
    assert "want features [N, C]" in refused(net)
    net = nn.Sequential(nn.Flatten(), nn.Linear(72, 2), nn.BatchNorm2d(2))
    assert "want an image [N, C, H, W]" in refused(net)


def test_a_layer_with_a_forward_of_its_own_is_not_that_layer() -> None:
    class Doubled(torch.nn.Conv2d):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x) * 2

    net = nn.Sequential(Doubled(3, 2, 1, bias=False))
    assert "got the tensor 0.weight. Only layers read parameters" in refused(net)


def test_unsupported_layers_say_what_to_use() -> None:
    for layer, said in (
        (torch.nn.PReLU(), "nn.LeakyReLU"),
        (torch.nn.GroupNorm(1, 3), "nn.BatchNorm2d"),
        (torch.nn.Upsample(scale_factor=2), "enlarges"),
        (torch.nn.LogSoftmax(1), "Return the logits"),
    ):
        assert said in refused(nn.Sequential(layer))
