"""Makes the models beside this file: what torch's exporters and onnxruntime's quantiser write.

Run with torch, onnxscript and onnxruntime installed: `python make.py`. Seeds are fixed; other
versions of these packages may write other files.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import torch
import torch.nn.functional as F
from onnxruntime.quantization import QuantFormat, QuantType, quantize_static
from torch import Tensor, nn

HERE = Path(__file__).resolve().parent


def shuffled(x: Tensor, groups: int) -> Tensor:
    n, c, h, w = x.size()
    return x.view(n, groups, c // groups, h, w).transpose(1, 2).contiguous().view(n, -1, h, w)


class ShuffleUnits(nn.Module):
    """Ma et al. 2018: two units, whose channels change places."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, 2, 1)
        self.parts = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(4, 4, 1), nn.ReLU(), nn.Conv2d(4, 4, 3, 1, 1, groups=4), nn.ReLU()
            )
            for _ in range(2)
        )
        self.fc = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.stem(x))
        for part in self.parts:
            a, b = x.chunk(2, dim=1)
            x = shuffled(torch.cat((a, part(b)), 1), 2)
        return self.fc(x.mean([2, 3]))


class Dense(nn.Module):
    """Huang et al. 2017: batch norms before convolutions, behind an activation and a concat."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.fc = nn.Conv2d(3, 6, 3, padding=1), nn.Linear(10, 4)
        self.n1, self.c1 = nn.BatchNorm2d(6), nn.Conv2d(6, 4, 3, padding=1, bias=False)
        self.n2 = nn.BatchNorm2d(10)
        for norm in (self.n1, self.n2):
            norm.running_mean.normal_(0, 0.3)
            norm.running_var.uniform_(0.5, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.stem(x))
        x = torch.cat([x, self.c1(F.relu(self.n1(x)))], 1)
        return self.fc(F.relu(self.n2(x)).mean((2, 3)))


class Next(nn.Module):
    """Liu et al. 2022: a layer norm over channels, GELU, a gain, a unit vector at the end."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, 8, 4, 4), nn.LayerNorm(8)
        self.depth = nn.Conv2d(8, 8, 7, padding=3, groups=8)
        self.up, self.down = nn.Linear(8, 16), nn.Linear(16, 8)
        self.gain, self.head = nn.Parameter(torch.rand(8)), nn.Linear(8, 6)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        y = self.norm(self.depth(x).permute(0, 2, 3, 1))
        x = x + (self.gain * self.down(F.gelu(self.up(y)))).permute(0, 3, 1, 2)
        return F.normalize(self.head(x.mean([-2, -1])), dim=1)


class Encoder(nn.Module):
    """A flat network: its QuantizeLinear stands behind the Flatten."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Flatten(), nn.Linear(64, 12), nn.ReLU(), nn.Linear(12, 6), nn.Linear(6, 3)
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)


class Decoder(nn.Module):
    """Grouped and dilated transposed convolutions, a linear resize."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(4, 2, 1)
        self.up = nn.ConvTranspose2d(8, 4, 3, 2, 1, 1, groups=2)
        self.wide = nn.ConvTranspose2d(4, 4, 3, padding=2, dilation=2)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.wide(F.relu(self.up(F.relu(self.first(x))))))
        x = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
        return torch.sigmoid(self.last(x))


class Reader:
    """Calibration data."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        rng = np.random.default_rng(2)
        self.rest = [{"x": rng.normal(size=(1, *shape)).astype(np.float32)} for _ in range(8)]

    def get_next(self) -> dict[str, np.ndarray] | None:
        return self.rest.pop() if self.rest else None


NETS: dict[str, tuple[type[nn.Module], tuple[int, ...]]] = {
    "shuffle": (ShuffleUnits, (3, 12, 12)),
    "dense": (Dense, (3, 8, 8)),
    "next": (Next, (3, 16, 16)),
    "encoder": (Encoder, (1, 8, 8)),
    "decoder": (Decoder, (3, 6, 5)),
}
EXPORTS = (
    ("shuffle", "torchscript", 11),
    ("dense", "dynamo", 20),
    ("next", "torchscript", 13),
    ("next", "dynamo", 20),
)
QUANTISED = (
    ("shuffle", QuantFormat.QOperator, QuantType.QUInt8),
    ("dense", QuantFormat.QDQ, QuantType.QUInt8),
    ("encoder", QuantFormat.QDQ, QuantType.QInt8),
    ("decoder", QuantFormat.QDQ, QuantType.QUInt8),
)


def export(name: str, exporter: str, opset: int, path: Path) -> None:
    torch.manual_seed(3)
    cls, shape = NETS[name]
    example = (torch.zeros(1, *shape),)
    options = {"opset_version": opset, "input_names": ["x"], "output_names": ["y"]}
    if exporter == "dynamo":
        options |= {"dynamo": True, "external_data": False, "verbose": False}
    else:
        options |= {"dynamo": False, "dynamic_axes": {"x": {0: "batch"}}}
    torch.onnx.export(cls().eval(), example, str(path), **options)
    strip(path)


def strip(path: Path) -> None:
    """Take away what the exporters say about the machine they ran on."""
    model = onnx.load(str(path))
    for part in (model, model.graph, *model.graph.node, *model.graph.value_info):
        del part.metadata_props[:]
        part.doc_string = ""
    for part in (*model.graph.input, *model.graph.output, *model.graph.initializer):
        del part.metadata_props[:]
        part.doc_string = ""
    onnx.save(model, str(path))


def written() -> Iterator[Path]:
    for name, exporter, opset in EXPORTS:
        path = HERE / f"{name}_{exporter}_{opset}.onnx"
        export(name, exporter, opset, path)
        yield path
    for name, form, kind in QUANTISED:
        path = HERE / f"{name}_{form.name.lower()}_{kind.name.lower()}.onnx"
        with tempfile.TemporaryDirectory() as folder:
            plain = Path(folder) / "plain.onnx"
            export(name, "torchscript", 17, plain)
            quantize_static(
                str(plain),
                str(path),
                Reader(NETS[name][1]),
                quant_format=form,
                activation_type=kind,
                weight_type=kind,
                per_channel=False,
            )
        yield path


if __name__ == "__main__":
    for made in written():
        print(made.name, made.stat().st_size)
