"""Small networks: a float graph against torch, and one network's integers in all four places."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from isobit import targets
from isobit.api.model import Model
from isobit.codegen.network import generate
from isobit.ir.graph import Graph
from isobit.ops.base import Scheme
from isobit.plan.plan import make_plan
from isobit.run.execute import build, execute
from isobit.run.golden import run_golden
from isobit.train.trace import trace


def float_graph(net: nn.Module, shape: tuple[int, ...]) -> Graph:
    """The float graph of a network or of a single layer."""
    return trace(nn.Sequential(net), shape, "net", "host").graph


def assert_float_equal(net: nn.Module, shape: tuple[int, ...]) -> Graph:
    """The float graph computes what torch computes: both in float64, up to summation order."""
    net = net.double()
    graph = float_graph(net, shape)
    x = torch.randn(3, *shape, generator=torch.Generator().manual_seed(7), dtype=torch.float64)
    codes = (x.permute(0, 2, 3, 1) if x.dim() == 4 else x).numpy()
    got = run_golden(graph, codes)[graph.outputs[0]]
    want = net(x).detach()
    want = want.permute(0, 2, 3, 1) if want.dim() == 4 else want
    np.testing.assert_allclose(got, want.numpy(), rtol=1e-12, atol=1e-12)
    return graph


def pixels(shape: tuple[int, ...], count: int = 24) -> Tensor:
    """Raw images."""
    return torch.randint(
        0, 256, (count, *shape), generator=torch.Generator().manual_seed(3)
    ).float()


def assert_same_bits(net: nn.Module, shape: tuple[int, ...], scheme: Scheme) -> Graph:
    """Torch = golden model = C on the host, in every value; every parameter gets a gradient."""
    model = Model(net, input=shape, target="cortex-m4", scheme=scheme.value, name="net")
    x = pixels(shape)
    logits = model(x)
    logits.square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in net.parameters())
    with torch.no_grad():
        wanted = net(x)
        # 8-bit activations of a few layers: a sanity bound, the bits are held to equality below.
        assert float((logits - wanted).norm() / wanted.norm()) < 0.2
    graph, codes = model.export(), model.quantize_input(x)
    golden = run_golden(graph, codes)
    traced = model.trace(x)
    for name, values in traced.items():
        assert np.array_equal(values, golden[name]), name
    network = generate(make_plan(graph, targets.load("host")), "0")
    result = execute(network, build(network, trace=True), codes)
    assert result.trace.keys() == {v.name for node in graph.nodes for v in node.outputs}
    for name, values in result.trace.items():
        assert np.array_equal(values, golden[name]), name
    assert np.array_equal(result.output, golden[graph.outputs[0]])
    return graph
