"""Layers whose output step every run finds: codes and an exponent, through everything."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # torch's own convention
from torch import Tensor
from torch import nn as torch_nn

from isobit import Model, nn
from isobit.codegen.network import generate
from isobit.codegen.project import project_files
from isobit.core.dtypes import DType
from isobit.core.errors import (
    BadAttribute,
    BadShape,
    IsobitError,
    NoKernel,
    Overflow,
)
from isobit.core.types import Affine, Pow2, TensorType
from isobit.ir.graph import Graph, map_inputs
from isobit.ops import sampling
from isobit.ops.base import NodeTypes
from isobit.ops.check import check
from isobit.ops.dynamic import DynamicInputs, quantized
from isobit.ops.dynamic_conv2d.op import DynamicConv2d
from isobit.ops.dynamic_linear.op import DynamicLinear, DynamicLinearAttrs
from isobit.ops.schemes import Scheme
from isobit.plan.plan import make_plan
from isobit.run.golden import run_golden
from isobit.targets import load

from .end_to_end import Function

CORES = ("host", "cortex-m4", "cortex-m0plus", "rv32imc")


def chain() -> torch_nn.Module:
    """Every consumer that dynamic values may have."""
    torch.manual_seed(2)
    return torch_nn.Sequential(
        nn.Standardize(),
        nn.DynamicConv2d(3, 4, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.DynamicConv2d(4, 6, 3, groups=2, bias=False),
        nn.ReLU(),
        nn.Flatten(),
        nn.DynamicLinear(24, 8),
        nn.ReLU(),
        nn.DynamicLinear(8, 5),
    )


def separable() -> torch_nn.Module:
    """A DS-CNN: depthwise and pointwise layers, one by stride, one by multiplier, and a mean."""
    torch.manual_seed(2)
    return torch_nn.Sequential(
        nn.Standardize(),
        nn.DynamicConv2d(3, 6, 3, stride=2, padding=1, groups=3),
        nn.ReLU(),
        nn.DynamicConv2d(6, 5, 1),
        nn.ReLU(),
        nn.AvgPool2d(2, ceil_mode=True),
        nn.DynamicConv2d(5, 5, 3, padding="same", dilation=(1, 2), groups=5, bias=False),
        nn.ReLU(),
        nn.DynamicConv2d(5, 7, 1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.DynamicLinear(7, 4),
    )


def pixels(n: int, *shape: int) -> Tensor:
    """Images of very different contrasts."""
    rng = torch.Generator().manual_seed(5)
    spread = torch.logspace(0, 2, n).reshape(-1, *[1] * len(shape))
    return (128 + spread * torch.randn(n, *shape, generator=rng)).round().clamp(0, 255)


def ready(net: torch_nn.Module, x: Tensor, scheme: str = "pow2") -> Model:
    model = Model(net, input=tuple(x.shape[1:]), scheme=scheme, name="net")
    model.train()
    model(x)
    return model.eval()


def test_bits_are_the_same_everywhere(tmp_path: Path) -> None:
    x = pixels(8, 3, 8, 8)
    net = chain()
    model = ready(net, x)
    graph = model.export()
    codes, exponent = graph.outputs
    assert graph.type_map()[codes].encoding == Pow2((0,), dynamic=True)
    assert (graph.type_map()[exponent].dtype, graph.type_map()[exponent].shape) == (
        DType.S16,
        (1, 1),
    )
    bundle = model.deploy(tmp_path / "net", samples=x)
    found = bundle.verify(on=list(CORES))
    assert {c.name for c in found} >= {"torch", *CORES}
    assert all(c.compared > 0 and c.differing == 0 for c in found)
    assert "real = SCALE * code * 2^e" in (tmp_path / "net/src/net.h").read_text()
    assert '"dynamic": true' in (tmp_path / "net/manifest.json").read_text()
    golden = run_golden(graph, model.quantize_input(x))
    real = golden[codes] * np.exp2(golden[exponent].astype(np.float64))
    assert np.array_equal(model(x).detach().numpy(), real)
    first = next(node for node in graph.nodes if node.op == "dynamic_conv2d")
    assert len(np.unique(golden[first.outputs[1].name])) > 2  # each image has a step of its own
    with torch.no_grad():
        want = net(x)
    # Eight bits of the largest value of each layer, five layers.
    off = (model(x) - want).abs().amax(1) / want.abs().amax(1)
    assert off.max() < 0.1


def test_depthwise_layers_have_the_same_bits_everywhere(tmp_path: Path) -> None:
    x = pixels(8, 3, 9, 11)
    net = separable()
    model = ready(net, x)
    graph = model.export()
    assert [node.op for node in graph.nodes if "conv" in node.op] == [
        "dynamic_depthwise_conv2d",
        "dynamic_conv2d",
    ] * 2
    found = model.deploy(tmp_path / "net", samples=x).verify(on=list(CORES))
    assert {c.name for c in found} >= {"torch", *CORES}
    assert all(c.compared > 0 and c.differing == 0 for c in found)
    golden = run_golden(graph, model.quantize_input(x))
    depthwise = [node for node in graph.nodes if node.op == "dynamic_depthwise_conv2d"]
    for node in depthwise:
        assert len(np.unique(golden[node.outputs[1].name])) > 2
    with torch.no_grad():
        want = net(x)
    off = (model(x) - want).abs().amax(1) / want.abs().amax(1)
    assert off.max() < 0.1


def test_one_channel_in_is_an_ordinary_convolution() -> None:
    """As in torch, where one group is no depthwise convolution."""
    net = torch_nn.Sequential(nn.DynamicConv2d(1, 4, 3))
    graph = Model(net, input=(1, 6, 6), scheme="pow2", name="net").export(untrained=True)
    assert [node.op for node in graph.nodes] == ["dynamic_conv2d"]


def test_layers_after_a_fixed_step_and_before_a_head() -> None:
    """Only the last layer is dynamic: what a classifier's scores are worth one bit more or less."""
    torch.manual_seed(2)
    net = torch_nn.Sequential(
        nn.Standardize(), nn.Conv2d(1, 3, 3), nn.ReLU(), nn.Flatten(), nn.DynamicLinear(48, 4)
    )
    x = pixels(12, 1, 6, 6)
    model = ready(net, x)
    graph = model.export()
    assert [node.op for node in graph.nodes][-1] == "dynamic_linear"
    golden = run_golden(graph, model.quantize_input(x))
    recorded = model.trace(x)
    assert set(recorded) == set(golden)
    for name, values in recorded.items():
        np.testing.assert_array_equal(values, golden[name], err_msg=name)


