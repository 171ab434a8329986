"""The readable mirror pad: every core, every dtype, four axes after merging."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from isobit.ops.base import Kernel, NodeTypes
from isobit.ops.mirror_pad.op import Mirror, MirrorPadAttrs

AXES = 4


class Reference(Kernel, op="mirror_pad", function="mirror_pad_bytes"):
    """Writes the output in order, reading each element where the mirrors show it."""

    code_bytes = 200

    @staticmethod
    def when(attrs: MirrorPadAttrs, q: NodeTypes[Any]) -> str:
        count = len(loops(attrs, q)[0])
        return "" if count <= AXES else f"want at most {AXES} loops, got {count}"

    @staticmethod
    def geometry(attrs: MirrorPadAttrs, q: NodeTypes[Any]) -> Mapping[str, int]:
        found, run = loops(attrs, q)
        geometry = {"run": run, "edge": 1 if attrs.mode is Mirror.SYMMETRIC else 0}
        padded = [(1, 0, 0)] * (AXES - len(found)) + found
        for letter, (size, before, after) in zip("abcd", padded, strict=True):
            geometry |= {letter: size, f"{letter}_before": before, f"{letter}_after": after}
        return geometry

    @staticmethod
    def cycles(attrs: MirrorPadAttrs, q: NodeTypes[Any]) -> float:
        _, run = loops(attrs, q)
        return 4.0 * q.output.size_bytes + 14.0 * q.output.size_bytes / run


def loops(attrs: MirrorPadAttrs, q: NodeTypes[Any]) -> tuple[list[tuple[int, int, int]], int]:
    """Return (size, before, after) of every loop, outermost first, and the bytes of a run.

    Neighbouring axes without pads are one loop, and the innermost one is a run.
    """
    found: list[tuple[int, int, int]] = []
    for size, (before, after) in zip(q.inputs.x.shape[1:], attrs.pads, strict=True):
        if found and found[-1][1:] == (before, after) == (0, 0):
            found[-1] = (found[-1][0] * size, 0, 0)
        else:
            found.append((size, before, after))
    element = int(q.inputs.x.dtype.size_bytes)
    if found and found[-1][1:] == (0, 0):
        return found[:-1], found[-1][0] * element
    return found, element
