"""Whole ONNX networks: the zoo's MNIST, exports of torch, and what onnxruntime quantises them to.

Convolutional networks need no transposition.
"""

from __future__ import annotations

import logging
import shutil
import warnings
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")
torch = pytest.importorskip("torch")

import torch.nn.functional as F  # noqa: E402
from onnx import numpy_helper  # noqa: E402
from torch import Tensor, nn  # noqa: E402

from isobit.api.deployment import write_bundle  # noqa: E402
from isobit.api.importing import import_model  # noqa: E402
from isobit.importers.base import Imported  # noqa: E402
from isobit.importers.onnx import read  # noqa: E402
from isobit.ir.graph import Stage  # noqa: E402
from isobit.run.golden import run_golden  # noqa: E402
from isobit.targets import load as load_target  # noqa: E402

from .test_onnx_ops import perms_of  # noqa: E402
from .tflm import models  # noqa: E402
from .torch_nets import NETS, made  # noqa: E402

ZOO = 1e-4
"""Relative to the largest value: what the golden pairs of the zoo allow."""
NETWORK = 1e-4
SAMPLES = {"quick": 2, "full": 12}


class Squeeze(nn.Module):
    """Hu et al. 2018."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.down, self.up = nn.Conv2d(channels, 4, 1), nn.Conv2d(4, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        gate = self.up(F.relu(self.down(F.adaptive_avg_pool2d(x, 1))))
        return x * F.hardsigmoid(gate)


class Everything(nn.Module):
    """A residual, depthwise and squeeze block; channels cut, joined, enlarged; a flat end."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.Hardswish())
        self.block = nn.Sequential(
            nn.Conv2d(8, 8, 3, 1, 1, groups=8), nn.BatchNorm2d(8), nn.ReLU6(), Squeeze(8)
        )
        self.down, self.fc = nn.Conv2d(8, 16, 3, 2, 1), nn.Linear(16 * 8 * 8, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        y = x + self.block(x)
        a, b = y.chunk(2, 1)
        y = torch.cat([b, a], 1)
        z = F.interpolate(self.down(y), scale_factor=2)[:, :8]
        y = F.avg_pool2d(F.pad(F.max_pool2d(torch.cat([z, y], 1), 2), (1, 1, 1, 1)), 3, 1)
        return self.fc(F.leaky_relu(y).view(y.size(0), -1))


class Shuffle(nn.Module):
    """Zhang et al. 2018: channels change places between groups."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(4, 12, 1, groups=2), nn.Conv2d(12, 6, 3, groups=3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        n, c, h, w = x.shape
        x = x.view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w)
        return self.second(x)


class Decoder(nn.Module):
    """From features to an image: the rows of the first product take on its order."""

    def __init__(self) -> None:
        super().__init__()
        self.fc, self.up = nn.Linear(10, 48), nn.ConvTranspose2d(3, 2, 2, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.up(F.relu(self.fc(x)).view(-1, 3, 4, 4))


def exported(net: nn.Module, shape: tuple[int, ...], path: Path, **options: Any) -> Path:
    """Write what torch exports, with a dynamic batch."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch deprecates the exporter that needs no onnxscript
        torch.onnx.export(
            net.eval(),
            (torch.zeros(1, *shape),),
            str(path),
            dynamo=False,
            input_names=["x"],
            output_names=["y"],
            dynamic_axes={"x": {0: "batch"}},
            **options,
        )
    return path


def transposes(imported: Imported) -> int:
    found = sum(node.op == "transpose" for node in imported.graph.nodes)
    assert found == sum(note.kind == "transpose" for note in imported.notes)
    return found


def ours(imported: Imported, x: np.ndarray) -> np.ndarray:
    """Return the output for one input, both with the file's axes."""
    graph, perms = imported.graph, perms_of(imported)
    (value,), (name,) = graph.inputs, graph.outputs
    moved = x.transpose(perms[value.name]) if value.name in perms else x
    carrier = np.float64 if graph.stage is Stage.FLOAT else np.int8
    y = run_golden(graph, moved.reshape(value.type.shape).astype(carrier))[name]
    return y.transpose(np.argsort(perms[name])) if name in perms else y


def theirs(path: Path, x: np.ndarray) -> np.ndarray:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {session.get_inputs()[0].name: x})[0])


@pytest.mark.data("models")
def test_mnist_of_the_zoo_gives_its_golden_pairs() -> None:
    """mnist-8: opset 8, constants among the inputs, weights that a Reshape makes."""
    folder = models() / "onnx"
    imported = read(folder / "mnist_model_zoo.onnx")
    assert transposes(imported) == 0
    for pair in range(3):
        x, want = (
            numpy_helper.to_array(
                onnx.load_tensor(folder / "mnist_model_zoo_testdata" / f"set{pair}_{what}_0.pb")
            )
            for what in ("input", "output")
        )
        got = ours(imported, x)
        assert np.abs(got - want).max() <= ZOO * np.abs(want).max()
        assert got.argmax() == want.argmax()


def networks() -> Iterator[Any]:
    for name in NETS:
        yield pytest.param(partial(made, name), id=name)
    for cls, shape in (
        (Everything, (3, 32, 32)),
        (Decoder, (10,)),
    ):
        yield pytest.param(lambda cls=cls, shape=shape: (cls(), shape), id=cls.__name__)