def features(conv: type[torch_nn.Module], linear: type[torch_nn.Module]) -> torch_nn.Module:
    """Strided convolutions."""
    return torch_nn.Sequential(
        nn.Standardize(),
        conv(3, 8, 3, stride=2, padding=1),
        nn.ReLU(),
        conv(8, 16, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        linear(1024, 10),
    )


def perceptron(conv: type[torch_nn.Module], linear: type[torch_nn.Module]) -> torch_nn.Module:
    """Linear layers."""
    return torch_nn.Sequential(linear(256, 128), nn.ReLU(), linear(128, 64), nn.ReLU())


@pytest.mark.parametrize("net", [features, perceptron])
def test_memory_is_two_to_four_times_that_of_fixed_steps(
    net: Callable[[type[torch_nn.Module], type[torch_nn.Module]], torch_nn.Module],
) -> None:
    """KANJI: dynamic output quantisation costs 2 to 4 times the run-time memory."""
    arenas = []
    for conv, linear in ((nn.Conv2d, nn.Linear), (nn.DynamicConv2d, nn.DynamicLinear)):
        torch.manual_seed(2)
        shape = (3, 32, 32) if net is features else (256,)
        model = Model(net(conv, linear), input=shape, scheme="pow2", name="net")
        plan = make_plan(model.export(untrained=True), load("cortex-m4"))
        assert model.estimate().arena_bytes == plan.arena_bytes
        arenas.append(plan.arena_bytes)
    fixed, dynamic = arenas
    assert 2.0 < dynamic / fixed < 4.0, f"{dynamic} against {fixed} bytes"


def test_every_sum_is_kept_as_int32() -> None:
    """The memory of a layer: its input, four bytes of every sum, its codes and their exponent."""
    net = torch_nn.Sequential(nn.DynamicConv2d(4, 6, 3))
    model = Model(net, input=(4, 9, 8), scheme="pow2", name="net")
    plan = make_plan(model.export(untrained=True), load("cortex-m4"))
    sums = 7 * 6 * 6
    least = 4 * 9 * 8 + (4 + 1) * sums + 2
    assert least <= plan.arena_bytes < least + 16


def test_steps_are_the_finest_that_hold_all_codes() -> None:
    """Against exact fractions, at every size of sums and every order of the two units."""
    rng = np.random.default_rng(8)
    for size, more, with_bias in itertools.product(
        (0, 1, 63, 127, 128, 255, 256, 5000, 2**20, 2**29 - 1), (-70, -9, 0, 3, 70), (False, True)
    ):
        sums = rng.integers(-size, size + 1, size=(3, 5))
        sums[0, 0], sums[1, 0] = size, -size
        b = rng.integers(-(2**14), 2**14, size=5) if with_bias else None
        e = np.asarray([[more], [more + 1], [more - 1]])
        attrs = DynamicLinearAttrs(product=-7, bias=-7)
        y, found = quantized(attrs, sums, b, e)
        for n in range(3):
            step = Fraction(2) ** int(found[n, 0])
            unit = Fraction(2) ** (int(e[n, 0]) - 7)
            own = Fraction(2) ** -7
            exact = [
                Fraction(int(s)) * unit + (0 if b is None else Fraction(int(b[i])) * own)
                for i, s in enumerate(sums[n])
            ]
            coarse = unit if b is None else max(unit, own)
            for code, real in zip(y[n].tolist(), exact, strict=True):
                assert abs(code * step - real) <= step / 2 + coarse or code == 127
                assert abs(code * step - real) <= step + coarse
            assert step >= coarse
            # One step less would not hold the largest.
            if step > coarse:
                assert max(abs(code) for code in y[n].tolist()) >= 64


def shallow() -> torch_nn.Module:
    """A depthwise and a pointwise layer: no deeper, for each rounding turns gradients a little."""
    return torch_nn.Sequential(*separable()[:4], nn.Flatten(), nn.DynamicLinear(80, 4))


@pytest.mark.parametrize("build", [chain, shallow])
def test_gradients_are_those_of_the_float_network(build: Callable[[], torch_nn.Module]) -> None:
    """Straight through both roundings, the exponent a constant."""
    x = pixels(8, 3, 8, 8)
    net = build()
    model = ready(net, x)
    target = torch.arange(8) % 4
    grads = []
    for forward in (model, net):
        net.zero_grad()
        F.cross_entropy(forward(x), target).backward()
        grads.append([p.grad.clone() for p in net.parameters() if p.grad is not None])
    assert len(grads[0]) == len(grads[1]) == sum(1 for _ in net.parameters())
    for ours, theirs in zip(*grads, strict=True):
        assert F.cosine_similarity(ours.flatten(), theirs.flatten(), dim=0) > 0.9
        assert 0.8 < float(ours.norm() / theirs.norm()) < 1.25


def test_a_dynamic_network_trains() -> None:
    x = pixels(32, 3, 8, 8)
    target = torch.randint(0, 5, (32,), generator=torch.Generator().manual_seed(1))
    model = Model(chain(), input=(3, 8, 8), scheme="pow2", name="net")
    before = model.estimate()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    model.train()
    losses = []
    for _ in range(30):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), target)
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.8 * losses[0]
    after = model.estimate()
    assert (before.ram_bytes, before.flash_bytes) == (after.ram_bytes, after.flash_bytes)
    assert before.instructions == after.instructions


