"""Batch norm behind layers whose output step every run finds: folded into their weights."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # torch's own convention
from torch import Tensor
from torch import nn as torch_nn

from isobit import Model, nn
from isobit.run.golden import run_golden
from isobit.train import channels, norm
from isobit.train.moments import moments_of


def normed() -> torch_nn.Module:
    """Every dynamic layer with a batch norm, with and without a bias of its own."""
    torch.manual_seed(2)
    return torch_nn.Sequential(
        nn.Standardize(),
        nn.DynamicConv2d(3, 6, 3, padding=1, bias=False),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        nn.DynamicConv2d(6, 6, 3, groups=6),
        nn.BatchNorm2d(6, eps=1e-2),
        nn.MaxPool2d(2),
        nn.ReLU(),
        nn.Flatten(),
        nn.DynamicLinear(54, 8, bias=False),
        nn.BatchNorm1d(8),
        nn.ReLU(),
        nn.DynamicLinear(8, 5),
    )


def pixels(n: int) -> Tensor:
    """Images of very different contrasts."""
    rng = torch.Generator().manual_seed(5)
    spread = torch.logspace(0, 2, n).reshape(-1, 1, 1, 1)
    return (128 + spread * torch.randn(n, 3, 8, 8, generator=rng)).round().clamp(0, 255)


def model_of(net: torch_nn.Module) -> Model:
    return Model(net, input=(3, 8, 8), scheme="pow2", name="net")


def trained(net: torch_nn.Module, x: Tensor, steps: int = 12) -> tuple[Model, list[float]]:
    """A model whose norms moved with the batches, and its losses."""
    model = model_of(net)
    target = torch.arange(len(x)) % 5
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    losses = []
    model.train()
    for _ in range(steps):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), target)
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    model.update_ranges()
    return model.eval(), losses


def norms(net: torch_nn.Module) -> list[Any]:
    return [m for m in net.modules() if isinstance(m, torch_nn.BatchNorm1d | torch_nn.BatchNorm2d)]


def test_bits_are_the_same_everywhere(tmp_path: Path) -> None:
    x = pixels(20)
    model, losses = trained(normed(), x)
    assert losses[-1] < 0.8 * losses[0]
    graph = model.export()
    assert not [node for node in graph.nodes if node.op == "batch_norm"]
    layers = [node for node in graph.nodes if node.op.startswith("dynamic")]
    assert len(layers) == 4 and all(node.inputs.b is not None for node in layers)
    golden = run_golden(graph, model.quantize_input(x))
    for name, values in model.trace(x).items():
        np.testing.assert_array_equal(values, golden[name], err_msg=name)
    found = model.deploy(tmp_path / "net", samples=x).verify(on=["host", "cortex-m4", "rv32imc"])
    assert all(c.compared > 0 and c.differing == 0 for c in found)


def test_what_is_deployed_is_the_float_network() -> None:
    """Also where a channel's gamma is negative or 0."""
    x = pixels(20)
    net = normed()
    for module in norms(net):
        with torch.no_grad():
            module.weight.uniform_(-2, 2)
            module.bias.uniform_(-1, 1)
            module.weight[0] = 0
    model = model_of(net)
    model.calibrate(x)
    model.eval()
    net.eval()
    with torch.no_grad():
        want = net(x)
        off = (model(x) - want).abs().amax(1) / want.abs().amax(1)
    assert off.max() < 0.1


def test_statistics_are_those_of_the_float_network() -> None:
    """Of the first batch from nothing, and as they move with the next."""
    x, more = pixels(20), pixels(30)
    net = normed()
    alone = copy.deepcopy(net)
    model = model_of(net)
    model.calibrate(x)
    for module in alone.modules():
        if isinstance(module, nn.Standardize):
            module.observe(x.permute(0, 2, 3, 1))
            module.freeze()
    alone.train()
    for module in norms(alone):
        module.momentum = 1.0  # the first batch sets them
    alone(x)
    for ours, theirs in zip(norms(net), norms(alone), strict=True):
        assert int(ours.num_batches_tracked) == 1
        _compare(ours, theirs)
        theirs.load_state_dict(ours.state_dict())
        theirs.momentum = 0.5
        ours.momentum = 0.5
    model = model_of(net)
    model.load_state_dict(model.state_dict())
    model.calibrate(more)
    model.train()
    model(more)
    alone(more)
    for ours, theirs in zip(norms(net), norms(alone), strict=True):
        _compare(ours, theirs)


