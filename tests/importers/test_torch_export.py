"""Plain torch modules as graphs: the reals are torch's, and the integers are the chip's."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import isobit
from isobit.api.from_torch import from_torch, import_torch
from isobit.core.errors import BadArgument, IsobitError, NotTraceable, UnknownName, Unsupported
from isobit.importers.torch_program import first_examples, trace
from isobit.ir.graph import Graph
from isobit.ops.registry import load_ops
from isobit.run.golden import run_golden

from .torch_cases import CASES, Calls, Case
from .torch_nets import NETS, made

TOLERANCE = 1e-5
"""Of one operator, relative to the largest value: float64 here, float32 in torch."""
NETWORK = 1e-4
"""Of a whole network."""
EXAMPLES = 3


def stored(x: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Return torch's [N, C, ...] in the order of axes that a value of the graph has."""
    if x.shape[1:] == shape[1:]:
        return x
    moved = np.moveaxis(x, 1, -1) if x.ndim > 2 else x
    return moved if moved.shape[1:] == shape[1:] else x.reshape(len(x), *shape[1:])


def outputs(graph: Graph, xs: list[Tensor]) -> list[np.ndarray]:
    arrays = {
        value.name: stored(x.numpy(), value.type.shape)
        for value, x in zip(graph.inputs, xs, strict=True)
    }
    values = run_golden(graph, arrays if len(arrays) > 1 else next(iter(arrays.values())))
    return [values[name] for name in graph.outputs]


def largest_difference(graph: Graph, module: nn.Module, xs: list[Tensor]) -> float:
    """Return the largest difference of any output, relative to torch's largest value."""
    with torch.no_grad():
        found = [module(*[x[i : i + 1] for x in xs]) for i in range(len(xs[0]))]
    rows = [row if isinstance(row, tuple | list) else (row,) for row in found]
    worst = 0.0
    for index, got in enumerate(outputs(graph, xs)):
        parts = [row[index].numpy() for row in rows]
        batched = parts[0].ndim > 1 and parts[0].shape[0] == 1
        want = np.concatenate(parts) if batched else np.stack(parts)
        want = stored(want, (1, *got.shape[1:]))
        assert got.shape == want.shape
        worst = max(worst, float(np.abs(got - want).max() / max(np.abs(want).max(), 1e-3)))
    return worst


def examples(case: Case) -> list[Tensor]:
    torch.manual_seed(1)
    xs = [torch.randn(EXAMPLES, *shape) for shape in case.shapes]
    return [x.abs() + 0.1 for x in xs] if case.positive else xs


def networks_own(case: Case) -> nn.Module:
    torch.manual_seed(2)
    module = case.module()
    for part in module.modules():
        if isinstance(part, nn.BatchNorm1d | nn.BatchNorm2d):
            part.running_mean.normal_()
            part.running_var.uniform_(0.5, 2.0)
    return module.eval()


@pytest.mark.parametrize("label", CASES)
def test_operator_equals_torch(label: str) -> None:
    case = CASES[label]
    module, xs = networks_own(case), examples(case)
    graph = from_torch(module, xs)
    assert largest_difference(graph, module, xs) < TOLERANCE
    assert not any(node.op == "batch_norm" for node in graph.nodes)


def test_cases_export_the_operators_that_they_name() -> None:
    known = {code for source, code in load_ops().rules if source == "torch"}
    for label, case in CASES.items():
        found = {n.code for n in trace(networks_own(case), examples(case), known).model.nodes}
        assert case.code in found, f"{label}: {case.code} is not in {sorted(found)}"
    assert len({case.code for case in CASES.values()}) >= 40


@pytest.mark.parametrize("name", NETS)
def test_network_equals_torch_without_transposes_and_batch_norms(name: str) -> None:
    net, shape = made(name)
    x = torch.randn(EXAMPLES, *shape)
    graph = from_torch(net, x)
    ops = {node.op for node in graph.nodes}
    assert not {"transpose", "batch_norm"} & ops
    assert largest_difference(graph, net, [x]) < NETWORK


