"""What reductions over any axes share: the shape rule and the loops of the readable kernels."""

from __future__ import annotations

import math

from isobit.core.errors import BadAttribute, IsobitError
from isobit.core.types import Shape
from isobit.ops.foreign import Call

LOOPS = 3
"""Nested loops over kept axes, and over reduced ones."""


def axes_problems(where: str, shape: Shape, axes: tuple[int, ...]) -> list[IsobitError]:
    """Return what is wrong with the axes a tensor of `shape` is reduced over."""
    if axes and axes == tuple(sorted(set(axes))) and axes[0] >= 1 and axes[-1] < len(shape):
        return []
    return [
        BadAttribute(
            where=where,
            what="axes",
            want=f"ascending, each once, in 1..{len(shape) - 1}",
            got=str(axes),
            fix="The batch axis stays whole and first.",
        )
    ]


def reduced_shape(shape: Shape, axes: tuple[int, ...]) -> Shape:
    """Return the shape with size 1 on the reduced axes."""
    return tuple(1 if axis in axes else size for axis, size in enumerate(shape))


def terms(shape: Shape, axes: tuple[int, ...]) -> int:
    """Return how many elements one output is made of."""
    return math.prod(shape[axis] for axis in axes)


def _groups(shape: Shape, axes: tuple[int, ...]) -> list[tuple[bool, int, int]]:
    """Return (reduced, size, step) of the fewest runs of axes, outermost first, batch left out.

    Neighbouring axes that are both kept or both reduced are one run; its elements lie evenly.
    """
    found: list[tuple[bool, int, int]] = []
    step = 1
    for axis in range(len(shape) - 1, 0, -1):
        size, reduced = shape[axis], axis in axes
        if size > 1:
            if found and found[0][0] == reduced:
                found[0] = (reduced, size * found[0][1], found[0][2])
            else:
                found.insert(0, (reduced, size, step))
        step *= size
    return found


def when(shape: Shape, axes: tuple[int, ...]) -> str:
    """Return why the readable kernels cannot loop over these axes, "" where they can."""
    groups = _groups(shape, axes)
    most = max(sum(g[0] is kind for g in groups) for kind in (False, True))
    return "" if most <= LOOPS else f"want at most {LOOPS} runs of kept or reduced axes, got {most}"


def geometry(shape: Shape, axes: tuple[int, ...]) -> dict[str, int]:
    """Fields `size_i`, `step_i` of the loops over outputs, `terms_i`, `terms_step_i` of those over
    one output's terms; outermost first.
    """
    groups = _groups(shape, axes)
    fields: dict[str, int] = {}
    for name, step, reduced in (("size", "step", False), ("terms", "terms_step", True)):
        found = [(size, stride) for kind, size, stride in groups if kind is reduced]
        loops = [(1, 0)] * (LOOPS - len(found)) + found
        fields |= {f"{name}_{i}": size for i, (size, _) in enumerate(loops)}
        fields |= {f"{step}_{i}": stride for i, (_, stride) in enumerate(loops)}
    return fields


def foreign_axes(call: Call) -> tuple[int, ...]:
    """Return the axes of a TFLite reduction as axes of `call.boxed`, ascending, each once.

    A reduction over no axis at all is refused: every converter leaves it out.
    """
    axes = call.integers(1, "axes")
    found = sorted({call.axis(axis, call.operand(0)) for axis in axes})
    if not found:
        raise call.unsupported("axes", "at least one", "none", "Leave the operator out.")
    return tuple(found)