def _compare(ours: Any, theirs: Any) -> None:
    """To what 8 bits of weights and layer inputs leave."""
    spread = theirs.running_var.sqrt()
    assert ((ours.running_mean - theirs.running_mean).abs() / spread).max() < 0.1
    assert (ours.running_var / theirs.running_var).log().abs().max() < 0.2


def test_gradients_are_those_of_the_float_network() -> None:
    """Through one norm, of sums whose units differ: behind another one the scale of a layer means
    so little that its gradient is that of the rounding.
    """
    x = pixels(40)
    torch.manual_seed(2)
    net = torch_nn.Sequential(
        nn.Standardize(),
        nn.DynamicConv2d(3, 6, 3, padding=1),
        nn.ReLU(),
        nn.DynamicConv2d(6, 6, 3, groups=6),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        nn.Flatten(),
        nn.DynamicLinear(216, 5),
    )
    model = model_of(net)
    model.calibrate(x)
    target = torch.arange(40) % 5
    grads = []
    for forward in (model, net):
        forward.train()
        net.zero_grad()
        F.cross_entropy(forward(x), target).backward()
        grads.append({k: p.grad.clone() for k, p in net.named_parameters() if p.grad is not None})
    assert grads[0].keys() == grads[1].keys() == {k for k, _ in net.named_parameters()}
    for name, ours in grads[0].items():
        theirs = grads[1][name]
        if name == "3.bias":  # which the norm subtracts again
            assert not ours.any()
        if name in ("1.bias", "3.bias"):  # nearly so that of the layer before
            continue
        assert F.cosine_similarity(ours.flatten(), theirs.flatten(), dim=0) > 0.9, name
        assert 0.8 < float(ours.norm() / theirs.norm()) < 1.25, name


def test_the_gradient_is_batch_norms_own() -> None:
    """Against autograd, of real sums that hold gamma / sigma already; exact but for float64."""
    rng = torch.Generator().manual_seed(1)
    c = 3 * torch.randn(5, 4, 3, 2, dtype=torch.float64, generator=rng) + 1
    upstream = torch.randn(c.shape, dtype=torch.float64, generator=rng)
    gamma = torch.tensor([0.7, -1.3], dtype=torch.float64, requires_grad=True)
    beta = torch.zeros(2, dtype=torch.float64, requires_grad=True)
    axes = (0, 1, 2)
    factor = (gamma / (c.var(axes, correction=0) + 1e-5).sqrt()).detach()
    leaf = c.clone().requires_grad_()
    y = F.batch_norm(leaf.permute(0, 3, 1, 2), None, None, gamma, beta, True, 0.0, 1e-5)
    y.permute(0, 2, 3, 1).backward(upstream)
    assert gamma.grad is not None and beta.grad is not None and leaf.grad is not None
    wanted = (leaf.grad / factor, gamma.grad.clone(), beta.grad.clone())
    gamma.grad = beta.grad = None
    reals = (c * factor).requires_grad_()
    affine = channels.Affine(gamma, beta, torch.zeros(2, dtype=torch.float64), 1e-5)
    found = norm.with_batch_gradient(reals, moments_of(reals), affine, factor.numpy())
    assert torch.equal(found, reals)
    found.backward(upstream)
    for ours, theirs in zip((reals.grad, gamma.grad, beta.grad), wanted, strict=True):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("still", ["frozen", "norms in eval mode"])
def test_norms_that_stand_still_keep_their_statistics(still: str) -> None:
    x = pixels(20)
    net = normed()
    model = model_of(net)
    model.calibrate(x)
    before = [copy.deepcopy(module.state_dict()) for module in norms(net)]
    model.train()
    if still == "frozen":
        model.freeze()
    else:
        for module in norms(net):
            module.eval()
    y = model(x)
    y.square().sum().backward()
    for module, state in zip(norms(net), before, strict=True):
        assert module.weight.grad is not None and module.weight.grad.any()
        for key, value in state.items():
            assert torch.equal(module.state_dict()[key], value), key
    assert torch.equal(y.detach(), model.eval()(x).detach())


def test_memory_and_flash_do_not_change_with_training() -> None:
    x = pixels(20)
    net = normed()
    before = model_of(net).estimate()
    after = trained(net, x)[0].estimate()
    assert (before.ram_bytes, before.flash_bytes) == (after.ram_bytes, after.flash_bytes)
    assert before.instructions == after.instructions
