"""What an emulated run gives back, whichever emulator ran it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """What one call of a marked function, or of the entry's own code, cost.

    `cycles` is modelled; None where the core has no cycle model.
    """

    symbol: str
    instructions: int
    cycles: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Execution:
    """One finished run of a firmware.

    `files`: every file the firmware opened for writing, with its content. Per call of the entry
    function, in order: `instructions` and modelled `cycles` from its entry to its return, and
    `spans`: first the entry's own code, then each call of a mark in the order of execution. They
    add up to `instructions`: what a mark calls counts as the mark's, unless it is a mark itself.
    Empty where nothing was counted; `cycles` also where the core has no cycle model.
    `stack_bytes`: the deepest any call reached below the stack pointer that it was entered with;
    None if not measured.
    """

    files: Mapping[str, bytes]
    exit_code: int
    emulator: str
    instructions: tuple[int, ...] = ()
    cycles: tuple[int, ...] = ()
    spans: tuple[tuple[Span, ...], ...] = ()
    stack_bytes: int | None = None
