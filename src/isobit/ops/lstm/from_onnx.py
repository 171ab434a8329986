"""ONNX's LSTM, and what recurrent layers of ONNX and PyTorch share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from isobit.core.types import AnyArray, FloatArray
from isobit.ir.graph import Attrs, Inputs
from isobit.ops.foreign import Operand, onnx
from isobit.ops.logical import Along, Fixed, LogicalCall, Placed
from isobit.ops.lstm.op import GATES, LstmAttrs, LstmInputs
from isobit.ops.onnx_compose import joined
from isobit.ops.strided_slice.op import StridedSliceAttrs, StridedSliceInputs

STREAM = "Give the network one step, and its states as TFLite variables, to keep them between runs."
Run = Callable[[Operand, bool, bool], tuple[Operand, ...]]
"""Records one direction of a layer over x [T,B,I], or [B,T,I] unless steps come first, from the
last step to the first if `back`; returns its sequence, in the order of x, and last states [B,U]."""
FLOAT_FIRST = "Export a float model, import it and quantise it with `isobit calibrate`."


@dataclass(frozen=True, slots=True)
class Layer:
    """One direction of one layer: an operator over a sequence [N,B,T,I], or [N,T,B,I].

    `inputs` from the name of x; `attrs` from whether steps come before rows; `size`: of the hidden
    state; `states`: outputs behind the sequence.
    """

    op: str
    inputs: Callable[[str], Inputs[str]]
    attrs: Callable[[bool], Attrs]
    size: int
    states: int


@onnx("LSTM")
def lstm(call: LogicalCall) -> None:
    """Sequences x [T,B,I], w [D,4U,I], r [D,4U,U], b [D,8U], sequence_lens, initial_h, initial_c,
    p; with layout 1 x is [B,T,I]. Gates in the order input, output, forget, cell.
    """
    require_plain(call)
    for given in activations(call, ("Sigmoid", "Tanh", "Tanh")):
        require_usual(call, given, ("Sigmoid", "Tanh", "Tanh"))
    require_zeros(call, [call.optional(index) for index in (5, 6)])
    if call.option("input_forget", 0):
        raise call.unsupported("input_forget", "0", "1: coupled gates", "Use a plain LSTM.")
    if call.optional(7) is not None:
        raise call.unsupported("peephole weights", "none", "P", "Use a plain LSTM.")
    order = [0, 2, 3, 1]
    w, r, b = directions(call, GATES, order)
    layers = [lstm_layer(call, w[d], r[d], b[d].reshape(2, -1).sum(axis=0)) for d in range(len(w))]

    def run(layer: Layer) -> Run:
        return lambda x, first, back: sequence(call, x, layer, first, back=back)

    across(call, [run(layer) for layer in layers])


def lstm_layer(call: LogicalCall, w: FloatArray, r: FloatArray, b: FloatArray) -> Layer:
    """Return a layer with weights [4U,I], [4U,U] and a bias [4U], gates in our order."""
    names = [call.const(n, data) for n, data in (("w", w), ("r", r), ("b", b))]
    return Layer(
        "lstm", lambda x: LstmInputs(x, None, None, *names), LstmAttrs, r.shape[1], states=2
    )


def directions(
    call: LogicalCall, gates: int, order: Sequence[int]
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return w [D,G*U,I], r [D,G*U,U] and both biases [D,2*G*U], gates as listed in `order`."""
    w, r = (call.constant(index, "weights").astype(np.float64) for index in (1, 2))
    size = r.shape[-1]
    given = call.optional(3)
    b = np.zeros((len(w), 2 * gates * size)) if given is None else call.constant(3, "bias")
    wanted = ((len(w), gates * size, w.shape[-1]), (len(w), gates * size, size))
    if (w.shape, r.shape) != wanted or b.shape != (len(w), 2 * gates * size) or len(w) > 2:
        got = ", ".join(str(list(a.shape)) for a in (w, r, b))
        want = f"[D,{gates}U,I], [D,{gates}U,U] and [D,{2 * gates}U]"
        raise call.unsupported("shapes of w, r and b", want, got)

    def ordered(array: AnyArray, parts: int) -> FloatArray:
        by_gate = array.astype(np.float64).reshape(len(w), parts, gates, size, -1)
        found: FloatArray = by_gate[:, :, list(order)]
        return found

    return (
        ordered(w, 1).reshape(w.shape),
        ordered(r, 1).reshape(r.shape),
        ordered(b, 2).reshape(b.shape),
    )