def exports() -> Iterator[Any]:
    """Every network in every opset that torch writes it in: Hardswish from 14 on, or as operators
    that 9 lacks.
    """
    for network in networks():
        net, _ = network.values[0]()
        newer = any(isinstance(m, nn.Hardswish) for m in net.modules())
        for opset in (13, 17) if newer else (9, 13, 17):
            yield pytest.param(network.values[0], opset, id=f"{opset}-{network.id}")


@pytest.mark.parametrize(("make", "opset"), list(exports()))
def test_exports_of_torch_need_no_transposition(
    make: Any, opset: int, scale: str, tmp_path: Path
) -> None:
    torch.manual_seed(3)
    net, shape = make()
    path = exported(net, shape, tmp_path / "net.onnx", opset_version=opset)
    imported = read(path)
    assert transposes(imported) == 0
    rng = np.random.default_rng(5)
    for _ in range(SAMPLES[scale]):
        x = rng.normal(size=(1, *shape)).astype(np.float32)
        want = theirs(path, x)
        got = ours(imported, x).reshape(want.shape)
        assert np.abs(got - want).max() <= NETWORK * max(1.0, float(np.abs(want).max()))


def test_a_channel_shuffle_is_one_transposition_with_its_reason(tmp_path: Path) -> None:
    path = exported(Shuffle(), (4, 5, 6), tmp_path / "net.onnx")
    imported = read(path)
    (note,) = [note for note in imported.notes if note.kind == "transpose"]
    assert "Conv" in note.text and "conv2d reads" in note.text
    x = np.random.default_rng(1).normal(size=(1, 4, 5, 6)).astype(np.float32)
    np.testing.assert_allclose(ours(imported, x), theirs(path, x), atol=1e-5)


def test_batch_norm_folds_by_default(tmp_path: Path) -> None:
    path = exported(Everything(), (3, 32, 32), tmp_path / "net.onnx", do_constant_folding=False)
    graph = import_model(path).graph
    assert "batch_norm" not in {node.op for node in graph.nodes}


class Reader:
    """Calibration data for onnxruntime's quantiser."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        rng = np.random.default_rng(2)
        self.rest = [{"x": rng.normal(size=(1, *shape)).astype(np.float32)} for _ in range(8)]

    def get_next(self) -> dict[str, np.ndarray] | None:
        return self.rest.pop() if self.rest else None


@pytest.mark.parametrize("form", ["QDQ", "QOperator"])
@pytest.mark.parametrize("kind", ["QInt8", "QUInt8"])
@pytest.mark.parametrize("name", ["resnet8", "Everything"])
def test_quantised_networks_compute_the_same_codes(
    form: str, kind: str, name: str, scale: str, tmp_path: Path
) -> None:
    path, shape = quantised(form, kind, name, tmp_path)
    imported = read(path)
    graph = imported.graph
    assert graph.stage is Stage.INT and transposes(imported) == 0
    step, zero = encoding(graph.inputs[0].type)
    out_step, out_zero = encoding(graph.type_map()[graph.outputs[0]])
    rng, gaps = np.random.default_rng(7), []
    for _ in range(SAMPLES[scale]):
        x = rng.normal(size=(1, *shape)).astype(np.float32)
        codes = np.clip(np.rint(x / np.float32(step)) + zero, -128, 127)
        want = np.rint(theirs(path, x) / out_step).astype(np.int64) + out_zero
        gaps.append(np.abs(ours(imported, codes).reshape(want.shape) - want))
    gap = np.concatenate(gaps)
    # One code of one layer may move a few of the layers behind it.
    assert gap.max() <= 1 and gap.mean() <= 0.3


def encoding(kind: Any) -> tuple[float, int]:
    return kind.encoding.scale[0], kind.zero


def quantised(form: str, kind: str, name: str, folder: Path) -> tuple[Path, tuple[int, ...]]:
    """Return a network as onnxruntime quantises it, per channel."""
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    torch.manual_seed(3)
    net, shape = made(name) if name in NETS else (Everything(), (3, 32, 32))
    plain = exported(net, shape, folder / "plain.onnx", opset_version=17)
    ready, out = folder / "ready.onnx", folder / "quantised.onnx"
    logging.disable(logging.WARNING)
    try:
        quant_pre_process(str(plain), str(ready), skip_symbolic_shape=True)
    except Exception:  # its optimiser needs a writable session; the plain file does as well
        shutil.copy(plain, ready)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        quantize_static(
            str(ready),
            str(out),
            Reader(shape),
            quant_format=QuantFormat[form],
            activation_type=QuantType[kind],
            weight_type=QuantType.QInt8,
            per_channel=True,
        )
    logging.disable(logging.NOTSET)
    return out, shape


def test_a_quantised_network_is_the_same_on_the_chip(tmp_path: Path) -> None:
    path, shape = quantised("QDQ", "QInt8", "Everything", tmp_path)
    model = import_model(path)
    x = np.random.default_rng(9).integers(-128, 128, (2, *shape[1:], shape[0])).astype(np.int8)
    bundle = write_bundle(model.graph, load_target("cortex-m4"), tmp_path / "out", inputs=x)
    for on in ("host", "cortex-m4"):
        (comparison,) = bundle.verify(x, on=[on])
        assert comparison.differing == 0 and comparison.compared > 0