@pytest.mark.parametrize("name", NETS)
def test_network_is_calibrated_and_deployed_exactly(name: str, tmp_path: Path) -> None:
    net, shape = made(name)
    graph = from_torch(net, torch.randn(1, *shape), name=name)
    x = torch.randn(16, *shape)
    data = stored(x.numpy(), graph.inputs[0].type.shape)
    model = isobit.calibrate(graph, data)
    with torch.no_grad():
        want, got = net(x), model(torch.from_numpy(data))
    assert float((got.reshape(want.shape) - want).abs().mean() / want.abs().mean()) < 0.1
    assert not any(node.op == "transpose" for node in model.export().nodes)
    bundle = model.deploy(tmp_path / "deployed")
    found = bundle.verify(model.quantize_input(data[:2]), on=["host", "cortex-m4"])
    assert [one.differing for one in found] == [0, 0]
    assert all(one.compared > 1000 for one in found)


def test_module_keeps_its_mode() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout())
    net.train()
    net[1].eval()
    before = {key: value.clone() for key, value in net.state_dict().items()}
    graph = from_torch(net, torch.randn(2, 3, 8, 8))
    assert (net.training, net[0].training, net[1].training, net[2].training) == (
        True,
        True,
        False,
        True,
    )
    assert all(torch.equal(before[key], value) for key, value in net.state_dict().items())
    assert [node.op for node in graph.nodes] == ["conv2d"]


def test_values_and_constants_are_named_after_the_module() -> None:
    net, shape = made("resnet8")
    model = import_torch(net, torch.randn(1, *shape), name="ic")
    assert model.graph.name == "ic"
    labels = {const.label for const in model.graph.consts}
    assert {"fc.weight", "fc.bias", "layer2.downsample.0.weight"} <= labels
    assert model.names["layer1_bn1_norm_1"] == "layer1.bn1/norm_1"
    assert model.source["format"] == "torch"


def test_nodes_know_the_line_that_asked_for_them() -> None:
    net, shape = made("mobilenet_v3")
    graph = from_torch(net, torch.randn(1, *shape))
    places = {str(node.location) for node in graph.nodes}
    assert all(place.startswith("torch_nets.py:") for place in places), places


class Borders(nn.Module):
    def forward(self, x: Tensor, unread: Tensor) -> tuple[Tensor, ...]:
        y = x.relu()
        return x, y, y


def test_inputs_may_be_outputs_and_outputs_the_same() -> None:
    xs = [torch.randn(EXAMPLES, 2, 3, 5), torch.randn(EXAMPLES, 4)]
    graph = from_torch(Borders(), xs)
    assert len(graph.inputs) == 2 and len(set(graph.outputs)) == 3
    assert largest_difference(graph, Borders(), xs) == 0.0


def test_parametrised_weights_and_buffers_become_constants() -> None:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.utils.parametrizations.weight_norm(nn.Conv2d(3, 4, 3))
            self.register_buffer("mean", torch.randn(3, 1, 1), persistent=False)

        def forward(self, x: Tensor) -> Tensor:
            return self.conv((x - self.mean) / torch.tensor([2.0]))

    x = torch.randn(EXAMPLES, 3, 6, 7)
    module = Scaled().eval()
    graph = from_torch(module, x)
    assert largest_difference(graph, module, [x]) < TOLERANCE
    assert "conv2d" in {node.op for node in graph.nodes}


class Namesakes(nn.Module):
    """Parameters that are called as an input and as operators are."""

    def __init__(self) -> None:
        super().__init__()
        for name in ("x", "mul", "mul_1", "relu", "add"):
            self.register_parameter(name, nn.Parameter(torch.randn(3, 1, 1)))

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x * self.mul * self.mul_1 + self.x) * self.relu + x * self.add


def test_parameters_may_be_called_as_inputs_and_operators_are() -> None:
    x = torch.randn(EXAMPLES, 3, 6, 7)
    module = Namesakes()
    graph = from_torch(module, x)
    assert largest_difference(graph, module, [x]) < TOLERANCE
    assert {const.label for const in graph.consts} >= {"x", "relu", "add"}