def require_plain(call: LogicalCall) -> None:
    """Refuse what no sequence here does."""
    require_reals(call)
    if call.options.get("clip"):
        raise call.unsupported(
            "clip", "none", str(call.option("clip")), "Train without a clip of the gates' sums."
        )
    x = call.activation()
    if len(x.shape) != 3:
        raise call.unsupported("input", "[T,B,I], or [B,T,I] in layout 1", str(list(x.shape)))
    steps = x.shape[1 if call.option("layout", 0) else 0]
    lengths = call.optional(4)
    if lengths is not None and (lengths.data is None or np.any(lengths.data != steps)):
        got = "computed at run time" if lengths.data is None else str(lengths.data.tolist())
        raise call.unsupported("sequence_lens", f"{steps}, all steps", got, "Leave it out.")


def activations(call: LogicalCall, usual: Sequence[str]) -> list[tuple[str, ...]]:
    """Return the functions of every direction, `usual` where none are named."""
    given = tuple(str(name) for name in call.options.get("activations") or ())
    size = len(usual)
    return [given[i : i + size] for i in range(0, len(given), size)] or [tuple(usual)]


def require_usual(call: LogicalCall, given: Sequence[str], usual: Sequence[str]) -> None:
    """Refuse other functions than the usual ones."""
    if [name.lower() for name in given] != [name.lower() for name in usual]:
        raise call.unsupported(
            "activations", ", ".join(usual), ", ".join(given), "Train with the usual ones."
        )


def require_reals(call: LogicalCall) -> None:
    """Refuse a quantised graph: its format has no arithmetic for recurrent codes."""
    if not call.is_float:
        raise call.unsupported("network", "float", "one on codes", FLOAT_FIRST)


def require_zeros(call: LogicalCall, states: Sequence[Operand | None]) -> None:
    """Refuse states that start from anything but stored zeros."""
    for state in states:
        if state is not None and (state.data is None or np.any(state.data)):
            got = "other numbers" if state.is_const else "a value computed at run time"
            raise call.unsupported("initial state", "zeros, stored or left out", got, STREAM)


def across(call: LogicalCall, runs: Sequence[Run]) -> None:
    """Record one layer of one or two directions; ONNX's outputs have an axis for them."""
    x = call.activation()
    first = not call.option("layout", 0)
    direction = str(call.option("direction", "forward")).lower()
    if len(runs) != 1 + (direction == "bidirectional"):
        raise call.unsupported("direction", f"weights for {direction}", f"for {len(runs)}")
    found = [run(x, first, direction == "reverse" or index == 1) for index, run in enumerate(runs)]
    axis = 1 if first else 2
    written = call.options.get("written") or range(len(call.outputs))
    for position, y in zip(written, call.outputs, strict=True):
        at = axis if position == 0 else 0 if first else 1
        parts = [results[position] for results in found]
        spread = [call.viewed(p, (*p.shape[:at], 1, *p.shape[at:])) for p in parts]
        joined(call, spread, at, y)


def sequence(
    call: LogicalCall, x: Operand, layer: Layer, first: bool, *, back: bool
) -> tuple[Operand, ...]:
    """Record a layer over x [T,B,I] (`first`: steps come first) or [B,T,I]; return its sequence,
    in the order of x, and its last states [B,U].

    back: from the last step to the first; the sequence is in the order of x nevertheless.
    """
    steps, rows = x.shape[:2] if first else x.shape[1::-1]
    major = first and rows > 1
    axis = 0 if first else 1
    x = turned(call, x, axis) if back and steps > 1 else x
    form = (1, steps, rows) if major else (1, rows, steps)
    y = call.temp("sequence", (*form, layer.size), x.type)
    states = [call.temp("state", (1, rows, layer.size), x.type) for _ in range(layer.states)]
    same = (0, 1, 2, 3)
    kind = Fixed(layer.op, lambda names: layer.inputs(names[0]), layer.attrs(major), same, same)
    call.step(kind, [call.viewed(x, (*form, x.shape[2]))], y, *states)
    found = call.viewed(y, (*x.shape[:2], layer.size))
    found = turned(call, found, axis) if back and steps > 1 else found
    return found, *(call.viewed(state, (rows, layer.size)) for state in states)


def turned(call: LogicalCall, x: Operand, axis: int) -> Operand:
    """Record x backwards along an axis."""
    y = call.temp("backwards", x.shape, x.type)
    ranges = [range(size) for size in x.shape]
    ranges[axis] = ranges[axis][::-1]

    def attrs(at: Placed) -> StridedSliceAttrs:
        placed = at.spread(ranges)
        return StridedSliceAttrs(
            tuple(r.start for r in placed), tuple(r.step for r in placed), tuple(map(len, placed))
        )

    call.step(Along("strided_slice", lambda n: StridedSliceInputs(n[0]), attrs, (axis,)), [x], y)
    return y
