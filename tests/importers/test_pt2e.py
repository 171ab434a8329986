"""PT2E graphs from XNNPACKQuantizer and X86InductorQuantizer as the chip's integers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from isobit.api.deployment import write_bundle
from isobit.api.from_torch import from_torch, import_torch
from isobit.core.errors import IsobitError, Unsupported
from isobit.core.types import AnyArray, TensorType, scale_of
from isobit.importers.base import Imported
from isobit.importers.torch_codes import coding
from isobit.importers.torch_export import read
from isobit.ir.graph import Stage
from isobit.run.golden import run_golden
from isobit.targets import load as load_target

from .pt2e import QUANTISERS, converted
from .test_torch_export import stored
from .torch_cases import Calls
from .torch_nets import NETS, made

EXAMPLES = 16


def codes(kind: TensorType, x: AnyArray) -> AnyArray:
    """Return the nearest codes, ties to even, as a QuantizeLinear gives them."""
    found = np.rint(stored(x, kind.shape) / scale_of(kind.encoding).astype(np.float32)) + kind.zero
    return np.clip(found, -128, 127).astype(np.int8)


def differences(found: Imported, module: nn.Module, xs: list[Tensor]) -> AnyArray:
    """Return |our code - the code of torch's result| for every output value."""
    graph = found.graph
    arrays = {v.name: codes(v.type, x.numpy()) for v, x in zip(graph.inputs, xs, strict=True)}
    values = run_golden(graph, arrays if len(arrays) > 1 else next(iter(arrays.values())))
    with torch.no_grad():
        rows = [module(*[x[i : i + 1] for x in xs]) for i in range(len(xs[0]))]
    want = torch.cat(rows).numpy()
    (name,) = graph.outputs
    kind = graph.type_map()[name]
    return np.abs(values[name].astype(int) - codes(kind, want).astype(int))


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(6, 8, 1), nn.Conv2d(6, 8, 1)
        self.end = nn.Conv2d(8, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.end(F.relu(self.a(x) + self.b(x)))


IMAGE = (6, 7, 9)
SINGLE: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "conv": (lambda: nn.Conv2d(6, 8, 3, 2, 1), IMAGE),
    "conv without bias": (lambda: nn.Conv2d(6, 8, 3, bias=False), IMAGE),
    "conv and relu": (lambda: nn.Sequential(nn.Conv2d(6, 8, 3), nn.ReLU()), IMAGE),
    "conv and batch norm": (lambda: nn.Sequential(nn.Conv2d(6, 8, 3), nn.BatchNorm2d(8)), IMAGE),
    "conv and relu6": (lambda: nn.Sequential(nn.Conv2d(6, 8, 3), nn.ReLU6()), IMAGE),
    "depthwise": (lambda: nn.Conv2d(6, 6, 3, groups=6), IMAGE),
    "linear": (lambda: nn.Linear(12, 5), (12,)),
    "linear and relu": (lambda: nn.Sequential(nn.Linear(12, 5), nn.ReLU()), (12,)),
    "linear of an image": (
        lambda: nn.Sequential(nn.MaxPool2d(2), nn.Flatten(), nn.Linear(72, 5)),
        IMAGE,
    ),
    "add": (lambda: Calls(lambda x: x + x), IMAGE),
    "mul": (lambda: Calls(lambda x: x * x), IMAGE),
}
"""At most one operator that rounds sums, so that its own bound is the network's."""


@pytest.mark.parametrize("name", QUANTISERS)
@pytest.mark.parametrize("label", SINGLE)
def test_operator_differs_by_no_more_than_was_proven(label: str, name: str) -> None:
    torch.manual_seed(3)
    make, shape = SINGLE[label]
    xs = [torch.randn(EXAMPLES, *shape)]
    module = converted(make(), xs, name)
    found = read(module, xs)
    if not any("quantize" in str(node.target) for node in module.graph.nodes):
        assert found.graph.stage is Stage.FLOAT  # the quantiser knows it within patterns only
        return
    assert found.graph.stage is Stage.INT
    proven = max((note.lsb for note in found.notes), default=0)
    off = differences(found, module, xs)
    if any(note.kind == "range" for note in found.notes):
        proven += 1  # a value with codes of its own is rounded once more
    assert off.max() <= proven
    assert (off > 0).mean() < 0.05


