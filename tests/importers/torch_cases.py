"""Modules of one operator each, with the shape of one example; sizes of axes are all different, so
that a layout mistake cannot hide.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

IMAGE = (6, 7, 9)
LINE = (6, 11)
ROW = (12,)


class Calls(nn.Module):
    """A forward that is one function."""

    def __init__(self, function: Callable[..., object]) -> None:
        super().__init__()
        self.function = function

    def forward(self, *xs: Tensor) -> object:
        return self.function(*xs)


@dataclass(frozen=True)
class Case:
    """`code`: the operator that must be in the export, before rules see it."""

    code: str
    module: Callable[[], nn.Module]
    shapes: tuple[tuple[int, ...], ...] = (IMAGE,)
    positive: bool = False


def of(
    code: str,
    function: Callable[..., object],
    *shapes: tuple[int, ...],
    positive: bool = False,
) -> Case:
    return Case(code, lambda: Calls(function), shapes or (IMAGE,), positive)


def layer(code: str, make: Callable[[], nn.Module], *shapes: tuple[int, ...]) -> Case:
    return Case(code, make, shapes or (IMAGE,))


class Matrix(nn.Module):
    """x @ w, or b + x @ w."""

    def __init__(self, *, biased: bool) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.randn(12, 5))
        self.b = nn.Parameter(torch.randn(5)) if biased else None

    def forward(self, x: Tensor) -> Tensor:
        if self.b is None:
            return x @ self.w
        return torch.addmm(self.b, x, self.w, beta=0.5, alpha=2.0)


class Offset(nn.Module):
    """x + p with a learned p."""

    def __init__(self, *shape: int) -> None:
        super().__init__()
        self.p = nn.Parameter(torch.randn(*shape))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.p


WEIGHTED = {
    "conv2d": layer("conv2d.default", lambda: nn.Conv2d(6, 8, 3, padding=1)),
    "conv2d stride": layer(
        "conv2d.default", lambda: nn.Conv2d(6, 8, (3, 2), stride=(2, 3), padding=(0, 1))
    ),
    "conv2d dilation": layer("conv2d.default", lambda: nn.Conv2d(6, 4, 3, dilation=2, bias=False)),
    "conv2d groups": layer("conv2d.default", lambda: nn.Conv2d(6, 4, 3, groups=2)),
    "conv2d depthwise": layer("conv2d.default", lambda: nn.Conv2d(6, 6, 3, groups=6)),
    "conv2d multiplier": layer("conv2d.default", lambda: nn.Conv2d(6, 12, 3, groups=6)),
    "conv2d same": layer("conv2d.padding", lambda: nn.Conv2d(6, 5, (4, 3), padding="same")),
    "conv2d valid": layer("conv2d.padding", lambda: nn.Conv2d(6, 5, 2, padding="valid")),
    "conv1d": layer("conv1d.default", lambda: nn.Conv1d(6, 8, 3, stride=2, padding=1), LINE),
    "conv1d same": layer("conv1d.padding", lambda: nn.Conv1d(6, 8, 4, padding="same"), LINE),
    "conv1d depthwise": layer("conv1d.default", lambda: nn.Conv1d(6, 6, 3, groups=6), LINE),
    "transposed": layer(
        "conv_transpose2d.input", lambda: nn.ConvTranspose2d(6, 4, 3, 2, 1, output_padding=1)
    ),
    "transposed line": layer(
        "conv_transpose1d.default", lambda: nn.ConvTranspose1d(6, 4, 4, 2, 1), LINE
    ),
    "linear": layer("linear.default", lambda: nn.Linear(12, 5), ROW),
    "linear rows": layer("linear.default", lambda: nn.Linear(11, 5), LINE),
    "linear without bias": layer("linear.default", lambda: nn.Linear(12, 5, bias=False), ROW),
    "linear of an image": layer(
        "linear.default",
        lambda: nn.Sequential(nn.Conv2d(6, 4, 3), nn.Flatten(), nn.Linear(4 * 5 * 7, 3)),
    ),
    "convolution": of(
        "convolution.default",
        lambda x: torch.ops.aten.convolution(
            x, torch.ones(4, 6, 3, 2), None, [2, 1], [1, 0], [1, 1], False, [0, 0], 1
        ),
    ),
    "convolution transposed": of(
        "convolution.default",
        lambda x: torch.ops.aten.convolution(
            x, torch.ones(6, 4, 3, 2), None, [2, 1], [1, 0], [1, 1], True, [1, 0], 1
        ),
    ),
    "mm": of("mm.default", lambda x: torch.mm(x, torch.ones(12, 3)), ROW),
    "bmm": of("bmm.default", lambda x: torch.bmm(x, torch.ones(1, 11, 3)), LINE),
    "matmul": layer("matmul.default", lambda: Matrix(biased=False), ROW),
    "addmm": layer("addmm.default", lambda: Matrix(biased=True), ROW),
    "batch_norm": layer("_native_batch_norm_legit_no_training.default", lambda: nn.BatchNorm2d(6)),
    "batch_norm first": layer(
        "_native_batch_norm_legit_no_training.default",
        lambda: nn.Sequential(nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 3, 1)),
    ),
    "batch_norm of a row alone": layer(
        "_native_batch_norm_legit_no_training.default", lambda: nn.BatchNorm1d(12), ROW
    ),
    "batch_norm of a line alone": layer(
        "_native_batch_norm_legit_no_training.default", lambda: nn.BatchNorm1d(6), LINE
    ),
    "batch_norm line": layer(
        "_native_batch_norm_legit_no_training.default",
        lambda: nn.Sequential(nn.Conv1d(6, 5, 3), nn.BatchNorm1d(5)),
        LINE,
    ),
    "batch_norm row": layer(
        "_native_batch_norm_legit_no_training.default",
        lambda: nn.Sequential(nn.Linear(12, 5), nn.BatchNorm1d(5)),
        ROW,
    ),
    "batch_norm not affine": layer(
        "_native_batch_norm_legit_no_training.default", lambda: nn.BatchNorm2d(6, affine=False)
    ),
    "prelu": layer("prelu.default", lambda: nn.PReLU(6)),
    "prelu of one": layer("prelu.default", lambda: nn.PReLU()),
}
PAIRS = {
    "add": of("add.Tensor", torch.add, IMAGE, IMAGE),
    "add number": of("add.Tensor", lambda x: x + 1.5),
    "add broadcast": of("add.Tensor", torch.add, IMAGE, (6, 1, 1)),
    "add channel": layer("add.Tensor", lambda: Offset(6, 1, 1)),
    "add rows": layer("add.Tensor", lambda: Offset(7, 9)),
    "sub": of("sub.Tensor", torch.sub, IMAGE, IMAGE),
    "sub twice": of("sub.Tensor", lambda x: torch.sub(x, torch.ones(6, 1, 1), alpha=2)),
    "rsub": of("rsub.Scalar", lambda x: 1.0 - x),
    "add scalar": of("add.Scalar", lambda x: torch.ops.aten.add.Scalar(x, 1.5)),
    "sub scalar": of("sub.Scalar", lambda x: torch.ops.aten.sub.Scalar(x, 1.5)),
    "mul scalar": of("mul.Scalar", lambda x: torch.ops.aten.mul.Scalar(x, 1.5)),
    "div scalar": of("div.Scalar", lambda x: torch.ops.aten.div.Scalar(x, 1.5)),
    "rsub tensor": of("rsub.Tensor", torch.rsub, IMAGE, IMAGE),
    "max of two": of("max.other", torch.max, IMAGE, IMAGE),
    "min of two": of("min.other", torch.min, IMAGE, IMAGE),
    "mul": of("mul.Tensor", torch.mul, IMAGE, IMAGE),
    "mul number": of("mul.Tensor", lambda x: x * 0.25),
    "mul gate": of("mul.Tensor", torch.mul, IMAGE, (6, 1, 1)),
    "div": of("div.Tensor", lambda x: x / 3.0),
    "maximum": of("maximum.default", torch.maximum, IMAGE, IMAGE),
    "minimum": of("minimum.default", torch.minimum, IMAGE, IMAGE),
    "expand": of("mul.Tensor", lambda x: x * x.mean((2, 3), keepdim=True).expand_as(x)),
}
UNARY = {
    "relu": of("relu.default", F.relu),
    "relu6": of("relu6.default", F.relu6),
    "hardtanh": of("hardtanh.default", lambda x: F.hardtanh(x, -0.5, 0.7)),
    "clamp": of("clamp.default", lambda x: x.clamp(-0.4, 0.6)),
    "clamp above": of("clamp_min.default", lambda x: torch.clamp_min(x, 0.1)),
    "clamp below": of("clamp_max.default", lambda x: torch.clamp_max(x, 0.1)),
    "threshold": of("threshold.default", lambda x: F.threshold(x, 0.1, 0.1)),
    "sigmoid": of("sigmoid.default", torch.sigmoid),
    "tanh": of("tanh.default", torch.tanh),
    "hardsigmoid": of("hardsigmoid.default", F.hardsigmoid),
    "hardswish": of("hardswish.default", F.hardswish),
    "silu": of("silu.default", F.silu),
    "gelu": of("gelu.default", F.gelu),
    "gelu tanh": of("gelu.default", lambda x: F.gelu(x, approximate="tanh")),
    "elu": of("elu.default", lambda x: F.elu(x, 0.7)),
    "celu": of("celu.default", lambda x: F.celu(x, 0.7)),
    "selu": of("selu.default", F.selu),
    "mish": of("mish.default", F.mish),
    "softplus": of("softplus.default", lambda x: F.softplus(x, 2.0, 3.0)),
    "log_sigmoid": of("log_sigmoid.default", F.logsigmoid),
    "leaky_relu": of("leaky_relu.default", lambda x: F.leaky_relu(x, 0.2)),
    "rrelu": of("rrelu.default", lambda x: F.rrelu(x, 0.1, 0.3)),
    "exp": of("exp.default", torch.exp),
    "abs": of("abs.default", torch.abs),
    "neg": of("neg.default", torch.neg),
    "sin": of("sin.default", torch.sin),
    "cos": of("cos.default", torch.cos),
    "floor": of("floor.default", torch.floor),
    "ceil": of("ceil.default", torch.ceil),
    "round": of("round.default", torch.round),
    "square": of("pow.Tensor_Scalar", lambda x: x**2),
    "torch.square": of("square.default", lambda x: torch.ops.aten.square(x)),
    "inverse root": of("pow.Tensor_Scalar", lambda x: x**-0.5, positive=True),
    "same power": of("pow.Tensor_Scalar", lambda x: x**1),
    "root": of("pow.Tensor_Scalar", lambda x: x**0.5, positive=True),
    "erf": of("erf.default", torch.erf),
    "reciprocal": of("reciprocal.default", torch.reciprocal, positive=True),
    "sqrt": of("sqrt.default", torch.sqrt, positive=True),
    "rsqrt": of("rsqrt.default", torch.rsqrt, positive=True),
    "log": of("log.default", torch.log, positive=True),
    "softmax": of("softmax.int", lambda x: F.softmax(x, 1)),
    "softmax of a row": of("softmax.int", lambda x: F.softmax(x, -1), ROW),
}
WINDOWS = {
    "max_pool2d": of("max_pool2d.default", lambda x: F.max_pool2d(x, 3, 2, 1)),
    "max_pool2d ceil": of("max_pool2d.default", lambda x: F.max_pool2d(x, 2, ceil_mode=True)),
    "max_pool1d": of("max_pool1d.default", lambda x: F.max_pool1d(x, 3, 2), LINE),
    "avg_pool2d": of("avg_pool2d.default", lambda x: F.avg_pool2d(x, 3, 2, 1)),
    "avg_pool2d counted": of(
        "avg_pool2d.default", lambda x: F.avg_pool2d(x, 3, 2, 1, count_include_pad=False)
    ),
    "avg_pool2d ceil": of("avg_pool2d.default", lambda x: F.avg_pool2d(x, 3, 2, ceil_mode=True)),
    "avg_pool1d": of("avg_pool1d.default", lambda x: F.avg_pool1d(x, 2), LINE),
    "adaptive": of("adaptive_avg_pool2d.default", lambda x: F.adaptive_avg_pool2d(x, 1)),
    "adaptive rows": of("adaptive_avg_pool2d.default", lambda x: F.adaptive_avg_pool2d(x, (7, 3))),
    "adaptive line": of("adaptive_avg_pool1d.default", lambda x: F.adaptive_avg_pool1d(x, 1), LINE),
    "adaptive max": of("adaptive_max_pool2d.default", lambda x: F.adaptive_max_pool2d(x, (1, 3))),
    "adaptive max line": of(
        "adaptive_max_pool1d.default", lambda x: F.adaptive_max_pool1d(x, 1), LINE
    ),
    "nearest line": of("upsample_nearest1d.vec", lambda x: F.interpolate(x, scale_factor=3), LINE),
    "nearest exact line": of(
        "_upsample_nearest_exact1d.vec",
        lambda x: F.interpolate(x, size=17, mode="nearest-exact"),
        LINE,
    ),
    "linear interpolation": of(
        "upsample_linear1d.vec", lambda x: F.interpolate(x, size=22, mode="linear"), LINE
    ),
    "nearest": of("upsample_nearest2d.vec", lambda x: F.interpolate(x, scale_factor=2)),
    "nearest size": of("upsample_nearest2d.vec", lambda x: F.interpolate(x, size=(5, 13))),
    "nearest exact": of(
        "_upsample_nearest_exact2d.vec",
        lambda x: F.interpolate(x, size=(5, 13), mode="nearest-exact"),
    ),
    "bilinear": of(
        "upsample_bilinear2d.vec", lambda x: F.interpolate(x, scale_factor=2, mode="bilinear")
    ),
    "bilinear corners": of(
        "upsample_bilinear2d.vec",
        lambda x: F.interpolate(x, size=(5, 13), mode="bilinear", align_corners=True),
    ),
}
MOVES = {
    "flatten": of("view.default", lambda x: torch.flatten(x, 1)),
    "unsafe view": of(
        "_unsafe_view.default", lambda x: torch.ops.aten._unsafe_view(x, [len(x), x[0].numel()])
    ),
    "unsqueeze": of("unsqueeze.default", lambda x: x.unsqueeze(2), LINE),
    "squeeze": of("squeeze.dim", lambda x: x.mean(2, keepdim=True).squeeze(2)),
    "unflatten": of("view.default", lambda x: x.unflatten(1, (2, 3))),
    "squeeze all": of("squeeze.default", lambda x: x.mean((2, 3), keepdim=True).squeeze()),
    "squeeze two": of("squeeze.dims", lambda x: x.mean((2, 3), keepdim=True).squeeze((2, 3))),
    "alias": of("alias.default", lambda x: torch.ops.aten.alias(x.relu()).tanh()),
    "detach": of("detach.default", lambda x: x.relu().detach().tanh()),
    "double": of("_to_copy.default", lambda x: x.double().relu().float()),
    "t": of("t.default", lambda x: torch.ops.aten.t(x[0]).relu().unsqueeze(0), LINE),
    "expand to copies": of("expand.default", lambda x: x[:, :, :1].expand(-1, -1, 4, -1).relu()),
    "tile": of("tile.default", lambda x: x.tile(1, 2, 1, 1)),
    "index_select": of(
        "index_select.default", lambda x: x.index_select(1, torch.tensor([5, 3, 1]))
    ),
    "clone": of("clone.default", lambda x: x.permute(0, 2, 3, 1).contiguous()),
    "dropout": layer("clone.default", lambda: nn.Sequential(nn.Conv2d(6, 4, 1), nn.Dropout(0.5))),
    "permute": of("permute.default", lambda x: F.relu(x.permute(0, 2, 3, 1))),
    "transpose": of("transpose.int", lambda x: F.relu(x.transpose(1, 2)), LINE),
    "pixel_shuffle": of("pixel_shuffle.default", lambda x: F.pixel_shuffle(x, 2), (8, 5, 7)),
    "pixel_unshuffle": of("pixel_unshuffle.default", lambda x: F.pixel_unshuffle(x, 2), (3, 4, 10)),
    "channel_shuffle": layer("channel_shuffle.default", lambda: nn.ChannelShuffle(2)),
    "cat": of("cat.default", lambda a, b: torch.cat([a, b], 1), IMAGE, (4, 7, 9)),
    "cat rows": of("cat.default", lambda a, b: torch.cat([a, b], -1), IMAGE, (6, 7, 2)),
    "stack": of("stack.default", lambda a, b: torch.stack([a, b], 1), LINE, LINE),
    "chunk": of("split.Tensor", lambda x: torch.cat(x.chunk(3, 1)[::-1], 1)),
    "split": of("split_with_sizes.default", lambda x: x.split([1, 2, 3], 1)),
    "unbind": of("unbind.int", lambda x: x.unbind(1)[2] + x.unbind(1)[0]),
    "slice": of("slice.Tensor", lambda x: x[:, 1:5:2, :, -3:]),
    "select": of("select.int", lambda x: x[:, -2]),
    "index": of("index.Tensor", lambda x: x[:, [0, 2, 4]]),
    "flip": of("flip.default", lambda x: x.flip(2, 3)),
    "repeat": of("repeat.default", lambda x: x.repeat(1, 2, 1, 3)),
    "pad": of("pad.default", lambda x: F.pad(x, (1, 2, 3, 0), value=0.5)),
    "constant_pad_nd": of("constant_pad_nd.default", lambda x: torch.constant_pad_nd(x, [2, 1])),
    "reflection_pad1d": of(
        "reflection_pad1d.default", lambda x: torch.ops.aten.reflection_pad1d(x, [2, 1]), LINE
    ),
    "reflection_pad2d": of(
        "reflection_pad2d.default", lambda x: torch.ops.aten.reflection_pad2d(x, [2, 1, 0, 3])
    ),
    "pad zeros": of("pad.default", lambda x: F.pad(x, (1, 0))),
    "pad reflect": of("pad.default", lambda x: F.pad(x, (1, 2, 3, 0), mode="reflect")),
}


def _first(layer: nn.Module) -> Callable[[Tensor], Tensor]:
    """The sequence of a recurrent layer."""
    return lambda x: layer(x)[0]


def _steps_first(layer: nn.Module) -> Callable[[Tensor], Tensor]:
    return lambda x: layer(x.transpose(0, 1))[0].transpose(0, 1)


def _states(layer: nn.Module) -> Callable[[Tensor], Tensor]:
    """The last hidden states of an LSTM, of every layer."""
    return lambda x: layer(x)[1][0].transpose(0, 1)


def _unrolled(cell: nn.Module) -> Callable[[Tensor], object]:
    def forward(x: Tensor) -> Tensor:
        h, c = torch.zeros(1, 5), torch.zeros(1, 5)
        found = []
        for step in range(x.shape[1]):
            h, c = cell(x[:, step], (h, c))
            found.append(h)
        return torch.stack(found, 1)

    return forward


def _plain_cell(cell: nn.Module) -> Callable[[Tensor], object]:
    """The steps of a cell with one state, from stored numbers that are not zero."""

    def forward(x: Tensor) -> Tensor:
        h = torch.linspace(-1, 1, 5)[None]
        found = []
        for step in range(x.shape[1]):
            h = cell(x[:, step], h)
            found.append(h)
        return torch.stack(found, 1)

    return forward


def _started(layer: nn.Module) -> Callable[[Tensor, Tensor], object]:
    """Sequence and last states, from states that the caller gives [L*D,5]."""
    return lambda x, h: layer(x, h.reshape(-1, 1, 5))


REDUCTIONS = {
    "mean of an image": of("mean.dim", lambda x: x.mean((2, 3))),
    "mean of a row": of("mean.dim", lambda x: x.mean(3, keepdim=True)),
    "mean of all": of("mean.default", lambda x: F.relu(x).mean()),
    "sum of channels": of("sum.dim_IntList", lambda x: x.sum(1)),
    "sum of all": of("sum.default", lambda x: x.sum()),
    "largest of all": of("max.default", lambda x: x.max()),
    "smallest of all": of("min.default", lambda x: x.min()),
    "min values": of("min.dim", lambda x: x.min(2, keepdim=True)[0]),
    "amax": of("amax.default", lambda x: x.amax((2, 3))),
    "amin": of("amin.default", lambda x: x.amin(1, keepdim=True)),
    "max values": of("max.dim", lambda x: x.max(2)[0]),
}
RECURRENT = {
    "lstm": of("lstm.input", _first(nn.LSTM(6, 5, batch_first=True)), (7, 6)),
    "lstm, two layers": of("lstm.input", _first(nn.LSTM(6, 5, 2, batch_first=True)), (7, 6)),
    "lstm, both ways": of(
        "lstm.input", _first(nn.LSTM(6, 5, 2, batch_first=True, bidirectional=True)), (7, 6)
    ),
    "lstm, steps first": of("lstm.input", _steps_first(nn.LSTM(6, 5, 2)), (7, 6)),
    "lstm, no bias": of("lstm.input", _first(nn.LSTM(6, 5, bias=False, batch_first=True)), (7, 6)),
    "lstm, states": of("lstm.input", _states(nn.LSTM(6, 5, 2, batch_first=True)), (7, 6)),
    "lstm_cell": of("lstm_cell.default", _unrolled(nn.LSTMCell(6, 5)), (4, 6)),
    "gru": of("gru.input", _first(nn.GRU(6, 5, batch_first=True)), (7, 6)),
    "gru, no bias": of("gru.input", _first(nn.GRU(6, 5, bias=False)), (7, 6)),
    "gru, both ways": of(
        "gru.input", _first(nn.GRU(6, 5, 2, batch_first=True, bidirectional=True)), (7, 6)
    ),
    "gru, more steps than a join takes": of(
        "gru.input", _first(nn.GRU(2, 3, batch_first=True)), (35, 2)
    ),
    "gru, from given states": of(
        "gru.input", _started(nn.GRU(6, 5, 2, batch_first=True)), (7, 6), (2, 5)
    ),
    "gru_cell": of("gru_cell.default", _plain_cell(nn.GRUCell(6, 5)), (4, 6)),
    "rnn": of("rnn_tanh.input", _first(nn.RNN(6, 5, batch_first=True)), (7, 6)),
    "rnn, both ways": of(
        "rnn_tanh.input", _first(nn.RNN(6, 5, 2, batch_first=True, bidirectional=True)), (7, 6)
    ),
    "rnn, relu": of(
        "rnn_relu.input", _first(nn.RNN(6, 5, nonlinearity="relu", batch_first=True)), (7, 6)
    ),
    "rnn_cell": of("rnn_tanh_cell.default", _plain_cell(nn.RNNCell(6, 5)), (4, 6)),
    "rnn_cell, relu": of(
        "rnn_relu_cell.default", _plain_cell(nn.RNNCell(6, 5, nonlinearity="relu")), (4, 6)
    ),
}
CASES = {**RECURRENT, **WEIGHTED, **PAIRS, **UNARY, **WINDOWS, **MOVES, **REDUCTIONS}
