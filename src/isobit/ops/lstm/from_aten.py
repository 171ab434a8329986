"""PyTorch's nn.LSTM, nn.LSTMCell, nn.GRU and nn.RNN."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from isobit.core.dtypes import DType
from isobit.core.types import FloatArray, Real, TensorType
from isobit.ops.add.op import AddAttrs, AddInputs
from isobit.ops.foreign import Operand, aten
from isobit.ops.linear.from_onnx import product
from isobit.ops.logical import Along, Elementwise, LogicalCall, View
from isobit.ops.lstm.from_onnx import (
    Run,
    lstm_layer,
    require_reals,
    require_zeros,
    sequence,
)
from isobit.ops.lstm.op import GATES
from isobit.ops.lstm.unrolled_onnx import gru_run, rnn_run, started
from isobit.ops.lut.op import LutAttrs, LutInputs
from isobit.ops.mul.op import MulAttrs, MulInputs
from isobit.ops.onnx import centred
from isobit.ops.onnx_compose import joined
from isobit.ops.split.op import SplitAttrs, SplitInputs


@aten("lstm.input")
def lstm(call: LogicalCall) -> None:
    """Sequences x [T,B,I], or [B,T,I] where `batch_first`; h, c; for every layer and direction
    weights [4U,I] and [4U,U] and two biases [4U], gates as ours.
    """

    def made(w: FloatArray, r: FloatArray, b: FloatArray, c: FloatArray, h: Operand | None) -> Run:
        layer = lstm_layer(call, w, r, b + c)
        return lambda x, first, back: sequence(call, x, layer, first, back=back)

    require_reals(call)
    require_zeros(call, [call.operand(1), call.operand(2)])
    stacked(call, GATES, 2, made)


@aten("gru.input")
def gru(call: LogicalCall) -> None:
    """Sequences and h [L*D,B,U] as of `lstm`; weights of three gates: reset, update, hidden."""

    def made(w: FloatArray, r: FloatArray, b: FloatArray, c: FloatArray, h: Operand | None) -> Run:
        w, r, b, c = (_update_first(array) for array in (w, r, b, c))
        return gru_run(call, w, r, b, c, h, reset_last=True)

    require_reals(call)
    stacked(call, 3, 1, made)


def _update_first(array: FloatArray) -> FloatArray:
    reset, update, hidden = np.split(array, 3)
    return np.concatenate([update, reset, hidden])


@aten("rnn_tanh.input", "rnn_relu.input")
def rnn(call: LogicalCall) -> None:
    """Sequences and h [L*D,B,U] as of `lstm`; one set of weights."""
    function = call.code.split(".")[0].removeprefix("rnn_")

    def made(w: FloatArray, r: FloatArray, b: FloatArray, c: FloatArray, h: Operand | None) -> Run:
        return rnn_run(call, w, r, b + c, h, function)

    require_reals(call)
    stacked(call, 1, 1, made)


Maker = Callable[[FloatArray, FloatArray, FloatArray, FloatArray, "Operand | None"], Run]
"""From the weights of x and of h, the biases beside them, and h to start from, `None` for zero."""


def stacked(call: LogicalCall, gates: int, states: int, made: Maker) -> None:
    """Record every layer of a recurrent module, and the join of two directions after each."""
    x = call.activation()
    layers, both = int(call.option("num_layers")), bool(call.option("bidirectional"))
    first = not call.option("batch_first")
    ways = 1 + both
    biased = bool(call.option("has_biases"))
    each = 4 if biased else 2
    params = call.inputs[1 + states :]
    if len(params) != each * ways * layers:
        raise call.unsupported(
            "weights",
            f"{each} tensors for each layer",
            f"{len(params)} for {layers}: a projection",
            "Use proj_size=0 and a linear layer behind.",
        )
    h = started(call, call.operand(1), ways * layers, 0)
    last: list[list[Operand]] = [[] for _ in range(states)]
    for layer in range(layers):
        found = []
        for way in range(ways):
            own_layer = layer * ways + way
            start = 1 + states + each * own_layer
            run = _layer(call, start, gates, biased, made, h[own_layer])
            found.append(run(x, first, way == 1))
        for own, kept in zip(last, zip(*(f[1:] for f in found), strict=True), strict=True):
            own.extend(kept)
        sequences = [f[0] for f in found]
        x = sequences[0]
        if both:
            x = call.temp("both", (*x.shape[:2], 2 * x.shape[2]), x.type)
            joined(call, sequences, 2, x)
    for position, y in enumerate(call.outputs):
        if position == 0:
            joined(call, [x], 2, y)
        else:
            parts = [call.viewed(s, (1, *s.shape)) for s in last[position - 1]]
            joined(call, parts, 0, y)


def _layer(
    call: LogicalCall, start: int, gates: int, biased: bool, made: Maker, h: Operand | None
) -> Run:
    """Return the layer whose parameters begin at an input."""
    w, r = (call.constant(start + k, "weights").astype(np.float64) for k in range(2))
    rows = w.shape[0]
    size = r.shape[-1]
    if rows != gates * size or r.shape[0] != rows:
        got = f"{list(w.shape)} and {list(r.shape)}"
        raise call.unsupported("weights", f"[{gates}U,I] and [{gates}U,U]", got)
    b, c = np.zeros(rows), np.zeros(rows)
    if biased:
        b, c = (call.constant(start + 2 + k, "bias").astype(np.float64) for k in range(2))
    return made(w, r, b, c, h)


@aten("gru_cell.default")
def gru_cell(call: LogicalCall) -> None:
    """One step of a GRU: x [B,I], h [B,U], weights and biases as of `gru`."""

    def made(w: FloatArray, r: FloatArray, b: FloatArray, c: FloatArray, h: Operand | None) -> Run:
        w, r, b, c = (_update_first(array) for array in (w, r, b, c))
        return gru_run(call, w, r, b, c, h, reset_last=True)

    _one_step(call, 3, made)


@aten("rnn_tanh_cell.default", "rnn_relu_cell.default")
def rnn_cell(call: LogicalCall) -> None:
    """One step of a plain recurrent layer: x [B,I], h [B,U]."""
    function = call.code.split("_")[1]

    def made(w: FloatArray, r: FloatArray, b: FloatArray, c: FloatArray, h: Operand | None) -> Run:
        return rnn_run(call, w, r, b + c, h, function)

    _one_step(call, 1, made)


def _one_step(call: LogicalCall, gates: int, made: Maker) -> None:
    require_reals(call)
    x, h = call.activation(), call.operand(1)
    biased = call.optional(4) is not None and call.optional(5) is not None
    before = None if h.is_const and not np.any(h.data) else h
    run = _layer(call, 2, gates, biased, made, before)
    _, found = run(call.viewed(x, (1, *x.shape)), True, False)
    call.step(View(), [found])


@aten("lstm_cell.default")
def lstm_cell(call: LogicalCall) -> None:
    """One step, x [1,I] and states [1,U]: as sums, tables and products, which the pass
    `fuse_recurrent` makes one `lstm` of where a loop was unrolled.
    """
    require_reals(call)
    x, h, c = call.activation(), call.operand(1), call.operand(2)
    w, r = call.operand(3), call.operand(4)
    size = h.shape[-1]
    if x.type.elements != x.shape[-1] or h.type.elements != size:
        raise call.unsupported("rows", "1", f"{list(x.shape)}", "Call it with a batch of 1.")
    lines = GATES * size
    biases = [call.optional(5 + k) for k in range(2)]
    total = sum((np.asarray(b.data) for b in biases if b is not None), np.zeros(lines))
    kind = TensorType((lines,), DType.F64, Real())
    label = biases[0].label if biases[0] is not None else ""
    bias = Operand(label, (lines,), kind, f"{call.output().value}_bias", total)

    def temp(wanted: str, *shape: int) -> Operand:
        return call.temp(wanted, shape or (1, size), x.type)

    def apply(function: str, a: Operand) -> Operand:
        y = temp(function)
        kind = Elementwise("lut", lambda n: LutInputs(n[0]), LutAttrs(function))
        call.step(kind, [a], y)
        return y

    times = Elementwise("mul", lambda n: MulInputs(n[0], n[1]), MulAttrs())
    plus = Elementwise("add", lambda n: AddInputs(n[0], n[1]), AddAttrs())
    sums = temp("fresh", 1, lines)
    x = call.viewed(x, (1, x.shape[-1]))
    product(call, x, w, centred(call, w), bias, 1.0, 0, sums)
    if not _is_zero(call, h):
        kept, both = temp("kept", 1, lines), temp("sums", 1, lines)
        product(call, call.viewed(h, (1, size)), r, centred(call, r), None, 1.0, 0, kept)
        call.step(plus, [sums, kept], both)
        sums = both
    parts = [temp("gate") for _ in range(GATES)]
    split = Along(
        *("split", lambda n: SplitInputs(n[0])),
        *(lambda at: SplitAttrs(at.axis(1), (size,) * GATES), (1,)),
    )
    call.step(split, [sums], *parts)
    i, f, o = (apply("sigmoid", parts[k]) for k in (0, 1, 3))
    cell = temp("new")
    call.step(times, [i, apply("tanh", parts[2])], cell)
    if not _is_zero(call, c):
        old, both = temp("old"), temp("cell")
        call.step(times, [f, call.viewed(c, (1, size))], old)
        call.step(plus, [old, cell], both)
        cell = both
    hidden = temp("hidden")
    call.step(times, [o, apply("tanh", cell)], hidden)
    for y, found in zip(call.outputs, (hidden, cell), strict=False):
        call.step(View(), [found], y)


def _is_zero(call: LogicalCall, state: Operand) -> bool:
    """Whether a step starts from stored zeros; other stored states are refused."""
    if state.is_const:
        require_zeros(call, [state])
    return state.is_const
