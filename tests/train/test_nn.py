"""`isobit.nn` is torch's vocabulary, and what has no operator on the chip is refused at the line
that wrote it.
"""

from __future__ import annotations

import importlib.util
import inspect
import re
from pathlib import Path

import pytest
import torch

from isobit import nn
from isobit.core.errors import (
    BadShape,
    BadWeights,
    IsobitError,
    NoKernel,
    NotTraceable,
    SeveralProblems,
)
from isobit.ops.registry import load_ops
from isobit.ops.schemes import Scheme
from isobit.train.modules import layer_classes, location_of

from .nets import make_twin

TORCHS = sorted(name for name in layer_classes() if hasattr(torch.nn, name))
HERE = Path(__file__).name


def twin_of(net: torch.nn.Module, shape: tuple[int, ...] = (1, 8, 8)) -> object:
    return make_twin(net, Scheme.AFFINE, shape=shape)


@pytest.mark.parametrize("name", TORCHS)
def test_layer_has_torchs_arguments_and_defaults(name: str) -> None:
    own, torchs = getattr(nn, name), getattr(torch.nn, name)
    assert own.__name__ == name
    assert issubclass(own, torchs)
    assert inspect.signature(own) == inspect.signature(torchs)


def test_every_public_layer_of_an_operator_is_in_nn() -> None:
    wanted = {layer.public_name for layer in load_ops().layers.values() if layer.public_name}
    assert wanted <= set(dir(nn))
    with pytest.raises(AttributeError, match=r"isobit.nn has no 'LSTM'"):
        _ = nn.LSTM


def test_page_lists_every_layer() -> None:
    page = Path(__file__).resolve().parents[2] / "docs" / "layers.md"
    rows = [line for line in page.read_text(encoding="utf-8").splitlines() if line[:3] == "| `"]
    rows += [line for line in page.read_text(encoding="utf-8").splitlines() if line[:6] == "| none"]
    listed = set(re.findall(r"`(\w+)`", " ".join(row.split("|")[2] for row in rows)))
    assert listed == {layer.public_name for layer in load_ops().layers.values()} - {""}
    functions = " ".join(row.split("|")[3] for row in rows)
    own = {
        f for layer in load_ops().layers.values() if not layer.public_name for f in layer.functions
    }
    names = {f.rpartition(".")[2].rstrip("_") for f in own if not f.startswith("operator.")}
    missing = {name for name in names if not re.search(rf"\b{name}\b", functions)}
    assert missing == {"concat", "concatenate", "multiply", "subtract"}, "synonyms"


def test_stub_is_fresh() -> None:
    tool = Path(__file__).resolve().parents[2] / "tools" / "write_nn_stub.py"
    spec = importlib.util.spec_from_file_location("write_nn_stub", tool)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.STUB.read_text(encoding="utf-8") == module.stub(), f"run tools/{tool.name}"


def line_here() -> int:
    frame = inspect.currentframe()
    assert frame is not None and frame.f_back is not None
    return frame.f_back.f_lineno


def test_layer_remembers_its_line() -> None:
    layer, line = nn.Conv2d(1, 2, 3), line_here()
    assert str(location_of(layer)) == f"{HERE}:{line}"

    class Block(nn.Module):  # type: ignore[name-defined,misc]  # made at run time
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.line = nn.Conv2d(1, 2, 3), line_here()

    block = Block()
    assert str(location_of(block.conv)) == f"{HERE}:{block.line}"
    assert str(location_of(torch.nn.Conv2d(1, 2, 3))) == ""


def test_location_reaches_the_graph() -> None:
    net, line = nn.Sequential(nn.Flatten(), nn.Linear(64, 3)), line_here()
    twin = make_twin(net, Scheme.AFFINE)
    assert [str(node.location) for node in twin.export(untrained=True).nodes] == [
        f"{HERE}:{line}"
    ] * 2


class WithFunction(torch.nn.Module):
    def __init__(self, function: object) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 3)
        self.function = function

    def forward(self, x: torch.Tensor) -> object:
        return self.function(self.conv(x))  # type: ignore[operator]


def test_wrong_channels_name_the_layer_and_its_line() -> None:
    net, line = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Conv2d(8, 4, 3)), line_here()
    with pytest.raises(BadShape) as caught:
        twin_of(net)
    (problem,) = caught.value.problems
    assert f'"1" ({HERE}:{line})' in problem.where
    assert (problem.what, problem.want, problem.got) == ("input channels", "8", "4")


def test_unsupported_layer_is_named() -> None:
    net = nn.Sequential(nn.Flatten(), torch.nn.LSTM(64, 8))
    with pytest.raises(NotTraceable) as caught:
        twin_of(net)
    (problem,) = caught.value.problems
    assert problem.got == "LSTM" and '"1"' in problem.where and "Conv2d" in problem.want