class Behind(torch_nn.Module):
    """Something behind a dynamic layer."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.layer = nn.DynamicConv2d(2, 2, 3, padding=1)
        self.function = Function(function)

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self.layer(x))


@pytest.mark.parametrize(
    "function",
    [
        torch.sigmoid,
        F.relu6,
        lambda x: F.hardtanh(x, 0.0, 200.0),
        lambda x: x + x,
        lambda x: torch.cat([x, x], 1),
        lambda x: F.relu6(F.avg_pool2d(x, 2)),
        lambda x: torch.sigmoid(x.mean((2, 3))),
        lambda x: F.softmax(x.flatten(1), 1),
        lambda x: F.pad(x, (1, 1)),
        lambda x: x * x,
    ],
)
def test_what_needs_the_step_is_refused(function: Callable[[Tensor], Tensor]) -> None:
    with pytest.raises(NoKernel, match="one that every run finds"):
        Model(Behind(function), input=(2, 6, 6), scheme="pow2", name="net")


@pytest.mark.parametrize("layer", [nn.Conv2d(2, 2, 1), nn.Sigmoid()])
def test_layers_with_a_fixed_input_step_are_refused(layer: torch_nn.Module) -> None:
    net = torch_nn.Sequential(nn.DynamicConv2d(2, 2, 1), layer)
    with pytest.raises(NoKernel, match="every run finds"):
        Model(net, input=(2, 6, 6), scheme="pow2", name="net")


def test_a_batch_norm_behind_another_layer_is_refused() -> None:
    net = torch_nn.Sequential(nn.DynamicConv2d(2, 2, 1), nn.ReLU(), nn.BatchNorm2d(2))
    with pytest.raises(NoKernel, match="directly after a convolution"):
        Model(net, input=(2, 6, 6), scheme="pow2", name="net")


@pytest.mark.parametrize(
    "function",
    [
        torch.relu,
        lambda x: F.max_pool2d(x, 2).flatten(1),
        lambda x: x.permute(0, 1, 3, 2),
        lambda x: torch.relu(F.avg_pool2d(x, 3, 2, 1, count_include_pad=False)),
        lambda x: x.mean((2, 3)),
    ],
)
def test_what_does_not_need_it_is_not(function: Callable[[Tensor], Tensor]) -> None:
    model = ready(Behind(function), torch.randn(4, 2, 6, 6))
    assert len(model.export().outputs) == 2


def test_other_schemes_are_refused() -> None:
    net = torch_nn.Sequential(nn.DynamicConv2d(2, 2, 1))
    with pytest.raises(BadAttribute, match=r'dynamic_conv2d.*scheme="pow2"'):
        Model(net, input=(2, 6, 6), scheme="affine", name="net").estimate()


def test_graphs_with_other_exponents_are_illegal() -> None:
    x = pixels(4, 3, 8, 8)
    graph = ready(chain(), x).export()
    check(graph)
    layers = [node for node in graph.nodes if node.op.startswith("dynamic")]
    wrong = replace(layers[2].inputs, e=layers[0].outputs[1].name)
    with pytest.raises(NoKernel, match="exponent of its input"):
        check(_with(graph, layers[2].outputs[0].name, wrong))
    with pytest.raises(BadShape, match="exponent of x: want one, got none"):
        check(_with(graph, layers[2].outputs[0].name, replace(wrong, e=None)))
    with pytest.raises(BadShape, match="none: its step is fixed"):
        image = sampling.kind((1, 4, 4, 4), Pow2((5,)))
        DynamicConv2d.infer(
            layers[1].attrs,
            map_inputs(replace(layers[1].inputs, x="x"), {**graph.type_map(), "x": image}.get),
        )


def _with(graph: Graph, name: str, inputs: DynamicInputs[str]) -> Graph:
    return replace(
        graph,
        nodes=tuple(
            replace(node, inputs=inputs) if node.outputs[0].name == name else node
            for node in graph.nodes
        ),
    )


def test_averages_with_bounds_in_codes_need_the_step() -> None:
    """A clamp at code 100 means another number in every run."""
    net = torch_nn.Sequential(nn.DynamicConv2d(2, 2, 1), nn.AvgPool2d(2), nn.ReLU())
    graph = ready(net, torch.randn(4, 2, 6, 6)).export()
    check(graph)
    *layers, pool = graph.nodes
    assert pool.op == "avg_pool2d" and pool.attrs.clamp == (0, 127)
    for clamp in ((0, 100), (-5, 127)):
        bounded = replace(pool, attrs=replace(pool.attrs, clamp=clamp))
        with pytest.raises(NoKernel, match="one that every run finds"):
            check(replace(graph, nodes=(*layers, bounded)))


def test_types_and_sums_that_no_kernel_takes_are_refused() -> None:
    x, w = sampling.kind((1, 4), Pow2((5,))), sampling.kind((3, 4), Pow2((7,)))
    types: DynamicInputs[TensorType] = DynamicInputs(x, w, None)
    attrs, _ = DynamicLinear.derive(DynamicLinearAttrs(), NodeTypes(types, ()), Scheme.POW2, None)
    assert attrs == DynamicLinearAttrs(-12, 0)
    with pytest.raises(BadAttribute, match="product"):
        DynamicLinear.infer(DynamicLinearAttrs(product=2**15), types)
    with pytest.raises(BadShape, match="power-of-two steps"):
        affine = replace(types, x=sampling.kind((1, 4), Affine((0.1,), 3)))
        DynamicLinear.infer(attrs, affine)
    with pytest.raises(BadShape, match="mult, shift"):
        DynamicLinear.infer(attrs, replace(types, shift=sampling.raw32(1)))
    with pytest.raises(IsobitError, match=r"want s16\[1,1\], got s8\[1, 4\]"):
        DynamicLinear.infer(attrs, replace(types, e=x))
    heavy = np.full((3, 4), 127, dtype=np.int8)
    outputs = tuple(
        TensorType(one.shape, one.dtype, one.encoding) for one in DynamicLinear.infer(attrs, types)
    )
    q = NodeTypes(types, outputs)
    consts = DynamicInputs(None, heavy, np.full(3, 2**30 - 1 - 127 * 128 * 4))
    assert DynamicLinear.prove(attrs, q, consts, "here") == ()
    consts = DynamicInputs(None, heavy, np.full(3, 2**30 - 127 * 128 * 4))
    (problem,) = DynamicLinear.prove(attrs, q, consts, "here")
    assert isinstance(problem, Overflow)


def test_kernels_share_one_header() -> None:
    kernels = set()
    for net in (chain(), separable()):
        graph = ready(net, pixels(4, 3, 8, 8)).export()
        network = generate(make_plan(graph, load("host")), "test")
        kernels |= {f"{i.kernel.op}/{i.kernel.stem}" for i in network.instances}
        found = project_files(network)
        assert [name for name in found if "dynamic" in name and "kernels" not in name] == [
            "src/isobit_dynamic.h"
        ]
    assert kernels >= {
        "dynamic_conv2d/reference",
        "dynamic_conv2d/chained",
        "dynamic_depthwise_conv2d/reference",
        "dynamic_depthwise_conv2d/chained",
        "dynamic_linear/chained",
    }