@pytest.mark.parametrize("name", QUANTISERS)
@pytest.mark.parametrize("net", NETS)
def test_network_is_integers_without_transposes(net: str, name: str) -> None:
    module, shape = made(net)
    xs = [torch.randn(EXAMPLES, *shape)]
    quantised = converted(module, xs, name)
    found = read(quantised, xs)
    assert found.graph.stage is Stage.INT
    assert not {node.op for node in found.graph.nodes} & {"transpose", "quantize", "dequantize"}
    off = differences(found, quantised, xs)
    # Every layer rounds as torch does but for its `lsb`; random weights carry that on.
    assert off.mean() < 2 and off.max() < 16


@pytest.mark.parametrize(("net", "name"), [("resnet8", "xnnpack"), ("mobilenet_v3", "x86")])
def test_network_is_deployed_exactly(net: str, name: str, tmp_path: Path) -> None:
    module, shape = made(net)
    xs = [torch.randn(EXAMPLES, *shape)]
    model = import_torch(converted(module, xs, name), xs, name=net)
    x = codes(model.graph.inputs[0].type, xs[0][:2].numpy())
    bundle = write_bundle(model.graph, load_target("cortex-m4"), tmp_path / "out", inputs=x)
    assert [one.differing for one in bundle.verify(x, on=["host", "cortex-m4"])] == [0, 0]


def test_scales_are_those_of_the_quantiser() -> None:
    torch.manual_seed(3)
    xs = [torch.randn(EXAMPLES, *IMAGE)]
    module = converted(nn.Conv2d(6, 8, 3), xs, "xnnpack")
    graph = from_torch(module, xs)
    asked = [
        node.args[1] for node in module.graph.nodes if "quantize_per_tensor" in str(node.target)
    ]
    ours = [float(scale_of(graph.inputs[0].type.encoding)[0])]
    ours.append(float(scale_of(graph.type_map()[graph.outputs[0]].encoding)[0]))
    assert sorted(set(ours)) == sorted({float(np.float32(scale)) for scale in asked})


def test_real_values_between_operators_are_reported() -> None:
    torch.manual_seed(3)
    xs = [torch.randn(EXAMPLES, *IMAGE)]
    found = read(converted(Residual(), xs, "x86"), xs)
    texts = [note.text for note in found.notes if note.kind == "range"]
    assert any("conv2d" in text and "real in torch" in text for text in texts)


