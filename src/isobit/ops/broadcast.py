"""Two operands of one rank, broadcast as NumPy does: shape rule, kernel loops, lowering."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from isobit.core.errors import BadShape
from isobit.core.types import Shape

LOOPS = 4
"""Nested loops of the readable kernels."""


def broadcast_shape(where: str, a: Shape, b: Shape) -> Shape:
    """Return the common shape: on every axis equal sizes, or one of them 1.

    Both operands have the batch as axis 0, so their ranks must be equal. Raises `BadShape`.
    """
    if len(a) != len(b) or any(p != q and 1 not in (p, q) for p, q in zip(a, b, strict=True)):
        raise BadShape(
            where=where,
            what="shapes of the operands",
            want="equal ranks; on every axis equal sizes, or one of them 1",
            got=f"{list(a)} and {list(b)}",
            fix="Bring both to one shape, e.g. by a 1x1 convolution on one branch (NHWC here).",
        )
    return tuple(q if p == 1 else p for p, q in zip(a, b, strict=True))


def loops(a: Shape, b: Shape) -> list[tuple[int, int, int]]:
    """Return (size, step of a, step of b) of the fewest loops over the output in order.

    An axis with step 0 is broadcast. Neighbouring axes become one where both operands step through
    them evenly.
    """
    y = broadcast_shape("broadcast", a, b)
    found: list[tuple[int, int, int]] = []
    step_a = step_b = 1
    for size, size_a, size_b in zip(reversed(y), reversed(a), reversed(b), strict=True):
        own = (size, step_a if size_a > 1 else 0, step_b if size_b > 1 else 0)
        step_a, step_b = step_a * size_a, step_b * size_b
        if size == 1:
            continue
        if found and own[1:] == (found[0][1] * found[0][0], found[0][2] * found[0][0]):
            found[0] = (size * found[0][0], *found[0][1:])
        else:
            found.insert(0, own)
    return found


def when(a: Shape, b: Shape) -> str:
    """Return why the readable kernels cannot loop over these shapes, "" where they can."""
    needed = len(loops(a, b))
    return "" if needed <= LOOPS else f"want at most {LOOPS} broadcast loops, got {needed}"


def geometry(a: Shape, b: Shape) -> dict[str, int]:
    """Fields `size_i`, `a_step_i`, `b_step_i` of the kernels' loops, outermost first."""
    found = loops(a, b)
    padded = [(1, 0, 0)] * (LOOPS - len(found)) + found
    return {
        f"{name}_{i}": padded[i][j]
        for j, name in enumerate(("size", "a_step", "b_step"))
        for i in range(LOOPS)
    }


def lower_pair(
    build: Any,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    emit: Callable[[Any, Any], Any],
) -> Any:
    """Lower `f(a, b)` or `a.f(b)` on two values; `emit(a, b)` appends the node."""
    given = dict(kwargs)
    operands = [*args, *(given.pop(name) for name in ("input", "other") if name in given)]
    if given.pop("alpha", 1) != 1 or any(value is not None for value in given.values()):
        raise build.refuse(
            "options",
            "none",
            ", ".join(f"{k}={v}" for k, v in kwargs.items()),
            "Call it on two tensors.",
        )
    for operand in operands:
        if not hasattr(operand, "type"):
            raise build.refuse(
                "operand",
                "two tensors that the network computes",
                f"{operand!r}",
                "Fold numbers into the weights of a layer before it.",
            )
    a, b = operands
    return emit(a, b)