def test_more_pieces_than_a_kernel_takes_are_split_and_joined_in_turns(tmp_path: Path) -> None:
    """Kernels read and write at most 16 parts."""
    module = Calls(lambda x: torch.stack([part.relu() for part in x.unbind(1)[::-1]], 1))
    x = torch.randn(EXAMPLES, 37, 3)
    graph = from_torch(module, x)
    assert largest_difference(graph, module, [x]) < TOLERANCE
    model = isobit.calibrate(graph, x.numpy())
    bundle = model.deploy(tmp_path / "deployed")
    (found,) = bundle.verify(model.quantize_input(x.numpy()), on=["host"])
    assert found.differing == 0


@pytest.mark.parametrize("seed", [0, 4, 6, 7])
def test_function_of_joined_means_is_calibrated(seed: int) -> None:
    """Means share the encoding of their join, which the first pass over the examples finds."""

    def joined(x: Tensor) -> Tensor:
        return F.softplus(torch.cat([x[:, :1].mean(2, True), x[:, 1:].mean(2, True)], 1))

    torch.manual_seed(seed)
    x = torch.randn(12, 3, 5, 7)
    graph = from_torch(Calls(joined), x)
    data = stored(x.numpy(), graph.inputs[0].type.shape)
    model = isobit.calibrate(graph, data)
    with torch.no_grad():
        got, want = model(torch.from_numpy(data)).numpy(), joined(x).numpy()
    assert np.abs(got - stored(want, (1, *got.shape[1:]))).max() < 0.05


def test_exported_module_is_taken() -> None:
    x = torch.randn(1, 3, 6, 7)
    module = torch.export.export(nn.Conv2d(3, 4, 3).eval(), (x,)).module()
    assert [node.op for node in from_torch(module, x).nodes] == ["conv2d"]


