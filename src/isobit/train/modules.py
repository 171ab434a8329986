"""`isobit.nn`: torch's layers, remembering where they were written.

Every `Layer` of an operator becomes one class, a subclass of torch's own with the same arguments,
defaults and `state_dict`. The location is what errors quote.
"""

from __future__ import annotations

import functools
import sys
from pathlib import Path
from typing import Any

import torch

from isobit.ir.graph import Location
from isobit.ops.registry import load_ops

_ISOBIT = Path(__file__).resolve().parent.parent
_INTERNAL = (
    Path(torch.__file__).resolve().parent,
    *(_ISOBIT / name for name in ("nn", "ops", "train")),
)


def is_users(path: Path) -> bool:
    """Whether a source file may have written a layer: not torch's, nor what runs layers here."""
    return not any(path.is_relative_to(folder) for folder in _INTERNAL)


def caller_location() -> Location:
    """Return the innermost frame that `is_users`."""
    frame = sys._getframe(1)
    while frame is not None:
        path = Path(frame.f_code.co_filename)
        if is_users(path):
            return Location(path.name, frame.f_lineno)
        if frame.f_back is None:
            break
        frame = frame.f_back
    return Location()


def location_of(module: torch.nn.Module) -> Location:
    """Return where a layer was created; empty for plain torch layers."""
    found = module.__dict__.get("isobit_location", Location())
    assert isinstance(found, Location)
    return found


@functools.cache
def layer_classes() -> dict[str, type[torch.nn.Module]]:
    """Every public layer by name: the operators' own, and torch's containers."""
    classes = {
        name: _located(name, layer.module_class())
        for name, layer in load_ops().layers.items()
        if layer.public_name  # the others are functions only
    }
    for name in ("Sequential", "Module", "ModuleList", "ModuleDict"):
        classes[name] = getattr(torch.nn, name)
    return classes


def _located(name: str, base: type[torch.nn.Module]) -> type[torch.nn.Module]:
    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:  # noqa: N807  # a method built here
        base.__init__(self, *args, **kwargs)
        self.__dict__["isobit_location"] = caller_location()

    functools.update_wrapper(__init__, base.__init__)
    body = {"__init__": __init__, "__module__": "isobit.nn", "__doc__": base.__doc__}
    return type(name, (base,), body)
