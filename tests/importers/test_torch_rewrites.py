"""Operators that are written as smaller ones before rules see them: the reals stay torch's."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import isobit
from isobit.api.from_torch import from_torch
from isobit.importers.torch_rewrites import REWRITES

from .test_torch_export import EXAMPLES, TOLERANCE, largest_difference, stored
from .torch_cases import IMAGE, LINE, ROW, Calls


def assigned(x: Tensor) -> Tensor:
    y = x.clone()
    y[:, 1] = 0.5
    y[:, :, 2:4] = x[:, :, :2]
    return y


def every_second(x: Tensor) -> Tensor:
    y = x.clone()
    y[:, ::2] += 1.0
    y[..., 1::3] *= 2.0
    return y


def clamped(x: Tensor) -> Tensor:
    return torch.clamp(x, torch.tensor(-0.5), torch.linspace(0, 1, 9))


CASES = {
    "log_softmax": (lambda: Calls(lambda x: F.log_softmax(x, 1)), [ROW]),
    "logsumexp": (lambda: Calls(lambda x: x.logsumexp(1)), [IMAGE]),
    "var": (lambda: Calls(lambda x: x.var((2, 3))), [IMAGE]),
    "var of one axis": (lambda: Calls(lambda x: torch.var(x, 1, correction=0)), [IMAGE]),
    "std": (lambda: Calls(lambda x: x.std(1, keepdim=True)), [IMAGE]),
    "norm": (lambda: Calls(lambda x: x.norm(dim=1, keepdim=True)), [IMAGE]),
    "norm 1": (lambda: Calls(lambda x: torch.linalg.vector_norm(x, 1, dim=1)), [IMAGE]),
    "norm of the largest": (
        lambda: Calls(lambda x: torch.linalg.vector_norm(x, torch.inf, dim=1)),
        [IMAGE],
    ),
    "normalize": (lambda: Calls(lambda x: F.normalize(x, dim=1)), [IMAGE]),
    "layer_norm": (lambda: nn.LayerNorm(12), [ROW]),
    "layer_norm of images": (lambda: nn.LayerNorm([7, 9]), [IMAGE]),
    "rms_norm": (lambda: nn.RMSNorm(12), [ROW]),
    "group_norm": (lambda: nn.GroupNorm(2, 6), [IMAGE]),
    "group_norm of one": (lambda: nn.GroupNorm(1, 6), [IMAGE]),
    "instance_norm": (lambda: nn.InstanceNorm2d(6, affine=True), [IMAGE]),
    "instance_norm line": (lambda: nn.InstanceNorm1d(6), [LINE]),
    "adaptive average": (lambda: nn.AdaptiveAvgPool2d((5, 3)), [IMAGE]),
    "adaptive average larger": (lambda: nn.AdaptiveAvgPool2d((9, 1)), [IMAGE]),
    "adaptive average line": (lambda: nn.AdaptiveAvgPool1d(4), [LINE]),
    "adaptive largest": (lambda: nn.AdaptiveMaxPool2d((5, 2)), [IMAGE]),
    "replicate": (lambda: nn.Conv2d(6, 4, 3, padding=1, padding_mode="replicate"), [IMAGE]),
    "circular": (lambda: nn.Conv2d(6, 4, 3, padding=1, padding_mode="circular"), [IMAGE]),
    "circular line": (lambda: nn.Conv1d(6, 4, 4, padding="same", padding_mode="circular"), [LINE]),
    "cut and padded": (lambda: nn.ConstantPad2d((-1, 2, 0, -3), 0.5), [IMAGE]),
    "transposed groups": (lambda: nn.ConvTranspose2d(6, 4, 3, 2, 1, groups=2), [IMAGE]),
    "transposed depthwise": (lambda: nn.ConvTranspose2d(6, 6, 4, 2, 1, groups=6), [IMAGE]),
    "transposed dilation": (lambda: nn.ConvTranspose1d(6, 4, 3, dilation=2), [LINE]),
    "power of a number": (lambda: Calls(lambda x: 2**x), [ROW]),
    "matrix and vector": (
        lambda: Calls(lambda a, b: torch.bmm(a.softmax(2), b)),
        [(1, 6), (6, 4)],
    ),
    "einsum with a constant": (
        lambda: Calls(lambda x: torch.einsum("bchw,oc->bohw", x, torch.ones(4, 6))),
        [IMAGE],
    ),
    "lerp": (lambda: Calls(lambda a, b: torch.lerp(a, b, 0.3)), [ROW, ROW]),
    "hstack": (lambda: Calls(lambda a, b: torch.hstack([a, b])), [ROW, ROW]),
    "assignment": (lambda: Calls(assigned), [IMAGE]),
    "assignment with a step": (lambda: Calls(every_second), [IMAGE]),
    "bounds that are tensors": (lambda: Calls(clamped), [IMAGE]),
    "lower bound that is a tensor": (
        lambda: Calls(lambda x: x.clamp(min=torch.linspace(0, 1, 12))),
        [ROW],
    ),
    "exp2": (lambda: Calls(torch.exp2), [ROW]),
    "expm1": (lambda: Calls(torch.expm1), [ROW]),
    "log1p": (lambda: Calls(lambda x: torch.log1p(x.abs())), [ROW]),
    "log2": (lambda: Calls(lambda x: torch.log2(x.abs() + 1)), [ROW]),
    "log10": (lambda: Calls(lambda x: torch.log10(x.abs() + 1)), [ROW]),
    "roll": (lambda: Calls(lambda x: x.roll((1, -2), (2, 3))), [IMAGE]),
    "order": (lambda: Calls(lambda x: x[:, [2, 0, 1, 1]]), [IMAGE]),
    "filled": (lambda: Calls(lambda x: x + torch.full_like(x, 2.0) * torch.ones_like(x)), [ROW]),
}


@pytest.mark.parametrize("label", CASES)
def test_rewrite_equals_torch(label: str) -> None:
    make, shapes = CASES[label]
    torch.manual_seed(4)
    module, xs = make(), [torch.randn(EXAMPLES, *shape) for shape in shapes]
    for part in module.parameters():
        nn.init.normal_(part)
    assert largest_difference(from_torch(module, xs), module.eval(), xs) < TOLERANCE


def test_every_rewrite_is_of_an_operator_of_torch() -> None:
    for code in REWRITES:
        name, overload = code.split(".")
        assert hasattr(getattr(torch.ops.aten, name), overload), code


def test_network_with_layer_norms_and_log_softmax_is_calibrated() -> None:
    torch.manual_seed(4)
    net = nn.Sequential(
        nn.Conv2d(1, 8, 3),
        nn.GroupNorm(1, 8),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(3),
        nn.Flatten(),
        nn.Linear(72, 5),
        nn.LogSoftmax(1),
    ).eval()
    x = torch.randn(32, 1, 11, 10)
    graph = from_torch(net, x)
    model = isobit.calibrate(graph, stored(x.numpy(), graph.inputs[0].type.shape))
    with torch.no_grad():
        want = net(x)
        got = model(torch.from_numpy(stored(x.numpy(), graph.inputs[0].type.shape)))
    assert float((got - want).abs().mean()) < 0.1
