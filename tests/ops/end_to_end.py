"""Small networks through every implementation: torch, golden model, host C and an emulated core."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from isobit import Model, targets
from isobit.codegen.network import generate
from isobit.ir.graph import Graph
from isobit.plan.plan import make_plan
from isobit.run.execute import build, execute
from isobit.run.golden import run_golden
from isobit.train.trace import trace

SCHEMES = ("affine", "pow2")
SAMPLES = 6


class Function(nn.Module):
    """A function as a network."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


def trained(
    net: nn.Module, shape: tuple[int, ...], scheme: str, x: Tensor | None = None
) -> tuple[Model, Tensor]:
    """A model whose ranges come from one batch, and that batch: normal numbers by default."""
    torch.manual_seed(1)
    model = Model(net, input=shape, scheme=scheme, name="net")
    x = torch.randn(SAMPLES, *shape) if x is None else x
    model.train()
    model(x)
    model.eval()
    return model, x


def assert_same_bits(
    net: nn.Module,
    shape: tuple[int, ...],
    scheme: str,
    cores: tuple[str, ...] = ("host", "cortex-m4"),
    x: Tensor | None = None,
) -> Graph:
    """Hold torch, golden model and C to each other in every value, and all of them to the float
    network.
    """
    model, x = trained(net, shape, scheme, x)
    graph, codes = model.export(), model.quantize_input(x)
    golden = run_golden(graph, codes)
    recorded = model.trace(x)
    assert set(recorded) == set(golden)
    for name, values in recorded.items():
        np.testing.assert_array_equal(values, golden[name], err_msg=f"torch, {name}")
    for core in cores:
        network = generate(make_plan(graph, targets.load(core)), "test")
        ran = execute(network, build(network, trace=True), codes)
        np.testing.assert_array_equal(ran.output, golden[graph.outputs[0]], err_msg=core)
        for name, values in ran.trace.items():
            np.testing.assert_array_equal(values, golden[name], err_msg=f"{core}, {name}")
    with torch.no_grad():
        want, got = net(x), model(x)
    assert got.shape == want.shape
    # Rounding alone, of at most a dozen 8-bit layers, stays far below this; features in another
    # order do not.
    assert (got - want).abs().max() < 0.25 * (want.max() - want.min())
    return graph


def float_output(net: nn.Module, shape: tuple[int, ...], x: Tensor) -> np.ndarray:
    """The traced float graph's output for torch input `x`, in torch's layout."""
    graph = trace(net, shape, "net", "cortex-m4").graph
    stored = x.permute(0, 2, 3, 1) if x.dim() == 4 else x
    y = run_golden(graph, stored.double().numpy())[graph.outputs[0]]
    return y.transpose(0, 3, 1, 2) if y.ndim == 4 else y


def assert_moves_as_torch(net: nn.Module, shape: tuple[int, ...]) -> None:
    """A network that only moves elements gives torch's output, element for element."""
    x = torch.arange(2 * np.prod(shape)).reshape(2, *shape).float()
    np.testing.assert_array_equal(float_output(net, shape, x), net(x).numpy())