def test_operators_without_a_rule_are_decomposed_where_that_helps() -> None:
    class Logits(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.addcmul(x, x, x, value=1)

    x = torch.randn(EXAMPLES, 2, 3, 5)
    graph = from_torch(Logits(), x)
    assert largest_difference(graph, Logits(), [x]) < TOLERANCE


def test_first_example_is_the_batch() -> None:
    (x, row) = first_examples([torch.zeros(5, 3, 4), torch.zeros(7)])
    assert (list(x.shape), list(row.shape)) == ([1, 3, 4], [7])


def test_several_outputs_are_kept_in_order() -> None:
    class Two(nn.Module):
        def forward(self, x: Tensor) -> dict[str, Tensor]:
            return {"b": F.relu(x), "a": x.mean((2, 3))}

    graph = from_torch(Two(), torch.randn(1, 3, 4, 5))
    assert len(graph.outputs) == 2
    assert graph.type_map()[graph.outputs[1]].shape == (1, 3)


@dataclass
class Found:
    boxes: Tensor
    scores: list[Tensor]


def test_dataclasses_are_results_and_what_is_none_is_left_out() -> None:
    class Detector(nn.Module):
        def forward(self, x: Tensor) -> tuple[Found, None]:
            return Found(x.relu(), [x.mean((2, 3))]), None

    module = Detector()
    graph = from_torch(module, torch.randn(1, 3, 4, 5))
    assert [graph.type_map()[name].shape for name in graph.outputs] == [(1, 4, 5, 3), (1, 3)]
    assert "forward" not in vars(module)


# Refusals


def refused(kind: type[IsobitError], module: nn.Module, *xs: Tensor) -> str:
    with pytest.raises(IsobitError) as caught:
        from_torch(module, xs or (torch.randn(1, 3, 4, 5),))
    codes = {problem.code for problem in caught.value.problems}
    assert codes == {kind.code}, str(caught.value)
    return str(caught.value)


class Several(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        y = torch.sign(x)
        z = torch.cumsum(x, 1)
        return torch.where(y > 0, y, z)


def test_every_unsupported_operator_is_named_with_its_line() -> None:
    text = refused(Unsupported, Several())
    for code in ("sign.default", "cumsum.default", "gt.Scalar", "where.self"):
        assert code in text
    assert text.count("test_torch_export.py:") == 4
    assert "causal convolution" in text and "leaky_relu" in text


@pytest.mark.parametrize(
    ("label", "function", "words"),
    [
        ("exponent", lambda x: x**2.3, "exponent"),
        ("adaptive", lambda x: F.adaptive_avg_pool2d(x, 70), "divisors of the image's 4x5"),
        ("half", lambda x: x.half().relu(), "module.float()"),
        ("number", lambda x: x * x.max().item(), "x.max(), not x.max().item()"),
        ("size", lambda x: x[x > 0], "select elements on the host"),
        ("returned indices", lambda x: x.max(1), "Return values only"),
        ("volume", lambda x: F.conv3d(x[None], torch.ones(2, 1, 1, 1, 1)), "Volumes"),
        ("indices", lambda x: x.max(1)[1].float() + 1.0, "no counterpart"),
        ("list", lambda x: x[:, [[0, 2], [1, 0]]], "evenly spaced"),
        ("dilated pool", lambda x: F.max_pool2d(x, 2, dilation=2), "dilations"),
        ("divisor override", lambda x: F.avg_pool2d(x, 2, divisor_override=3), "divisor_override"),
        ("threshold", lambda x: F.threshold(x, 0.5, 0.0), "threshold"),
        ("scale", lambda x: F.interpolate(x, scale_factor=1.3), "coordinates"),
        ("attention", lambda x: x @ x.transpose(2, 3), "a constant matrix"),
        ("alpha", lambda x: torch.add(x, x.abs(), alpha=3), "alpha"),
        ("random", lambda x: x + torch.rand(5), "rand"),
    ],
)
def test_option_is_refused(label: str, function: object, words: str) -> None:
    assert words in refused(Unsupported, Calls(function))  # type: ignore[arg-type]  # functions of one tensor


def test_batch_statistics_are_refused() -> None:
    net = nn.BatchNorm2d(3, track_running_stats=False)
    assert "track_running_stats=True" in refused(Unsupported, net)


def test_changed_buffer_is_refused() -> None:
    class Counter(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("count", torch.zeros(1))

        def forward(self, x: Tensor) -> Tensor:
            self.count += 1
            return x + self.count

    assert 'buffer "count"' in refused(Unsupported, Counter())


def test_constant_output_is_refused() -> None:
    assert "a constant" in refused(Unsupported, Calls(lambda x: (x.relu(), torch.ones(1, 2))))


def test_data_dependent_forward_is_not_traceable() -> None:
    text = refused(NotTraceable, Calls(lambda x: x.relu() if x.sum() > 0 else x))
    assert "torch.export" in text and len(text.splitlines()) == 1
    assert "write it with clamp" in text


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_refusals_of_torch_name_the_nearest_way_out() -> None:
    scripted = torch.jit.script(nn.Linear(5, 2))
    assert "Pass the module that was scripted" in refused(NotTraceable, scripted)
    fake = nn.Sequential(torch.ao.quantization.FakeQuantize(), nn.Linear(5, 2))
    assert "prepare_pt2e" in refused(NotTraceable, fake)


def test_inputs_that_the_module_refuses_are_a_bad_argument() -> None:
    text = refused(BadArgument, nn.Conv2d(4, 4, 3))
    assert "[1, 3, 4, 5]" in text


def test_arguments_are_all_checked() -> None:
    refused(BadArgument, nn.ReLU(), torch.zeros(1, 3, dtype=torch.int64))
    with pytest.raises(IsobitError) as caught:
        from_torch("net", 3, target="z80", passes=["nothing"])  # type: ignore[arg-type]
    codes = [problem.code for problem in caught.value.problems]
    assert codes == [BadArgument.code, BadArgument.code, UnknownName.code, UnknownName.code]
