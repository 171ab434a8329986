"""Which kernel runs a node: the objective of each `Optimize`, from declarations alone.

A mode orders the legal kernels of one node; ties go on to the next figure, then to the kernel's
rank, then to the order of the scan. So a choice is a function of types, never of trained numbers,
and the same everywhere.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import Enum
from typing import Any

from isobit.ir.graph import operands
from isobit.ops.base import Kernel, NodeTypes

SHARE = 0.25
"""`balanced`: the part of a node's tensors that a faster kernel may take in scratch and flash
beyond the smallest one's.
"""


class Optimize(Enum):
    """What to prefer where kernels differ.

    `speed`: least modelled cycles. `ram`: least arena, then least cycles: the fastest kernel
    wherever its working memory fits below the network's peak. `flash`: least modelled flash (code
    and padding of constants), then least cycles; the code of every kernel is compiled for size.
    `balanced`: least cycles among kernels whose scratch and flash exceed the smallest kernel's by
    at most a quarter of the bytes of the node's inputs, weights and outputs; code for which a
    faster kernel was passed over is compiled for size.
    """

    SPEED = "speed"
    BALANCED = "balanced"
    RAM = "ram"
    FLASH = "flash"


def choose(
    legal: Sequence[type[Kernel]], attrs: Any, q: NodeTypes[Any], optimize: Optimize
) -> type[Kernel]:
    """Return the kernel for one node; `legal` is not empty. `RAM` here is the node's own least
    memory, which the planner then relaxes where the arena does not grow.
    """

    def figure(kernel: type[Kernel]) -> tuple[float, float, int]:
        cycles, memory = kernel.cycles(attrs, q), 0
        if optimize is Optimize.RAM:
            memory = working_bytes(kernel, attrs, q)
        elif optimize is Optimize.FLASH:
            memory = kernel.flash_bytes(attrs, q)
        return memory, cycles, -kernel.rank

    if optimize is Optimize.BALANCED:
        least = min(extra_bytes(kernel, attrs, q) for kernel in legal)
        most = least + allowance_bytes(q)
        legal = [kernel for kernel in legal if extra_bytes(kernel, attrs, q) <= most]
    return min(legal, key=figure)


def is_small(kernel: type[Kernel], fastest: type[Kernel] | None, optimize: Optimize) -> bool:
    """Whether a node's code is compiled for size rather than for speed."""
    passed_over = optimize is Optimize.BALANCED and kernel is not fastest
    return optimize is Optimize.FLASH or passed_over


def working_bytes(kernel: type[Kernel], attrs: Any, q: NodeTypes[Any]) -> int:
    """Return what of the arena a node occupies if its first input dies there: input and output,
    overlapping as far as the kernel allows, and scratch, in bytes.
    """
    source: int = next(operands(q.inputs)).size_bytes
    result = sum(t.size_bytes for t in q.outputs)
    lead = kernel.overlap_bytes(attrs, q) if len(q.outputs) == 1 else None
    together = source + result
    if lead is not None:
        together = min(together, max(result, source + lead))
    return together + kernel.scratch_bytes(attrs, q)


def extra_bytes(kernel: type[Kernel], attrs: Any, q: NodeTypes[Any]) -> int:
    """Return the bytes of RAM and flash that a kernel takes beyond the node's tensors."""
    return kernel.scratch_bytes(attrs, q) + kernel.flash_bytes(attrs, q)


def allowance_bytes(q: NodeTypes[Any]) -> int:
    """Return `SHARE` of the bytes of a node's inputs, weights and outputs, rounded down."""
    return int(SHARE * sum(t.size_bytes for t in (*operands(q.inputs), *q.outputs)))


def longest_prefix(count: int, fits: Callable[[int], bool]) -> int:
    """Return a `k` in 0..count with `fits(k)` (`fits(0)` holds), found by halving.

    It is the largest one where `fits` never holds again after it has failed once. O(log count).
    """
    if count == 0 or fits(count):
        return count
    good, bad = 0, count
    while bad - good > 1:
        middle = (good + bad) // 2
        good, bad = (middle, bad) if fits(middle) else (good, middle)
    return good
