"""Recurrent layers of ONNX and PyTorch: refusals by name, and the way from reals to the chip."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import isobit
from isobit.api.calibrate import compare
from isobit.core.errors import IsobitError, NoKernel, Unsupported
from isobit.ir.graph import Graph
from isobit.run.golden import run_golden

pytest.importorskip("onnx")

from isobit.importers.onnx import read

from .onnx_cases.recurrent import recurrent

STEPS, INPUTS, CELLS = 12, 6, 16
X = (5, 1, 3)
NUMBERS = np.full((1, 1, 4), 0.5, np.float32)


def imported(folder: Path, code: str = "LSTM", **options: object) -> Graph:
    path = folder / "case.onnx"
    shape = (1, 5, 3) if options.get("layout") else X
    if code != "LSTM":
        options = {"outputs": ("y", "h"), **options}
    path.write_bytes(recurrent(code, "case", shape, 4, **options).blob)  # type: ignore[arg-type]
    return read(path).graph


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"activations": ["Sigmoid", "Relu", "Tanh"]}, "activations"),
        ({"clip": 3.0}, "clip"),
        ({"input_forget": 1}, "coupled gates"),
        ({"lengths": (3,)}, "sequence_lens"),
        ({"stored": {"h0": NUMBERS}}, "initial state: want zeros"),
        ({"stored": {"h0": 0 * NUMBERS, "c0": NUMBERS}}, "initial state: want zeros"),
        ({"initial": True, "stored": {"p": np.ones((1, 12), np.float32)}}, "peephole weights"),
    ],
)
def test_what_a_sequence_cannot_do_is_refused(
    options: dict[str, object], match: str, tmp_path: Path
) -> None:
    with pytest.raises(Unsupported, match=match):
        imported(tmp_path, **options)


@pytest.mark.parametrize(
    ("code", "options", "match"),
    [
        ("GRU", {"activations": ["Sigmoid", "Relu"]}, "activations"),
        ("GRU", {"clip": 3.0}, "clip"),
        ("GRU", {"lengths": (3,)}, "sequence_lens"),
        ("GRU", {"stored": {"h0": np.ones((1, 1, 3), np.float32)}}, "shape of initial_h"),
        ("RNN", {"activations": ["Softsign"]}, "activations: want Tanh or Sigmoid or Relu"),
    ],
)
def test_what_an_unrolled_layer_cannot_do_is_refused(
    code: str, options: dict[str, object], match: str, tmp_path: Path
) -> None:
    with pytest.raises(Unsupported, match=match):
        imported(tmp_path, code, **options)


def test_too_many_steps_to_unroll_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "case.onnx"
    path.write_bytes(recurrent("GRU", "case", (257, 1, 2), 2, outputs=("y", "h")).blob)
    with pytest.raises(Unsupported, match="steps: want at most 256"):
        read(path)


@pytest.mark.parametrize("scheme", ["affine", "pow2"])
@pytest.mark.parametrize("code", ["GRU", "RNN"])
def test_calibrated_unrolled_layer_is_exact_on_the_chip(
    code: str, scheme: str, tmp_path: Path
) -> None:
    """Integers: 0 differences. Against the reals: h is within -1..1 in steps of 1/128 and passes 5
    steps of at most 10 roundings each; half a step each, were they all added up, is 0.2.
    """
    graph = imported(tmp_path, code, outputs=("", "h"))
    assert len({const.data.tobytes() for const in graph.consts}) == len(graph.consts)
    shape = graph.inputs[0].type.shape[1:]
    x = np.random.default_rng(4).normal(size=(48, *shape))
    model = isobit.calibrate(graph, x, scheme=scheme)
    assert compare(model, graph, x).error < 0.2
    bundle = model.deploy(tmp_path / "net")
    runs = bundle.verify(model.quantize_input(x[:3]), on=["host", "cortex-m4"])
    assert [one.differing for one in runs] == [0, 0]


@pytest.mark.parametrize("code", ["LSTM", "GRU", "RNN"])
@pytest.mark.parametrize("direction", ["forward", "bidirectional"])
def test_layout_1_is_layout_0_with_rows_first(direction: str, code: str, tmp_path: Path) -> None:
    """Onnxruntime has none of layout 1."""
    steps_first = imported(tmp_path, code, direction=direction)
    rows_first = imported(tmp_path, code, direction=direction, layout=1)
    x = np.random.default_rng(5).normal(size=(4, *X))
    one = run_golden(steps_first, x)
    two = run_golden(rows_first, x.reshape(4, 5, 3))
    for a, b in zip(steps_first.outputs, rows_first.outputs, strict=True):
        assert np.array_equal(one[a].reshape(4, -1), two[b].reshape(4, -1)), a


class Classifier(nn.Module):
    def __init__(self, layers: int = 1) -> None:
        super().__init__()
        self.lstm = nn.LSTM(INPUTS, CELLS, layers, batch_first=True)
        self.head = nn.Linear(CELLS, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.lstm(x)[0][:, -1])


def net(module: nn.Module) -> nn.Module:
    torch.manual_seed(3)
    for p in module.parameters():  # gates that open and close
        nn.init.uniform_(p, -0.6, 0.6)
    return module.eval()


def test_one_kernel_for_each_layer() -> None:
    graph = isobit.from_torch(net(Classifier(layers=3)), torch.randn(1, STEPS, INPUTS))
    assert [node.op for node in graph.nodes].count("lstm") == 3
    assert not graph.states


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("scheme", ["affine", "pow2"])
def test_calibrated_lstm_is_exact_on_the_chip(scheme: str, layers: int, tmp_path: Path) -> None:
    """Integers: 0 differences. Against the reals: every step of h is off by at most 2 of its codes
    (docs/numerics.md), which a head of 16 weights below 0.6 sums; errors of steps are independent,
    so their mean square is far below 2 % of the output's range (measured: 0.4 to 0.6 %).
    """
    module = net(Classifier(layers))
    x = torch.randn(96, STEPS, INPUTS)
    graph = isobit.from_torch(module, x)
    model = isobit.calibrate(graph, x.numpy(), scheme=scheme)
    found = compare(model, graph, x.numpy())
    assert found.error < 0.02 * found.largest
    assert found.top1 > 0.9
    bundle = model.deploy(tmp_path / "net")
    runs = bundle.verify(model.quantize_input(x[:3].numpy()), on=["host", "cortex-m4"])
    assert [one.differing for one in runs] == [0, 0]
    assert all(one.compared > 3 * STEPS * CELLS for one in runs)


def test_cell_scale_follows_from_the_examples() -> None:
    """Power of two, the finest that holds the largest cell of the examples."""
    module = net(Classifier())
    x = 3 * torch.randn(64, STEPS, INPUTS)
    graph = isobit.from_torch(module, x)
    (node,) = (n for n in graph.nodes if n.op == "lstm")
    largest = np.abs(run_golden(graph, x.numpy())[node.outputs[2].name]).max()
    (own,) = (n for n in isobit.calibrate(graph, x.numpy()).export().nodes if n.op == "lstm")
    frac = own.attrs.cell_frac  # type: ignore[attr-defined]
    assert largest * 2**frac <= 32767 < largest * 2 ** (frac + 1)


def test_samples_are_independent() -> None:
    """Without states a sequence does not see the one before."""
    model = isobit.calibrate(
        isobit.from_torch(net(Classifier()), torch.randn(1, STEPS, INPUTS)),
        np.random.default_rng(1).normal(size=(16, STEPS, INPUTS)),
    )
    graph = model.export()
    codes = model.quantize_input(np.random.default_rng(2).normal(size=(2, STEPS, INPUTS)))
    both, alone = run_golden(graph, codes), run_golden(graph, codes[1:])
    assert np.array_equal(both[graph.outputs[0]][1:], alone[graph.outputs[0]])


class Cells(nn.Module):
    """The last cell state, which another layer reads."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(INPUTS, CELLS, batch_first=True)
        self.head = nn.Linear(CELLS, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.lstm(x)[1][1][0])


def test_a_cell_state_of_16_bits_has_no_int8_reader() -> None:
    graph = isobit.from_torch(net(Cells()), torch.randn(1, STEPS, INPUTS))
    with pytest.raises(NoKernel, match="which has 16 bits"):
        isobit.calibrate(graph, np.zeros((4, STEPS, INPUTS)))


class Projected(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(INPUTS, CELLS, proj_size=3, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.lstm(x)[0]


class Started(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(INPUTS, CELLS, batch_first=True)

    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        h = h.reshape(1, 1, CELLS)
        return self.lstm(x, (h, h))[0]


def test_torch_projection_and_states_of_the_caller_are_refused() -> None:
    x = torch.randn(1, STEPS, INPUTS)
    with pytest.raises(IsobitError, match="projection"):
        isobit.from_torch(Projected(), x)
    with pytest.raises(IsobitError, match="initial state"):
        isobit.from_torch(Started(), (x, torch.zeros(1, CELLS)))
