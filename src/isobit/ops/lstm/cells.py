"""LSTM cells in a float graph, however they are written.

A cell is known by its end, `h = sigmoid(o) * tanh(c)` with `c = sigmoid(f) * c' + sigmoid(i) *
tanh(g)`; without the first product it starts from zero. The weights of its gates are found by
`forms`: so it does not matter whether a graph multiplies once and splits, or four times, which
gate comes first, and whether x and h were joined before.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from isobit.core.types import FloatArray, IntArray
from isobit.ir.graph import Graph, Node, Value, operands
from isobit.ops.add.op import AddInputs
from isobit.ops.lstm.forms import Forms, Linear
from isobit.ops.lstm.op import GATES
from isobit.ops.lut.op import LutAttrs
from isobit.ops.mul.op import MulInputs

SAME_BIAS = 2.0**-48
"""Relative: a first step without a hidden state may add its biases in another order."""


@dataclass(frozen=True, slots=True, eq=False)
class Cell:
    """One step: values h and c, and those before, "" for zero. Gates: input, forget, cell, output;
    rows that have no say are NaN.
    """

    h: str
    c: str
    h_before: str
    c_before: str
    w: FloatArray
    """[4,U,I], of `x`."""
    r: FloatArray
    """[4,U,U], of `h_before`."""
    b: FloatArray
    """[4,U]"""
    x: IntArray
    """The elements that the cell reads beside h [I]: numbers of `Forms`."""

    def continues(self, other: Cell) -> bool:
        """Whether `other`, a later step, has the same weights."""
        if self.w.shape != other.w.shape or self.b.shape != other.b.shape:
            return False
        used = ~np.isnan(self.b)
        close = np.abs(self.b - other.b)[used] <= SAME_BIAS * np.abs(other.b)[used].max(initial=0.0)
        same = np.array_equal(self.w[used], other.w[used])
        return same and bool(close.all()) and (not self.h_before or _equal(self.r, other.r))


def _equal(a: FloatArray, b: FloatArray) -> bool:
    return np.array_equal(a, b)


def chains(graph: Graph) -> Iterator[tuple[Forms, list[Cell]]]:
    """Yield the longest chains of at least two cells that start from zero, the earliest first."""
    if not any(node.attrs == LutAttrs("tanh") for node in graph.nodes):
        return
    forms = Forms(graph)
    cells = list(_cells(graph, forms))
    after = {cell.h_before: cell for cell in cells if cell.h_before}
    for cell in cells:
        if cell.h_before or cell.c_before:
            continue
        chain = [cell]
        while chain[-1].h in after:
            chain.append(after[chain[-1].h])
        if len(chain) > 1:
            yield forms, chain


def _cells(graph: Graph, forms: Forms) -> Iterator[Cell]:
    """Yield every cell of a graph, in the order of its nodes."""
    owner: dict[str, str] = {}
    for node in graph.nodes:
        found = _end(forms, node)
        if found is None:
            continue
        gates, c, c_before = found
        if c_before and c_before not in owner:
            continue
        owner[c] = node.output.name
        before = (owner.get(c_before, ""), c_before)
        cell = _cell(forms, node.output, [gates[k] for k in "ifgo"], c, before)
        if cell is not None:
            yield cell


def _end(forms: Forms, node: Node) -> tuple[dict[str, str], str, str] | None:
    """Return what the gates are functions of, c, and c of the step before ("" for zero) of a node
    that computes h.
    """
    outer = _both(forms, node.output.name) if node.op == "mul" else None
    if outer is None:
        return None
    o, c = outer[0], forms.seen(outer[1])
    total = forms.producer(c)
    new = _both(forms, c)
    if new is not None:
        return {"i": new[0], "f": "", "g": new[1], "o": o}, c, ""
    if total is None or not isinstance(total.inputs, AddInputs):
        return None
    a, b = total.inputs.a, total.inputs.b
    for fresh, old in ((a, b), (b, a)):
        new, kept = _both(forms, fresh), _product(forms, old)
        if new is None or kept is None or getattr(total.attrs, "subtract", False):
            continue
        for gate, state in (kept, kept[::-1]):
            f = _function(forms, gate, "sigmoid")
            if f is not None:
                before = "" if forms.is_zero(state) else forms.seen(state)
                return {"i": new[0], "f": f, "g": new[1], "o": o}, c, before
    return None


def _product(forms: Forms, name: str) -> tuple[str, str] | None:
    """Return the factors of a product of values of one size."""
    node = forms.producer(name)
    if node is None or not isinstance(node.inputs, MulInputs):
        return None
    a, b = node.inputs.a, node.inputs.b
    return (a, b) if forms.types[a].elements == forms.types[b].elements else None


def _both(forms: Forms, name: str) -> tuple[str, str] | None:
    """Return (a, b) of `sigmoid(a) * tanh(b)`."""
    pair = _product(forms, name)
    for a, b in (pair, pair[::-1]) if pair else ():
        one, two = _function(forms, a, "sigmoid"), _function(forms, b, "tanh")
        if one is not None and two is not None:
            return one, two
    return None


def _function(forms: Forms, name: str, function: str) -> str | None:
    """Return what a function is applied to."""
    node = forms.producer(name)
    if node is None or node.attrs != LutAttrs(function):
        return None
    return next(operands(node.inputs))


def _cell(
    forms: Forms, h: Value, sums: Sequence[str], c: str, before: tuple[str, str]
) -> Cell | None:
    """Return a cell from the values that its gates are functions of."""
    size = h.type.elements
    found = [forms.linear(name) if name else None for name in sums]
    if any(
        name and (form is None or form.b.size != size)
        for form, name in zip(found, sums, strict=True)
    ):
        return None
    columns: dict[int, int] = {}
    for form in found:
        for term in form.terms if form is not None else ():
            for (name, _), number in zip(forms.elements(term.ids), term.ids.tolist(), strict=True):
                if name != before[0]:
                    columns.setdefault(number, len(columns))
    if not columns:
        return None
    w, b = np.full((GATES, size, len(columns)), np.nan), np.full((GATES, size), np.nan)
    r = np.full((GATES, size, size), np.nan)
    for k, form in enumerate(found):
        if form is not None:  # the forget gate of a first step has no say
            b[k] = form.b
            w[k], r[k] = _sorted(forms, form, before[0], columns)
    return Cell(h.name, c, *before, w, r, b, np.asarray(list(columns)))


def _sorted(
    forms: Forms, form: Linear, hidden: str, columns: dict[int, int]
) -> tuple[FloatArray, FloatArray]:
    """Return the weights of a gate: those of x, and those of the hidden state."""
    size = form.b.size
    w, r = np.zeros((size, len(columns))), np.zeros((size, size))
    for term in form.terms:
        for column, (name, at) in enumerate(forms.elements(term.ids)):
            if name == hidden:
                r[:, at] += term.w[:, column]
            else:
                w[:, columns[int(term.ids[column])]] += term.w[:, column]
    return w, r
