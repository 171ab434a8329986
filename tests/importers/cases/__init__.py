"""Single-operator TFLite files, one module per family; `CASES` is a scan of all of them.

A module defines functions decorated with `@cases("CODE", ...)` that yield `Case`s.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterator
from functools import cache

from .base import Case, Cases


@cache
def all_cases() -> dict[str, tuple[Case, ...]]:
    """Return the cases of every operator, by its builtin name. Labels are unique per operator."""
    found: dict[str, list[Case]] = {}
    for module in pkgutil.iter_modules(__path__, f"{__name__}."):
        for value in vars(importlib.import_module(module.name)).values():
            for code, make in getattr(value, "codes", ()):
                found.setdefault(code, []).extend(make(code))
    for code, group in found.items():
        labels = [case.label for case in group]
        assert len(labels) == len(set(labels)), (code, labels)
    return {code: tuple(group) for code, group in sorted(found.items())}


__all__ = ["Callable", "Case", "Cases", "Iterator", "all_cases"]
