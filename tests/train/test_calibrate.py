"""Float graphs as the chip's integers, without training and with some."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import isobit
from isobit import data, nn
from isobit.api.calibrate import channel_means, spread
from isobit.api.model import Model
from isobit.core.dtypes import DType
from isobit.core.errors import BadArgument, BadRunInput, BadWeights, IsobitError, NoKernel
from isobit.core.types import AnyArray, Real, TensorType
from isobit.ir.builder import GraphBuilder
from isobit.ir.graph import Graph, Stage, Value
from isobit.ops.add.op import AddAttrs, AddInputs
from isobit.ops.batch_norm.op import BatchNormAttrs, BatchNormInputs
from isobit.ops.clamp.op import ClampAttrs, ClampInputs
from isobit.ops.concat.op import ConcatAttrs, ConcatInputs
from isobit.ops.conv2d.op import Conv2dAttrs
from isobit.ops.linear.op import LinearAttrs
from isobit.ops.reshape.op import ReshapeAttrs, ReshapeInputs
from isobit.ops.weighted import WeightedInputs
from isobit.run.golden import run_golden

SCHEMES = ("affine", "pow2")


class Blocks(torch.nn.Module):
    """What imported networks are made of: depthwise, residual sums, concatenation, softmax."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 8, 3, padding=1, bias=False)
        self.stem_norm = nn.BatchNorm2d(8)
        self.depthwise = nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.pointwise = nn.Conv2d(8, 8, 1)
        self.relu, self.relu6 = nn.ReLU(), nn.ReLU6()
        self.pool, self.flatten = nn.MaxPool2d(2), nn.Flatten()
        self.classifier = nn.Linear(16 * 16, 10)
        self.softmax = nn.Softmax(1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.relu6(self.stem_norm(self.stem(x)))
        y = self.pointwise(self.relu(self.depthwise(x)))
        x = self.pool(torch.cat([self.relu(x + y), x], 1))
        return self.softmax(self.classifier(self.flatten(x)))  # type: ignore[no-any-return]


def float_graph(seed: int = 0) -> Graph:
    """The float graph of a network with random weights, as an importer would give it."""
    torch.manual_seed(seed)
    net = Blocks()
    with torch.no_grad():
        net.stem_norm.running_mean.normal_()
        net.stem_norm.running_var.uniform_(0.5, 2)
        net.stem_norm.weight.normal_()
        net.stem.weight.mul_(0.1)
    return Model(net, input=(1, 8, 8), name="blocks").float_graph()


def pixels(count: int = 64) -> AnyArray:
    train, _ = data.load("digits")
    return train.images[:count].astype(np.float32)


def equal_everywhere(model: Model, x: AnyArray, folder: Path) -> None:
    """Golden, torch and host C: no value differs."""
    golden = run_golden(model.export(), model.quantize_input(x))
    traced = model.trace(x)
    assert set(traced) == set(golden)
    assert all(np.array_equal(golden[name], codes) for name, codes in traced.items())
    bundle = model.deploy(folder, samples=x)
    found = {c.name: c.differing for c in bundle.verify(on="host")}
    assert found == {"golden vectors": 0, "torch": 0, "host": 0}


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("method", ["minmax", "percentile", "mse"])
def test_equal_everywhere_and_near_float(scheme: str, method: str, tmp_path: Path) -> None:
    graph, x = float_graph(), pixels()
    model = isobit.calibrate(graph, x, scheme=scheme, method=method)
    assert not model.training and not model.missing_ranges()
    with torch.no_grad():
        own, logits = model(x), model.logits(x)
    assert isinstance(own, torch.Tensor) and isinstance(logits, torch.Tensor)
    floats = run_golden(graph, x)
    real = floats[graph.outputs[0]]
    # Twelve codes of the logits' range: what these methods cost on random weights, measured.
    span = float(np.abs(floats["classifier"]).max())
    assert np.abs(logits.numpy() - floats["classifier"]).mean() < 12 * span / 256
    assert (own.numpy().argmax(1) == real.argmax(1)).mean() > 0.8
    equal_everywhere(model, x[:3], tmp_path / "out")


@pytest.mark.parametrize("scheme", SCHEMES)
def test_trains_on_exactly(scheme: str, tmp_path: Path) -> None:
    train, test = data.load("digits")
    model = isobit.calibrate(float_graph(), train, scheme=scheme, samples=64)
    history = isobit.fit(model, train, test, epochs=4, seed=1)
    assert history.epochs[-1].val_accuracy > 0.8  # from about 0.1 of random weights
    equal_everywhere(model, test.images[:3].astype(np.float32), tmp_path / "out")


def test_layout_is_the_graphs_own() -> None:
    model = isobit.calibrate(float_graph(), pixels())
    assert model.input_shape == (8, 8, 1) and model.channels_last
    with pytest.raises(BadRunInput, match=r"np\.moveaxis\(x, 1, -1\)"):
        model(torch.zeros(2, 1, 8, 8))


def test_bias_correction_removes_the_mean_error() -> None:
    graph, x = float_graph(), pixels()
    wanted = channel_means(Model.from_graph(graph).float_graph(), x)

    def error(model: Model) -> float:
        types, codes = model.numbers.types, model.trace(x)
        name = "classifier"  # its output has no activation, so codes are its results
        encoding, kind = types[name].encoding, types[name]
        real = (codes[name].astype(np.float64) - kind.zero) * encoding.scale[0]  # type: ignore[union-attr]
        return float(np.abs(real.mean(0) - wanted[name]).max() / encoding.scale[0])  # type: ignore[union-attr]

    plain = error(isobit.calibrate(graph, x, bias_correction=False))
    corrected = error(isobit.calibrate(graph, x))
    # Rounding to codes is unbiased but for its spread: 1/2 code over the square root of 64 inputs.
    assert corrected < 0.25 < plain


def test_equalisation_rescues_unlike_channels() -> None:
    """Channels 100 times apart: per tensor, small ones have no codes left."""
    torch.manual_seed(3)
    first, second = nn.Conv2d(1, 16, 3, padding=1), nn.Conv2d(16, 8, 3, padding=1)
    scales = torch.logspace(-1, 1, 16)
    with torch.no_grad():
        first.weight.mul_(scales.reshape(-1, 1, 1, 1))
        first.bias.mul_(scales)
        second.weight.div_(scales.reshape(1, -1, 1, 1))
    net = nn.Sequential(first, nn.ReLU(), second)
    graph, x = Model(net, input=(1, 8, 8)).float_graph(), pixels()
    real = run_golden(graph, x)[graph.outputs[0]]
    errors = []
    for equalise in (False, True):
        model = isobit.calibrate(graph, x, scheme="pow2", equalise=equalise)
        with torch.no_grad():
            own = model(x)
        assert isinstance(own, torch.Tensor)
        errors.append(float(np.square(own.numpy() - real).mean()))
    assert errors[1] < errors[0] / 4


def test_saved_and_opened_again(tmp_path: Path) -> None:
    graph, x = float_graph(), pixels()
    for scheme in SCHEMES:
        model = isobit.calibrate(graph, x, scheme=scheme, equalise=True)
        model.save(tmp_path / "m.isobit")
        again = Model.from_file(tmp_path / "m.isobit")
        one, two = model.trace(x), again.trace(x)
        assert one.keys() == two.keys()
        assert all(np.array_equal(one[name], two[name]) for name in one)
    assert isinstance(isobit.load(tmp_path / "m.isobit"), Graph)


def test_a_model_of_a_module_is_not_opened(tmp_path: Path) -> None:
    net = nn.Sequential(nn.Linear(4, 2))
    Model(net, input=(4,)).save(tmp_path / "m.isobit")
    with pytest.raises(BadArgument, match="restore"):
        Model.from_file(tmp_path / "m.isobit")


def builder() -> tuple[GraphBuilder, TensorType, str]:
    build, kind = GraphBuilder("hand", Stage.FLOAT), TensorType((1, 4, 4, 3), DType.F64, Real())
    return build, kind, build.input(build.fresh("x"), kind)


def grown(*, weights: int = 1) -> tuple[GraphBuilder, TensorType, str]:
    """Convolution, then ReLU, the convolution with `weights` readers of one constant."""
    build, kind, x = builder()
    rng = np.random.default_rng(0)
    w = build.const("w", kind, rng.normal(size=(3, 1, 1, 3)))
    for index in range(weights):
        x = build.node("conv2d", WeightedInputs(x, w), Conv2dAttrs(), Value(f"c{index}", kind))
        x = build.node("clamp", ClampInputs(x), ClampAttrs(0.0), Value(f"r{index}", kind))
    return build, kind, x


def inputs(scale: float = 1.0) -> AnyArray:
    return np.random.default_rng(1).normal(0, scale, size=(40, 4, 4, 3)).astype(np.float32)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_constant_in_an_activations_place(scheme: str, tmp_path: Path) -> None:
    build, kind, x = grown()
    stored = build.const("offsets", kind, np.linspace(-1, 2, 3).reshape(1, 1, 1, 3))
    build.output(build.node("add", AddInputs(x, stored), AddAttrs(), Value("sum", kind)))
    graph = build.graph()
    model = isobit.calibrate(graph, inputs(), scheme=scheme)
    with torch.no_grad():
        own = model(inputs())
    real = run_golden(graph, inputs())["sum"]
    assert isinstance(own, torch.Tensor)
    assert np.abs(own.numpy() - real).max() < np.abs(real).max() / 24
    equal_everywhere(model, inputs()[:4], tmp_path / "out")


def test_two_readers_of_one_weight_quantise_it_for_themselves(tmp_path: Path) -> None:
    build, _, x = grown(weights=3)
    build.output(x)
    model = isobit.calibrate(build.graph(), inputs(30.0))
    net = model.net
    assert net.get_submodule("c0").w is net.get_submodule("c2").w
    equal_everywhere(model, inputs(30.0)[:4], tmp_path / "out")


def test_every_operator_that_cannot_be_calibrated_is_named() -> None:
    """Batch norms with nothing to fold into, of volumes: no depthwise convolution takes them."""
    build, kind, x = grown()
    build.output(x)
    volume = kind.with_shape((1, 2, 2, 4, 3))
    x = build.node("reshape", ReshapeInputs(x), ReshapeAttrs((2, 2, 4, 3)), Value("volume", volume))
    numbers = [build.const(n, kind, np.ones(3)) for n in ("gamma", "beta", "mean", "var")]
    for index in range(2):
        norm = BatchNormInputs(x, *numbers)
        x = build.node("batch_norm", norm, BatchNormAttrs(), Value(f"norm{index}", volume))
    build.output(x)
    with pytest.raises(NoKernel) as caught:
        Model.from_graph(build.graph())
    assert '"norm0"' in str(caught.value) and '"norm1"' in str(caught.value)


def test_a_constant_in_a_concatenation_is_refused() -> None:
    build, kind, x = grown()
    stored = build.const("more", kind, np.ones((1, 4, 4, 2)))
    wide = Value("wide", kind.with_shape((1, 4, 4, 5)))
    build.output(build.node("concat", ConcatInputs((x, stored)), ConcatAttrs(3), wide))
    with pytest.raises(NoKernel, match="more"):
        Model.from_graph(build.graph())


def refused(graph: Graph, match: str) -> None:
    with pytest.raises(IsobitError, match=match):
        Model.from_graph(graph)


def test_what_is_no_float_network_of_one_input_is_refused() -> None:
    build, kind, x = grown()
    build.output(x)
    graph = build.graph()
    refused(isobit.calibrate(graph, inputs()).export(), "quantised already")
    two = replace(graph, inputs=(*graph.inputs, Value("second", kind)))
    refused(two, "x, second")
    with pytest.raises(BadArgument, match="graph"):
        Model.from_graph("m.tflite")  # type: ignore[arg-type]


def test_weights_that_are_no_numbers_are_refused() -> None:
    build, flat = GraphBuilder("hand", Stage.FLOAT), TensorType((1, 3), DType.F64, Real())
    x = build.input("x", flat)
    w = build.const("w", flat, np.full((3, 3), np.inf))
    build.output(build.node("linear", WeightedInputs(x, w), LinearAttrs(), Value("y", flat)))
    with pytest.raises(BadWeights, match="9 of 9"):
        Model.from_graph(build.graph())


def test_wrong_arguments_come_at_once() -> None:
    with pytest.raises(IsobitError) as caught:
        isobit.calibrate("graph", "data", method="best", samples=0, equalise=1)  # type: ignore[arg-type]
    whats = [problem.what for problem in caught.value.problems]
    assert whats == ["graph", "method", "samples", "equalise", "data"]


def test_the_float_network_says_how_to_run_it() -> None:
    with pytest.raises(BadArgument, match="run_golden"):
        isobit.calibrate(float_graph(), pixels()).net(torch.zeros(1, 8, 8, 1))


def test_examples_are_spread() -> None:
    values = np.arange(100)
    assert spread(values, 5).tolist() == [0, 25, 50, 74, 99]
    assert spread(values, 200) is values