def test_value_read_before_its_quantisation_takes_the_codes() -> None:
    class Gate(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.gate = nn.Conv2d(6, 6, 1), nn.Conv2d(6, 6, 1)

        def forward(self, x: Tensor) -> Tensor:
            y = F.hardswish(self.conv(x))
            return y * torch.sigmoid(self.gate(F.adaptive_avg_pool2d(y, 1)))

    torch.manual_seed(3)
    xs = [torch.randn(EXAMPLES, *IMAGE)]
    module = converted(Gate(), xs, "xnnpack")
    found = read(module, xs)
    (text,) = [note.text for note in found.notes if note.kind == "range"]
    assert "hardswish" in text and "behind it here" in text
    assert differences(found, module, xs).max() <= 3


def test_quantisation_passes_operators_that_move_values() -> None:
    class Moves(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.fc = nn.Conv2d(1, 4, 3), nn.Linear(4 * 3 * 4, 5)

        def forward(self, x: Tensor) -> Tensor:
            y = F.max_pool2d(F.relu(self.conv(F.pad(x.unsqueeze(1), (1, 0)))), 2)
            return self.fc(torch.cat([y[:, 2:], y[:, :2]], 1).flatten(1))

    torch.manual_seed(3)
    xs = [torch.randn(EXAMPLES, 8, 9)]
    for name in QUANTISERS:
        module = converted(Moves(), xs, name)
        found = read(module, xs)
        assert differences(found, module, xs).max() <= 3
        ranges = [note.text for note in found.notes if note.kind == "range"]
        assert all("linear" in text for text in ranges)  # nothing in between has codes of its own


def test_weights_alone_stay_a_float_graph() -> None:
    class Stored(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("codes", torch.randint(-127, 128, (5, 12), dtype=torch.int8))

        def forward(self, x: Tensor) -> Tensor:
            op = torch.ops.quantized_decomposed.dequantize_per_tensor.default
            return F.linear(x, op(self.codes, 0.02, 0, -127, 127, torch.int8))

    graph = from_torch(Stored(), torch.randn(1, 12))
    assert graph.stage is Stage.FLOAT
    assert [node.op for node in graph.nodes] == ["linear"]


def test_range_has_zero_and_both_ends() -> None:
    assert coding(0.0, 0.0) == (1.0, -128)
    for low, high in ((-1.0, 3.0), (0.5, 2.0), (-4.0, -1.0)):
        scale, zero = coding(low, high)
        assert -128 <= zero <= 127
        assert abs(scale * (127 - zero) - max(high, 0.0)) <= scale
        assert abs(scale * (-128 - zero) - min(low, 0.0)) <= scale


# Refusals


def refused(module: nn.Module, x: Tensor) -> str:
    with pytest.raises(IsobitError) as caught:
        from_torch(module, x)
    assert {problem.code for problem in caught.value.problems} == {Unsupported.code}
    return str(caught.value)


def test_dynamic_quantisation_is_refused_by_name() -> None:
    torch.manual_seed(3)
    x = torch.randn(1, 12)
    module = converted(nn.Linear(12, 5), [x], "xnnpack", is_dynamic=True)
    assert "choose_qparams" in refused(module, x)


def test_narrow_codes_are_refused() -> None:
    x = torch.randn(2, *IMAGE)
    module = converted(nn.Conv2d(6, 4, 1), [x], "x86", reduce_range=True)
    assert "reduce_range=False" in refused(module, x)


class Decomposed(nn.Module):
    """One operator of `quantized_decomposed` that no static quantiser writes."""

    def __init__(self, function: Callable[[Any, Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function
        self.register_buffer("w", torch.randint(-8, 8, (4, 12), dtype=torch.int8))
        self.register_buffer("s", torch.full((4, 3), 0.1))

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self, x)


def per_token(module: Any, x: Tensor) -> Tensor:
    ops = torch.ops.quantized_decomposed
    scale, zero = ops.choose_qparams_per_token_asymmetric(x, torch.int8)
    return ops.quantize_per_token(x, scale, zero, -128, 127, torch.int8).float()


def per_group(module: Any, x: Tensor) -> Tensor:
    ops = torch.ops.quantized_decomposed
    q = ops.quantize_per_tensor(x, 0.1, 0, -128, 127, torch.int8)
    x = ops.dequantize_per_tensor(q, 0.1, 0, -128, 127, torch.int8)
    w = ops.dequantize_per_channel_group(
        module.w, module.s, torch.zeros_like(module.s), -8, 7, torch.int8, 4, torch.float32
    )
    return F.linear(x, w)


@pytest.mark.parametrize(
    ("function", "name"),
    [(per_token, "quantize_per_token"), (per_group, "dequantize_per_channel_group")],
)
def test_other_quantisations_are_refused_by_name(function: Any, name: str) -> None:
    text = refused(Decomposed(function), torch.randn(1, 12))
    assert name in text
    assert "XNNPACKQuantizer" in text
