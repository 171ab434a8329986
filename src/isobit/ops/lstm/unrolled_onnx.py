"""ONNX's GRU and RNN, and PyTorch's: a static number of steps, each as sums, tables and products.

All steps read the same stored weights. The products with x do not wait for each other, so one
operator computes them for every step.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from isobit.core.types import AnyArray, FloatArray, IntArray
from isobit.ir.graph import Inputs
from isobit.ops.clamp.op import ClampAttrs, ClampInputs
from isobit.ops.conv2d.op import Conv2dAttrs
from isobit.ops.foreign import Operand, onnx
from isobit.ops.linear.op import LinearAttrs
from isobit.ops.logical import Elementwise, Features, Last, LogicalCall
from isobit.ops.lstm.from_onnx import (
    Run,
    across,
    activations,
    directions,
    require_plain,
    require_usual,
)
from isobit.ops.onnx_compose import joined, number, parted, plus, times, unary
from isobit.ops.weighted import WeightedInputs

MOST_STEPS = 256
"""Every step is nodes of its own: more are a program that no small chip has room for."""
FUNCTIONS = ("Tanh", "Sigmoid", "Relu")
"""Of a plain recurrent layer."""
Cell = Callable[[Operand, "Operand | None"], Operand]
"""From the sums of x of one step and h before it, `None` for zero, h behind it [B,U]."""


@onnx("GRU")
def gru(call: LogicalCall) -> None:
    """Sequences x [T,B,I], w [D,3U,I], r [D,3U,U], b [D,6U], sequence_lens, initial_h [D,B,U];
    with layout 1 x is [B,T,I], initial_h [B,D,U]. Gates in the order update z, reset r, hidden:

        h = (1 - z) * n + z * h',  n = tanh(x*Wn + bn + (r . h')*Rn + cn), or
        n = tanh(x*Wn + bn + r . (h'*Rn + cn)) with linear_before_reset
    """
    require_plain(call)
    for given in activations(call, ("Sigmoid", "Tanh")):
        require_usual(call, given, ("Sigmoid", "Tanh"))
    w, r, b = directions(call, 3, (0, 1, 2))
    reset_last = bool(call.option("linear_before_reset", 0))

    b = b.reshape(len(b), 2, -1)
    across(
        call,
        [
            gru_run(call, w[d], r[d], b[d, 0], b[d, 1], h, reset_last=reset_last)
            for d, h in enumerate(_started(call, r))
        ],
    )


def gru_run(
    call: LogicalCall,
    w: FloatArray,
    r: FloatArray,
    b: FloatArray,
    c: FloatArray,
    h: Operand | None,
    *,
    reset_last: bool,
) -> Run:
    """Return one direction of a GRU; w [3U,I], r [3U,U], b beside x and c beside h [3U]; h [B,U]
    before the first step, `None` for zero. reset_last: as ONNX's `linear_before_reset`.
    """
    size = r.shape[1]
    inside = np.arange(3 * size) < (2 if reset_last else 3) * size
    fresh = _Product(call, "w", w, b + np.where(inside, c, 0.0))
    if reset_last:
        cell = _reset_last(call, _Product(call, "r", r, np.where(inside, 0.0, c)))
    else:
        gates, new = _Product(call, "r", r[: 2 * size]), _Product(call, "n", r[2 * size :])
        cell = _reset_first(call, gates, new)
    return _unrolled(call, fresh, cell, h)


@onnx("RNN")
def rnn(call: LogicalCall) -> None:
    """Sequences as of a GRU, w [D,U,I], r [D,U,U], b [D,2U]: h = f(x*W + b + h'*R + c), f Tanh,
    Sigmoid or Relu.
    """
    require_plain(call)
    w, r, b = directions(call, 1, (0,))
    chosen = [own[0] for own in activations(call, ("Tanh",))]
    chosen = chosen if len(chosen) == len(w) else [chosen[0]] * len(w)
    for name in chosen:
        if name.capitalize() not in FUNCTIONS:
            raise call.unsupported(
                "activations", " or ".join(FUNCTIONS), name, "Train with one of them."
            )

    biases = b.reshape(len(b), 2, -1).sum(axis=1)
    runs = [
        rnn_run(call, w[d], r[d], biases[d], h, chosen[d]) for d, h in enumerate(_started(call, r))
    ]
    across(call, runs)


def rnn_run(
    call: LogicalCall,
    w: FloatArray,
    r: FloatArray,
    b: FloatArray,
    h: Operand | None,
    function: str,
) -> Run:
    """Return one direction of a plain recurrent layer; w [U,I], r [U,U], b [U]; h as of `gru_run`.
    function: one of `FUNCTIONS`, in any case.
    """
    fresh, kept = _Product(call, "w", w, b), _Product(call, "r", r)

    def cell(x: Operand, before: Operand | None) -> Operand:
        total = x if before is None else plus(call, x, kept(before))
        return _function(call, function, total)

    return _unrolled(call, fresh, cell, h)


def _function(call: LogicalCall, name: str, x: Operand) -> Operand:
    if name.capitalize() != "Relu":
        return unary(call, name.lower(), x)
    y = call.temp("relu", x.shape, x.type)
    kind = Elementwise("clamp", lambda n: ClampInputs(n[0]), ClampAttrs(0.0, np.inf))
    call.step(kind, [x], y)
    return y


@dataclass(slots=True)
class _Product:
    """x [..., K] times weights [N,K], plus a bias [N]; every use reads the same constants."""

    call: LogicalCall
    wanted: str
    rows: FloatArray
    bias: FloatArray | None = None
    names: dict[bytes, tuple[str, str | None]] = field(default_factory=dict)
    """Of the constants, by what orders their axes."""

    def __call__(self, x: Operand) -> Operand:
        """Record the product; return it."""
        outputs, taps = self.rows.shape
        y = self.call.temp("sums", (*x.shape[:-1], outputs), x.type)
        if x.type.elements == taps:

            def inputs(name: str, columns: IntArray, order: IntArray) -> Inputs[str]:
                return WeightedInputs(name, *self.stored(self.rows, columns, order))

            self.call.step(Features("linear", inputs, LinearAttrs()), [x], y)
            return y
        names = self.stored(self.rows.reshape(outputs, 1, 1, taps))
        kind = Last(
            *("conv2d", lambda n: WeightedInputs(n[0], *names), Conv2dAttrs()),
            *(len(x.shape) - 1, True),
        )
        self.call.step(kind, [x], y)
        return y

    def stored(
        self, rows: AnyArray, columns: IntArray | None = None, order: IntArray | None = None
    ) -> tuple[str, str | None]:
        """Return the names of weights and bias; orders say where features are stored."""
        bias = self.bias if self.bias is not None and np.any(self.bias) else None
        if columns is not None and order is not None:
            rows, bias = rows[order][:, columns], None if bias is None else bias[order]
        key = rows.tobytes() + bytes(rows.ndim)
        if key not in self.names:
            w = self.call.const(self.wanted, rows)
            b = None if bias is None else self.call.const("b", bias)
            self.names[key] = (w, b)
        return self.names[key]


def _reset_last(call: LogicalCall, kept: _Product) -> Cell:
    """Return a GRU cell that resets the product of h: the only order that cuDNN has."""
    assert kept.bias is not None
    size = len(kept.rows) // 3
    hidden = kept.bias[2 * size :]

    def cell(x: Operand, before: Operand | None) -> Operand:
        gates, new = _parts(call, x, (2 * size, size))
        if before is None:
            z, r = _opened(call, gates, size)
            offset = times(call, r, number(call, "c", hidden)) if hidden.any() else None
        else:
            more, old = _parts(call, kept(before), (2 * size, size))
            z, r = _opened(call, plus(call, gates, more), size)
            offset = times(call, r, old)
        n = unary(call, "tanh", new if offset is None else plus(call, new, offset))
        return _mixed(call, z, n, before)

    return cell


def _reset_first(call: LogicalCall, kept: _Product, inner: _Product) -> Cell:
    """Return a GRU cell that resets h itself."""
    size = len(inner.rows)

    def cell(x: Operand, before: Operand | None) -> Operand:
        gates, new = _parts(call, x, (2 * size, size))
        if before is None:
            z, _ = _opened(call, gates, size)
        else:
            z, r = _opened(call, plus(call, gates, kept(before)), size)
            new = plus(call, new, inner(times(call, r, before)))
        return _mixed(call, z, unary(call, "tanh", new), before)

    return cell


def _parts(call: LogicalCall, x: Operand, sizes: Sequence[int]) -> list[Operand]:
    """Record the parts of x [B,N] along its last axis."""
    found = [call.temp("part", (x.shape[0], size), x.type) for size in sizes]
    parted(call, x, 1, found)
    return found


def _opened(call: LogicalCall, sums: Operand, size: int) -> list[Operand]:
    """Record the update and the reset gate."""
    return _parts(call, unary(call, "sigmoid", sums), (size, size))


def _mixed(call: LogicalCall, z: Operand, n: Operand, before: Operand | None) -> Operand:
    """Record `(1 - z) * n + z * h'` with one product: `n + z * (h' - n)`."""
    if before is None:
        return plus(call, n, times(call, z, n), subtract=True)
    return plus(call, n, times(call, z, plus(call, before, n, subtract=True)))


def _started(call: LogicalCall, r: FloatArray) -> list[Operand | None]:
    """Return h [B,U] before the first step of every direction, `None` for zero."""
    h, first = call.optional(5), not call.option("layout", 0)
    if h is None:
        return [None] * len(r)
    rows, size = call.activation().shape[1 if first else 0], r.shape[2]
    wanted = (len(r), rows, size) if first else (rows, len(r), size)
    if h.shape != wanted:
        raise call.unsupported("shape of initial_h", str(list(wanted)), str(list(h.shape)))
    return started(call, h, len(r), 0 if first else 1)


def started(call: LogicalCall, h: Operand, count: int, axis: int) -> list[Operand | None]:
    """Return the hidden states [B,U] that lie along an axis of h, `None` for stored zeros."""
    if h.data is not None:
        parts = [np.take(h.data, d, axis) for d in range(count)]
        return [number(call, "h", part) if part.any() else None for part in parts]
    rest = (*h.shape[:axis], *h.shape[axis + 1 :])
    shape = (*h.shape[:axis], 1, *h.shape[axis + 1 :])
    found = [call.temp("h", shape, h.type) for _ in range(count)]
    parted(call, h, axis, found)
    return [call.viewed(part, rest) for part in found]


def _unrolled(call: LogicalCall, fresh: _Product, cell: Cell, start: Operand | None) -> Run:
    """Return the steps of one direction."""

    def run(x: Operand, first: bool, back: bool) -> tuple[Operand, ...]:
        axis = 0 if first else 1
        steps, rows = x.shape[axis], x.shape[1 - axis]
        if steps > MOST_STEPS:
            raise call.unsupported(
                "steps",
                f"at most {MOST_STEPS}: each is nodes of its own",
                str(steps),
                "Use an LSTM, which is one node, or shorter sequences.",
            )
        sums = fresh(x)
        shape = tuple(1 if a == axis else size for a, size in enumerate(sums.shape))
        parts = [call.temp("step", shape, x.type) for _ in range(steps)]
        parted(call, sums, axis, parts)
        found: dict[int, Operand] = {}
        h = start
        for t in reversed(range(steps)) if back else range(steps):
            h = cell(call.viewed(parts[t], (rows, sums.shape[2])), h)
            found[t] = h
        assert h is not None, "an input without elements is refused before"
        size = h.shape[1]
        form = (1, rows, size) if first else (rows, 1, size)
        y = call.temp("sequence", (*x.shape[:2], size), x.type)
        joined(call, [call.viewed(found[t], form) for t in range(steps)], axis, y)
        return y, h

    return run
