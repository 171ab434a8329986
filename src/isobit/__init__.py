"""isobit: same bits, from training to chip. Importing it loads neither torch nor the operators."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from isobit import data, nn
    from isobit.api.bundle import Bundle
    from isobit.api.calibrate import calibrate
    from isobit.api.from_torch import from_torch
    from isobit.api.importing import import_file
    from isobit.api.load import load
    from isobit.api.model import Model
    from isobit.core.errors import IsobitError
    from isobit.run.estimate import Estimate
    from isobit.train.fit import History, fit

_LAZY = {
    "Model": "isobit.api.model",
    "Bundle": "isobit.api.bundle",
    "Estimate": "isobit.run.estimate",
    "calibrate": "isobit.api.calibrate",
    "from_torch": "isobit.api.from_torch",
    "import_file": "isobit.api.importing",
    "IsobitError": "isobit.core.errors",
    "load": "isobit.api.load",
    "fit": "isobit.train.fit",
    "History": "isobit.train.fit",
}
_MODULES = ("nn", "data")
__all__ = [
    "Bundle",
    "Estimate",
    "History",
    "IsobitError",
    "Model",
    "__version__",
    "calibrate",
    "data",
    "fit",
    "from_torch",
    "import_file",
    "load",
    "nn",
]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(importlib.import_module(_LAZY[name]), name)
    if name in _MODULES:
        return importlib.import_module(f"isobit.{name}")
    raise AttributeError(f"isobit has no {name!r}; it has {', '.join(__all__)}")
