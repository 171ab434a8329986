"""In which orders the operators of a foreign graph would like to read its values."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from isobit.core.types import Shape
from isobit.importers.order import Order
from isobit.ops.foreign import Operand
from isobit.ops.logical import Along, Elementwise, Fixed, Permuted, Step, View


def formed(shape: Shape) -> tuple[Shape, bool]:
    """Return the shape with a batch axis of size 1, and whether that had to be put in front."""
    has_batch = len(shape) >= 2 and shape[0] == 1
    return (shape, False) if has_batch else ((1, *(shape or (1,))), True)


def wishes(inputs: Sequence[Operand], steps: Sequence[Step]) -> dict[str, Order]:
    """Return the order that most readers of a value would like."""
    asked: dict[str, Counter[Order]] = {}
    found: dict[str, Order] = {}
    for step in reversed(steps):
        for y in step.ys:
            if y.value in asked:
                found[y.value] = asked[y.value].most_common(1)[0][0]
        wish = found.get(step.ys[0].value)
        for x in step.xs:
            order = _wish(step, x, wish)
            if not x.is_const and order is not None:
                asked.setdefault(x.value, Counter())[order] += 1
    for x in inputs:
        if x.value in asked:
            found[x.value] = asked[x.value].most_common(1)[0][0]
    return found


def _wish(step: Step, x: Operand, wish: Order | None) -> Order | None:
    """Return the order in which `step` would like to read x, given that of its result."""
    y = step.ys[0]
    match step.kind:
        case Fixed(x=perm):
            return Order.of(x.shape, perm)
        case View():
            return wish
        case Permuted(perm=perm) if wish is not None:
            back = [perm.index(axis) for axis in range(len(perm))]
            return wish.transposed(y.shape, back)
        case Elementwise() if x.type.elements == y.type.elements:
            return wish
        case Along() if wish is not None and len(x.shape) == len(y.shape):
            axes = wish.axes(y.shape)
            return None if axes is None else Order.of(x.shape, axes)
    return None
