"""Placing buffers in one arena.

Two buffers that live at the same time must not overlap, unless a kernel's declaration lets its
output run into the memory of the input it consumes (`Sharing`). Placement is first fit: buffers are
taken in some order, each at the lowest offset that no earlier one forbids. The result depends on
the order alone, so several orders are tried (by size, by lifetime, then seeded shuffles of the size
order) and the smallest arena wins. O(orders * n^2). Not optimal in general (the problem is
NP-hard); `live_bound` says how far it can be from it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

ALIGNMENT_BYTES = 4
"""Every activation starts on a word: byte kernels lose nothing, word kernels need it."""


@dataclass(frozen=True, slots=True)
class Buffer:
    """Bytes that live from node `first` to node `last`, both included; `region` is where they are
    placed.
    """

    name: str
    size_bytes: int
    first: int
    last: int
    alignment_bytes: int = 1
    offset: int = 0
    region: str = "ram"

    @property
    def end(self) -> int:
        """One past the last byte."""
        return self.offset + self.size_bytes


@dataclass(frozen=True, slots=True)
class Sharing:
    """`output` may overlap `source` when `output.offset + lead_bytes <= source.offset`. The lead is
    negative where a part of `source` is read that lies further back than the kernel's lead.
    """

    source: str
    output: str
    lead_bytes: int


SHUFFLES = 60


def place(buffers: Sequence[Buffer], sharing: Iterable[Sharing]) -> tuple[dict[str, Buffer], int]:
    """Return every buffer with its offset, and the arena's size in bytes."""
    leads = {(s.source, s.output): s.lead_bytes for s in sharing}
    best: dict[str, Buffer] = {}
    best_size = -1
    for order in _orders(buffers):
        placed: list[Buffer] = []
        for buffer in order:
            placed.append(replace(buffer, offset=_lowest(buffer, placed, leads)))
        size = max((b.end for b in placed), default=0)
        if best_size < 0 or size < best_size:
            best, best_size = {b.name: b for b in placed}, size
        if best_size <= live_bound(buffers, leads):
            break
    return best, max(best_size, 0)


def _orders(buffers: Sequence[Buffer]) -> Iterable[list[Buffer]]:
    by_size = sorted(buffers, key=lambda b: (-b.size_bytes, b.first, b.name))
    yield by_size
    yield sorted(buffers, key=lambda b: (b.first, -b.size_bytes, b.name))
    yield sorted(buffers, key=lambda b: (b.last, -b.size_bytes, b.name), reverse=True)
    rng = np.random.default_rng(0)
    for _ in range(SHUFFLES if len(buffers) > 2 else 0):
        jitter = rng.normal(0, 0.7, size=len(by_size))
        keyed = sorted(
            zip(by_size, jitter, strict=True),
            key=lambda item: (-np.log(item[0].size_bytes + 1) + item[1], item[0].name),
        )
        yield [buffer for buffer, _ in keyed]


def _lowest(buffer: Buffer, placed: list[Buffer], leads: dict[tuple[str, str], int]) -> int:
    """Return the lowest aligned offset outside every forbidden open interval."""
    forbidden = []
    for other in placed:
        if other.first > buffer.last or buffer.first > other.last:
            continue
        low, high = other.offset - buffer.size_bytes, other.end
        if (other.name, buffer.name) in leads:  # other is read, buffer is written
            low = max(low, other.offset - leads[other.name, buffer.name])
        elif (buffer.name, other.name) in leads:  # buffer is read, other is written
            high = min(high, other.offset + leads[buffer.name, other.name])
        if low < high:
            forbidden.append((low, high))
    candidates = sorted({0, *(_align(high, buffer.alignment_bytes) for _, high in forbidden)})
    return next(c for c in candidates if not any(low < c < high for low, high in forbidden))


def _align(offset: int, alignment: int) -> int:
    return -(-max(offset, 0) // alignment) * alignment


def live_bound(buffers: Sequence[Buffer], leads: dict[tuple[str, str], int]) -> int:
    """Return a lower bound of any arena: bytes alive at once, shared pairs counted at their
    least.
    """
    worst = 0
    for moment in {b.first for b in buffers}:
        alive = [b for b in buffers if b.first <= moment <= b.last]
        total = sum(b.size_bytes for b in alive)
        names = {b.name: b for b in alive}
        for (source, output), lead in leads.items():
            if source in names and output in names:
                a, b = names[source].size_bytes, names[output].size_bytes
                total -= a + b - min(a + b, max(b, a + lead))
        worst = max(worst, total)
    return worst
