"""Chooses in which order every value of a foreign graph is stored, and emits the nodes.

Steps (`isobit.ops.logical`) say how operators depend on axes. Three facts make convolutional
networks need no transposition at all. Reshapes and transpositions of the foreign model change no
memory, only what its axes are called (`isobit.importers.order`). Elementwise operators take every
order. Weights that sum over a whole tensor are constants, so they take on the order of what they
read. What is left are demands: a convolution wants its channels last.

1. Backwards, every value collects the orders its readers wish for.
2. Forwards, every step takes its operands in the order they have, if its kind allows that. Only
   values whose order is free (inputs, outputs of a matrix product, constants) follow a wish.
   Where two operands of a step disagree, or an order is impossible, a transposition is emitted
   with its reason; one per value and order, however many read it.

Linear in the number of steps. Not optimal where wishes differ: the most frequent one wins.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from isobit.core.errors import Unsupported
from isobit.core.types import AnyArray, Shape
from isobit.importers.order import Order, Perm
from isobit.importers.wishes import formed, wishes
from isobit.ir.builder import GraphBuilder
from isobit.ir.graph import Attrs, Inputs, Location, Value
from isobit.ops.foreign import Operand
from isobit.ops.logical import (
    NHWC,
    Along,
    Elementwise,
    Features,
    Fixed,
    Last,
    Note,
    Permuted,
    Placed,
    Step,
    View,
)
from isobit.ops.reshape.op import ReshapeAttrs, ReshapeInputs
from isobit.ops.transpose.op import TransposeAttrs, TransposeInputs


@dataclass(frozen=True, slots=True)
class _Stored:
    """A value of the graph and how the elements of the foreign tensor lie in it."""

    name: str
    order: Order


def solve(
    build: GraphBuilder,
    inputs: Sequence[Operand],
    steps: Sequence[Step],
    outputs: Sequence[Operand],
) -> tuple[dict[str, str], dict[str, str], tuple[Note, ...]]:
    """Emit inputs, nodes and outputs into `build`.

    Returns the foreign label of every graph value that is a whole foreign tensor; for the labels of
    other foreign tensors the value whose elements they are, under another shape; and notes: each
    transposition with its reason, each input or output that is stored channels last.
    """
    solver = _Solver(build, wishes(inputs, steps))
    for operand in inputs:
        solver.input(operand)
    for step in steps:
        solver.step(step)
    for operand in outputs:
        solver.output(operand)
    return solver.names, solver.viewed(steps), tuple(solver.notes)


class _Solver:
    def __init__(self, build: GraphBuilder, wishes: Mapping[str, Order]) -> None:
        self.build, self.wishes = build, wishes
        self.stored: dict[str, _Stored] = {}
        self.moved: dict[tuple[str, Order, Order], str] = {}
        self.views: dict[tuple[str, Shape], str] = {}
        self.names: dict[str, str] = {}
        self.notes: list[Note] = []
        self.outputs: set[str] = set()
        """Values that an output cannot be any more: inputs and other outputs."""

    def input(self, x: Operand) -> None:
        """Declare an input, in the order that its readers want if its axes stay whole in it."""
        shape, boxed = formed(x.shape)
        wish = self.wishes.get(x.value)
        axes = None if wish is None or len(shape) < 3 or boxed else wish.axes(shape)
        if len(shape) == 4 and not boxed and wish == Order.of(shape, NHWC):
            axes = NHWC  # also where a size of 1 makes both orders the same
        perm = axes if axes is not None and axes[0] == 0 else tuple(range(len(shape)))
        kind = x.type.with_shape(tuple(shape[axis] for axis in perm))
        self.build.input(x.value, kind)
        self.outputs.add(x.value)
        self.names[x.value] = x.label
        self.stored[x.value] = _Stored(x.value, Order.of(shape, perm))
        self.note_border("input", x.value, x.label, shape, perm)

    def note_border(self, what: str, value: str, label: str, shape: Shape, perm: Perm) -> None:
        if not Order.of(shape, perm).is_row_major:
            stored = [shape[axis] for axis in perm]
            text = f'{what} "{label}" {list(shape)} is stored as {stored}: axes {list(perm)}'
            note = Note(value=value, kind="border", text=text, perm=tuple(perm))
            self.notes.append(note)

    def step(self, step: Step) -> None:
        """Emit the nodes of a step."""
        self.build.location = step.location
        match step.kind:
            case View():
                self.stored[step.ys[0].value] = self.place(step.xs[0])
            case Permuted():
                self.permute(step, step.kind)
            case Elementwise():
                self.elementwise(step, step.kind)
            case Fixed():
                self.fixed(step, step.kind)
            case Along():
                self.along(step, step.kind)
            case Last():
                self.last(step, step.kind)
            case Features():
                self.features(step, step.kind)

    def viewed(self, steps: Sequence[Step]) -> dict[str, str]:
        """Return the value of every labelled tensor that no value is named after."""
        named = set(self.names.values())
        found = ((y.label, self.stored[y.value].name) for step in steps for y in step.ys if y.label)
        return {label: name for label, name in found if label not in named and name in self.names}

    # Operands

    def place(self, x: Operand) -> _Stored:
        """Return where an operand is; a stored tensor becomes a constant of the graph."""
        if x.data is not None:
            shape = formed(x.shape)[0]
            name = self.constant(x, x.data.reshape(shape))
            return _Stored(name, Order.row_major(x.type.elements))
        return self.stored[x.value]

    def constant(self, x: Operand, data: AnyArray) -> str:
        return self.build.const(x.value, x.type, data, x.label)

    def view(self, name: str, shape: Shape) -> str:
        """Return a value under another stored shape; the planner gives both one buffer."""
        kind = self.build.type_of(name)
        if kind.shape == shape:
            return name
        if (name, shape) not in self.views:
            self.views[name, shape] = self.build.node(
                "reshape",
                ReshapeInputs(name),
                ReshapeAttrs(shape[1:]),
                Value(self.build.fresh(f"{name}_view"), kind.with_shape(shape)),
            )
        return self.views[name, shape]

    def ordered(self, x: Operand, order: Order, step: Step, reason: str) -> str:
        """Return the graph value of an operand in an order; transposes it if it must."""
        if x.data is not None:
            flat = x.data.reshape(-1)[order.indices(x.data.size)]
            return self.constant(x, flat.reshape(1, -1))
        found = self.stored[x.value]
        if found.order == order:
            return found.name
        key = (found.name, found.order, order)  # one memory may be several foreign tensors
        if key not in self.moved:
            self.moved[key] = self.transpose(found, order, f"{step.where}: {reason}")
        return self.moved[key]

    def transpose(self, found: _Stored, order: Order, reason: str) -> str:
        move = found.order.move_to(order)
        if move is None:  # no common factors: by way of the foreign order
            plain = Order.row_major(self.build.type_of(found.name).elements)
            found = _Stored(self.transpose(found, plain, reason), plain)
            move = plain.move_to(order)
            assert move is not None, "row-major order has a common refinement with every order"
        shape, perm = move
        source = self.view(found.name, (1, *shape))
        kind = self.build.type_of(found.name).with_shape((1, *(shape[axis] for axis in perm)))
        attrs = TransposeAttrs((0, *(axis + 1 for axis in perm)))
        value = Value(self.build.fresh(f"{found.name}_transpose"), kind)
        self.notes.append(Note(value=value.name, kind="transpose", text=reason))
        return self.build.node("transpose", TransposeInputs(source), attrs, value)

    def emit(
        self,
        op: str,
        inputs: Inputs[str],
        attrs: Attrs,
        ys: Sequence[tuple[Operand, Shape, Order]],
    ) -> None:
        """Append the node that computes results of stored shapes."""
        values = [Value(y.value, y.type.with_shape(shape)) for y, shape, _ in ys]
        self.build.node(op, inputs, attrs, *values)
        for y, _, order in ys:
            self.stored[y.value] = _Stored(y.value, order)
            if y.label:
                self.names[y.value] = y.label

    # Kinds of steps

    def permute(self, step: Step, kind: Permuted) -> None:
        (x,), (y,) = step.xs, step.ys
        found = self.place(x)
        order = found.order.transposed(x.shape, kind.perm)
        if order is None:  # an axis is torn apart by a reshape before it
            plain = Order.row_major(x.type.elements)
            reason = f"the axes of {list(x.shape)} do not lie in one piece"
            found = _Stored(self.ordered(x, plain, step, reason), plain)
            order = plain.transposed(x.shape, kind.perm)
            assert order is not None, "row-major order has every axis in one piece"
        self.stored[y.value] = _Stored(found.name, order)

    def elementwise(self, step: Step, kind: Elementwise) -> None:
        (y,) = step.ys
        whole = [x for x in step.xs if x.type.elements == y.type.elements]
        order = self.common([x for x in whole if not x.is_const], y)
        simple = all(x in whole or x.type.elements == 1 for x in step.xs)
        movers = [x for x in whole if not x.is_const and self.stored[x.value].order == order]
        if simple and movers:
            shape = self.build.type_of(self.stored[movers[0].value].name).shape
            names = [self.like(x, order, shape, step) for x in step.xs]
        else:
            if order.refined(formed(y.shape)[0]) is None:  # a reshape tore the axes apart
                order = Order.row_major(y.type.elements)
            shape, names = self.broadcast(step, y, order)
        self.emit(kind.op, kind.inputs(tuple(names)), kind.attrs, [(y, shape, order)])

    def common(self, whole: Sequence[Operand], y: Operand) -> Order:
        """Return the order of an elementwise result: its operands', else the one wished for."""
        found = Counter(self.stored[x.value].order for x in whole)
        wish = self.wishes.get(y.value)
        if wish is not None and (not found or wish in found):
            return wish
        if not found:
            return Order.row_major(y.type.elements)
        most = max(found.values())
        best = [order for order, count in found.items() if count == most]
        return next((order for order in best if not order.is_row_major), best[0])

    def like(self, x: Operand, order: Order, shape: Shape, step: Step) -> str:
        """Return an operand with as many elements as the result, or one, in the result's shape."""
        if x.type.elements == math.prod(shape):
            if x.data is not None:
                flat = x.data.reshape(-1)[order.indices(x.data.size)]
                return self.constant(x, flat.reshape(shape))
            return self.view(self.ordered(x, order, step, _DIFFER), shape)
        one = (1,) * len(shape)
        if x.data is not None:
            return self.constant(x, x.data.reshape(one))
        return self.view(self.stored[x.value].name, one)

    def broadcast(self, step: Step, y: Operand, order: Order) -> tuple[Shape, list[str]]:
        """Return the stored shape of the result and the operands' values, axis by axis."""
        form, boxed = formed(y.shape)
        axes = order.axes(form)
        if axes is not None and axes[0] == 0:
            fine, factors = Order(form, axes), [[axis] for axis in range(len(form))]
        else:
            refined = order.refined(form)
            assert refined is not None, "the order of an operand divides the axes of the result"
            fine = Order((1, *refined.sizes), (0, *(f + 1 for f in refined.perm)))
            factors = [[f + 1 for f in own] for own in refined.axis_factors(form)]
        names = []
        for x in step.xs:
            aligned = (1,) * (len(y.shape) - len(x.shape)) + x.shape
            full = (1, *(aligned or (1,))) if boxed else aligned
            sizes = list(fine.sizes)
            for axis, own in enumerate(factors):
                for f in own:
                    sizes[f] = 1 if full[axis] == 1 else sizes[f]
            shape = tuple(sizes[f] for f in fine.perm)
            if x.data is not None:
                names.append(self.constant(x, x.data.reshape(sizes).transpose(fine.perm)))
                continue
            name = self.ordered(x, Order.of(tuple(sizes), fine.perm), step, _DIFFER)
            names.append(self.view(name, shape))
        return fine.stored_shape, names

    def fixed(self, step: Step, kind: Fixed) -> None:
        (y, *others), names = step.ys, []
        for x in step.xs:
            reason = f"{kind.op} reads {list(x.shape)} with axes {list(kind.x)}"
            name = self.ordered(x, Order.of(x.shape, kind.x), step, reason)
            names.append(self.view(name, tuple(x.shape[axis] for axis in kind.x)))
        shape = tuple(y.shape[axis] for axis in kind.y)
        results = [(y, shape, Order.of(y.shape, kind.y))]
        for other in others:
            plain = Order.row_major(other.type.elements)
            results.append((other, formed(other.shape)[0], plain))
        self.emit(kind.op, kind.inputs(tuple(names)), kind.attrs, results)

    def along(self, step: Step, kind: Along) -> None:
        perm, extra = self.shared_axes(step, kind.axes)
        reason = f"{kind.op} needs the axes of all its operands in one order"
        names = []
        for x in step.xs:
            shape = (1, *x.shape) if extra else x.shape
            name = self.ordered(x, Order.of(shape, perm), step, reason)
            names.append(self.view(name, tuple(shape[axis] for axis in perm)))
        placed = Placed(tuple(axis - 1 for axis in perm) if extra else perm)
        results = []
        for y in step.ys:
            shape = (1, *y.shape) if extra else y.shape
            results.append((y, tuple(shape[axis] for axis in perm), Order.of(shape, perm)))
        self.emit(kind.op, kind.inputs(tuple(names)), kind.attrs(placed), results)

    def shared_axes(self, step: Step, touched: tuple[int, ...]) -> tuple[Perm, bool]:
        """Return the order of axes of most operands, and whether a batch axis is put in front."""
        extra = any(formed(x.shape)[1] for x in (*step.xs, *step.ys)) or 0 in touched
        votes: Counter[Perm] = Counter()
        for x in step.xs:
            shape = (1, *x.shape) if extra else x.shape
            axes = None if x.is_const else self.axes(x, shape, step.ys[0])
            if axes is not None and axes[0] == 0:
                votes[axes] += x.type.elements
        rank = len(step.xs[0].shape) + extra
        if not votes:
            wish = self.wishes.get(step.ys[0].value)
            axes = None if wish is None or extra else wish.axes(step.ys[0].shape)
            if axes is None or axes[0] != 0:
                images = rank == len(NHWC) and not extra  # what convolutions want is likely
                axes = NHWC if images else tuple(range(rank))
            return axes, extra
        # Axes of size 1 have no place of their own in an order, so the largest operand decides.
        return votes.most_common(1)[0][0], extra

    def axes(self, x: Operand, shape: Shape, y: Operand) -> Perm | None:
        """Return the axis order of a stored operand of foreign `shape`.

        Axes of size 1 lie anywhere: channels are last if the readers of y want that, so that a pad
        fuses.
        """
        order = self.stored[x.value].order
        images = len(shape) == len(y.shape) == len(NHWC)
        wished = images and self.wishes.get(y.value) == Order.of(y.shape, NHWC)
        if wished and order == Order.of(shape, NHWC):
            return NHWC
        return order.axes(shape)

    def last(self, step: Step, kind: Last) -> None:
        (x,), (y,) = step.xs, step.ys
        extra = formed(x.shape)[1] or kind.axis == 0
        form = (1, *x.shape) if extra else x.shape
        axis = kind.axis + extra
        axes = self.place(x).order.axes(form)
        if axes is None or axes[0] != 0:
            axes = tuple(range(len(form)))
        long = [a for a in axes if form[a] > 1 or a in (0, axis)]
        if long[-1] != axis or axes[-1] != axis:
            axes = (*(a for a in axes if a != axis), axis)
        reason = f"{kind.op} reads axis {kind.axis} of {list(x.shape)} last"
        name = self.ordered(x, Order.of(form, axes), step, reason)
        shape = tuple(form[a] for a in axes)
        result = (1, *y.shape) if extra else y.shape
        stored = tuple(result[a] for a in axes)
        if kind.rows:
            rows = math.prod(shape[:-1])
            shape, stored = (1, rows, 1, shape[-1]), (1, rows, 1, stored[-1])
        inputs = kind.inputs((self.view(name, shape),))
        self.emit(kind.op, inputs, kind.attrs, [(y, stored, Order.of(result, axes))])

    def features(self, step: Step, kind: Features) -> None:
        (x,), (y,) = step.xs, step.ys
        count, outputs = x.type.elements, y.type.elements
        found = self.place(x)
        order = self.wishes.get(y.value, Order.row_major(outputs))
        inputs = kind.inputs(
            self.view(found.name, (1, count)), found.order.indices(count), order.indices(outputs)
        )
        self.emit(kind.op, inputs, kind.attrs, [(y, (1, outputs), order)])

    # The end

    def output(self, y: Operand) -> None:
        """Declare an output: channels last where an image lies so, else as in the file."""
        self.build.location = Location()
        if y.data is not None or y.value not in self.stored:
            raise Unsupported(
                where=f'output "{y.label}"',
                what="value",
                want="one that the network computes",
                got="a constant",
                fix="Leave this output out.",
            )
        found = self.stored[y.value]
        shape, boxed = formed(y.shape)
        channels_last = (0, *range(2, len(shape)), 1)
        perm: Perm = tuple(range(len(shape)))
        if len(shape) > 2 and not boxed and Order.of(shape, channels_last) == found.order:
            perm = perm if found.order.is_row_major else channels_last
        step = Step(where=f'output "{y.label}"', kind=View(), xs=(y,), ys=(y,))
        name = self.ordered(y, Order.of(shape, perm), step, "the file's order is part of its API")
        name = self.declare(y, name, tuple(shape[axis] for axis in perm))
        self.note_border("output", name, y.label, shape, perm)

    def declare(self, y: Operand, name: str, shape: Shape) -> str:
        """Name the output; a view of something else becomes a value of its own."""
        own = name in self.outputs
        if self.build.type_of(name).shape != shape or own:
            kind = self.build.type_of(name).with_shape(shape)
            taken = y.value in self.outputs or self.stored[y.value].name == y.value
            fresh = self.build.fresh(f"{y.value}_output") if taken else y.value
            name = self.build.node(
                "reshape", ReshapeInputs(name), ReshapeAttrs(shape[1:]), Value(fresh, kind)
            )
        self.outputs.add(name)
        self.names[name] = y.label
        self.build.output(name)
        return name


_DIFFER = "its operands lie in different orders"
