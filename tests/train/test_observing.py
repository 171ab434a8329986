"""What a training step observes: the numbers that its integers stand for, at no further cost."""

from __future__ import annotations

import copy
from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

import isobit
from isobit import nn
from isobit.core.errors import Diverged
from isobit.core.types import AnyArray, scale_of
from isobit.ir.graph import Graph, Node
from isobit.ops.schemes import Scheme
from isobit.run.golden import run_golden
from isobit.train import normalised
from isobit.train.fit import COSINE, train
from isobit.train.graph_net import GraphNet
from isobit.train.history import Moment
from isobit.train.plan import Plan
from isobit.train.ranges import RangeOptions
from isobit.train.recipe.types import Optimizer, Run
from isobit.train.twin import Twin

from .nets import SCHEMES, digits
from .test_sums import convolution

EVERY = 3


def network() -> torch.nn.Module:
    """A pool behind sums, a batch norm, an addition, a layer without an activation."""

    class Net(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Conv2d(1, 6, 3, padding=1)
            self.second = nn.Conv2d(6, 6, 3, padding=1, bias=False)
            self.norm = nn.BatchNorm2d(6)
            self.last = nn.Linear(96, 10)

        def forward(self, x: Tensor) -> Tensor:
            x = torch.relu(torch.nn.functional.max_pool2d(self.first(x), 2))
            return self.last(torch.flatten(x + torch.relu(self.norm(self.second(x))), 1))

    return Net()


def trained(scheme: Scheme) -> tuple[Twin, torch.optim.Optimizer]:
    """A twin whose next step observes; its moving range is then that batch's."""
    torch.manual_seed(0)
    options = RangeOptions(momentum=1.0, observe_every=EVERY, update_every=EVERY)
    twin = Twin(
        network(), input=(1, 8, 8), target="host", scheme=scheme, name="net", ranges=options
    )
    optimizer = torch.optim.SGD(twin.parameters(), lr=0.02)
    for _ in range(EVERY - 1):
        learn(twin, optimizer)
    return twin, optimizer


def learn(twin: Twin, optimizer: torch.optim.Optimizer) -> None:
    x, y = digits(32)
    optimizer.zero_grad()
    out = twin(x)
    assert isinstance(out, Tensor)
    torch.nn.functional.cross_entropy(out, y).backward()
    optimizer.step()


def reals(graph: Graph, node: Node, codes: dict[str, AnyArray]) -> AnyArray:
    """The sums of a layer, from the graph's constants in int64, in real units."""
    inputs: Any = node.inputs
    consts = {const.name: const.data.astype(np.int64) for const in graph.consts}
    types = graph.type_map()
    x, w = codes[inputs.x].astype(np.int64) - types[inputs.x].zero, consts[inputs.w]
    if node.op == "linear":
        sums = x @ w.T
    else:
        attrs: Any = node.attrs
        sums = convolution(x, w, attrs.stride, attrs.pad, attrs.dilation)
    sums = sums + (0 if inputs.b is None else consts[inputs.b])
    mult = 1 if inputs.mult is None else consts[inputs.mult]
    size = float(scale_of(types[node.output.name].encoding)[0])
    found: AnyArray = sums * (mult * 2.0 ** -consts[inputs.shift]) * size
    return found


@pytest.mark.parametrize("scheme", SCHEMES, ids=lambda s: s.value)
def test_ranges_are_those_of_the_sums_before_rounding(scheme: Scheme) -> None:
    twin, optimizer = trained(scheme)
    before = copy.deepcopy(twin)
    learn(twin, optimizer)
    for step in before.steps:  # what this batch was normalised with
        if step.norm is not None and scheme is Scheme.AFFINE:
            module, found = normalised.module(before, step), twin.batch_statistics[step.name]
            module.running_mean.copy_(torch.from_numpy(found.mean))
            module.running_var.copy_(torch.from_numpy(found.var))
    graph = before.eval().export()
    x, _ = digits(32)
    codes = run_golden(graph, before.quantize_input(x))
    by_output = {node.output.name: node for node in graph.nodes}
    checked = Counter[str]()
    for step in twin.steps:
        observer = twin.observer(step.name)
        if observer is None:
            continue
        node = by_output[step.name]
        if node.op == "add":
            types = graph.type_map()
            a, b = (codes[n] for n in (node.inputs.a, node.inputs.b))  # type: ignore[attr-defined]  # an addition's
            parts = [
                (v.astype(np.int64) - types[n].zero) * float(scale_of(types[n].encoding)[0])
                for v, n in ((a, node.inputs.a), (b, node.inputs.b))  # type: ignore[attr-defined]  # as above
            ]
            values = parts[0] + parts[1]
        else:
            values = reals(graph, node, codes)
        if step.name in twin.pooled:
            n, h, w, c = values.shape
            values = values.reshape(n, h // 2, 2, w // 2, 2, c).max((2, 4))
        values = values.clip(step.low, step.high)
        want = (float(values.min()), float(values.max()))
        size = float(scale_of(graph.type_map()[step.name].encoding)[0])
        # float32 holds sums to 2^-24 of them; an addition's estimate is in float32, too.
        assert float(observer.low) == pytest.approx(want[0], abs=1e-4 * size), step.name
        assert float(observer.high) == pytest.approx(want[1], abs=1e-4 * size), step.name
        checked[node.op] += 1
    assert checked == {"conv2d": 2, "add": 1, "linear": 1}


class Calls(TorchDispatchMode):
    """Counts what convolves or multiplies matrices."""

    def __init__(self) -> None:
        super().__init__()
        self.found = Counter[str]()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = str(func)
        if any(word in name for word in ("convolution", "_int_mm", "addmm", "aten.mm")):
            self.found[name] += 1
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("scheme", SCHEMES, ids=lambda s: s.value)
def test_observing_computes_no_sum_twice(scheme: Scheme) -> None:
    twin, optimizer = trained(scheme)
    found = []
    for _ in range(EVERY):  # the first one observes
        before = {name: o.low.clone() for name, o in twin.observers.items()}
        with Calls() as calls:
            learn(twin, optimizer)
        found.append(calls.found)
        moved = any(bool(twin.observers[k].low != v) for k, v in before.items())
        assert moved is (len(found) == 1)
    assert found[0] == found[1] == found[2]
    assert found[0]


@pytest.mark.parametrize("scheme", SCHEMES, ids=lambda s: s.value)
def test_layers_are_observed_whose_norms_stand_still(scheme: Scheme) -> None:
    twin, optimizer = trained(scheme)
    twin.net.get_submodule("norm").eval()
    before = {name: (float(o.low), float(o.high)) for name, o in twin.observers.items()}
    learn(twin, optimizer)
    after = {name: (float(o.low), float(o.high)) for name, o in twin.observers.items()}
    assert [name for name in before if before[name] == after[name]] == ["x"]


@pytest.mark.parametrize("scheme", SCHEMES, ids=lambda s: s.value)
def test_statistics_that_left_float32_are_told(scheme: Scheme) -> None:
    twin, optimizer = trained(scheme)
    with torch.no_grad():
        twin.net.get_submodule("norm").get_buffer("running_var")[2] = float("inf")
    with pytest.raises(Diverged, match=r"running variance of the batch norm.* 1 of 6"):
        learn(twin, optimizer)


@pytest.mark.parametrize("scheme", SCHEMES, ids=lambda s: s.value)
def test_the_first_batch_is_observed_once(scheme: Scheme) -> None:
    net = nn.Sequential(nn.Standardize(), nn.Conv2d(1, 4, 3), nn.Flatten(), nn.Linear(144, 10))
    options = RangeOptions(observe_every=1)
    twin = Twin(net, input=(1, 8, 8), target="host", scheme=scheme, name="net", ranges=options)
    x, _ = digits(16)
    for count in (1, 2, 3):
        twin(x)
        assert int(net.get_submodule("0").get_buffer("observed")) == count


def test_weights_lie_as_sums_read_them_while_fit_runs() -> None:
    net = network()
    model = isobit.Model(net, input=(1, 8, 8), scheme="pow2")
    weight = net.get_parameter("second.weight")
    assert weight.is_contiguous()
    seen = []

    def look(_: Moment) -> None:
        seen.append(weight.is_contiguous(memory_format=torch.channels_last))

    plan = Plan(
        run=Run(epochs=1, batch_size=32),
        optimizer=Optimizer(name="adamw", learning_rate=1e-3),
        schedule=COSINE,
    )
    train(model, digits(64), digits(32), plan, on_step=look)
    assert seen and all(seen)
    assert weight.is_contiguous(), "as the user had it"
    assert weight.grad is None or weight.grad.is_contiguous()


def test_weights_of_a_graph_lie_so_already() -> None:
    layers = nn.Sequential(nn.Conv2d(1, 6, 3), nn.Conv2d(6, 8, 3))
    written = Twin(layers, input=(1, 8, 8), target="host", scheme=Scheme.POW2, name="net")
    net = GraphNet(written.traced.graph)
    Twin(net, input=net.input_shape, target="host", scheme=Scheme.POW2, name="graph")
    assert [w.shape for w in net.parameters() if w.dim() == 4] == [(6, 3, 3, 1), (8, 3, 3, 6)]
    assert all(weight.is_contiguous() for weight in net.parameters())
