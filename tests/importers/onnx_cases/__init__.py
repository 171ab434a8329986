"""Single-operator ONNX models, by the name of the rule that imports them; found by a scan."""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache

from .base import Case


@cache
def all_cases() -> dict[str, tuple[Case, ...]]:
    found: dict[str, list[Case]] = {}
    for module in pkgutil.iter_modules(__path__, f"{__name__}."):
        for value in vars(importlib.import_module(module.name)).values():
            for code in getattr(value, "codes", ()):
                found.setdefault(code, []).extend(value(code))
    return {code: tuple(cases) for code, cases in sorted(found.items())}