def test_unsupported_function_is_named_with_its_line() -> None:
    with pytest.raises(NotTraceable, match=r"E207 .*function: want .*got erfinv") as caught:
        twin_of(WithFunction(lambda y: torch.erfinv(y)))
    assert re.match(rf"{HERE}:\d+", caught.value.problems[0].where)


@pytest.mark.parametrize("method", ["cumsum", "sort"])
def test_unsupported_method_is_named(method: str) -> None:
    with pytest.raises(NotTraceable, match=rf"got Tensor\.{method}"):
        twin_of(WithFunction(lambda y: getattr(y, method)(1)))


def test_a_bare_tensor_in_forward_is_refused() -> None:
    class Scaled(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = torch.nn.Parameter(torch.ones(1))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x - self.scale

    with pytest.raises(NotTraceable, match=r"got the tensor scale"):
        twin_of(Scaled())


def test_control_flow_on_values_is_refused() -> None:
    def choose(y: torch.Tensor) -> torch.Tensor:
        return y if y.sum() > 0 else -y

    with pytest.raises(NotTraceable, match=r"E207 .*Python that depends on values"):
        twin_of(WithFunction(choose))


def test_a_forward_that_returns_a_dictionary_is_refused() -> None:
    with pytest.raises(NotTraceable, match=r"a forward that returns dict"):
        twin_of(WithFunction(lambda y: {"logits": y}))


def test_a_single_layer_is_refused_with_what_to_write() -> None:
    with pytest.raises(NotTraceable, match=r"got a single Conv2d\. Write nn\.Sequential"):
        twin_of(nn.Conv2d(1, 2, 3))


@pytest.mark.parametrize("mode", ["reflect", "replicate", "circular"])
def test_padding_modes_are_refused(mode: str) -> None:
    net, line = nn.Sequential(nn.Conv2d(1, 2, 3, padding=1, padding_mode=mode)), line_here()
    with pytest.raises(IsobitError, match=mode) as caught:
        twin_of(net)
    assert f"{HERE}:{line}" in caught.value.problems[0].where


def test_batch_norm_away_from_a_convolution_is_refused() -> None:
    net, line = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.BatchNorm2d(2)), line_here()
    with pytest.raises(NoKernel, match=r"E301 .*place of the batch norm") as caught:
        twin_of(net)
    assert f"{HERE}:{line}" in caught.value.problems[0].where


def test_weights_that_are_not_numbers_are_refused() -> None:
    net = nn.Sequential(nn.Conv2d(1, 2, 3))
    with torch.no_grad():
        net[0].weight[0, 0, 0, 0] = float("nan")
    with pytest.raises(BadWeights, match=r'E205 "0.weight": values: .* got 1 of 18'):
        twin_of(net)


def test_weights_that_became_nan_are_refused_by_export() -> None:
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(72, 2))
    twin = make_twin(net, Scheme.AFFINE)
    twin.calibrate(torch.rand(4, 1, 8, 8))
    with torch.no_grad():
        net[0].weight[0, 0, 0, 0] = float("inf")
        net[2].bias[1] = float("nan")
    with pytest.raises(SeveralProblems) as caught:
        twin.export()
    assert [p.where for p in caught.value.problems] == ['"0.weight"', '"2.bias"']


def test_every_problem_is_reported_at_once() -> None:
    net = nn.Sequential(
        torch.nn.Conv2d(1, 2, 3),
        torch.nn.LSTM(6, 8),
    )
    branches = torch.nn.ModuleDict(
        {
            "odd": nn.Conv2d(1, 2, 3, padding_mode="reflect", padding=1),
            "wide": nn.Conv2d(3, 2, 3),
            "seq": torch.nn.GRU(8, 8),
        }
    )

    class Many(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net, self.branches = net, branches

        def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
            return [self.net(x), self.branches["odd"](x), self.branches["wide"](x), torch.erf(x)]

    with pytest.raises(SeveralProblems) as caught:
        twin_of(Many())
    problems = caught.value.problems
    assert len(problems) == 4
    shown = str(caught.value)
    assert all(text in shown for text in ("LSTM", "reflect", "input channels", "erf"))


def test_wrong_input_shape_at_run_time_is_refused() -> None:
    twin = make_twin(nn.Sequential(nn.Conv2d(1, 2, 3)), Scheme.AFFINE)
    with pytest.raises(
        IsobitError, match=r"E501 small: input shape: want \[N, 1, 8, 8\], got \[2, 8, 8, 1\]"
    ):
        twin(torch.zeros(2, 8, 8, 1))
