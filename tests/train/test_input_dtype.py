"""`input_dtype="int16"`: an input of 16 bits, int8 from the first layer with weights on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import pad

import isobit
from isobit import data, nn
from isobit.api.model import Model
from isobit.core.dtypes import DType
from isobit.core.errors import (
    BadArgument,
    BadAttribute,
    BadCheckpoint,
    IsobitError,
    NoKernel,
    Problem,
)
from isobit.core.types import Affine, AnyArray, Pow2, Real, TensorType
from isobit.ir.graph import Graph
from isobit.ops import schemes
from isobit.ops.linear.op import Linear, LinearAttrs
from isobit.ops.schemes import Scheme
from isobit.ops.weighted import WeightedInputs
from isobit.run.golden import run_golden
from oracles import oracle

from .test_calibrate import SCHEMES, equal_everywhere, float_graph, pixels

both = pytest.mark.parametrize("scheme", SCHEMES)


class Function(torch.nn.Module):
    """A network of some layers, in the order of a function."""

    def __init__(self, function: Callable[..., Tensor], **layers: torch.nn.Module) -> None:
        super().__init__()
        self.function = function
        for name, layer in layers.items():
            self.add_module(name, layer)

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self, x)


def model_of(net: torch.nn.Module, scheme: str = "affine", **options: Any) -> Model:
    torch.manual_seed(2)
    return Model(net, input=(2, 6, 6), scheme=scheme, input_dtype="int16", **options)


def values(count: int = 24) -> Tensor:
    """The first channel 100 times as large as the second."""
    x = torch.randn(count, 2, 6, 6, generator=torch.Generator().manual_seed(1))
    x[:, 0] *= 100
    return x


def examples() -> AnyArray:
    return np.ascontiguousarray(values(64).permute(0, 2, 3, 1).numpy())


def unlike() -> Graph:
    """A float network for which the small channel decides as much as the large one."""
    torch.manual_seed(5)
    first, second = nn.Conv2d(2, 8, 3, padding=1), nn.Linear(8 * 36, 6)
    with torch.no_grad():
        first.weight[:, 0] /= 100
    net = nn.Sequential(first, nn.ReLU(), nn.Flatten(), second)
    return Model(net, input=(2, 6, 6), name="unlike").float_graph()


@both
def test_equal_everywhere_also_after_training(scheme: str, tmp_path: Path) -> None:
    train, test = data.load("digits")
    model = isobit.calibrate(
        float_graph(), train, scheme=scheme, samples=64, input_dtype="int16", refine=4
    )
    (source,) = model.export().inputs
    assert source.type.dtype is DType.S16 and source.type.zero == 0
    others = {v.type.dtype for node in model.export().nodes for v in node.outputs}
    assert others == {DType.S8}
    equal_everywhere(model, pixels(3), tmp_path / "before")
    before = model.export()
    isobit.fit(model, train.subset(slice(0, 256)), test, epochs=1, seed=1)
    model.eval()
    assert model.export() != before
    equal_everywhere(model, test.images[:3].astype(np.float32), tmp_path / "after")


@both
def test_equal_on_a_core(scheme: str, tmp_path: Path) -> None:
    x = examples()
    model = isobit.calibrate(unlike(), x, scheme=scheme, input_dtype="int16")
    bundle = model.deploy(tmp_path / "out", samples=x[:3])
    assert "int16_t" in next((tmp_path / "out").rglob("unlike.h")).read_text()
    found = {c.name: c.differing for c in bundle.verify(on=("host", "cortex-m4"))}
    assert found == {"golden vectors": 0, "torch": 0, "host": 0, "cortex-m4": 0}
    codes = model.quantize_input(x[:3])
    assert codes.dtype == np.int16
    own = bundle.run(codes, on="host").output
    graph = model.export()
    assert np.array_equal(own, run_golden(graph, codes)[graph.outputs[0]])


@both
def test_first_layer_is_the_oracles(scheme: str) -> None:
    x = examples()
    graph = isobit.calibrate(unlike(), x, scheme=scheme, input_dtype="int16").export()
    rng = np.random.default_rng(3)
    codes = rng.integers(-32768, 32768, size=(3, 6, 6, 2)).astype(np.int16)
    codes[1:, :, :, 1] //= 100  # as large as what it was calibrated on
    node, consts = graph.nodes[0], graph.const_map()
    attrs: Any = node.attrs
    inputs: Any = node.inputs
    fields = {
        name: None if getattr(inputs, name) is None else consts[getattr(inputs, name)].data
        for name in ("w", "b", "mult", "shift")
    }
    plain = {"stride": attrs.stride, "pad": attrs.pad, "clamp": attrs.clamp, "round": "half_up"}
    zeros = {"x": 0, "w": 0, "y": node.output.type.zero}
    want = oracle("conv2d")({"x": codes.astype(np.int64), **fields}, plain, zeros)
    got = run_golden(graph, codes)[node.output.name]
    assert np.array_equal(got, want)
    assert len(np.unique(got)) > 90  # not all at the clamp


@pytest.mark.parametrize(("scheme", "less"), [("affine", 0.6), ("pow2", 0.8)])
def test_small_values_beside_large_ones_keep_their_precision(scheme: str, less: float) -> None:
    graph, x = unlike(), examples()
    real = run_golden(graph, x)[graph.outputs[0]]

    def error(input_dtype: str) -> float:
        model = isobit.calibrate(graph, x, scheme=scheme, input_dtype=input_dtype)
        with torch.no_grad():
            own: Any = model(x)
        return float(np.sqrt(np.square(own.numpy() - real).mean()))

    assert error("int16") < less * error("int8")


def moved_before(self: Any, x: Tensor) -> Tensor:
    """Pads, a permutation, slices and a flattening between the input and what computes."""
    a, b = torch.split(pad(x, (1, 0, 2, 1)), [1, 1], 1)
    y = self.depthwise(x).flatten(1)
    return self.linear(y) + self.wide(a.flatten(1)) + self.wide2(b.permute(0, 1, 3, 2).flatten(1))


@both
def test_what_only_moves_codes_keeps_all_16_bits(scheme: str) -> None:
    sizes = {"linear": 2 * 36, "wide": 9 * 7, "wide2": 9 * 7}
    layers = {name: nn.Linear(size, 5) for name, size in sizes.items()}
    depthwise = nn.Conv2d(2, 2, 3, padding=1, groups=2)
    model = model_of(Function(moved_before, depthwise=depthwise, **layers), scheme)
    model.calibrate(values())
    model.eval()
    graph = model.export()
    found = {n.op: {v.type.dtype for v in n.outputs} for n in graph.nodes}
    assert {"pad", "split", "transpose"} <= found.keys()
    assert found["pad"] == found["split"] == found["transpose"] == {DType.S16}
    assert found["linear"] == found["depthwise_conv2d"] == {DType.S8}
    x = values(4)
    golden, traced = run_golden(graph, model.quantize_input(x)), model.trace(x)
    assert set(golden) == set(traced)
    assert all(np.array_equal(golden[name], codes) for name, codes in traced.items())


def test_trains_from_scratch_with_a_batch_norm_in_pow2(tmp_path: Path) -> None:
    net = nn.Sequential(
        nn.Conv2d(2, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(64, 3)
    )
    model, x = model_of(net, "pow2"), values()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    for _ in range(3):
        optimizer.zero_grad()
        logits: Any = model(x)
        logits.square().mean().backward()
        optimizer.step()
    assert all(p.grad is not None and bool(p.grad.abs().sum() > 0) for p in net.parameters())
    model.eval()
    assert model.export().inputs[0].type.dtype is DType.S16
    equal_everywhere(model, x[:3].numpy(), tmp_path / "out")


def test_the_default_is_int8() -> None:
    graph, x = float_graph(), pixels(16)
    plain, named = isobit.calibrate(graph, x), isobit.calibrate(graph, x, input_dtype="int8")
    assert plain.export().inputs == named.export().inputs
    assert plain.export().inputs[0].type.dtype is DType.S8


def problems(net: torch.nn.Module) -> list[Problem]:
    with pytest.raises(IsobitError) as caught:
        model_of(net)
    return list(caught.value.problems)


def test_readers_without_a_meaning_are_refused_all_at_once() -> None:
    def forward(self: Any, x: Tensor) -> Tensor:
        pooled = self.pool(x)
        return self.linear((self.conv(x) + x).flatten(1)) + self.small(pooled.flatten(1))

    layers = {"pool": nn.MaxPool2d(2), "conv": nn.Conv2d(2, 2, 1), "linear": nn.Linear(72, 3)}
    found = problems(Function(forward, small=nn.Linear(18, 3), **layers))
    assert all(problem.code == NoKernel.code for problem in found)
    assert sorted(problem.got for problem in found) == ["add", "max_pool2d"]
    assert all("8 bits" in problem.fix for problem in found)


def test_a_batch_norm_behind_the_input_is_refused_in_affine() -> None:
    (found,) = problems(nn.Sequential(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4)))
    assert "batch norm" in found.got and "calibrate" in found.fix


def test_pixels_are_refused() -> None:
    (found,) = problems(nn.Sequential(nn.Standardize(), nn.Conv2d(2, 4, 3)))
    assert found.code == BadArgument.code and "pixels" in found.want


def test_other_widths_are_refused() -> None:
    net = nn.Sequential(nn.Conv2d(2, 4, 3))
    with pytest.raises(BadArgument, match="int8 or int16"):
        Model(net, input=(2, 6, 6), input_dtype="int32")
    with pytest.raises(BadArgument, match="int8 or int16"):
        isobit.calibrate(unlike(), examples(), input_dtype="float16")


def test_saved_and_restored(tmp_path: Path) -> None:
    x = examples()
    model = isobit.calibrate(unlike(), x, input_dtype="int16")
    model.save(tmp_path / "m.isobit")
    again = Model.from_file(tmp_path / "m.isobit")
    assert again.export() == model.export()
    narrow = isobit.calibrate(unlike(), x)
    with pytest.raises(BadCheckpoint, match="input_dtype='int16'"):
        narrow.restore(tmp_path / "m.isobit")
    narrow.save(tmp_path / "n.isobit")
    with pytest.raises(BadCheckpoint, match="input_dtype='int8'"):
        again.restore(tmp_path / "n.isobit")


@pytest.mark.parametrize("low, high", [(-104.0, 16.0), (0.0, 3e4), (-1e-3, 0.0), (0.0, 0.0)])
def test_wide_ranges_fit_16_bits(low: float, high: float) -> None:
    most = max(-low, high)
    affine = schemes.wide_activation(Scheme.AFFINE, low, high)
    assert isinstance(affine, Affine) and affine.zero == 0
    assert most / affine.scale[0] == pytest.approx(32767 if most else 0)
    pow2 = schemes.wide_activation(Scheme.POW2, low, high)
    assert isinstance(pow2, Pow2)
    assert most * 2.0 ** pow2.frac[0] <= 32767.5
    assert most == 0 or pow2.frac[0] == 24 or most * 2.0 ** (pow2.frac[0] + 1) > 32640


@pytest.mark.parametrize("x, y", [(DType.S8, DType.S8), (DType.S16, DType.S16), (DType.F64, None)])
def test_only_narrowing_says_the_carrier_of_y(x: DType, y: DType | None) -> None:
    encoding = Real() if x is DType.F64 else Affine((0.1,), 0)
    types: WeightedInputs[TensorType] = WeightedInputs(
        TensorType((1, 4), x, encoding), TensorType((2, 4), DType.S8, Affine((0.1,), 0))
    )
    with pytest.raises(BadAttribute, match="s8 where x is s16"):
        Linear.infer(LinearAttrs(dtype=y or DType.S8), types)


def test_a_narrowed_clamp_is_in_the_codes_of_y() -> None:
    types: WeightedInputs[TensorType] = WeightedInputs(
        TensorType((1, 4), DType.S16, Affine((0.1,), 0)),
        TensorType((2, 4), DType.S8, Affine((0.1,), 0)),
    )
    found = Linear.infer(LinearAttrs(dtype=DType.S8), types)
    assert found.dtype is DType.S8
    with pytest.raises(BadAttribute, match="-128 <= low"):
        Linear.infer(LinearAttrs((0, 300), dtype=DType.S8), types)
